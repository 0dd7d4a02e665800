"""What becomes of the queue if it is worked in another order: the same estimate as the promise's, and nothing is changed by asking.

The running job is never taken off the machine: every plan begins with it. A plan's loss is its total tardiness: the sum over its jobs of
how long after its due date each will likely be done.
Sources: earliest due date (Jackson's rule) and critical ratio are the usual dispatching rules; minimising total tardiness on one machine is
exact here by branch and bound with dominance (Baker and Trietsch, "Principles of Sequencing and Scheduling", chapters 2 and 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.domain.calendar import HORIZON, Calendar
from gateway.domain.instants import SECOND, Instant, instant, moment
from gateway.domain.job import dispatch_key
from gateway.domain.job_order import JobOrder
from gateway.domain.promise import Promise, Work, changeover_between, due_of, estimate_queue, whole_second, workload

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


@dataclass(frozen=True)
class Question:
    """`first`: a waiting job to go before all others; `priorities`: job order id -> its new priority, as its sender counts them;
    `calendar`: another one than the machine's."""

    first: str | None = None
    priorities: Mapping[str, int] | None = None
    calendar: Calendar | None = None

    @property
    def empty(self) -> bool:
        return self.first is None and not self.priorities and self.calendar is None


@dataclass(frozen=True)
class Answer:
    """`before`: as it stands; `after`: as asked, the same for an empty question. `others`: by the usual rules, and the exact one where it
    can be found; all under the calendar of the question, to be compared with `base`, the queue as it stands under that calendar."""

    before: Plan
    after: Plan
    base: Plan
    others: tuple[Plan, ...]

    @property
    def best(self) -> Plan:
        """The plan that loses least; among equals the queue as it stands, then the simplest rule."""
        return min((self.base, *self.others), key=lambda plan: round(plan.late_s))

    @property
    def becomes_late(self) -> tuple[Slot, ...]:
        """What is late after and was not before."""
        late = {slot.order.job_order_id for slot in self.before.slots if slot.late_s}
        return tuple(slot for slot in self.after.slots if slot.late_s and slot.order.job_order_id not in late)


class Queue:
    """A machine's queue as it stands at `now`. `running`: the job on the machine; `waiting`: the released ones in dispatch order;
    `later`: what is stored or interrupted and will need the machine some time, after these for all that is known."""

    def __init__(
        self, now: Instant, running: Work | None, waiting: Sequence[Work], calendar: Calendar, *, changeover_s: float = 0.0,
        later: Sequence[Work] = (),
    ) -> None:  # fmt: skip
        self._now = now
        self._running = running
        self._waiting = tuple(waiting)
        self._calendar = calendar
        self._changeover_s = changeover_s
        self._later = tuple(later)

    @property
    def now(self) -> datetime:
        return moment(self._now)

    @property
    def waiting_ids(self) -> tuple[str, ...]:
        return tuple(work.order.job_order_id for work in self._waiting)

    def ask(self, question: Question) -> Answer:
        """Raises KeyError for a job that does not wait here."""
        before = self.as_it_stands()
        there = self if question.calendar is None else self.under(question.calendar)
        base = before if question.calendar is None else there.as_it_stands()
        after = there.with_priorities(question.priorities or {})
        asked = after.as_it_stands() if question.first is None else after.first(question.first)
        exact = there.least_late()
        others = (there.earliest_due(), there.critical_ratio(), *([exact] if exact is not None else []))
        return Answer(before, asked, base, others)

    def under(self, calendar: Calendar) -> Queue:
        """The same queue under another calendar."""
        return Queue(self._now, self._running, self._waiting, calendar, changeover_s=self._changeover_s, later=self._later)

    def with_priorities(self, priorities: Mapping[str, int]) -> Queue:
        """The queue as it sorts itself with other priorities. Raises KeyError for a job that does not wait here."""
        missing = next((job for job in priorities if job not in self.waiting_ids), None)
        if missing is not None:
            raise KeyError(missing)
        works = [
            replace(work, order=_with_priority(work.order, priorities[work.order.job_order_id]))
            if work.order.job_order_id in priorities else work
            for work in self._waiting
        ]  # fmt: skip
        works.sort(key=lambda work: dispatch_key(work.order, work.arrival))
        return Queue(self._now, self._running, works, self._calendar, changeover_s=self._changeover_s, later=self._later)

    def promises(self) -> list[Promise]:
        """Of all jobs, in order: the running one, those that wait, and those for later."""
        return self._estimate([*self._at_work(), *self._waiting, *self._later])

    def offer(self, order: Work) -> Promise:
        """Of one order more, behind all others."""
        ahead = [*self._at_work(), *self._waiting, *self._later]
        return self._estimate([*ahead, replace(order, arrival=max((work.arrival for work in ahead), default=0))])[-1]

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
        if len(self._waiting) > EXACT_UP_TO or any(p.eta_likely is None for p in self._estimate([*self._at_work(), *self._waiting])):
            return None
        return self.plan("least_late", [self._waiting[i] for i in self._search()])

    def plan(self, rule: str, waiting: Sequence[Work]) -> Plan:
        works = [*self._at_work(), *waiting]
        slots = [Slot(w.order, p, _late_s(p.eta_likely, w.order)) for w, p in zip(works, self._estimate(works), strict=True)]
        return Plan(rule, tuple(slots))

    def _at_work(self) -> tuple[Work, ...]:
        return () if self._running is None else (self._running,)

    def _estimate(self, works: Sequence[Work]) -> list[Promise]:
        return estimate_queue(self._now, works, self._calendar, changeover_s=self._changeover_s)

    def _ratio(self, work: Work) -> tuple[float, float]:
        load, due = workload(work)[0], due_of(work.order)
        if load is None or due is None:
            return float("inf"), 0.0
        left_s = self._calendar.required(self._now, max(instant(due), self._now)) / SECOND
        return left_s / max(load.likely_s, 1.0), due.timestamp()

    def _search(self) -> list[int]:
        """Places of the waiting jobs in the order with the least total tardiness.

        Of two ways to do the same jobs up to the same last one, the one that is later done and has lost more can never end better: it
        is dropped. So eight jobs take some hundred steps, not forty thousand.
        """
        works = self._waiting
        best: tuple[float, list[int]] = (float("inf"), list(range(len(works))))
        seen: dict[tuple[int, int], list[tuple[Instant, float]]] = {}

        def walk(order: list[int], done: int, at: Instant, late_s: float) -> None:
            nonlocal best
            if late_s >= best[0]:
                return
            if len(order) == len(works):
                best = (late_s, list(order))
                return
            ways = seen.setdefault((done, order[-1] if order else -1), [])
            if any(other_at <= at and other_late <= late_s for other_at, other_late in ways):
                return
            ways.append((at, late_s))
            behind = works[order[-1]] if order else self._running
            for job, work in enumerate(works):
                if not done >> job & 1:
                    end = self._done_at(at, behind, work)
                    walk([*order, job], done | 1 << job, end, late_s + (_late_s(whole_second(end), work.order) or 0.0))

        walk([], 0, self._now if self._running is None else self._done_at(self._now, None, self._running), 0.0)
        return best[1]

    def _done_at(self, at: Instant, behind: Work | None, work: Work) -> Instant:
        """The likely end of a job begun at `at`, as `estimate_queue` has it; beyond the calendar, its horizon."""
        limit = self._now + HORIZON
        load, wait = workload(work)[0], work.route.wait
        likely_s = load.likely_s if load is not None else 0.0
        if wait is not None and wait.likely is not None and likely_s > 0:
            at = max(at, instant(wait.likely))
        changeover_s = 0.0 if behind is None else changeover_between(behind.order, work.order, self._changeover_s)
        return self._calendar.after_required(at, round((changeover_s + likely_s) * SECOND), limit=limit) or limit


def free_from(now: Instant, promises: Sequence[Promise]) -> Instant | None:
    """When the last of these is likely done; now without any, None when one has no end date."""
    dates = [instant(promise.eta_likely) for promise in promises if promise.eta_likely is not None]
    return None if len(dates) < len(promises) else max(dates, default=now)


def _with_priority(order: JobOrder, priority: int) -> JobOrder:
    """The customer's priority is the one that counts where there is one."""
    customer = order.customer
    if customer is not None and customer.priority is not None:
        return replace(order, customer=replace(customer, priority=priority))
    return replace(order, priority=priority)


def _due_key(work: Work) -> float:
    due = due_of(work.order)
    return float("inf") if due is None else due.timestamp()


def _late_s(eta: datetime | None, order: JobOrder) -> float | None:
    due = due_of(order)
    return None if eta is None or due is None else max((eta - due) / timedelta(seconds=1), 0.0)
