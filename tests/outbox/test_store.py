"""The state directory and what may leave the journal."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.domain.entry import Entry
from gateway.domain.job_order import Answer
from gateway.domain.snapshot import Record, Snapshot
from gateway.outbox.migrate import Migration, migrate, migrations
from gateway.outbox.retention import SLICE
from gateway.outbox.session import open_writer
from gateway.outbox.settings import JournalSettings
from gateway.outbox.statedir import DATABASE, StoreError
from gateway.outbox.store import Store
from gateway.outbox.transaction import PARKED, QUARANTINED, Batch, RowException
from tests.manual_clock import ManualClock
from tests.outbox.journal import AT


async def opened(state_dir: Path, *uplinks: str, settings: JournalSettings | None = None) -> Store:
    return await Store.open(state_dir, uplinks=uplinks, clock=ManualClock(), settings=settings)


def rows(store: Store, count: int, body: bytes = b"{}", work_unit: str | None = "press-07") -> Batch:
    first, sequence = store.last_position + 1, store.next_sequence
    return Batch(
        entries=[
            Entry(first + n, store.epoch, sequence + n, f"g:{store.epoch}:{sequence + n}", work_unit, "job.progress", None, AT, body)
            for n in range(count)
        ]
    )


async def positions(store: Store) -> list[int]:
    return [entry.position for entry in await store.entries(0, 100_000)]


async def test_durability_settings_of_the_writer(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    pragmas = {}
    for name in ("journal_mode", "synchronous", "mmap_size", "auto_vacuum", "user_version"):
        pragmas[name] = await store._writer.run(lambda c, name=name: c.execute(f"PRAGMA {name}").fetchone()[0])
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "mmap_size": 0, "auto_vacuum": 2, "user_version": len(migrations())}
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store._reader.run(lambda c: c.execute("DELETE FROM journal"))
    await store.close()


async def test_a_journal_that_nobody_closed_keeps_no_process_from_ending(tmp_path: Path) -> None:
    before = threading.enumerate()
    store = await opened(tmp_path, "plant")
    await store.backlog("plant")
    workers = [thread for thread in threading.enumerate() if thread not in before and "_connection_worker" in thread.name]
    assert [thread.daemon for thread in workers] == [True, True]
    await store.close()


async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.commit(rows(store, 1), AT)
    await store.close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(StoreError) as refused:
        await opened(tmp_path)
    assert "newer version" in refused.value.problem.en
    assert "plus récente" in refused.value.problem.fr
    assert refused.value.remedy.en
    assert "999" in str(refused.value)
    assert (tmp_path / DATABASE).read_bytes() == before
    # What was refused is not held: the right version could start now.
    with pytest.raises(StoreError, match="999"):
        await opened(tmp_path)


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    with pytest.raises(StoreError) as refused:
        await opened(tmp_path)
    assert str(os.getpid()) in refused.value.problem.en
    assert "already in use" in refused.value.problem.en
    await store.close()
    await (await opened(tmp_path)).close()


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as refused:
        await opened(tmp_path / "file" / "state")
    assert "--state-dir" in refused.value.remedy.en


def test_a_step_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / DATABASE)
    assert migrate(connection) == (0, len(migrations()))
    wrong = Migration(len(migrations()) + 1, "wrong.sql", "CREATE TABLE half (x INTEGER) STRICT;\nSELECT nonsense;")
    with pytest.raises(sqlite3.OperationalError, match="nonsense"):
        migrate(connection, (*migrations(), wrong))
    assert migrate(connection) == (len(migrations()), len(migrations()))
    assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'half'").fetchall() == []
    connection.close()


def test_versions_of_the_schema_are_numbered_without_a_hole() -> None:
    assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))


async def test_rows_are_found_by_epoch_and_sequence(tmp_path: Path) -> None:
    store = await opened(tmp_path, "plant")
    await store.commit(rows(store, 3), AT)
    await store.commit(rows(store, 2, work_unit=None), AT)
    assert store.position_of(store.epoch, 2) == 2
    (found,) = await store.entries_at([2])
    assert (found.epoch, found.sequence) == (store.epoch, 2)
    assert await store.entries_at([6]) == []
    assert store.position_of("0000000000", 1) is None
    assert [e.position for e in await store.entries(0, 10, without=["press-07"])] == [4, 5]
    assert [e.position for e in await store.entries(1, 10, without=[None])] == [2, 3]
    assert [e.position for e in await store.entries(1, 10, without=["press-07", None])] == []
    assert [e.position for e in await store.entries(1, 2)] == [2, 3]
    await store.close()


async def test_how_far_an_uplink_has_sent_outlives_the_process(tmp_path: Path) -> None:
    store = await opened(tmp_path, "plant", "erp", "other")
    await store.commit(rows(store, 10), AT)
    await store.commit(Batch(cursors={"plant": 4, "erp": 9}, sent={"plant": 7, "erp": 99}), AT)
    await store.close()
    again = await opened(tmp_path, "plant", "erp", "other")
    assert [again.sent_up_to(uplink) for uplink in ("plant", "erp", "other")] == [7, 10, 0]
    await again.close()


async def test_rows_retire_only_when_every_uplink_is_done_and_the_retention_is_over(tmp_path: Path) -> None:
    store = await opened(tmp_path, "plant", "erp", settings=JournalSettings(retention=86_400.0))
    await store.commit(rows(store, 10), AT)
    await store.commit(
        Batch(
            cursors={"plant": 10, "erp": 6},
            exceptions={
                ("erp", 2): RowException("erp", 2, QUARANTINED, "not authorised", AT),
                ("erp", 3): RowException("erp", 3, PARKED, "no such order", AT),
            },
        ),
        AT,
    )
    assert (await store.prune(AT + timedelta(hours=23))).journal == 0
    later = AT + timedelta(hours=25)
    assert (await store.prune(later)).journal == 5
    assert await positions(store) == [2, 7, 8, 9, 10]
    assert [row.position for row in await store.exceptions("erp")] == [2, 3]
    await store.commit(Batch(cursors={"erp": 10}, exceptions={("erp", 2): None}), AT)
    await store.prune(later)
    assert await positions(store) == []
    assert await store.exceptions("erp") == []
    assert (await store.backlog("erp")).rows == 0
    epoch, following = store.epoch, store.next_sequence
    await store.close()
    # Numbers go on although no row is left.
    store = await opened(tmp_path, "plant", "erp")
    assert (store.epoch, store.next_sequence, store.cursor("erp")) == (epoch, following, 10)
    assert (await store.backlog("erp")).rows == 0
    await store.close()


async def test_above_max_size_pending_rows_and_running_memory_stay(tmp_path: Path) -> None:
    store = await opened(tmp_path, "plant", settings=JournalSettings(max_size=1_000_000))
    await store.commit(rows(store, 800, b"x" * 2_000), AT)
    await store.commit(
        Batch(
            telemetry=[("press_plc", b"y" * 1_000)] * 10,
            snapshots={
                "press-07": Snapshot(
                    "press-07", 1, b"{}", (Record("window", "new", AT, b""), Record("window", "old", AT - timedelta(8), b""))
                )
            },
            answers=[(Answer("c1", 1), AT)],
        ),
        AT,
    )
    assert (await store.prune(AT)).telemetry == 10
    assert (await store.prune(AT)).history == 1
    assert (await store.prune(AT)).more is False
    assert len(await positions(store)) == 800
    assert [record.key for record in await store.records("press-07", ["window"], AT - timedelta(30))] == ["new"]
    await store.commit(Batch(cursors={"plant": 700}), AT)
    assert (await store.prune(AT)).journal == 700
    assert (await positions(store))[0] == 701
    assert await store.known_answer("c1") is not None
    await store.close()


async def test_pruning_goes_in_slices_and_gives_the_space_back(tmp_path: Path) -> None:
    store = await opened(tmp_path, "plant")
    await store.commit(rows(store, SLICE + 200, b"x" * 3_000), AT)
    await store.commit(Batch(cursors={"plant": SLICE + 200}), AT)
    full = await store.size()
    first = await store.prune(AT + timedelta(days=8))
    assert (first.journal, first.more) == (SLICE, True)
    assert (await store.prune(AT + timedelta(days=8))).more is False
    for _ in range(10):
        await store.prune(AT + timedelta(days=8))
    assert await positions(store) == []
    await store.close()
    assert (tmp_path / DATABASE).stat().st_size < full / 2


async def test_a_new_uplink_starts_at_the_oldest_row_and_a_removed_one_holds_nothing_back(tmp_path: Path) -> None:
    store = await opened(tmp_path, "plant")
    await store.commit(rows(store, 10), AT)
    await store.commit(Batch(cursors={"plant": 4}), AT)
    await store.prune(AT + timedelta(days=8))
    await store.close()
    store = await opened(tmp_path, "erp")
    assert store.cursor("erp") == 4
    assert (await store.backlog("erp")).rows == 6
    await store.commit(Batch(cursors={"erp": 8}), AT)
    await store.prune(AT + timedelta(days=8))
    assert await positions(store) == [9, 10]
    await store.close()
    store = await opened(tmp_path, "plant")
    assert store.cursor("plant") == 8
    await store.close()


async def test_backlog_does_not_count_rows(tmp_path: Path) -> None:
    store = await opened(tmp_path, "plant")
    await store.commit(rows(store, 3_000), AT)
    await store.commit(Batch(cursors={"plant": 10}), AT)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    await store._reader.run(lambda c: c.set_progress_handler(count, 100))
    backlog = await store.backlog("plant")
    assert (backlog.rows, backlog.bytes) == (2_990, 2_990 * 2)
    assert steps <= 3
    await store.close()


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.outbox.journal import counted
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.outbox.recorder import Recorder
from gateway.outbox.store import Store

async def main():
    store = await Store.open(Path(sys.argv[1]), uplinks=["plant"], clock=SystemClock())
    def told(entries):
        for entry in entries:
            print(entry.sequence, flush=True)
    recorder = Recorder(store, gateway_id="g", source_of=str, clock=SystemClock(), metrics=Metrics(), snapshots=tuple, after_commit=told)
    task = asyncio.create_task(recorder.run())
    while not task.done():
        recorder.record([counted(n) for n in range(7)])
        await asyncio.sleep(0.001)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_what_was_published_before_a_kill_is_in_the_journal(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    latest = 0
    for cycle in range(5):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(state_dir)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while latest < (cycle + 1) * 300:
            latest = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        published = [int(line) for line in process.stdout.read().splitlines()[:-1]]
        process.wait()
        process.stdout.close()
        latest = max([latest, *published])
        store = await opened(state_dir, "plant")
        sequences = [entry.sequence for entry in await store.entries(0, 1_000_000)]
        assert store.moved_aside is None
        await store.close()
        assert sequences == list(range(1, len(sequences) + 1))
        assert len(sequences) >= latest
        latest = len(sequences)
