"""Operations of one order: what was handed over, what an operation waits for, and what that does to its promise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.calendar import always
from gateway.domain.handover import NO_ROUTE, Route, Wait
from gateway.domain.instants import instant
from gateway.domain.job import Job
from gateway.domain.job_order import JobOrder, JobState
from gateway.domain.promise import Promise, PromiseVerdict, Work, estimate_queue
from gateway.domain.routing import Operation, route_of

NOW = datetime(2026, 11, 25, 6, tzinfo=UTC)


def operation(number: str | None, unit: str = "saw", *, made: int = 0, state: JobState = JobState.RUNNING, **order: Any) -> Operation:
    job = Job(JobOrder(f"OF-1-{number}", order_id="OF-1", operation_id=number, **order), state, 0)
    job.good = job.produced = Decimal(made)
    job.started_at = NOW if made else None
    return Operation(unit, job)


def dated(of: Operation, hours: float) -> Operation:
    of.job.promise = Promise(NOW + timedelta(hours=hours), NOW + timedelta(hours=2 * hours), PromiseVerdict.ON_TIME, "")
    return of


def test_the_nearest_operation_before_hands_over_its_good_pieces() -> None:
    first, second, third = operation("10", made=90), operation("20", "press", made=60), operation("100", "pack", made=61)
    first.job.scrap = Decimal(5)
    every = [first, second, third]
    assert route_of(first, every) == Route(lead_unknown=True)
    assert route_of(second, every).handed_over == 90
    assert route_of(third, every).handed_over == 60, "100 comes after 20"
    assert route_of(third, every).ahead(third.job.produced) == 1
    assert route_of(second, every).ahead(second.job.produced) == 0
    assert (route_of(second, every).lead_unknown, route_of(third, every).lead_unknown) == (True, False)


def test_two_jobs_of_one_operation_hand_over_together_and_a_cancelled_one_is_no_part() -> None:
    one, two, gone = operation("10", made=30), operation("10", "saw-2", made=40), operation("15", state=JobState.ABORTED)
    next_ = operation("20", "press", made=50)
    assert route_of(next_, [one, two, gone, next_]).handed_over == 70


def test_what_cannot_be_compared_is_not() -> None:
    metres = operation("10", made=3, unit="saw")
    metres.job.order = JobOrder("OF-1-10", order_id="OF-1", operation_id="10", unit="MTR")
    assert route_of(operation("20", "press", made=50), [metres]).handed_over is None
    assert route_of(operation(None, "press"), [operation("10")]) is NO_ROUTE


def test_an_operation_waits_only_when_it_has_nothing_to_work_on_and_something_comes() -> None:
    first, next_ = dated(operation("10", made=50), 3), operation("20", "press", made=50)
    waits = route_of(next_, [first, next_]).wait
    assert waits == Wait("OF-1-10 on saw", NOW + timedelta(hours=3), NOW + timedelta(hours=6))
    next_.job.produced = Decimal(49)
    assert route_of(next_, [first, next_]).wait is None
    next_.job.produced = Decimal(50)
    first.job.state = JobState.ENDED
    assert route_of(next_, [first, next_]).wait is None
    same_unit = dated(operation("10", "press", made=50), 3)
    assert route_of(next_, [same_unit, next_]).wait is None, "its place in the queue says it already"


def test_the_first_of_two_that_come_ends_the_wait_and_one_without_a_date_is_no_date() -> None:
    fast, slow, next_ = dated(operation("10"), 1), dated(operation("10", "saw-2"), 4), operation("20", "press")
    found = route_of(next_, [slow, fast]).wait
    assert found is not None
    assert found.likely == NOW + timedelta(hours=1)
    assert route_of(next_, [operation("10")]).wait == Wait("OF-1-10 on saw", None, None)


def work(name: str, route: Route = NO_ROUTE, **order: Any) -> Work:
    return Work(JobOrder(name, end_time=NOW + timedelta(days=1), **order), Decimal(100), None, 36.0, route)


def test_a_promise_begins_after_the_likely_end_of_the_operation_before() -> None:
    wait = Wait("OF-1-10 on saw", NOW + timedelta(hours=3), NOW + timedelta(hours=4))
    free, waiting, behind = estimate_queue(instant(NOW), [work("a"), work("b", Route(Decimal(0), wait)), work("c")], always())
    assert free.eta_likely == NOW + timedelta(hours=1.25)
    assert waiting.eta_likely == NOW + timedelta(hours=3 + 1.25)
    assert waiting.eta_safe == NOW + timedelta(hours=4 + 1.75)
    assert "nothing to work on before OF-1-10 on saw hands over" in waiting.basis
    assert behind.eta_likely == NOW + timedelta(hours=3 + 2.5)


@pytest.mark.parametrize("days", [None, 4000])
def test_behind_an_operation_without_an_end_date_nothing_has_one(days: int | None) -> None:
    end = None if days is None else NOW + timedelta(days=days)
    waiting, behind = estimate_queue(instant(NOW), [work("b", Route(Decimal(0), Wait("x on saw", end, end))), work("c")], always())
    assert (waiting.eta_likely, waiting.verdict) == (None, PromiseVerdict.UNKNOWN)
    assert waiting.basis.endswith("x on saw hands over, which has no end date")
    assert behind.basis == "b before it has no end date"


def test_later_operations_without_a_lead_time_leave_the_verdict_open_but_give_the_date() -> None:
    [promise] = estimate_queue(instant(NOW), [work("a", Route(lead_unknown=True))], always())
    assert (promise.verdict, promise.eta_likely) == (PromiseVerdict.UNKNOWN, NOW + timedelta(hours=1.25))
    assert "lead_after_s" in promise.basis
