"""`lineside record` from the running daemon: its replay says what the daemon said."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.system.line import UNITS, Event, Line, journal_events, of_type, whole_line

pytestmark = pytest.mark.slow

SECONDS = 8
KINDS = ("state.changed", "stop.ended", "quantity.counted")
"""What comes from readings alone: the commands of the orders are not part of a recording."""


async def test_the_replay_of_a_recording_says_what_the_daemon_said(tmp_path: Path) -> None:
    recording = tmp_path / "fault.csv"
    async with whole_line(tmp_path) as line:
        await line.made("press-07", 5)
        said = await run(line, "record", line.page, "--for", f"{SECONDS}s", str(recording))
        assert f"readings in {recording}" in said[1]
        assert (await line.ask_page("/metrics"))[1].count("lineside_recording_gaps_total 0.0") == 1
        replayed, _ = await run(line, "replay", str(line.config), str(recording))
        assert await line.stop_daemon() == 0, line.log("gateway")
    begin, end = span(recording)
    again = [json.loads(row) for row in replayed.splitlines()]
    for unit in UNITS:
        live = essence(journal_events(line.state_dir), unit, begin, end)
        assert len([event for event in live if "produced" in event[1]]) >= 3, "too few pieces for this test to mean anything"
        assert essence(again, unit, begin, end) == live


async def run(line: Line, *words: str) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(*line.command(*words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(SECONDS + 60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode(), err.decode()


def span(recording: Path) -> tuple[datetime, datetime]:
    """From where every device has said what holds, to where none has ended yet."""
    times: dict[str, list[datetime]] = {}
    for row in recording.read_text().splitlines()[1:]:
        at, device, *_ = row.split(",")
        times.setdefault(device, []).append(datetime.fromisoformat(at))
    assert len(times) == 2
    return max(min(each) for each in times.values()), min(max(each) for each in times.values())


def essence(events: list[Event], unit: str, begin: datetime, end: datetime) -> list[tuple[str, dict[str, Any]]]:
    """What the unit told in between; a stop that had begun before is another one in the recording, which also has no orders, and no lots
    of theirs."""
    return [
        (event["time"], {name: value for name, value in event["data"].items() if name != "product_lot_id"})
        for kind in KINDS
        for event in of_type(events, kind, unit)
        if begin < datetime.fromisoformat(event["time"]) <= end and begin < datetime.fromisoformat(event["data"].get("from", event["time"]))
    ]
