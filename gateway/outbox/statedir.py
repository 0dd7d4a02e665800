"""The state directory before a journal can be used: owned by one process, of this schema, sound; else a sentence with a remedy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.outbox.ballast import Ballast
from gateway.outbox.damage import IN_USE, Corrupt, check, is_damage, look_at_log
from gateway.outbox.exchange import (
    CORRUPT,
    DAMAGED,
    READ_THROUGH,
    SALVAGED,
    Thinned,
    finish_restore,
    finish_salvage,
    move_aside,
    sync_folder,
    thin,
)
from gateway.outbox.migrate import NewerSchema, migrate
from gateway.outbox.salvage import Salvaged, salvage
from gateway.outbox.session import open_writer

DATABASE = "journal.db"
LOCK = "lock"


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

    `aside`: where a damaged one was moved, `salvaged`: what was saved from it, `thinned`: what became of earlier ones.
    """

    connection: sqlite3.Connection
    origin: str | None = None
    aside: Path | None = None
    salvaged: Salvaged | None = None
    thinned: Thinned = field(default_factory=Thinned)


def prepare(state_dir: Path, clock: Clock) -> Opened:
    """Open, check and migrate the database; what can be read of a damaged one is saved into a new one first.

    Where it cannot be opened for want of room the ballast is given up first.
    Raises StoreError when it belongs to a newer version, cannot be opened at all, or what was saved is damaged too.
    """
    path = state_dir / DATABASE
    thinned = Thinned()
    try:
        try:
            finish_restore(path)
            finish_salvage(path)
            if path.with_name(DAMAGED).exists():
                raise Corrupt("damage was met while the journal was in use")
            return _open(path, clock)
        except Corrupt:
            salvaged, aside = _salvage(path, clock)
            thinned = thin(path)
            return Opened(_open(path, clock).connection, "salvaged", aside, salvaged, thinned)
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
        removed = f"; removed to keep room: {', '.join(thinned.removed)}" if thinned.removed else ""
        raise StoreError(
            f"{path}: {corrupt}{removed}",
            problem=Text(
                f"Le journal {path} était endommagé, et ce qui en a été sauvé l'est aussi.",
                f"The journal {path} was damaged, and so is what was saved from it.",
            ),
            remedy=Text(
                "Vérifier le disque (journalctl -k, smartctl) et le remplacer ; mettre les fichiers journal.db.corrupt-N à l'abri.",
                "Check the disk (journalctl -k, smartctl) and replace it; bring the files journal.db.corrupt-N into safety.",
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


def _salvage(path: Path, clock: Clock) -> tuple[Salvaged, Path | None]:
    """At whatever point this is cut off, the next start ends it: the damaged journal is only moved once the new one is complete."""
    path.with_name(DAMAGED).touch()
    fresh, salvaged = path.with_name(SALVAGED), Salvaged(complete=False)
    if not fresh.exists():
        building, read_through = path.with_name(f"{SALVAGED}.building"), path.with_name(path.name + READ_THROUGH)
        read_through.unlink(missing_ok=True)
        salvaged = salvage(path, building, clock)
        if salvaged.read_through:
            read_through.touch()
        building.rename(fresh)
        sync_folder(path.parent)
    aside = move_aside(path, CORRUPT)
    finish_salvage(path)
    return salvaged, aside
