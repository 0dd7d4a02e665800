"""`lineside replay`: recorded readings and commands through the same domain code, with the recording's own time."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, TextIO

from drivers.base import Quality
from drivers.recording import RecordingError, Row, by_instant, load_recording
from gateway.cli.errors import CommandError
from gateway.config import Config, load
from gateway.dispatch.intake import Intake
from gateway.domain.cloud_event import cloud_event, encode
from gateway.domain.events import Event
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import Answer, Fact, JobCommand
from gateway.domain.sample import Input, Sample
from gateway.domain.tracker import Tracker
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
        rows = load_recording(args.recording)
    except RecordingError as error:
        raise CommandError(str(error), f"recording {args.recording} is refused as a whole") from error
    if not rows:
        raise CommandError(f"{args.recording} holds no reading", "only the header was found; record at least one row")
    commands = [] if args.commands is None else _commands(args.commands)
    replay = Replay(config, window)
    asyncio.run(replay.play(rows, commands, sys.stdout))
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
        return inbound.at
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


class Replay:
    """All work units of one configuration over one recording."""

    def __init__(self, config: Config, window: tuple[datetime, datetime] | None) -> None:
        self._units = config.work_units
        self._window = window
        self._trackers = {name: Tracker(unit) for name, unit in config.work_units.items()}
        self._order = {name: index for index, name in enumerate(config.work_units)}
        self._uses: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for unit, references in config.unit_tags.items():
            for reference in references:
                self._uses.setdefault(config.resolve(unit, reference), []).append((unit, reference))
        self._configured = {(device, tag) for device, settings in config.devices.items() for tag in getattr(settings, "tags", ())}
        self._lines: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self._sequence = 0
        self._out: TextIO = sys.stdout
        self._gateway_path = f"/{config.gateway.enterprise}/{config.gateway.site}/_gateway/replay"
        self.unknown_tags: set[str] = set()

    async def play(self, rows: Sequence[Row], commands: Sequence[Given], out: TextIO) -> None:
        """Print all events in order of time, then one line per window."""
        self._out = out
        start, end = rows[0].at, rows[-1].at
        first = min([start, *(g.at for g in commands[:1])])
        for tracker in self._trackers.values():
            tracker.begin(start, commands_from=first)
            tracker.keep_range(*(self._window or (start, None)))
        time = RecordedTime(first)
        intake = Intake(self._trackers, self, known_answer=self.known_answer, clock=time, metrics=Metrics())
        for at, given, readings in _merge(rows, commands):
            # A command after the last reading finds the machine as the recording left it: no time passes that nobody recorded.
            now = min(at, end)
            self._advance(now)
            time.at = now
            for inbound in given:
                await intake.handle(inbound, uplink="replay", work_unit=self._unit_of(inbound), received_at=now)
            for sample in self._samples(readings):
                self.record(self._trackers[sample.work_unit].observe(sample))
        self._advance(end)
        for tracker in self._trackers.values():
            self.record(tracker.finish(end))
        self._print_windows()

    def _unit_of(self, inbound: Inbound) -> str | None:
        """Where there is one work unit only, a command need not name it."""
        return next(iter(self._units)) if inbound.work_unit is None and len(self._units) == 1 else None

    def _advance(self, at: datetime) -> None:
        events = [event for tracker in self._trackers.values() for event in tracker.advance(at)]
        self.record(sorted(events, key=attrgetter("at")))

    def _samples(self, rows: Iterable[Row]) -> list[Sample]:
        """Rows of the same instant are one reading, whatever their device."""
        found: dict[str, dict[str, Input]] = {}
        at: datetime | None = None
        for row in rows:
            at = row.at
            uses = self._uses.get((row.device, row.tag))
            if uses is None:
                if (row.device, row.tag) not in self._configured:
                    self.unknown_tags.add(f"{row.device}/{row.tag}")
                continue
            for unit, reference in uses:
                found.setdefault(unit, {})[reference] = Input(row.value, row.quality is Quality.BAD)
        return [] if at is None else [Sample(unit, at, found[unit]) for unit in sorted(found, key=self._order.__getitem__)]

    # --- the journal's place: events are printed as they come --------------------------------------------------------

    def record(self, events: Sequence[Event]) -> None:
        for event in events:
            self._sequence += 1
            unit = event.work_unit
            source = self._units[unit].path if unit is not None else self._gateway_path
            body = cloud_event(event, gateway_id="replay", epoch="replay", sequence=self._sequence, source=source)
            self._print(body)
            if event.type == "window.closed":
                self._keep(body["data"])

    def record_answer(self, answer: Answer, at: datetime) -> None:
        """The intake itself remembers the answers of one replay."""

    def record_order_cursor(self, uplink: str, cursor: str) -> None:
        """A command file has no cursor."""

    async def committed(self) -> None:
        """What is printed is done."""

    async def known_answer(self, command_id: str) -> Answer | None:
        return None

    # --- windows ----------------------------------------------------------------------------------------------------

    def _keep(self, line: Mapping[str, Any]) -> None:
        window = line["window"]
        self._lines[line["work_unit"], window["kind"], window["from"], window["name"]] = dict(line)

    def _print_windows(self) -> None:
        for tracker in self._trackers.values():
            for line in tracker.lines():
                self._keep(line)
        rows = sorted(self._lines.items(), key=lambda row: (self._order[row[0][0]], _KINDS.index(row[0][1]), row[0][2], row[0][3]))
        for line in map(itemgetter(1), rows):
            self._print({"type": "kpi", **line})

    def _print(self, body: Mapping[str, Any]) -> None:
        self._out.write(encode(body).decode() + "\n")


def _merge(rows: Sequence[Row], commands: Sequence[Given]) -> Iterator[tuple[datetime, list[Inbound], list[Row]]]:
    """Both in order of time; at equal times commands come before readings."""
    waiting = iter([*commands, None])
    nxt = next(waiting)
    for at, readings in by_instant(rows):
        while nxt is not None and nxt.at < at:
            yield nxt.at, [nxt.inbound], []
            nxt = next(waiting)
        given = []
        while nxt is not None and nxt.at == at:
            given.append(nxt.inbound)
            nxt = next(waiting)
        yield at, given, readings
    while nxt is not None:
        yield nxt.at, [nxt.inbound], []
        nxt = next(waiting)
