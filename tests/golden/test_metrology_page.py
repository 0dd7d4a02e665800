"""docs/metrology.md: its tables are printed from the code, its numbers from the recording beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.domain import drift
from gateway.domain.kpi import KPIS, LOSSES, TIMES
from tests.golden.test_golden import HERE, lines_of, replay, windows_of

PAGE = Path(__file__).parents[2] / "docs" / "metrology.md"
SEPARATOR = "|---"


def table(*columns: str, rows: list[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (list(columns), ["---"] * len(columns), *rows)])


def number(value: Any, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:,.4f}".rstrip("0").rstrip(".") + unit


def seconds(value: Any) -> str:
    return number(value, " s")


_LORDEN = "observations between two false alarms, at least (Lorden)"
_EITHER_WAY = "what the chart of a measured characteristic is tuned for, either way"


def tables(line: dict[str, Any]) -> list[str]:
    """The page's tables, with the example's numbers."""
    units = {"1": "", "s": " s", "1/h": " /h"}
    return [
        table(
            "field", "ISO 22400-2", "NF E60-182", "what it is", "in the example",
            rows=[[f"`{t.key}`", t.iso or "", t.nf or "", t.meaning, seconds(line[t.key])] for t in TIMES],
        ),
        table(
            "field", "name", "formula", "source", "in the example",
            rows=[[f"`{k.key}`", k.name, k.formula, k.source, number(line[k.key], units[k.unit])] for k in KPIS],
        ),
        table(
            "loss", "of", "what it is", "in the example",
            rows=[[f"`{name}`", kind, meaning, seconds(line["losses"][name])] for name, kind, meaning in LOSSES],
        ),
        table(
            "parameter", "value", "what it sets",
            rows=[
                ["alarm threshold", f"ln({round(2.718281828459045**drift.ALARM):,})", _LORDEN],
                ["warm-up", f"{drift.WARM_UP} cycles or values", "from which the usual level and its spread are learned, per product"],
                ["", f"{drift.WARM_UP_EVENTS} micro-stops", "from which their usual rate is learned"],
                ["", f"{drift.WARM_UP_PIECES:,} pieces", "from which the usual share of rejects is learned"],
                ["slow-down", f"{drift.SLOW_DOWN:.0%} of the cycle time", "what the chart of the cycle time is tuned for"],
                ["shift", f"{drift.MEAN_SHIFT} standard deviations", _EITHER_WAY],
                ["rate", f"{drift.MORE_OFTEN:g} times as often", "what the charts of micro-stops and rejects are tuned for"],
                ["least", f"{drift.FEWEST} observations", "an alarm needs at least so many"],
                ["new usual", f"{drift.RELEARN:,} observations", "a shift that lasts so long is learned as the new level"],
            ],
        ),
    ]  # fmt: skip


def test_the_page_prints_the_tables_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(replay(HERE / "metrology", capsys))
    (shift,) = [line for line in windows_of(lines) if line["window"]["kind"] == "shift"]
    page = PAGE.read_text(encoding="utf-8")
    for one in tables(shift):
        assert one in page, f"put this into {PAGE.name}:\n\n{one}"
