"""What must hold whatever happens. Some random days each in the fast suite, two thousand in the long one."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import strategies as st

from gateway.domain.equipment import StateFromCounts, WorkUnit
from gateway.domain.kpi import LOSSES
from tests.domain.post import T0
from tests.domain.stories import Step, Story, counting, other_bucket, property_, steps, units

WHATS = ("produced", "good", "scrap", "rework")


@property_(of=units, story=steps)
def test_the_parts_sum_to_the_window(of: WorkUnit, story: list[Step]) -> None:
    told = Story(of).play(story)
    post = told.post.end()
    for line in post.windows():
        parts = line["run_s"] + line["setup_s"] + line["stop_s"] + line["unknown_s"]
        if of.oee.micro_stop_bucket == "availability":
            parts += line["micro_stop_s"]
        assert parts == pytest.approx(line["planned_s"], abs=1e-6)
        assert line["micro_stop_s"] >= 0
        assert line["slow_s"] <= line["run_s"] + 1e-6
        assert min(line["run_s"], line["setup_s"], line["stop_s"], line["unknown_s"], line["slow_s"]) >= 0
        assert min(line["stop_count"], line["micro_stop_count"]) >= 0
        assert line["planned_s"] <= line["opening_s"] <= line["total_s"]
        assert line["produced"] == line["good"] + line["scrap"] + line["rework"]
        assert min(line[what] for what in WHATS) >= 0
        assert line["degraded"] == (line["unknown_s"] > 0 or line["late"] > 0)
    recorded = post.tracker.machine.now / 1e6 - T0.timestamp()
    hours = [w for w in post.windows() if w["window"]["kind"] == "hour"]
    assert sum(w["total_s"] for w in hours) == pytest.approx(recorded, abs=1e-6)
    assert post.window()["total_s"] == pytest.approx(recorded, abs=1e-6)
    for name in ("planned_s", "run_s", "setup_s", "stop_s", "unknown_s", "micro_stop_s", "opening_s", "slow_s", *WHATS):
        assert float(sum(w[name] for w in hours)) == pytest.approx(float(post.window()[name]), abs=1e-6), name


@property_(of=units, story=steps)
def test_required_time_and_its_losses_add_up(of: WorkUnit, story: list[Step]) -> None:
    """PBT = APT + AUST + ADET + ADOT + unknown, and the losses are exactly tR - tU, each of them a loss."""
    for line in Story(of).play(story).post.end().windows():
        parts = sum(line[name] for name in ("run_s", "setup_s", "delay_s", "down_s", "unknown_s"))
        assert parts == pytest.approx(line["planned_s"], abs=1e-6)
        assert line["busy_s"] + line["down_s"] + line["unknown_s"] == pytest.approx(line["planned_s"], abs=1e-6)
        assert min(line[name] for name in ("delay_s", "down_s", "maintenance_s")) >= 0
        assert line["planned_s"] + line["maintenance_s"] <= line["opening_s"] + 1e-6
        if line["useful_s"] is None:
            assert line["losses"] is None
            continue
        assert sum(line["losses"].values()) == pytest.approx(line["planned_s"] - line["useful_s"], abs=1e-6)
        assert set(line["losses"]) == {name for name, _, _ in LOSSES}
        assert min(seconds for name, seconds in line["losses"].items() if name != "residual") >= -1e-6


@property_(of=units, story=steps)
def test_oee_is_useful_time_over_required_time_whatever_the_micro_stop_bucket(of: WorkUnit, story: list[Step]) -> None:
    one, other = (Story(u).play(story).post.end() for u in (of, other_bucket(of)))
    for line, same in zip(one.windows(), other.windows(), strict=True):
        for name in ("oee", "trs", "trg", "tre", "planned_s", "stop_s", "micro_stop_s", "slow_s", "quality_ratio", "loss_cost"):
            assert line[name] == same[name], name
        for each in (line, same):
            factors = [each[name] for name in ("availability", "effectiveness", "quality_ratio")]
            if None not in factors and each["oee"] is not None:
                assert each["oee"] == pytest.approx(factors[0] * factors[1] * factors[2])


@property_(of=units, story=steps, line=st.sampled_from([0.0, 30.0, 600.0, 3600.0]))
def test_oee_is_useful_time_over_required_time_wherever_the_micro_stop_line_is(of: WorkUnit, story: list[Step], line: float) -> None:
    """Another threshold moves time between stops and micro-stops, and nothing else.

    Where a state is made of gaps alone it also decides when a gap is a stop that somebody can explain, as set-up or as planned: there
    required time may differ, pieces and their worth may not.
    """
    told_by_the_machine = not isinstance(of.state, StateFromCounts)
    moved = replace(of, cycles=replace(of.cycles, stop_threshold_s=line))
    one, other = ({key(w): w for w in told.post.end(told.now).windows()} for told in (Story(u).play(story) for u in (of, moved)))
    assert one.keys() == other.keys()
    for window, here in one.items():
        there = other[window]
        for name in ("trg", "tre", "opening_s", "net_s", "useful_s", *WHATS):
            assert here[name] == there[name], (window, name)
        for name in ("oee", "trs", "planned_s", "setup_s", "unknown_s") if told_by_the_machine else ():
            assert here[name] == there[name], (window, name)
        for each in (here, there):
            if each["oee"] is not None and each["useful_s"] is not None:
                assert each["oee"] == pytest.approx(each["useful_s"] / each["planned_s"])


def key(line: dict[str, Any]) -> tuple[str, str, str]:
    return line["window"]["kind"], line["window"]["from"], line["window"]["name"]


@property_(of=units, story=steps, share=st.floats(0, 1))
def test_asking_what_happens_meanwhile_changes_no_event(of: WorkUnit, story: list[Step], share: float) -> None:
    def ask(told: Story, until: int) -> None:
        told.post.wait(told.now + share * (until - told.now))
        told.post.tracker.touch(told.post.tracker.now)
        told.post.tracker.view()
        told.post.tracker.lines()

    asked, plain = Story(of).play(story, ask), Story(of).play(story)
    assert asked.post.end(asked.now).events == plain.post.end(plain.now).events


@property_(of=units, story=steps, index=st.integers(0, 39))
def test_memory_that_moves_to_another_place_changes_no_event(of: WorkUnit, story: list[Step], index: int) -> None:
    told, plain = Story(of), Story(of).play(story)
    told.play(story[:index])
    told.post = told.post.restarted(lost=False)
    told.play(story[index:])
    assert told.post.end().events == plain.post.end().events
    assert told.post.windows() == plain.post.windows()
    seen, expected = told.post.tracker.view(), plain.post.tracker.view()
    # The 5-minute bin that is just being filled is a picture only and is not kept.
    assert replace(seen, cycles_5min=()) == replace(expected, cycles_5min=())


@property_(of=units, story=steps, index=st.integers(0, 39))
def test_a_restart_loses_no_piece_and_never_counts_one_twice(of: WorkUnit, story: list[Step], index: int) -> None:
    calm = [(delay, step) for delay, step in story if step[0] in ("read", "order", "wait")]
    told, plain = Story(of).play(calm[:index]), Story(of).play(calm)
    told.post = told.post.restarted().restarted()
    told.play(calm[index:])
    assert told.post.counted()["produced"] == plain.post.counted()["produced"]
    assert [e.at for e in told.post.events] == sorted(e.at for e in told.post.events)


@property_(of=units, story=steps)
def test_time_never_goes_back_and_books_agree(of: WorkUnit, story: list[Step]) -> None:
    post = Story(of).play(story).post.end()
    assert [e.at for e in post.events] == sorted(e.at for e in post.events)
    running: set[str] = set()
    for event in post.events:
        data = event.data()
        if event.type == "quantity.counted":
            assert data["produced"] == data["good"] + data["scrap"] + data["rework"]
        elif event.type == "job.changed" and event.job_order_id is not None:
            running.discard(event.job_order_id)
            if data["state"] == "Running":
                running.add(event.job_order_id)
            assert len(running) <= 1
    by_job: dict[str | None, dict[str, Decimal]] = {}
    for event in post.events:
        if event.type == "quantity.counted":
            book = by_job.setdefault(event.job_order_id, dict.fromkeys(WHATS, Decimal(0)))
            for what in WHATS:
                book[what] += event.data()[what]
    line = post.window()
    for what in WHATS:
        assert sum((book[what] for book in by_job.values()), Decimal(0)) == line[what]
    ledger = post.tracker.production.ledger
    cleared = any(step[1] in ("Clear", "Cancel") for _, step in story if step[0] == "order")
    for name in ("OF-1", "OF-2", "OF-3"):
        job = ledger.get(name)
        if job is not None and not cleared:
            assert {what: getattr(job, what) for what in WHATS} == by_job.get(name, dict.fromkeys(WHATS, Decimal(0)))
            window = post.tracker.machine.windows.job(name)
            assert window is None or {what: getattr(window, what) for what in WHATS} == {what: getattr(job, what) for what in WHATS}
    range_window = next(w for w in post.tracker.machine.windows.open.values() if w.kind == "range")
    assert range_window.without_order == by_job.get(None, {"produced": Decimal(0)})["produced"]


@property_(of=units, story=counting, kept=st.sets(st.integers(0, 39)))
def test_splitting_or_merging_polls_changes_no_count(of: WorkUnit, story: list[Step], kept: set[int]) -> None:
    every = Story(of).play(story)
    merged = Story(of)
    for index, (delay, (_, made, state, recipe)) in enumerate(story):
        merged.now += delay
        tags = merged.tags(made, state, recipe)
        if index == 0 or index == len(story) - 1 or index in kept:
            merged.post.read(merged.now, **tags)
    assert merged.post.counted() == every.post.counted()


@property_(of=units, story=steps)
def test_the_short_way_of_a_usual_reading_says_what_the_long_way_says(of: WorkUnit, story: list[Step]) -> None:
    """Counters that are read as integers and go on as they should are not looked at further; the same figures as floats are."""

    class Floats(Story):
        def tags(self, made: tuple[int, int, int], state: int | None, recipe: int | None) -> dict[str, Any]:
            return {tag: float(value) for tag, value in super().tags(made, state, recipe).items()}

    short, long = Story(of).play(story).post.end(), Floats(of).play(story).post.end()
    assert short.events == long.events
    assert short.windows() == long.windows()
    assert short.tracker.view() == long.tracker.view()
    assert json.loads(short.tracker.snapshot().state) == json.loads(long.tracker.snapshot().state) | {"inputs": ANY}


@property_(of=units, story=steps)
def test_stops_that_ended_are_in_the_windows(of: WorkUnit, story: list[Step]) -> None:
    """Without calendar and orders, the stops of the range are the events' stops."""
    quiet = [(delay, step) for delay, step in story if step[0] in ("read", "wait")]
    post = Story(of).play(quiet).post.end()
    line = post.window()
    if of.calendar.has_shifts or of.oee.no_order_bucket == "unloaded":
        assert line["stop_count"] <= len(post.stops()) + 1
        return
    counted = [s for s in post.stops() if s["reason_class"] not in ("setup", "planned")]
    ended = {kind: [s for s in counted if s["class"] == kind] for kind in ("stop", "micro_stop")}
    for kind, count, spent in (("stop", "stop_count", "stop_s"), ("micro_stop", "micro_stop_count", "micro_stop_s")):
        assert line[count] - len(ended[kind]) in (0, 1), "one may still be open"
        if line[count] == len(ended[kind]):
            assert line[spent] == pytest.approx(sum(s["duration_s"] for s in ended[kind]), abs=1e-6)
