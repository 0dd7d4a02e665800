"""Short runs of `make chaos-opcua`, on a server of each make. The machine may be busy: data has longer to come back than in the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.opcua import Chaos, Fault, chaos, table

QUICK = {"seed": 4, "hold_s": (2.4, 2.6), "within_s": 10.0}


async def survive(running: Chaos, cycles: int, *, drain: bool) -> None:
    outcome = await running.run(cycles, drain=drain)
    assert outcome.violations == [], table(outcome)
    assert {cycle.fault for cycle in outcome.cycles} == set(Fault)
    assert outcome.plc == outcome.counted > 10 * cycles, table(outcome)


@pytest.mark.slow
@pytest.mark.parametrize(("server", "cycles"), [("asyncua", 10), ("node-opcua", 5)])
async def test_every_way_to_die_is_survived(server: str, cycles: int, tmp_path: Path) -> None:
    async with chaos(server, tmp_path, **QUICK) as running:
        await survive(running, cycles, drain=False)


@pytest.mark.system
@pytest.mark.parametrize(("server", "cycles"), [("asyncua", 30), ("node-opcua", 10)])
async def test_a_longer_run_leaves_nothing_behind(server: str, cycles: int, tmp_path: Path) -> None:
    async with chaos(server, tmp_path, seed=5, hold_s=(2.5, 3.5), within_s=7.5) as running:
        await survive(running, cycles, drain=True)
