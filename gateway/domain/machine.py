"""The time side of a work unit: its condition, standstills and windows; every instant is booked exactly once.

Time is booked lazily: `settled` is the instant before which everything is in the windows. A standstill that is neither
explained nor longer than the threshold is not decided, so its time waits, and so does the closing of a window it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gateway.domain.equipment import StateFromCounts, WorkUnit
from gateway.domain.events import Event, StateChanged, StopEnded, WindowClosed
from gateway.domain.instants import SECOND, Instant, moment, seconds, timestamp
from gateway.domain.oee import Category, Window, kpi_line
from gateway.domain.pace import Pace
from gateway.domain.standstill import Standstill, StandstillBook, dump_stop, load_stop
from gateway.domain.state import RUNNING, UNKNOWN, Condition, FaultCode, condition
from gateway.domain.windows import KEEP, WindowBook

_CATEGORY = {
    "running": Category.RUN, "setup": Category.SETUP, "unknown": Category.UNKNOWN, "maintenance": Category.PLANNED,
    "break": Category.PLANNED, "not_planned": Category.PLANNED,
}  # fmt: skip
_KIND = {Category.RUN: "run", Category.SETUP: "setup", Category.UNKNOWN: "unknown", Category.PLANNED: "planned",
         Category.STOP: "stop", Category.UNLOADED: "no_order", Category.MICRO: "run"}  # fmt: skip


@dataclass
class Stretch:
    """A stretch of the timeline that page and reports draw; micro-stops are inside `run`."""

    start: Instant
    end: Instant
    kind: str
    reason: str | None = None
    fault: FaultCode | None = None
    induced: bool = False


class MachineTime:
    """`emit` takes the events in order. Call `begin` once, then rising instants only."""

    def __init__(self, unit: WorkUnit, emit: Callable[[Event], None]) -> None:
        self.unit = unit
        self._emit = emit
        self.by_gap = isinstance(unit.state, StateFromCounts)
        self.windows = WindowBook(unit.calendar, unit.time_zone)
        self.stops = StandstillBook(unit, self.windows)
        self.pace = Pace(unit.cycles.slow_tolerance)
        self.now: Instant = 0
        self.settled: Instant = 0
        self.condition: Condition = UNKNOWN
        self.since: Instant = 0
        self.stand: Standstill | None = None
        self.recent: list[Standstill] = []
        self.timeline: list[Stretch] = []
        self.changed_stops: dict[Instant, Standstill] = {}
        self.changed_stretches: dict[Instant, Stretch] = {}
        self.ideal_us: float | None = None
        self.per_cycle = 1
        self.last_piece: Instant | None = None
        self._gap_from: Instant | None = None
        self._pace_from: Instant = 0
        self._candidate: tuple[Condition, Instant] | None = None
        self._jobs: list[tuple[Instant, str | None]] = [(0, None)]
        self._announced: tuple[str, str, str, str | None, FaultCode | None] = ("NotAvailable", "None", "unknown", None, None)

    def begin(self, at: Instant) -> None:
        """The first instant anybody looks; time before it is in no bucket, time until the first reading is unknown."""
        self.now = self.settled = self.since = self._pace_from = at
        self.windows.turn(at)

    # --- jobs and ideal times -------------------------------------------------------------------------------------

    @property
    def job(self) -> str | None:
        return self._jobs[-1][1]

    def set_job(self, job: str | None) -> None:
        """From now on time belongs to `job` (None: no order is running)."""
        if job != self.job:
            self.flush_pace(finished=True)
            self._jobs = [j for i, j in enumerate(self._jobs) if i + 1 == len(self._jobs) or self._jobs[i + 1][0] > self.settled]
            self._jobs.append((self.now, job))

    def set_ideal(self, seconds_per_piece: float | None, pieces_per_cycle: int) -> None:
        ideal = None if seconds_per_piece is None else seconds_per_piece * SECOND
        if (ideal, pieces_per_cycle) != (self.ideal_us, self.per_cycle):
            self.flush_pace(finished=True)
            self.ideal_us, self.per_cycle = ideal, pieces_per_cycle

    def _by_job(self, start: Instant, end: Instant) -> list[tuple[Instant, Instant, str | None]]:
        """[start, end) cut where the running job changed."""
        cuts = []
        for index, (since, job) in enumerate(self._jobs):
            until = self._jobs[index + 1][0] if index + 1 < len(self._jobs) else end
            low, high = max(start, since), min(end, until)
            if high > low:
                cuts.append((low, high, job))
        return cuts

    # --- time passes ----------------------------------------------------------------------------------------------

    def deadline(self) -> Instant:
        """The next instant at which something happens by itself."""
        due = self.windows.boundary
        if self._candidate is not None:
            due = min(due, self._candidate[1] + self._hold(self._candidate[0]))
        if self.stand is not None:
            if not self.stand.decided:
                due = min(due, self.stand.start + self.stops.threshold + 1)
        elif self._gap_from is not None and self.condition.state == "running":
            due = min(due, self._gap_from + self._cycle_us() + self.stops.threshold + 1)
        return due

    def fire(self) -> None:
        """`now` stands at a deadline: do what is due."""
        now = self.now
        if self._candidate is not None and now >= self._candidate[1] + self._hold(self._candidate[0]):
            (adopted, at), self._candidate = self._candidate, None
            self._adopt(adopted, at)
        if self.stand is None and self._gap_from is not None and self.condition.state == "running":
            begin = self._gap_from + self._cycle_us()
            if now - begin > self.stops.threshold:
                self._adopt(condition("stopped"), begin)
        self.settle(now)
        if now >= self.windows.boundary:
            self.flush_pace(finished=False)
            self.windows.turn(now)
        self.close_windows()

    def settle(self, at: Instant) -> None:
        """Book all time before `at` that is decided."""
        if self._candidate is not None:
            at = min(at, self._candidate[1])
        stand = self.stand
        if stand is None:
            if self._gap_from is not None and self.condition.state == "running":
                at = min(at, self._gap_from + self._cycle_us())
            self._book(at)
            return
        self._extend(stand, at)
        if not stand.decided and self.stops.too_long(stand, at):
            stand.long = True
            self.changed_stops[stand.start] = stand
        if stand.decided:
            self.stops.book(stand, at)
            self.settled = max(self.settled, at)

    def _extend(self, stand: Standstill, at: Instant) -> None:
        last = stand.parts[-1].end if stand.parts else stand.start
        for _, end, job in self._by_job(last, at):
            stand.extend(end, job)

    def _book(self, end: Instant) -> None:
        start = self.settled
        if end <= start:
            return
        category = _CATEGORY[self.condition.state]
        for low, high, job in self._by_job(start, end):
            self.windows.book(low, high, category, job)
        if category is Category.RUN:
            self._pace_until(end)
        self._draw(Stretch(start, end, _KIND[category]))
        self.settled = end

    def _pace_until(self, at: Instant) -> None:
        """Running time up to `at` counts into the present gap, booked or not."""
        if self.condition.state == "running":
            self.pace.run(max(self._pace_from, self.since), at)
        self._pace_from = max(self._pace_from, at)

    def close_windows(self) -> None:
        """Announce windows whose time is all decided, and closed ones that changed."""
        for window in self.windows.settle(self.settled):
            job = window.name if window.kind == "job" else None
            self._emit(WindowClosed(work_unit=self.unit.name, at=moment(self.now), job_order_id=job, line=kpi_line(window, self.unit)))

    # --- what the machine says ------------------------------------------------------------------------------------

    def report(self, said: Condition) -> None:
        """The machine's condition as read at `now`; chatter is held back until it has lasted long enough."""
        if said == self.condition:
            self._candidate = None
            return
        hold = self._hold(said)
        if hold == 0 or said.stands == self.condition.stands:
            self._candidate = None
            self._adopt(said, self.now)
        elif self._candidate is None or self._candidate[0].stands != said.stands:
            self._candidate = (said, self.now)
        else:
            self._candidate = (said, self._candidate[1])

    def _hold(self, said: Condition) -> int:
        """How long a change must last: a stop `ignore_under`, a run after a stop `min_run`; anything else counts at once."""
        if said.stands and self.condition.state == "running":
            return round(self.unit.cycles.ignore_under_s * SECOND)
        if said.state == "running" and self.condition.stands:
            return round(self.unit.cycles.min_run_s * SECOND)
        return 0

    def _adopt(self, said: Condition, at: Instant) -> None:
        """`said` holds since `at` (not before `settled`)."""
        if said == self.condition:
            return
        self.settle(at)
        if self.condition.state == "running":
            self._pace_until(at)
        stand = self.stand
        before, self.condition = self.condition, said
        self._pace_from = at
        if stand is not None and said.stands and said.induced in (None, stand.induced):
            self._explain_open(stand, said, at)
        else:
            if stand is not None:
                self._end_stand(at)
            if said.stands:
                self._begin_stand(at, said)
            elif not (before.state == said.state):
                self.since = at
        if said.state == "unknown":
            self.pace.lose()
        self._announce()

    def _begin_stand(self, at: Instant, said: Condition) -> None:
        self.stand = Standstill(at, bool(said.induced), said.reason, said.fault, booked_until=at)
        self.since = at

    def _explain_open(self, stand: Standstill, said: Condition, at: Instant) -> None:
        """The first reason explains back to the start; a second, different one begins a new stop; none changes nothing."""
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
        self._extend(stand, at)
        stand.truncate(at)
        stand.end = at
        if not stand.long and self.stops.too_long(stand, at):
            stand.long = True
        elif stand.long and not self.stops.too_long(stand, at):
            # Pieces that came together show that the restart was earlier than it looked.
            self.stops.unbook(stand)
            stand.long = False
        self.stops.book(stand, at)
        self.settled = max(self.settled, at)
        self.recent = [s for s in self.recent if (s.end or at) > at - KEEP]
        self.recent.append(stand)
        self.announce_stop(stand)
        self._draw_stop(stand)

    def announce_stop(self, stand: Standstill) -> None:
        """`stop.ended`, again with a higher revision when its explanation changed."""
        assert stand.end is not None
        stand.revision += 1
        self.changed_stops[stand.start] = stand
        job = next((p.job for p in stand.parts if p.job), None)
        self._emit(
            StopEnded(
                work_unit=self.unit.name, at=moment(self.now), job_order_id=job, stop_id=self.stop_id(stand), revision=stand.revision,
                class_=stand.class_, from_=moment(stand.start), to=moment(stand.end), duration_s=seconds(stand.end - stand.start),
                reason=stand.reason, reason_class=self.stops.reason_class(stand.reason), fault=stand.fault,
                induced=self.stops.induced(stand),
            )
        )  # fmt: skip

    def stop_id(self, stand: Standstill) -> str:
        return f"{self.unit.name}/{timestamp(moment(stand.start))}"

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
        self._candidate = None
        if self.by_gap:
            self._gap_from, at = None, self.now
            self._adopt(UNKNOWN, at)
        else:
            self._adopt(UNKNOWN, self.now)

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
            self._redraw(stand)

    def stop_at(self, at: Instant) -> Standstill | None:
        """The standstill that holds `at`, the open one or one of the last 48 hours."""
        if self.stand is not None and self.stand.start <= at <= self.now:
            return self.stand
        return next((s for s in reversed(self.recent) if s.start <= at < (s.end or at)), None)

    # --- pieces and gaps ------------------------------------------------------------------------------------------

    def _cycle_us(self) -> int:
        return round((self.ideal_us or 0) * self.per_cycle)

    def piece(self, pieces: int, *, judge: bool) -> None:
        """`pieces` were counted at `now`. `judge` False: late, a baseline or around a bad counter, so this gap says nothing."""
        if self.by_gap:
            self._gap_piece(pieces, judge=judge)
        if pieces:
            self.last_piece = self.now
        self._pace_until(self.now)
        if not judge:
            self.pace.restart()
        elif pieces:
            self.windows.book_slow(self.pace.piece(self.now, pieces, self.ideal_us, self.per_cycle), self.job)

    def gap_unjudged(self) -> None:
        """A counter that could not be trusted: the gap around it is not judged."""
        self.pace.lose()
        if self.by_gap and self._gap_from is not None and self.stand is None:
            self._gap_from = self.now
            self.settle(self.now)

    def _gap_piece(self, pieces: int, *, judge: bool) -> None:
        """State from the gap between pieces alone: run for their ideal time, then a micro-stop or a stop of the excess."""
        last, now = self._gap_from, self.now
        if last is None or not judge:
            self._gap_from = now
            self._adopt(RUNNING, now)
            return
        if not pieces:
            return
        cycle = self._cycle_us()
        expected = max(round(pieces * (self.ideal_us or 0)), cycle)
        rules = self.unit.cycles
        slow = max(rules.micro_factor * expected, rules.micro_min_s * SECOND)
        restart = now - (expected - cycle)
        if self.stand is not None:
            self._adopt(RUNNING, max(restart, self.stand.start + 1))
        elif cycle and now - last > max(slow, expected * (1 + rules.slow_tolerance)):
            self.settle(last + cycle)
            self._pace_until(last + cycle)
            self._silent_stand(last + cycle, restart)
        self._gap_from = now
        self.settle(now)

    def _silent_stand(self, start: Instant, end: Instant) -> None:
        """A micro-stop that shows only when it is over: no state change is announced for it."""
        since = self.since
        self._begin_stand(start, condition("stopped"))
        self._end_stand(end)
        self.since, self._pace_from = since, end

    def flush_pace(self, *, finished: bool) -> None:
        """Judge waiting gaps before their job, product or window ends."""
        self.windows.book_slow(self.pace.flush(finished=finished), self.job)

    # --- pictures -------------------------------------------------------------------------------------------------

    def pending_windows(self) -> list[Window]:
        """Copies of the open and closing windows with all time up to `now` booked as it looks at `now`."""
        copy = WindowBook(self.unit.calendar, self.unit.time_zone)
        copy.open = {k: w.copy() for k, w in self.windows.open.items()}
        copy.closing = [w.copy() for w in self.windows.closing]
        stops = StandstillBook(self.unit, copy)
        now, start = self.now, self.settled
        stand = self.stand
        if stand is None and self.by_gap and self._gap_from is not None and self.condition.state == "running":
            stand = self._open_gap(copy)
            start = stand.start if stand else now
        if stand is not None:
            seen = load_stop(dump_stop(stand))
            self._extend(seen, now)
            seen.long = seen.long or stops.too_long(seen, now)
            stops.book(seen, now)
        elif start < now:
            for low, high, job in self._by_job(start, now):
                copy.book(low, high, _CATEGORY[self.condition.state], job)
        return [*copy.open.values(), *copy.closing]

    def _open_gap(self, copy: WindowBook) -> Standstill | None:
        """The gap since the last piece judged by its length so far, booked into `copy` as far as it is run."""
        assert self._gap_from is not None
        cycle, rules, gap = self._cycle_us(), self.unit.cycles, self.now - self._gap_from
        slow = max(rules.micro_factor * cycle, rules.micro_min_s * SECOND)
        stands = bool(cycle) and gap > max(slow, cycle * (1 + rules.slow_tolerance))
        until = min(self.now, self._gap_from + cycle) if stands else self.now
        for low, high, job in self._by_job(self.settled, until):
            copy.book(low, high, Category.RUN, job)
        if stands:
            return Standstill(until, induced=False, booked_until=until)
        if cycle and gap > cycle * (1 + rules.slow_tolerance):
            copy.book_slow([(self._gap_from + cycle, self.now)], self.job)
        return None

    # --- the timeline ---------------------------------------------------------------------------------------------

    def _draw(self, stretch: Stretch) -> None:
        last = self.timeline[-1] if self.timeline else None
        same = last is not None and last.kind == stretch.kind and last.end == stretch.start
        if last is not None and same and stretch.kind != "stop":
            last.end = stretch.end
            stretch = last
        else:
            self.timeline.append(stretch)
            if len(self.timeline) % 64 == 0:
                self.timeline = [s for s in self.timeline if s.end > stretch.end - KEEP]
        self.changed_stretches[stretch.start] = stretch

    def _draw_stop(self, stand: Standstill) -> None:
        assert stand.end is not None
        kind = _KIND[self.stops.category(stand, stand.parts[0].job if stand.parts else None)]
        shown = (stand.reason, stand.fault, self.stops.induced(stand)) if kind != "run" else (None, None, False)
        self._draw(Stretch(stand.start, stand.end, kind, *shown))

    def _redraw(self, stand: Standstill) -> None:
        """The stop's explanation changed after it was drawn; a micro-stop that became a stop gets its own stretch."""
        assert stand.end is not None
        kind = _KIND[self.stops.category(stand, stand.parts[0].job if stand.parts else None)]
        new = Stretch(stand.start, stand.end, kind, stand.reason, stand.fault, self.stops.induced(stand))
        pieces: list[Stretch] = []
        for old in self.timeline:
            if old.end <= stand.start or old.start >= stand.end:
                pieces.append(old)
                continue
            if old.start < stand.start:
                pieces.append(Stretch(old.start, stand.start, old.kind, old.reason, old.fault, old.induced))
            if not pieces or pieces[-1] is not new:
                pieces.append(new)
            if old.end > stand.end:
                pieces.append(Stretch(stand.end, old.end, old.kind, old.reason, old.fault, old.induced))
        self.timeline = pieces
        self.changed_stretches.update({s.start: s for s in pieces if s.start <= stand.end and s.end >= stand.start})

    # --- memory ---------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {
            "now": self.now, "settled": self.settled, "since": self.since, "condition": _dump_condition(self.condition),
            "candidate": None if self._candidate is None else [_dump_condition(self._candidate[0]), self._candidate[1]],
            "stand": None if self.stand is None else dump_stop(self.stand), "windows": self.windows.dump(), "pace": self.pace.dump(),
            "ideal_us": self.ideal_us, "per_cycle": self.per_cycle, "last_piece": self.last_piece, "gap_from": self._gap_from,
            "pace_from": self._pace_from, "jobs": self._jobs, "announced": self._announced,
        }  # fmt: skip

    def load(
        self, state: dict[str, Any], closed: Iterable[dict[str, Any]], stops: Iterable[dict[str, Any]], timeline: Iterable[dict[str, Any]]
    ) -> None:
        for name in ("now", "settled", "since", "ideal_us", "per_cycle", "last_piece"):
            setattr(self, name, state[name])
        self.condition = Condition(**state["condition"])
        if state["candidate"] is not None:
            self._candidate = (Condition(**state["candidate"][0]), state["candidate"][1])
        self.stand = None if state["stand"] is None else load_stop(state["stand"])
        self.windows.load(state["windows"], closed)
        self.pace.load(state["pace"])
        self._gap_from, self._pace_from = state["gap_from"], state["pace_from"]
        self._jobs = [(since, job) for since, job in state["jobs"]]
        item, mode, word, reason, fault = state["announced"]
        self._announced = (item, mode, word, reason, fault)
        self.recent = sorted((s for s in map(load_stop, stops) if s.end is not None), key=lambda s: s.start)
        self.timeline = sorted((Stretch(**t) for t in timeline), key=lambda s: s.start)


def _dump_condition(said: Condition) -> dict[str, Any]:
    return {
        "state": said.state, "reason": said.reason, "fault": said.fault, "induced": said.induced, "item_state": said.item_state,
        "operation_mode": said.operation_mode, "unmapped": said.unmapped,
    }  # fmt: skip
