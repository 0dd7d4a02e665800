"""When a job will be done: likely and safe, through the calendar, at the good rate this machine really reaches.

The likely date uses the mean time per good piece, stops included. The safe date adds a margin for what the counts of past buckets
show: their variance, how bad spells cluster (lag-1 autocorrelation), how little was observed so far, and the stops not yet seen.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from math import sqrt
from typing import Any

from gateway.domain.calendar import HORIZON, Calendar, Span, SpanKind
from gateway.domain.events import Quantity
from gateway.domain.handover import NO_ROUTE, Route
from gateway.domain.instants import SECOND, Instant, instant, moment
from gateway.domain.job_order import JobOrder

BUCKET_S = 300
"""Long enough to hold several pieces of most machines, short enough to know the spread after an hour."""
_MEMORY_BUCKETS = 288.0
"""Older buckets fade with this constant: a day of required time, so that a rate follows tool and material, not the last hour."""
_ENOUGH_S = 900.0
_ENOUGH_GOOD = 20.0
"""Below either of the two the observed rate is chance; the ideal time with LIKELY_FACTOR and SAFE_FACTOR speaks instead."""
LIKELY_FACTOR = 1.25
"""Ideal time / 0.8: a good machine's OEE while it has work."""
SAFE_FACTOR = 1.75
_ENOUGH_PAIRS = 6.0
_SAFE_SIGMAS = 2.0
"""About 95 % of a skewed sum: long stops are rare and large, so the normal 1.645 would hold in too few cases."""
_PRIOR_BUCKETS = 12.0
_PRIOR_VARIANCE = 0.6
"""An hour's worth of belief that counts vary by 0.6 times their mean squared, as with a stop of 8 min every hour: the first long
stop must not come as a surprise only because it has not been seen yet. Tuned on seeded runs, see the test of the safe date."""
_MAX_CLUSTERING = 8.0
"""Bound on how much clustered stops may widen the margin: an estimate from few buckets must not run away."""
_PERSISTENCE = 60 * SECOND
_MOVED = 900 * SECOND
"""A date without a verdict that moved by less is the same date to whoever plans with it."""


class PromiseVerdict(StrEnum):
    ON_TIME = "on_time"
    AT_RISK = "at_risk"
    LATE = "late"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Promise:
    """Aware UTC datetimes, None when there is no date to give; `basis` says in one sentence where they come from."""

    eta_likely: datetime | None
    eta_safe: datetime | None
    verdict: PromiseVerdict
    basis: str


@dataclass(frozen=True)
class Workload:
    """Required time that a piece of work needs: likely, and what the safe date adds; both in seconds."""

    likely_s: float
    margin_s: float


@dataclass(frozen=True)
class Rate:
    """An observed good rate. `variance` is that of the good count of one of its `buckets`, widened for clustered and rare stops."""

    s_per_good: float
    observed_s: float
    buckets: float
    variance: float

    def workload(self, remaining: float) -> Workload:
        """Seconds of required time for `remaining` good pieces."""
        likely_s = remaining * self.s_per_good
        ahead = likely_s / BUCKET_S
        # Spread of what is to come, and of the mean that few buckets give: the second grows with the square of the distance.
        spread = sqrt(self.variance * (ahead + ahead * ahead / max(self.buckets, 1.0)))
        return Workload(likely_s, _SAFE_SIGMAS * spread * self.s_per_good)


@dataclass
class _Learned:
    """Sums over closed buckets, each faded by 1 - 1/_MEMORY_BUCKETS a bucket, and the bucket that is still open."""

    seen: Instant | None = None
    open_us: int = 0
    open_good: float = 0.0
    previous: float | None = None
    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    pairs: float = 0.0
    products: float = 0.0


class RateLearner:
    """Learns the seconds of required time per good piece of one product on one machine, in constant memory.

    `observe` is called with every delta of good pieces while the job runs (0 counts too: time passes), `suspend` when it stops being
    the running job, so that time without it is not counted. Breaks and closed time never count.
    """

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._learned = _Learned()

    def observe(self, at: Instant, good: Quantity) -> None:
        """`good` pieces (a correction may be negative) since the call before; an `at` that runs backwards adds no time."""
        learned = self._learned
        seen, learned.seen = learned.seen, at if learned.seen is None else max(at, learned.seen)
        required_us = self._calendar.required(seen, at) if seen is not None and at > seen else 0
        pieces = float(good)
        bucket_us = BUCKET_S * SECOND
        # Pieces of one long silence were made all along it, not at its end: each bucket gets its share.
        while learned.open_us + required_us >= bucket_us:
            take = bucket_us - learned.open_us
            share = pieces * take / required_us if required_us else 0.0
            self._close(learned.open_good + share)
            pieces -= share
            required_us -= take
        learned.open_us += required_us
        learned.open_good += pieces

    def clock_set(self, by: int) -> None:
        if self._learned.seen is not None:
            self._learned.seen += by

    def suspend(self) -> None:
        """The job no longer runs; time until the next `observe` is not its own."""
        self._learned.seen = None

    @property
    def rate(self) -> Rate | None:
        """None before enough was observed (15 min of required time and 20 good pieces)."""
        learned = self._learned
        n = learned.weight
        observed_s = n * BUCKET_S + learned.open_us / SECOND
        good = learned.total + learned.open_good
        if observed_s < _ENOUGH_S or good < _ENOUGH_GOOD:
            return None
        mean = learned.total / n
        variance = max(learned.squares / n - mean * mean, 0.0) * n / max(n - 1.0, 1.0)
        # Counts cannot be steadier than their own rounding: a piece falls into one bucket or the next (variance 1/6).
        clustered = max(variance, 1 / 6) * self._clustering(mean, variance)
        blended = (n * clustered + _PRIOR_BUCKETS * _PRIOR_VARIANCE * mean * mean) / (n + _PRIOR_BUCKETS)
        return Rate(observed_s / good, observed_s, n, blended)

    def _clustering(self, mean: float, variance: float) -> float:
        """(1 + r) / (1 - r) for the lag-1 autocorrelation r: by how much a long sum varies more than independent buckets would."""
        learned = self._learned
        if learned.pairs < _ENOUGH_PAIRS or variance <= 0.0:
            return 1.0
        r = min(max((learned.products / learned.pairs - mean * mean) / variance, 0.0), 0.99)
        return min((1 + r) / (1 - r), _MAX_CLUSTERING)

    def _close(self, good: float) -> None:
        learned = self._learned
        keep = 1.0 - 1.0 / _MEMORY_BUCKETS
        if learned.previous is not None:
            learned.pairs = learned.pairs * keep + 1.0
            learned.products = learned.products * keep + learned.previous * good
        learned.weight = learned.weight * keep + 1.0
        learned.total = learned.total * keep + good
        learned.squares = learned.squares * keep + good * good
        learned.previous = good
        learned.open_us = 0
        learned.open_good = 0.0

    def dump(self) -> dict[str, Any]:
        """JSON-able; `load` of it goes on exactly where this one stands."""
        return asdict(self._learned)

    def load(self, state: Mapping[str, Any]) -> None:
        self._learned = _Learned(**state)


@dataclass(frozen=True)
class Work:
    """One job as the estimate sees it. `remaining` good pieces (None: no quantity ordered); `ideal_s` seconds per piece."""

    order: JobOrder
    remaining: Decimal | None
    rate: Rate | None = None
    ideal_s: float | None = None
    route: Route = NO_ROUTE
    arrival: int = 0
    """Its place in the order in which orders came in."""


def estimate(now: Instant, work: Work, calendar: Calendar) -> Promise:
    """The promise of a job that runs, or would run, from `now` on."""
    return estimate_queue(now, [work], calendar)[0]


def estimate_queue(now: Instant, works: Sequence[Work], calendar: Calendar, *, changeover_s: float = 0.0) -> list[Promise]:
    """Promises of jobs done one after the other in this order, with `changeover_s` of required time between two of different products.

    Margins add up: the jobs share machine and people, so their delays are not independent. Behind a job without an end date
    nothing has one. The basis names the latest order that came in after a job and goes before it all the same.
    """
    promises: list[Promise] = []
    ahead: list[int] = []
    latest: Work | None = None
    path = _Path(now, calendar)
    behind: JobOrder | None = None
    blocked: JobOrder | None = None
    for work in works:
        load, basis = workload(work)
        wait = work.route.wait
        if blocked is None and load is not None and wait is not None and load.likely_s > 0:
            basis = f"{basis}; nothing to work on before {wait.behind} hands over"
            if wait.likely is None or wait.safe is None or not path.wait(wait.likely, wait.safe):
                load, basis = None, f"{basis}, which has no end date"
        if blocked is not None:
            basis = f"{blocked.job_order_id} before it has no end date"
        elif load is None:
            blocked = work.order
        if blocked is not None or load is None:
            promises.append(Promise(None, None, PromiseVerdict.UNKNOWN, basis))
            continue
        changeover = 0.0 if behind is None else changeover_between(behind, work.order, changeover_s)
        by = latest.order if latest is not None and latest.arrival > work.arrival else None
        if behind is not None and behind is not by:
            basis = f"after {behind.job_order_id}; {basis}"
        if by is not None:
            others = len(ahead) - bisect_right(ahead, work.arrival) - 1
            basis = f"overtaken by {by.job_order_id}{f' and {others} more' if others else ''}; {basis}"
        insort(ahead, work.arrival)
        latest = work if latest is None or work.arrival > latest.arrival else latest
        if path.go(changeover + load.likely_s, load.margin_s):
            promises.append(_without_lead(path.promise(work.order, basis), work.route))
            behind = work.order
        else:
            blocked = work.order
            promises.append(Promise(None, None, PromiseVerdict.UNKNOWN, f"{basis}; the calendar holds too little required time"))
    return promises


def changeover_between(before: JobOrder, after: JobOrder, changeover_s: float) -> float:
    """Seconds of required time from one order to the next: none when both make the same product."""
    return 0.0 if before.product_id is not None and before.product_id == after.product_id else changeover_s


def _without_lead(promise: Promise, route: Route) -> Promise:
    """Dates of an operation that others follow say nothing of the delivery when nobody says how long these take."""
    if not route.lead_unknown or promise.verdict is PromiseVerdict.UNKNOWN:
        return promise
    basis = f"{promise.basis}; later operations exist and the order has no lead_after_s"
    return replace(promise, verdict=PromiseVerdict.UNKNOWN, basis=basis)


def due_of(order: JobOrder) -> datetime | None:
    """When the job must be done: the customer's `delivery_to`, else the order's `end_time`, less what later operations still need."""
    customer = order.customer
    due = customer.delivery_to if customer is not None and customer.delivery_to is not None else order.end_time
    return None if due is None else due - timedelta(seconds=float(order.lead_after_s or 0))


def verdict_of(eta_likely: datetime, eta_safe: datetime, order: JobOrder) -> PromiseVerdict:
    """Of an estimate against the order's due date."""
    latest = due_of(order)
    if latest is None:
        return PromiseVerdict.UNKNOWN
    if eta_safe <= latest:
        return PromiseVerdict.ON_TIME
    return PromiseVerdict.AT_RISK if eta_likely <= latest else PromiseVerdict.LATE


class PromiseKeeper:
    """Announces a change of verdict only when it has held for a minute, so that a job on the edge does not flood the CRM.

    Where there is no verdict (nobody said when the order is due, or how long later operations take) the dates speak: they are announced
    when they have moved, for a minute, by more than they were uncertain. What is known for the first time is announced at once: nobody
    could have been told anything else.
    """

    def __init__(self) -> None:
        self.announced = PromiseVerdict.UNKNOWN
        self._told: tuple[Instant, Instant] | None = None
        """The dates that were announced, likely and safe."""
        self._candidate: PromiseVerdict | None = None
        self._since: Instant = 0
        self._first = True

    def update(self, promise: Promise, at: Instant) -> PromiseVerdict | None:
        """The verdict announced before when a new one, or new dates, are to be announced now, else None."""
        if promise.verdict is self.announced and not self._moved(promise, at):
            self._candidate = None
            return None
        if promise.verdict is not self._candidate:
            self._candidate, self._since = promise.verdict, at
        if not self._first and at - self._since < _PERSISTENCE:
            return None
        previous, self.announced, self._candidate, self._first = self.announced, promise.verdict, None, False
        self._told = _dates(promise)
        return previous

    def _moved(self, promise: Promise, at: Instant) -> bool:
        """Whether dates without a verdict are others than those announced."""
        dates, told = _dates(promise), self._told
        if promise.verdict is not PromiseVerdict.UNKNOWN or dates == told:
            return False
        if dates is None or told is None:
            return True
        # An order that has its quantity is done "now" until somebody ends it.
        reached = dates[1] < at + SECOND and told[0] <= at
        return not reached and abs(dates[0] - told[0]) > max(told[1] - told[0], _MOVED)

    def clock_set(self, by: int) -> None:
        self._since += by

    @property
    def pending(self) -> bool:
        """A new verdict waits to show whether it lasts."""
        return self._candidate is not None

    def dump(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "announced": self.announced, "candidate": self._candidate, "since": self._since, "first": self._first, "told": self._told,
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> PromiseKeeper:
        keeper = cls()
        keeper.announced = PromiseVerdict(state["announced"])
        keeper._candidate = None if state["candidate"] is None else PromiseVerdict(state["candidate"])
        keeper._since, keeper._first = state["since"], state["first"]
        # A journal that was begun before dates without a verdict were announced knows of none.
        told = state.get("told")
        keeper._told = None if told is None else (told[0], told[1])
        return keeper


def _dates(promise: Promise) -> tuple[Instant, Instant] | None:
    likely, safe = promise.eta_likely, promise.eta_safe
    return None if likely is None or safe is None else (instant(likely), instant(safe))


def workload(work: Work) -> tuple[Workload | None, str]:
    """What a job still needs, and the first half of its basis."""
    if work.remaining is None:
        return None, "no quantity ordered"
    if work.remaining <= 0:
        return Workload(0.0, 0.0), "quantity reached"
    if work.rate is not None:
        per_hour = 3600 / work.rate.s_per_good
        return work.rate.workload(float(work.remaining)), f"{_number(per_hour)} good/h observed over {_duration(work.rate.observed_s)}"
    if work.ideal_s is None:
        return None, "no rate observed yet and no ideal time"
    ideal_s = float(work.remaining) * work.ideal_s
    basis = f"ideal {_number(work.ideal_s)} s/piece x {LIKELY_FACTOR} likely, x {SAFE_FACTOR} safe: too little observed yet"
    return Workload(ideal_s * LIKELY_FACTOR, ideal_s * (SAFE_FACTOR - LIKELY_FACTOR)), basis


class _Path:
    """Walks the calendar once for a whole queue: the likely and the safe end so far, and the pauses on the likely way."""

    def __init__(self, now: Instant, calendar: Calendar) -> None:
        self._calendar = calendar
        self._limit = now + HORIZON
        self._likely = self._safe = now
        self._pauses: dict[SpanKind, list[Span]] = {SpanKind.BREAK: [], SpanKind.MAINTENANCE: [], SpanKind.CLOSED: []}

    def wait(self, likely: datetime, safe: datetime) -> bool:
        """Nothing can be done before; False when that is beyond the horizon."""
        self._likely, self._safe = max(self._likely, instant(likely)), max(self._safe, instant(safe))
        return self._safe <= self._limit

    def go(self, likely_s: float, margin_s: float) -> bool:
        """Go on by that much work; False when the calendar ends before."""
        likely = self._calendar.after_required(self._likely, round(likely_s * SECOND), limit=self._limit)
        safe = self._calendar.after_required(self._safe, round((likely_s + margin_s) * SECOND), limit=self._limit)
        if likely is None or safe is None:
            return False
        for span in self._calendar.spans(self._likely, likely):
            if span.kind is not SpanKind.REQUIRED:
                self._pauses[span.kind].append(span)
        self._likely, self._safe = likely, safe
        return True

    def promise(self, order: JobOrder, basis: str) -> Promise:
        eta_likely, eta_safe = whole_second(self._likely), whole_second(self._safe)
        pauses = self._words()
        return Promise(eta_likely, eta_safe, verdict_of(eta_likely, eta_safe, order), f"{basis}; {pauses} included" if pauses else basis)

    def _words(self) -> str:
        """What lies between now and the likely end and is not required time, with local times."""
        closed_us = sum(span.end - span.start for span in self._pauses[SpanKind.CLOSED])
        parts = [
            _named(self._pauses[SpanKind.BREAK], "break", self._calendar),
            _named(self._pauses[SpanKind.MAINTENANCE], "planned maintenance", self._calendar),
            f"{_duration(closed_us / SECOND)} without shift" if closed_us else "",
        ]
        return " and ".join(part for part in parts if part)


def whole_second(at: Instant) -> datetime:
    """Rounded up: a promise is never earlier than its figure."""
    return moment(-(-at // SECOND) * SECOND)


def _named(spans: Sequence[Span], name: str, calendar: Calendar) -> str:
    if len(spans) == 1:
        return f"{name} at {calendar.local(spans[0].start):%H:%M}"
    return f"{len(spans)} x {name}" if spans else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
