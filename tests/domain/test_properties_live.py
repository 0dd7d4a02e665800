"""Live = replay: what the daemon's line says while readings come in is what `lineside replay` prints of them, event by event."""

from __future__ import annotations

import asyncio
import atexit
import csv
import io
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from hypothesis import strategies as st

from drivers.base import Quality, Reading
from drivers.recording import Recording, write_value
from gateway.app.line import LineJournal, UnitCommands
from gateway.app.parts import make_line
from gateway.cli.replay import Given, Replay
from gateway.config import Config, load
from gateway.dispatch.intake import Intake
from gateway.domain.cloud_event import cloud_event, encode_line
from gateway.domain.events import Event
from gateway.domain.inbound import Inbound
from gateway.domain.job_order import Answer, Fact, FactVerb, JobCommand, JobOrder, Verb
from gateway.domain.tracker import Tracker
from gateway.metrics import Metrics
from gateway.outbox.recorder import Recorder
from tests.domain.stories import Step, Story, property_, steps

START = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
END_S = 400
"""Quiet seconds after the story, with a last reading: so long that every standstill is decided, since live input has no end."""
YAML = """
gateway: {{id: golden, enterprise: acme, site: lyon, time_zone: Europe/Paris, language: en, listen: "127.0.0.1:8080"}}
devices:
  plc:
    driver: modbus
    url: tcp://192.0.2.20:502
    tags:
      state: {{input: 7, type: uint16}}
      parts: {{holding: 100, type: uint16}}
      reject: {{holding: 102, type: uint32}}
      rework: {{holding: 104, type: uint32}}
      recipe: {{holding: 106, type: uint16}}
products:
  A: {{recipe: 1, ideal_cycle_time: {{press: 8s}}}}
  B: {{recipe: 2, ideal_cycle_time: {{press: 15s}}, pieces_per_cycle: 2}}
reasons:
  jam: {{class: own}}
  no_parts: {{class: induced}}
  coil_change: {{class: setup}}
  meeting: {{class: planned}}
calendars:
  two: {{shifts: [{{name: early, days: mon-sun, from: "05:00", to: "07:30", breaks: [{{from: "07:10", to: "07:20"}}]}},
                  {{name: late, days: mon-sun, from: "08:00", to: "21:00"}}]}}
work_units:
  press:
    area: hall
    work_center: line
    device: plc
    ideal_cycle_time: 10s
    counts: {{total: parts, reject: reject, rework: rework}}
    product: {{tag: recipe}}
    {unit}
"""
CODES = (
    "state: {from: codes, tag: state, codes: {0: running, 1: stopped, 2: setup, 3: maintenance, 4: starved, 5: blocked, 6: unknown, "
    "8: break, 9: not_planned, 50: jam, 51: no_parts, 52: coil_change, 53: meeting}}"
)
UNITS = (
    CODES,
    f"{CODES}\n    calendar: two\n    cycles: {{ignore_under: 15s, min_run: 60s}}",
    f"{CODES}\n    oee: {{no_order_bucket: unloaded, micro_stop_bucket: availability}}\n    dispatch: {{end: at_quantity, next: auto}}",
    "state: {from: counts}\n    calendar: two",
)


class Hands:
    """The clock of the live side, set by the story."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("nothing waits here")

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        raise NotImplementedError("nothing waits here")


class Remembering:
    """A recorder's place."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, events: Sequence[Event]) -> None:
        self.events += events

    def mark_dirty(self) -> None: ...

    def record_telemetry(self, device: str, body: bytes) -> None: ...

    def record_answer(self, answer: Answer, at: datetime) -> None: ...

    def record_order_cursor(self, uplink: str, cursor: str) -> None: ...

    async def committed(self) -> None: ...


async def nobody_knows(command_id: str) -> Answer | None:
    return None


Moment = tuple[datetime, dict[str, Any] | Inbound | None]
"""When, and the tags that were read, the message that came, or nothing (time passes)."""


def moments(told: Sequence[Step]) -> list[Moment]:
    """The story in real time: begins and ends with a reading."""
    counters = Story.__new__(Story)
    counters._made = [65_500, 0, 0]
    at, found = START, list[Moment]()
    found.append((at, {**counters.tags((0, 0, 0), 0, 1)}))
    for number, (delay, (kind, *rest)) in enumerate(told):
        at += timedelta(seconds=delay)
        if kind == "read":
            found.append((at, counters.tags(*rest)))
        elif kind == "lost":
            found.append((at, {"parts": None, "state": None, "reject": None}))
        elif kind == "order":
            verb, order, quantity = rest
            job = JobOrder(order, quantity=None if quantity is None else Decimal(quantity), product_id="A" if order == "OF-3" else None)
            given = frozenset({"quantity", "product_id"})
            found.append((at, JobCommand(Verb(verb), f"c{number}", job, at, work_unit="press", given=given)))
        elif kind == "fact":
            verb, order, quantity, ago, why = rest
            fields: dict[str, Any] = {
                "ExplainStop": {"reason": why},
                "DeclareScrap": {"quantity": Decimal(quantity)},
                "DeclareRework": {"quantity": Decimal(quantity)},
                "DeclareProduction": {"good": Decimal(quantity), "scrap": Decimal(quantity // 2)},
                "Reassign": {"from_": max(at - timedelta(seconds=ago), START), "to": at},
            }[verb]
            about = max(at - timedelta(seconds=ago), START)
            found.append((at, Fact(FactVerb(verb), f"f{number}", about, work_unit="press", job_order_id=order, **fields)))
        else:
            found.append((at, None))
    found.append((at + timedelta(seconds=END_S), counters.tags((0, 0, 0), 0, None)))
    return found


async def live(config: Config, told: Sequence[Moment], ticks: int) -> Remembering:
    """Readings as a poller brings them, messages as the broker does, and time that passes in between with the line's lag."""
    clock, recorder, metrics = Hands(), Remembering(), Metrics()
    tracker = Tracker(config.work_units["press"])
    line = make_line(config, {"press": tracker}, [], clock, metrics)
    line.connect(cast(Recorder, recorder))
    target = UnitCommands(line, tracker, own_time=False)
    intake = Intake({"press": target}, LineJournal(line), known_answer=nobody_knows, clock=clock, metrics=metrics)
    for at, what in told:
        before = clock.at
        for tick in range(1, ticks + 1):
            clock.at = before + (at - before) * tick / ticks
            if tracker.begun:
                line.pass_time()
        if isinstance(what, dict):
            batch = [Reading(tag, value, Quality.BAD if value is None else Quality.GOOD, None, at) for tag, value in what.items()]
            line.on_readings("plc", batch, False)
        elif what is not None:
            await intake.handle(what, uplink="mqtt", work_unit="press", received_at=at)
    recorder.record(tracker.finish(told[-1][0]))
    return recorder


async def replayed(config: Config, told: Sequence[Moment], folder: Path) -> list[bytes]:
    path = folder / "recording.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["at", "device", "tag", "value", "quality"])
        for at, what in told:
            if isinstance(what, dict):
                for tag, value in what.items():
                    rows.writerow([at.isoformat(), "plc", tag, write_value(value), "bad" if value is None else "good"])
    recording, out = Recording.open(path), io.BytesIO()
    replay = Replay(config, None, out)
    await replay.play(recording, [Given(at, what) for at, what in told if what is not None and not isinstance(what, dict)])
    replay.close()
    recording.close()
    return out.getvalue().splitlines(keepends=True)


def without_numbers(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Events without the numbers that each journal gives them."""
    found = [json.loads(line) for line in lines]
    return [{name: value for name, value in line.items() if name not in ("id", "sequence")} for line in found if line["type"] != "kpi"]


FOLDER = TemporaryDirectory(prefix="lineside-live-")
atexit.register(FOLDER.cleanup)
CONFIGS: dict[str, Config] = {}


def configured(unit: str) -> Config:
    if unit not in CONFIGS:
        path = Path(FOLDER.name) / f"{len(CONFIGS)}.yaml"
        path.write_text(YAML.format(unit=unit))
        CONFIGS[unit] = load(path)
    return CONFIGS[unit]


@property_(unit=st.sampled_from(UNITS), story=steps.map(lambda s: s[:50]), ticks=st.integers(1, 5))
def test_what_the_daemon_says_live_is_what_a_replay_prints(unit: str, story: list[Step], ticks: int) -> None:
    config = configured(unit)
    told = moments(story)
    said = asyncio.run(live(config, told, ticks)).events
    printed = asyncio.run(replayed(config, told, Path(FOLDER.name)))
    source = config.work_units["press"].path
    numbered = [
        encode_line(cloud_event(event, gateway_id="replay", epoch="replay", sequence=number, source=source))
        for number, event in enumerate(said, start=1)
    ]
    assert without_numbers(numbered) == without_numbers(printed)
