"""No order lost or taken twice, no confirmation lost or doubled, wherever the gateway is stopped and whatever the ERP does meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.uplink.files import exchange


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where the machine has such a place: here only the order of the calls counts, and a shared disk makes them wait."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="lineside-files-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


async def interrupted(folder: Path, seeds: range, each: int, **options: Any) -> tuple[list[str], int, int]:
    """What went wrong, how often the plug was pulled, how many confirmations the ERP posted."""
    wrong: list[str] = []
    done = posted = 0
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        erp, line = await exchange.run(place, seed, each, **options)
        wrong += [f"seed {seed}: {fault}" for fault in exchange.faults(erp, line, place)]
        done += line.interruptions
        posted += len(erp.posted)
    return wrong, done, posted


async def test_thirty_interruptions(folder: Path) -> None:
    wrong, done, posted = await interrupted(folder, range(1, 3), 15)
    assert wrong == []
    assert done == 30
    assert posted > 60


@pytest.mark.slow
async def test_six_hundred_interruptions(folder: Path) -> None:
    wrong, done, posted = await interrupted(folder, range(100, 106), 100)
    assert wrong == []
    assert done == 600
    assert posted > 600


@pytest.mark.thorough
@pytest.mark.parametrize("first", range(1000, 1100, 25))
async def test_ten_thousand_interruptions(folder: Path, first: int) -> None:
    """In four parts, for as many processes as there are."""
    wrong, done, posted = await interrupted(folder, range(first, first + 25), 100)
    assert wrong == []
    assert done == 2_500
    assert posted > 2_500


@pytest.mark.slow
@pytest.mark.parametrize("control", [exchange.hasty_port, exchange.forgetful_port])
async def test_the_control_is_caught(folder: Path, control: Any) -> None:
    """The same run finds a port that writes in the ERP's sight, and one that forgets what it took."""
    wrong, _, _ = await interrupted(folder, range(1, 3), 20, port_of=control)
    assert wrong != []
