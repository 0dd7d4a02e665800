"""The pipeline inside the process: readings to samples to events to the recorder, in one step of the loop without an await."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter

from drivers.base import Clock, Reading
from gateway.acquisition.sampling import Sampling, instants
from gateway.acquisition.telemetry import Telemetry, batch_payload
from gateway.clock import STEP_S
from gateway.domain.events import AlertRaised, ClockStepped, Event, QuantityCounted, WindowClosed
from gateway.domain.job import Job, WriteState
from gateway.domain.job_order import Answer, Fact, JobCommand
from gateway.domain.snapshot import Snapshot
from gateway.domain.tracker import Tracker
from gateway.domain.work_center import WorkCenter
from gateway.metrics import Metrics
from gateway.outbox.recorder import Recorder
from gateway.status.readings import Recordings

_log = structlog.get_logger("lineside")

LAG = timedelta(seconds=2)
"""Deadlines are processed this late: readings of the last moments are still on their way, and a sample must not come too late."""
TICK_S = 0.5
SAVE_S = 5.0
"""How far a snapshot may lie behind on a unit where nothing happens; after a kill, time since the last one is unknown."""
UNSEEN_S = 5.0
"""When nothing of this process ran for so long (it was stopped, the machine slept), nobody knows what the machines did."""
FAR = timedelta(days=1)
"""A clock that goes further ahead at once may be wrong: so long nothing is removed for its age by it."""
AHEAD = timedelta(seconds=0.5)
"""A reading cannot be from later than now, but for what a device's clock may be off: it is one from before the clock was set back."""


class Line:
    """All work units of the gateway.

    `recorded`: devices whose source times are what happened (a recording). `on_events` sees every event that is recorded.
    """

    def __init__(
        self,
        trackers: Mapping[str, Tracker],
        centers: Sequence[WorkCenter],
        sampling: Sampling,
        telemetry: Telemetry,
        clock: Clock,
        metrics: Metrics,
        *,
        recorded: frozenset[str],
        own_time: frozenset[str],
        bulk: bool,
    ) -> None:
        self.trackers = trackers
        self.centers = centers
        self.telemetry = telemetry
        self.changed: set[str] = set()
        """Units with something new since the pictures were last renewed."""
        self._center_of = {unit: center for center in centers for unit in center.units}
        self._sampling = sampling
        self._clock = clock
        self._metrics = metrics
        self._recorded = recorded
        self._own_time = own_time
        self._bulk = bulk
        self._message = 0
        self._saved = 0.0
        self._clocks = (clock.now(), clock.monotonic())
        self._tick_due: float | None = None
        """When the next tick should be, by the steady clock; one that is long overdue shows that this process did not run."""
        self._restored_until = {name: tracker.now for name, tracker in trackers.items() if tracker.begun}
        self._late_seen = dict.fromkeys(trackers, 0)
        self._recorder: Recorder | None = None
        self._listeners: list[Callable[[Event], None]] = []
        self._pieces: dict[tuple[str | None, str], Counter] = {}
        self._tags_taken: dict[str, list[Reading]] = {}
        self._recordings: Recordings | None = None

    def connect(self, recorder: Recorder, *listeners: Callable[[Event], None]) -> None:
        """Where events go: the journal first, then whoever wants to know."""
        self._recorder = recorder
        self._listeners.extend(listeners)

    def record_readings(self) -> Recordings:
        """What serves `/api/readings`; from now on it hears every batch while somebody records."""
        self._recordings = Recordings(lambda: self.telemetry.last, self._recorded, self._clock, self._metrics)
        return self._recordings

    def journal(self) -> LineJournal:
        return LineJournal(self)

    def lives_in_recording(self, work_unit: str) -> bool:
        """Its time is that of a recording, not the wall clock's."""
        return work_unit in self._own_time

    # --- in ---------------------------------------------------------------------------------------------------------

    def on_readings(self, device: str, batch: Sequence[Reading], pushed: bool) -> None:
        """One batch of one device; called by its poller."""
        now = self.present()
        recorded = device in self._recorded
        if self._recordings is not None and self._recordings.wanted:
            self._recordings.note(device, zip(instants(batch, pushed=pushed, recorded=recorded), batch, strict=True))
        told = self.telemetry.update(device, batch)
        if told and self._bulk:
            self._message += 1
            self.recorder.record_telemetry(device, b'{"sequence":%d,"values":%b}' % (self._message, batch_payload(told)))
        elif told:
            self.recorder.mark_dirty()
        for sample in self._sampling.samples(device, batch, pushed=pushed, recorded=recorded):
            if recorded and sample.at <= self._restored_until.get(sample.work_unit, sample.at - LAG):
                continue
            tracker = self.trackers[sample.work_unit]
            if sample.at > now + AHEAD and not recorded:
                sample = replace(sample, at=now)
            self.record(tracker.observe(sample))
            if tracker.late_samples != self._late_seen[sample.work_unit]:
                self._metrics.samples_late.labels(sample.work_unit).inc(tracker.late_samples - self._late_seen[sample.work_unit])
                self._late_seen[sample.work_unit] = tracker.late_samples
            if tracker.dirty:
                self.recorder.mark_dirty()

    def record(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self.recorder.record(events)
        for event in events:
            if isinstance(event, WindowClosed) and event.work_unit in self._center_of:
                # In the same transaction as the machine's own, so that a kill cannot part them.
                self.record(self._center_of[event.work_unit].closed(event))
            if event.work_unit is not None and event.work_unit in self.trackers:
                self.changed.add(event.work_unit)
            if isinstance(event, QuantityCounted) and not event.reassigned:
                self._count(event)
            for listener in self._listeners:
                listener(event)

    def _count(self, event: QuantityCounted) -> None:
        for kind in ("produced", "good", "scrap", "rework"):
            quantity = getattr(event, kind)
            if quantity > 0:
                counter = self._pieces.get((event.work_unit, kind))
                if counter is None:
                    counter = self._pieces[event.work_unit, kind] = self._metrics.pieces.labels(event.work_unit, kind)
                counter.inc(float(quantity))

    @property
    def recorder(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("the line is not connected to a recorder")
        return self._recorder

    async def tick(self) -> None:
        """The passing of time, until cancelled."""
        while True:
            self.pass_time()
            self._tick_due = self._clock.monotonic() + TICK_S
            await self._clock.sleep(TICK_S)

    def pass_time(self) -> None:
        now = self.present()
        monotonic = self._clocks[1]
        save = monotonic - self._saved >= SAVE_S
        for name, tracker in self.trackers.items():
            if name in self._own_time:
                continue
            if not tracker.begun:
                tracker.begin(now - LAG)
            self.record(tracker.advance(now - LAG))
            if save:
                tracker.touch(now - LAG)
        if save:
            self._saved = monotonic
            self.recorder.mark_dirty()

    def present(self) -> datetime:
        """Now. Asked before anything gets its time: it notices when the wall clock was set, and time in which nobody looked."""
        (wall, steady), self._clocks = self._clocks, (self._clock.now(), self._clock.monotonic())
        now, passed = self._clocks[0], self._clocks[1] - steady
        step = now - wall - timedelta(seconds=passed)
        if self._tick_due is not None and self._clocks[1] - self._tick_due >= UNSEEN_S:
            self._tick_due = None
            _log.warning("nobody_looked", seconds=round(passed, 3))
            self._metrics.unseen.inc(passed)
            for tracker in self._living():
                self.record(tracker.unseen(now - step))
        if abs(step) >= timedelta(seconds=STEP_S):
            self._clock_set(step, now)
        return now

    def _clock_set(self, step: timedelta, now: datetime) -> None:
        step_s = round(step.total_seconds(), 3)
        _log.warning("clock_stepped", step_s=step_s, to=now.isoformat())
        self._metrics.clock_steps.inc()
        self.record([ClockStepped(work_unit=None, at=now, step_s=step_s, from_=now - step, to=now)])
        if step > FAR:
            self.recorder.distrust_clock(now - step, FAR.total_seconds())
        for tracker in self._living():
            self.record(tracker.clock_set(step // timedelta(microseconds=1)))

    def _living(self) -> list[Tracker]:
        """Those whose time is the wall clock's."""
        return [tracker for name, tracker in self.trackers.items() if name not in self._own_time]

    @property
    def known_until(self) -> datetime | None:
        """The latest instant that the journal knows of a unit whose time is the wall clock's."""
        return max((tracker.now for tracker in self._living() if tracker.begun), default=None)

    def take_up_time(self) -> None:
        """After a restart: what the journal knows may be later than now, when the clock was set back meanwhile."""
        self._clocks = (self._clock.now(), self._clock.monotonic())
        now = self._clocks[0]
        ahead = (self.known_until or now) - now
        if ahead < -FAR:
            self.recorder.distrust_clock(now + ahead, FAR.total_seconds())
        if ahead < timedelta(seconds=STEP_S):
            return
        _log.warning("clock_behind_journal", ahead_s=round(ahead.total_seconds(), 3))
        self._metrics.clock_steps.inc()
        self.record([ClockStepped(work_unit=None, at=now, step_s=-round(ahead.total_seconds(), 3), from_=now + ahead, to=now)])
        for tracker in self._living():
            if tracker.now > now:
                self.record(tracker.clock_set((now - tracker.now) // timedelta(microseconds=1)))

    # --- out: the recorder's two callbacks ------------------------------------------------------------------------------

    def snapshots(self) -> list[Snapshot]:
        """The trackers' consistent state of this very moment, and with it the tags that may be told once it is on disk."""
        for device, readings in self.telemetry.take().items():
            self._tags_taken.setdefault(device, []).extend(readings)
        changed = [tracker.snapshot() for tracker in self.trackers.values() if tracker.begun and tracker.dirty]
        return changed + [center.snapshot() for center in self.centers if center.dirty]

    def committed_tags(self) -> dict[str, list[Reading]]:
        """Readings whose sample is on disk now."""
        taken, self._tags_taken = self._tags_taken, {}
        return taken


class UnitCommands:
    """A work unit's tracker as the intake sees it (`dispatch.intake.CommandTarget`)."""

    def __init__(self, line: Line, tracker: Tracker, *, own_time: bool) -> None:
        self._line = line
        self._tracker = tracker
        self._own_time = own_time

    def _at(self, at: datetime) -> datetime:
        # A unit that plays a recording lives in the recording's time.
        return self._tracker.now if self._own_time and self._tracker.begun else min(at, self._line.present())

    def command(self, cmd: JobCommand, at: datetime) -> tuple[Answer, list[Event]]:
        self._line.changed.add(self._tracker.unit.name)
        return self._tracker.command(cmd, self._at(at))

    def fact(self, fact: Fact, at: datetime) -> tuple[Answer, list[Event]]:
        self._line.changed.add(self._tracker.unit.name)
        return self._tracker.fact(fact, self._at(at))


class UnitRelease:
    """A work unit's tracker as the release to its machine sees it (`dispatch.release.UnitOrders`)."""

    def __init__(self, line: Line, tracker: Tracker) -> None:
        self._line = line
        self._tracker = tracker

    def running(self) -> Job | None:
        return self._tracker.production.ledger.running

    def stands(self) -> bool:
        return self._tracker.machine.still_since() is not None

    def mark(self, job_order_id: str, state: WriteState) -> None:
        ledger = self._tracker.production.ledger
        job = ledger.get(job_order_id)
        if job is not None and job.written is not state:
            job.written = state
            ledger.touch(job)
            self._tracker.dirty = True
            self._line.recorder.mark_dirty()


class LineJournal:
    """The recorder as the intake sees it: its events pass the line's listeners like all others."""

    def __init__(self, line: Line) -> None:
        self.record = line.record
        self.record_answer = line.recorder.record_answer
        self.record_order_cursor = line.recorder.record_order_cursor
        self.committed = line.recorder.committed


def raised(tracker: Tracker) -> list[AlertRaised]:
    """Alerts of a restored tracker that still stand."""
    return tracker.signals.standing(tracker.machine.now)


def sources(line: Line, gateway_path: str) -> Callable[[str | None], str]:
    """CloudEvents `source` of a work unit, of a line of them, or of the gateway itself."""
    paths = {name: tracker.unit.path for name, tracker in line.trackers.items()} | {center.key: center.path for center in line.centers}
    return lambda unit: gateway_path if unit is None else paths.get(unit, f"{gateway_path}/{unit}")
