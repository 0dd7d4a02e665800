"""What a restart must not lose, and what it must not invent."""

from __future__ import annotations

import json
from datetime import time
from decimal import Decimal

import pytest

from gateway.domain.calendar import Calendar, always
from gateway.domain.equipment import Counts, CycleRules
from gateway.domain.shift_rules import Break, ShiftRule
from gateway.domain.snapshot import Snapshot
from gateway.domain.tracker import Tracker
from tests.domain.post import CODES, Post, at, counted_unit, parts, unit


def running_job() -> Post:
    post = Post()
    post.read(0, running=1, parts=100)
    post.order(0, "StoreAndStart", "OF-1", quantity=Decimal(1000))
    for number in range(1, 31):
        post.read(10 * number, parts=100 + number)
    return post


def test_pieces_made_meanwhile_are_counted_once_late_and_for_the_job() -> None:
    post = running_job().restarted()
    post.read(600, running=1, parts=158)
    post.read(610, parts=159)
    [late] = post.data("quantity.counted", late=True)
    assert (late["produced"], late["since"]) == (28, at(300))
    assert post.counted()["produced"] == 59
    job = post.tracker.production.ledger.running
    assert job is not None
    assert (job.job_order_id, job.produced) == ("OF-1", 59)
    line = post.window("job")
    assert (line["produced"], line["unknown_s"], line["run_s"], line["degraded"]) == (59, 300, 310, True)


def test_a_second_restart_before_the_first_reading_changes_nothing() -> None:
    post = running_job().restarted().restarted()
    post.read(600, running=1, parts=158)
    assert post.counted()["produced"] == 58
    assert [d["state"] for d in post.data("state.changed")] == ["running", "unknown", "running"]


def test_windows_that_should_have_closed_meanwhile_close() -> None:
    post = running_job().restarted()
    post.read(7300, running=1, parts=800)
    closed = post.data("window.closed")
    assert [(d["window"]["from"], d["produced"], d["unknown_s"], d["run_s"]) for d in closed] == [
        ("2026-11-24T06:00:00Z", 30, 3300, 300), ("2026-11-24T07:00:00Z", 0, 3600, 0),
    ]  # fmt: skip
    assert post.hour(2)["produced"] == 670, "booked whole at the time of its reading"
    assert [e.at for e in post.events] == sorted(e.at for e in post.events)


def test_the_stop_that_was_open_ends_where_nobody_looked_any_more() -> None:
    post = Post()
    post.read(0, running=1, fault=0)
    post.read(100, running=0, fault=12)
    post.read(200, fault=12)
    again = post.restarted()
    again.read(300, running=0, fault=12)
    again.read(400, running=1, fault=0)
    assert again.stop_list() == [("stop", 100, 100, "jam"), ("stop", 300, 100, "jam")]
    assert parts(again.window()) == (100, 0, 200, 100)


def test_a_reason_given_after_the_restart_still_finds_its_stop_and_its_hour() -> None:
    post = Post(state=CODES, counts=Counts())
    post.read(0, state=0)
    post.read(100, state=1)
    post.read(400, state=0)
    post.read(3700, state=0)
    again = post.restarted()
    assert again.fact(3800, "ExplainStop", 200, reason="coil_change").accepted
    assert (again.hour(0)["setup_s"], again.hour(0)["stop_s"], again.hour(0)["revision"]) == (300, 0, 2)
    assert again.stop_list() == [("stop", 100, 300, "coil_change")]


def test_a_change_that_waited_is_forgotten_and_nothing_hangs() -> None:
    post = Post(state=CODES, counts=Counts(), cycles=CycleRules(ignore_under_s=10))
    post.read(0, state=0)
    post.read(100, state=1)
    again = post.restarted()
    again.read(200, state=0)
    assert again.stops() == []
    assert parts(again.end(210).window()) == (110, 0, 0, 100)


def test_from_counts_the_time_in_the_dark_is_unknown() -> None:
    post = Post(counted_unit())
    for number in range(4):
        post.read(10 * number, parts=number)
    again = post.restarted()
    again.read(200, parts=21)
    again.read(210, parts=22)
    assert parts(again.end(210).window()) == (40, 0, 0, 170)
    assert again.stops() == []
    assert again.counted(late=True)["produced"] == 18


def test_alerts_still_stand_and_clear_after_the_restart() -> None:
    post = Post()
    post.read(0, running=1, parts=100)
    post.read(10, parts=5000)
    again = post.restarted()
    assert [a.alert for a in again.tracker.signals.standing(again.tracker.machine.now)] == ["counter.glitch:parts@press"]
    again.read(20, running=1, parts=102)
    assert [d["alert"] for d in again.data("alert.cleared")] == ["counter.glitch:parts@press"]


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        Tracker(unit()).restore(Snapshot("press", 99, b"{}"), [])


def test_the_hot_state_stays_small() -> None:
    post = running_job()
    for number in range(31, 2000):
        post.read(10 * number, parts=100 + number)
    snapshot, _ = post.saved()
    assert len(snapshot.state) < 20_000
    assert json.loads(snapshot.state)


def shifts(break_to: time, zone: str = "UTC", name: str = "early") -> Calendar:
    return Calendar(zone, [ShiftRule(name, frozenset(range(1, 8)), time(6), time(14), (Break(time(6, 20), break_to),))])


def test_a_changed_calendar_applies_from_the_restart_on_and_never_to_closed_windows() -> None:
    post = Post(calendar=shifts(time(6, 30)))
    post.read(0, running=1, parts=0)
    post.read(1500, running=0)
    post.read(5400, running=1)
    before = post.hour(0)
    assert (before["planned_s"], before["stop_s"]) == (3000, 1800)
    for calendar in (shifts(time(6, 50)), always()):
        again = post.restarted(onto=unit(calendar=calendar))
        assert again.fact(5500, "ExplainStop", 2000, reason="jam").accepted
        after = again.hour(0)
        assert (after["planned_s"], after["stop_s"], after["revision"]) == (3000, 1800, 2)
        assert set(after["changed"]) == {"failure_s", "failure_count", "mtbf_s", "mttr_s"}
        once_more = again.restarted(onto=unit(calendar=shifts(time(6, 40), name="day")))
        assert once_more.fact(5600, "ExplainStop", 2000, reason="no_parts").accepted
        assert once_more.hour(0)["planned_s"] == 3000


def test_a_shift_that_the_new_calendar_has_begins_at_once() -> None:
    post = Post(calendar=always())
    post.read(0, running=1, parts=0)
    post.read(600, running=1, parts=60)
    again = post.restarted(onto=unit(calendar=shifts(time(6, 30))))
    again.read(1000, running=1, parts=100)
    assert again.window("shift", "early")["produced"] == 40
    again.wait(4000)
    assert again.hour(0)["planned_s"] == 3000, "ten minutes of the hour are a break by now"
