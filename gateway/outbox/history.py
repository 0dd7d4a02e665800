"""What the journal remembers of each work unit: closed windows, stops, the timeline, cycle times and orders, for page, API and reports.

Every question walks an index over no more than what it answers: it costs the same with a day in the journal as with thirteen months.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from gateway.domain.events import Text
from gateway.domain.instants import SECOND, Instant, instant, moment, timestamp
from gateway.domain.job import Job, load_job
from gateway.domain.oee import Window, load_window
from gateway.domain.pace import CycleTimes
from gateway.domain.snapshot import Record, Snapshot
from gateway.domain.standstill import Standstill, load_stop
from gateway.domain.timeline import Stretch
from gateway.outbox.migrate import migrations, schema_version
from gateway.outbox.session import open_reader
from gateway.outbox.statedir import DATABASE, StoreError

WINDOWS = "SELECT body FROM records WHERE work_unit = ? AND kind = 'window' AND key >= ? AND key < ? ORDER BY key LIMIT ?"
LATEST = "SELECT body FROM records WHERE work_unit = ? AND kind = 'window' AND key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
DURING = "SELECT body FROM records WHERE work_unit = ? AND kind = ? AND at >= ? AND at < ? ORDER BY at LIMIT ?"
_TEXT = "CAST(body AS TEXT)"
DECIDED = DURING.replace("ORDER", f"AND (json_extract({_TEXT}, '$.long') OR json_extract({_TEXT}, '$.reason') IS NOT NULL) ORDER")
BEFORE = "SELECT body FROM records WHERE work_unit = ? AND kind = ? AND at < ? ORDER BY at DESC LIMIT 1"
BY_KEY = "SELECT body FROM records WHERE work_unit = ? AND kind = ? AND key = ?"

_EARLIEST = 10**15
"""September 2001. Keys hold instants of sixteen digits, which sort as text like numbers; a clock that stood before is none."""
_LATEST = 10**16 - 1
MOST = 20_000
"""Rows of one answer: a day of a machine that stops every five seconds."""
_ENDED_NEXT = 50
"""Orders that had begun at a time are looked for among so many of the next that ended: one that waited longer did not run then."""
_NOT_OVER = 1 << 57
"""Beyond any end (the year 6536), before the time of the rows of orders that are not over; those are as many as a ledger may hold."""
_FOR_EVER = 1 << 62


class History:
    """Reads one connection, which nothing else uses at the same time. Instants are microseconds since 1970-01-01 UTC.

    Every method raises sqlite3.Error where the database cannot be read.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, state_dir: Path) -> Self:
        """Of the journal in `state_dir`, whether its gateway runs or not. Raises StoreError with a sentence and a remedy."""
        path = state_dir / DATABASE
        try:
            if not path.exists():
                raise _unreadable(path, "no such file")
            connection = open_reader(path)
            found = schema_version(connection)
        except (sqlite3.Error, OSError) as error:
            raise _unreadable(path, str(error)) from error
        if found != migrations()[-1].version:
            connection.close()
            raise StoreError(
                f"{path}: schema {found}",
                problem=Text(
                    f"Le journal {path} est d'une autre version de lineside.", f"The journal {path} is of another version of lineside."
                ),
                remedy=Text("Utiliser la version qui l'a écrit.", "Use the version of lineside that wrote it."),
            )
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """All questions inside see the journal of one moment, whatever the gateway writes meanwhile."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def order_cursor(self, uplink: str) -> str | None:
        """Up to where the gateway has taken the orders of this uplink; None: it has taken none."""
        row = self._connection.execute("SELECT cursor FROM order_cursors WHERE uplink = ?", (uplink,)).fetchone()
        return row[0] if row else None

    # --- windows --------------------------------------------------------------------------------------------------

    def windows(self, work_unit: str, kind: str, start: Instant, end: Instant, limit: int = MOST) -> list[Window]:
        """Closed windows of this kind (hour, shift, job) that began in [start, end), oldest first."""
        return [load_window(body) for body in self._rows(WINDOWS, work_unit, *_keys(kind, start, end), limit)]

    def latest(self, work_unit: str, kind: str, before: Instant, limit: int) -> list[Window]:
        """The latest closed windows of this kind that began before `before`, latest first."""
        return [load_window(body) for body in self._rows(LATEST, work_unit, *_keys(kind, _EARLIEST, before), limit)]

    def line_windows(self, key: str, kind: str, start: Instant, end: Instant, limit: int = MOST) -> list[Mapping[str, Any]]:
        """Rows of a production line (`<work_center>/_line`) as `WorkCenter` keeps them: revision, and each machine's line."""
        first, last = (f"{kind}:{timestamp(moment(at))}:" for at in (start, end))
        return list(self._rows(WINDOWS, key, first, last, limit))

    # --- what happened --------------------------------------------------------------------------------------------

    def stops(self, work_unit: str, start: Instant, end: Instant, limit: int = MOST) -> list[Standstill]:
        """Standstills that share time with [start, end), micro-stops included, oldest first."""
        found = [load_stop(body) for body in self._during(work_unit, "stop", start, end, limit)]
        # One of no length was taken back: pieces that came together showed that the machine had not stood.
        return [stop for stop in found if stop.end is None or stop.end > max(start, stop.start)]

    def decided_stops(self, work_unit: str, start: Instant, end: Instant, limit: int) -> list[Standstill]:
        """`stops` without the micro-stops, so that a year's worth of those is not read into memory to find the others."""
        before = [load_stop(body) for body in self._rows(BEFORE, work_unit, "stop", start)]
        found = [load_stop(body) for body in self._rows(DECIDED, work_unit, "stop", start, end, limit)]
        return [stop for stop in [*before, *found] if stop.decided and (stop.end is None or stop.end > start)]

    def stretches(self, work_unit: str, start: Instant, end: Instant) -> list[Stretch]:
        """The timeline of [start, end), clipped to it."""
        found = [Stretch(**body) for body in self._during(work_unit, "interval", start, end, MOST)]
        for stretch in found:
            stretch.start, stretch.end = max(stretch.start, start), min(stretch.end, end)
        return [stretch for stretch in found if stretch.end > stretch.start]

    def bins(self, work_unit: str, start: Instant, end: Instant) -> list[CycleTimes]:
        """Cycle times of the 5-minute bins that began in [start, end)."""
        return [CycleTimes(**body) for body in self._rows(DURING, work_unit, "bin", start, end, MOST)]

    def job(self, work_unit: str, job_order_id: str) -> Job | None:
        """The order as it stands, ended or not; None where this unit never had it, or no longer remembers."""
        return next((load_job(body) for body in self._rows(BY_KEY, work_unit, "job", job_order_id)), None)

    def jobs(self, work_unit: str, start: Instant, end: Instant) -> list[Job]:
        """Orders that were begun before `end` and had not ended at `start`, in order of their begin."""
        ended = self._rows(DURING, work_unit, "job", start, end, MOST)
        later = self._rows(DURING, work_unit, "job", end, _NOT_OVER, _ENDED_NEXT)
        open_ = self._rows(DURING, work_unit, "job", _NOT_OVER, _FOR_EVER, MOST)
        found = [load_job(body) for body in [*ended, *later, *open_]]
        begun = [job for job in found if job.started_at is not None and instant(job.started_at) < end and not job.removed]
        return sorted(begun, key=lambda job: (job.started_at, job.job_order_id))

    def job_window(self, work_unit: str, job: Job) -> Window | None:
        """The closed window of an order that is over."""
        if job.ended_at is None:
            return None
        ended = instant(job.ended_at)
        bodies = self._rows(DURING, work_unit, "window", ended - SECOND, ended + SECOND, MOST)
        return next((load_window(body) for body in bodies if (body["kind"], body["name"]) == ("job", job.job_order_id)), None)

    # --- the memory of a tracker ------------------------------------------------------------------------------------

    def snapshots(self) -> dict[str, Snapshot]:
        """The latest of each work unit; its records are read with `records`."""
        return {row[0]: Snapshot(*row) for row in self._connection.execute("SELECT work_unit, version, state FROM snapshots")}

    def records(self, work_unit: str, kinds: Sequence[str], since: Instant) -> list[Record]:
        """The records of these kinds whose `at` is not before `since`, oldest first."""
        sql = (
            f"SELECT kind, key, at, body FROM records WHERE work_unit = ? AND kind IN ({', '.join('?' * len(kinds))})"
            " AND at >= ? ORDER BY at, kind, key"
        )
        return [Record(k, key, moment(at), body) for k, key, at, body in self._connection.execute(sql, (work_unit, *kinds, since))]

    # --- rows -----------------------------------------------------------------------------------------------------

    def _during(self, work_unit: str, kind: str, start: Instant, end: Instant, limit: int) -> list[dict[str, Any]]:
        """Rows that begin in [start, end), and the one that went on at `start`: of these kinds one ends before the next begins."""
        return [*self._rows(BEFORE, work_unit, kind, start), *self._rows(DURING, work_unit, kind, start, end, limit)]

    def _rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        return [json.loads(body) for (body,) in self._connection.execute(sql, values)]


def _keys(kind: str, start: Instant, end: Instant) -> tuple[str, str]:
    first, last = (f"{kind}:{min(max(at, _EARLIEST), _LATEST)}:" for at in (start, end))
    return first, last


def _unreadable(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path}: {why}",
        problem=Text(f"Le journal {path} ne peut pas être lu.", f"The journal {path} cannot be read."),
        remedy=Text(
            "Indiquer le bon dossier avec --state-dir, et lancer la commande avec le compte du service ou sudo.",
            "Name the right folder with --state-dir, and run the command as the service's account or with sudo.",
        ),
    )
