from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.system.line import UNITS, Event, Line, assert_equal_everywhere, eventually, journal_events, of_type, whole_line

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
SUMMER_ENDS = datetime(2026, 10, 25, 0, 59, 40, tzinfo=UTC)
"""In Paris 02:59:40, and an hour later 02:59:40 again."""


def faketime(offset: Path | float, *, all_clocks: bool = False) -> dict[str, str]:
    """An environment in which the wall clock is off by so many seconds, or by what the file says, looked at once a second; steady time is
    true, or off as much (`all_clocks`), as if that time had gone by.

    Looked at with every call, as libfaketime can, it is the true time once in a long while: two threads parse the file at once.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.fail("libfaketime is needed: apt-get install faketime")
    environment = {"LD_PRELOAD": str(found[0])}
    if isinstance(offset, Path):
        environment |= {"FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_CACHE_DURATION": "1"}
    else:
        environment["FAKETIME"] = f"{offset:+.0f}"
    return environment if all_clocks else environment | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.mark.parametrize(
    "step_s", [pytest.param(-HOUR_S, id="back", marks=pytest.mark.slow), pytest.param(HOUR_S, id="forward", marks=pytest.mark.system)]
)
async def test_the_clock_steps_by_an_hour(step_s: float, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    set_offset(offset, 0)
    async with whole_line(tmp_path, environment=faketime(offset)) as line:
        await line.made("press-07", 20)
        set_offset(offset, step_s)
        await eventually(lambda: stepped(line, 1), 60)
        made = (await line.get("/state"))["machines"]
        for unit in UNITS:
            await line.made(unit, made[unit]["made"]["produced"] + 20)
        await assert_goes_on(line)
        ledger = await assert_equal_everywhere(line, at_least=40)
    steps = [event["data"] for event in of_type(ledger, "clock.stepped")]
    assert [round(step["step_s"], -1) for step in steps] == [step_s]
    assert all("/_gateway/" in event["source"] for event in of_type(ledger, "clock.stepped"))
    assert_no_impossible_figure(ledger)
    for unit in UNITS:
        times = [datetime.fromisoformat(event["time"]) for event in of_type(ledger, "quantity.counted", unit)]
        jumps = [(later - sooner).total_seconds() for sooner, later in pairwise(times)]
        assert [round(jump / HOUR_S) for jump in jumps if abs(jump) > 0.5 * HOUR_S] == [step_s / HOUR_S]
        assert min(jump for jump in jumps if abs(jump) < 0.5 * HOUR_S) >= 0, "but for the step, time rises"
        assert len([jump for jump in jumps if jump == 0]) <= len(jumps) / 4, "it does not stand still"


@pytest.mark.system
async def test_six_hours_asleep_are_unknown(tmp_path: Path) -> None:
    """The process is stopped, and when it goes on all clocks say that it is six hours later."""
    offset = tmp_path / "offset"
    set_offset(offset, 0)
    async with whole_line(tmp_path, environment=faketime(offset, all_clocks=True)) as line:
        await line.made("press-07", 20)
        daemon = line.alive()
        daemon.send_signal(signal.SIGSTOP)
        set_offset(offset, 6 * HOUR_S)
        await asyncio.sleep(1.0)
        daemon.send_signal(signal.SIGCONT)
        made = (await line.get("/state"))["machines"]
        for unit in UNITS:
            await line.made(unit, made[unit]["made"]["produced"] + 20)
        await assert_goes_on(line)
        ledger = await assert_equal_everywhere(line, at_least=40)
    assert of_type(ledger, "clock.stepped") == [], "the clock was right all the time"
    assert_no_impossible_figure(ledger)
    for unit in UNITS:
        assert "unknown" in [event["data"]["state"] for event in of_type(ledger, "state.changed", unit)]
        closed = [event["data"] for event in of_type(ledger, "window.closed", unit) if event["data"]["window"]["kind"] == "hour"]
        whole = [window for window in closed if window["unknown_s"] > HOUR_S - 1]
        assert len(whole) >= 4, "the hours in between"
        assert all(window["run_s"] <= 300 for window in closed), "nobody saw it run"


@pytest.mark.system
async def test_a_machine_without_a_clock_battery_starts_in_1970(tmp_path: Path) -> None:
    """Twice: with an empty journal, and with one that knows better. Each time the network's time comes late."""
    offset = tmp_path / "offset"
    boot_s = datetime(1970, 1, 1, 1, tzinfo=UTC).timestamp() - datetime.now(UTC).timestamp()
    set_offset(offset, boot_s)
    async with whole_line(tmp_path, environment=faketime(offset)) as line:
        await line.made("press-07", 20)
        assert await alerts(line) >= {"clock.unset"}
        set_offset(offset, 0)
        await eventually(lambda: stepped(line, 1), 60)
        await eventually(lambda: cleared(line, "clock.unset"), 60)
        await line.made("press-07", 60)
        await line.kill_daemon()
        set_offset(offset, boot_s)
        await line.start_daemon()
        await line.ready()
        await eventually(lambda: raised(line, "clock.unset", 2), 60)
        set_offset(offset, 0)
        await eventually(lambda: stepped(line, 2), 60)
        made = (await line.get("/state"))["machines"]["press-07"]["made"]["produced"]
        await line.made("press-07", made + 20)
        ledger = await assert_equal_everywhere(line, at_least=60)
    assert_no_impossible_figure(ledger)
    assert len(ledger) < 5000, "the hours of half a century are not told"
    steps = of_type(ledger, "clock.stepped")
    assert [event["data"]["step_s"] > 50 * 365 * DAY_S for event in steps] == [True, False], "the second time it went on from what it knew"
    known = [event for event in of_type(ledger, "quantity.counted") if event["sequence"] > steps[0]["sequence"]]
    today = datetime.now(UTC)
    assert all(abs((datetime.fromisoformat(event["time"]) - today).total_seconds()) < HOUR_S for event in known)


@pytest.mark.system
async def test_summer_time_ends_without_a_step(tmp_path: Path) -> None:
    """What it does to shifts is in tests/domain/test_dst.py."""
    async with whole_line(tmp_path, environment=faketime((SUMMER_ENDS - datetime.now(UTC)).total_seconds())) as line:
        await eventually(lambda: hours_closed(line, 1), 120)
        made = (await line.get("/state"))["machines"]["press-07"]["made"]["produced"]
        await line.made("press-07", made + 10)
        await assert_goes_on(line)
        ledger = await assert_equal_everywhere(line, at_least=20)
    assert of_type(ledger, "clock.stepped") == []
    assert_no_impossible_figure(ledger)
    hours = {event["data"]["window"]["name"] for event in of_type(ledger, "window.closed", "press-07")}
    assert f"{SUMMER_ENDS:%Y-%m-%dT00:00:00Z}" in hours


def set_offset(file: Path, seconds: float) -> None:
    part = file.with_suffix(".part")
    part.write_text(f"{seconds:+.0f}\n")
    part.replace(file)  # the daemon finds it whole or not at all


async def stepped(line: Line, times: int) -> bool:
    line.alive()
    return len(of_type(journal_events(line.state_dir), "clock.stepped")) >= times


async def alerts(line: Line) -> set[str]:
    _, status = await line.ask_page("/api/status")
    return {alert["alert"] for alert in status["alerts"]}


async def cleared(line: Line, alert: str) -> bool:
    return alert not in await alerts(line)


async def raised(line: Line, alert: str, times: int) -> bool:
    line.alive()
    return sum(event["data"]["alert"] == alert for event in of_type(journal_events(line.state_dir), "alert.raised")) >= times


async def hours_closed(line: Line, times: int) -> bool:
    line.alive()
    closed = of_type(journal_events(line.state_dir), "window.closed", "press-07")
    return sum(event["data"]["window"]["kind"] == "hour" for event in closed) >= times


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

    await eventually(counted, 60)
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
            # Late pieces belong to the hour in which they were found, which says that it is no measure.
            bound = float("inf") if window["late"] and window["degraded"] else 1.2
            assert window[ratio] is None or 0 <= window[ratio] <= bound, (ratio, window)
        assert window["planned_s"] <= window["opening_s"] + 1e-5
    for event in of_type(ledger, "stop.ended"):
        assert event["data"]["from"] <= event["data"]["to"], event


def negative_figures(value: Any, name: str = "") -> list[str]:
    """Paths of numbers below 0; the residual loss and its cost are differences, negative where the pace beat the ideal."""
    if name.endswith((".residual", ".loss_cost")):
        return []
    if isinstance(value, dict):
        return [path for key, one in value.items() for path in negative_figures(one, f"{name}.{key}")]
    if isinstance(value, list):
        return [path for index, one in enumerate(value) for path in negative_figures(one, f"{name}[{index}]")]
    return [name] if isinstance(value, int | float) and not isinstance(value, bool) and value < 0 else []
