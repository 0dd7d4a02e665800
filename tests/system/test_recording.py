"""A recording played by the `replay` driver through the daemon to a real broker: what `lineside replay` says of it, live."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from simulators.loopback import HOST, free_port
from tests.system.line import Event, Line, eventually, journal_events
from tests.uplink.brokers import Listener

pytestmark = pytest.mark.slow

CASE = Path(__file__).parent.parent / "golden" / "umh-1601323170"
BASE = "lineside/v1/acme/lyon"
OF_THE_END = {"window.closed"}
"""What a replay says beyond the live events only because its input has an end."""


async def test_a_real_machines_night_gives_its_published_stops_on_mqtt(tmp_path: Path) -> None:
    printed = await replayed()
    async with aiohttp.ClientSession() as http:
        line = Line(tmp_path, http)
        try:
            await line.start_broker()
            write_config(line)
            with closing(Listener(line.broker_port, f"{BASE}/#")) as listener:
                await listener.ready()
                await line.start_daemon()
                stops = [event for event in printed if event["type"] == "lineside.stop.ended.v1"]
                await eventually(lambda: heard(listener, stops[-1]["data"]), 60)
                assert await line.stop_daemon() == 0, line.log("gateway")
                live = by_sequence(listener)
        finally:
            await line.end()
    assert_published_stops(live)
    assert journal_events(line.state_dir)[: len(live)] == live, "the broker has what the journal has"
    assert essence(live) == essence(printed)[: len(essence(live))]
    left_out = [event["type"] for event in essence_events(printed)[len(essence(live)) :]]
    assert {kind.removeprefix("lineside.").removesuffix(".v1") for kind in left_out} <= OF_THE_END


def write_config(line: Line) -> None:
    tree = yaml.safe_load((CASE / "config.yaml").read_text())
    tree["gateway"]["listen"] = f"{HOST}:{free_port()}"
    tree["devices"]["machine"]["file"] = str(CASE / "recording.csv")
    tree["uplinks"] = {"plant": {"type": "mqtt", "urls": [f"mqtt://{HOST}:{line.broker_port}"], "root": "lineside/v1"}}
    line.config.write_text(yaml.safe_dump(tree))


async def replayed() -> list[Event]:
    """What `lineside replay` prints of the case, without its KPI lines."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "replay", str(CASE / "config.yaml"), str(CASE / "recording.csv"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return [event for event in map(json.loads, output.splitlines()) if event["type"] != "kpi"]


async def heard(listener: Listener, stop: dict[str, Any]) -> bool:
    return any(event["data"].get("stop_id") == stop["stop_id"] and event["data"] == stop for event in by_sequence(listener))


def by_sequence(listener: Listener) -> list[Event]:
    """Ledger events, each id once."""
    events = {}
    for message in list(listener.messages):
        if "/event/" in message.topic:
            event = json.loads(message.payload)
            events[event["id"]] = event
    return sorted(events.values(), key=lambda event: int(event["sequence"]))


def essence_events(events: list[Event]) -> list[Event]:
    """Events of the machine; those of the gateway itself (its own links) have no place in a recording."""
    return [event for event in events if "/_gateway/" not in event["source"]]


def essence(events: list[Event]) -> list[tuple[str, str, Any]]:
    return [(event["type"], event["time"], event["data"]) for event in essence_events(events)]


def assert_published_stops(events: list[Event]) -> None:
    latest: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["type"] == "lineside.stop.ended.v1":
            latest[event["data"]["stop_id"]] = event["data"]
    for kind, count, seconds in (("micro_stop", 16, 2396.106), ("stop", 3, 8180.241)):
        durations = [stop["duration_s"] for stop in latest.values() if stop["class"] == kind]
        assert len(durations) == count, kind
        assert sum(durations) == pytest.approx(seconds, abs=0.001), kind
