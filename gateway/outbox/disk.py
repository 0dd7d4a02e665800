"""What a commit that failed says about the disk below the journal."""

from __future__ import annotations

import sqlite3
from enum import StrEnum

_FULL = sqlite3.SQLITE_FULL
_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
    }
)


class DiskState(StrEnum):
    """What the last commit met. FULL and READ_ONLY: nothing can be committed. READ_ONLY stands for everything but a full disk:
    read-only, I/O error, locked by another program. LOW: commits come through, but little room is left."""

    OK = "ok"
    LOW = "low"
    FULL = "full"
    READ_ONLY = "read_only"


def disk_state(error: sqlite3.OperationalError) -> DiskState | None:
    """What a failed commit says about the disk; None: nothing, the statement itself is wrong."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == _FULL:
        return DiskState.FULL
    return DiskState.READ_ONLY if primary in _UNWRITABLE else None
