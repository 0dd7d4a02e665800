"""Where a standstill counts: hours, shifts, breaks, orders; late explanations; windows that wait for a decision."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.calendar import Calendar
from gateway.domain.equipment import Counts, OeeRules
from gateway.domain.shift_rules import Break, ShiftRule
from tests.domain.post import CODES, Post, at, parts

UNLOADED = OeeRules(no_order_bucket="unloaded")
EVERY_DAY = frozenset(range(1, 8))
# 06:00-14:00 UTC with a break from 07:00 to 07:20; T0 is 06:00.
SHIFT = Calendar("UTC", [ShiftRule("early", EVERY_DAY, time(6), time(14), (Break(time(7), time(7, 20)),))])


def coded(**changes: Any) -> Post:
    return Post(state=CODES, counts=Counts(), **changes)


def test_a_stop_counts_once_in_each_window_it_has_required_time_in() -> None:
    post = coded(calendar=SHIFT)
    post.read(0, state=0)
    post.read(3500, state=1)
    post.read(7300, state=0)
    post.end(7400)
    assert post.stop_list() == [("stop", 3500, 3800, None)]
    assert [post.hour(n)["stop_count"] for n in (0, 1, 2)] == [1, 1, 1]
    assert [post.hour(n)["stop_s"] for n in (0, 1, 2)] == [100, 2400, 100]
    shift = post.window("shift", "early")
    assert (shift["stop_count"], shift["stop_s"], shift["planned_s"], shift["opening_s"]) == (1, 2600, 6200, 7400)


def test_a_stop_wholly_in_a_break_counts_nowhere() -> None:
    post = coded(calendar=SHIFT)
    post.read(0, state=0)
    post.read(3700, state=1)
    post.read(4700, state=0)
    post.end(5000)
    assert post.stop_list() == [("stop", 3700, 1000, None)]
    line = post.window("shift")
    assert (line["stop_count"], line["stop_s"], line["planned_s"]) == (0, 0, 3800)


def test_a_machine_that_runs_does_not_turn_a_break_into_required_time() -> None:
    post = Post(calendar=SHIFT)
    post.read(0, running=1, parts=0)
    post.read(3700, parts=100)
    post.read(4800, parts=400)
    line = post.end(4800).window("shift")
    assert (line["planned_s"], line["run_s"], line["produced"]) == (3600, 3600, 400)
    assert line["oee"] == pytest.approx(4000 / 3600), "pieces made in the break count"


def test_time_outside_every_shift_is_outside_opening() -> None:
    post = coded(calendar=SHIFT).begin(-600)
    post.read(-600, state=0)
    line = post.end(600).window()
    assert (line["planned_s"], line["opening_s"], line["total_s"]) == (600, 600, 1200)


def test_an_undecided_standstill_keeps_the_hour_open_until_it_is_known() -> None:
    post = coded()
    post.read(0, state=0)
    post.read(3550, state=1)
    post.wait(3660)
    assert post.data("window.closed") == []
    assert post.window("hour", "2026-11-24T06:00:00Z")["micro_stop_s"] == 50, "judged by its length so far"
    post.read(3665, state=0)
    [closed] = post.data("window.closed")
    assert (closed["micro_stop_s"], closed["micro_stop_count"], closed["revision"]) == (50, 1, 1)
    assert post.hour(1)["micro_stop_count"] == 1


def test_an_undecided_standstill_that_becomes_long_closes_the_hour_by_itself() -> None:
    post = coded()
    post.read(0, state=0)
    post.read(3550, state=1)
    post.wait(3671)
    [closed] = post.data("window.closed")
    assert (closed["stop_s"], closed["stop_count"], closed["micro_stop_count"]) == (50, 1, 0)
    assert [e.at for e in post.events if e.type == "window.closed"] == [at(3670.000001)]


def test_a_reason_that_comes_after_the_hour_revises_it() -> None:
    post = coded()
    post.read(0, state=0)
    post.read(3400, state=1)
    post.read(3700, state=52)
    first, second = post.data("window.closed")
    assert (first["stop_s"], first["setup_s"], first["stop_count"], first["revision"]) == (200, 0, 1, 1)
    assert (second["stop_s"], second["setup_s"], second["stop_count"], second["revision"]) == (0, 200, 0, 2)
    post.read(3800, state=0)
    assert parts(post.end(3800).window()) == (3400, 400, 0, 0)


# --- people explain ---


def test_explain_stop_during_and_after_the_stop() -> None:
    post = coded()
    post.read(0, state=0)
    post.read(100, state=1)
    assert post.fact(150, "ExplainStop", reason="jam").accepted
    post.read(160, state=0)
    assert post.stop_list() == [("stop", 100, 60, "jam")]
    assert post.fact(7300, "ExplainStop", 120, reason="coil_change").accepted
    assert [(d["revision"], d["reason"]) for d in post.data("stop.ended")] == [(1, "jam"), (2, "coil_change")]
    assert len({d["stop_id"] for d in post.data("stop.ended")}) == 1
    hours = [d for d in post.data("window.closed") if d["window"]["name"] == "2026-11-24T06:00:00Z"]
    assert [(d["stop_s"], d["setup_s"], d["stop_count"], d["revision"]) for d in hours] == [(60, 0, 1, 1), (0, 60, 0, 2)]
    assert post.window()["planned_s"] == 7300


def test_explain_stop_turns_a_micro_stop_into_a_stop() -> None:
    post = coded()
    post.read(0, state=0)
    post.read(100, state=1)
    post.read(160, state=0)
    assert post.window()["micro_stop_count"] == 1
    assert post.fact(200, "ExplainStop", 159.9, reason="jam").accepted
    line = post.window()
    assert (line["micro_stop_count"], line["micro_stop_s"], line["stop_count"], line["stop_s"]) == (0, 0, 1, 60)


def test_explain_stop_is_refused_where_nothing_stood() -> None:
    post = coded()
    post.read(0, state=0)
    post.read(100, state=1)
    post.read(160, state=0)
    before = post.windows()
    codes = [
        post.fact(200, "ExplainStop", when, reason=why).problem
        for when, why in ((99, "jam"), (160, "jam"), (120, "thirst"), (300, "jam"), (-200_000, "jam"))
    ]
    assert [problem and problem.code for problem in codes] == [
        "no_stop_at", "no_stop_at", "unknown_reason", "time_not_covered", "time_not_covered",
    ]  # fmt: skip
    assert [w["stop_s"] for w in post.windows()] == [w["stop_s"] for w in before]


# --- orders ---


@pytest.mark.parametrize(("rules", "planned", "stop", "count"), [(OeeRules(), 500, 300, 2), (UNLOADED, 300, 100, 1)])
def test_stopped_time_without_an_order_is_down_or_unloaded(rules: OeeRules, planned: float, stop: float, count: int) -> None:
    """The job ends in the middle of a stop of 300 s: from its end on the time is without an order."""
    post = coded(oee=rules)
    post.read(0, state=0)
    post.order(0, "StoreAndStart")
    post.read(100, state=50)
    post.order(200, "Stop")
    post.read(350, state=0)
    post.read(400, state=50)
    post.read(450, state=0)
    line = post.end(500).window()
    assert (line["planned_s"], line["stop_s"], line["stop_count"], line["opening_s"]) == (planned, stop, count, 500)
    job = post.window("job", "OF-1")
    assert (job["planned_s"], job["stop_s"], job["run_s"], job["stop_count"]) == (200, 100, 100, 1)


def test_micro_stops_without_an_order_are_unloaded_too_but_run_set_up_and_unknown_are_not() -> None:
    post = coded(oee=UNLOADED)
    for seconds, state in ((0, 0), (100, 1), (150, 2), (200, 6), (250, 0), (300, 4)):
        post.read(seconds, state=state)
    line = post.end(360).window()
    assert (line["planned_s"], line["run_s"], line["setup_s"], line["unknown_s"]) == (250, 150, 50, 50)
    assert (line["micro_stop_s"], line["micro_stop_count"], line["opening_s"]) == (0, 0, 360)


def test_an_interrupted_job_is_no_order() -> None:
    post = coded(oee=UNLOADED)
    post.read(0, state=50)
    post.order(0, "StoreAndStart")
    post.order(100, "Pause")
    post.order(400, "Resume")
    post.order(450, "Stop")
    line = post.end(500).window()
    assert line["planned_s"] == 150
    job = post.window("job", "OF-1")
    assert (job["planned_s"], job["window"]["from"], job["window"]["to"]) == (150, "2026-11-24T06:00:00Z", "2026-11-24T06:07:30Z")


def test_a_stop_between_two_orders_is_set_up_only_when_a_reason_says_so() -> None:
    for code, where in ((50, "stop_s"), (52, "setup_s"), (2, "setup_s")):
        post = coded()
        post.read(0, state=0)
        post.order(0, "StoreAndStart")
        post.read(100, state=code)
        post.order(110, "Stop")
        post.order(300, "StoreAndStart", "OF-2")
        post.read(320, state=0)
        assert post.end(400).window()[where] == 220


def test_the_same_job_id_after_clear_has_its_own_window() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart")
    post.read(10, parts=1)
    post.order(20, "Stop")
    post.order(30, "Clear")
    post.order(40, "StoreAndStart")
    post.read(50, parts=3)
    post.order(60, "Stop")
    jobs = [w for w in post.windows() if w["window"]["kind"] == "job"]
    assert [(w["produced"], w["revision"]) for w in jobs] == [(Decimal(1), 1), (Decimal(2), 1)]
