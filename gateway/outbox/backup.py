"""A copy of the journal while it is in use, and its way back; both by SQLite's own backup, never by copying files."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.domain.events import Text
from gateway.domain.instants import instant, moment
from gateway.outbox.epochs import begin_epoch
from gateway.outbox.exchange import RESTORED, finish_restore, finish_salvage, sync_folder
from gateway.outbox.migrate import NewerSchema, migrate, migrations, schema_version
from gateway.outbox.session import open_reader, open_writer
from gateway.outbox.statedir import DATABASE, StoreError, lock

_PAGES = 2_000
"""Pages copied at a time; between two of them Ctrl-C is heard."""


@dataclass(frozen=True)
class Contents:
    """What a copy holds: ledger rows, and when the latest was recorded (None: it has none)."""

    rows: int
    latest: datetime | None


@dataclass(frozen=True)
class Restored:
    contents: Contents
    epoch: str
    before: Path | None
    """Where the journal that was there before is now."""


def backup(state_dir: Path, target: Path) -> Contents:
    """Copy the journal of `state_dir` to the new file `target`, whether its gateway runs or not; it is checked and synchronised.

    The gateway goes on writing meanwhile; the copy is the journal of one moment. Raises StoreError with a sentence and a remedy.
    """
    source = state_dir / DATABASE
    if target.exists():
        raise _refused(
            f"{target}: exists", f"La sauvegarde {target} existe déjà.", f"The backup {target} exists already.",
            "Indiquer un autre nom.", "Choose another name.",
        )  # fmt: skip
    if not source.exists():
        raise _refused(
            f"{source}: no such file", f"Il n'y a pas de journal dans {state_dir}.", f"There is no journal in {state_dir}.",
            "Indiquer le bon dossier avec --state-dir.", "Name the right folder with --state-dir.",
        )  # fmt: skip
    partial = target.with_name(f"{target.name}.partial")
    try:
        with _removed(partial):
            with closing(open_reader(source)) as journal:
                # One read transaction for all steps: else each commit of the gateway would begin the copy anew.
                journal.execute("BEGIN")
                journal.execute("SELECT 1 FROM epochs").fetchone()
                _copy(journal, partial)
            contents = _look_into(partial)
            partial.rename(target)
            sync_folder(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise _refused(
            f"{target}: {error}", f"La sauvegarde {target} n'a pas pu être faite.", f"The backup {target} could not be made.",
            "Vérifier la place libre, les droits des deux dossiers et le disque.",
            "Check free space, the rights of both folders and the disk.",
        ) from error  # fmt: skip
    return contents


def restore(state_dir: Path, source: Path, now: datetime) -> Restored:
    """Make the backup `source` the journal of `state_dir`, in a new epoch; the one that is there is moved aside.

    Raises StoreError with a sentence and a remedy: a gateway uses the directory, the file is no backup, damaged, or of a newer version.
    Until the copy is complete the old journal stays where it is; from then on whatever cuts this off is ended by the next start.
    """
    handle = lock(state_dir)
    path = state_dir / DATABASE
    fresh, complete = path.with_name(f"{DATABASE}.restoring"), path.with_name(RESTORED)
    is_decided = False
    try:
        # What was cut off before is ended first: this one then comes after it, and moves aside what there is.
        finish_restore(path)
        finish_salvage(path)
        with _removed(fresh):
            contents = _look_into(source)
            with closing(open_reader(source)) as copy:
                _copy(copy, fresh)
            with closing(open_writer(fresh)) as journal:
                migrate(journal)
                # Raw tags of then are told by nobody: the machines have new ones.
                journal.execute("DELETE FROM telemetry")
                epoch = begin_epoch(journal, "restored", instant(now))
                journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _sync(fresh)
            _name(fresh, complete)
        is_decided = True
        before = finish_restore(path)
    except NewerSchema as newer:
        raise _refused(
            f"{source}: {newer}", f"La sauvegarde {source} vient d'une version plus récente de lineside.",
            f"The backup {source} was made by a newer version of lineside.",
            "Installer cette version, puis recommencer.", "Install that version, then begin again.",
        ) from newer  # fmt: skip
    except (sqlite3.Error, OSError) as error:
        if is_decided or complete.exists():
            raise _refused(
                f"{state_dir}: {error}", f"Une restauration a été commencée dans {state_dir} et n'a pas pu être terminée.",
                f"A restore was begun in {state_dir} and could not be ended.",
                "Vérifier la place libre, les droits du dossier d'état et le disque ; le prochain démarrage de la passerelle la termine.",
                "Check free space, the rights of the state directory and the disk; the next start of the gateway ends it.",
            ) from error  # fmt: skip
        raise _refused(
            f"{source}: {error}", f"La sauvegarde {source} n'a pas pu être remise en place ; rien n'a été changé.",
            f"The backup {source} could not be restored; nothing was changed.",
            "Prendre une autre sauvegarde ; vérifier la place libre et les droits du dossier d'état.",
            "Take another backup; check free space and the rights of the state directory.",
        ) from error  # fmt: skip
    finally:
        os.close(handle)
    return Restored(contents, epoch, before)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy, pages=_PAGES)
        # One file, without a log beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
    target.chmod(0o640)
    _sync(target)


def _look_into(path: Path) -> Contents:
    """Raises sqlite3.DatabaseError for what is no sound journal, NewerSchema, OSError."""
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    with closing(open_reader(path)) as copy:
        if (found := schema_version(copy)) > migrations()[-1].version:
            raise NewerSchema(found, migrations()[-1].version)
        if (answer := copy.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(answer)
        rows, latest = copy.execute("SELECT count(*), max(recorded_at) FROM journal").fetchone()
    return Contents(rows, None if latest is None else moment(latest))


def _name(fresh: Path, complete: Path) -> None:
    """Give a complete copy the name by which it counts. Raises OSError, with the name taken back."""
    fresh.rename(complete)
    try:
        sync_folder(complete.parent)
    except OSError:
        complete.unlink()
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _removed(path: Path) -> Iterator[None]:
    """What is left of a file that did not get to its end is removed."""
    try:
        yield
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _refused(expert: str, problem_fr: str, problem_en: str, remedy_fr: str, remedy_en: str) -> StoreError:
    return StoreError(expert, problem=Text(problem_fr, problem_en), remedy=Text(remedy_fr, remedy_en))
