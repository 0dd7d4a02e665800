"""The state directory before a journal can be used: owned by one process, of this schema, sound; else a sentence with a remedy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.outbox.ballast import Ballast
from gateway.outbox.damage import IN_USE, Corrupt, check, is_damage, look_at_log
from gateway.outbox.migrate import NewerSchema, migrate
from gateway.outbox.salvage import FIRST_PAGE, Salvaged, salvage
from gateway.outbox.session import open_writer

DATABASE = "journal.db"
LOCK = "lock"
DAMAGED = "damaged"
"""Left behind by a process that met damage in a running journal, perhaps where the check at start does not come."""
SALVAGED = "journal.db.salvaged"
"""What was saved from a damaged journal, complete, until it takes its place."""


class StoreError(Exception):
    """The journal cannot be used. `problem` and `remedy` are for the technician, the exception's text for the expert."""

    def __init__(self, message: str, *, problem: Text, remedy: Text) -> None:
        super().__init__(message)
        self.problem = problem
        self.remedy = remedy


def lock(state_dir: Path) -> int:
    """Create the directory where it is missing and own it; -> the lock's file descriptor, to be kept open.

    Raises StoreError when it cannot be written, or another process owns it.
    """
    path = state_dir / LOCK
    try:
        if not state_dir.exists():
            state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
            sync_folder(state_dir.parent)
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


@dataclass(frozen=True)
class Opened:
    """A journal that is ready. `origin`: why a new epoch must begin (`salvaged`, `log_lost`), None: it goes on.

    `aside`: where a damaged one was moved, `salvaged`: what was saved from it.
    """

    connection: sqlite3.Connection
    origin: str | None = None
    aside: Path | None = None
    salvaged: Salvaged | None = None


def prepare(state_dir: Path, clock: Clock) -> Opened:
    """Open, check and migrate the database; what can be read of a damaged one is saved into a new one first.

    Where it cannot be opened for want of room the ballast is given up first.
    Raises StoreError when it belongs to a newer version, cannot be opened at all, or what was saved is damaged too.
    """
    path = state_dir / DATABASE
    try:
        try:
            _finish_salvage(path)
            if path.with_name(DAMAGED).exists():
                raise Corrupt("damage was met while the journal was in use")
            return _open(path, clock)
        except Corrupt:
            salvaged, aside = _salvage(path, clock)
            return Opened(_open(path, clock).connection, "salvaged", aside, salvaged)
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
    except Corrupt as corrupt:
        raise StoreError(
            f"{path}: {corrupt}",
            problem=Text(
                f"Le journal {path} était endommagé, et ce qui en a été sauvé l'est aussi.",
                f"The journal {path} was damaged, and so is what was saved from it.",
            ),
            remedy=Text(
                "Vérifier le disque (journalctl -k, smartctl) et le remplacer ; les fichiers journal.db.corrupt-N gardent tout.",
                "Check the disk (journalctl -k, smartctl) and replace it; the files journal.db.corrupt-N keep everything.",
            ),
        ) from corrupt
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


def release(path: Path) -> None:
    """The log has been folded into the database at `path`: from now on it may be missing."""
    path.with_name(IN_USE).unlink(missing_ok=True)
    sync_folder(path.parent)


def _open(path: Path, clock: Clock) -> Opened:
    connection = None
    log = look_at_log(path)
    if path.with_name(path.name + "-wal").exists() and (not path.exists() or path.stat().st_size == 0):
        # SQLite would take the log of an empty database for a leftover and delete it.
        raise Corrupt("there is a log, and no database")
    try:
        connection = open_writer(path)
        is_cut = log.is_cut(connection)
        # A newer database is refused before anything reads further: what its check says means nothing to this version.
        migrate(connection)
        check(connection, clock)
    except (sqlite3.Error, NewerSchema, Corrupt) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise Corrupt(str(error)) from error
        raise
    # On a full disk the mark is missing from a journal that works; that must not keep the gateway from starting.
    with contextlib.suppress(OSError):
        path.with_name(IN_USE).touch()
        sync_folder(path.parent)
    return Opened(connection, "log_lost" if is_cut else None)


def _salvage(path: Path, clock: Clock) -> tuple[Salvaged, Path]:
    """At whatever point this is cut off, the next start ends it: the damaged journal is only moved once the new one is complete."""
    path.with_name(DAMAGED).touch()
    fresh, salvaged = path.with_name(SALVAGED), Salvaged(complete=False)
    if not fresh.exists():
        building = path.with_name(f"{SALVAGED}.building")
        salvaged = salvage(path, building, clock)
        building.rename(fresh)
        sync_folder(path.parent)
    aside = _move_aside(path)
    _finish_salvage(path)
    return salvaged, aside


def _finish_salvage(path: Path) -> None:
    fresh = path.with_name(SALVAGED)
    if path.exists() or not fresh.exists():
        return
    for leftover in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"), path.with_name(IN_USE)):
        leftover.unlink(missing_ok=True)
    fresh.rename(path)
    path.with_name(DAMAGED).unlink(missing_ok=True)
    sync_folder(path.parent)


def _move_aside(path: Path) -> Path:
    """Rename database, log and index together: each is needed to salvage the others' rows. -> the database's new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    # The database goes last: while it is there a start that was cut off here begins anew.
    for suffix in ("-wal", "-shm", FIRST_PAGE, ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
