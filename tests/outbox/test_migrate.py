"""Journals written by the program of each schema (`data/`, one file each, made by the code of its time) are taken over whole."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.outbox.migrate import migrations
from gateway.outbox.statedir import DATABASE
from tests.outbox.journal import AT
from tests.outbox.test_salvage import first_page_zeroed, spoil
from tests.outbox.test_store import opened, positions, rows

DATA = Path(__file__).parent / "data"
OLD = sorted(DATA.glob("schema-*.db"))


def test_there_is_a_journal_of_each_earlier_schema() -> None:
    versions = []
    for path in OLD:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
            versions.append(connection.execute("PRAGMA user_version").fetchone()[0])
    assert versions == list(range(1, len(migrations())))


@pytest.mark.parametrize("old", OLD, ids=lambda path: path.stem)
@pytest.mark.parametrize("damaged", [False, True], ids=["sound", "first page gone"])
async def test_a_journal_of_an_earlier_schema_goes_on(tmp_path: Path, old: Path, damaged: bool) -> None:
    shutil.copy(old, tmp_path / DATABASE)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        (epoch,) = connection.execute("SELECT epoch FROM epochs").fetchone()
    if damaged:
        # Migrated and then damaged: its tables lie where those of a new journal of this version lie.
        await (await opened(tmp_path, "plant", "erp")).close()
        spoil(tmp_path / DATABASE, first_page_zeroed)
    store = await opened(tmp_path, "plant", "erp")
    assert store.origin == ("salvaged" if damaged else None)
    assert await positions(store) == list(range(1, 31))
    assert (store.cursor("plant"), store.cursor("erp")) == (20, 10)
    # Versions before the fifth did not say how far they were: any row may have gone out.
    assert store.sent_up_to("plant") == (30 if old.stem < "schema-0005" else 20)
    assert [row.position for row in await store.exceptions("plant")] == [5]
    assert [mark.sequence for mark in await store.marks("plant")] == [20]
    assert await store.order_cursor("erp") == "c7"
    assert await store.known_answer("c1") is not None
    assert (await store.snapshots())["press-07"].state == b'{"n":30}'
    assert {record.key for record in await store.records("press-07", ["window", "lot"], AT - timedelta(1))} == {"w1", "l1"}
    if not damaged:
        assert (store.epoch, store.next_sequence) == (epoch, 31)
    await store.commit(rows(store, 1), AT)
    assert await positions(store) == list(range(1, 32))
    await store.close()
