"""From counter readings to pieces: rollover, reset, glitch, late pieces, rejects; and to which order and window they belong."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.equipment import Counter, Counts, Dispatch, Product
from tests.domain.post import Post, at

ALL = Counts(total=Counter("parts"), reject=Counter("reject"), rework=Counter("rework"))
GOOD = Counts(good=Counter("good"), reject=Counter("reject"), rework=Counter("rework"))


def post_with(counts: Counts, **changes: Any) -> Post:
    return Post(counts=counts, **changes)


def sums(post: Post, **fields: Any) -> tuple[int, int, int, int]:
    found = post.counted(**fields)
    return tuple(int(found[name]) for name in ("produced", "good", "scrap", "rework"))  # type: ignore[return-value]


def kinds(post: Post) -> list[str]:
    return [d["kind"] for d in post.data("counter.gap")]


# --- what is a piece ---


def test_the_first_value_is_a_baseline() -> None:
    post = Post()
    post.read(0, running=1, parts=4711)
    assert sums(post) == (0, 0, 0, 0)
    post.read(10, parts=4712)
    assert sums(post) == (1, 1, 0, 0)
    assert post.data("quantity.counted")[0]["counter"] == 4712


def test_produced_is_the_total_and_good_what_is_left() -> None:
    post = post_with(ALL)
    post.read(0, running=1, parts=0, reject=0, rework=0)
    post.read(100, parts=10, reject=2, rework=1)
    assert sums(post) == (10, 7, 2, 1)
    line = post.window()
    assert (line["produced"], line["good"], line["scrap"], line["rework"]) == (10, 7, 2, 1)


def test_produced_is_good_and_reject_and_rework() -> None:
    post = post_with(GOOD)
    post.read(0, running=1, good=0, reject=0, rework=0)
    post.read(100, good=7, reject=2, rework=1)
    assert sums(post) == (10, 7, 2, 1)


def test_a_counter_of_cycles_counts_all_cavities() -> None:
    post = post_with(Counts(cycles=Counter("strokes"), reject=Counter("reject")), pieces_per_cycle=4)
    post.read(0, running=1, strokes=0, reject=0)
    post.read(80, strokes=2, reject=3)
    assert sums(post) == (8, 5, 3, 0)


def test_a_manual_post_has_no_counter() -> None:
    post = post_with(Counts())
    post.read(0, running=1)
    post.order(0, "StoreAndStart")
    assert post.fact(100, "DeclareProduction", good=Decimal(8), scrap=Decimal(2)).accepted
    assert sums(post) == (10, 8, 2, 0)
    job = post.window("job")
    assert (job["produced"], job["good"], job["scrap"]) == (10, 8, 2)


# --- counters ---


@pytest.mark.parametrize(
    ("bits", "signed", "before", "after", "made"),
    [(16, False, 65530, 4, 10), (16, True, 32765, -32766, 5), (32, False, 2**32 - 2, 3, 5), (32, True, 2**31 - 1, -(2**31), 1)],
)
def test_rollover(bits: int, signed: bool, before: int, after: int, made: int) -> None:
    post = post_with(Counts(total=Counter("parts", bits, signed)))
    post.read(0, running=1, parts=before)
    post.read(100, parts=after)
    assert sums(post) == (made, made, 0, 0)
    assert kinds(post) == ["rollover"]


def test_a_value_beyond_the_types_range_never_counts_backwards() -> None:
    """A 16-bit counter that read 100,038: the configuration's type is another than the machine's."""
    post = post_with(Counts(total=Counter("parts", 16)), ideal_cycle_time_s=None)
    post.read(0, running=1, parts=100_000)
    post.read(10, parts=100_038)
    post.read(20, parts=43)
    assert sums(post) == (38 + 43, 38 + 43, 0, 0)
    assert kinds(post) == ["reset"]


@pytest.mark.parametrize(
    ("counter", "before", "after"),
    [
        (Counter("parts", 16), 65530, 6554),  # not below a tenth of the range
        (Counter("parts", 16), 58982, 4),  # not above nine tenths
        (Counter("parts"), 65530, 4),  # no type given
        (Counter("parts", 16, signed=True), 32765, 3),
    ],
)
def test_any_other_decrease_is_a_reset_and_the_new_value_is_the_delta(counter: Counter, before: int, after: int) -> None:
    post = post_with(Counts(total=counter), ideal_cycle_time_s=Decimal("0.1"))
    post.read(0, running=1, parts=before)
    post.read(100, parts=after)
    assert sums(post) == (after, after, 0, 0)
    assert kinds(post) == ["reset"]
    assert [d["alert"] for d in post.data("alert.raised")] == ["counter.reset:parts@press"]


def test_a_reset_of_the_total_takes_the_others_along() -> None:
    post = post_with(ALL)
    post.read(0, running=1, parts=100, reject=3, rework=2)
    post.read(100, parts=9, reject=4, rework=2)
    assert sums(post) == (9, 3, 4, 2), "4 and 2 since the reset, not 1 and 0"


def test_the_glitch_limit() -> None:
    """10 * 5 s / 10 s + 4 = 9 pieces."""
    for jump, counted in ((9, 9), (10, 0)):
        post = Post()
        post.read(0, running=1, parts=0)
        post.read(5, parts=jump)
        assert sums(post)[0] == counted


def test_a_confirmed_glitch_is_a_new_base_uncounted() -> None:
    post = Post()
    post.read(0, running=1, parts=100)
    post.read(10, parts=5000)
    assert [d["alert"] for d in post.data("alert.raised")] == ["counter.glitch:parts@press"]
    post.read(20, parts=5001)
    assert sums(post) == (1, 1, 0, 0), "the piece since then"
    assert kinds(post) == ["glitch", "level"]
    assert [d["alert"] for d in post.data("alert.cleared")] == ["counter.glitch:parts@press"]


def test_a_contradicted_glitch_is_undone() -> None:
    post = Post()
    post.read(0, running=1, parts=100)
    post.read(10, parts=5000)
    post.read(20, parts=102)
    assert sums(post) == (2, 2, 0, 0)
    assert kinds(post) == ["glitch"]
    assert len(post.data("alert.cleared")) == 1
    post.read(30, parts=103)
    assert sums(post) == (3, 3, 0, 0)


def test_a_glitch_downwards_to_a_high_value() -> None:
    post = Post()
    post.read(0, running=1, parts=100_000)
    post.read(10, parts=50_000)
    assert (sums(post)[0], kinds(post)) == (0, ["glitch"])
    post.read(20, parts=50_001)
    assert (sums(post)[0], kinds(post)) == (1, ["glitch", "level"])


def test_two_glitches_in_a_row_and_a_wild_counter_count_nothing() -> None:
    post = Post()
    post.read(0, running=1, parts=100)
    for number, value in enumerate((9000, 70_000, 500_000), start=1):
        post.read(10 * number, parts=value)
    assert sums(post)[0] == 0
    assert kinds(post) == ["glitch"], "one finding until it is known what the counter says"
    post.read(40, parts=103)
    assert sums(post)[0] == 3


def test_the_limit_grows_with_the_time_since_the_last_accepted_reading() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(10, parts=None)
    post.read(1000, parts=900)
    assert sums(post)[0] == 900


def test_without_an_ideal_time_nothing_is_a_glitch() -> None:
    post = Post(ideal_cycle_time_s=None)
    post.read(0, running=1, parts=0)
    post.read(1, parts=1_000_000)
    assert sums(post)[0] == 1_000_000
    line = post.window()
    assert (line["oee"], line["effectiveness"], line["availability"]) == (None, None, 1)


# --- late and stopped ---


def test_pieces_made_while_nobody_was_looking_are_late() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(10, parts=1)
    post.read(20, parts=None, running=None)
    post.read(60, parts=5, running=1)
    [late] = post.data("quantity.counted", late=True)
    assert (late["produced"], late["since"]) == (4, at(10))
    line = post.window()
    assert (line["late"], line["degraded"], line["unknown_s"]) == (4, True, 40)


def test_a_lost_count_link_alone_makes_late_pieces_but_no_unknown_time() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(20, parts=None)
    post.read(60, parts=5)
    line = post.end(60).window()
    assert (line["unknown_s"], line["late"], line["degraded"], line["run_s"]) == (0, 5, True, 60)


def test_pieces_counted_while_the_machine_stands_are_counted_and_flagged() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(10, running=0, parts=1)
    post.read(11, parts=2)
    post.read(20, parts=3)
    assert [d["while_stopped"] for d in post.data("quantity.counted")] == [False, False, True]
    post.read(30, running=1, parts=4)
    assert not post.data("quantity.counted")[-1]["while_stopped"]


# --- rejects ---


def test_a_reject_marks_the_piece_of_its_own_reading_else_the_latest() -> None:
    post = post_with(ALL)
    post.order(0, "StoreAndStart", "OF-1")
    post.read(0, running=1, parts=0, reject=0, rework=0)
    post.read(3590, parts=10)
    post.order(3600, "Stop", "OF-1")
    post.order(3600, "StoreAndStart", "OF-2")
    post.read(3610, parts=11, reject=1)
    assert post.data("quantity.counted")[-1]["scrap"] == 1
    assert post.hour(0)["scrap"] == 0
    before = post.hour(0)["revision"]
    post.read(3620, reject=4)
    first, second = post.data("job.progress", produced=Decimal(10))[-1], post.tracker.production.ledger.get("OF-2")
    assert (first["good"], first["scrap"], first["final"]) == (7, 3, True), "the one piece of OF-2 is rejected already"
    assert second is not None
    assert (second.good, second.scrap) == (0, 1)
    assert (post.hour(0)["scrap"], post.hour(0)["good"], post.hour(0)["revision"]) == (3, 7, before + 1)
    assert (post.window("job", "OF-1")["scrap"], post.window("job", "OF-1")["revision"]) == (3, 2)
    assert post.hour(0)["produced"] == 10, "produced does not change"


def test_good_never_falls_below_zero() -> None:
    post = post_with(ALL)
    post.read(0, running=1, parts=0, reject=0, rework=0)
    post.read(20, parts=2, reject=3)
    assert sums(post) == (2, 0, 2, 0)
    assert [d["alert"] for d in post.data("alert.raised")] == ["counter.disagree@press"]
    assert post.window()["good"] == 0


def test_quality_ratio_weighs_products_by_their_ideal_time() -> None:
    products = {
        "A": Product("A", recipe=1, ideal_cycle_time_s=Decimal(10)), "B": Product("B", recipe="bee", ideal_cycle_time_s=Decimal(30)),
    }  # fmt: skip
    post = post_with(ALL, product_tag="recipe", products=products)
    post.read(0, running=1, parts=0, reject=0, rework=0, recipe=1)
    post.read(100, parts=10, reject=5)
    post.read(100, recipe="bee")
    post.read(400, parts=20, reject=6)
    line = post.end(400).window()
    assert line["quality_ratio"] == pytest.approx((5 * 10 + 9 * 30) / (10 * 10 + 10 * 30))
    assert line["oee"] == pytest.approx((5 * 10 + 9 * 30) / 400)
    assert line["oee"] == pytest.approx(line["availability"] * line["effectiveness"] * line["quality_ratio"])


def test_an_unknown_recipe_falls_back_to_the_units_ideal_time() -> None:
    post = Post(product_tag="recipe", products={"A": Product("A", recipe="12", ideal_cycle_time_s=Decimal(5))})
    post.read(0, running=1, parts=0, recipe=12)
    assert post.tracker.view().ideal_cycle_time_s == 5
    post.read(1, recipe=13)
    assert post.tracker.view().ideal_cycle_time_s == 10
    post.read(2, recipe=None)
    assert post.tracker.view().ideal_cycle_time_s == 10
    post.order(3, "StoreAndStart", product_id="A")
    assert post.tracker.view().ideal_cycle_time_s == 5, "the order says what it makes"
    post.order(4, "Update", ideal_cycle_time_s=Decimal(7))
    assert post.tracker.view().ideal_cycle_time_s == 7


# --- windows and orders of a delta ---


def test_a_piece_at_the_end_of_a_window_belongs_to_the_next() -> None:
    post = Post()
    post.read(3580, running=1, parts=0)
    post.read(3590, parts=1)
    post.read(3600, parts=3)
    post.end(3600)
    assert [post.hour(n)["produced"] for n in (0, 1)] == [1, 2], "a delta is booked whole"
    assert post.window()["produced"] == 3, "a range over the whole recording includes its last reading"


def test_at_quantity_and_auto_go_through_the_queue() -> None:
    post = Post(dispatch=Dispatch("at_quantity", "auto"))
    post.read(0, running=1, parts=0)
    for order, priority in (("OF-1", 5), ("OF-2", 1), ("OF-3", 9)):
        post.order(1, "StoreAndStart", order, quantity=Decimal(3), priority=priority)
    for number in range(1, 12):
        post.read(10 * number, parts=number)
    changed = [(d["state"], e.job_order_id) for e in post.events if e.type == "job.changed" for d in [e.data()]]
    assert changed == [
        ("Running", "OF-1"), ("AllowedToStart", "OF-2"), ("AllowedToStart", "OF-3"), ("Ended", "OF-1"), ("Running", "OF-3"),
        ("Ended", "OF-3"), ("Running", "OF-2"), ("Ended", "OF-2"),
    ]  # fmt: skip
    assert [post.window("job", f"OF-{n}")["produced"] for n in (1, 3, 2)] == [3, 3, 3]
    line = post.window()
    assert line["produced"] == 11
    assert post.tracker.view().without_order == 2
    finals = post.data("job.progress", final=True)
    assert [(d["produced"], d["target"]) for d in finals] == [(3, 3)] * 3


def test_a_reading_that_overshoots_belongs_whole_to_the_order_of_its_time() -> None:
    post = Post(dispatch=Dispatch("at_quantity", "auto"))
    post.read(0, running=1, parts=0)
    post.order(1, "StoreAndStart", "OF-1", quantity=Decimal(3))
    post.order(1, "StoreAndStart", "OF-2", quantity=Decimal(3))
    post.read(50, parts=5)
    assert post.window("job", "OF-1")["produced"] == 5
    assert post.window("job", "OF-2")["produced"] == 0


def test_progress_carries_totals_and_delta() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", "OF-1", quantity=Decimal(100), order_id="O", properties={"colour": "red"})
    for number in range(1, 61):
        post.read(number, parts=number)
    post.order(65, "Stop")
    told = post.data("job.progress")
    assert sum(d["delta"]["produced"] for d in told) == told[-1]["produced"] == 60
    assert told[-1]["final"]
    assert told[-1]["run_s"] == 65
    assert {d["properties"]["colour"] for d in told} == {"red"}
    assert len(told) <= 9, "at most every ten seconds"
