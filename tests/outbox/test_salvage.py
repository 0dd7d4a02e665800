"""A damaged journal: noticed, moved aside, saved as far as it can be read, and no number is ever given twice."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.domain.snapshot import Record, Snapshot
from gateway.outbox import salvage as salvage_module
from gateway.outbox import statedir
from gateway.outbox.damage import IN_USE, Corrupt, look_at_log
from gateway.outbox.exchange import DAMAGED, FIRST_PAGE, SALVAGED
from gateway.outbox.salvage import salvage
from gateway.outbox.statedir import DATABASE, StoreError
from gateway.outbox.store import Store
from gateway.outbox.transaction import QUARANTINED, Batch, ConsumerMark, RowException
from tests.manual_clock import ManualClock
from tests.outbox.journal import AT
from tests.outbox.test_store import opened, positions, rows

ROWS = 500
PAGE = 4096
LOG_HEADER, FRAME = 32, 24 + PAGE


async def filled(folder: Path, *, count: int = ROWS) -> Store:
    """A journal with a bit of everything, of which the first 100 rows are done."""
    store = await opened(folder, "plant")
    await store.commit(rows(store, count, b'{"x":"' + b"x" * 300 + b'"}'), AT)
    await store.commit(
        Batch(
            snapshots={"press-07": Snapshot("press-07", 1, b'{"n":1}', tuple(Record("bin", f"{n}", AT, b"{}") for n in range(300)))},
            order_cursors={"erp": "c7"},
            cursors={"plant": 100},
            exceptions={("plant", 50): RowException("plant", 50, QUARANTINED, "no right", AT)},
            marks={("plant", "mes", store.epoch): ConsumerMark("plant", "mes", store.epoch, 90, AT)},
            telemetry=[("plc", b"{}")],
        ),
        AT,
    )
    return store


def copied(folder: Path, target: Path) -> Path:
    """The state directory as a kill would leave it: with its log, while the store still has it open."""
    shutil.copytree(folder, target)
    return target


def spoil(path: Path, change: Callable[[bytearray], None]) -> bytes:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return bytes(content)


def garbage(content: bytearray) -> None:
    content[:100] = b"?" * 100


def first_page_zeroed(content: bytearray) -> None:
    content[:PAGE] = bytes(PAGE)


def some_pages(content: bytearray) -> None:
    for page in range(20, len(content) // PAGE - 1, 7):
        content[page * PAGE : page * PAGE + 8] = b"\xff" * 8


def truncated(content: bytearray) -> None:
    del content[len(content) * 2 // 3 :]


@pytest.mark.parametrize(("damage", "most_lost"), [(garbage, 0), (first_page_zeroed, 0), (some_pages, 120), (truncated, 300)])
async def test_what_can_be_read_is_saved_under_a_new_epoch(tmp_path: Path, damage: Callable[[bytearray], None], most_lost: int) -> None:
    store = await filled(tmp_path)
    epoch = store.epoch
    await store.close()
    content = spoil(tmp_path / DATABASE, damage)

    store = await opened(tmp_path, "plant")
    assert store.origin == "salvaged"
    assert store.moved_aside is not None
    evidence = bytearray(store.moved_aside.read_bytes())
    if (first := store.moved_aside.with_name(store.moved_aside.name + FIRST_PAGE)).exists():
        evidence[: len(first.read_bytes())] = first.read_bytes()
    assert evidence == content
    assert store.salvaged is not None
    kept = await positions(store)
    assert store.salvaged.rows["journal"] == len(kept) >= ROWS - most_lost
    assert store.salvaged.complete
    assert store.cursor("plant") <= 100
    waiting = [position for position in kept if position > store.cursor("plant")]
    assert store.salvaged.lost == store.last_position - store.cursor("plant") - len(waiting)
    # No number that was given is given again, and an old row is still found under its own.
    assert store.epoch != epoch
    assert store.next_sequence == 1
    assert store.last_position >= kept[-1]
    old = store.position_of(epoch, kept[-1])
    assert old is not None
    (found,) = await store.entries_at([old])
    assert (found.epoch, found.sequence) == (epoch, kept[-1])
    before = store.last_position
    await store.commit(rows(store, 1), AT)
    assert await positions(store) == [*kept, before + 1]
    await store.close()
    again = await opened(tmp_path, "plant")
    assert (again.origin, again.moved_aside, again.epoch) == (None, None, store.epoch)
    await again.close()


async def test_everything_but_telemetry_is_taken_over(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    epoch = store.epoch
    await store.close()
    (tmp_path / DAMAGED).touch()
    store = await opened(tmp_path, "plant")
    assert not (tmp_path / DAMAGED).exists()
    assert store.salvaged is not None
    assert store.salvaged.lost == 0
    assert store.cursor("plant") == 100
    assert [row.position for row in await store.exceptions("plant")] == [50]
    assert [(mark.epoch, mark.sequence) for mark in await store.marks("plant")] == [(epoch, 90)]
    assert await store.order_cursor("erp") == "c7"
    assert (await store.snapshots())["press-07"].state == b'{"n":1}'
    assert len(await store.records("press-07", ["bin"], AT - timedelta(1))) == 300
    assert await store.telemetry(0, 10) == []
    # A consumer that had more of the old epoch than is left here has all of it, and nothing of the new one.
    assert store.position_of(epoch, ROWS + 40) == ROWS
    assert store.position_of(store.epoch, 1) == ROWS + 1
    await store.close()


@pytest.mark.parametrize(("table", "column"), [("snapshots", "state"), ("journal", "body"), ("records", "body")])
async def test_a_turned_bit_that_sqlite_does_not_see_costs_that_row_alone(tmp_path: Path, table: str, column: str) -> None:
    await (await filled(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert connection.execute(f"UPDATE {table} SET {column} = CAST('[]' AS BLOB) WHERE rowid = 300" if table != "snapshots" else
                                  "UPDATE snapshots SET state = CAST('{}' AS BLOB)").rowcount == 1  # fmt: skip
        connection.commit()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = await opened(tmp_path, "plant")
    assert store.salvaged is not None
    assert store.salvaged.rows["journal"] == ROWS - (table == "journal")
    assert store.salvaged.lost == (table == "journal")
    assert len(await store.snapshots()) == (table != "snapshots")
    await store.close()


async def test_a_turned_bit_in_a_row_that_is_read_later_makes_the_next_start_save_the_others(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    await store._writer.run(lambda c: c.execute("UPDATE journal SET body = CAST('[]' AS BLOB) WHERE position = 200"))
    with pytest.raises(sqlite3.DatabaseError, match="row 200"):
        await store.entries(150, 60, without=["other"])
    assert (tmp_path / DAMAGED).exists()
    await store.close()
    store = await opened(tmp_path, "plant")
    assert 200 not in await positions(store)
    assert store.salvaged is not None
    assert store.salvaged.lost == 1
    await store.close()


@pytest.mark.parametrize(
    "change",
    ["cursors SET position = position + 64", "consumer_marks SET sequence = sequence + 256", "erp_accounts SET body = CAST('{}' AS BLOB)"],
)
async def test_a_turned_bit_cannot_retire_rows_or_change_what_was_booked(tmp_path: Path, change: str) -> None:
    store = await filled(tmp_path)
    await store.commit(Batch(accounts={("erp", "OF-1"): b'{"good":"30"}'}), AT)
    await store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert connection.execute(f"UPDATE {change}").rowcount == 1
        connection.commit()
    store = await opened(tmp_path, "plant")
    assert store.origin == "salvaged"
    # Without them, what is kept is sent again under its keys.
    assert store.cursor("plant") == (0 if "cursors" in change else 100)
    assert len(await store.marks("plant")) == ("marks" not in change)
    assert await store.erp_accounts("erp") == ({} if "accounts" in change else {"OF-1": b'{"good":"30"}'})
    assert len(await positions(store)) == ROWS
    await store.close()


async def test_a_cursor_is_looked_at_in_a_journal_too_large_to_be_read_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await filled(tmp_path)).close()
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute(f"{many} INSERT INTO records (work_unit, kind, key, at, body) SELECT 'm', 'bin', i, i, CAST('1' AS BLOB) FROM n")
        connection.execute("UPDATE journal SET body = CAST('{}' AS BLOB) WHERE position = 300")
        connection.commit()
    monkeypatch.setattr("gateway.outbox.damage.CHECK_S", -1.0)
    store = await opened(tmp_path, "plant")
    assert store.origin is None, "there was no time for the rows"
    await store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("UPDATE cursors SET position = position + 64")
        connection.commit()
    store = await opened(tmp_path, "plant")
    assert (store.origin, store.cursor("plant")) == ("salvaged", 0)
    await store.close()


async def test_text_that_is_none_is_damage(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("UPDATE journal SET id = CAST(x'ff41' AS TEXT) WHERE position = 200")
        connection.commit()
    store = await opened(tmp_path, "plant")
    assert store.salvaged is not None
    assert store.salvaged.lost == 1
    assert len(await positions(store)) == ROWS - 1
    await store.close()


async def test_a_row_number_that_is_none_hides_none_of_the_rows_behind_it(tmp_path: Path) -> None:
    await (await filled(tmp_path, count=1_200)).close()

    def turn_a_bit(content: bytearray) -> None:
        # Number and header size of row 500: with its last byte's first bit it goes on into the header, a number behind all others.
        assert content.count(b"\x83\x74\x0e\x00") == 1
        content[content.index(b"\x83\x74\x0e\x00") + 1] ^= 0x80

    spoil(tmp_path / DATABASE, turn_a_bit)
    store = await opened(tmp_path, "plant")
    assert store.salvaged is not None
    assert store.salvaged.rows["journal"] == 1_199
    assert store.salvaged.lost == 1
    await store.close()


async def test_what_was_saved_is_whole_while_somebody_still_holds_a_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite closes such a connection later, and its log with it: a debugger that lists all objects did that to `make corrupt`."""
    await (await filled(tmp_path)).close()
    (tmp_path / DAMAGED).touch()
    held = []
    settle = salvage_module._settle

    def settled(source: sqlite3.Connection, target: sqlite3.Connection) -> int:
        lost = settle(source, target)
        held.append([thing for thing in gc.get_objects() if type(thing).__name__ == "Statement"])
        return lost

    monkeypatch.setattr(salvage_module, "_settle", settled)
    store = await opened(tmp_path, "plant")
    kept = await positions(store)
    await store.close()
    assert any(held)
    assert kept == list(range(1, ROWS + 1))


async def test_a_cursor_beyond_the_end_is_not_believed(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    await store._writer.run(lambda c: c.execute("UPDATE cursors SET position = 1 << 40"))
    await store.close()
    store = await opened(tmp_path, "plant")
    assert store.origin == "salvaged"
    assert store.cursor("plant") == 0
    assert store.last_position == ROWS
    await store.close()


# --- the log ------------------------------------------------------------------------------------------------------------


def _without_log(folder: Path) -> None:
    (folder / f"{DATABASE}-wal").unlink()


def _frame_flipped(folder: Path) -> None:
    path = folder / f"{DATABASE}-wal"
    spoil(path, lambda content: content.__setitem__(LOG_HEADER + 3 * FRAME + 200, content[LOG_HEADER + 3 * FRAME + 200] ^ 16))


def _header_flipped(folder: Path) -> None:
    spoil(folder / f"{DATABASE}-wal", lambda content: content.__setitem__(17, content[17] ^ 1))


def _last_flipped(folder: Path) -> None:
    path = folder / f"{DATABASE}-wal"
    last = max(look_at_log(folder / DATABASE).commits) - 1
    spoil(path, lambda content: content.__setitem__(LOG_HEADER + last * FRAME + 600, content[LOG_HEADER + last * FRAME + 600] ^ 1))


def _cut_between_transactions(folder: Path) -> None:
    first = look_at_log(folder / DATABASE).commits[0]
    os.truncate(folder / f"{DATABASE}-wal", LOG_HEADER + first * FRAME)


def _emptied(folder: Path) -> None:
    os.truncate(folder / f"{DATABASE}-wal", 0)


@pytest.mark.parametrize("damage", [_without_log, _frame_flipped, _header_flipped, _last_flipped, _cut_between_transactions, _emptied])
async def test_a_log_that_was_lost_or_cut_begins_a_new_epoch(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = await filled(tmp_path / "running", count=50)
    folder = copied(tmp_path / "running", tmp_path / "killed")
    await store.close()
    damage(folder)
    after = await opened(folder, "plant")
    assert (after.origin, after.moved_aside) == ("log_lost", None)
    assert after.epoch != store.epoch
    assert after.next_sequence == 1
    await after.commit(rows(after, 1), AT)
    await after.close()
    again = await opened(folder, "plant")
    assert (again.origin, again.epoch) == (None, after.epoch)
    await again.close()


async def test_a_log_that_was_lost_right_after_a_salvage_gives_no_number_again(tmp_path: Path) -> None:
    await (await filled(tmp_path / "running", count=50)).close()
    (tmp_path / "running" / DAMAGED).touch()
    store = await opened(tmp_path / "running", "plant")
    assert store.origin == "salvaged"
    # All that its epoch ever had is in the log.
    await store.commit(rows(store, 5), AT)
    folder = copied(tmp_path / "running", tmp_path / "killed")
    await store.close()
    _without_log(folder)
    after = await opened(folder, "plant")
    assert (after.origin, after.next_sequence) == ("log_lost", 1)
    assert after.epoch != store.epoch
    # What was sent of the lost rows is acknowledged to no row of the new epoch.
    assert after.position_of(store.epoch, 5) == after.last_position == 50
    await after.close()


async def test_a_killed_journal_goes_on_in_its_epoch(tmp_path: Path) -> None:
    store = await filled(tmp_path / "running", count=50)
    folder = copied(tmp_path / "running", tmp_path / "killed")
    # A transaction that the kill cut off: its frames are there, the one that ends it is not.
    whole = (folder / f"{DATABASE}-wal").read_bytes()
    commits = look_at_log(folder / DATABASE).commits
    (folder / f"{DATABASE}-wal").write_bytes(whole[: LOG_HEADER + (commits[-1] - 1) * FRAME + 100])
    # Its index would not count it yet.
    (folder / f"{DATABASE}-shm").unlink()
    await store.close()
    after = await opened(folder, "plant")
    assert (after.origin, after.epoch) == (None, store.epoch)
    await after.close()
    assert not (folder / IN_USE).exists()
    assert not (folder / f"{DATABASE}-wal").exists()
    again = await opened(folder, "plant")
    assert (again.origin, again.epoch) == (None, store.epoch)
    await again.close()


async def test_the_log_of_an_empty_database_is_not_thrown_away(tmp_path: Path) -> None:
    store = await filled(tmp_path / "running", count=50)
    folder = copied(tmp_path / "running", tmp_path / "killed")
    await store.close()
    (folder / DATABASE).write_bytes(b"")
    after = await opened(folder, "plant")
    assert after.origin == "salvaged"
    assert after.salvaged is not None
    assert after.salvaged.rows["journal"] == 50
    await after.close()


# --- cut off in the middle, out of time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["building", "salvaged", "moved"])
async def test_a_start_that_is_cut_off_while_saving_is_ended_by_the_next(tmp_path: Path, after: str) -> None:
    await (await filled(tmp_path)).close()
    (tmp_path / DAMAGED).touch()
    fresh = tmp_path / SALVAGED
    if after == "building":
        (tmp_path / f"{SALVAGED}.building").write_bytes(b"half of it")
    else:
        salvage(tmp_path / DATABASE, fresh, ManualClock())
    if after == "moved":
        (tmp_path / DATABASE).rename(tmp_path / f"{DATABASE}.corrupt-1")
    store = await opened(tmp_path, "plant")
    assert await positions(store) == list(range(1, ROWS + 1))
    assert (tmp_path / f"{DATABASE}.corrupt-1").exists()
    assert not fresh.exists()
    assert not (tmp_path / DAMAGED).exists()
    await store.close()
    assert sorted(name for name in os.listdir(tmp_path) if "salvag" in name) == []


async def test_what_time_does_not_allow_is_left_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await filled(tmp_path)).close()
    (tmp_path / DAMAGED).touch()
    monkeypatch.setattr(salvage_module, "SALVAGE_S", -1.0)
    store = await opened(tmp_path, "plant")
    assert store.salvaged is not None
    assert not store.salvaged.complete
    # What delivery and memory go on from comes first, a slice of each table whatever the time.
    assert store.cursor("plant") == 100
    assert len(await store.snapshots()) == 1
    await store.close()


async def test_a_disk_that_damages_what_was_saved_too_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await filled(tmp_path, count=10)).close()

    def check(connection: sqlite3.Connection, clock: ManualClock) -> None:
        raise Corrupt("row 3 is not what was written")

    monkeypatch.setattr(statedir, "check", check)
    with pytest.raises(StoreError, match="row 3") as refused:
        await opened(tmp_path, "plant")
    assert "disk" in refused.value.remedy.en
    assert (tmp_path / f"{DATABASE}.corrupt-1").exists()


async def test_a_start_that_is_cut_off_after_saving_still_begins_a_new_epoch(tmp_path: Path) -> None:
    store = await filled(tmp_path / "starting", count=10)
    await store.close()
    (tmp_path / "starting" / DAMAGED).touch()
    with closing(statedir.prepare(tmp_path / "starting", ManualClock()).connection):
        killed = copied(tmp_path / "starting", tmp_path / "killed")
    after = await opened(killed, "plant")
    origin, epoch, sequence = after.origin, after.epoch, after.next_sequence
    await after.close()
    assert (origin, sequence) == ("salvaged", 1)
    assert epoch != store.epoch
