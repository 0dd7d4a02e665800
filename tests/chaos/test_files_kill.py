"""Kills of the whole daemon below an ERP that exchanges files: a few in `make test`, two hundred in `make system`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.files_kill import exchange, table


async def _run(folder: Path, cycles: int, seed: int) -> None:
    async with exchange(folder, seed=seed) as running:
        outcome = await running.run(cycles)
    assert outcome.violations == [], table(outcome)
    assert outcome.cycles == cycles
    # Three orders a machine at least; how many pieces and confirmations a busy machine gets done between the kills is its own affair.
    assert outcome.orders >= 6
    assert outcome.confirmations >= 4


@pytest.mark.slow
async def test_killed_a_few_times_no_order_and_no_confirmation_is_lost_or_doubled(tmp_path: Path) -> None:
    await _run(tmp_path, 6, seed=7)


@pytest.mark.system
async def test_killed_two_hundred_times_no_order_and_no_confirmation_is_lost_or_doubled(tmp_path: Path) -> None:
    await _run(tmp_path, 200, seed=1)
