"""A backup while the journal is in use, and its way back under an epoch of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.outbox.backup import backup, restore
from gateway.outbox.session import open_writer
from gateway.outbox.statedir import DATABASE, StoreError
from tests.outbox.journal import AT
from tests.outbox.test_salvage import ROWS, filled
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
