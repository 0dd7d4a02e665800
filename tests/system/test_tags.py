from __future__ import annotations

import asyncio
import json
import random
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.line import BASE, UNITS, Event, Line, eventually, journal_events, of_type, standing_line
from tests.uplink.brokers import Listener, until

pytestmark = pytest.mark.slow

DEVICES = {"press-07": "press_plc", "packer-02": "packer_plc"}


def configured(line: Line) -> dict[str, str]:
    """Full topic of every configured tag -> its unit."""
    devices = yaml.safe_load(line.config.read_text())["devices"]
    return {f"{BASE}/{UNITS[unit]}/tag/{tag}": unit for unit, device in DEVICES.items() for tag in devices[device]["tags"]}


async def test_every_tag_is_told_after_start_and_after_each_reconnection(tmp_path: Path) -> None:
    async with standing_line(tmp_path, "--no-plan") as line:
        topics = configured(line)
        assert len(topics) == 12
        with closing(Listener(line.broker_port, f"{BASE}/+/+/+/tag/+")) as listener:
            # After the start; the listener joins late and gets what is retained.
            await until(lambda: set(last(listener)) == set(topics), 20)
            assert all(value["quality"] == "good" and value["value"] is not None for value in last(listener).values())
            assert all(set(value) == {"timestamp_ms", "value", "quality"} for value in last(listener).values())
            # After a lost device: null while it is away, good again when it is back; the other device's tags are not touched.
            for unit, device in DEVICES.items():
                own = {topic for topic, its in topics.items() if its == unit}
                told = len(listener.messages)
                await line.post(f"/servers/{device}", {"do": "stop"})
                await until(lambda own=own: all(is_null(last(listener)[topic]) for topic in own), 20)
                await line.post(f"/servers/{device}", {"do": "start"})
                await until(lambda own=own: all(last(listener)[topic]["quality"] == "good" for topic in own), 20)
                assert {message.topic for message in listener.messages[told:]} == own
        # After a lost broker, which forgot everything.
        await line.kill_broker()
        await line.start_broker()
        with closing(Listener(line.broker_port, f"{BASE}/+/+/+/tag/+")) as listener:
            await until(lambda: set(last(listener)) == set(topics), 60)
            assert all(value["quality"] == "good" for value in last(listener).values())
        # After a restart of the gateway itself, killed.
        await line.kill_daemon()
        with closing(Listener(line.broker_port, f"{BASE}/+/+/+/tag/+")) as listener:
            await until(lambda: set(last(listener)) == set(topics), 10)
            told = len(listener.messages)
            await line.start_daemon()
            await until(lambda: {message.topic for message in listener.messages[told:]} == set(topics), 20)


def last(listener: Listener) -> dict[str, Any]:
    return {message.topic: json.loads(message.payload) for message in list(listener.messages)}


def is_null(value: dict[str, Any]) -> bool:
    return value["value"] is None and value["quality"] == "bad"


async def test_the_first_counter_value_told_is_the_baseline_even_when_killed_right_after(tmp_path: Path) -> None:
    """Whoever saw `good` may rely on it: every later piece is counted from there, whatever happens to the process."""
    moments = random.Random(20_261_125)
    counters = {unit: f"{BASE}/{UNITS[unit]}/tag/parts" for unit in UNITS}
    async with standing_line(tmp_path, "--no-plan") as line:
        await eventually(line.counters_are_read, 30)
        for unit in UNITS:
            await line.post(f"/machines/{unit}", {"do": "release"})
        for _ in range(4):
            assert await line.stop_daemon() == 0
            shutil.rmtree(line.state_dir)
            with closing(Listener(line.broker_port, *counters.values())) as listener:
                await listener.ready()
                await until(lambda: set(last(listener)) == set(counters.values()), 10)
                stale = len(listener.messages)
                await line.start_daemon()
                await until(lambda stale=stale: set(first_good(listener, stale)) == set(counters.values()), 30)
                # At once, or within the next commits.
                await asyncio.sleep(moments.choice([0.0, 0.01, 0.05]))
                await line.kill_daemon()
                baseline = first_good(listener, stale)
            await line.start_daemon()
            await line.ready()
            await eventually(lambda: counted_some(line), 30)
            await line.switch_off()
            await eventually(lambda baseline=baseline: equal_since(line, baseline, counters), 20)
            for unit in UNITS:
                await line.post(f"/machines/{unit}", {"do": "release"})


def first_good(listener: Listener, after: int) -> dict[str, int]:
    """Topic -> the first good value told after the first `after` messages."""
    found: dict[str, int] = {}
    for message in list(listener.messages)[after:]:
        value = json.loads(message.payload)
        if value["quality"] == "good":
            found.setdefault(message.topic, value["value"])
    return found


def counted(events: list[Event], unit: str) -> int:
    return sum(event["data"]["produced"] for event in of_type(events, "quantity.counted", unit))


async def counted_some(line: Line) -> bool:
    """A few pieces of each machine are in the journal."""
    line.alive()
    events = journal_events(line.state_dir)
    return all(counted(events, unit) >= 10 for unit in UNITS)


async def equal_since(line: Line, baseline: dict[str, int], counters: dict[str, str]) -> bool:
    """The journal has exactly what the PLC's counters moved since the first value that was told."""
    machines = (await line.get("/state"))["machines"]
    at_plc = {"press-07": machines["press-07"]["counters"]["total"], "packer-02": machines["packer-02"]["counters"]["parts"]}
    events = journal_events(line.state_dir)
    return all(counted(events, unit) == at_plc[unit] - baseline[topic] for unit, topic in counters.items())
