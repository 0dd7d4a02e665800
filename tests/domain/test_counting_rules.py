"""Counters by product, counters that the PLC resets for each order, rejects of a station downstream, the machine's own ideal time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.cloud_event import encode
from gateway.domain.equipment import Counter, Counts, IdealTag, Product
from tests.domain.post import Post

BY_PRODUCT = Counts(by_product={"PF-100": Counter("a"), "PF-200": Counter("b")}, reject=Counter("reject"))
PRODUCTS = {
    "PF-100": Product("PF-100", ideal_cycle_time_s=Decimal(10)),
    "PF-200": Product("PF-200", ideal_cycle_time_s=Decimal(20)),
}
PER_ORDER = Counts(good=Counter("good", per_order=True), reject=Counter("reject", per_order=True))


def by_product(**changes: Any) -> Post:
    return Post(counts=BY_PRODUCT, products=PRODUCTS, **changes)


def job_totals(post: Post, order: str) -> tuple[int, int]:
    job = post.tracker.production.ledger.get(order)
    assert job is not None
    return int(job.produced), int(job.good)


def alerts(post: Post) -> list[str]:
    return [d["alert"].split("@")[0] for d in post.data("alert.raised")]


# --- a counter for each product ---


def test_a_piece_is_of_the_product_whose_counter_moved() -> None:
    post = by_product()
    post.read(0, running=1, a=0, b=500, reject=0)
    post.read(100, a=10, b=500, reject=0)
    post.read(300, a=10, b=510, reject=0)
    line = post.end(300).window()
    assert (line["produced"], line["net_s"], line["oee"]) == (20, 300, 1)
    assert [(d["product_id"], d["produced"], d["counter"]) for d in post.data("quantity.counted")] == [
        ("PF-100", 10, 10),
        ("PF-200", 10, 510),
    ]


def test_products_of_one_reading_are_each_worth_their_own_time() -> None:
    post = by_product()
    post.read(0, running=1, a=0, b=0, reject=0)
    post.read(400, a=20, b=10, reject=0)
    line = post.end(400).window()
    assert (line["produced"], line["net_s"], line["slow_s"]) == (30, 400, 0)


def test_an_order_takes_pieces_of_its_own_product_alone() -> None:
    post = by_product()
    post.read(0, running=1, a=0, b=0, reject=0)
    post.order(0, "StoreAndStart", product_id="PF-200", ideal_cycle_time_s=Decimal(40))
    post.read(200, a=10, b=5, reject=0)
    assert job_totals(post, "OF-1") == (5, 5)
    line = post.end(200).window()
    assert line["net_s"] == 10 * 10 + 5 * 40, "an order for PF-200 says nothing of PF-100"
    assert post.fact(200, "Reassign", from_=post.tracker.now.replace(hour=5), to=post.tracker.now.replace(hour=7)).accepted
    assert job_totals(post, "OF-1") == (15, 15)


def test_an_order_that_names_no_product_takes_all() -> None:
    post = by_product()
    post.read(0, running=1, a=0, b=0, reject=0)
    post.order(0, "StoreAndStart")
    post.read(200, a=10, b=5, reject=2)
    assert job_totals(post, "OF-1") == (15, 13)


def test_one_product_counter_alone_begins_anew_without_the_rejects() -> None:
    post = by_product()
    post.read(0, running=1, a=100, b=500, reject=7)
    post.read(100, a=4, b=500, reject=7)
    assert post.counted() == {"produced": 4, "good": 4, "scrap": 0, "rework": 0}
    post.read(200, a=2, b=3, reject=1)
    assert post.counted() == {"produced": 9, "good": 8, "scrap": 1, "rework": 0}, "all began anew: one reset button"


def test_the_glitch_rule_knows_each_products_own_time() -> None:
    """10 * 10 s / 20 s + 4 = 9 pieces of PF-200, 14 of PF-100."""
    post = by_product()
    post.read(0, running=1, a=0, b=0, reject=0)
    post.read(10, a=14, b=10, reject=0)
    assert post.counted()["produced"] == 14
    assert [d["tag"] for d in post.data("counter.gap", kind="glitch")] == ["b"]


def test_a_counter_by_product_survives_a_restart() -> None:
    post = by_product()
    post.read(0, running=1, a=0, b=0, reject=0)
    post.read(100, a=0, b=5, reject=0)
    again = post.restarted()
    assert again.tracker.production.orders.ideal == 20
    again.read(200, running=1, a=0, b=10, reject=0)
    assert again.data("quantity.counted")[-1]["late"] is True
    assert again.counted()["produced"] == 10


# --- a counter that is reset for each order ---


def started(order: str = "OF-1") -> Post:
    post = Post(counts=PER_ORDER)
    post.read(0, running=1, good=0, reject=0)
    post.order(0, "StoreAndStart", order)
    post.read(100, good=10, reject=1)
    return post


def test_a_reset_after_the_command_is_the_new_orders() -> None:
    post = started()
    post.order(100, "Stop", "OF-1")
    post.order(100, "StoreAndStart", "OF-2")
    post.read(150, good=3, reject=0)
    post.read(200, good=8, reject=0)
    assert job_totals(post, "OF-1") == (11, 10)
    assert job_totals(post, "OF-2") == (8, 8)
    assert alerts(post) == []
    assert [d["kind"] for d in post.data("counter.gap")] == ["reset", "reset"], "still on record"


def test_pieces_after_a_reset_wait_for_the_next_order() -> None:
    post = started()
    post.read(150, good=3, reject=0)
    assert job_totals(post, "OF-1") == (11, 10)
    post.read(160, good=4, reject=0)
    post.order(170, "Stop", "OF-1")
    post.order(170, "StoreAndStart", "OF-2")
    post.read(200, good=7, reject=0)
    assert job_totals(post, "OF-1") == (11, 10)
    assert job_totals(post, "OF-2") == (7, 7)
    assert post.window("job", "OF-2")["produced"] == 7
    assert alerts(post) == []


def test_a_reset_between_two_orders_belongs_to_the_second() -> None:
    post = started()
    post.order(110, "Stop", "OF-1")
    post.read(150, good=2, reject=0)
    post.order(160, "StoreAndStart", "OF-2")
    assert job_totals(post, "OF-2") == (2, 2)


@pytest.mark.parametrize("restart", [False, True])
def test_a_reset_without_a_change_of_order_is_told_and_gives_its_pieces_back(restart: bool) -> None:
    post = started()
    post.read(150, good=3, reject=0)
    if restart:
        post = post.restarted(lost=False)
    post.read(1049, good=5, reject=0)
    assert job_totals(post, "OF-1") == (11, 10)
    post.read(1050, good=6, reject=0)
    assert job_totals(post, "OF-1") == (17, 16)
    assert alerts(post) == ["counter.reset:good"]
    assert post.window("range")["produced"] == 17


# --- a reject station downstream ---


def station(delay: int) -> Post:
    post = Post(counts=Counts(total=Counter("parts"), reject=Counter("reject", delay_pieces=delay)))
    post.read(0, running=1, parts=0, reject=0)
    post.order(0, "StoreAndStart", "OF-1")
    return post


def test_a_reject_belongs_to_the_piece_so_many_before() -> None:
    post = station(40)
    for second in range(10, 3610, 10):
        post.read(second, parts=second // 10, reject=0)
    # 360 pieces: the first 359 in the first hour. Piece 361 is number 321's reject.
    post.read(3610, parts=361, reject=1)
    assert (post.hour(0)["scrap"], post.hour(1)["scrap"]) == (1, 0)
    assert post.hour(0)["revision"] == 2
    for second in range(3620, 4030, 10):
        post.read(second, parts=second // 10, reject=1)
    # Piece 403: number 363 was made at 3630 s.
    post.read(4030, parts=403, reject=2)
    assert (post.hour(0)["scrap"], post.hour(1)["scrap"]) == (1, 1)


def test_a_reject_of_the_order_before_is_not_the_new_ones() -> None:
    post = station(5)
    post.read(200, parts=20, reject=0)
    post.order(200, "Stop", "OF-1")
    post.order(200, "StoreAndStart", "OF-2")
    post.read(240, parts=24, reject=2)
    post.read(270, parts=27, reject=3)
    assert job_totals(post, "OF-1") == (20, 18)
    assert job_totals(post, "OF-2") == (7, 6)


def test_a_reject_from_before_anybody_counted_marks_the_oldest_piece() -> None:
    post = station(40)
    post.read(100, parts=10, reject=3)
    assert job_totals(post, "OF-1") == (10, 7)


# --- the ideal time from the machine ---


def fed(per_minute: bool = True, **changes: Any) -> Post:
    return Post(ideal_tag=IdealTag("speed", per_minute), ideal_cycle_time_s=None, **changes)


def test_the_machines_design_speed_is_its_ideal_time() -> None:
    post = fed()
    post.read(0, running=1, parts=0, speed=6.0)
    post.read(100, parts=10)
    line = post.end(100).window()
    assert (line["net_s"], line["oee"]) == (100, 1)
    view = post.tracker.view()
    assert (view.ideal_cycle_time_s, view.ideal_from) == (10.0, "machine")


def test_seconds_are_taken_as_they_are() -> None:
    post = fed(per_minute=False)
    post.read(0, running=1, parts=0, speed=2.5)
    assert post.tracker.production.orders.ideal == Decimal("2.5")


@pytest.mark.parametrize("value", [0, -3, 0.0, 1e-310, 1e300, 10**400, float("nan"), float("inf"), "fast"])
def test_what_is_no_speed_gives_no_ideal_time_and_is_told(value: Any) -> None:
    post = fed()
    post.read(0, running=1, parts=0, speed=value)
    post.read(100, parts=10)
    assert post.tracker.lines()[0]["oee"] is None
    assert alerts(post) == ["ideal.unusable:speed"]
    post.read(110, speed=60)
    assert [d["alert"] for d in post.data("alert.cleared")] == ["ideal.unusable:speed@press"]


def test_a_bad_reading_falls_back_to_the_configuration() -> None:
    post = Post(ideal_tag=IdealTag("speed"), ideal_cycle_time_s=Decimal(10))
    post.read(0, running=1, parts=0, speed=12)
    assert post.tracker.view().ideal_from == "machine"
    post.read(10, speed=None)
    view = post.tracker.view()
    assert (view.ideal_cycle_time_s, view.ideal_from) == (10.0, "configuration")


def test_order_then_product_then_machine_then_configuration() -> None:
    post = Post(ideal_tag=IdealTag("speed"), ideal_cycle_time_s=Decimal(10), products=PRODUCTS)
    post.read(0, running=1, parts=0, speed=12)
    orders = post.tracker.production.orders
    assert (orders.ideal, orders.ideal_from) == (5, "machine")
    post.order(0, "StoreAndStart", "OF-1", product_id="PF-200")
    assert (orders.ideal, orders.ideal_from) == (20, "product")
    post.order(0, "Stop", "OF-1")
    post.order(0, "StoreAndStart", "OF-2", product_id="PF-200", ideal_cycle_time_s=Decimal(7))
    assert (orders.ideal, orders.ideal_from) == (7, "order")
    again = post.restarted(lost=False)
    again.order(10, "Stop", "OF-2")
    assert (again.tracker.production.orders.ideal, again.tracker.production.orders.ideal_from) == (5, "machine")


# --- readings that come as they should not ---


def test_readings_out_of_order_and_repeated_count_once_and_are_told() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(100, parts=10)
    post.read(100, parts=10)
    post.read(90, parts=9)
    assert post.tracker.late_samples == 1, "the metric samples_late"
    assert [d["kind"] for d in post.data("counter.gap")] == ["glitch"], "9 pieces in no time are no reset"
    post.read(110, parts=11)
    assert post.counted()["produced"] == 11
    assert post.end(110).window()["produced"] == 11


def test_a_reading_of_the_year_2000_moves_no_time_back() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(100, parts=10)
    post.read(-800_000_000, parts=10)
    line = post.end(200).window()
    assert (line["run_s"], line["produced"], post.tracker.late_samples) == (200, 10, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "12", "", None])
def test_a_counter_that_is_no_number_is_lost_and_what_was_made_meanwhile_is_late(value: Any) -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(100, parts=value)
    post.read(200, parts=20)
    assert [(d["produced"], d["late"]) for d in post.data("quantity.counted")] == [(20, True)]
    assert post.end(200).window()["degraded"] is True


def test_two_counters_that_disagree_are_told_and_good_never_falls_below_zero() -> None:
    post = Post(counts=Counts(total=Counter("parts"), reject=Counter("reject")))
    post.read(0, running=1, parts=0, reject=0)
    post.read(100, parts=5, reject=8)
    line = post.end(100).window()
    assert (line["produced"], line["good"], line["scrap"]) == (5, 0, 5)
    assert alerts(post) == ["counter.disagree"]


# --- values that no counter has ---


@pytest.mark.parametrize("garbage", [3.4e38, -3.4e38, 1.7e308, -1.7e308, 2**64 - 1, 10**16])
@pytest.mark.parametrize("counts", [Counts(total=Counter("parts")), Counts(cycles=Counter("parts"))])
def test_without_an_ideal_time_a_counter_that_was_never_set_is_no_production(garbage: float, counts: Counts) -> None:
    post = Post(counts=counts, ideal_cycle_time_s=None)
    for at, parts in enumerate((5, 6, garbage, 7, garbage, -garbage, 8, 9)):
        post.read(at, running=1, parts=parts)
    post.wait(4000)
    for event in post.events:
        encode(event.data())
    assert post.end(4000).window()["produced"] < 100
    assert "glitch" in {d["kind"] for d in post.data("counter.gap")}
