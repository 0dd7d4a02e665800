"""Which bucket each instant belongs to, what explains a stop, and what is outside required time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.equipment import Cost, Counts, CycleRules, OeeRules, Signal, StateFromBits, StateFromMachinery, StateFromPackML
from gateway.domain.signals import MOST_TOLD
from tests.domain.post import CODES, REASONS, Post, parts, reason

AVAILABILITY = OeeRules(micro_stop_bucket="availability")


def coded(**changes: Any) -> Post:
    return Post(state=CODES, counts=Counts(), **changes)


def played(post: Post, *states: tuple[float, int], end: float) -> Post:
    for seconds, code in states:
        post.read(seconds, state=code)
    return post.end(end)


def test_time_before_the_first_reading_of_the_state_is_unknown() -> None:
    post = Post().begin(0)
    post.read(60, running=1)
    line = post.end(100).window()
    assert parts(line) == (40, 0, 0, 60)
    assert line["planned_s"] == 100
    assert line["degraded"]


def test_planned_time_is_run_setup_stop_and_unknown() -> None:
    post = played(coded(), (0, 0), (100, 2), (150, 1), (400, 6), (420, 0), end=500)
    line = post.window()
    assert parts(line) == (180, 50, 250, 20)
    assert line["planned_s"] == 500
    assert line["degraded"]


@pytest.mark.parametrize(("bucket", "run"), [("performance", 130), ("availability", 100)])
def test_micro_stops_are_in_run_or_beside_it(bucket: str, run: float) -> None:
    line = played(coded(oee=OeeRules(micro_stop_bucket=bucket)), (0, 0), (50, 1), (80, 0), end=130).window()
    assert (line["run_s"], line["micro_stop_s"], line["stop_s"], line["planned_s"]) == (run, 30, 0, 130)
    assert (line["micro_stop_count"], line["stop_count"]) == (1, 0)


@pytest.mark.parametrize("code", [3, 8, 9, 53])
def test_maintenance_break_not_planned_and_planned_reasons_are_inside_opening_only(code: int) -> None:
    line = played(coded(), (0, 0), (100, code), (400, 0), end=500).window()
    assert (line["planned_s"], line["opening_s"], line["total_s"]) == (200, 500, 500)
    assert parts(line) == (200, 0, 0, 0)


def test_only_unknown_time_and_late_pieces_degrade() -> None:
    assert not played(coded(), (0, 0), (50, 1), end=130).window()["degraded"]
    assert played(coded(), (0, 0), (50, 6), (51, 0), end=130).window()["degraded"]


def test_a_zero_denominator_gives_null_but_no_piece_gives_zero() -> None:
    line = played(coded(), (0, 8), end=100).window()
    assert (line["availability"], line["oee"], line["trs"], line["trg"], line["tre"]) == (None, None, None, 0, 0)
    line = played(coded(), (0, 1), end=100).window()
    assert line["availability"] == 1, "not yet longer than the threshold"
    assert (line["oee"], line["effectiveness"], line["quality_ratio"]) == (0, 0, None)


def test_performance_above_one_is_uncapped_and_flagged() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(20, parts=4)
    line = post.end(20).window()
    assert (line["effectiveness"], line["over_ideal"], line["oee"]) == (2, True, 2)


def test_loss_cost_is_what_was_not_made_of_required_time() -> None:
    post = Post(cost=Cost("EUR", Decimal(90)))
    post.read(0, running=1, parts=0)
    post.read(3600, parts=180)
    assert post.end(3600).window()["loss_cost"] == 45
    assert Post().begin().end(10).window()["loss_cost"] is None


# --- explained ---


def test_unexplained_stops_up_to_the_threshold_are_micro_stops() -> None:
    post = played(coded(), (0, 0), (10, 1), (130, 0), (200, 4), (220, 0), (300, 5), (420.001, 0), end=500)
    assert post.stop_list() == [("micro_stop", 10, 120, None), ("micro_stop", 200, 20, None), ("stop", 300, 120.001, None)]
    assert [d["induced"] for d in post.stops()] == [False, True, True]
    line = post.window()
    assert (line["micro_stop_s"], line["stop_s"], line["micro_stop_count"], line["stop_count"]) == (140, 120.001, 2, 1)


def test_the_first_reason_explains_back_to_the_start() -> None:
    post = Post()
    post.read(0, running=1, fault=0)
    post.read(10, running=0)
    post.read(25, fault=12)
    post.read(30, running=1, fault=0)
    assert post.stop_list() == [("stop", 10, 20, "jam")]
    assert post.window()["stop_s"] == 20


def test_a_second_different_reason_begins_a_new_stop() -> None:
    post = Post()
    post.read(0, running=1, fault=0)
    post.read(10, running=0, fault=12)
    post.read(20, fault=13)
    post.read(30, fault=20)
    post.read(40, running=1)
    assert post.stop_list() == [("stop", 10, 20, "jam"), ("stop", 30, 10, "no_parts")], "12 and 13 mean the same"
    assert [(d["fault"], d["induced"], d["reason_class"]) for d in post.stops()] == [(12, False, "own"), (20, True, "induced")]
    assert post.window()["stop_count"] == 2


def test_a_reason_cleared_before_the_restart_stays() -> None:
    post = Post()
    post.read(0, running=1, fault=0)
    post.read(10, running=0, fault=12)
    post.read(20, fault=0)
    post.read(30, running=1)
    assert post.stop_list() == [("stop", 10, 20, "jam")]
    assert post.data("state.changed")[-2]["reason"] == "jam"


def test_an_unmapped_fault_explains_as_its_number() -> None:
    post = Post()
    post.read(0, running=1, fault=0)
    post.read(10, running=0, fault=77)
    post.read(20, running=1)
    assert post.stop_list() == [("stop", 10, 10, "fault:77")]
    assert post.stops()[0]["reason_class"] == "own"


def test_of_fault_bits_the_first_of_the_list_that_is_up_is_the_fault() -> None:
    state = StateFromBits(Signal("running"), (Signal("guard"), Signal("air_ok", invert=True), Signal("jam"), Signal("0101")))
    post = Post(state=state, reasons=REASONS | {"film": reason("film", "own", "jam"), "door": reason("door", "own", 101)})
    post.read(0, running=1, guard=0, air_ok=1, jam=0)
    post.read(10, running=0, jam=1)
    post.read(20, running=1, jam=0)
    post.read(30, running=0, guard=None, air_ok=0, jam=1)
    post.read(40, running=1, air_ok=1, jam=0)
    post.read(50, running=0, **{"0101": 1})
    post.read(60, running=1)
    assert [(d["fault"], d["reason"]) for d in post.stops()] == [("jam", "film"), ("air_ok", "fault:air_ok"), (101, "door")]


def test_a_fault_while_running_does_not_stop_the_machine() -> None:
    post = Post()
    post.read(0, running=1, fault=12)
    post.end(100)
    assert post.stops() == []
    assert post.window()["run_s"] == 100


def test_a_bad_fault_word_is_no_fault_and_a_bad_running_bit_is_unknown() -> None:
    post = Post()
    post.read(0, running=1, fault=0)
    post.read(10, running=0, fault=None)
    post.read(20, running=None)
    post.read(30, running=1)
    assert post.stop_list() == [("micro_stop", 10, 10, None)]
    assert parts(post.window()) == (20, 0, 0, 10)


def test_a_reason_of_class_setup_explains_the_whole_stop_and_the_state_setup_only_itself() -> None:
    post = played(coded(), (0, 0), (10, 1), (20, 52), (30, 0), end=40)
    assert parts(post.window()) == (20, 20, 0, 0)
    assert post.window()["stop_count"] == 0, "set-up is never counted"
    post = played(coded(), (0, 0), (10, 1), (20, 2), (30, 0), end=40)
    assert parts(post.window()) == (30, 10, 0, 0)
    assert post.window()["micro_stop_count"] == 1


@pytest.mark.parametrize("code", [2, 3, 8, 9])
def test_state_names_never_reach_back(code: int) -> None:
    post = played(coded(), (0, 0), (10, 1), (200, code), (300, 0), end=400)
    assert post.stop_list() == [("stop", 10, 190, None)]


def test_starved_after_stopped_is_a_stop_of_its_own_kind() -> None:
    post = played(coded(), (0, 0), (10, 1), (20, 4), (30, 5), (40, 0), end=50)
    assert [(c, f, d) for c, f, d, _ in post.stop_list()] == [("micro_stop", 10, 10), ("micro_stop", 20, 20)]
    assert [d["induced"] for d in post.stops()] == [False, True]


def test_a_standstill_before_and_after_unknown_time_is_two() -> None:
    post = played(coded(), (0, 0), (10, 1), (60, 6), (70, 1), (120, 0), end=150)
    assert post.stop_list() == [("micro_stop", 10, 50, None), ("micro_stop", 70, 50, None)]
    assert parts(post.window()) == (140, 0, 0, 10)


# --- codes, PackML, OPC 40001-1 ---


def test_a_code_without_a_name_is_unknown_time_and_one_alert() -> None:
    post = played(coded(), (0, 0), (10, 99), (20, 0), (30, 99), (35, 98), (40, 0), end=50)
    assert parts(post.window()) == (30, 0, 0, 20)
    assert [d["alert"] for d in post.data("alert.raised")] == ["state.code:99@press", "state.code:98@press"]
    post.wait(2000)
    post.read(2001, state=99)
    assert len(post.data("alert.raised")) == 2, "one alert per code"
    again = post.restarted()
    again.read(2002, state=99)
    assert len(again.data("alert.raised")) == 2


def packml(**changes: Any) -> Post:
    return Post(state=StateFromPackML("state", "mode"), counts=Counts(), **changes)


def test_packml_states_of_one_kind_form_one_stop() -> None:
    post = packml()
    post.read(0, state=6, mode=1)
    for seconds, state in ((10, 10), (12, 11), (20, 12), (25, 6), (30, 13), (31, 5), (40, 14), (45, 6), (50, 11), (60, 5), (70, 6)):
        post.read(seconds, state=state)
    assert [(f, d) for _, f, d, _ in post.stop_list()] == [(10, 15), (30, 15), (50, 10), (60, 10)]
    assert [d["induced"] for d in post.stops()] == [False, True, False, True]


def test_a_packml_transition_belongs_to_its_neighbour() -> None:
    post = packml()
    post.read(0, state="Execute", mode="Produce")
    for seconds, state in ((10, "Completing"), (12, "Suspended"), (20, "Starting"), (25, "Execute"), (30, "Clearing"), (40, "Execute")):
        post.read(seconds, state=state)
    assert [(f, d) for _, f, d, _ in post.stop_list()] == [(10, 15), (30, 10)]
    assert [d["induced"] for d in post.stops()] == [True, False]


@pytest.mark.parametrize(("mode", "planned"), [(1, 100), (2, 50), (3, 50), (0, 50), (17, 50), ("Cleaning", 50)])
def test_packml_modes_other_than_produce_are_not_required(mode: int | str, planned: float) -> None:
    post = packml()
    post.read(0, state=6, mode=1)
    post.read(50, mode=mode)
    line = post.end(100).window()
    assert (line["planned_s"], line["unknown_s"], line["opening_s"]) == (planned, 0, 100)


def test_a_packml_state_without_a_name_is_unknown() -> None:
    post = packml()
    post.read(0, state=42, mode=1)
    assert post.end(10).window()["unknown_s"] == 10
    assert [d["alert"] for d in post.data("alert.raised")] == ["state.code:42@press"]


def test_the_innermost_active_packml_state_machine_speaks() -> None:
    post = Post(state=StateFromPackML("base", None, "machine", "execute"), counts=Counts())
    post.read(0, base="ns=3;i=5001", machine="ns=3;i=75", execute="ns=3;i=36")
    post.read(10, execute="ns=3;i=34")
    post.read(20, machine="ns=3;i=53")
    post.read(30, base="ns=3;i=62")
    post.read(40, base="Cleared", machine="Running", execute=6)
    post.read(50, execute=None)
    post.read(60, machine=2)
    assert [(f, d) for _, f, d, _ in post.stop_list()] == [(10, 30)]
    assert post.end(70).window()["unknown_s"] == 10, "an inner state that is bad is unknown, unless the outer one says more"


@pytest.mark.parametrize("node", ["ns=3;i=4711", "nsu=urn:acme;s=Held", "i=", "ns=3;i=36;"])
def test_a_node_that_is_no_packml_state_is_unknown(node: str) -> None:
    post = packml()
    post.read(0, state=node, mode=1)
    assert post.end(10).window()["unknown_s"] == 10


@pytest.mark.parametrize(
    ("state", "mode", "where"),
    [
        (3, 3, "run_s"), (3, 0, "run_s"), (2, 3, "stop_s"), (1, 3, "stop_s"), (2, 0, "stop_s"), (0, 3, "unknown_s"),
        (3, 2, "setup_s"), (2, 2, "setup_s"), (1, 2, "setup_s"), ("Executing", "Setup", "setup_s"), (3, 1, None), (2, 1, None),
        (7, 3, "unknown_s"), (3, 9, "unknown_s"),
    ],
)  # fmt: skip
def test_machinery_states_and_modes(state: int | str, mode: int | str, where: str | None) -> None:
    post = Post(state=StateFromMachinery("state", "mode"), counts=Counts())
    post.read(0, state=state, mode=mode)
    line = post.end(200).window()
    assert {name for name in ("run_s", "setup_s", "stop_s", "unknown_s") if line[name]} == ({where} if where else set())
    assert line["planned_s"] == (200 if where else 0)


def test_bits_for_setup_starved_blocked_planned_and_inverted() -> None:
    signals = {name: Signal(name) for name in ("setup", "starved", "blocked", "planned")}
    post = Post(state=StateFromBits(Signal("idle", invert=True), None, **signals), counts=Counts())
    post.read(0, idle=0, setup=0, starved=0, blocked=0, planned=0)
    for seconds, tags in ((10, {"idle": 1, "starved": 1}), (20, {"starved": 0, "blocked": 1}), (30, {"setup": 1}), (40, {"planned": 1})):
        post.read(seconds, **tags)
    post.read(50, idle=0, setup=0, planned=0)
    assert post.states() == ["running", "starved", "blocked", "setup", "not_planned", "running"]
    assert post.stop_list() == [("micro_stop", 10, 20, None)], "starved and blocked are both induced"


# --- chatter ---


def test_stops_under_ignore_under_are_dropped() -> None:
    post = Post(state=CODES, counts=Counts(), cycles=CycleRules(ignore_under_s=5))
    played(post, (0, 0), (10, 1), (14, 0), (20, 1), (26, 0), end=40)
    assert post.stop_list() == [("micro_stop", 20, 6, None)]
    assert post.states() == ["running", "stopped", "running"]


def test_runs_under_min_run_are_dropped_and_their_neighbours_are_one_stop() -> None:
    post = Post(state=CODES, counts=Counts(), cycles=CycleRules(min_run_s=5))
    played(post, (0, 0), (10, 1), (60, 0), (63, 1), (140, 0), end=200)
    assert post.stop_list() == [("stop", 10, 130, None)]
    assert parts(post.window()) == (70, 0, 130, 0)


@pytest.mark.parametrize("restart", [100, 118, 128])
def test_a_restart_that_may_be_chatter_does_not_hold_up_time(restart: float) -> None:
    """The threshold (130) falls into the time in which the restart is still in doubt."""
    post = Post(state=CODES, counts=Counts(), cycles=CycleRules(min_run_s=40))
    played(post, (0, 0), (10, 1), (restart, 0), end=300)
    assert post.stop_list() == [("micro_stop", 10, restart - 10, None)]
    post = Post(state=CODES, counts=Counts(), cycles=CycleRules(min_run_s=40))
    played(post, (0, 0), (10, 1), (restart, 0), (135, 1), (136, 0), end=300)
    assert post.stop_list() == [("stop", 10, 126, None)]


def test_pieces_of_a_restart_in_doubt_are_not_slow() -> None:
    post = Post(cycles=CycleRules(min_run_s=30))
    post.read(0, running=1, parts=0)
    post.read(10, parts=1)
    post.read(15, running=0)
    post.read(100, running=1)
    for number in range(2, 10):
        post.read(100 + 10 * (number - 1) - 5, parts=number)
    assert post.end(200).window()["slow_s"] == 0


def test_a_tag_that_holds_no_codes_at_all_does_not_fill_the_memory() -> None:
    post = coded()
    for n in range(300):
        post.read(n, state=1000 + n)
    assert len(post.data("alert.raised")) == MOST_TOLD
    assert post.end().window()["unknown_s"] == 299
