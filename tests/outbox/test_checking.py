"""The check of a journal that is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.outbox import checking
from gateway.outbox.checking import Finding, JournalCheck
from gateway.outbox.exchange import DAMAGED
from gateway.outbox.statedir import DATABASE
from tests.manual_clock import ManualClock
from tests.outbox.test_salvage import PAGE, filled
from tests.outbox.test_store import opened


async def test_damage_is_found_while_the_journal_is_in_use_and_the_next_start_saves_the_rest(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    store = await opened(tmp_path, "plant")
    found: list[tuple[Finding, str]] = []
    check = JournalCheck(tmp_path / DATABASE, ManualClock(), lambda finding, said: found.append((finding, said)))
    await check.check()
    assert found == [(Finding.SOUND, "")]
    assert not (tmp_path / DAMAGED).exists()
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek(30 * PAGE)
        file.write(b"\xff" * 64)
    await check.check()
    assert found[1][0] is Finding.DAMAGED
    assert found[1][1]
    await store.close()
    store = await opened(tmp_path, "plant")
    assert store.origin == "salvaged"
    await store.close()


async def test_a_check_that_takes_too_long_or_cannot_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Finding] = []
    check = JournalCheck(tmp_path / DATABASE, ManualClock(), lambda finding, said: found.append(finding))
    await check.check()
    assert found == [Finding.UNFINISHED]
    await (await filled(tmp_path, count=4_000)).close()
    monkeypatch.setattr(checking, "LIMIT_S", -1.0)
    monkeypatch.setattr(checking, "STEPS", 10)
    await check.check()
    assert found == [Finding.UNFINISHED] * 2
    assert not (tmp_path / DAMAGED).exists()
