"""The distribution of cycle times: exact sums, percentiles to half a per cent, and what a machine can hold."""

from __future__ import annotations

import json
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.cycles import SUSTAINED, CycleTally, Sustained
from gateway.domain.equipment import Counter, Counts, Dispatch
from gateway.domain.instants import SECOND
from gateway.domain.pace import CycleTimes
from tests.domain.post import Post, unit

RUNS = st.lists(st.tuples(st.integers(60_000, 1800 * SECOND), st.integers(1, 50)), min_size=1, max_size=60)


@given(one=RUNS, other=RUNS)
@settings(max_examples=100, deadline=None)
def test_tallies_add_up_and_survive_a_restart(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    whole, parts = CycleTally(), [CycleTally(), CycleTally()]
    for tally, gaps in zip(parts, (one, other), strict=True):
        for run_us, pieces in gaps:
            tally.add(run_us, pieces)
            whole.add(run_us, pieces)
    total = CycleTally.load(json.loads(json.dumps(parts[0].dump())))
    total.take(parts[1])
    assert total == whole
    line = whole.line()
    assert line is not None
    assert line["count"] == sum(pieces for _, pieces in one + other)
    assert line["mean_s"] == pytest.approx(sum(run for run, _ in one + other) / line["count"] / SECOND)
    assert line["p10_s"] <= line["p50_s"] <= line["p90_s"]


@pytest.mark.parametrize("cycle_s", [0.06, 1.2, 1800.0])
def test_percentiles_are_right_to_a_per_cent_whatever_the_pace(cycle_s: float) -> None:
    draw, tally = random.Random(1), CycleTally()
    values = sorted(draw.gauss(cycle_s, cycle_s * 0.1) for _ in range(5000))
    for value in values:
        tally.add(round(value * SECOND), 1)
    for share in (0.1, 0.5, 0.9):
        assert tally.percentile(share) == pytest.approx(values[round(share * 4999)], rel=0.01)
    assert len(tally.buckets) < 120


def test_one_quick_cycle_is_not_what_a_machine_can_do() -> None:
    sustained = Sustained()
    means = [sustained.add((1 if n == 5 else 10) * SECOND, 1, 1) for n in range(SUSTAINED + 10)]
    assert means[: SUSTAINED - 1] == [None] * (SUSTAINED - 1)
    assert means[SUSTAINED - 1] == 9.55 * SECOND
    assert means[-1] == 10 * SECOND


def test_four_cavities_need_four_times_the_pieces() -> None:
    sustained = Sustained()
    means = [sustained.add(8 * SECOND, 4, 4) for _ in range(SUSTAINED)]
    assert means[-2:] == [None, 2 * SECOND]


def test_windows_carry_the_cycles_of_their_own_time_and_job() -> None:
    post = Post(unit(ideal_cycle_time_s=Decimal(10)))
    post.read(0, parts=0, running=True)
    post.order(0, "StoreAndStart", "OF-1")
    for n in range(1, 361):
        post.read(n * 10, parts=n, running=True)
    post.order(3600, "Stop", "OF-1")
    for n in range(1, 31):
        post.read(3600 + n * 20, parts=360 + n, running=True)
    post = post.restarted(lost=False)
    first, second, job = post.hour(0)["cycle"], post.hour(1)["cycle"], post.window("job", "OF-1")["cycle"]
    # The piece of 07:00:00 belongs to the next hour, and to the order that made it.
    assert (first["count"], second["count"], job["count"]) == (359, 31, 360)
    assert (first["mean_s"], job["mean_s"]) == (10, 10)
    assert second["p50_s"] == pytest.approx(20, rel=0.01)
    assert first["best_s"] == 10


def test_an_order_that_ends_by_itself_is_told_with_all_its_cycles_and_no_other() -> None:
    post = Post(unit(counts=Counts(total=Counter("parts"), reject=Counter("rejects")), dispatch=Dispatch("at_quantity", "manual")))
    post.read(0, parts=0, rejects=0, running=True)
    post.order(0, "StoreAndStart", "OF-1", quantity=Decimal(30))
    for n in range(1, 28):
        post.read(n * 10, parts=n)
    post.read(310, parts=31, rejects=1)  # a reject with the last pieces
    post.read(330, parts=32)
    [told] = post.data("window.closed")
    assert (told["produced"], told["cycle"]["count"]) == (31, 31)
    assert post.tracker.machine.windows.closed[0].cycles.count == 31


def test_the_best_pace_is_held_over_a_change_of_process() -> None:
    def best(*, moved: bool) -> float:
        post = Post(unit())
        post.read(0, parts=0, running=True)
        for n in range(1, 36):
            post.read(n * 10 - min(max(n - 5, 0), 16), parts=n)
            post = post.restarted(lost=False) if moved and n == 20 else post
        return float(post.end().window()["cycle"]["best_s"])

    assert best(moved=True) == best(moved=False)


def test_a_copy_goes_on_for_itself_and_takes_memory_only_when_it_differs() -> None:
    first = CycleTally()
    first.add(10 * SECOND, 1)
    second = first.copy()
    assert second == first
    assert second.buckets is first.buckets
    more = CycleTally()
    more.add(20 * SECOND, 2)
    first.take(more)
    third = second.copy()
    second.add(30 * SECOND, 1)
    assert (first.count, second.count, third.count) == (3, 2, 1)
    assert [sum(tally.buckets.values()) for tally in (first, second, third)] == [3, 2, 1]


def test_stopped_time_is_in_no_cycle() -> None:
    post = Post(unit())
    post.read(0, parts=0, running=True)
    post.read(10, parts=1, running=True)
    post.read(14, running=False)
    post.read(314, running=True)
    post.read(320, parts=2, running=True)
    assert post.end().window()["cycle"]["mean_s"] == 10


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1000.0), min_size=1, max_size=200))
def test_a_finished_bin_keeps_its_percentiles_and_little_else(values: list[float]) -> None:
    bin_ = CycleTimes(0)
    for value in values:
        bin_.add(value, 1)
    before = bin_.percentiles()
    bin_.close()
    assert bin_.percentiles() == before
    assert len(bin_.values) <= 11
