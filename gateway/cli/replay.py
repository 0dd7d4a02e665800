"""`lineside replay`: recorded readings and commands through the same domain code, with the recording's own time."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

from drivers.base import Quality
from drivers.recording import Recording, RecordingError, Row, by_instant
from gateway.cli.errors import CommandError
from gateway.config import Config, load
from gateway.dispatch.intake import Intake
from gateway.domain.cloud_event import cloud_event, encode_line
from gateway.domain.events import Event, WindowClosed
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.instants import Instant, instant, moment
from gateway.domain.job_order import Answer, Fact, JobCommand
from gateway.domain.sample import Input
from gateway.domain.tracker import Tracker
from gateway.domain.work_center import WorkCenter
from gateway.metrics import Metrics
from gateway.uplink.messages import parse_command, read_object

_KINDS = ("hour", "shift", "job", "range")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="run recorded readings through the same domain code",
        description="Run recorded readings (CSV: at,device,tag,value,quality) through the domain code with the recording's own time. "
        "Prints events, then KPI windows, one JSON object a line. Opens no link and reads no secret.",
        epilog="example: lineside replay config/plant.yaml shift.csv --commands orders.jsonl --window 2026-11-24T05:00Z/2026-11-24T13:00Z",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("recording", type=Path, metavar="RECORDING.csv")
    parser.add_argument("--commands", type=Path, metavar="FILE.jsonl", help="job commands and facts, one JSON object a line")
    parser.add_argument(
        "--window", metavar="FROM/TO", help="print the KPI of this time (ISO 8601 with offset) instead of the whole recording"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError (2) for a recording, a command file or a window that cannot be read, ConfigError likewise."""
    config = load(args.config)
    window = None if args.window is None else _window(args.window)
    try:
        with closing(Recording.open(args.recording)) as recording:
            if not recording.count:
                raise CommandError(f"{args.recording} holds no reading", "only the header was found; record at least one row")
            commands = [] if args.commands is None else _commands(args.commands)
            with closing(Replay(config, window, sys.stdout.buffer)) as replay:
                asyncio.run(replay.play(recording, commands))
    except RecordingError as error:
        raise CommandError(str(error), f"recording {args.recording} is refused as a whole") from error
    if replay.unknown_tags:
        names = ", ".join(sorted(replay.unknown_tags)[:10])
        print(f"note: the configuration has no use for these tags of the recording: {names}", file=sys.stderr)
    return 0


def _window(text: str) -> tuple[datetime, datetime]:
    try:
        start, end = (datetime.fromisoformat(part) for part in text.split("/"))
    except ValueError:
        raise CommandError(f"--window {text!r} is not FROM/TO", "example: 2026-11-24T05:00+01:00/2026-11-24T13:00+01:00") from None
    if start.tzinfo is None or end.tzinfo is None:
        raise CommandError(f"--window {text!r} has no offset", "add Z or the offset to both times, for example +01:00")
    if start >= end:
        raise CommandError(f"--window {text!r} ends before it begins", "write the earlier time first")
    return start.astimezone(UTC), end.astimezone(UTC)


@dataclass(frozen=True)
class Given:
    """One line of the command file and the time at which it is applied."""

    at: datetime
    inbound: Inbound


def _commands(path: Path) -> list[Given]:
    """Sorted by time. A line that shows no time stops the replay; any other is answered like live, with what is wrong in it."""
    given: list[Given] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}", "check the path; the file is JSON lines in UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        inbound = parse_command(line.encode(), retained=False, topic_work_unit=None)
        at = _applied_at(inbound, line)
        if at is None:
            assert isinstance(inbound, Refusal)
            raise CommandError(f"{path}:{number}: {inbound.problem.text}", f"problem {inbound.problem.code}; mend or remove the line")
        given.append(Given(at, inbound))
    return sorted(given, key=attrgetter("at"))


def _applied_at(inbound: Inbound, line: str) -> datetime | None:
    if isinstance(inbound, JobCommand):
        return inbound.issued_at
    if isinstance(inbound, Fact):
        return inbound.issued_at or inbound.at
    if inbound.command_id is None:
        # Nobody could be answered.
        return None
    found = read_object(line.encode())
    try:
        at = datetime.fromisoformat(str(found.get("issued_at", found.get("at"))))
    except ValueError:
        return None
    return None if at.tzinfo is None else at.astimezone(UTC)


class RecordedTime:
    """The recording's time as the intake's clock; nothing ever waits on it."""

    def __init__(self, now: datetime) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("a replay does not wait")

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        raise NotImplementedError("a replay does not wait")


class Windows:
    """KPI windows are printed at the end, each in its last revision.

    Those of a year wait on disk (a private temporary file of SQLite), so that memory does not grow with the recording.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._windows = sqlite3.connect("")
        self._windows.execute(
            "CREATE TABLE line (unit INTEGER, kind INTEGER, start TEXT, name TEXT, body BLOB, "
            "PRIMARY KEY (unit, kind, start, name)) WITHOUT ROWID"
        )

    def keep(self, unit: int, line: Mapping[str, Any]) -> None:
        """The present revision of a window of the unit in this place of the configuration."""
        window = line["window"]
        key = (unit, _KINDS.index(window["kind"]), window["from"], window["name"])
        self._windows.execute("INSERT OR REPLACE INTO line VALUES (?, ?, ?, ?, ?)", (*key, encode_line({"type": "kpi", **line})))

    def print(self) -> None:
        for (body,) in self._windows.execute("SELECT body FROM line ORDER BY unit, kind, start, name"):
            self._out.write(body)
        self._out.flush()

    def close(self) -> None:
        self._windows.close()


class Replay:
    """All work units of one configuration over one recording."""

    def __init__(self, config: Config, window: tuple[datetime, datetime] | None, out: BinaryIO) -> None:
        self._units = config.work_units
        self._window = window
        self._write = out.write
        self._kept = Windows(out)
        self._trackers = {name: Tracker(unit) for name, unit in config.work_units.items()}
        self._all = tuple(self._trackers.values())
        centers = [WorkCenter(name, units, config.line_rule(name)) for name, units in config.lines().items()]
        self._center_of = {unit: center for center in centers for unit in center.units}
        self._order = {name: index for index, name in enumerate(config.work_units)}
        self._uses: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for unit, references in config.unit_tags.items():
            for reference in references:
                self._uses.setdefault(config.resolve(unit, reference), []).append((unit, reference))
        self._configured = {(device, tag) for device, settings in config.devices.items() for tag in getattr(settings, "tags", ())}
        self._sequence = 0
        self._sources: dict[str | None, str] = {name: unit.path for name, unit in config.work_units.items()}
        self._sources |= {center.key: center.path for center in centers}
        self._sources[None] = f"/{config.gateway.enterprise}/{config.gateway.site}/_gateway/replay"
        self.unknown_tags: set[str] = set()

    async def play(self, recording: Recording, commands: Sequence[Given]) -> None:
        """Print all events in order of time, then one line per window."""
        start, end = moment(recording.first), moment(recording.last)
        first = min([start, *(g.at for g in commands[:1])])
        for tracker in self._trackers.values():
            tracker.begin(start, commands_from=first)
            tracker.keep_range(*(self._window or (start, None)))
        time = RecordedTime(first)
        intake = Intake(self._trackers, self, known_answer=self.known_answer, clock=time, metrics=Metrics())

        async def obey(given: Given) -> None:
            # A command after the last reading finds the machine as the recording left it: no time passes that nobody recorded.
            time.at = min(given.at, end)
            self._advance(instant(time.at))
            unit = self._unit_of(given.inbound)
            await intake.handle(given.inbound, uplink="replay", work_unit=unit, received_at=time.at)

        waiting = deque(commands)
        due = instant(waiting[0].at) if waiting else None
        for at, readings in by_instant(recording.rows()):
            # At equal times commands come before readings.
            while due is not None and due <= at:
                await obey(waiting.popleft())
                due = instant(waiting[0].at) if waiting else None
            self._advance(at)
            self._observe(at, readings)
        for given in waiting:
            await obey(given)
        self._advance(recording.last)
        for tracker in self._trackers.values():
            self.record(tracker.finish(end))
            for line in tracker.lines():
                self._kept.keep(self._order[tracker.unit.name], line)
        self._kept.print()

    def _unit_of(self, inbound: Inbound) -> str | None:
        """Where there is one work unit only, a command need not name it."""
        return next(iter(self._units)) if inbound.work_unit is None and len(self._units) == 1 else None

    def _advance(self, at: Instant) -> None:
        events: list[Event] = []
        for tracker in self._all:
            if tracker.idle_until <= at:
                events += tracker.advance(moment(at))
        if events:
            self.record(sorted(events, key=attrgetter("at")))

    def _observe(self, at: Instant, readings: Iterable[Row]) -> None:
        """Rows of the same instant are one reading, whatever their device."""
        found: dict[str, dict[str, Input]] = {}
        for _, device, tag, value, quality in readings:
            uses = self._uses.get((device, tag))
            if uses is None:
                if (device, tag) not in self._configured:
                    self.unknown_tags.add(f"{device}/{tag}")
                continue
            held = Input(value, quality is Quality.BAD)
            for unit, reference in uses:
                found.setdefault(unit, {})[reference] = held
        for unit in found if len(found) < 2 else sorted(found, key=self._order.__getitem__):
            events = self._trackers[unit].observe_at(at, found[unit])
            if events:
                self.record(events)

    def close(self) -> None:
        self._kept.close()

    # --- the journal's place: events are printed as they come --------------------------------------------------------

    def record(self, events: Sequence[Event]) -> None:
        for event in events:
            self._sequence += 1
            unit = event.work_unit
            body = cloud_event(event, gateway_id="replay", epoch="replay", sequence=self._sequence, source=self._sources[unit])
            self._write(encode_line(body))
            if isinstance(event, WindowClosed) and unit in self._trackers:
                self._kept.keep(self._order[unit], body["data"])
                self._trackers[unit].forget_records()
                if unit in self._center_of:
                    self.record(self._center_of[unit].closed(event))

    def record_answer(self, answer: Answer, at: datetime) -> None:
        """The intake itself remembers the answers of one replay."""

    def record_order_cursor(self, uplink: str, cursor: str) -> None:
        """A command file has no cursor."""

    async def committed(self) -> None:
        """What is printed is done."""

    async def known_answer(self, command_id: str) -> Answer | None:
        return None
