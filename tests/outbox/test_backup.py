"""A backup while the journal is in use, and its way back under an epoch of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.outbox.backup import backup, restore
from gateway.outbox.epochs import IN_ORDER
from gateway.outbox.exchange import DAMAGED, SALVAGED
from gateway.outbox.session import open_reader, open_writer
from gateway.outbox.statedir import DATABASE, StoreError, prepare
from tests.manual_clock import ManualClock
from tests.outbox.journal import AT
from tests.outbox.test_salvage import ROWS, copied, filled
from tests.outbox.test_store import opened, positions, rows

LATER = AT + timedelta(days=1)


async def test_a_copy_of_one_moment_is_made_while_the_journal_is_written(tmp_path: Path) -> None:
    store = await filled(tmp_path / "state")
    target = tmp_path / "copy.db"
    copying = asyncio.create_task(asyncio.to_thread(backup, tmp_path / "state", target))
    while not copying.done():
        await store.commit(rows(store, 5), AT)
    contents = await copying
    assert ROWS <= contents.rows <= store.last_position
    assert contents.latest == AT
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "state"]
    with pytest.raises(StoreError, match="exists") as refused:
        backup(tmp_path / "state", target)
    assert "another name" in refused.value.remedy.en
    await store.close()


async def test_a_restored_journal_goes_on_from_the_backup_and_uses_no_key_twice(tmp_path: Path) -> None:
    state = tmp_path / "state"
    store = await filled(state)
    epoch = store.epoch
    backup(state, tmp_path / "copy.db")
    await store.commit(rows(store, 40), AT)
    await store.close()
    restored = restore(state, tmp_path / "copy.db", LATER)
    assert restored.contents.rows == ROWS
    assert restored.before == state / f"{DATABASE}.before-restore-1"
    store = await opened(state, "plant")
    assert (store.origin, store.epoch, store.next_sequence) == ("restored", restored.epoch, 1)
    assert store.cursor("plant") == 100
    assert await store.telemetry(0, 10) == []
    # What the lost journal had sent and a consumer acknowledges is the old epoch's end, no row of the new one.
    assert store.position_of(epoch, ROWS + 40) == ROWS
    await store.commit(rows(store, 3), AT)
    ids = [entry.id for entry in await store.entries(ROWS, 10)]
    assert ids == [f"g:{restored.epoch}:{n}" for n in (1, 2, 3)]
    await store.close()
    store = await opened(state, "plant")
    assert (store.origin, store.epoch) == (None, restored.epoch)
    await store.close()
    # The same backup once more is another epoch.
    assert restore(state, tmp_path / "copy.db", LATER).epoch != restored.epoch
    assert (state / f"{DATABASE}.before-restore-2").exists()


STEPS = ((Path, "rename"), (Path, "unlink"), (os, "fsync"))
"""What a restore changes names and the disk with."""


class Killed(BaseException):
    """Nothing of the program catches this; what it still tries on its way out is `Killed` too, as if it were not tried at all."""


def from_step(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException, *, once: bool = False) -> None:
    """Raise `error` instead of the step of that number, from 1, and unless `once` instead of all that follow."""
    done = 0

    def counted(step: Callable[..., object]) -> Callable[..., object]:
        def stepped(*args: object, **kwargs: object) -> object:
            nonlocal done
            done += 1
            if done == number or (done > number and not once):
                raise error
            return step(*args, **kwargs)

        return stepped

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


def is_whole(state: Path, old_epoch: str) -> bool:
    """Whether the next start has the backup of 10 rows, in its new epoch; else it has the journal of 14 as it was. Neither is lost."""
    ready = prepare(state, ManualClock())
    assert (ready.origin, ready.aside) == (None, None)
    with closing(ready.connection) as journal:
        (count,) = journal.execute("SELECT count(*) FROM journal").fetchone()
        *earlier, (epoch, origin) = journal.execute(f"SELECT epoch, origin FROM epochs {IN_ORDER}").fetchall()
    is_restored = epoch != old_epoch
    assert (count, origin, len(earlier)) == ((10, "restored", 1) if is_restored else (14, "new", 0))
    if is_restored:
        with closing(open_reader(state / f"{DATABASE}.before-restore-1")) as before:
            assert before.execute("SELECT count(*) FROM journal").fetchone() == (14,)
    left = {name for name in os.listdir(state) if "before-restore" not in name}
    assert left <= {DATABASE, "lock", "in-use", f"{DATABASE}.restoring"}
    return is_restored


async def running(folder: Path) -> tuple[Path, Path, str]:
    """A state directory with a log beside its journal of 14 rows, as a kill leaves it; a backup of the first 10; its epoch."""
    store = await opened(folder / "running", "plant")
    await store.commit(rows(store, 10), AT)
    backup(folder / "running", folder / "copy.db")
    await store.commit(rows(store, 4), AT)
    state = copied(folder / "running", folder / "state")
    await store.close()
    return state, folder / "copy.db", store.epoch


async def test_a_restore_that_is_killed_anywhere_is_ended_by_the_next_start_or_changed_nothing(tmp_path: Path) -> None:
    state, source, epoch = await running(tmp_path)
    outcomes = []
    for number in range(1, 100):
        cut = copied(state, tmp_path / f"cut-{number}")
        with pytest.MonkeyPatch.context() as patch:
            from_step(patch, number, Killed())
            try:
                restore(cut, source, LATER)
            except Killed:
                is_done = False
            else:
                is_done = True
        outcomes.append(is_whole(cut, epoch))
        if is_done:
            break
    assert is_done
    # First it is the old journal, from one step on the new one, and at no step none of them.
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) >= 4
    assert outcomes.count(True) >= 5


@pytest.mark.parametrize("once", [True, False])
async def test_what_is_said_of_a_restore_that_the_disk_ended_is_true(tmp_path: Path, once: bool) -> None:
    state, source, epoch = await running(tmp_path)
    said = set()
    for number in range(1, 100):
        cut = copied(state, tmp_path / f"cut-{number}")
        with pytest.MonkeyPatch.context() as patch:
            from_step(patch, number, OSError(5, "Input/output error"), once=once)
            try:
                restore(cut, source, LATER)
            except StoreError as error:
                problem = error.problem.en
            else:
                break
        is_restored = is_whole(cut, epoch)
        assert ("nothing was changed" in problem) != is_restored
        said.add(is_restored)
    assert said == {True, False}


async def test_names_are_on_the_disk_before_others_depend_on_them(tmp_path: Path) -> None:
    state, source, _ = await running(tmp_path)
    steps = []

    def noted(owner: object, name: str) -> Callable[..., object]:
        step = getattr(owner, name)

        def act(first: object, *rest: object, **options: object) -> object:
            if isinstance(first, Path) and (name == "rename" or first.exists()):
                steps.append((name, first.name))
            elif name == "fsync" and os.path.isdir(f"/proc/self/fd/{first}"):
                steps.append(("sync", ""))
            return step(first, *rest, **options)

        return act

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, noted(owner, name))
        restore(state, source, LATER)
    begin = steps.index(("rename", f"{DATABASE}.restoring"))
    assert steps[begin:] == [
        ("rename", f"{DATABASE}.restoring"), ("sync", ""),
        ("rename", f"{DATABASE}-wal"), ("rename", f"{DATABASE}-shm"), ("rename", DATABASE), ("sync", ""),
        ("unlink", "in-use"), ("sync", ""),
        ("rename", f"{DATABASE}.restored"), ("sync", ""),
    ]  # fmt: skip


async def test_a_restore_is_not_undone_by_what_was_saved_before_it(tmp_path: Path) -> None:
    state, source, epoch = await running(tmp_path)
    # A start that saves a damaged journal was cut off; then somebody restores a backup.
    (state / DAMAGED).touch()
    (state / SALVAGED).write_bytes(b"what was saved")
    restore(state, source, LATER)
    assert is_whole(state, epoch)


async def test_what_was_saved_and_not_yet_in_its_place_is_moved_aside_by_a_restore(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await (await filled(state)).close()
    backup(state, tmp_path / "copy.db")
    # A start that saves a damaged journal was cut off behind its last move.
    (state / DATABASE).rename(state / SALVAGED)
    (state / DAMAGED).touch()
    before = restore(state, tmp_path / "copy.db", LATER).before
    assert before is not None
    with closing(open_reader(before)) as journal:
        assert journal.execute("SELECT count(*) FROM journal").fetchone() == (ROWS,)
    assert not (state / SALVAGED).exists()
    assert not (state / DAMAGED).exists()


async def test_nothing_is_restored_below_a_gateway_that_runs(tmp_path: Path) -> None:
    store = await filled(tmp_path / "state")
    backup(tmp_path / "state", tmp_path / "copy.db")
    with pytest.raises(StoreError) as refused:
        restore(tmp_path / "state", tmp_path / "copy.db", LATER)
    assert "already in use" in refused.value.problem.en
    assert len(await positions(store)) == ROWS
    await store.close()


async def test_what_is_no_sound_backup_changes_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await (await filled(state)).close()
    backup(state, tmp_path / "copy.db")
    content = (tmp_path / "copy.db").read_bytes()
    (tmp_path / "flipped.db").write_bytes(content[: 30 * 4096] + b"\xff" * 4096 + content[31 * 4096 :])
    (tmp_path / "text.db").write_text("no database at all\n" * 1_000)
    newer = open_writer(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 999")
    newer.close()
    before = (state / DATABASE).read_bytes()
    for name, said in (
        ("flipped.db", "nothing was changed"), ("text.db", "nothing was changed"), ("none.db", "nothing was changed"),
        ("newer.db", "newer version"),
    ):  # fmt: skip
        with pytest.raises(StoreError) as refused:
            restore(state, tmp_path / name, LATER)
        assert said in refused.value.problem.en, name
        assert (state / DATABASE).read_bytes() == before
    assert [name for name in os.listdir(state) if "restor" in name] == []


def test_a_journal_that_is_not_there_or_a_folder_that_is_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as refused:
        backup(tmp_path, tmp_path / "copy.db")
    assert "--state-dir" in refused.value.remedy.en
    (tmp_path / DATABASE).touch()
    with pytest.raises(StoreError) as refused:
        backup(tmp_path, tmp_path / "nowhere" / "copy.db")
    assert "could not be made" in refused.value.problem.en
    with pytest.raises(sqlite3.Error):
        raise refused.value.__cause__ or refused.value
