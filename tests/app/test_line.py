"""The pipeline in the process, with a recorder that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest

from drivers.base import Quality, Reading
from gateway.acquisition.sampling import Sampling
from gateway.acquisition.telemetry import Telemetry
from gateway.app.line import LAG, Line, UnitCommands, sources
from gateway.app.live import LivePublisher
from gateway.domain.equipment import Counter, Counts, Signal, StateFromBits, WorkUnit
from gateway.domain.events import ClockStepped, Event, QuantityCounted, StateChanged
from gateway.domain.job_order import JobCommand, JobOrder, Verb
from gateway.domain.tracker import Tracker
from gateway.domain.work_center import LineRule, WorkCenter
from gateway.metrics import Metrics
from gateway.outbox.recorder import Recorder
from gateway.uplink.topics import Topics
from tests.manual_clock import ManualClock

START = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


class Remembering:
    """What a recorder would have written."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.telemetry: list[tuple[str, dict[str, Any]]] = []
        self.dirty = 0
        self.distrusted: tuple[datetime, float] | None = None

    def distrust_clock(self, known: datetime, seconds: float) -> None:
        self.distrusted = known, seconds

    def record(self, events: Sequence[Event]) -> None:
        self.events.extend(events)

    def mark_dirty(self) -> None:
        self.dirty += 1

    def record_telemetry(self, device: str, body: bytes) -> None:
        self.telemetry.append((device, orjson.loads(body)))


def line(*, recorded: bool = False, bulk: bool = True) -> tuple[Line, Remembering, ManualClock]:
    unit = WorkUnit("m", "acme", "lyon", "hall", "line", StateFromBits(Signal("run")), Counts(total=Counter("parts")))
    clock, recorder = ManualClock(START), Remembering()
    made = Line(
        {"m": Tracker(unit)},
        [WorkCenter("line", {"m": unit}, LineRule())],
        Sampling({"m": {"run": ("plc", "run"), "parts": ("plc", "parts")}}),
        Telemetry(["plc"], {"plc": ("run", "parts", "spare")}),
        clock,
        Metrics(),
        recorded=frozenset({"plc"} if recorded else ()),
        own_time=frozenset({"m"} if recorded else ()),
        bulk=bulk,
    )
    made.connect(cast(Recorder, recorder))
    return made, recorder, clock


def readings(at: datetime, source: datetime | None = None, **values: float | None) -> list[Reading]:
    return [Reading(tag, v, Quality.BAD if v is None else Quality.GOOD, source, at) for tag, v in values.items()]


def kinds(recorder: Remembering) -> list[str]:
    return [event.type for event in recorder.events]


def test_a_poll_becomes_events_and_one_telemetry_message() -> None:
    made, recorder, _ = line()
    made.on_readings("plc", readings(START, run=1, parts=100, spare=7), False)
    made.on_readings("plc", readings(START + timedelta(seconds=1), run=1, parts=103, spare=7), False)
    assert [e.produced for e in recorder.events if isinstance(e, QuantityCounted)] == [3]
    assert [device for device, _ in recorder.telemetry] == ["plc", "plc"]
    assert [row[0] for row in recorder.telemetry[0][1]["values"]] == ["run", "parts", "spare"]
    assert [row[0] for row in recorder.telemetry[1][1]["values"]] == ["parts"], "only what changed"
    assert recorder.telemetry[1][1]["sequence"] == 2


def test_tags_are_told_only_after_the_commit_that_holds_their_sample() -> None:
    made, _, _ = line()
    made.on_readings("plc", readings(START, run=1, parts=100), False)
    assert made.committed_tags() == {}, "nothing was taken by a commit yet"
    snapshots = made.snapshots()
    assert [snapshot.work_unit for snapshot in snapshots] == ["m"]
    made.on_readings("plc", readings(START + timedelta(seconds=1), parts=101), False)
    assert [r.value for r in made.committed_tags()["plc"]] == [1, 100], "the count that came during the commit waits for the next"
    made.snapshots()
    assert [r.value for r in made.committed_tags()["plc"]] == [101]


def test_the_first_good_value_is_told_even_when_the_next_shares_its_commit() -> None:
    """It is the baseline: whoever counts along from the second value would miss the pieces in between."""
    made, _, _ = line()
    made.on_readings("plc", readings(START - timedelta(seconds=1), parts=None), False)
    for second, parts in enumerate((100, 101, 103)):
        made.on_readings("plc", readings(START + timedelta(seconds=second), parts=parts), False)
    made.snapshots()
    first = made.committed_tags()
    for second, parts in enumerate((104, None, 106), start=3):
        made.on_readings("plc", readings(START + timedelta(seconds=second), parts=parts), False)
    made.snapshots()
    assert [reading.value for reading in first["plc"]] == [100, 103]
    assert [reading.value for reading in made.committed_tags()["plc"]] == [106]
    told: list[tuple[float, bool]] = []

    class Target:
        def set_live(self, topic_suffix: str, payload: bytes, *, retain: bool, qos: int, lasting: bool = False) -> None:
            told.append((orjson.loads(payload)["value"], lasting))

    topics = Topics(root="root", enterprise="acme", site="lyon", gateway_id="pc", units={"m": "hall/line/m"})
    live = LivePublisher([Target()], topics, {("plc", "parts"): ("m",)}, [("plc", "parts")])
    live.tags(first)
    live.tags(first)
    assert told == [(100, True), (103, False), (100, False), (103, False)]
    LivePublisher([Target()], topics, {("plc", "parts"): ("m",)}, []).tags(first)
    assert told[4:] == [(100, False), (103, False)], "of a unit that the journal knows the first value of a process is no baseline"


def test_a_baseline_without_an_event_makes_the_line_dirty() -> None:
    made, recorder, _ = line(bulk=False)
    made.on_readings("plc", readings(START, parts=100), False)
    assert recorder.dirty > 0
    assert made.snapshots() != []


def test_time_passes_with_a_lag_so_that_late_readings_still_fit() -> None:
    made, recorder, clock = line()
    made.on_readings("plc", readings(START, START, run=1, parts=1), True)
    clock.step_wall(3600.0)
    made._clocks = (clock.now(), clock.monotonic())
    made.pass_time()
    assert made.trackers["m"].now <= clock.now() - LAG
    source = clock.now() - timedelta(seconds=1)
    made.on_readings("plc", readings(clock.now(), source, parts=2), True)
    counted = [e for e in recorder.events if isinstance(e, QuantityCounted)]
    assert [e.at for e in counted] == [source]
    assert made.trackers["m"].late_samples == 0


async def test_a_step_of_the_wall_clock_is_an_event_and_less_than_a_second_is_none() -> None:
    made, recorder, clock = line()
    made.pass_time()
    clock.step_wall(0.9)
    made.pass_time()
    assert not [e for e in recorder.events if isinstance(e, ClockStepped)]
    clock.step_wall(-3600.0)
    made.pass_time()
    steps = [e for e in recorder.events if isinstance(e, ClockStepped)]
    assert [step.step_s for step in steps] == [-3600.0]
    assert steps[0].from_ - steps[0].to == timedelta(hours=1)


async def test_counting_goes_on_after_the_clock_was_set_back_whoever_notices_it_first() -> None:
    made, recorder, clock = line()
    made.on_readings("plc", readings(START, run=1, parts=1), False)
    await clock.advance(1.0)
    under_way = readings(clock.now(), run=1, parts=2)
    clock.step_wall(-3600.0)
    made.on_readings("plc", under_way, False)
    assert made.trackers["m"].now == clock.now(), "a reading from before the step is one of now"
    assert [e.step_s for e in recorder.events if isinstance(e, ClockStepped)] == [-3600.0]
    await clock.advance(1.0)
    made.on_readings("plc", readings(clock.now(), run=1, parts=3), False)
    made.pass_time()
    counted = [e for e in recorder.events if isinstance(e, QuantityCounted)]
    assert [e.at for e in counted] == [clock.now() - timedelta(seconds=1), clock.now()]
    assert len([e for e in recorder.events if isinstance(e, ClockStepped)]) == 1


async def test_a_command_that_was_under_way_while_the_clock_was_set_back_comes_now() -> None:
    made, _, clock = line()
    made.on_readings("plc", readings(START, run=1, parts=1), False)
    received = clock.now()
    clock.step_wall(-3600.0)
    target = UnitCommands(made, made.trackers["m"], own_time=False)
    target.command(JobCommand(Verb.STORE_AND_START, "c-1", JobOrder("OF-1"), received), received)
    assert made.trackers["m"].now == clock.now()


async def test_a_clock_that_goes_years_ahead_makes_nothing_old_for_a_day() -> None:
    made, recorder, clock = line()
    made.pass_time()
    clock.step_wall(3600.0)
    made.pass_time()
    assert recorder.distrusted is None
    before = clock.now()
    clock.step_wall(10_000 * 86_400.0)
    made.pass_time()
    assert recorder.distrusted == (before, 86_400.0)


async def test_time_in_which_the_process_did_not_run_is_unknown() -> None:
    made, recorder, clock = line()
    ticking = asyncio.create_task(made.tick())
    await clock.advance(1.0)
    made.on_readings("plc", readings(clock.now(), run=1, parts=1), False)
    await clock.advance(10.0)
    clock.freeze(6 * 3600.0)
    made.on_readings("plc", readings(clock.now(), run=1, parts=500), False)
    await clock.advance(5.0)
    states = [e.state for e in recorder.events if isinstance(e, StateChanged)]
    assert states == ["running", "unknown", "running"]
    assert [(e.produced, e.late) for e in recorder.events if isinstance(e, QuantityCounted)] == [(499, True)]
    assert made._metrics.registry.get_sample_value("lineside_unseen_seconds_total") == pytest.approx(6 * 3600, abs=1)
    ticking.cancel()


def test_a_journal_that_is_ahead_of_the_clock_is_taken_up_now() -> None:
    made, _, clock = line()
    made.on_readings("plc", readings(START, run=1, parts=1), False)
    snapshot = made.trackers["m"].snapshot()
    again, recorder, _ = line()
    again.trackers["m"].restore(snapshot, snapshot.records)
    again._clock = clock
    clock.step_wall(-1800.0)
    again.take_up_time()
    assert again.trackers["m"].now == clock.now()
    assert [e.step_s for e in recorder.events if isinstance(e, ClockStepped)] == [-1800.0]
    again.pass_time()
    assert len([e for e in recorder.events if isinstance(e, ClockStepped)]) == 1


def test_a_recording_lives_in_its_own_time_and_is_not_taken_twice() -> None:
    made, recorder, clock = line(recorded=True)
    past = datetime(2020, 9, 27, 12, 0, tzinfo=UTC)
    made.on_readings("plc", readings(past, past, run=1, parts=5), True)
    made.on_readings("plc", readings(past + timedelta(seconds=9), past + timedelta(seconds=9), run=0, parts=6), True)
    made.pass_time()
    assert made.trackers["m"].now == past + timedelta(seconds=9), "the wall clock does not move it"
    seen = kinds(recorder)
    again, second, _ = line(recorded=True)
    tracker = again.trackers["m"]
    snapshot = made.trackers["m"].snapshot()
    tracker.restore(snapshot, snapshot.records)
    again = Line(
        {"m": tracker}, [], Sampling({"m": {"run": ("plc", "run"), "parts": ("plc", "parts")}}),
        Telemetry(["plc"], {"plc": ("run", "parts")}), clock,
        Metrics(), recorded=frozenset({"plc"}), own_time=frozenset({"m"}), bulk=False,
    )  # fmt: skip
    again.connect(cast(Recorder, second))
    again.on_readings("plc", readings(past, past, run=1, parts=5), True)
    assert second.events == [], "what was played before the restart"
    assert "quantity.counted" in seen


def test_commands_change_the_unit_and_show_on_the_page() -> None:
    made, recorder, clock = line()
    made.on_readings("plc", readings(START, run=1, parts=1), False)
    made.changed.clear()
    target = UnitCommands(made, made.trackers["m"], own_time=False)
    answer, events = target.command(JobCommand(Verb.STORE_AND_START, "c1", JobOrder("OF-1"), clock.now()), clock.now())
    assert answer.accepted
    assert made.changed == {"m"}
    assert {event.type for event in events} >= {"job.changed"}
    assert "job.changed" not in kinds(recorder), "the intake records them, with its answer"


def test_a_lost_link_is_unknown_time() -> None:
    made, recorder, _ = line()
    made.on_readings("plc", readings(START, run=1, parts=1), False)
    made.on_readings("plc", readings(START + timedelta(seconds=5), run=None, parts=None, spare=None), False)
    changes = [e for e in recorder.events if isinstance(e, StateChanged)]
    assert [change.state for change in changes] == ["running", "unknown"]


async def test_a_closed_window_of_the_line_follows_that_of_its_machines_in_the_same_step() -> None:
    made, recorder, clock = line()
    made.pass_time()
    made.on_readings("plc", readings(clock.now(), run=1, parts=5), False)
    await clock.advance(3700)
    made.pass_time()
    closed = [event for event in recorder.events if event.type == "window.closed"]
    assert [event.work_unit for event in closed] == ["m", "line/_line"] * 2, "the hour before 06:00 too: deadlines are processed late"
    assert closed[1].data()["work_center"] == "line"
    assert [snapshot.work_unit for snapshot in made.snapshots()] == ["m", "line/_line"]
    assert [snapshot.work_unit for snapshot in made.snapshots()] == []
    assert sources(made, "/acme/lyon/_gateway/g")("line/_line") == "/acme/lyon/hall/line/_line"
