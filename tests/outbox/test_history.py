"""Thirteen months of a machine in the journal: every question is answered by index, at the cost of a day's."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import orjson
import pytest

from gateway.domain.instants import SECOND, instant, moment
from gateway.domain.job import Job, dump_job
from gateway.domain.job_order import JobOrder, JobState
from gateway.domain.oee import Window, dump_window
from gateway.domain.standstill import Part, Standstill, dump_stop
from gateway.outbox import history as questions
from gateway.outbox.history import History
from gateway.outbox.migrate import migrate
from gateway.outbox.retention import prune
from gateway.outbox.session import open_writer
from gateway.outbox.settings import JournalSettings
from gateway.outbox.statedir import StoreError

Row = tuple[str, str, str, int, bytes]
UNIT = "press-07"
HOUR = 3600 * SECOND
DAY = 24 * HOUR
TODAY = instant(datetime(2026, 11, 24, tzinfo=UTC))
SHIFTS = (("early", 5), ("late", 13), ("night", 21))


def at(hours: float) -> int:
    """So many hours into today."""
    return TODAY + round(hours * HOUR)


def body(value: object) -> bytes:
    return orjson.dumps(value)


def window(kind: str, name: str, start: int, end: int, **changes: object) -> Row:
    made = Window(kind, name, start, end, closed=True, **changes)  # type: ignore[arg-type]
    return UNIT, "window", made.key, end, body(dump_window(made))


def stop(start: int, end: int | None, reason: str | None = "jam") -> Row:
    made = Standstill(start, induced=False, reason=reason, end=end, parts=[Part(start, end or start, "OF-1")])
    return UNIT, "stop", str(start), start, body(dump_stop(made))


def job(name: str, start: int, end: int | None) -> Row:
    made = Job(JobOrder(name, quantity=Decimal(100)), JobState.ENDED if end else JobState.RUNNING, 1, started_at=moment(start))
    made.ended_at = None if end is None else moment(end)
    return UNIT, "job", name, end if end is not None else instant(datetime(9999, 1, 1, tzinfo=UTC)), body(dump_job(made))


def day_of_rows(midnight: int) -> Iterator[Row]:
    """Hours, shifts, an order a shift, forty stops and as many stretches, and 5-minute bins."""
    for n in range(24):
        yield window("hour", str(n), midnight + n * HOUR, midnight + (n + 1) * HOUR)
    for name, hour in SHIFTS:
        start = midnight + hour * HOUR
        yield window("shift", name, start, start + 8 * HOUR)
        yield job(f"OF-{start // HOUR}", start, start + 8 * HOUR)
        yield window("job", f"OF-{start // HOUR}", start, start + 8 * HOUR)
    for n in range(40):
        start = midnight + n * DAY // 40
        yield stop(start, start + 300 * SECOND)
        stretch = {"start": start, "end": start + 300 * SECOND, "kind": "stop", "reason": "jam", "fault": None, "induced": False}
        yield UNIT, "interval", str(start), start, body(stretch)
    for n in range(288):
        start = midnight + n * 300 * SECOND
        yield UNIT, "bin", str(start), start, body({"start": start, "count": 30, "values": [2.4], "stride": 1})


def journal(path: Path, rows: Iterator[Row]) -> sqlite3.Connection:
    connection = open_writer(path)
    migrate(connection)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO records (work_unit, kind, key, at, body) VALUES (?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    return connection


def steps(connection: sqlite3.Connection, ago: int = 0) -> dict[str, int]:
    """How many steps of SQLite's machine each question about the day so many days ago takes."""
    history, taken = History(connection), {}
    first, last, midnight, next_day = (at(hour) - ago * DAY for hour in (5, 13, 0, 24))
    asked = {
        "hours": lambda: history.windows(UNIT, "hour", midnight, next_day),
        "shifts": lambda: history.windows(UNIT, "shift", midnight, next_day),
        "latest": lambda: history.latest(UNIT, "shift", next_day, 3),
        "stops": lambda: history.stops(UNIT, first, last),
        "stretches": lambda: history.stretches(UNIT, first, last),
        "bins": lambda: history.bins(UNIT, first, last),
        "job": lambda: history.job(UNIT, f"OF-{first // HOUR}"),
        "jobs": lambda: history.jobs(UNIT, first, last),
    }
    for name, ask in asked.items():
        counted = count()
        connection.set_progress_handler(lambda counted=counted: next(counted) < 0, 1)
        assert ask(), name
        connection.set_progress_handler(None, 0)
        taken[name] = next(counted)
    return taken


@pytest.mark.slow
def test_thirteen_months_cost_no_more_than_a_day(tmp_path: Path) -> None:
    days = [TODAY - n * DAY for n in range(396)]
    with (
        closing(journal(tmp_path / "day.db", day_of_rows(TODAY))) as short,
        closing(journal(tmp_path / "year.db", (row for day in days for row in day_of_rows(day)))) as long,
    ):
        assert long.execute("SELECT count(*) FROM records").fetchone()[0] > 140_000
        few, many, long_ago = steps(short), steps(long), steps(long, ago=365)
    assert max(few.values()) < 3_000
    assert max(long_ago.values()) < 3_000
    # The row that goes on at the beginning is there only where there was a day before.
    assert {name: taken for name, taken in many.items() if taken > few[name] + 20} == {}


def test_every_question_walks_an_index(tmp_path: Path) -> None:
    with closing(journal(tmp_path / "day.db", day_of_rows(TODAY))) as connection:
        for name in ("WINDOWS", "LATEST", "DURING", "DECIDED", "BEFORE", "BY_KEY"):
            sql = getattr(questions, name)
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * sql.count("?"))]
            assert len(plan) == 1, (name, plan)
            index = "(records_by_time|sqlite_autoindex_records_1)"
            assert re.match(rf"SEARCH records USING INDEX {index} \(work_unit=\? AND kind=\? AND", plan[0])


def test_windows_by_their_begin(tmp_path: Path) -> None:
    with closing(journal(tmp_path / "j.db", (row for n in (0, 1) for row in day_of_rows(TODAY - n * DAY)))) as connection:
        history = History(connection)
        assert [w.name for w in history.windows(UNIT, "shift", at(5), at(21))] == ["early", "late"]
        assert [w.name for w in history.windows(UNIT, "shift", at(5), at(21), limit=1)] == ["early"]
        assert [(w.name, w.start) for w in history.latest(UNIT, "shift", at(13) + 1, 2)] == [("late", at(13)), ("early", at(5))]
        assert history.windows("nobody", "shift", at(5), at(21)) == []
        (order,) = history.jobs(UNIT, at(6), at(12))
        found = history.job_window(UNIT, order)
        assert found is not None
        assert (found.kind, found.name) == ("job", order.job_order_id)


def test_a_clock_that_once_stood_in_another_century_is_no_latest_shift(tmp_path: Path) -> None:
    wrong = [window("shift", "early", year * 365 * DAY, year * 365 * DAY + HOUR) for year in (0, 30)]
    with closing(journal(tmp_path / "j.db", iter([*wrong, window("shift", "early", at(5), at(13))]))) as connection:
        assert [w.start for w in History(connection).latest(UNIT, "shift", at(24), 5)] == [at(5)]


def test_what_goes_on_at_the_beginning_belongs_to_it(tmp_path: Path) -> None:
    rows = [
        stop(at(4), at(4.5)),
        stop(at(4.8), at(5.2)),
        stop(at(6), at(6.1)),
        stop(at(7), at(7.01), None),
        stop(at(8), at(8), None),
        stop(at(12.9), None),
        stop(at(13), at(13.1)),
    ]
    drawn = {"start": at(4.8), "end": at(5.2), "kind": "stop", "reason": None, "fault": None, "induced": False}
    rows.append((UNIT, "interval", str(at(4.8)), at(4.8), body(drawn)))
    with closing(journal(tmp_path / "j.db", iter(rows))) as connection:
        history = History(connection)
        assert [s.start for s in history.stops(UNIT, at(5), at(13))] == [at(4.8), at(6), at(7), at(12.9)]
        assert [s.start for s in history.decided_stops(UNIT, at(5), at(13), 10)] == [at(4.8), at(6), at(12.9)]
        assert [s.start for s in history.decided_stops(UNIT, at(5), at(13), 1)] == [at(4.8), at(6)]
        (stretch,) = history.stretches(UNIT, at(5), at(13))
        assert (stretch.start, stretch.end) == (at(5), at(5.2))
        assert [s.start for s in history.stops(UNIT, at(20), at(21))] == [], "the row before has ended"


def test_orders_of_a_shift(tmp_path: Path) -> None:
    rows = [job("before", at(1), at(4)), job("into", at(4), at(6)), job("inside", at(7), at(8)), job("over", at(9), at(15))]
    rows += [job("goes-on", at(12), None), job("later", at(14), at(16))]
    with closing(journal(tmp_path / "j.db", iter(rows))) as connection:
        history = History(connection)
        assert [j.job_order_id for j in history.jobs(UNIT, at(5), at(13))] == ["into", "inside", "over", "goes-on"]
        assert history.job(UNIT, "nothing") is None
        running = history.job(UNIT, "goes-on")
        assert running is not None
        assert history.job_window(UNIT, running) is None


def test_four_hundred_days_are_kept_of_every_kind(tmp_path: Path) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    kept, gone = (instant(now - timedelta(days=days)) // DAY * DAY for days in (398, 402))
    line = ("line-3/_line", "window", "hour:x", gone, b"{}")
    path = tmp_path / "journal.db"
    with closing(journal(path, iter([*day_of_rows(kept), *day_of_rows(gone), line, job("open", gone, None)]))) as connection:
        before = dict(connection.execute("SELECT kind, count(*) FROM records GROUP BY kind"))
        while prune(connection, path, JournalSettings(), instant(now), 0).more:
            pass
        after = dict(connection.execute("SELECT kind, count(*) FROM records GROUP BY kind"))
        assert {k: 2 * n for k, n in after.items()} == before | {"window": before["window"] - 1, "job": before["job"] + 1}
        assert History(connection).job(UNIT, "open") is not None, "an order that is not over is never too old"


def test_a_journal_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        History.open(tmp_path)
    assert "cannot be read" in error.value.problem.en
    assert "--state-dir" in error.value.remedy.en
    (tmp_path / "journal.db").write_bytes(b"no database at all, but long enough to be looked at as one " * 20)
    with pytest.raises(StoreError):
        History.open(tmp_path)


def test_a_journal_of_another_version_is_not_read(tmp_path: Path) -> None:
    with closing(journal(tmp_path / "journal.db", iter([]))) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError) as error:
        History.open(tmp_path)
    assert "another version" in error.value.problem.en


def test_a_journal_is_read_while_its_gateway_writes_and_when_it_does_not(tmp_path: Path) -> None:
    with closing(journal(tmp_path / "journal.db", day_of_rows(TODAY))) as writer:
        with closing(History.open(tmp_path)) as history:
            assert len(history.windows(UNIT, "shift", at(0), at(24))) == 3
        writer.execute("DELETE FROM records WHERE kind = 'stop'")
    with closing(History.open(tmp_path)) as history:
        assert history.stops(UNIT, at(0), at(24)) == []
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            history._connection.execute("DELETE FROM records")
