"""What one commit of the journal holds, and how it is written: all of it or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.entry import Entry
from gateway.domain.instants import Instant, instant
from gateway.domain.job_order import Answer
from gateway.domain.snapshot import Snapshot
from gateway.outbox.damage import checksum

_COLUMNS = "position, epoch, sequence, id, work_unit, type, job_order_id, at, recorded_at, total_bytes, body, crc"

PARKED = "parked"
"""State of a row that the peer refused for good."""
QUARANTINED = "quarantined"
"""State of a row that was refused several times and waits for a new connection or for a person."""
DELIVERED = "delivered"
"""State of a row above the cursor that is done, while an earlier one is still open."""
CLOSED_STATES = (PARKED, DELIVERED)
"""Exceptions in these states need nothing more; any other keeps its row in the journal and in the backlog."""

TELEMETRY_ROWS = 20_000
"""Batches of telemetry kept for an uplink that is away; half an hour of ten devices polled every second."""


@dataclass(frozen=True, slots=True)
class RowException:
    """A row that an uplink treats apart from its cursor; `at` aware UTC."""

    uplink: str
    position: int
    state: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ConsumerMark:
    """All rows of `epoch` up to `sequence` are this consumer's; `at` aware UTC, when it said so."""

    uplink: str
    consumer: str
    epoch: str
    sequence: int
    at: datetime


@dataclass(slots=True)
class Batch:
    """Everything of one transaction. Later writes to the same key replace earlier ones."""

    entries: list[Entry] = field(default_factory=list)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    answers: list[tuple[Answer, datetime]] = field(default_factory=list)
    order_cursors: dict[str, str] = field(default_factory=dict)
    accounts: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    """(uplink, job order) -> the account of an ERP; None removes it."""
    cursors: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    exceptions: dict[tuple[str, int], RowException | None] = field(default_factory=dict)
    """None removes the exception."""
    marks: dict[tuple[str, str, str], ConsumerMark] = field(default_factory=dict)
    telemetry: list[tuple[str, bytes]] = field(default_factory=list)
    telemetry_done: int = 0
    """Telemetry up to this id has been delivered."""

    def __bool__(self) -> bool:
        return bool(
            self.entries
            or self.snapshots
            or self.answers
            or self.order_cursors
            or self.accounts
            or self.cursors
            or self.sent
            or self.exceptions
            or self.marks
            or self.telemetry
            or self.telemetry_done
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What a commit left behind: the running total of the bodies' bytes, how much telemetry had to go, and the id of the last
    telemetry batch it wrote (0: it wrote none; their ids rise by exactly 1)."""

    total_bytes: int
    telemetry_dropped: int
    telemetry_last: int


def write(connection: sqlite3.Connection, batch: Batch, *, total_bytes: int, recorded_at: Instant) -> Written:
    """Commit `batch` in one transaction. Raises sqlite3.Error with everything rolled back.

    A commit whose outcome was unknown (an I/O error while the log was synchronised) may be repeated: rows that are there are left alone.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        written = _write_all(connection, batch, total_bytes, recorded_at)
        connection.execute("COMMIT")
    except sqlite3.Error:
        # SQLite has already rolled back after some errors (a full disk), after others it has not.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return written


def _write_all(connection: sqlite3.Connection, batch: Batch, total_bytes: int, recorded_at: Instant) -> Written:
    if batch.entries:
        if not _is_written(connection, batch.entries[-1].position):
            rows = _journal_rows(batch.entries, total_bytes, recorded_at)
            connection.executemany(f"INSERT INTO journal ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        total_bytes += sum(len(entry.body) for entry in batch.entries)
    if batch.snapshots:
        _write_snapshots(connection, batch.snapshots)
    if batch.answers:
        connection.executemany(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
            [
                (a.command_id, a.return_status, a.state, a.problem and a.problem.code, a.problem and a.problem.text, instant(at))
                for a, at in batch.answers
            ],
        )
    if batch.order_cursors:
        connection.executemany("INSERT OR REPLACE INTO order_cursors VALUES (?, ?)", list(batch.order_cursors.items()))
    if batch.accounts:
        _write_accounts(connection, batch.accounts)
    _write_deliveries(connection, batch)
    return Written(total_bytes, *_write_telemetry(connection, batch))


def _is_written(connection: sqlite3.Connection, position: int) -> bool:
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
    return row is not None and row[0] >= position


def _journal_rows(entries: list[Entry], total_bytes: int, recorded_at: Instant) -> Iterator[tuple[object, ...]]:
    for e in entries:
        total_bytes += len(e.body)
        key = e.position, e.epoch, e.sequence, e.id, e.work_unit, e.type, e.job_order_id, instant(e.at)
        yield *key, recorded_at, total_bytes, e.body, checksum(*key, e.body)


def _write_snapshots(connection: sqlite3.Connection, snapshots: dict[str, Snapshot]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO snapshots (work_unit, version, state, crc) VALUES (?, ?, ?, ?)",
        [(s.work_unit, s.version, s.state, checksum(s.work_unit, s.version, s.state)) for s in snapshots.values()],
    )
    names = [(*name, s.work_unit, r.kind, r.key) for s in snapshots.values() for r in s.records for name in r.names]
    if names:
        connection.executemany("INSERT OR IGNORE INTO lot_names VALUES (?, ?, ?, ?, ?)", names)
    rows = [(s.work_unit, r.kind, r.key, instant(r.at), r.body) for s in snapshots.values() for r in s.records]
    records = [(*row, checksum(*row)) for row in rows]
    if records:
        connection.executemany(
            "INSERT INTO records (work_unit, kind, key, at, body, crc) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET at = excluded.at, body = excluded.body, crc = excluded.crc",
            records,
        )


def _write_accounts(connection: sqlite3.Connection, accounts: dict[tuple[str, str], bytes | None]) -> None:
    connection.executemany("DELETE FROM erp_accounts WHERE uplink = ? AND job_order_id = ?", [k for k, b in accounts.items() if b is None])
    connection.executemany(
        "INSERT INTO erp_accounts (uplink, job_order_id, body, crc) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET body = excluded.body, crc = excluded.crc",
        [(*key, body, checksum(*key, body)) for key, body in accounts.items() if body is not None],
    )


def _write_deliveries(connection: sqlite3.Connection, batch: Batch) -> None:
    if batch.cursors:
        connection.executemany(
            "INSERT OR REPLACE INTO cursors (uplink, position, crc) VALUES (?, ?, ?)",
            [(*cursor, checksum(*cursor)) for cursor in batch.cursors.items()],
        )
    if batch.sent:
        connection.executemany("INSERT OR REPLACE INTO sent VALUES (?, ?)", list(batch.sent.items()))
    if batch.exceptions:
        gone = [key for key, row in batch.exceptions.items() if row is None]
        kept = [(r.uplink, r.position, r.state, r.reason, instant(r.at)) for r in batch.exceptions.values() if r is not None]
        connection.executemany("DELETE FROM exceptions WHERE uplink = ? AND position = ?", gone)
        connection.executemany("INSERT OR REPLACE INTO exceptions VALUES (?, ?, ?, ?, ?)", kept)
    if batch.cursors:
        # A delivered row above the cursor is no exception any more once the cursor has passed it.
        connection.executemany(
            "DELETE FROM exceptions WHERE uplink = ? AND position <= ? AND state = 'delivered'", list(batch.cursors.items())
        )
    if batch.marks:
        marks = [(m.uplink, m.consumer, m.epoch, m.sequence, instant(m.at)) for m in batch.marks.values()]
        connection.executemany(
            "INSERT OR REPLACE INTO consumer_marks (uplink, consumer, epoch, sequence, at, crc) VALUES (?, ?, ?, ?, ?, ?)",
            [(*mark, checksum(*mark)) for mark in marks],
        )


def _write_telemetry(connection: sqlite3.Connection, batch: Batch) -> tuple[int, int]:
    """How many of the oldest batches had to go, and the id of the last one written."""
    if batch.telemetry_done:
        connection.execute("DELETE FROM telemetry WHERE id <= ?", (batch.telemetry_done,))
    if not batch.telemetry:
        return 0, 0
    connection.executemany("INSERT INTO telemetry (device, body) VALUES (?, ?)", batch.telemetry)
    last: int = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
    return connection.execute("DELETE FROM telemetry WHERE id <= ?", (last - TELEMETRY_ROWS,)).rowcount, last
