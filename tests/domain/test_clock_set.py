"""The wall clock is set while a machine works: durations stay what they were, nothing is counted twice, nothing stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.equipment import Counter, Counts, Dispatch, Signal, StateFromBits, StateFromCounts, StateFromOrder, WorkUnit
from gateway.domain.events import AlertRaised, Event, JobProgress, QuantityCounted, StateChanged, StopEnded, WindowClosed
from gateway.domain.job_order import JobCommand, JobOrder, Verb
from gateway.domain.sample import Input, Sample
from gateway.domain.tracker import Tracker
from tests.effort import efforts

START = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
CYCLE_S = 10
HOUR = timedelta(hours=1)


class Machine:
    """One piece every ten seconds, read each time; `wall` is what the clock says, `made` what the machine did."""

    def __init__(self, state: Any = None, start: datetime = START) -> None:
        self.unit = WorkUnit(
            "m", "acme", "lyon", "hall", "line", state or StateFromBits(Signal("run")), Counts(total=Counter("parts")),
            ideal_cycle_time_s=Decimal(CYCLE_S), dispatch=Dispatch(end="manual"),
        )  # fmt: skip
        self.tracker = Tracker(self.unit)
        self.wall, self.made, self.events = start, 0, list[Event]()
        self.run, self.steps = True, 0
        self.read()

    def read(self) -> None:
        inputs = {"parts": Input(self.made, False), "run": Input(self.run, False)}
        self.events += self.tracker.observe(Sample("m", self.wall, inputs))

    def work(self, seconds: int) -> None:
        for _ in range(seconds // CYCLE_S):
            self.wall += timedelta(seconds=CYCLE_S)
            self.made += self.run
            self.read()

    def set_clock(self, by: timedelta) -> None:
        self.events += self.tracker.clock_set(by // timedelta(microseconds=1))
        self.wall += by
        self.steps += 1

    def order(self, verb: Verb, name: str = "OF-1") -> None:
        command = JobCommand(verb, f"{verb}-{name}-{self.wall}", JobOrder(job_order_id=name), self.wall)
        answer, events = self.tracker.command(command, self.wall)
        assert answer.accepted, answer
        self.events += events

    def restart(self) -> None:
        """The process ends and begins again, with nothing lost in between."""
        snapshot, tracker = self.tracker.snapshot(), Tracker(self.unit)
        self.records = {**getattr(self, "records", {}), **{(r.kind, r.key): r for r in snapshot.records}}
        tracker.restore(snapshot, list(self.records.values()), lost=False)
        self.tracker = tracker
        self.read()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def windows(self, kind: str) -> dict[str, dict[str, Any]]:
        """By name, as told last."""
        return {e.line["window"]["name"]: e.line for e in self.of(WindowClosed) if e.line["window"]["kind"] == kind}

    def check(self) -> None:
        assert sum(e.produced for e in self.of(QuantityCounted)) == self.made
        assert not [e for e in self.of(QuantityCounted) if e.produced < 0]
        assert not [e.alert for e in self.of(AlertRaised)], "no glitch, nothing unusual"
        for stop in self.of(StopEnded):
            assert stop.from_ <= stop.to
            assert stop.duration_s >= 0
        for line in [e.line for e in self.of(WindowClosed)]:
            parts = [line[f"{name}_s"] for name in ("run", "setup", "stop", "unknown")]
            assert min(parts) >= 0
            assert line["planned_s"] == pytest.approx(sum(parts))
            assert line["planned_s"] <= line["opening_s"] + 1e-6
            # Pieces that were made in the dark belong to the hour in which they are found, which says that it is no measure.
            late = line["degraded"] and line["over_ideal"]
            # One that was cut short may hold a piece more than fits, each time that time came to it: the one on its edge.
            bound = 1.01 + (1 + self.steps) * CYCLE_S / max(line["planned_s"], 1)
            assert line["trs"] is None or late or 0 <= line["trs"] <= bound, line
            assert line["window"]["from"] <= line["window"]["to"]


@pytest.mark.parametrize("restarts", [False, True])
def test_an_hour_back_the_machine_goes_on_and_what_comes_again_is_filled_further(restarts: bool) -> None:
    machine = Machine()
    machine.work(3600 + 1800)
    machine.set_clock(-HOUR)
    if restarts:
        machine.restart()
    machine.work(3600 + 1800 + 1800)
    assert machine.tracker.now == machine.wall == START + timedelta(hours=2, minutes=30)
    machine.check()
    hours = machine.windows("hour")
    first, second = hours["2026-11-25T06:00:00Z"], hours["2026-11-25T07:00:00Z"]
    assert (first["planned_s"], first["run_s"], first["produced"], first["revision"]) == (5400, 5400, 538, 2)
    assert (second["planned_s"], second["run_s"]) == (5400, 5400), "the half hour before the step waited for it"
    assert second["produced"] == 541, "a piece on the hour belongs to the next"
    assert first["degraded"]
    assert second["degraded"], "more time than an hour has is no measure"
    assert all(later.at <= machine.wall for later in machine.events)


def test_an_hour_forward_what_was_skipped_is_unknown() -> None:
    machine = Machine()
    machine.work(1800)
    machine.set_clock(HOUR)
    machine.work(1800 + 10)
    machine.check()
    hours = machine.windows("hour")
    assert (hours["2026-11-25T06:00:00Z"]["run_s"], hours["2026-11-25T06:00:00Z"]["unknown_s"]) == (1800, 1800)
    assert (hours["2026-11-25T07:00:00Z"]["run_s"], hours["2026-11-25T07:00:00Z"]["unknown_s"]) == (1800, 1800)
    assert hours["2026-11-25T07:00:00Z"]["degraded"] is True


def test_a_stop_that_goes_on_is_cut_and_keeps_its_length() -> None:
    machine = Machine()
    machine.work(600)
    machine.run = False
    machine.read()
    machine.work(600)
    machine.set_clock(-HOUR)
    machine.work(300)
    machine.run = True
    machine.read()
    machine.work(600)
    machine.check()
    assert [round(stop.duration_s) for stop in machine.of(StopEnded)] == [600, 300]


@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_an_order_goes_on_and_lasts_as_long_as_it_did(by: timedelta) -> None:
    machine = Machine()
    machine.work(600)
    machine.order(Verb.STORE_AND_START)
    machine.work(1200)
    machine.set_clock(by)
    machine.work(1200)
    job = machine.tracker.production.ledger.get("OF-1")
    assert job is not None
    assert job.started_at is not None
    if by < timedelta():
        assert machine.wall - job.started_at == timedelta(seconds=2400)
    machine.order(Verb.STOP)
    machine.work(60)
    machine.check()
    window = machine.windows("job")["OF-1"]
    assert window["run_s"] == 2400
    assert window["produced"] == 240
    told = machine.of(JobProgress)
    assert told[-1].produced == 240
    assert len(told) > 200, "progress was told all the time, also after the step"
    assert all(0 < later.at.timestamp() - earlier.at.timestamp() < 60 for earlier, later in pairwise(told[-100:-1]))


def test_rejects_after_the_step_still_find_the_pieces_made_before() -> None:
    machine = Machine()
    machine.order(Verb.STORE_AND_START)
    machine.work(100)
    machine.set_clock(-HOUR)
    job = machine.tracker.production.ledger.get("OF-1")
    assert job is not None
    machine.tracker.production.mark("scrap", Decimal(4), job, 0)
    machine.order(Verb.STOP)
    machine.work(20)
    line = machine.windows("job")["OF-1"]
    assert (line["produced"], line["scrap"]) == (10, 4)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC), datetime(2026, 11, 25, 6, 10, tzinfo=UTC)),
        (datetime(2050, 1, 1, tzinfo=UTC), datetime(2026, 11, 25, 6, 10, tzinfo=UTC)),
    ],
)
def test_a_clock_that_was_years_off_begins_anew(before: datetime, after: datetime) -> None:
    machine = Machine(start=before)
    machine.order(Verb.STORE_AND_START)
    machine.work(600)
    machine.set_clock(after - machine.wall)
    machine.work(3600)
    machine.order(Verb.STOP)
    machine.work(20)
    machine.check()
    assert len(machine.events) < 3000, "half a century of hours is not told"
    assert machine.windows("job")["OF-1"]["run_s"] == 4200
    assert machine.windows("hour")["2026-11-25T06:00:00Z"]["run_s"] == 3000, "50 minutes of it were seen"


@pytest.mark.parametrize("state", [StateFromCounts(), StateFromOrder()], ids=["gaps", "order"])
@pytest.mark.parametrize("by", [-HOUR, HOUR])
def test_other_kinds_of_machines_go_on_too(state: Any, by: timedelta) -> None:
    machine = Machine(state)
    machine.order(Verb.STORE_AND_START)
    machine.work(1200)
    machine.set_clock(by)
    machine.work(1200)
    machine.order(Verb.STOP)
    machine.work(3600)
    machine.check()
    assert machine.windows("job")["OF-1"]["run_s"] == pytest.approx(2400, abs=2 * CYCLE_S)
    assert not machine.of(StopEnded) or state == StateFromOrder()


def test_six_hours_that_nobody_saw_are_unknown_and_their_pieces_late() -> None:
    machine = Machine()
    machine.work(600)
    machine.wall += timedelta(hours=6)
    machine.made += 2160
    machine.events += machine.tracker.unseen(machine.wall)
    machine.read()
    machine.work(6000)
    machine.check()
    late = [e for e in machine.of(QuantityCounted) if e.late]
    assert [int(e.produced) for e in late] == [2160]
    assert [e.state for e in machine.of(StateChanged)] == ["running", "unknown", "running"]
    hours = machine.windows("hour")
    assert hours["2026-11-25T08:00:00Z"]["unknown_s"] == 3600
    assert hours["2026-11-25T12:00:00Z"]["degraded"] is True


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["work", "work", "work", "stop", "restart", "order", "end"]),
        st.integers(1, 1500),
        st.one_of(st.just(0), st.integers(-7200, 7200), st.sampled_from([-3600, 3600, -10_000_000, 10_000_000])),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@efforts("examples", 10, 100, 2000)
def test_whatever_the_clock_does_no_duration_is_negative_and_no_piece_is_lost(examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(MOVES, st.sampled_from([None, StateFromCounts()]))(_story))()


def _story(moves: list[tuple[str, int, int]], state: Any) -> None:
    machine = Machine(state)
    for number, (what, seconds, by) in enumerate(moves):
        machine.run = what != "stop"
        machine.read()
        machine.work(seconds)
        if what == "order" and machine.tracker.production.ledger.running is None:
            machine.order(Verb.STORE_AND_START, f"OF-{number}")
        running = machine.tracker.production.ledger.running
        if what == "end" and running is not None:
            machine.order(Verb.STOP, running.job_order_id)
        if by:
            machine.set_clock(timedelta(seconds=by))
        if what == "restart":
            machine.restart()
        assert machine.tracker.now == machine.wall
    machine.run = True
    machine.work(3700)
    machine.check()
    machine.tracker.view()
