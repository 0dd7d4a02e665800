"""Promises: dates through the calendar, honest about how little is known, calm about changes."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.calendar import Calendar, always
from gateway.domain.instants import SECOND, Instant, instant, moment
from gateway.domain.job_order import Customer, JobOrder
from gateway.domain.promise import (
    LIKELY_FACTOR,
    SAFE_FACTOR,
    Promise,
    PromiseKeeper,
    PromiseVerdict,
    Rate,
    RateLearner,
    Work,
    estimate,
    estimate_queue,
)
from gateway.domain.shift_rules import Break, ShiftRule
from tests.bench import eta

DAYS = frozenset(range(1, 6))
NOW = instant(datetime(2026, 11, 25, 7, 0, tzinfo=UTC))  # Wednesday 08:00 in Paris
ORDER = JobOrder("OF-1")
STEADY = Rate(s_per_good=3.6, observed_s=3120.0, buckets=10.4, variance=0.0)
TWO_SHIFTS = Calendar(
    "Europe/Paris",
    [ShiftRule("morning", DAYS, time(5), time(13), (Break(time(9), time(9, 20)),)), ShiftRule("evening", DAYS, time(13), time(21))],
)


def learn(calendar: Calendar, seconds: int, cycle_s: int, start: Instant = NOW) -> RateLearner:
    learner = RateLearner(calendar)
    learner.observe(start, Decimal(0))
    for n in range(1, seconds // cycle_s + 1):
        learner.observe(start + n * cycle_s * SECOND, Decimal(1))
    return learner


def test_likely_date_walks_breaks_and_says_so() -> None:
    promise = estimate(NOW, Work(ORDER, Decimal(1500), STEADY), TWO_SHIFTS)  # 1.5 h of work from 08:00, break at 09:00
    assert promise.eta_likely == datetime(2026, 11, 25, 8, 50, tzinfo=UTC)
    assert promise.eta_safe == promise.eta_likely
    assert promise.basis == "1,000 good/h observed over 52 min; break at 09:00 included"


def test_likely_date_walks_nights_weekends_and_closures() -> None:
    calendar = Calendar("Europe/Paris", [ShiftRule("day", DAYS, time(8), time(16))], closed=[(date(2026, 11, 30), date(2026, 11, 30))])
    promise = estimate(NOW, Work(ORDER, Decimal(26_000), STEADY), calendar)  # 26 h: Wed, Thu, Fri 8 h each, then Tuesday 2 h
    assert promise.eta_likely == datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
    assert promise.basis.endswith("120.0 h without shift included")


def test_before_enough_pieces_the_ideal_time_speaks_with_its_factors() -> None:
    learner = learn(always(), 600, 10)
    assert learner.rate is None
    promise = estimate(NOW, Work(ORDER, Decimal(1000), learner.rate, 10.0), always())
    assert promise.eta_likely == moment(NOW) + timedelta(seconds=10_000 * LIKELY_FACTOR)
    assert promise.eta_safe == moment(NOW) + timedelta(seconds=10_000 * SAFE_FACTOR)
    assert promise.basis == "ideal 10 s/piece x 1.25 likely, x 1.75 safe: too little observed yet"


@pytest.mark.parametrize(
    ("work", "basis"),
    [
        (Work(ORDER, Decimal(10)), "no rate observed yet and no ideal time"),
        (Work(ORDER, None, STEADY), "no quantity ordered"),
    ],
)
def test_what_is_not_known_is_not_promised(work: Work, basis: str) -> None:
    assert estimate(NOW, work, always()) == Promise(None, None, PromiseVerdict.UNKNOWN, basis)


def test_a_calendar_without_time_gives_no_date() -> None:
    shut = Calendar("UTC", closed=[(date(2020, 1, 1), date(2040, 1, 1))])
    promise = estimate(NOW, Work(ORDER, Decimal(10), STEADY), shut)
    assert (promise.eta_likely, promise.verdict) == (None, PromiseVerdict.UNKNOWN)


def test_a_reached_quantity_is_due_now() -> None:
    promise = estimate(NOW, Work(ORDER, Decimal(0)), always())
    assert (promise.eta_likely, promise.basis) == (moment(NOW), "quantity reached")


@pytest.mark.parametrize(
    ("due_min", "lead_s", "verdict"),
    [
        (200, None, "on_time"),
        (175, None, "on_time"),
        (174, None, "at_risk"),
        (125, None, "at_risk"),
        (124, None, "late"),
        (200, 1500, "on_time"),
        (200, 1560, "at_risk"),
        (200, 4560, "late"),
        (None, None, "unknown"),
    ],
)
def test_verdict_against_the_delivery_window(due_min: int | None, lead_s: int | None, verdict: str) -> None:
    due = None if due_min is None else moment(NOW) + timedelta(minutes=due_min)
    lead = None if lead_s is None else Decimal(lead_s)
    by_customer = JobOrder("OF-1", customer=Customer(delivery_to=due), lead_after_s=lead)
    work = Work(by_customer, Decimal(600), None, 10.0)  # likely 125 min, safe 175 min
    assert estimate(NOW, work, always()).verdict == verdict
    by_end = JobOrder("OF-1", end_time=due, lead_after_s=lead)
    assert estimate(NOW, Work(by_end, Decimal(600), None, 10.0), always()).verdict == verdict
    early_plan = JobOrder("OF-1", end_time=moment(NOW), customer=Customer(delivery_to=due), lead_after_s=lead)
    if due is not None:
        assert estimate(NOW, Work(early_plan, Decimal(600), None, 10.0), always()).verdict == verdict


def test_a_queue_is_worked_one_after_the_other() -> None:
    works = [Work(JobOrder(f"OF-{n}"), Decimal(1000), STEADY) for n in (1, 2, 3)]
    promises = estimate_queue(NOW, works, always(), changeover_s=600)
    starts = [moment(NOW) + timedelta(seconds=s) for s in (3600, 2 * 3600 + 600, 3 * 3600 + 1200)]
    assert [p.eta_likely for p in promises] == starts
    assert promises[1].basis == "after OF-1; 1,000 good/h observed over 52 min"
    blocked = estimate_queue(NOW, [works[0], Work(JobOrder("open"), None, STEADY), works[2]], always())
    assert [p.verdict is PromiseVerdict.UNKNOWN and p.eta_likely is None for p in blocked] == [False, True, True]
    assert blocked[2].basis == "open before it has no end date"


def test_a_changeover_lies_between_different_products_alone() -> None:
    works = [Work(JobOrder(f"OF-{n}", product_id=product), Decimal(1000), STEADY) for n, product in enumerate("AAB")]
    promises = estimate_queue(NOW, works, always(), changeover_s=600)
    assert [p.eta_likely for p in promises] == [moment(NOW) + timedelta(seconds=s) for s in (3600, 7200, 3 * 3600 + 600)]


def test_the_basis_names_who_came_later_and_goes_first() -> None:
    works = [Work(JobOrder(f"OF-{n}"), Decimal(1000), STEADY, arrival=n) for n in (5, 4, 1, 6, 2)]
    said = [promise.basis.partition("1,000")[0] for promise in estimate_queue(NOW, works, always())]
    assert said == [
        "", "overtaken by OF-5; ", "overtaken by OF-5 and 1 more; after OF-4; ", "after OF-1; ", "overtaken by OF-6 and 2 more; ",
    ]  # fmt: skip


def test_learner_counts_required_time_alone() -> None:
    learner = RateLearner(TWO_SHIFTS)
    start = NOW + 30 * 60 * SECOND  # 08:30 in Paris, the break begins at 09:00
    learner.observe(start, Decimal(0))
    for n in range(1, 91):  # one piece a minute until 10:00, none in the break
        at = start + n * 60 * SECOND
        in_break = 30 < n <= 50
        learner.observe(at, Decimal(0 if in_break else 1))
    rate = learner.rate
    assert rate is not None
    assert rate.observed_s == pytest.approx(70 * 60, rel=0.05)
    assert rate.s_per_good == pytest.approx(60.0, rel=1e-6)


def test_learner_does_not_count_time_while_suspended() -> None:
    learner = learn(always(), 3600, 10)
    learner.suspend()
    later = NOW + 86_400 * SECOND
    learner.observe(later, Decimal(0))
    for n in range(1, 361):
        learner.observe(later + n * 10 * SECOND, Decimal(1))
    rate = learner.rate
    assert rate is not None
    assert rate.s_per_good == pytest.approx(10.0)


def test_pieces_of_a_long_silence_are_spread_over_it() -> None:
    broken = learn(always(), 3600, 10)
    broken.observe(NOW + 7200 * SECOND, Decimal(360))
    steady = learn(always(), 7200, 10)
    one, other = broken.rate, steady.rate
    assert one is not None
    assert other is not None
    assert (one.s_per_good, one.variance) == (pytest.approx(other.s_per_good), pytest.approx(other.variance, rel=0.01))


def test_stops_widen_the_safe_date_and_knowledge_narrows_it() -> None:
    steady, stopping = learn(always(), 8 * 3600, 10).rate, RateLearner(always())
    stopping.observe(NOW, Decimal(0))
    at = NOW
    for n in range(8 * 3600 // 20):
        at += (600 if n % 60 == 0 else 10) * SECOND
        stopping.observe(at, Decimal(1))
    short, rate = learn(always(), 1800, 10).rate, stopping.rate
    assert steady is not None
    assert short is not None
    assert rate is not None
    margins = [r.workload(1000).margin_s / r.workload(1000).likely_s for r in (steady, short, rate)]
    assert margins[0] < margins[1]
    assert margins[0] < margins[2]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 5)), max_size=60), st.integers(0, 59))
def test_learner_goes_on_from_its_dump(steps: list[tuple[int, int]], cut: int) -> None:
    through, first = RateLearner(TWO_SHIFTS), RateLearner(TWO_SHIFTS)
    second = RateLearner(TWO_SHIFTS)
    at = NOW
    for n, (seconds, good) in enumerate(steps):
        at += seconds * SECOND
        through.observe(at, Decimal(good))
        if n == cut:
            second.load(json.loads(json.dumps(first.dump())))
            first = second
        first.observe(at, Decimal(good))
    assert first.dump() == through.dump()
    assert first.rate == through.rate


def test_keeper_announces_the_first_at_once_and_a_change_that_lasts() -> None:
    def told(verdict: PromiseVerdict, at_s: int) -> PromiseVerdict | None:
        return keeper.update(Promise(None, None, verdict, ""), NOW + at_s * SECOND)

    keeper = PromiseKeeper()
    unknown, on_time, at_risk, late = PromiseVerdict.UNKNOWN, PromiseVerdict.ON_TIME, PromiseVerdict.AT_RISK, PromiseVerdict.LATE
    assert told(unknown, 0) is None
    assert told(on_time, 1) is unknown
    assert told(at_risk, 10) is None
    assert told(on_time, 40) is None
    assert told(at_risk, 50) is None
    assert told(late, 100) is None
    keeper = PromiseKeeper.load(json.loads(json.dumps(keeper.dump())))
    assert told(late, 159) is None
    assert told(late, 160) is on_time
    assert told(late, 500) is None
    assert keeper.announced is late


def test_dates_without_a_verdict_are_announced_when_they_leave_what_was_told() -> None:
    def told(likely_min: int | None, safe_min: int | None, at_s: int) -> bool:
        dates = [None if minutes is None else moment(NOW + minutes * 60 * SECOND) for minutes in (likely_min, safe_min)]
        previous = keeper.update(Promise(dates[0], dates[1], PromiseVerdict.UNKNOWN, ""), NOW + at_s * SECOND)
        assert previous in (None, PromiseVerdict.UNKNOWN)
        return previous is not None

    keeper = PromiseKeeper()
    assert not told(None, None, 0), "nothing is known"
    assert told(120, 150, 1), "known for the first time"
    assert not told(150, 190, 100)
    assert not told(150, 190, 200), "within the margin of half an hour that was told"
    assert not told(151, 190, 300)
    assert not told(120, 150, 340), "it did not last"
    assert not told(151, 190, 400)
    keeper = PromiseKeeper.load(json.loads(json.dumps(keeper.dump())))
    assert not told(151, 190, 459)
    assert told(151, 190, 460)
    assert not told(112, 140, 3000), "39 minutes earlier, it was uncertain by as much"
    assert not told(111, 140, 3100)
    assert told(111, 112, 3160)
    assert not told(97, 98, 4000)
    assert not told(96, 98, 4100)
    assert not told(96, 98, 4200), "a quarter of an hour is no other date, however certain it was"
    assert not told(None, None, 4300)
    assert told(None, None, 4400), "the order was interrupted"
    assert not told(80, 90, 4500)
    assert told(80, 90, 4600)
    for minutes in (85, 100, 200):
        assert not told(minutes, minutes, minutes * 60), "its quantity is reached: done now, and now, and now"


@pytest.mark.slow
def test_dates_hold_on_seeded_runs_with_stops_breaks_and_shifts() -> None:
    found = eta.runs(300)
    half = found["at half", "running"]
    assert len(half) == 300
    assert eta.held(half) >= 0.9
    assert eta.error(half) < 0.10
    for asked in found.values():
        assert eta.held(asked) >= 0.9, "of the order that waits, and of both before anything is known of them"


def test_a_seeded_run_is_the_same_each_time() -> None:
    assert eta.seeded_run(7) == eta.seeded_run(7)
    assert set(eta.seeded_run(7)) == {(when, which) for when in eta.ASKED for which in ("running", "waiting")}
