from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.line import UNITS, Event, Line, assert_equal_everywhere, eventually, journal_events, of_type, whole_line

pytestmark = pytest.mark.slow

HOUR_S = 3600.0


def faketime(offset_file: Path) -> dict[str, str]:
    """An environment in which the wall clock is off by what the file says, from one call to the next; monotonic time is true."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.fail("libfaketime is needed: apt-get install faketime")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset_file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


async def test_the_clock_steps_forward_by_an_hour(tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    set_offset(offset, 0)
    async with whole_line(tmp_path, environment=faketime(offset)) as line:
        await line.made("press-07", 20)
        set_offset(offset, HOUR_S)
        await eventually(lambda: stepped(line, 1), 20)
        made = (await line.get("/state"))["machines"]
        for unit in UNITS:
            await line.made(unit, made[unit]["made"]["produced"] + 20)
        await assert_goes_on(line)
        ledger = await assert_equal_everywhere(line, at_least=40)
    steps = [event["data"] for event in of_type(ledger, "clock.stepped")]
    assert [round(step["step_s"], -1) for step in steps] == [HOUR_S]
    assert all(abs(abs(step["step_s"]) - HOUR_S) < 2 for step in steps)
    assert all("/_gateway/" in event["source"] for event in of_type(ledger, "clock.stepped"))
    assert_no_impossible_figure(ledger)


def set_offset(file: Path, seconds: float) -> None:
    part = file.with_suffix(".part")
    part.write_text(f"{seconds:+.0f}\n")
    part.replace(file)  # the daemon reads it at every look at the clock: whole or not at all


async def stepped(line: Line, times: int) -> bool:
    line.alive()
    return len(of_type(journal_events(line.state_dir), "clock.stepped")) >= times


async def assert_goes_on(line: Line) -> None:
    """Pieces made after the step are counted at once, and the page has no impossible figure."""
    made = (await line.get("/state"))["machines"]

    async def counted() -> bool:
        line.alive()
        events = journal_events(line.state_dir)
        return all(
            sum(event["data"]["produced"] for event in of_type(events, "quantity.counted", unit)) >= made[unit]["made"]["produced"] - 2
            for unit in UNITS
        )

    await eventually(counted, 20)
    for unit in UNITS:
        _, machine = await line.ask_page(f"/api/machines/{unit}")
        assert negative_figures(machine) == []


def assert_no_impossible_figure(ledger: list[Event]) -> None:
    for event in ledger:
        if event["type"] != "lineside.clock.stepped.v1":
            corrected = event["type"] == "lineside.quantity.counted.v1" or event["type"] == "lineside.job.progress.v1"
            found = [name for name in negative_figures(event["data"]) if not corrected or name.rsplit(".", 1)[-1] not in ("good", "scrap")]
            assert found == [], event
    for event in of_type(ledger, "window.closed"):
        window = event["data"]
        for ratio in ("availability", "quality_ratio", "trs", "trg", "tre", "oee"):
            assert window[ratio] is None or 0 <= window[ratio] <= 1.2, (ratio, window)
        assert window["planned_s"] <= window["opening_s"] + 1e-5
    for event in of_type(ledger, "stop.ended"):
        assert event["data"]["from"] <= event["data"]["to"], event


def negative_figures(value: Any, name: str = "") -> list[str]:
    """Paths of numbers below 0; the residual loss is a difference, negative where the pace beat the ideal."""
    if name.endswith(".residual"):
        return []
    if isinstance(value, dict):
        return [path for key, one in value.items() for path in negative_figures(one, f"{name}.{key}")]
    if isinstance(value, list):
        return [path for index, one in enumerate(value) for path in negative_figures(one, f"{name}[{index}]")]
    return [name] if isinstance(value, int | float) and not isinstance(value, bool) and value < 0 else []
