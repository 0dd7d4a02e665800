"""Room set aside for a full disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.outbox import ballast as ballast_module
from gateway.outbox import statedir
from gateway.outbox.ballast import Ballast
from gateway.outbox.disk import DiskState
from gateway.outbox.store import Store
from tests.manual_clock import ManualClock
from tests.outbox.journal import Journal, counted, journal


def room(monkeypatch: pytest.MonkeyPatch, *, total: int, free: int) -> None:
    monkeypatch.setattr(ballast_module.os, "statvfs", lambda _: SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=total))


def test_the_ballast_is_a_share_of_a_small_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ballast = Ballast(tmp_path)
    room(monkeypatch, total=1_000_000, free=500_000)
    assert ballast.survey() is False
    assert (tmp_path / "ballast").stat().st_size == 50_000
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 50_000
    room(monkeypatch, total=1_000_000, free=99_000)
    assert ballast.survey() is True
    assert ballast.release() is True
    assert ballast.release() is False
    room(monkeypatch, total=1_000_000, free=149_000)
    assert ballast.survey() is True
    assert not (tmp_path / "ballast").exists()
    room(monkeypatch, total=1_000_000, free=150_000)
    assert ballast.survey() is False
    assert (tmp_path / "ballast").exists()


def test_where_nothing_can_be_laid_space_is_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    room(monkeypatch, total=1_000_000, free=500_000)
    monkeypatch.setattr(ballast_module.os, "posix_fallocate", no_space)
    assert Ballast(tmp_path).survey() is True
    assert os.listdir(tmp_path) == []
    assert Ballast(tmp_path / "nowhere").survey() is True


class _Room(Ballast):
    """Ballast of a journal whose disk is full by its page limit: what is given up raises the limit."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.journal: Journal | None = None
        self.loop = asyncio.get_running_loop()
        self.low = False

    def survey(self) -> bool:
        return self.low

    def release(self) -> bool:
        if self.low or self.journal is None:
            return False
        self.low = True
        asyncio.run_coroutine_threadsafe(self.journal.free_disk(), self.loop).result(5)
        return True


async def test_the_recorder_gives_the_ballast_up_before_it_waits(tmp_path: Path) -> None:
    ballast = _Room(tmp_path)
    async with journal(tmp_path, ballast=ballast) as j:
        ballast.journal = j
        await j.fill_disk()
        j.recorder.record([counted(n) for n in range(100)])
        await j.settle()
        assert j.failures() == 1
        assert j.recorder.disk is DiskState.LOW
        await j.fill_disk()
        j.recorder.record([counted(n) for n in range(100)])
        await j.until(lambda: j.failures() >= 3)
        assert j.recorder.disk is DiskState.FULL
        await j.free_disk()
        await j.settle()
        ballast.low = False
        await j.clock.advance(6)
        j.recorder.record([counted(1)])
        await j.settle()
        await j.until(lambda: j.recorder.disk is DiskState.OK)
        assert await j.sequences() == list(range(1, 202))


async def test_a_start_without_room_gives_the_ballast_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ballast").write_bytes(b"x")
    migrate = statedir.migrate

    def needs_room(connection: sqlite3.Connection) -> tuple[int, int]:
        if (tmp_path / "ballast").exists():
            raise sqlite3.OperationalError("database or disk is full")
        return migrate(connection)

    monkeypatch.setattr(statedir, "migrate", needs_room)
    store = await Store.open(tmp_path, uplinks=["plant"], clock=ManualClock())
    await store.close()
    assert not (tmp_path / "ballast").exists()

    def never(_: sqlite3.Connection) -> tuple[int, int]:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(statedir, "migrate", never)
    with pytest.raises(statedir.StoreError, match="full") as refused:
        await Store.open(tmp_path, uplinks=["plant"], clock=ManualClock())
    assert "free space" in refused.value.remedy.en
