"""What may leave the journal, oldest first and in small slices; rows that an uplink still waits for never do."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.instants import SECOND, Instant
from gateway.outbox.settings import JournalSettings

SLICE = 1_000
"""Rows a transaction removes at most: a commit of events never waits longer for its turn than for one of these."""
_VACUUM_PAGES = 500

_RETIRED = (
    "SELECT position FROM journal WHERE position <= ? AND recorded_at < ?"
    " AND position NOT IN (SELECT position FROM exceptions WHERE state NOT IN ('parked', 'delivered')) ORDER BY position LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """Rows removed by one slice, by class."""

    journal: int = 0
    history: int = 0
    telemetry: int = 0

    @property
    def more(self) -> bool:
        """There may be more to remove."""
        return max(self.journal, self.history, self.telemetry) >= SLICE


def used_bytes(connection: sqlite3.Connection, path: Path) -> int:
    """Pages in use, and the log beside them."""
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    log = path.with_name(path.name + "-wal")
    return int((pages - free) * size) + (log.stat().st_size if log.exists() else 0)


def prune(connection: sqlite3.Connection, path: Path, settings: JournalSettings, now: Instant, floor: int) -> Pruned:
    """Remove one slice: ledger rows up to `floor` (done for every uplink) older than the retention, and history older than its own.

    Genealogy has a time of its own (`trace`). Above `max_size` more goes, in this order: telemetry, ledger rows up to `floor` of any age,
    history older than the retention (what is younger belongs to running jobs and shifts, and stays even when pending rows alone exceed
    the size), genealogy older than `history`.
    Raises sqlite3.Error with nothing removed.
    """
    over = used_bytes(connection, path) > settings.max_size
    connection.execute("BEGIN IMMEDIATE")
    try:
        pruned = _over_size(connection, settings, now, floor) if over else _aged(connection, settings, now, floor)
        if pruned.journal:
            first = "(SELECT coalesce(min(position), ?) FROM journal)"
            connection.execute(f"DELETE FROM exceptions WHERE position < {first}", (floor + 1,))
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if max(pruned.journal, pruned.history, pruned.telemetry):
        connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
    return pruned


def _aged(connection: sqlite3.Connection, settings: JournalSettings, now: Instant, floor: int) -> Pruned:
    retired = now - int(settings.retention * SECOND)
    forgotten = now - int(settings.history * SECOND)
    kept = now - int(settings.trace * SECOND)
    return Pruned(journal=_journal(connection, floor, retired), history=_history(connection, forgotten) + _lots(connection, kept))


def _over_size(connection: sqlite3.Connection, settings: JournalSettings, now: Instant, floor: int) -> Pruned:
    oldest = "(SELECT id FROM telemetry ORDER BY id LIMIT ?)"
    telemetry = connection.execute(f"DELETE FROM telemetry WHERE id IN {oldest}", (SLICE,)).rowcount
    if telemetry:
        return Pruned(telemetry=telemetry)
    # A clock that stood in the future when a row was recorded must not make it stay.
    journal = _journal(connection, floor, 1 << 62)
    if journal:
        return Pruned(journal=journal)
    history = _history(connection, now - int(settings.retention * SECOND))
    # Where a lot came from is worth more than how the machine ran, and takes little room: it goes last.
    return Pruned(history=history or _lots(connection, now - int(settings.history * SECOND)))


def _journal(connection: sqlite3.Connection, floor: int, before: Instant) -> int:
    return connection.execute(f"DELETE FROM journal WHERE position IN ({_RETIRED})", (floor, before, SLICE)).rowcount


def _history(connection: sqlite3.Connection, before: Instant) -> int:
    records = "(SELECT rowid FROM records WHERE at < ? AND kind NOT IN ('lot', 'serial') ORDER BY at LIMIT ?)"
    answers = "(SELECT command_id FROM answers WHERE at < ? ORDER BY at LIMIT ?)"
    return (
        connection.execute(f"DELETE FROM records WHERE rowid IN {records}", (before, SLICE)).rowcount
        + connection.execute(f"DELETE FROM answers WHERE command_id IN {answers}", (before, SLICE)).rowcount
    )


def _lots(connection: sqlite3.Connection, before: Instant) -> int:
    """Genealogy, and the names by which it was found."""
    oldest = "SELECT {} FROM records WHERE at < ? AND kind IN ('lot', 'serial') ORDER BY at LIMIT ?"
    rows = f"({oldest.format('work_unit, kind, key')})"
    connection.execute(f"DELETE FROM lot_names WHERE (work_unit, kind, key) IN {rows}", (before, SLICE))
    return connection.execute(f"DELETE FROM records WHERE rowid IN ({oldest.format('rowid')})", (before, SLICE)).rowcount
