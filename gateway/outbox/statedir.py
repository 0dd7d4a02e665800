"""The state directory before a journal can be used: owned by one process, of this schema, sound; else a sentence with a remedy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.outbox.ballast import Ballast
from gateway.outbox.migrate import NewerSchema, migrate
from gateway.outbox.session import open_writer

DATABASE = "journal.db"
LOCK = "lock"
DAMAGED = "damaged"
"""Left behind by a process that met damage in a running journal, perhaps where the check at start does not come."""
CHECK_S = 2.0
"""How long the check at start may last. A larger journal is not read to its end: the gateway must count again within seconds."""


class StoreError(Exception):
    """The journal cannot be used. `problem` and `remedy` are for the technician, the exception's text for the expert."""

    def __init__(self, message: str, *, problem: Text, remedy: Text) -> None:
        super().__init__(message)
        self.problem = problem
        self.remedy = remedy


class Corrupt(Exception):
    """The database is damaged; the text is SQLite's own."""


def lock(state_dir: Path) -> int:
    """Create the directory where it is missing and own it; -> the lock's file descriptor, to be kept open.

    Raises StoreError when it cannot be written, or another process owns it.
    """
    path = state_dir / LOCK
    try:
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}",
            problem=Text(f"Le dossier d'état {state_dir} ne peut pas être écrit.", f"The state directory {state_dir} cannot be written."),
            remedy=Text(
                "Donner ce dossier au compte du service, ou en indiquer un autre avec --state-dir.",
                "Give this directory to the service's account, or name another with --state-dir.",
            ),
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 32).decode("ascii", "replace").strip()
        os.close(handle)
        raise StoreError(
            f"{path}: held by process {owner or '?'}",
            problem=Text(
                f"Le dossier d'état {state_dir} est déjà utilisé par une autre passerelle (processus {owner or '?'}).",
                f"The state directory {state_dir} is already in use by another gateway (process {owner or '?'}).",
            ),
            remedy=Text(
                "Arrêter l'autre passerelle, ou indiquer un autre dossier avec --state-dir.",
                "Stop the other gateway, or name another directory with --state-dir.",
            ),
        ) from error
    # On a full disk the owner's number is missing from a sentence; that must not keep the gateway from starting.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def prepare(state_dir: Path, clock: Clock) -> tuple[sqlite3.Connection, Path | None]:
    """Open, check and migrate the database; -> the writing connection, and where a damaged one was moved (None: it was sound).

    Where it cannot be opened for want of room the ballast is given up first.
    Raises StoreError when it belongs to a newer version or cannot be opened at all.
    """
    path = state_dir / DATABASE
    try:
        try:
            if path.with_name(DAMAGED).exists():
                raise Corrupt("damage was met while the journal was in use")
            return _open(path, clock), None
        except Corrupt:
            aside = _move_aside(path)
            path.with_name(DAMAGED).unlink(missing_ok=True)
            return _open(path, clock), aside
    except NewerSchema as newer:
        raise StoreError(
            f"{path}: {newer}",
            problem=Text(
                f"Le journal {path} vient d'une version plus récente de lineside.",
                f"The journal {path} was written by a newer version of lineside.",
            ),
            remedy=Text(
                "Réinstaller la version plus récente, ou repartir d'une sauvegarde faite avec celle-ci.",
                "Install the newer version again, or start from a backup made with this one.",
            ),
        ) from newer
    except (sqlite3.OperationalError, OSError) as error:
        if Ballast(state_dir).release():
            return prepare(state_dir, clock)
        raise StoreError(
            f"{path}: {error}",
            problem=Text(f"Le journal {path} ne peut pas être ouvert.", f"The journal {path} cannot be opened."),
            remedy=Text(
                "Vérifier la place libre et les droits du dossier d'état.", "Check free space and permissions of the state directory."
            ),
        ) from error


def _open(path: Path, clock: Clock) -> sqlite3.Connection:
    connection = None
    try:
        connection = open_writer(path)
        # A newer database is refused before anything reads further: what its check says means nothing to this version.
        migrate(connection)
        _check(connection, clock)
    except (sqlite3.Error, NewerSchema, Corrupt) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise Corrupt(str(error)) from error
        raise
    _sync_folder(path.parent)
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """True for a database that is none or is malformed, or is shorter than its header says; not for a full disk, a lock, missing rights."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code == sqlite3.SQLITE_IOERR_SHORT_READ)


def _check(connection: sqlite3.Connection, clock: Clock) -> None:
    deadline = clock.monotonic() + CHECK_S
    connection.set_progress_handler(lambda: clock.monotonic() > deadline, 50_000)
    try:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if answer != "ok":
        raise Corrupt(answer)


def _move_aside(path: Path) -> Path:
    """Rename database, log and index together: each is needed to salvage the others' rows. -> the database's new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    _sync_folder(path.parent)
    return aside


def _sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
