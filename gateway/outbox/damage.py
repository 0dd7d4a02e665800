"""Finds damage to a journal: in its pages, in what its rows hold, and in the log beside it.

SQLite cuts a damaged log off in silence, at the first frame that does not fit, and a missing one it does not miss: rows that were already
published would be gone and their numbers be given again. Source of the log's layout: https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.base import Clock

CHECK_S = 2.0
"""How long the check at start may last. A larger journal is not read to its end: the gateway must count again within seconds."""
IN_USE = "in-use"
"""There while a journal is in use, and after a kill: then its log must be there too."""

_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_PAGE_SIZE_LARGEST = 65_536
_INDEX = struct.Struct("=12xB3xI12x8s")
"""The beginning of the log's index: whether it is in use, how many frames count, and of which life of the log."""

COVERED = {
    "journal": ("position", "epoch", "sequence", "id", "work_unit", "type", "job_order_id", "at", "body"),
    "records": ("work_unit", "kind", "key", "at", "body"),
    "snapshots": ("work_unit", "version", "state"),
    "erp_accounts": ("uplink", "job_order_id", "body"),
    "cursors": ("uplink", "position"),
    "consumer_marks": ("uplink", "consumer", "epoch", "sequence", "at"),
}
"""What the checksum of a row covers: whatever is believed without a second look."""

_SUMS = {table: f"checksum({', '.join(columns)}) <> crc" for table, columns in COVERED.items()}
_LAST = "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'journal')"
_WRONG_FEW = (
    f"SELECT 'snapshot of ' || work_unit FROM snapshots WHERE {_SUMS['snapshots']}",
    f"SELECT 'account of ' || job_order_id FROM erp_accounts WHERE {_SUMS['erp_accounts']}",
    f"SELECT 'cursor of ' || uplink FROM cursors WHERE position > {_LAST} OR {_SUMS['cursors']}",
    f"SELECT 'mark of ' || consumer FROM consumer_marks WHERE {_SUMS['consumer_marks']}",
    f"SELECT 'epoch ' || epoch FROM epochs WHERE base NOT BETWEEN 0 AND {_LAST}",
)
"""Tables of few rows, in which one that is wrong does most harm: looked at however large the journal is."""
_WRONG_MANY = (
    # What the trackers take up at the start lies at the end.
    "SELECT kind || ' of ' || work_unit FROM records WHERE at >= (SELECT max(at) - 172800000000 FROM records"
    f" WHERE at < 253370764800000000) AND {_SUMS['records']}",
    # Rows that are done are looked at when somebody asks for them again.
    "SELECT 'row ' || position FROM journal WHERE position > (SELECT coalesce(min(position), 0) FROM cursors)"
    f" AND ({_SUMS['journal']} OR position - sequence IS NOT (SELECT base FROM epochs WHERE epochs.epoch = journal.epoch))",
)


class Corrupt(Exception):
    """The journal is damaged; the text says where, SQLite's own where it is SQLite's."""


def is_damage(error: sqlite3.Error) -> bool:
    """True for a database that is none or is malformed, or is shorter than its header says; not for a full disk, a lock, missing rights."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Python's own: bytes that are no text.
        return "decode" in str(error)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code == sqlite3.SQLITE_IOERR_SHORT_READ


def damaged(message: str) -> sqlite3.DatabaseError:
    """The error that SQLite would raise had it seen it."""
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def checksum(*fields: object) -> int:
    """As the column `crc` has it, of the fields that `COVERED` names, a body last; also a function of SQL after `add_functions`."""
    *head, last = fields
    return zlib.crc32(last if isinstance(last, bytes) else str(last).encode(), zlib.crc32("|".join(map(str, head)).encode()))


def add_functions(connection: sqlite3.Connection) -> None:
    """Teach a connection `checksum(...)`."""
    connection.create_function("checksum", -1, checksum, deterministic=True)


def check(connection: sqlite3.Connection, clock: Clock) -> None:
    """Look at pages and checksums for at most CHECK_S. Raises Corrupt."""
    deadline = clock.monotonic() + CHECK_S
    connection.set_progress_handler(lambda: clock.monotonic() > deadline, 50_000)
    add_functions(connection)
    try:
        wrong = _first(connection, _WRONG_FEW)
        if wrong is None:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            wrong = answer if answer != "ok" else _first(connection, _WRONG_MANY)
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code == sqlite3.SQLITE_INTERRUPT:
            return
        if code == sqlite3.SQLITE_ERROR:
            # The statements are right: what they met (text that is none) is not.
            raise Corrupt(str(error)) from error
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if wrong is not None:
        raise Corrupt(wrong)


def _first(connection: sqlite3.Connection, statements: Sequence[str]) -> str | None:
    rows = (connection.execute(f"{sql} LIMIT 1").fetchone() for sql in statements)
    found = next(filter(None, rows), None)
    return None if found is None else f"{found[0]} is not what was written"


@dataclass(frozen=True)
class Log:
    """What lies beside a database before anything opens it. `commits`: numbers of the frames that end a transaction of its last life.

    `counted`: how many frames counted for the last process; its index is written after the log was synchronised.
    """

    missing: bool = False
    is_damaged: bool = False
    commits: tuple[int, ...] = ()
    counted: int = 0

    def is_cut(self, connection: sqlite3.Connection) -> bool:
        """Once it is open: whether SQLite left transactions out that had been written. Raises sqlite3.Error.

        It is asked itself, by a checkpoint that waits for nobody: whoever opens and closes the index or the database beside a connection of
        the same process takes that connection's locks away.
        """
        if self.missing or self.is_damaged:
            return True
        written = max(self.counted, *self.commits, 0)
        if not written:
            return False
        _, counts, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return 0 <= int(counts) < written


def look_at_log(path: Path) -> Log:
    """Of the database at `path`, which nobody has open. Raises OSError."""
    log = path.with_name(path.name + "-wal")
    if not log.exists():
        return Log(missing=path.exists() and path.with_name(IN_USE).exists())
    counted, life = _index(path)
    size = log.stat().st_size
    with log.open("rb") as file:
        header = file.read(_HEADER.size)
        first = file.read(_FRAME.size)
        if len(first) < _FRAME.size:
            return Log(is_damaged=counted > 0)
        if not _is_header(header):
            # After a power cut a log may be there in length alone.
            return Log(is_damaged=any(header) or any(first) or counted > 0)
        _, _, page_size, _, *salts, _, _ = _HEADER.unpack(header)
        commits, number, step = [], 0, _FRAME.size + page_size
        while len(first) == _FRAME.size:
            _, pages, *frame_salts, _, _ = _FRAME.unpack(first)
            number += 1
            # A frame that a kill cut in half was no transaction's end yet.
            if frame_salts == salts and pages and _HEADER.size + number * step <= size:
                commits.append(number)
            file.seek(_HEADER.size + number * step)
            first = file.read(_FRAME.size)
    return Log(commits=tuple(commits), counted=counted if life == header[16:24] else 0)


def _is_header(header: bytes) -> bool:
    """Magic number, page size and checksum are those of a log."""
    magic, _, page_size, _, _, _, *sums = _HEADER.unpack(header)
    if magic not in (0x377F0682, 0x377F0683) or not 512 <= page_size <= _PAGE_SIZE_LARGEST or page_size & (page_size - 1):
        return False
    words = struct.unpack((">" if magic & 1 else "<") + "6I", header[:24])
    one = two = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return [one, two] == sums


def _index(path: Path) -> tuple[int, bytes]:
    """How many frames count, of which life of the log; none where there is no index."""
    try:
        with path.with_name(path.name + "-shm").open("rb") as index:
            in_use, count, life = _INDEX.unpack(index.read(_INDEX.size))
    except (FileNotFoundError, struct.error):
        return 0, b""
    return (count, life) if in_use else (0, b"")
