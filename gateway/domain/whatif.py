"""What becomes of the queue if it is worked in another order: the same estimate as the promise's, and nothing is changed by asking.

The running job is never taken off the machine: every plan begins with it. A plan's loss is its total tardiness: the sum over its jobs of
how long after its due date each will likely be done.
Sources: earliest due date (Jackson's rule) and critical ratio are the usual dispatching rules; minimising total tardiness on one machine is
exact here by branch and bound (Baker and Trietsch, "Principles of Sequencing and Scheduling", chapters 2 and 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.domain.calendar import HORIZON, Calendar
from gateway.domain.instants import SECOND, Instant, instant
from gateway.domain.job_order import JobOrder
from gateway.domain.promise import Promise, Work, due_of, estimate_queue, workload

EXACT_UP_TO = 8
"""Jobs whose order is searched exactly; with more, the number of orders grows beyond what a page may wait for."""


@dataclass(frozen=True)
class Slot:
    """One job of a plan. `late_s`: how long after its due date it will likely be done; 0 in time, None without a date or a due date."""

    order: JobOrder
    promise: Promise
    late_s: float | None


@dataclass(frozen=True)
class Plan:
    """A queue in one order. `rule` says how that order came about."""

    rule: str
    slots: tuple[Slot, ...]

    @property
    def late_s(self) -> float:
        """Total tardiness; jobs without a date count nothing."""
        return sum(slot.late_s or 0.0 for slot in self.slots)

    @property
    def late_count(self) -> int:
        return sum(bool(slot.late_s) for slot in self.slots)


class Queue:
    """A machine's queue as it stands at `now`. `running`: the job on the machine; `waiting`: the released ones in dispatch order."""

    def __init__(
        self, now: Instant, running: Work | None, waiting: Sequence[Work], calendar: Calendar, *, changeover_s: float = 0.0
    ) -> None:
        self._now = now
        self._running = running
        self._waiting = tuple(waiting)
        self._calendar = calendar
        self._changeover_s = changeover_s

    def as_it_stands(self) -> Plan:
        return self.plan("present", self._waiting)

    def first(self, job_order_id: str) -> Plan:
        """The queue with this job before all others that wait. Raises KeyError for a job that does not wait here."""
        chosen = next((work for work in self._waiting if work.order.job_order_id == job_order_id), None)
        if chosen is None:
            raise KeyError(job_order_id)
        return self.plan("first", (chosen, *(work for work in self._waiting if work is not chosen)))

    def earliest_due(self) -> Plan:
        """Jobs without a due date last, in their present order."""
        return self.plan("earliest_due_date", sorted(self._waiting, key=_due_key))

    def critical_ratio(self) -> Plan:
        """By required time left until the due date over work left, the smallest first: under 1 it will be late."""
        return self.plan("critical_ratio", sorted(self._waiting, key=self._ratio))

    def least_late(self) -> Plan | None:
        """The order with the smallest total tardiness; of equal ones the nearest to the present order. None for more than
        `EXACT_UP_TO` jobs, or where a job has no end date, so that nobody can say."""
        if len(self._waiting) > EXACT_UP_TO:
            return None
        spent = [workload(work)[0] for work in self._waiting]
        if any(load is None for load in spent) or (self._running is not None and workload(self._running)[0] is None):
            return None
        return self.plan("least_late", [self._waiting[i] for i in self._search([load.likely_s for load in spent if load is not None])])

    def plan(self, rule: str, waiting: Sequence[Work]) -> Plan:
        works = [*([self._running] if self._running is not None else []), *waiting]
        promises = estimate_queue(self._now, works, self._calendar, changeover_s=self._changeover_s)
        return Plan(rule, tuple(Slot(w.order, p, _late_s(p.eta_likely, w.order)) for w, p in zip(works, promises, strict=True)))

    def _ratio(self, work: Work) -> tuple[float, float]:
        load, due = workload(work)[0], due_of(work.order)
        if load is None or due is None:
            return float("inf"), 0.0
        left_s = self._calendar.required(self._now, max(instant(due), self._now)) / SECOND
        return left_s / max(load.likely_s, 1.0), due.timestamp()

    def _search(self, spent_s: Sequence[float]) -> list[int]:
        """Places of the waiting jobs in the order with the least total tardiness."""
        head = workload(self._running)[0] if self._running is not None else None
        start_s = head.likely_s if head is not None else 0.0
        dues = [due_of(work.order) for work in self._waiting]
        done_at = self._clock()
        best: tuple[float, list[int]] = (float("inf"), list(range(len(spent_s))))

        def walk(order: list[int], elapsed_s: float, late_s: float) -> None:
            nonlocal best
            if late_s >= best[0]:
                return
            if len(order) == len(spent_s):
                best = (late_s, list(order))
                return
            for job in range(len(spent_s)):
                if job in order:
                    continue
                changeover_s = self._changeover_s if order or self._running is not None else 0.0
                after_s = elapsed_s + changeover_s + spent_s[job]
                due = dues[job]
                late = 0.0 if due is None else max((done_at(after_s) - instant(due)) / SECOND, 0.0)
                walk([*order, job], after_s, late_s + late)

        walk([], start_s, 0.0)
        return best[1]

    def _clock(self) -> Callable[[float], Instant]:
        """When so much required time from now on will have passed; beyond the calendar, its horizon."""
        known: dict[int, Instant] = {}
        limit = self._now + HORIZON

        def done_at(elapsed_s: float) -> Instant:
            work = round(elapsed_s * SECOND)
            if work not in known:
                known[work] = self._calendar.after_required(self._now, work, limit=limit) or limit
            return known[work]

        return done_at


def _due_key(work: Work) -> float:
    due = due_of(work.order)
    return float("inf") if due is None else due.timestamp()


def _late_s(eta: datetime | None, order: JobOrder) -> float | None:
    due = due_of(order)
    return None if eta is None or due is None else max((eta - due) / timedelta(seconds=1), 0.0)
