"""Over- and under-production, and the change-over between two orders: what is told and what is counted."""

from __future__ import annotations

from decimal import Decimal

from gateway.domain.equipment import Dispatch
from tests.domain.post import CODES, Post, parts


def alerts(post: Post, kind: str, type_: str = "alert.raised") -> list[str]:
    return [d["text"].en for d in post.data(type_) if d["alert"].startswith(kind)]


def running(quantity: int, **changes: object) -> Post:
    post = Post(**changes)
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", "OF-1", quantity=Decimal(quantity))
    return post


def test_a_job_that_goes_on_beyond_its_quantity_is_told_until_it_ends_or_is_raised() -> None:
    post = running(3)
    for number in range(1, 6):
        post.read(10 * number, parts=number)
    post.wait(80)
    assert alerts(post, "job.over:OF-1") == ["press: OF-1 has more than the 3 ordered."]
    post.order(90, "Update", "OF-1", quantity=Decimal(10))
    post.read(100, parts=6)
    post.wait(120)
    assert alerts(post, "job.over:OF-1", "alert.cleared")
    for number in range(7, 13):
        post.read(60 + 10 * number, parts=number)
    post.wait(200)
    assert len(alerts(post, "job.over:OF-1")) == 2
    post.order(210, "Stop", "OF-1")
    assert len(alerts(post, "job.over:OF-1", "alert.cleared")) == 2
    last = post.data("job.progress")[-1]
    assert (last["good"], last["target"], last["final"]) == (12, 10, True)


def test_a_job_that_ends_short_is_told_for_a_while() -> None:
    post = running(10)
    post.read(10, parts=4)
    post.order(20, "Stop", "OF-1")
    assert alerts(post, "job.short:OF-1") == ["press: OF-1 ended with 4 of 10 pieces."]
    post.fact(30, "DeclareProduction", job_order_id="OF-1", good=Decimal(6))
    assert alerts(post, "job.short:OF-1", "alert.cleared"), "the missing pieces were found"
    again = running(10)
    again.order(20, "Abort", "OF-1")
    assert not alerts(again, "job.short"), "who aborts knows"
    late = running(10)
    late.read(10, parts=4)
    late.order(20, "Stop", "OF-1")
    late.wait(2000)
    assert alerts(late, "job.short:OF-1", "alert.cleared")


def test_a_job_that_ends_by_itself_is_neither() -> None:
    post = running(3, dispatch=Dispatch("at_quantity"))
    for number in range(1, 4):
        post.read(10 * number, parts=number)
    post.wait(100)
    assert not alerts(post, "job.")


def between_two_orders(state: int) -> Post:
    """OF-1 ends at 100 s, OF-2 begins at 400 s; in between the machine says `state`."""
    post = Post(state=CODES)
    post.read(0, state=0, parts=0)
    post.order(0, "StoreAndStart", "OF-1")
    post.read(100, parts=10, state=state)
    post.order(100, "Stop", "OF-1")
    post.order(400, "StoreAndStart", "OF-2")
    post.read(500, state=0, parts=10)
    return post.end(600)


def test_a_change_over_between_two_orders_is_set_up_when_the_machine_says_so() -> None:
    """Also a reason of class setup; a stop that nobody explains is a stop."""
    assert parts(between_two_orders(2).window()) == (200, 400, 0, 0)
    assert parts(between_two_orders(52).window()) == (200, 400, 0, 0), "coil_change"
    assert parts(between_two_orders(1).window()) == (200, 0, 400, 0)


def test_a_reason_given_later_makes_the_change_over_set_up() -> None:
    post = between_two_orders(1)
    assert post.fact(600, "ExplainStop", 450, reason="coil_change").accepted
    assert parts(post.window()) == (200, 400, 0, 0)


def test_the_new_orders_own_window_begins_with_it() -> None:
    post = between_two_orders(2)
    assert parts(post.window("job", "OF-2")) == (100, 100, 0, 0)
