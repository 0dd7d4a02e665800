"""A few signals in `make test`, the short run in `make system`; hundreds with `make sigterm`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.sigterm import rig, table


async def _run(folder: Path, cycles: int, seed: int) -> None:
    async with rig(folder, seed=seed) as running:
        outcome = await running.run(cycles)
    assert outcome.violations == [], "\n".join(table(outcome))
    assert len(outcome.clear_s) + len(outcome.dark_s) == cycles


@pytest.mark.slow
async def test_a_few_signals_end_it_in_time_with_no_session_left(tmp_path: Path) -> None:
    await _run(tmp_path, 6, seed=7)


@pytest.mark.system
async def test_twenty_signals_end_it_in_time_with_no_session_left(tmp_path: Path) -> None:
    await _run(tmp_path, 20, seed=1)
