"""Saves from a damaged journal what can still be read into a new one, which begins an epoch of its own.

SQLite reads every page that is whole; only the rows of the others are lost. Rows are taken over as they are, with their old keys, so
that what was not delivered yet still is, and a repeat is recognised. What bears a checksum must fit it; the rest must at least be JSON
where it should be.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drivers.base import Clock
from gateway.domain.instants import instant
from gateway.outbox.damage import COVERED, checksum
from gateway.outbox.epochs import begin_epoch
from gateway.outbox.exchange import FIRST_PAGE
from gateway.outbox.migrate import migrate, migrations
from gateway.outbox.session import open_reader, open_writer

SALVAGE_S = 5.0
"""How long it may take: the gateway must count again within ten seconds. What was not reached is left in the file that is moved aside."""

_PAGE = 4096
_SLICE = 500
_NEAR = 2_000
"""Row numbers looked at one by one behind a damaged page; beyond, the next that can be read is searched for in growing steps."""
_FAR = 1 << 62
_NO_TIME = 253_402_300_800_000_000
"""Microseconds up to the year 10000."""
_PLAUSIBLE = 1_000_000
"""So many rows at most lie behind the last one that can be read; a cursor further on is no cursor."""

_TABLES = (
    "epochs", "cursors", "sent", "order_cursors", "consumer_marks", "exceptions", "snapshots", "erp_accounts", "journal", "answers",
    "records", "lot_names",
)  # fmt: skip
"""In the order in which they matter while time is short. Telemetry is left: it is old by now."""
_BODY = {"journal": "body", "snapshots": "state", "records": "body", "erp_accounts": "body"}


@dataclass(frozen=True)
class Salvaged:
    """`rows` saved by table. `lost`: ledger rows that an uplink was still waiting for, as far as that is known. `complete`: time was
    enough to look at everything, `read_through`: at least at the whole ledger."""

    rows: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    complete: bool = True
    read_through: bool = False

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def salvage(damaged: Path, target: Path, clock: Clock) -> Salvaged:
    """Make a new database at `target` with what `damaged` still holds. Neither is in use.

    `damaged` stays as it is, but for its first page where that is no database's: it is kept beside it and replaced, without it nothing
    could be read. Raises sqlite3.OperationalError and OSError when the new one cannot be written; then nothing of it counts.
    """
    for suffix in ("", "-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    deadline = clock.monotonic() + SALVAGE_S
    connection = open_writer(target)
    try:
        migrate(connection)
        # It is synchronised once, at the end.
        connection.execute("PRAGMA synchronous = OFF")
        with contextlib.closing(_open_damaged(damaged)) as source:
            taker = _Taker(source, connection, lambda: clock.monotonic() > deadline)
            for table in _TABLES:
                taker.take(table)
            if gone := _settle_epochs(connection):
                taker.saved["journal"] -= gone
            lost = _settle(source, connection)
        # Here, not once it is in use: a start that is cut off in between would go on in the old epoch and give numbers again.
        begin_epoch(connection, "salvaged", instant(clock.now()))
        connection.execute("PRAGMA synchronous = FULL")
        # Only the database itself is moved to its place: nothing of it may be in its log any more.
        busy, written, folded = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy or folded < written:
            raise sqlite3.OperationalError(f"what was saved could not be written to {target}: {folded} of {written} pages")
    finally:
        connection.close()
    handle = os.open(target, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return Salvaged(taker.saved, lost, not taker.late, "journal" in taker.read_through)


class _Taker:
    """Copies tables from one connection to the other until time is up."""

    def __init__(self, source: sqlite3.Connection, target: sqlite3.Connection, is_late: Callable[[], bool]) -> None:
        self.saved: dict[str, int] = {}
        self.read_through: set[str] = set()
        self.late = False
        self._source = source
        self._target = target
        self._is_late = is_late

    def take(self, table: str) -> None:
        columns = [name for name in _columns(self._target, table) if name in _columns(self._source, table)]
        if not columns:
            return
        wanted, marks = ", ".join(columns), ", ".join("?" * len(columns))
        insert = f"INSERT OR IGNORE INTO {table} ({wanted}) VALUES ({marks})"
        self.saved[table] = 0
        for rows in _slices(self._source, self._target, table, wanted):
            good = [row for row in rows if _is_whole(table, dict(zip(columns, row, strict=True)))]
            self.saved[table] += self._insert(insert, good)
            if self._is_late():
                self.late = True
                return
        self.read_through.add(table)

    def _insert(self, insert: str, rows: Sequence[tuple[object, ...]]) -> int:
        self._target.execute("BEGIN")
        try:
            count = 0
            for row in rows:
                # A value of the wrong type or a key that is NULL: the row is damaged, the others are not.
                with contextlib.suppress(sqlite3.IntegrityError):
                    count += self._target.execute(insert, row).rowcount
            self._target.execute("COMMIT")
        except sqlite3.Error:
            if self._target.in_transaction:
                self._target.execute("ROLLBACK")
            raise
        return count


def _open_damaged(path: Path) -> sqlite3.Connection:
    try:
        if not path.exists() or path.stat().st_size < _PAGE:
            # SQLite would delete the log of an empty database.
            raise sqlite3.DatabaseError("there is not even a first page")
        return _readable(path)
    except sqlite3.DatabaseError:
        _replace_first_page(path)
    try:
        return _readable(path)
    except sqlite3.DatabaseError:
        # Not even with a first page that fits: nothing can be saved.
        return sqlite3.connect(":memory:")


def _readable(path: Path) -> sqlite3.Connection:
    connection = open_reader(path)
    try:
        # Believe the schema as it is, and a file that is shorter than its header says.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("PRAGMA cell_size_check = ON")
        if not _columns(connection, "journal"):
            raise sqlite3.DatabaseError("there is no journal in it")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _replace_first_page(path: Path) -> None:
    """Header and schema are the same in every journal of one version: tables are made in the same order, and lie at the same pages."""
    path.touch()
    with path.open("r+b") as file:
        old = file.read(_PAGE)
        version = int.from_bytes(old[60:64], "big") if len(old) >= 64 else 0
        kept = path.with_name(path.name + FIRST_PAGE)
        if not kept.exists():
            kept.write_bytes(old)
        file.seek(0)
        file.write(_first_page(path.with_name(path.name + ".schema"), version))
        file.flush()
        os.fsync(file.fileno())


def _first_page(scratch: Path, version: int) -> bytes:
    steps = migrations()
    known = steps[:version] if 0 < version <= len(steps) else steps
    connection = open_writer(scratch)
    try:
        migrate(connection, known)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = bytearray(scratch.read_bytes()[:_PAGE])
    finally:
        connection.close()
        for suffix in ("", "-wal", "-shm"):
            scratch.with_name(scratch.name + suffix).unlink(missing_ok=True)
    # No list of free pages, and a size that is not believed: SQLite then takes the file's.
    page[28:40] = bytes(12)
    page[92:96] = b"\xff" * 4
    return bytes(page)


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _slices(source: sqlite3.Connection, target: sqlite3.Connection, table: str, columns: str) -> Iterator[list[tuple[object, ...]]]:
    """All rows of a table that can be read."""
    info = target.execute(f"PRAGMA table_info({table})").fetchall()
    key = ", ".join(row[1] for row in sorted(info, key=lambda row: row[5]) if row[5])
    if "WITHOUT ROWID" in target.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]:
        # From both ends up to what cannot be read.
        for order in ("ASC", "DESC"):
            ordered = ", ".join(f"{part} {order}" for part in key.split(", "))
            cursor = source.cursor()
            with contextlib.suppress(sqlite3.DatabaseError):
                cursor.execute(f"SELECT {columns} FROM {table} ORDER BY {ordered}")
                complete = yield from _fetched(cursor)
                if complete:
                    return
        return
    yield from _by_number(source, table, columns)


def _fetched(cursor: sqlite3.Cursor) -> Generator[list[tuple[object, ...]], None, bool]:
    rows: list[tuple[object, ...]] = []
    while True:
        try:
            row = cursor.fetchone()
        except sqlite3.DatabaseError:
            yield rows
            return False
        if row is None:
            yield rows
            return True
        rows.append(row)
        if len(rows) == _SLICE:
            yield rows
            rows = []


def _by_number(source: sqlite3.Connection, table: str, columns: str) -> Iterator[list[tuple[object, ...]]]:
    # One statement up to what cannot be read: a damaged number in a row that is whole else must not be where the next slice begins.
    sql = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid"
    last: int | None = 0
    while last is not None:
        rows: list[tuple[object, ...]] = []
        broken = False
        try:
            for number, *row in source.execute(sql, (last,)):
                if number < _FAR:
                    last = number
                rows.append(tuple(row))
                if len(rows) == _SLICE:
                    yield rows
                    rows = []
        except (sqlite3.DatabaseError, OverflowError):
            broken = True
        yield rows
        following = _next_readable(source, table, last) if broken else None
        last = None if following is None else following - 1


def _next_readable(source: sqlite3.Connection, table: str, last: int) -> int | None:
    """The smallest row number behind `last` from which on reading works; None: there is none."""
    sql = f"SELECT * FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT 1"

    def reads(number: int) -> bool:
        try:
            source.execute(sql, (number,)).fetchone()
        except sqlite3.DatabaseError:
            return False
        return True

    for number in range(last + 2, last + _NEAR):
        if reads(number):
            return number
    bad, step = last + _NEAR, _NEAR
    while not reads(bad + step):
        bad, step = bad + step, step * 2
        if bad > _FAR:
            return None
    good = bad + step
    while good - bad > 1:
        middle = (bad + good) // 2
        bad, good = (bad, middle) if reads(middle) else (middle, good)
    return good


def _is_whole(table: str, row: dict[str, object]) -> bool:
    if row.get("crc") is not None:
        return row["crc"] == checksum(*(row.get(name) for name in COVERED[table]))
    column = _BODY.get(table)
    if column is None:
        return True
    body = row[column]
    if not isinstance(body, bytes):
        return False
    if not 0 <= _number(row.get("at", 0)) < _NO_TIME:
        return False
    try:
        content = json.loads(body)
    except ValueError:
        return False
    if table != "journal":
        return True
    id_ = row.get("id")
    # The key is in the row three times.
    return isinstance(content, dict) and content.get("id") == id_ and str(id_).endswith(f":{row['epoch']}:{row['sequence']}")


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _settle_epochs(target: sqlite3.Connection) -> int:
    """Put each epoch where its rows say that it began; -> rows that had to go, since they are not where their key says."""
    target.execute("BEGIN")
    target.execute("INSERT OR IGNORE INTO epochs (epoch, base, since) SELECT epoch, 0, min(recorded_at) FROM journal GROUP BY epoch")
    most = (
        "SELECT position - sequence AS start FROM journal WHERE journal.epoch = epochs.epoch"
        " GROUP BY start ORDER BY count(*) DESC, start LIMIT 1"
    )
    target.execute(f"UPDATE epochs SET base = ({most}) WHERE epoch IN (SELECT epoch FROM journal)")
    wrong = "position - sequence <> (SELECT base FROM epochs WHERE epochs.epoch = journal.epoch)"
    gone = target.execute(f"DELETE FROM journal WHERE {wrong}").rowcount
    target.execute("COMMIT")
    return gone


def _settle(source: sqlite3.Connection, target: sqlite3.Connection) -> int:
    """Make numbers go on behind all that were given, as far as that is known; -> rows lost that an uplink was still waiting for."""
    target.execute("BEGIN")
    last: int = target.execute("SELECT coalesce(max(position), 0) FROM journal").fetchone()[0]
    given = None
    with contextlib.suppress(sqlite3.DatabaseError):
        row = source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
        given = row[0] if row and isinstance(row[0], int) and last <= row[0] < last + _PLAUSIBLE else None
    # Row numbers must never fall behind a cursor; a cursor that cannot be true is forgotten, and what is kept is sent again.
    target.execute("DELETE FROM cursors WHERE position > ?", (last + _PLAUSIBLE if given is None else given,))
    target.execute("DELETE FROM sent WHERE position > ?", (last if given is None else given,))
    floor, cursor = target.execute("SELECT min(position), coalesce(max(position), 0) FROM cursors").fetchone()
    highest = max(last, given or 0, cursor)
    target.execute("UPDATE epochs SET base = ? WHERE base NOT BETWEEN 0 AND ?", (highest, highest))
    if highest:
        target.execute("DELETE FROM sqlite_sequence WHERE name = 'journal'")
        target.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('journal', ?)", (highest,))
    if floor is None:
        floor = target.execute("SELECT coalesce(min(position) - 1, ?) FROM journal", (highest,)).fetchone()[0]
    (waiting,) = target.execute("SELECT count(*) FROM journal WHERE position > ?", (floor,)).fetchone()
    target.execute("COMMIT")
    return max(int(highest - floor - waiting), 0)
