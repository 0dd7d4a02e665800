"""What becomes of a queue in another order; the best one against every order there is."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import permutations

import pytest

from gateway.domain.calendar import Calendar, always
from gateway.domain.handover import Route, Wait
from gateway.domain.instants import instant
from gateway.domain.job_order import Customer, JobOrder
from gateway.domain.promise import LIKELY_FACTOR, Work
from gateway.domain.whatif import EXACT_UP_TO, Plan, Question, Queue
from tests.domain.post import T0
from tests.domain.stories import SHIFTS
from tests.effort import efforts

NOW = instant(T0)


def work(name: str, hours: float, due_h: float | None = None, **fields: object) -> Work:
    """A job of that many hours of likely work, due so many hours from now."""
    due = None if due_h is None else T0 + timedelta(hours=due_h)
    order = JobOrder(name, quantity=Decimal(1000), end_time=due, **fields)  # type: ignore[arg-type]
    return Work(order, Decimal(1000), ideal_s=hours * 3.6 / LIKELY_FACTOR)


def names(plan: Plan) -> list[str]:
    return [slot.order.job_order_id for slot in plan.slots]


def queue(*waiting: Work, running: Work | None = None, calendar: Calendar | None = None, changeover_s: float = 0.0) -> Queue:
    return Queue(NOW, running, waiting, calendar or always(), changeover_s=changeover_s)


def test_one_job_first_and_what_becomes_late() -> None:
    of = queue(work("A", 2, 3), work("B", 2, 5), work("C", 3, 20))
    assert of.as_it_stands().late_s == 0
    first = of.first("C")
    assert names(first) == ["C", "A", "B"]
    assert [slot.late_s for slot in first.slots] == [0, 2 * 3600, 2 * 3600]
    assert (first.late_count, first.late_s) == (2, 4 * 3600)
    with pytest.raises(KeyError):
        of.first("Z")


def test_the_running_job_is_never_taken_off() -> None:
    of = queue(work("A", 2, 1), work("B", 1, 9), running=work("R", 4, 2))
    for plan in (of.as_it_stands(), of.first("B"), of.earliest_due(), of.critical_ratio(), of.least_late()):
        assert plan is not None
        assert names(plan)[0] == "R"


def test_the_usual_rules() -> None:
    of = queue(work("A", 8, 20), work("B", 1, 12), work("C", 1), work("D", 9, 13))
    assert names(of.earliest_due()) == ["B", "D", "A", "C"]
    assert names(of.critical_ratio()) == ["D", "A", "B", "C"], "13 / 9, 20 / 8, 12 / 1, none"


def test_the_customers_window_and_the_lead_after_count() -> None:
    late = JobOrder("A", quantity=Decimal(1000), end_time=T0 + timedelta(hours=9), customer=Customer(delivery_to=T0 + timedelta(hours=3)))
    leading = JobOrder("B", quantity=Decimal(1000), end_time=T0 + timedelta(hours=3), lead_after_s=Decimal(3600))
    for order, late_h in ((late, 1), (leading, 2)):
        plan = queue(Work(order, Decimal(1000), ideal_s=4 * 3.6 / LIKELY_FACTOR)).as_it_stands()
        assert plan.late_s == late_h * 3600


def test_the_best_order_states_its_gain() -> None:
    of = queue(work("A", 5, 6), work("B", 1, 2), work("C", 1, 3))
    best, present = of.least_late(), of.as_it_stands()
    assert best is not None
    assert (present.late_s, best.late_s) == (4 * 3600 + 4 * 3600, 3600)
    assert names(best) == ["B", "C", "A"]


def test_nobody_can_say_without_an_end_date_or_with_too_many_jobs() -> None:
    endless = Work(JobOrder("E"), None)
    assert queue(work("A", 1, 1), endless).least_late() is None
    assert queue(work("A", 1, 1), running=endless).least_late() is None
    assert queue(*(work(f"J{n}", 1, 1) for n in range(EXACT_UP_TO + 1))).least_late() is None
    plan = queue(endless, work("A", 1, 1)).as_it_stands()
    assert [slot.late_s for slot in plan.slots] == [None, None]


def random_queue(draw: random.Random) -> Queue:
    waiting = [
        work(f"J{n}", draw.choice([0.25, 1, 2, 5, 9]), draw.choice([None, 1, 4, 9, 15, 30, 60]), product_id=draw.choice([None, "A", "B"]))
        for n in range(draw.randint(1, 5))
    ]
    if draw.random() < 0.3:
        end = T0 + timedelta(hours=draw.choice([3, 20]))
        waiting[0] = replace(waiting[0], route=Route(Decimal(0), Wait("x on saw", end, end)))
    return Queue(
        NOW, work("R", draw.choice([0.5, 3]), 4) if draw.random() < 0.5 else None, waiting, draw.choice([always(), SHIFTS]),
        changeover_s=draw.choice([0.0, 600.0]),
    )  # fmt: skip


@efforts("count", 20, 100, 500)
def test_the_search_equals_brute_force(count: int) -> None:
    for seed in range(count):
        of = random_queue(random.Random(seed))
        best = of.least_late()
        assert best is not None
        every = min(of.plan("", order).late_s for order in permutations(of._waiting))
        assert best.late_s == every, seed
        assert best.late_s <= min(of.as_it_stands().late_s, of.earliest_due().late_s, of.critical_ratio().late_s)


def test_asking_takes_little_time_even_for_eight_jobs() -> None:
    draw = random.Random(5)
    of = queue(*(work(f"J{n}", draw.uniform(1, 9), draw.uniform(1, 40)) for n in range(EXACT_UP_TO)), calendar=SHIFTS)
    found = of.least_late()
    assert found is not None
    assert sorted(names(found)) == [f"J{n}" for n in range(EXACT_UP_TO)]


def test_the_order_of_equals_stays() -> None:
    of = queue(work("A", 1, 50), work("B", 1, 50), work("C", 1, 50))
    best = of.least_late()
    assert best is not None
    assert names(best) == ["A", "B", "C"]


def test_a_question_is_answered_with_before_after_and_what_becomes_late() -> None:
    of = queue(work("A", 2, 3), work("B", 2, 5), work("C", 3, 20))
    answer = of.ask(Question(first="C"))
    assert names(answer.before) == ["A", "B", "C"]
    assert names(answer.after) == ["C", "A", "B"]
    assert [slot.order.job_order_id for slot in answer.becomes_late] == ["A", "B"]
    assert [plan.rule for plan in answer.others] == ["earliest_due_date", "critical_ratio", "least_late"]
    assert answer.best.rule == "present", "nothing loses less than the queue as it stands"
    with pytest.raises(KeyError):
        of.ask(Question(first="Z"))
    with pytest.raises(KeyError):
        of.ask(Question(priorities={"Z": 1}))


def test_the_exact_order_is_named_only_where_no_rule_finds_as_good_a_one() -> None:
    by_due = queue(work("A", 5, 9), work("B", 1, 2)).ask(Question())
    assert (by_due.best.rule, by_due.best.late_s) == ("earliest_due_date", 0)
    exact = queue(work("A", 5, 1), work("B", 1, 2), work("C", 1, 3)).ask(Question())
    assert (exact.best.rule, exact.best.late_s) == ("least_late", 6 * 3600)


def test_another_priority_sorts_the_queue_as_an_update_would() -> None:
    urgent = Customer(priority=50)
    of = queue(
        work("A", 1, 50, customer=urgent),
        replace(work("B", 1, 50, priority=40), arrival=1),
        replace(work("C", 1, 50, priority=1), arrival=2),
    )
    assert names(of.ask(Question(priorities={"C": 60})).after) == ["C", "A", "B"]
    assert names(of.ask(Question(priorities={"A": 10})).after) == ["B", "A", "C"], "the customer's priority is the one that counts"
    assert names(of.ask(Question(priorities={"C": 40})).after) == ["A", "B", "C"], "of equals the one that came first"
    lowest = queue(work("A", 1, 50, priority=1, lowest_first=True), work("B", 1, 50, priority=2, lowest_first=True))
    assert names(lowest.ask(Question(priorities={"A": 9})).after) == ["B", "A"]


def test_another_calendar_is_compared_with_the_queue_as_it_stands_under_it() -> None:
    of = queue(work("A", 8, 8), work("B", 2, 10))
    answer = of.ask(Question(calendar=SHIFTS))
    assert answer.before.late_s == 0
    assert answer.after == answer.base
    assert answer.after.late_s > 0
    assert {slot.order.job_order_id for slot in answer.becomes_late} <= {"A", "B"}
    assert all(plan.late_s >= answer.best.late_s for plan in answer.others)


def test_an_order_that_nobody_has_placed_comes_behind_all_others() -> None:
    later = work("stored", 3)
    of = Queue(NOW, work("R", 1), [work("A", 2)], always(), later=[later], changeover_s=600)
    promise = of.offer(work("new", 1))
    assert promise.eta_likely == T0 + timedelta(hours=7, minutes=30), "1 + 2 + 3 + 1 h and three change-overs"
    assert promise.basis.startswith("after stored; ")
