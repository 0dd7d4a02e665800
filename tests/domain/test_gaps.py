"""Slow cycles, and the state of a machine that says nothing but its count."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.equipment import Counter, Counts, CycleRules, Product
from tests.domain.post import Post, at, counted_unit, parts

GOOD_AND_REJECT = Counts(good=Counter("good"), reject=Counter("reject"))


def pieces(post: Post, *when: float, first: int = 0, **tags: Any) -> Post:
    for number, seconds in enumerate(when, start=first):
        post.read(seconds, parts=number, **tags)
    return post


# --- reported state: the excess is slow time ---


def test_up_to_the_tolerance_is_normal_and_beyond_all_excess_is_slow() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    pieces(post, 11, 25, 325, first=1)
    line = post.end(325).window()
    assert line["slow_s"] == 4 + 290, "whatever its length"
    assert parts(line) == (325, 0, 0, 0)
    assert post.stops() == []


def test_stopped_time_is_taken_out_of_the_gap_first() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(10, parts=1)
    post.read(14, running=0)
    post.read(34, running=1)
    post.read(42, parts=2)
    assert post.end(42).window()["slow_s"] == 2, "12 s of running"


def test_cavities_make_several_pieces_a_cycle() -> None:
    post = Post(pieces_per_cycle=4)
    post.read(0, running=1, parts=0)
    post.read(40, parts=4)
    post.read(90, parts=8)
    assert post.end(90).window()["slow_s"] == 10


def test_slow_time_counts_only_inside_required_time_and_in_its_own_hour() -> None:
    post = Post()
    post.read(3580, running=1, parts=0)
    post.read(3590, parts=1)
    post.read(3620, parts=2)
    post.end(3640)
    assert [post.hour(n)["slow_s"] for n in (0, 1)] == [0, 20], "the excess is the end of the gap"


@pytest.mark.parametrize("jitter", [0.0, 0.05])
@pytest.mark.parametrize("factor", [1.2, 1.5])
@pytest.mark.parametrize("interval", [1.0, 1.5, 2.3, 4.0, 7.7, 13.0, 20.0])
def test_slow_time_does_not_depend_on_the_poll(factor: float, interval: float, jitter: float) -> None:
    """`interval` in ideal cycles of 1 s; a machine that is steadily slow for 2,000 pieces."""
    chance = random.Random(7)
    made, now = [], 0.0
    while len(made) < 2000:
        now += factor * (1 + chance.gauss(0, jitter))
        made.append(now)
    post = Post(ideal_cycle_time_s=Decimal(1))
    post.read(0, running=1, parts=0)
    count, polls = 0, int(made[-1] / interval)
    for poll in range(1, polls + 1):
        while count < len(made) and made[count] <= poll * interval:
            count += 1
        post.read(poll * interval, parts=count)
    line = post.end(polls * interval).window()
    assert line["slow_s"] == pytest.approx(float(count) * (factor - 1), rel=0.05)


# --- from: counts ---


def counts(**changes: Any) -> Post:
    return Post(counted_unit(**changes))


def test_the_baseline_stands_for_a_piece() -> None:
    post = pieces(counts(), 0, 10, 50)
    assert post.stop_list() == [("micro_stop", 20, 30, None)]
    assert parts(post.end(50).window()) == (50, 0, 0, 0)


def test_time_before_the_baseline_is_unknown() -> None:
    post = counts().begin(0)
    pieces(post, 30, 40)
    assert parts(post.end(40).window()) == (10, 0, 0, 30)


@pytest.mark.parametrize(
    ("gap", "slow", "micro", "stop"),
    [(11, 0, 0, 0), (11.5, 1.5, 0, 0), (17, 7, 0, 0), (17.5, 0, 7.5, 0), (130, 0, 120, 0), (130.5, 0, 0, 120.5)],
)
def test_each_gap_is_normal_slow_a_micro_stop_or_a_stop(gap: float, slow: float, micro: float, stop: float) -> None:
    post = pieces(counts(), 0, 10, 10 + gap, 20 + gap)
    line = post.end(20 + gap).window()
    assert (line["slow_s"], line["micro_stop_s"], line["stop_s"]) == (slow, micro, stop)


def test_readings_without_a_new_piece_change_nothing() -> None:
    sparse = pieces(counts(), 0, 10, 24, 64, 264).end(264)
    dense = counts()
    made = [10, 24, 64, 264]
    for second in range(265):
        dense.read(second, parts=sum(second >= when for when in made))
    dense.end(264)
    assert dense.stop_list() == sparse.stop_list() == [("micro_stop", 34, 30, None), ("stop", 74, 190, None)]
    same = ("run_s", "slow_s", "stop_s", "micro_stop_s", "micro_stop_count", "stop_count", "produced")
    assert [dense.window()[name] for name in same] == [sparse.window()[name] for name in same]
    assert dense.window()["slow_s"] == 4
    assert dense.counted(while_stopped=True)["produced"] == 0, "the piece itself ends the stop"


def test_the_open_gap_at_the_end_is_judged_by_its_length_so_far() -> None:
    for wait, slow, micro, stop in ((10, 0, 0, 0), (16, 6, 0, 0), (60, 0, 50, 0), (200, 0, 0, 190)):
        line = pieces(counts(), 0, 10).end(10 + wait).window()
        assert (line["slow_s"], line["micro_stop_s"], line["stop_s"]) == (slow, micro, stop), wait
        assert line["planned_s"] == 10 + wait


def test_a_long_silence_is_told_while_it_lasts() -> None:
    post = pieces(counts(), 0, 10)
    post.wait(300)
    [stopped] = post.data("state.changed", state="stopped")
    assert (stopped["since"], [e.at for e in post.events if e.type == "state.changed"][-1]) == (at(20), at(140.000001))
    post.read(310, parts=2)
    assert post.stop_list() == [("stop", 20, 290, None)]


def test_the_gap_around_a_bad_counter_is_not_judged() -> None:
    post = pieces(counts(), 0, 10)
    post.read(40, parts=None)
    post.read(90, parts=3)
    post.read(100, parts=4)
    line = post.end(100).window()
    assert post.stops() == []
    assert (line["run_s"], line["unknown_s"], line["slow_s"], line["micro_stop_count"]) == (50, 50, 0, 0)
    assert post.counted(late=True)["produced"] == 2
    assert line["degraded"]


def test_a_counter_that_is_no_number_is_as_bad() -> None:
    post = pieces(counts(), 0, 10)
    post.read(40, parts="error")
    post.read(90, parts=3)
    assert post.end(90).window()["unknown_s"] == 50


def test_a_bad_reject_counter_does_not_make_unknown_time() -> None:
    post = Post(counted_unit(counts=Counts(total=Counter("parts"), reject=Counter("reject"))))
    post.read(0, parts=0, reject=0)
    post.read(10, parts=1, reject=None)
    post.read(20, parts=2, reject=1)
    line = post.end(20).window()
    assert (line["unknown_s"], line["run_s"], line["scrap"], line["good"]) == (0, 20, 1, 1)
    assert post.counted(late=True)["scrap"] == 0, "the pieces of this reading were seen being made"


def test_a_rejected_piece_ends_a_gap_too() -> None:
    post = Post(counted_unit(counts=GOOD_AND_REJECT))
    post.read(0, good=0, reject=0)
    post.read(10, reject=1)
    post.read(20, good=1)
    line = post.end(20).window()
    assert (line["produced"], line["good"], line["scrap"], line["micro_stop_count"], line["run_s"]) == (2, 1, 1, 0, 20)


def test_several_pieces_at_once_are_one_gap() -> None:
    """Polled every 10 s, a piece each second: 70 s without a piece, then 10 at once."""
    post = counts(ideal_cycle_time_s=Decimal(1))
    for poll in range(4):
        post.read(10 * poll, parts=10 * poll)
    for poll in range(4, 10):
        post.read(10 * poll, parts=30)
    post.read(100, parts=40)
    assert post.stop_list() == [("micro_stop", 31, 60, None)]
    assert post.end(100).window()["micro_stop_s"] == 60


def test_pieces_that_come_together_show_that_nothing_stood() -> None:
    """A poll of 300 s is longer than the threshold: what looked like a stop was none."""
    post = counts(ideal_cycle_time_s=Decimal(1))
    post.read(0, parts=0)
    for poll in range(1, 4):
        post.wait(300 * poll - 1)
        post.read(300 * poll, parts=300 * poll)
    line = post.end(900).window()
    assert parts(line) == (900, 0, 0, 0)
    assert (line["stop_count"], line["micro_stop_count"], post.stops()) == (0, 0, [])
    assert post.states()[-1] == "running"


def test_a_stop_that_was_none_is_taken_back_in_the_journal_too() -> None:
    post = Post(counted_unit())
    pieces(post, 0, 10, 20, 30)
    post.wait(200)
    post.saved()
    post.read(330, parts=33)
    _, rows = post.saved()
    (row,) = (json.loads(row.body) for row in rows if row.kind == "stop")
    assert (row["end"], row["long"], row["counted"]) == (row["start"], False, {})
    again = post.restarted(lost=False).tracker.machine
    assert (again.recent, again.stand) == ([], None)


def test_a_stop_shorter_than_it_looked_is_booked_at_its_own_length() -> None:
    """The reading brings 100 pieces: of the 200 s only 100 stood, which the hour before had booked as a stop already."""
    post = counts(ideal_cycle_time_s=Decimal(1)).begin(3450)
    post.read(3450, parts=0)
    post.wait(3649)
    assert post.hour(0)["stop_s"] == 149
    post.read(3650, parts=100)
    post.end(3650)
    assert post.stop_list() == [("micro_stop", 3451, 100, None)]
    line = post.window()
    assert (line["run_s"], line["micro_stop_s"], line["stop_s"], line["planned_s"]) == (200, 100, 0, 200)
    assert [post.hour(n)["micro_stop_s"] for n in (0, 1)] == [100, 0]
    assert (post.hour(0)["stop_count"], post.hour(0)["revision"]) == (0, 2)


def test_without_an_ideal_time_only_the_threshold_makes_a_stop() -> None:
    post = pieces(counts(ideal_cycle_time_s=None), 0, 10, 100, 221)
    assert post.stop_list() == [("stop", 100, 121, None)]


def test_a_faster_product_does_not_book_time_twice() -> None:
    fast = Product("PF-2", recipe=2, ideal_cycle_time_s=Decimal(1))
    post = counts(product_tag="recipe", products={"PF-2": fast})
    post.read(0, parts=0, recipe=1)
    post.read(10, parts=1)
    post.wait(20)
    post.read(25, recipe=2)
    post.read(60, parts=2)
    line = post.end(60).window()
    assert line["planned_s"] == 60
    assert line["run_s"] + line["stop_s"] == 60


def test_micro_min_is_a_floor_for_fast_machines() -> None:
    post = counts(ideal_cycle_time_s=Decimal("0.06"), cycles=CycleRules(micro_min_s=2))
    post.read(0, parts=0)
    post.read(1.9, parts=1)
    post.read(4.0, parts=2)
    assert [(c, pytest.approx(d)) for c, _, d, _ in post.stop_list()] == [("micro_stop", 2.04)]


def test_slow_pieces_of_a_restart_in_doubt_count_only_if_it_was_one() -> None:
    for restarted, slow in ((True, 20), (False, 0)):
        post = Post(cycles=CycleRules(min_run_s=60))
        post.read(0, running=1, parts=0)
        post.read(10, parts=1)
        post.read(10, running=0)
        post.read(200, running=1)
        post.read(230, parts=2)
        post.read(250, running=int(restarted))
        line = post.end(300).window()
        assert (line["slow_s"], line["stop_s"]) == (slow, 190 if restarted else 290)


def test_a_stop_that_is_chatter_leaves_the_gap_around_it_whole() -> None:
    post = Post(cycles=CycleRules(ignore_under_s=15))
    post.read(0, running=1, parts=0)
    post.read(10, parts=1)
    post.read(12, running=0)
    post.read(20, parts=2)
    post.read(22, running=1)
    post.read(30, parts=3)
    assert post.end(30).window()["slow_s"] == 0


def test_slow_time_of_a_pause_is_not_the_jobs() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart")
    post.read(10, parts=1)
    post.order(10, "Pause")
    post.order(95, "Resume")
    post.read(100, parts=2)
    post.order(100, "Stop")
    job = post.window("job")
    assert (job["slow_s"], job["run_s"]) == (5, 15)
    assert post.end(100).window()["slow_s"] == 80
