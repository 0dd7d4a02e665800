"""The time side of a work unit: its condition, standstills and windows; every instant is booked exactly once.

Time is booked lazily: `settled` is the instant before which everything is in the windows. A standstill that is neither
explained nor longer than the threshold is not decided, so its time waits, and so does the closing of a window it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from gateway.domain.chatter import Chatter
from gateway.domain.cycle_time import CycleTime
from gateway.domain.cycle_watch import CycleWatch
from gateway.domain.drift_watch import DriftWatch
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, StateChanged, WindowClosed
from gateway.domain.instants import SECOND, Instant, moment
from gateway.domain.job_times import JobTimes
from gateway.domain.kpi import changes, kpi_line
from gateway.domain.oee import Category
from gateway.domain.pace import Pace
from gateway.domain.standstill import KIND_OF_CATEGORY, Standstill, StandstillBook, dump_stop, load_stop
from gateway.domain.state import UNKNOWN, Condition, FaultCode, condition
from gateway.domain.timeline import Stretch, Timeline
from gateway.domain.windows import KEEP, WindowBook

CATEGORY_OF_STATE = {
    "running": Category.RUN, "setup": Category.SETUP, "unknown": Category.UNKNOWN, "maintenance": Category.MAINTENANCE,
    "break": Category.PLANNED, "not_planned": Category.PLANNED,
}  # fmt: skip
_RECENT_PRUNED = 64
NEVER = 1 << 62


class MachineTime:
    """A machine that says itself when it runs. `emit` takes the events in order, `drift` sees cycles and micro-stops.

    Call `begin` once, then rising instants only.
    """

    by_gap: ClassVar[bool] = False
    """Its state is made of the gaps between pieces alone."""

    def __init__(self, unit: WorkUnit, emit: Callable[[Event], None], drift: DriftWatch) -> None:
        self.unit = unit
        self.drift = drift
        self._emit = emit
        self.windows = WindowBook(unit.calendar, unit.time_zone)
        self.stops = StandstillBook(unit, self.windows)
        self.made = CycleWatch(self.windows, drift)
        self.pace = Pace(unit.cycles.slow_tolerance, self._cycle_ended)
        self.now: Instant = 0
        self.settled: Instant = 0
        self.condition: Condition = UNKNOWN
        self.since: Instant = 0
        self.stand: Standstill | None = None
        self.recent: list[Standstill] = []
        self.timeline = Timeline()
        self.changed_stops: dict[Instant, Standstill] = {}
        self.cycle = CycleTime(unit.cycles)
        self.last_piece: Instant | None = None
        self._gap_from: Instant | None = None  # of `MachineByGap`; here because all of one memory is written together
        self._pace_from: Instant = 0
        self._chatter = Chatter(unit.cycles)
        self.jobs = JobTimes()
        self._announced: tuple[str, str, str, str | None, FaultCode | None] = ("NotAvailable", "None", "unknown", None, None)

    def begin(self, at: Instant) -> None:
        """The first instant anybody looks; time before it is in no bucket, time until the first reading is unknown."""
        self.now = self.settled = self.since = self._pace_from = at
        self.windows.turn(at)

    # --- jobs and ideal times -------------------------------------------------------------------------------------

    @property
    def job(self) -> str | None:
        """The running job."""
        return self.jobs.present

    def set_job(self, job: str | None) -> None:
        """From now on time belongs to `job` (None: no order is running)."""
        if job != self.job:
            self.flush_pace(finished=True)
            self.made.settle()
            undecided = [self.settled if self.stand is None else self.stand.start, self.pace.oldest]
            self.jobs.change(self.now, job, forget_before=min(at for at in undecided if at is not None))

    def follow_order(self) -> None:
        """Orders began or ended. What the machine itself says stands."""

    def set_ideal(self, seconds_per_piece: float | None, pieces_per_cycle: int) -> None:
        ideal = None if seconds_per_piece is None else seconds_per_piece * SECOND
        if (ideal, pieces_per_cycle) != (self.cycle.ideal_us, self.cycle.per_cycle):
            self.flush_pace(finished=True)
            self.made.forget()
            self.cycle.ideal_us, self.cycle.per_cycle = ideal, pieces_per_cycle

    # --- time passes ----------------------------------------------------------------------------------------------

    def deadline(self) -> Instant:
        """The next instant at which something happens by itself."""
        due, stand, doubt = self.windows.boundary, self.stand, self._chatter.since
        if doubt is not None:
            due = min(due, self._chatter.due(self.condition) or due)
        if stand is not None:
            # A restart that may still be chatter leaves open whether the stop goes on: nothing more falls due before that is known.
            if not stand.decided and (doubt is None or self.stops.too_long(stand, doubt)):
                due = min(due, stand.start + self.stops.threshold + 1)
        elif self.open_gap_from is not None:
            due = min(due, self.cycle_end + self.stops.threshold + 1)
        return due

    def fire(self) -> None:
        """`now` stands at a deadline: do what is due."""
        now = self.now
        due, lasted = self._chatter.due(self.condition), self._chatter.said
        if due is not None and lasted is not None and now >= due:
            self._resolve(ran=lasted.state == "running")
            self._adopt(lasted, self._chatter.at)
        if self.stand is None and self.open_gap_from is not None and now - self.cycle_end > self.stops.threshold:
            self._adopt(condition("stopped"), self.cycle_end)
        self.settle(now)
        if now >= self.windows.boundary:
            self.flush_pace(finished=False)
            self.windows.turn(now)

    def settle(self, at: Instant) -> None:
        """Book all time before `at` that is decided."""
        if self._chatter.since is not None:
            at = min(at, self._chatter.since)
        stand = self.stand
        if stand is None:
            if self.open_gap_from is not None:
                at = min(at, self.cycle_end)
            self._book(at)
            return
        self.extend(stand, at)
        if not stand.decided and self.stops.too_long(stand, at):
            stand.long = True
            self.changed_stops[stand.start] = stand
        if stand.decided:
            self.stops.book(stand, at)
            self.settled = max(self.settled, at)

    def extend(self, stand: Standstill, at: Instant) -> None:
        """The machine stood until `at`."""
        last = stand.parts[-1].end if stand.parts else stand.start
        for _, end, job in self.jobs.cut(last, at):
            stand.extend(end, job)

    def _book(self, end: Instant) -> None:
        start = self.settled
        if end <= start:
            return
        category = CATEGORY_OF_STATE[self.condition.state]
        for low, high, job in self.jobs.cut(start, end):
            self.windows.book(low, high, category, job)
        if category is Category.RUN:
            self._pace_until(end)
        self.timeline.draw(Stretch(start, end, KIND_OF_CATEGORY[category]))
        self.settled = end

    def _pace_until(self, at: Instant) -> None:
        """Running time up to `at` counts into the present gap, booked or not.

        A change that may still be chatter is taken for real: its pieces end gaps like any others.
        """
        begin = self._pace_from
        if self.condition.state == "running":
            begin = max(begin, self.since)
        elif self._chatter.restarting:
            begin = max(begin, self._chatter.at)
        else:
            return
        self.pace.run(begin, at)
        self._pace_from = max(begin, at)

    def close_windows(self, *, all_of_them: bool = False) -> None:
        """Announce windows whose time is all decided (`all_of_them`: and those that get no more of it), and closed ones that changed."""
        for window, before in self.windows.settle(NEVER if all_of_them else self.settled):
            job = window.name if window.kind == "job" else None
            line = kpi_line(window, self.unit)
            line["changed"] = {} if before is None else changes(kpi_line(before, self.unit), line)
            self._emit(WindowClosed(work_unit=self.unit.name, at=moment(self.now), job_order_id=job, line=line))

    # --- what the machine says ------------------------------------------------------------------------------------

    @property
    def in_doubt(self) -> bool:
        """A change of condition may still be chatter."""
        return self._chatter.said is not None

    def report(self, said: Condition) -> None:
        """The machine's condition as read at `now`; chatter is held back until it has lasted long enough."""
        if said == self.condition:
            self._end_doubt()
        elif said.stands == self.condition.stands or not self._chatter.hold(said, self.condition):
            self._end_doubt()
            self._adopt(said, self.now)
        else:
            self._chatter.doubt(said, self.now)

    def _end_doubt(self) -> None:
        """The change was chatter."""
        self._resolve(ran=not self._chatter.restarting)

    def _resolve(self, *, ran: bool) -> None:
        """Now it is known whether the machine ran while that was in doubt."""
        if self._chatter.said is None:
            return
        if ran:
            self.pace.confirm()
        else:
            self.pace.cut(self._chatter.at)
            self._pace_from = min(self._pace_from, self._chatter.at)
        self._chatter.said = None

    def _adopt(self, said: Condition, at: Instant) -> None:
        """`said` holds since `at` (not before `settled`)."""
        if said == self.condition:
            return
        self.settle(at)
        if self.condition.state == "running":
            self._pace_until(at)
        stand = self.stand
        before, self.condition = self.condition, said
        self._pace_from = max(self._pace_from, at)
        if stand is not None and said.stands and (stand.transition or said.induced in (None, stand.induced)):
            self._explain_open(stand, said, at)
        else:
            if stand is not None:
                self._end_stand(at)
            if said.stands:
                self._begin_stand(at, said)
            elif before.state != said.state:
                self.since = at
        if said.state == "unknown":
            self.pace.lose()
        self._announce()

    def _begin_stand(self, at: Instant, said: Condition) -> None:
        self.stand = Standstill(at, bool(said.induced), said.reason, said.fault, booked_until=at, transition=said.induced is None)
        self.since = at

    def _explain_open(self, stand: Standstill, said: Condition, at: Instant) -> None:
        """The first reason explains back to the start; a second, different one begins a new stop; none changes nothing."""
        if stand.transition and said.induced is not None:
            self.stops.unbook(stand)
            stand.induced, stand.transition = said.induced, False
            self.settle(at)
        if said.reason is None or said.reason == stand.reason:
            return
        if stand.reason is not None:
            self._end_stand(at)
            self._begin_stand(at, said)
            return
        self.stops.unbook(stand)
        stand.reason, stand.fault = said.reason, said.fault
        self.settle(at)

    def _end_stand(self, at: Instant) -> None:
        stand = self.stand
        assert stand is not None
        self.stand = None
        if at <= stand.start:
            return
        self.extend(stand, at)
        long = self.stops.too_long(stand, at)
        if stand.booked_until > at or stand.long != long:
            # Pieces that came together show that the restart was earlier than it looked.
            self.stops.unbook(stand)
        stand.truncate(at)
        stand.end, stand.long = at, long
        self.stops.book(stand, at)
        self.settled = at
        self.recent.append(stand)
        if len(self.recent) % _RECENT_PRUNED == 0:
            self.recent = [s for s in self.recent if (s.end or at) > at - KEEP]
        self.announce_stop(stand)
        if not stand.decided:
            self.drift.micro_stop(self.now)
        self.timeline.draw(self.stops.stretch(stand))

    def announce_stop(self, stand: Standstill) -> None:
        """`stop.ended`, again with a higher revision when its explanation changed."""
        assert stand.end is not None
        stand.revision += 1
        self.changed_stops[stand.start] = stand
        self._emit(self.stops.ended(stand, self.now))

    def _announce(self) -> None:
        said, stand = self.condition, self.stand
        reason, fault = (stand.reason, stand.fault) if stand else (None, None)
        shown = (said.item_state, said.operation_mode, said.state, reason, fault)
        if shown == self._announced:
            return
        previous, self._announced = self._announced[0], shown
        self._emit(
            StateChanged(
                work_unit=self.unit.name, at=moment(self.now), job_order_id=self.job, item_state=said.item_state,
                operation_mode=said.operation_mode, state=said.state, reason=reason, fault=fault, since=moment(self.since),
                previous=previous,
            )
        )  # fmt: skip

    def lose(self) -> None:
        """The state link is gone: unknown from now on."""
        self._end_doubt()
        self._adopt(UNKNOWN, self.now)

    def pause(self) -> Condition:
        """From `now` on time is unknown, and the gap that goes on is not judged. -> what held so far, for `resume`."""
        self._end_doubt()
        self.flush_pace(finished=True)
        self.made.settle()
        self.made.forget()
        held, self._gap_from = self.condition, None
        self._adopt(UNKNOWN, self.now)
        self.settle(self.now)
        return held

    def resume(self, held: Condition) -> None:
        """What held before `pause` holds again. A machine that tells nothing but its pieces says it with the next reading."""
        if not self.by_gap:
            self._adopt(held, self.now)

    def jump(self, by: int) -> dict[str, str]:
        """After `pause`: the clock was set, and time goes on at `now + by`. -> keys of jobs' windows before and now."""
        at = self.now + by
        renamed = self.windows.jump(at, by)
        for stop in self.recent:
            stop.counted = {renamed.get(key, key): row for key, row in stop.counted.items()}
        if abs(by) > KEEP:
            self.close_windows(all_of_them=True)
            self.windows.forget_closed()
        if self.last_piece is not None:
            self.last_piece += by
        self.now = self.settled = self.since = self._pace_from = at
        self.jobs.forget()
        self.pace.jump(at)
        self.timeline.cut(at)
        self.windows.turn(at)
        return renamed

    def explain(self, stand: Standstill, reason: str, fault: FaultCode | None = None) -> None:
        """A person's reason for a stop, open or ended: all of it, wherever its time was booked."""
        self.stops.unbook(stand)
        stand.reason, stand.fault = reason, fault
        if stand.end is None:
            self.settle(self.now)
            self._announce()
        else:
            self.stops.book(stand, stand.end)
            self.announce_stop(stand)
            self.timeline.replace(self.stops.stretch(stand))

    def stop_at(self, at: Instant) -> Standstill | None:
        """The standstill that holds `at`, the open one or one of the last 48 hours."""
        if self.stand is not None and self.stand.start <= at <= self.now:
            return self.stand
        return next((s for s in reversed(self.recent) if s.start <= at < (s.end or at)), None)

    def still_since(self) -> Instant | None:
        """Since when the machine says that it does not run; None while it runs, perhaps runs, or nobody knows."""
        runs = self.by_gap or self._chatter.said is not None or self.condition.state in ("running", "unknown")
        return None if runs or self.condition.item_state == "Executing" else self.since

    # --- pieces and gaps ------------------------------------------------------------------------------------------

    def piece(self, pieces: int, *, judge: bool) -> None:
        """`pieces` were counted at `now`. `judge` False: late, a baseline or around a bad counter, so this gap says nothing."""
        if pieces:
            self.last_piece = self.now
        if not judge:
            self._pace_until(self.now)
            self.pace.restart()
        elif pieces:
            self._pace_until(self.now)
            slow = self.pace.piece(self.now, pieces, self.cycle.ideal_us, self.cycle.per_cycle, in_doubt=self.in_doubt)
            if slow:
                self._book_slow(slow)

    def _cycle_ended(self, at: Instant, run: int, pieces: int) -> None:
        self.made.ended(at, run, pieces, self.job, self.cycle.per_cycle)

    def gap_unjudged(self) -> None:
        """A counter that could not be trusted: the gap around it is not judged."""
        self.pace.lose()
        self.made.forget()

    @property
    def open_gap_from(self) -> Instant | None:
        """The last piece, where a gap that grows behind it may turn out to be a standstill that nobody tells."""
        return None

    @property
    def cycle_end(self) -> Instant:
        """Where such a standstill would begin."""
        return self.settled

    def flush_pace(self, *, finished: bool) -> None:
        """Judge waiting gaps before their job, product or window ends."""
        self._book_slow(self.pace.flush(finished=finished))

    def _book_slow(self, parts: Iterable[tuple[Instant, Instant]]) -> None:
        for start, end in parts:
            for low, high, job in self.jobs.cut(start, end):
                self.windows.book_slow([(low, high)], job)

    # --- memory ---------------------------------------------------------------------------------------------------

    def forget_changed(self) -> None:
        """Nobody will ask which records changed up to now."""
        self.windows.take_changed()
        self.timeline.take_changed()
        self.changed_stops.clear()
        self.pace.keep_finished()

    def dump(self) -> dict[str, Any]:
        return {
            "now": self.now, "settled": self.settled, "since": self.since, "condition": self.condition.dump(),
            "candidate": self._chatter.dump(),
            "stand": None if self.stand is None else dump_stop(self.stand), "windows": self.windows.dump(), "pace": self.pace.dump(),
            "ideal_us": self.cycle.ideal_us, "per_cycle": self.cycle.per_cycle, "last_piece": self.last_piece, "gap_from": self._gap_from,
            "pace_from": self._pace_from, "jobs": self.jobs.dump(), "announced": self._announced, "sustained": self.made.dump(),
        }  # fmt: skip

    def load(
        self, state: dict[str, Any], closed: Iterable[dict[str, Any]], stops: Iterable[dict[str, Any]], timeline: Iterable[dict[str, Any]]
    ) -> None:
        for name in ("now", "settled", "since", "last_piece"):
            setattr(self, name, state[name])
        self.cycle.ideal_us, self.cycle.per_cycle = state["ideal_us"], state["per_cycle"]
        self.condition = Condition(**state["condition"])
        self._chatter.load(state["candidate"])
        self.stand = None if state["stand"] is None else load_stop(state["stand"])
        self.windows.load(state["windows"], closed)
        self.pace.load(state["pace"])
        self.made.load(state.get("sustained", []))
        self._gap_from, self._pace_from = state["gap_from"], state["pace_from"]
        self.jobs.load(state["jobs"])
        item, mode, word, reason, fault = state["announced"]
        self._announced = (item, mode, word, reason, fault)
        self.recent = sorted((s for s in map(load_stop, stops) if s.end is not None and s.end > s.start), key=lambda s: s.start)
        self.timeline.load(timeline)
