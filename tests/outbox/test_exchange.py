"""Damaged journals that were moved aside: numbered, kept as long as they are needed, and not without end."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.app.journal_watch import tell_origin
from gateway.metrics import Metrics
from gateway.outbox import salvage, statedir
from gateway.outbox.damage import Corrupt
from gateway.outbox.exchange import CORRUPT, DAMAGED, READ_THROUGH
from gateway.outbox.statedir import DATABASE, Opened, StoreError, prepare
from gateway.status.health import Alerts
from tests.manual_clock import ManualClock
from tests.outbox.test_salvage import ROWS, filled
from tests.outbox.test_store import opened


def started(folder: Path) -> Opened:
    """A start that finds the journal damaged."""
    (folder / DAMAGED).touch()
    ready = prepare(folder, ManualClock())
    ready.connection.close()
    return ready


def aside(folder: Path) -> list[int]:
    return sorted(int(name.rsplit("-", 1)[1]) for name in os.listdir(folder) if CORRUPT in name and name[-1].isdigit())


async def told(folder: Path) -> tuple[str, str]:
    """The alert of a start that finds the journal damaged."""
    (folder / DAMAGED).touch()
    alerts = Alerts(lambda event: None, ManualClock(), "UTC")
    store = await opened(folder, "plant")
    tell_origin(store, alerts, Metrics())
    await store.close()
    (alert,) = alerts.active()
    return alert.text.en, alert.text.fr


async def test_the_first_and_the_latest_damaged_journals_are_kept(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    assert [started(tmp_path).thinned.removed for _ in range(5)] == [()] * 4 + [(f"{DATABASE}.corrupt-2",)]
    english, french = await told(tmp_path)
    assert "removed (journal.db.corrupt-3). 4 damaged journals (" in english
    assert "supprimés (journal.db.corrupt-3). 4 journaux endommagés (" in french
    # A number is not given again, so that the latest is the latest.
    assert aside(tmp_path) == [1, 4, 5, 6]
    assert not any("corrupt-2" in name or "corrupt-3" in name for name in os.listdir(tmp_path))
    store = await opened(tmp_path, "plant")
    assert store.last_position == ROWS
    await store.close()


async def test_one_that_was_not_read_to_its_end_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await filled(tmp_path)).close()
    monkeypatch.setattr(salvage, "SALVAGE_S", -1.0)
    for _ in range(6):
        assert started(tmp_path).thinned.removed == ()
    assert not any(READ_THROUGH in name for name in os.listdir(tmp_path))
    english, french = await told(tmp_path)
    assert "7 damaged journals" in english
    assert "removed" not in english
    assert "7 journaux endommagés" in french


async def test_a_disk_that_damages_each_new_journal_is_not_filled_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await filled(tmp_path)).close()

    def check(connection: sqlite3.Connection, clock: ManualClock) -> None:
        raise Corrupt("row 3 is not what was written")

    monkeypatch.setattr(statedir, "check", check)
    for _ in range(7):
        with pytest.raises(StoreError) as refused:
            prepare(tmp_path, ManualClock())
    assert "removed to keep room: journal.db.corrupt-4" in str(refused.value)
    assert aside(tmp_path) == [1, 5, 6, 7]


@pytest.mark.parametrize("cut_before", ["corrupt-2", "corrupt-2-wal"])
async def test_removing_that_is_cut_off_is_ended_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_before: str) -> None:
    await (await filled(tmp_path)).close()
    for _ in range(4):
        started(tmp_path)
    whole: Callable[..., None] = Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.name.endswith(cut_before):
            raise OSError(5, "Input/output error")
        whole(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        started(tmp_path)
    started(tmp_path)
    assert aside(tmp_path) == [1, 4, 5, 6]
    assert not any("corrupt-2" in name or "corrupt-3" in name for name in os.listdir(tmp_path))
