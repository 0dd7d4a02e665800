from __future__ import annotations

import json
import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.demo_books import journal_pieces, reconcile
from gateway.outbox.statedir import DATABASE


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A journal of the real schema with 7 pieces of the press, 2 of them scrap (one declared late), and one alert."""
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        for script in sorted(files("gateway.outbox").joinpath("schema").iterdir(), key=lambda f: f.name):
            if script.name.endswith(".sql"):
                connection.executescript(script.read_text("utf-8"))
        counted = [(4, 3, 1), (3, 3, 0), (0, -1, 1)]
        rows: list[tuple[str, dict[str, Any]]] = [
            ("quantity.counted", {"produced": p, "good": g, "scrap": s, "rework": 0}) for p, g, s in counted
        ]
        for sequence, (kind, data) in enumerate([*rows, ("alert.raised", {})], start=1):
            connection.execute(
                "INSERT INTO journal (epoch, sequence, id, work_unit, type, at, recorded_at, total_bytes, body)"
                " VALUES ('e', ?, ?, ?, ?, 0, 0, 0, ?)",
                (sequence, f"gw:e:{sequence}", "press-07", kind, json.dumps({"data": data}).encode()),
            )
    connection.close()
    return tmp_path


def plant(produced: int = 7, good: int = 5, scrap: int = 2, *, mes_good: int = 5, erp_good: int = 3, events: int = 4) -> dict[str, Any]:
    consumer = {"conflicts": [], "invalid": [], "out_of_order": [], "events": events}
    made = {"produced": 7, "good": mes_good, "scrap": 2}
    # In the ERP 4 pieces came by the totals of an order, 3 without an order.
    order = {"work_unit": "press-07", "produced": 4, "good": erp_good, "scrap": 1, "counted": {"produced": 4, "good": 3, "scrap": 1}}
    return {
        "machines": {"press-07": {"made": {"produced": produced, "good": good, "scrap": scrap}}},
        "mes": {**consumer, "made": {"press-07": made}},
        "erp": {**consumer, "made": {"press-07": {"produced": 7, "good": 5, "scrap": 2}}, "orders": {"OF-1": order}, "violations": []},
    }


def test_the_journal_is_summed_from_its_rows(state_dir: Path) -> None:
    assert journal_pieces(state_dir / DATABASE) == ({"press-07": (7, 5, 2)}, 4)


def test_equal_everywhere_is_no_difference(state_dir: Path) -> None:
    result = reconcile(plant(), state_dir)
    assert result.differences() == []
    table = "\n".join(result.table())
    assert all(place in table for place in ("PLC", "journal", "MES", "ERP", "press-07"))


@pytest.mark.parametrize(
    ("account", "told"),
    [
        (plant(produced=8), "press-07: 8 produced at the PLC, 7 in the journal"),
        (plant(mes_good=6), "press-07: 5 good at the PLC, 6 in the MES"),
        (plant(erp_good=2), "press-07: 5 good at the PLC, 4 in the ERP"),
        (plant(events=3), "4 ledger events in the journal, 3 at the MES"),
    ],
)
def test_whatever_differs_is_named(account: dict[str, Any], told: str, state_dir: Path) -> None:
    assert told in reconcile(account, state_dir).differences()


def test_a_complaint_is_a_difference_though_the_counts_are_equal(state_dir: Path) -> None:
    account = plant()
    account["erp"]["violations"] = ["batch 'x' is not in sequence order"]
    account["mes"]["conflicts"] = ["gw:e:2"]
    differences = reconcile(account, state_dir).differences()
    assert "the ERP complains: batch 'x' is not in sequence order" in differences
    assert "the MES got event gw:e:2 twice with other content" in differences


def test_a_missing_journal_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.Error):
        reconcile(plant(), tmp_path)
