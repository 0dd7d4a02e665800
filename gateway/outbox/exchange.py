"""The journal's file gives its place to another, saved from it or restored from a backup, and is moved aside.

At whatever moment that is cut off, the next start ends it: the new file is complete and has a name of its own before anything is moved.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.outbox.damage import IN_USE

DAMAGED = "damaged"
"""Left behind by a process that met damage in a running journal, perhaps where the check at start does not come."""
SALVAGED = "journal.db.salvaged"
"""What was saved from a damaged journal, complete, until it takes its place."""
RESTORED = "journal.db.restored"
"""A backup, complete and in an epoch of its own, until it takes the journal's place."""
CORRUPT, BEFORE_RESTORE = "corrupt", "before-restore"
"""What a journal that was moved aside is called: `journal.db.corrupt-1`."""
FIRST_PAGE = ".page-1"
"""Of this name is the damaged first page of a database that was given a whole one."""
READ_THROUGH = ".read-through"
"""Of this name is the mark beside a damaged journal whose ledger was read to its end: what could be read of it is in the next one."""
LATEST = 3
"""Damaged journals that are kept beside the first. The first has what was written before the trouble began."""


@dataclass(frozen=True)
class Thinned:
    """Damaged journals that were `removed`, by name; how many are `kept`, with how many `bytes`."""

    removed: tuple[str, ...] = ()
    kept: int = 0
    bytes: int = 0


def finish_restore(path: Path) -> Path | None:
    """Put a backup that waits for it in the place of the journal at `path`; -> where that is now. Raises OSError; what was begun then
    stays to be ended."""
    fresh = path.with_name(RESTORED)
    if not fresh.exists():
        return None
    before = move_aside(path, BEFORE_RESTORE)
    path.with_name(SALVAGED).unlink(missing_ok=True)
    _put(fresh, path)
    return before


def finish_salvage(path: Path) -> None:
    """Put what was saved in the place of a journal that has been moved aside. Raises OSError."""
    fresh = path.with_name(SALVAGED)
    if fresh.exists() and not path.exists():
        _put(fresh, path)


def _put(fresh: Path, path: Path) -> None:
    # Nothing of the journal that was there may count for the new one.
    for leftover in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"), path.with_name(IN_USE)):
        leftover.unlink(missing_ok=True)
    path.with_name(DAMAGED).unlink(missing_ok=True)
    sync_folder(path.parent)
    fresh.rename(path)
    sync_folder(path.parent)


def move_aside(path: Path, kind: str) -> Path | None:
    """Rename database, log and index together: each is needed to read the others' rows. -> the database's new name; None: there was none.

    Raises OSError; called again it goes on under the same name.
    """
    aside = path.with_name(f"{path.name}.{kind}-{max(_numbers(path, kind), default=0) + 1}")
    parts = [suffix for suffix in ("-wal", "-shm", FIRST_PAGE, READ_THROUGH, "") if path.with_name(path.name + suffix).exists()]
    if READ_THROUGH not in parts:
        # What is left of an earlier one says nothing of this one.
        aside.with_name(aside.name + READ_THROUGH).unlink(missing_ok=True)
    # The database goes last: while it is there a start that was cut off here begins anew.
    for suffix in parts:
        path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    sync_folder(path.parent)
    return aside if parts else None


def thin(path: Path) -> Thinned:
    """Remove damaged journals of `path` but for the first and the LATEST, where what could be read of their ledger was saved: a disk that
    damages each new file must not be full of them."""
    numbers = _numbers(path, CORRUPT)
    removed = []
    for number in numbers[1:-LATEST]:
        aside = path.with_name(f"{path.name}.{CORRUPT}-{number}")
        if aside.with_name(aside.name + READ_THROUGH).exists():
            with contextlib.suppress(OSError):
                # The mark goes last, so that what is cut off here is ended the next time.
                for suffix in ("-wal", "-shm", FIRST_PAGE, "", READ_THROUGH):
                    aside.with_name(aside.name + suffix).unlink(missing_ok=True)
                removed.append(aside.name)
    kept = [path.with_name(f"{path.name}.{CORRUPT}-{number}") for number in _numbers(path, CORRUPT)]
    return Thinned(tuple(removed), len(kept), sum(file.stat().st_size for file in kept))


def _numbers(path: Path, kind: str) -> Sequence[int]:
    name = re.compile(rf"{re.escape(path.name)}\.{kind}-(\d+)")
    return sorted(int(found[1]) for found in map(name.fullmatch, os.listdir(path.parent)) if found)


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
