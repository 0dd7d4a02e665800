"""One transaction for what belongs together, no hole in the numbers, nothing lost but by a kill."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.job_order import Answer
from gateway.domain.snapshot import Record, Snapshot
from gateway.outbox.disk import DiskState, disk_state
from gateway.outbox.recorder import GATHER_S, GROUP_ROWS, PRUNE_S, SPACING_S
from gateway.outbox.store import Store
from gateway.outbox.transaction import DELIVERED, QUARANTINED, Batch, Written
from tests.outbox.journal import AT, counted, journal


async def test_an_event_becomes_a_cloud_event_that_is_published_after_its_commit(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.recorder.record([counted(3), counted(1, work_unit=None)])
        assert j.published == []
        assert await j.sequences() == []
        await j.settle()
        first, second = j.published
        assert json.loads(first.body) == {
            "specversion": "1.0",
            "id": f"line-pc-07:{j.store.epoch}:1",
            "source": "/acme/lyon/stamping/line-3/press-07",
            "type": "lineside.quantity.counted.v1",
            "time": "2026-11-25T06:00:00Z",
            "subject": "OF-1",
            "epoch": j.store.epoch,
            "sequence": 1,
            "datacontenttype": "application/json",
            "data": {
                "produced": 3,
                "good": 3,
                "scrap": 0,
                "rework": 0,
                "counter": 3,
                "late": False,
                "since": None,
                "while_stopped": False,
                "reassigned": False,
                "product_lot_id": None,
                "product_id": None,
                "reason": None,
            },
        }
        assert json.loads(second.body)["source"] == "/acme/lyon/_gateway/line-pc-07"
        assert await j.store.entries(0, 10) == [first, second]


async def test_events_of_a_moment_share_a_commit_and_commits_keep_their_distance(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        for piece in range(5):
            j.recorder.record([counted(piece)])
        await j.clock.advance(GATHER_S / 2)
        j.recorder.record([counted(6)])
        assert j.commits() == 0
        await j.clock.advance(GATHER_S / 2)
        await j.real_until(lambda: j.commits() == 1)
        assert len(j.published) == 6
        j.recorder.record([counted(7)])
        await j.clock.advance(SPACING_S - 0.001)
        j.recorder.record([counted(8)])
        assert j.commits() == 1
        await j.clock.advance(0.002)
        await j.real_until(lambda: j.commits() == 2)
        assert len(j.published) == 8


async def test_a_full_group_does_not_wait(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.recorder.record([counted(n) for n in range(GROUP_ROWS)])
        await j.real_until(lambda: len(j.published) == GROUP_ROWS)
        assert j.commits() == 1


async def test_who_waits_shortens_the_distance(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.recorder.record([counted(1)])
        await j.clock.advance(GATHER_S)
        await j.real_until(lambda: j.commits() == 1)
        j.recorder.record([counted(1)])
        waiter = asyncio.ensure_future(j.recorder.committed())
        await j.clock.advance(GATHER_S)
        await asyncio.wait_for(waiter, 5)
        assert len(j.published) == 2


async def test_committed_returns_at_once_when_all_is_on_disk(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        await asyncio.wait_for(j.recorder.committed(), 1)


async def test_snapshots_of_that_very_moment_go_with_the_events(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.snapshots[:] = [Snapshot("press-07", 1, b'{"parts": 1}', (Record("window", "hour:1", AT, b"{}"),))]
        j.recorder.record([counted(1)])
        j.snapshots[:] = [Snapshot("press-07", 1, b'{"parts": 2}', (Record("window", "hour:1", AT, b'{"produced": 2}'),))]
        j.recorder.record([counted(1)])
        await j.settle()
        assert j.commits() == 1
        assert (await j.store.snapshots())["press-07"].state == b'{"parts": 2}'
        assert await j.store.records("press-07", ["window", "stop"], AT) == [Record("window", "hour:1", AT, b'{"produced": 2}')]
        assert await j.store.records("press-07", ["window"], AT + timedelta(seconds=1)) == []


async def test_a_snapshot_that_did_not_change_costs_no_commit(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.snapshots[:] = [Snapshot("press-07", 1, b"1")]
        for _ in range(3):
            j.recorder.mark_dirty()
            await j.settle()
        assert j.commits() == 1
        j.snapshots[:] = [Snapshot("press-07", 1, b"2")]
        j.recorder.mark_dirty()
        await j.settle()
        assert j.commits() == 2


async def test_restart_goes_on_with_the_next_number(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.recorder.record([counted(1), counted(1)])
        j.recorder.advance("plant", 1)
        await j.settle()
        epoch = j.store.epoch
    async with journal(tmp_path, uplinks=["plant", "erp"]) as j:
        assert j.store.epoch == epoch
        assert (j.store.cursor("plant"), j.store.cursor("erp")) == (1, 0)
        j.recorder.record([counted(1)])
        await j.settle()
        assert await j.sequences() == [1, 2, 3]


async def test_a_full_disk_loses_nothing_and_makes_no_hole(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.recorder.record([counted(0)])
        await j.settle()
        await j.fill_disk()
        j.snapshots[:] = [Snapshot("press-07", 1, b"x" * 20_000, (Record("stop", "s1", AT, b"y" * 20_000),))]
        j.recorder.record([counted(n) for n in range(50)])
        await j.until(lambda: j.failures() >= 2)
        assert j.recorder.disk is DiskState.FULL
        assert "full" in j.recorder.disk_error
        assert j.recorder.failing_since is not None
        j.recorder.record([counted(n) for n in range(30)])
        assert j.recorder.pending_rows == 80
        assert await j.sequences() == [1]
        assert await j.store.snapshots() == {}

        await j.free_disk()
        await j.settle()
        assert (j.recorder.disk, j.recorder.disk_error, j.recorder.failing_since) == (DiskState.OK, "", None)
        assert await j.sequences() == list(range(1, 82))
        assert [entry.sequence for entry in j.published] == list(range(1, 82))
        assert len((await j.store.records("press-07", ["stop"], AT))[0].body) == 20_000
        assert j.recorder.pending_rows == 0


async def test_recovery_is_tried_at_least_every_five_seconds(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        await j.fill_disk()
        j.recorder.record([counted(n) for n in range(100)])
        await j.until(lambda: j.failures() >= 8)
        failed = j.failures()
        await j.free_disk()
        await j.clock.advance(5.1)
        await j.until(lambda: len(j.published) == 100)
        assert j.failures() <= failed + 1


async def test_a_read_only_database_is_opened_anew(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        await j.on_writer("PRAGMA query_only = ON")
        j.recorder.record([counted(1)])
        await j.until(lambda: j.failures() == 1)
        assert j.recorder.disk is DiskState.READ_ONLY
        await j.settle()
        assert await j.sequences() == [1]
        assert j.recorder.disk is DiskState.OK


class _Unsure(Store):
    """A disk that writes the commit and then reports an error, once."""

    unsure = True

    async def commit(self, batch: Batch, recorded_at: datetime) -> Written:
        if not self.unsure:
            return await super().commit(batch, recorded_at)
        self.unsure = False
        position = self.last_position
        await super().commit(batch, recorded_at)
        self.last_position = position
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error


async def test_a_commit_that_came_through_with_an_error_is_not_doubled(tmp_path: Path) -> None:
    async with journal(tmp_path, store_class=_Unsure) as j:
        j.recorder.record([counted(1), counted(2)])
        await j.settle()
        j.recorder.record([counted(3)])
        await j.settle()
        assert j.failures() == 1
        assert await j.sequences() == [1, 2, 3]
        assert [entry.sequence for entry in j.published] == [1, 2, 3]


class _Slow(Store):
    """A disk whose commit lasts until the test says so."""

    async def commit(self, batch: Batch, recorded_at: datetime) -> Written:
        await asyncio.get_running_loop().run_in_executor(None, self.gate.wait, 10)
        return await super().commit(batch, recorded_at)

    def hold(self) -> None:
        self.gate = threading.Event()


async def test_cancelled_in_a_commit_it_is_carried_to_its_end(tmp_path: Path) -> None:
    async with journal(tmp_path, store_class=_Slow) as j:
        assert isinstance(j.store, _Slow)
        j.store.hold()
        j.recorder.record([counted(1)])
        waiter = asyncio.ensure_future(j.recorder.committed())
        await j.clock.advance(1)
        j.task.cancel()
        await asyncio.sleep(0.01)
        assert not j.task.done()
        j.store.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await j.task
        await asyncio.wait_for(waiter, 1)
        assert await j.sequences() == [1]
        assert [entry.sequence for entry in j.published] == [1]


async def test_a_hanging_commit_makes_progress_stand_and_idleness_does_not(tmp_path: Path) -> None:
    async with journal(tmp_path, store_class=_Slow) as j:
        assert isinstance(j.store, _Slow)
        await j.clock.advance(60)
        assert j.recorder.last_progress == j.clock.monotonic()
        j.store.hold()
        j.recorder.record([counted(1)])
        await j.clock.advance(30)
        assert j.clock.monotonic() - j.recorder.last_progress >= 29
        j.store.gate.set()
        await j.settle()
        assert j.recorder.last_progress == j.clock.monotonic()


async def test_cancelled_while_the_disk_is_full_a_new_writer_begins_with_what_was_left(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        await j.fill_disk()
        j.recorder.record([counted(n) for n in range(60)])
        await j.until(lambda: j.failures() == 1)
        j.task.cancel()
        await asyncio.gather(j.task, return_exceptions=True)
        j.recorder.record([counted(1)])
        await j.free_disk()
        j.task = asyncio.create_task(j.recorder.run())
        await j.settle()
        assert await j.sequences() == list(range(1, 62))
        j.task.cancel()
        await asyncio.gather(j.task, return_exceptions=True)


async def test_drain_says_whether_it_was_enough(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.recorder.record([counted(1)])
        drained = asyncio.ensure_future(j.recorder.drain(2.0))
        await j.until(drained.done)
        assert drained.result() is True
        await j.fill_disk()
        j.recorder.record([counted(n) for n in range(100)])
        drained = asyncio.ensure_future(j.recorder.drain(2.0))
        await j.until(drained.done)
        assert drained.result() is False


@given(steps=st.lists(st.sampled_from(["record", "many", "full", "free", "restart"]), max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_have_no_hole_whatever_happens(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    state_dir = tmp_path_factory.mktemp("journal")

    async def live(left: list[str], known: int) -> tuple[list[str], int]:
        async with journal(state_dir) as j:
            assert j.store.next_sequence == known + 1
            recorded = known
            while left:
                step, *left = left
                if step == "restart":
                    break
                if step == "full":
                    await j.fill_disk()
                elif step == "free":
                    await j.free_disk()
                else:
                    for _ in range(1 if step == "record" else 300):
                        recorded += 1
                        j.recorder.record([counted(recorded)])
                    await j.clock.advance(0.2)
            await j.free_disk()
            await j.settle()
            assert await j.sequences() == list(range(1, recorded + 1))
            assert [entry.sequence for entry in j.published] == list(range(known + 1, recorded + 1))
            bodies = [json.loads(entry.body) for entry in await j.store.entries(0, 100_000)]
            assert [body["data"]["counter"] for body in bodies] == list(range(1, recorded + 1))
        return left, recorded

    known = 0
    left = steps
    while left:
        left, known = asyncio.run(live(left, known))


async def test_what_an_uplink_has_taken_is_in_the_same_journal(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        j.recorder.record([counted(n) for n in range(6)])
        await j.settle()
        j.recorder.advance("plant", 3)
        j.recorder.park("plant", 2, "not authorised", QUARANTINED)
        j.recorder.park("plant", 5, "", DELIVERED)
        j.recorder.mark("plant", "mes", j.store.epoch, 3)
        await j.settle()
        assert j.store.cursor("plant") == 3
        assert [(row.position, row.state, row.reason) for row in await j.store.exceptions("plant")] == [
            (2, QUARANTINED, "not authorised"),
            (5, DELIVERED, ""),
        ]
        assert [(mark.consumer, mark.sequence) for mark in await j.store.marks("plant")] == [("mes", 3)]
        backlog = await j.store.backlog("plant")
        assert (backlog.rows, backlog.oldest) == (3, AT)
        rows = await j.store.entries_at([2, 4, 6])
        assert backlog.bytes == sum(len(row.body) for row in rows)
        j.recorder.unpark("plant", 2)
        j.recorder.advance("plant", 6)
        await j.settle()
        assert await j.store.exceptions("plant") == []
        assert (await j.store.backlog("plant")).rows == 0


async def test_answers_and_order_cursors(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        answer = Answer("c1", 1, "Running")
        j.recorder.record_answer(answer, AT)
        j.recorder.record_order_cursor("erp", "42")
        await j.settle()
        assert j.commits() == 1
        assert await j.store.known_answer("c1") == answer
        assert await j.store.known_answer("c2") is None
        assert (await j.store.order_cursor("erp"), await j.store.order_cursor("plant")) == ("42", None)
        with pytest.raises(ValueError, match="command_id"):
            j.recorder.record_answer(Answer(None, 4), AT)


async def test_telemetry_is_bounded_and_its_loss_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outbox.transaction.TELEMETRY_ROWS", 5)
    monkeypatch.setattr("gateway.outbox.recorder.TELEMETRY_PENDING", 8)
    async with journal(tmp_path) as j:
        for n in range(10):
            j.recorder.record_telemetry("press_plc", b"%d" % n)
        await j.settle()
        kept = await j.store.telemetry(0, 100)
        assert [row.body for row in kept] == [b"5", b"6", b"7", b"8", b"9"]
        assert j.metrics.registry.get_sample_value("lineside_telemetry_dropped_total", {"uplink": "journal"}) == 5
        j.recorder.forget_telemetry(kept[1].id)
        await j.settle()
        assert [row.body for row in await j.store.telemetry(0, 100)] == [b"7", b"8", b"9"]


async def test_data_that_json_cannot_hold_takes_no_number(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        wrong = counted(1)
        object.__setattr__(wrong, "counter", object())
        with pytest.raises(TypeError):
            j.recorder.record([counted(1), wrong])
        j.recorder.record([counted(2)])
        await j.settle()
        assert await j.sequences() == [1, 2]


async def test_a_wrong_statement_is_a_bug_and_is_not_repeated(tmp_path: Path) -> None:
    async with journal(tmp_path) as j:
        await j.on_writer("DROP TABLE journal")
        j.recorder.record([counted(1)])
        await j.until(j.task.done)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            j.task.result()


def test_an_error_without_a_code_says_nothing_about_the_disk() -> None:
    assert disk_state(sqlite3.OperationalError("could not decode")) is None


async def test_a_clock_that_goes_years_ahead_removes_nothing_for_a_day(tmp_path: Path) -> None:
    async with journal(tmp_path, uplinks=["plant"]) as j:
        j.recorder.record([counted(1)])
        await j.settle()
        j.recorder.advance("plant", 1)
        known = j.clock.now()
        j.clock.step_wall(3_000 * 86_400.0)
        j.recorder.distrust_clock(known, 86_400.0)

        async def rows_are(wanted: list[int]) -> None:
            """After the next round of pruning."""
            await j.clock.advance(2 * PRUNE_S)
            commits = j.commits()
            j.recorder.record_answer(Answer(f"c-{commits}", 1), j.clock.now())
            await j.settle()
            await j.real_until(lambda: j.commits() > commits)
            async with asyncio.timeout(20):
                while await j.sequences() != wanted:
                    await asyncio.sleep(0.01)

        await rows_are([1])
        await j.clock.advance(86_400.0)
        await rows_are([])
