"""The queue of a work unit as its tracker knows it: what is booked, what is asked, what an urgent order does to the others."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from gateway.domain.equipment import Dispatch
from gateway.domain.events import PromiseChanged
from gateway.domain.job_order import Customer, JobOrder
from gateway.domain.whatif import Question
from tests.domain.post import T0, Post, at, unit

HOUR = Decimal(288)
"""Pieces that take an hour at 10 s and the usual factor of 1.25."""


def order(name: str, hours: int = 1, due_h: float | None = None, **fields: object) -> JobOrder:
    due = None if due_h is None else T0 + timedelta(hours=due_h)
    return JobOrder(name, quantity=HOUR * hours, end_time=due, **fields)  # type: ignore[arg-type]


def test_what_is_stored_counts_in_the_load_and_gets_no_date() -> None:
    post = Post()
    post.order(0, "StoreAndStart", order("R"))
    post.order(1, "StoreAndStart", order("A"))
    before = post.tracker.view().capacity_free_from
    post.order(2, "Store", order("forecast", 3))
    view = post.tracker.view()
    assert before is not None
    assert view.capacity_free_from is not None
    assert view.capacity_free_from - before == timedelta(hours=3, seconds=1)
    assert sum(day.booked_s or 0 for day in view.load) >= 5 * 3600 - 2
    forecast = next(job for job in view.queue if job.order.job_order_id == "forecast")
    assert (forecast.eta_likely, forecast.verdict) == (None, "unknown")


def test_a_stored_order_that_nobody_can_estimate_hides_no_date() -> None:
    post = Post(unit(ideal_cycle_time_s=None))
    post.order(0, "Store", order("forecast", 3))
    assert post.tracker.view().capacity_free_from == at(0)


def test_what_is_booked_is_known_after_a_restart() -> None:
    post = Post()
    post.order(0, "Store", order("forecast", 3))
    assert post.restarted(lost=False).tracker.view().capacity_free_from == T0 + timedelta(hours=3)


def test_asking_gives_the_very_dates_that_are_promised() -> None:
    post = Post(unit(dispatch=Dispatch(changeover_s=600)))
    post.order(0, "StoreAndStart", order("R"))
    post.order(0, "StoreAndStart", order("A", 2, 4))
    post.order(0, "StoreAndStart", order("B", 3, 20, priority=9))
    answer = post.tracker.production.orders.queue().ask(Question(first="A"))
    view = post.tracker.view()
    promised = [(job.order.job_order_id, job.eta_likely, job.eta_safe, job.basis) for job in (view.job, *view.queue) if job is not None]
    slots = answer.before.slots
    assert [(s.order.job_order_id, s.promise.eta_likely, s.promise.eta_safe, s.promise.basis) for s in slots] == promised
    assert [slot.order.job_order_id for slot in answer.after.slots] == ["R", "A", "B"]
    assert [job.order.job_order_id for job in post.tracker.view().queue] == ["B", "A"], "nothing is changed by asking"


def test_an_urgent_order_makes_another_late_and_the_promise_says_which() -> None:
    post = Post()
    post.order(0, "StoreAndStart", order("R"))
    post.order(0, "StoreAndStart", order("A", 1, 4, priority=50))
    post.order(60, "StoreAndStart", order("URGENT", 4, 8, customer=Customer("Rhône Automobile", priority=99)))
    post.wait(200)
    told = [event for event in post.events if isinstance(event, PromiseChanged) and event.job_order_id == "A"]
    assert [(event.previous, event.verdict) for event in told] == [("unknown", "on_time"), ("on_time", "late")]
    assert told[-1].basis.startswith("overtaken by URGENT; ideal ")


def test_a_new_order_is_estimated_by_what_the_machine_knows_of_its_product() -> None:
    post = Post()
    post.order(0, "StoreAndStart", order("R", product_id="P1", ideal_cycle_time_s=Decimal(20)))
    post.order(0, "StoreAndStart", order("S"))
    orders = post.tracker.production.orders
    known, here = orders.new_order(JobOrder("", product_id="P1", quantity=HOUR))
    assert (known.ideal_s, here) == (20.0, True)
    unknown, here = orders.new_order(JobOrder("", product_id="P2", quantity=HOUR))
    assert (unknown.ideal_s, here) == (10.0, False)
    promise = orders.queue().offer(unknown)
    assert promise.eta_likely == T0 + timedelta(hours=4), "2 h of R at 20 s a piece, an hour of S, then its own hour"
    assert promise.basis.startswith("after S; ideal "), "nobody overtook an order that nobody has placed yet"
