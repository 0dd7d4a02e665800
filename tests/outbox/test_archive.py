"""A report says the same whether the machine's memory, its journal or both tell it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import pytest

from gateway.config import load
from gateway.domain.calendar import always
from gateway.domain.report import NoSuchWindow, PastUnreadable
from gateway.domain.tracker import Tracker
from gateway.outbox.archive import Archive
from gateway.outbox.history import History
from tests.app.remembered import play, save, site
from tests.domain.post import CODES, T0, Post, unit
from tests.outbox.journal import journal

T = TypeVar("T")
UNIT = "press-07"
DAY = date(2026, 11, 24)


@asynccontextmanager
async def archive(folder: Path, tracker: Tracker, *, memory: Mapping[str, Tracker] | None = None) -> AsyncIterator[Archive]:
    save(folder / "state", tracker)
    with closing(History.open(folder / "state")) as history:

        async def ask(question: Callable[[History], T]) -> T:
            return question(history)

        yield Archive({tracker.unit.name: tracker.unit}, memory or {}, ask)


@pytest.mark.parametrize("which", ["last", "morning", "2026-11-24-morning", "2026-11-24"])
async def test_memory_and_journal_tell_the_same(tmp_path: Path, which: str) -> None:
    tracker = play(load(site(tmp_path)), UNIT)
    async with archive(tmp_path, tracker) as old, archive(tmp_path, tracker, memory={UNIT: tracker}) as live:
        told, remembered = await old.shift(UNIT, which), await live.shift(UNIT, which)
    if which == "2026-11-24":
        # The journal has no hour that still goes on.
        assert (told.line["window"]["kind"], told.line["good"], remembered.line["good"]) == ("day", 836, 836)
        assert (told.line["stop_count"], remembered.line["stop_count"]) == (3, 3)
        assert not remembered.line["closed"]
        return
    assert remembered.line == told.line
    assert remembered.stop_reasons == told.stop_reasons
    assert remembered.intervals == told.intervals
    assert remembered.micro_stops == told.micro_stops
    # The five minutes that are just being filled are in memory alone.
    assert told.cycles_5min == remembered.cycles_5min[: len(told.cycles_5min)]
    assert len(remembered.cycles_5min) - len(told.cycles_5min) <= 1
    assert remembered.jobs == told.jobs
    # How long the stop that goes on has lasted, only the memory knows.
    assert [replace(stop, duration_s=0) for stop in remembered.stops] == [replace(stop, duration_s=0) for stop in told.stops]


async def test_the_timeline_has_no_hole(tmp_path: Path) -> None:
    tracker = play(load(site(tmp_path)), UNIT)
    async with archive(tmp_path, tracker) as old:
        report = await old.shift(UNIT, "last")
    edges = [report.from_, *(i.to for i in report.intervals)]
    assert [i.from_ for i in report.intervals] == edges[:-1]
    assert edges[-1] == report.to
    assert [i.kind for i in report.intervals if i.kind != "run"] == ["stop", "stop", "setup", "stop", "unknown", "stop"]


async def test_a_day_counts_a_stop_over_midnight_once_a_day(tmp_path: Path) -> None:
    """In London and UTC a day ends at midnight; the stop from 23:50 to 00:20 is one stop of each day and one of both."""
    post = Post(unit(state=CODES))
    post.read(0, parts=0, state=0)
    post.read(17.9 * 3600, state=50)
    post.read(18.4 * 3600, state=0)
    post.wait(20.2 * 3600)
    async with archive(tmp_path, post.tracker, memory={"press": post.tracker}) as live:
        days = [await live.day("press", day) for day in (DAY, date(2026, 11, 25))]
    assert [(d.line["stop_count"], d.line["stop_s"], d.line["closed"]) for d in days] == [(1, 360.0, True), (1, 1440.0, False)]
    assert [[s.duration_s for s in d.stops] for d in days] == [[1800.0], [1800.0]], "each lists it whole"


async def test_a_stop_that_goes_on_for_hours_is_counted_in_each_day_it_takes(tmp_path: Path) -> None:
    post = Post(unit(state=CODES))
    post.read(0, parts=0, state=0)
    post.read(17.9 * 3600, state=50)
    post.wait(20.2 * 3600)
    async with archive(tmp_path, post.tracker, memory={"press": post.tracker}) as live:
        day = await live.day("press", date(2026, 11, 25))
        assert (day.line["stop_count"], day.line["stop_s"]) == (1, pytest.approx(2.2 * 3600))
        stops, more = await live.stops("press", datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 26, tzinfo=UTC), 10)
    assert [(s.to, s.duration_s) for s in stops] == [(None, pytest.approx(2.3 * 3600))]
    assert not more


async def test_a_machine_without_shifts_has_days(tmp_path: Path) -> None:
    post = Post(unit(state=CODES))
    post.read(0, parts=0, state=0)
    post.wait(7200)
    async with archive(tmp_path, post.tracker, memory={"press": post.tracker}) as live:
        today = await live.shift("press", "today")
        assert (today.line["window"]["name"], today.line["run_s"], today.line["closed"]) == ("2026-11-24", 7200.0, False)
        assert len(today.intervals) == 1
        with pytest.raises(NoSuchWindow, match="press has no shifts in the configuration: ask for a day, or give it a calendar"):
            await live.shift("press", "current")
        with pytest.raises(NoSuchWindow, match="Nothing is known of press on 2026-11-20"):
            await live.shift("press", "2026-11-20")


async def test_a_closed_database_is_unreadable(tmp_path: Path) -> None:
    tracker = play(load(site(tmp_path)), UNIT)
    async with archive(tmp_path, tracker) as old:
        pass
    with pytest.raises(PastUnreadable):
        await old.shift(UNIT, "last")


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2028, 2, 29), 24)])
async def test_a_day_is_as_long_as_the_clock_makes_it(tmp_path: Path, day: date, hours: int) -> None:
    """The nights on which clocks are put forward and back, and the day that a leap year has more."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Europe/Paris"))
    start = (midnight - T0).total_seconds()
    post = Post(unit(state=CODES, time_zone="Europe/Paris", calendar=always("Europe/Paris")))
    post.read(start - 7200, parts=0, state=0)
    post.wait(start + 26 * 3600)
    async with archive(tmp_path, post.tracker, memory={"press": post.tracker}) as live:
        report = await live.day("press", day)
    assert (report.line["total_s"], report.line["run_s"]) == (hours * 3600, hours * 3600)
    assert (report.to - report.from_).total_seconds() == hours * 3600
    assert report.line["closed"]


async def test_the_running_gateway_answers_from_its_own_journal(tmp_path: Path) -> None:
    """Through the store, in a thread of its own, while the recorder holds the journal."""
    tracker = play(load(site(tmp_path)), UNIT)
    async with journal(tmp_path / "state") as gateway:
        gateway.snapshots.append(tracker.snapshot())
        gateway.recorder.mark_dirty()
        await gateway.settle()
        running = Archive({UNIT: tracker.unit}, {UNIT: tracker}, gateway.store.history)
        assert (await running.shift(UNIT, "last")).line["good"] == 836
        hours = await running.windows(UNIT, "hour", datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC), 10)
        assert len(hours) == 4
