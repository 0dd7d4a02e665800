"""`Tracker`: one work unit from samples and commands to events. Pure: time comes only with what is handed in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.domain.calendar_memory import CalendarMemory
from gateway.domain.cloud_event import trimmed
from gateway.domain.drift_watch import DriftWatch
from gateway.domain.equipment import StateFromCounts, StateFromOrder, WorkUnit
from gateway.domain.events import Event, Text
from gateway.domain.facts import Facts
from gateway.domain.instants import Instant, instant, moment
from gateway.domain.job import dump_job
from gateway.domain.job_order import Answer, Fact, JobCommand
from gateway.domain.job_tag import JobTag
from gateway.domain.kpi import kpi_line
from gateway.domain.machine import MachineTime
from gateway.domain.machine_by_gap import MachineByGap
from gateway.domain.machine_by_order import MachineByOrder
from gateway.domain.oee import dump_window
from gateway.domain.order_watch import OrderWatch
from gateway.domain.outlook import pending_windows
from gateway.domain.picture import unit_view
from gateway.domain.production import Production
from gateway.domain.sample import Input, Sample
from gateway.domain.signals import Signals
from gateway.domain.snapshot import Record, Snapshot
from gateway.domain.standstill import dump_stop
from gateway.domain.state import Condition, StateReader
from gateway.domain.timeline import dump_stretch
from gateway.domain.view import UnitView
from gateway.domain.windows import KEEP

VERSION = 1
"""Of the snapshot; a change of its shape raises it."""

RECORD_KINDS = ("window", "stop", "job", "interval", "orphan", "bin", "lot")

_OPEN = instant(datetime(9999, 1, 1, tzinfo=UTC))
"""The time of the row of a job that is not over: later than any, so that "since yesterday" always finds it."""


def _json(value: dict[str, Any]) -> bytes:
    try:
        return trimmed(orjson.dumps(value))
    except orjson.JSONEncodeError:
        # An integer beyond 64 bits, which only a recording can bring.
        return json.dumps(value, separators=(",", ":")).encode()


class Tracker:
    """Feed it `begin` (or `restore`) once, then `observe`, `advance`, `command` and `fact` in order of time; time goes back only with
    `clock_set`.

    An instant before the last one is taken as the last one (`late_samples` counts them). The same input gives the same
    events, however often `advance` is called in between.
    """

    def __init__(self, unit: WorkUnit) -> None:
        self.unit = unit
        self._events: list[Event] = []
        self.signals = Signals(unit.name, self._events.append)
        self.drift = DriftWatch(self.signals, unit.time_zone, unit.read_every_s)
        kind = {StateFromCounts: MachineByGap, StateFromOrder: MachineByOrder}.get(type(unit.state), MachineTime)
        self.machine: MachineTime = kind(unit, self._events.append, self.drift)
        self._calendar = CalendarMemory(unit.calendar)
        self.production = Production(unit, self.machine, self.signals, self._events.append)
        self.production.orders.on_progress = OrderWatch(self.machine, self.signals).look
        self._facts = Facts(self.machine, self.production)
        self._job_tag = None if unit.job_tag is None else JobTag(unit, self.machine, self.production, self.signals)
        self._reader = StateReader(unit.state, unit.reasons) if kind is MachineTime else None
        self._inputs: dict[str, Input] = {}
        self._said: Condition | None = None
        """What the state's inputs say as they are now; None: they must be read again."""
        self.idle_until: Instant = 0
        """Nothing happens by itself before; `deadline` may be later. Most readings come earlier and need not ask."""
        self.begun = False
        self.dirty = False
        self.late_samples = 0

    # --- what comes in --------------------------------------------------------------------------------------------

    def begin(self, at: datetime, *, commands_from: datetime | None = None) -> None:
        """Start the memory at `at`: time before it is in no bucket. `commands_from`: commands that were given earlier are
        taken at their own time all the same (replay)."""
        self.machine.begin(instant(at))
        if commands_from is not None and commands_from < at:
            self.machine.now = instant(commands_from)
        self.begun = self.dirty = True

    def keep_range(self, start: datetime, end: datetime | None) -> None:
        """Keep one more window over [start, end) beside hours, shifts and jobs; `end` None: up to and with the last reading."""
        self.production.settle()
        self.machine.windows.start_range(instant(start), None if end is None else instant(end))

    def observe(self, sample: Sample) -> list[Event]:
        """Take one sample; the events it made, in order."""
        return self.observe_at(instant(sample.at), sample.inputs)

    def observe_at(self, at: Instant, inputs: Mapping[str, Input]) -> list[Event]:
        """`observe` for whoever has the time as an instant: a sample's inputs as they were at `at`."""
        if not self.begun:
            self.begin(moment(at))
        machine = self.machine
        if at < machine.now:
            self.late_samples += 1
        if at < self.idle_until:
            machine.now = max(machine.now, at)
        else:
            self._go(at)
        news = self._reader is not None and self._read_state(self._reader, inputs)
        self._inputs.update(inputs)
        news |= self.production.take(inputs)
        if self._job_tag is not None:
            news |= self._job_tag.take(inputs)
        # A counter that moved without an event (a baseline) must be on disk before anybody is told its value.
        self.dirty = self.dirty or bool(self._events) or self.production.counters.moved
        return self._done() if news or self._events else []

    def _read_state(self, reader: StateReader, inputs: Mapping[str, Input]) -> bool:
        """Whether the state's inputs have news. Report by exception: what they said before is not looked at again."""
        read = False
        for tag in reader.tags:
            new = inputs.get(tag)
            if new is not None:
                read = True
                held = self._inputs.get(tag)
                if held is None or held.value != new.value or held.bad != new.bad:
                    self._said = None
                    self._inputs[tag] = new
        if not read:
            return False
        said = self._said
        if said is None:
            said = self._said = reader.read(self._inputs)
            if said.unmapped is not None:
                self._unmapped(said.unmapped)
        if said is self.machine.condition and not self.machine.in_doubt:
            return False
        self.production.settle()
        self.machine.report(said)
        return True

    def advance(self, at: datetime) -> list[Event]:
        """Time has passed without a reading: windows close, stops become long, progress is told."""
        target = instant(at)
        if not self.begun or target < self.idle_until or target < self.deadline:
            return []
        self._go(target)
        self.dirty = True
        return self._done()

    def touch(self, at: datetime) -> None:
        """Nothing happened up to `at`, and the next snapshot shall say so."""
        if self.begun:
            self.machine.now = max(self.machine.now, min(instant(at), self.deadline - 1))
            self.dirty = True

    def unseen(self, at: datetime) -> list[Event]:
        """Nobody looked between the last instant and `at` (the process stood still, the machine slept): that time is unknown, and pieces
        found afterwards are late."""
        if not self.begun or instant(at) <= self.machine.now:
            return []
        self.production.settle()
        self.production.counters.lose()
        if isinstance(self.machine, MachineByOrder):
            # Nobody needs to look at a manual post: its order goes on.
            self._ready(at)
        else:
            self._pass_unknown(instant(at))
        return self._done()

    def clock_set(self, by: int) -> list[Event]:
        """The wall clock was set by `by` microseconds at the last instant; time goes on at that instant plus `by`.

        Forward, the time that was skipped is unknown, so that windows stay whole. Back, or by more than two days, what counts from the
        past is moved along, so that every duration stays as long as it was; hours and shifts that come again are filled further.
        """
        if not self.begun:
            return []
        self.production.settle()
        if 0 <= by <= KEEP:
            self.production.counters.clock_set(by)
            self._pass_unknown(self.machine.now + by)
            return self._done()
        held = self.machine.pause()
        self.production.clock_set(by, self.machine.jump(by))
        self.signals.clock_set(by)
        self.machine.resume(held)
        self.dirty = True
        return self._done()

    def _pass_unknown(self, at: Instant) -> None:
        held = self.machine.pause()
        self._go(at)
        self.machine.resume(held)
        self.dirty = True

    def command(self, command: JobCommand, at: datetime) -> tuple[Answer, list[Event]]:
        """Carry out a job command, or refuse it and change nothing. Idempotence by command_id is the caller's."""
        self._ready(at)
        self.machine.settle(self.machine.now)
        outcome = self.production.ledger.apply(command, moment(self.machine.now))
        if outcome.answer.accepted:
            self.production.orders.moved(outcome.transitions)
        return outcome.answer, self._done()

    def fact(self, fact: Fact, at: datetime) -> tuple[Answer, list[Event]]:
        """Book what a person knows, or refuse it and change nothing."""
        self._ready(at)
        answer = self._facts.apply(fact)
        return answer, self._done()

    def _ready(self, at: datetime) -> None:
        if not self.begun:
            self.begin(at)
        self._go(instant(at))
        self.dirty = True

    @property
    def now(self) -> datetime:
        return moment(self.machine.now)

    @property
    def deadline(self) -> Instant:
        """The next instant at which something happens by itself."""
        due, told, over = self.machine.deadline(), self.production.orders.deadline(), self.signals.deadline()
        if told is not None and told < due:
            due = told
        return due if over is None or over >= due else over

    def _go(self, at: Instant) -> None:
        """Move to `at`, doing on the way what falls due, each at its own instant."""
        machine = self.machine
        self.production.settle()
        while (due := self.deadline) <= at:
            machine.now = max(machine.now, due)
            machine.fire()
            self.production.orders.fire()
            self.signals.fire(machine.now)
            machine.close_windows()
        machine.now = max(machine.now, at)
        self.idle_until = due

    def _done(self) -> list[Event]:
        self.machine.close_windows()
        self.idle_until = self.deadline
        events = self._events[:]
        self._events.clear()
        return events

    def _unmapped(self, code: Any) -> None:
        self.signals.raise_once(
            f"state.code:{code}", "warning",
            Text(f"Code d'état {code} inconnu : temps compté comme inconnu.", f"State code {code} is not known: its time is unknown."),
            Text("Ajouter ce code dans `state.codes` de la configuration.", "Add this code to `state.codes` in the configuration."),
            self.machine.now,
        )  # fmt: skip

    # --- what goes out --------------------------------------------------------------------------------------------

    def finish(self, at: datetime) -> list[Event]:
        """The input has ended at `at` (replay): gaps still open are judged by their length so far."""
        self._go(instant(at))
        self.machine.settle(self.machine.now)
        self.machine.flush_pace(finished=True)
        window = self.machine.windows.open.get("range")
        if window is not None and window.end is None:
            window.end = self.machine.now
        return self._done()

    def lines(self) -> list[dict[str, Any]]:
        """KPI lines of the windows that are not closed, as they stand at the last instant."""
        self.production.settle()
        return [kpi_line(w, self.unit) for w in pending_windows(self.machine)]

    def view(self) -> UnitView:
        self.production.settle()
        return unit_view(self.unit, self.machine, self.production)

    # --- memory ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The hot state and the rows that changed since the snapshot before; call it once per commit."""
        self.dirty = False
        self.production.settle()
        state = {
            "machine": self.machine.dump(), "production": self.production.dump(), "signals": self.signals.dump(),
            "drift": self.drift.dump(), "calendar": self._calendar.dump(),
            "job_number": self._job_tag.dump() if self._job_tag is not None else "",
            "inputs": {tag: [held.value, held.bad] for tag, held in self._inputs.items()},
        }  # fmt: skip
        return Snapshot(self.unit.name, VERSION, _json(state), tuple(self._records()))

    def _records(self) -> list[Record]:
        machine, production = self.machine, self.production
        rows: list[Record] = []

        def add(kind: str, key: str, at: Instant, body: dict[str, Any], names: Iterable[tuple[str, str]] = ()) -> None:
            rows.append(Record(kind, key, moment(at), _json(body), tuple(names)))

        for window in machine.windows.take_changed():
            add("window", window.key, window.end or window.start, dump_window(window))
        for stop in machine.changed_stops.values():
            add("stop", str(stop.start), stop.start, dump_stop(stop))
        for stretch in machine.timeline.take_changed():
            add("interval", str(stretch.start), stretch.start, dump_stretch(stretch))
        for cycle_bin in machine.pace.finished:
            add("bin", str(cycle_bin.start), cycle_bin.start, vars(cycle_bin))
        for orphan in production.take_changed_orphans():
            add("orphan", str(orphan.at), orphan.at, {"at": orphan.at, "quantity": str(orphan.pieces)})
        for job in production.ledger.take_touched():
            ended = job.ended_at if job.is_over else None
            add("job", job.job_order_id, _OPEN if ended is None else instant(ended), dump_job(job))
        for lot in production.genealogy.take_changed():
            add("lot", lot.key, lot.last if lot.is_closed else _OPEN, lot.dump(), lot.names)
        for serial in production.genealogy.take_serials():
            add("serial", serial.key, serial.at, serial.dump(), serial.names)
        machine.changed_stops.clear()
        machine.pace.keep_finished()
        return rows

    def forget_records(self) -> None:
        """There is no journal: the rows that changed so far are not wanted."""
        self.machine.forget_changed()
        self.production.forget_changed()

    def restore(self, snapshot: Snapshot, records: Sequence[Record], *, lost: bool = True) -> None:
        """Go on from a snapshot and its records of the last 48 hours (jobs: all that are not over, and the latest ended).

        What happened since is unknown: every input counts as lost until it is read again, and pieces counted then are late.
        `lost` False: nothing can have happened since, the memory only changed its place.
        Raises ValueError for a snapshot of another version.
        """
        if snapshot.version != VERSION:
            raise ValueError(f"snapshot of {snapshot.work_unit} has version {snapshot.version}, this program reads {VERSION}")
        state = json.loads(snapshot.state)
        rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in RECORD_KINDS}
        for record in records:
            rows[record.kind].append(json.loads(record.body))
        self.machine.load(state["machine"], rows["window"], rows["stop"], rows["interval"])
        if "calendar" in state and self._calendar.load(state["calendar"], self.machine.now):
            self.machine.windows.look_again(self.machine.now)
        self.machine.pace.load_bins(rows["bin"])
        self.production.load(state["production"], rows["job"], rows["orphan"], rows["lot"])
        self.signals.load(state["signals"])
        if self._job_tag is not None:
            self._job_tag.load(state.get("job_number", ""))
        if "drift" in state:  # a snapshot of a version that had no charts begins to learn
            self.drift.load(state["drift"])
        self._inputs = {tag: Input(value, bad) for tag, (value, bad) in state["inputs"].items()}
        self.begun = True
        self._said = None
        if lost:
            self._lose_all()

    @staticmethod
    def time_of(snapshot: Snapshot) -> datetime:
        """The instant up to which `snapshot` knows everything."""
        return moment(json.loads(snapshot.state)["machine"]["now"])

    def _lose_all(self) -> None:
        self._inputs = {tag: Input(None, bad=True) for tag in self._inputs}
        self.production.counters.lose()
        self.machine.gap_unjudged()
        self.machine.lose()
        self.dirty = True

    def lost_events(self) -> list[Event]:
        """Events that `restore` itself made (the stop that ended in the dark); to be recorded first."""
        return self._done()
