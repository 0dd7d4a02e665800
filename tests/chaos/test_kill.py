"""A few kills of the whole daemon in `make test`, the short run in `make system`; thousands with `make kill`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill import chain, ledger_faults, table

Row = dict[str, object]


async def _run(folder: Path, cycles: int, seed: int) -> None:
    async with chain(folder, seed=seed) as running:
        outcome = await running.run(cycles)
    assert outcome.violations == [], table(outcome)
    assert outcome.cycles == cycles
    assert outcome.pieces > 0
    assert outcome.events > 0


@pytest.mark.slow
async def test_killed_a_few_times_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    await _run(tmp_path, 6, seed=7)


@pytest.mark.system
async def test_killed_sixty_times_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    await _run(tmp_path, 60, seed=1)


def _event(sequence: int, kind: str, **data: object) -> Row:
    source = "/acme/lyon/hall/line-1/press-07"
    return {"sequence": sequence, "type": f"lineside.{kind}.v1", "subject": "OF-1", "source": source, "data": data}


def test_the_rig_sees_what_is_wrong_with_a_ledger() -> None:
    counted = [_event(1, "job.changed", state="Running"), _event(2, "quantity.counted", produced=3), _event(3, "job.progress", produced=3)]
    assert ledger_faults(counted) == []
    assert "holes" in ledger_faults(counted[:1] + counted[2:])[0]
    assert "went through" in ledger_faults([*counted, _event(4, "job.changed", state="Running")])[0]
    assert "fell" in ledger_faults([*counted, _event(4, "job.progress", produced=2)])[0]
    assert "3 reported" in ledger_faults([*counted, _event(4, "quantity.counted", produced=1)])[0]
