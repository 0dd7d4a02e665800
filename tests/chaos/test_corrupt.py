"""The short runs of `make corrupt`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.corrupt import MUTANTS, Corrupt, table


async def _run(folder: Path, mutants: int, seed: int) -> None:
    outcome = await Corrupt(folder, seed=seed).run(mutants)
    assert outcome.violations == [], table(outcome)
    assert sum(outcome.mutants.values()) == mutants


@pytest.mark.slow
async def test_one_journal_damaged_in_each_way_starts(tmp_path: Path) -> None:
    await _run(tmp_path, len(MUTANTS), seed=3)


@pytest.mark.system
async def test_thirty_damaged_journals_start_and_give_no_key_twice(tmp_path: Path) -> None:
    await _run(tmp_path, 30, seed=1)
