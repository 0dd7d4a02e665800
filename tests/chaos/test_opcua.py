"""Short runs of `make chaos-opcua`, on a server of each make. The machine may be busy: data has longer to come back than in the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.chaos.daemon import Daemon, Look
from tests.chaos.opcua import WITHIN_S, Chaos, Fault, Outcome, Watch, chaos, table
from tests.chaos.opcua_plc import Plc

QUICK = {"seed": 4, "hold_s": (2.4, 2.6), "within_s": 10.0}


async def survive(running: Chaos, cycles: int, *, drain: bool) -> None:
    outcome = await running.run(cycles, drain=drain)
    assert outcome.violations == [], table(outcome)
    assert {cycle.fault for cycle in outcome.cycles} == set(Fault)
    assert outcome.plc == outcome.counted > 10 * cycles, table(outcome)


def test_a_link_that_counts_as_up_while_nothing_comes_is_found_once(tmp_path: Path) -> None:
    outcome, plc = Outcome(), Plc("asyncua", tmp_path)
    watch = Watch(cast(Daemon, None), plc, outcome)
    look = Look(counted=0, up=True, refused_tags=0, reconnects=0, outages=0)
    plc.making = True
    for second, seen in ((0, look), (4, look), (8, replace(look, up=False)), (12, look)):
        watch.take(seen, float(second))
    assert outcome.silent_deaths == 0, "the outage began the time anew"
    for second in (8 + WITHIN_S + 1, 40.0):
        watch.take(look, second)
    assert outcome.silent_deaths == len(outcome.violations) == 1


def test_a_piece_that_was_never_made_is_found(tmp_path: Path) -> None:
    outcome, plc = Outcome(), Plc("asyncua", tmp_path)
    watch = Watch(cast(Daemon, None), plc, outcome)
    plc.total += 3
    for counted in (3, 4):
        watch.take(Look(counted, up=True, refused_tags=0, reconnects=0, outages=0), 0.0)
    assert outcome.violations == ["cycle 0: 4 pieces counted of 3"]


@pytest.mark.slow
@pytest.mark.parametrize(("server", "cycles"), [("asyncua", 5), ("node-opcua", 5)])
async def test_every_way_to_die_is_survived(server: str, cycles: int, tmp_path: Path) -> None:
    async with chaos(server, tmp_path, **QUICK) as running:
        await survive(running, cycles, drain=False)


@pytest.mark.system
@pytest.mark.calm
@pytest.mark.xdist_group("opcua")
@pytest.mark.parametrize(("server", "cycles"), [("asyncua", 30), ("node-opcua", 10)])
async def test_a_longer_run_leaves_nothing_behind(server: str, cycles: int, tmp_path: Path) -> None:
    async with chaos(server, tmp_path, seed=5, hold_s=(2.5, 3.5), within_s=7.5) as running:
        await survive(running, cycles, drain=True)
