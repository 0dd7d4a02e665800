"""Epochs in the order in which they began, and rows that are where their key says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.domain.instants import instant
from gateway.outbox.epochs import begin_epoch
from gateway.outbox.exchange import DAMAGED
from gateway.outbox.statedir import DATABASE
from tests.outbox.journal import AT
from tests.outbox.test_salvage import ROWS, filled
from tests.outbox.test_store import opened, positions, rows

HOUR = timedelta(hours=1)


async def changed(folder: Path, *statements: str) -> str:
    """A closed journal that somebody has changed; -> its epoch."""
    store = await filled(folder)
    await store.close()
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        for sql in statements:
            assert connection.execute(sql).rowcount
        connection.commit()
    return store.epoch


async def test_the_epoch_that_began_last_counts_also_when_the_clock_was_set_back(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    first, second = [await store._writer.run(lambda c, at=at: begin_epoch(c, "log_lost", instant(at))) for at in (AT + HOUR, AT - HOUR)]
    await store.close()
    store = await opened(tmp_path, "plant")
    assert (store.epoch, store.next_sequence) == (second, 1)
    await store.commit(rows(store, 5), AT)
    # The first lost what it had written: its acknowledgements are of no row of the second.
    assert store.position_of(first, 3) == ROWS
    assert store.position_of(second, 3) == ROWS + 3
    await store.close()


async def test_an_epoch_whose_rows_are_gone_is_put_in_front_of_the_new_one(tmp_path: Path) -> None:
    await changed(tmp_path, "DELETE FROM journal", "DELETE FROM cursors", "DELETE FROM sqlite_sequence", "UPDATE epochs SET base = 480")
    store = await opened(tmp_path, "plant")
    assert (store.origin, store.next_sequence) == ("salvaged", 1)
    await store.close()


async def test_the_first_row_of_an_epoch_is_found_again_by_its_rows(tmp_path: Path) -> None:
    epoch = await changed(tmp_path, "UPDATE epochs SET base = 256")
    store = await opened(tmp_path, "plant")
    assert store.origin == "salvaged"
    assert await positions(store) == list(range(1, ROWS + 1))
    assert store.position_of(epoch, 7) == 7
    await store.close()


@pytest.mark.parametrize("change", ["position = 716", "sequence = 716", "epoch = 'ff00ff00ff'"])
async def test_a_row_without_checksum_that_is_not_where_its_key_says_is_not_believed(tmp_path: Path, change: str) -> None:
    await (await filled(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        # As rows of earlier versions are: what is in them is their event, and nothing sums it up.
        connection.execute("""UPDATE journal SET crc = NULL, body = CAST('{"id":"' || id || '"}' AS BLOB)""")
        connection.commit()
    store = await opened(tmp_path, "plant")
    assert store.origin is None
    await store._writer.run(lambda c: c.execute(f"UPDATE journal SET {change} WHERE position = 204"))
    with pytest.raises(sqlite3.DatabaseError, match="not what was written"):
        await store.entries(0, 1_000, without=["other"])
    assert (tmp_path / DAMAGED).exists()
    await store.close()
    (tmp_path / DAMAGED).unlink()
    store = await opened(tmp_path, "plant")
    assert store.origin == "salvaged"
    assert store.salvaged is not None
    assert (store.salvaged.rows["journal"], store.salvaged.lost) == (ROWS - 1, 1)
    assert await positions(store) == [position for position in range(1, ROWS + 1) if position != 204]
    await store.close()
    # What is kept is believed from now on.
    store = await opened(tmp_path, "plant")
    assert store.moved_aside is None
    await store.close()


async def test_damage_on_a_disk_that_takes_no_mark_is_still_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await filled(tmp_path)
    await store._writer.run(lambda c: c.execute("UPDATE journal SET body = CAST('[]' AS BLOB) WHERE position = 200"))

    def touch(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(sqlite3.DatabaseError, match="row 200"):
        await store.entries(150, 60, without=["other"])
    await store.close()
