"""What Tryton holds is what the presses made, though answers are lost and the gateway is killed; at length in `make system`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.erp_tryton.server import Tryton, on_postgres, on_sqlite
from tests.erp_tryton.shift import Shift, figures, shift

SMALLEST, LARGEST = 4, 10


async def _work(running: Shift, *, orders: int, kills: int, seed: int, seconds: float) -> None:
    chance = random.Random(seed)
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        operating = tasks.create_task(running.operate())
        planning = tasks.create_task(running.release([chance.randint(SMALLEST, LARGEST) for _ in range(orders)]))
        killing = tasks.create_task(running.kill_at_random(kills, chance))
        await asyncio.wait({planning, killing})
        # What is not done by then shows below, order by order.
        with contextlib.suppress(TimeoutError):
            await running.done(orders, seconds)
        operating.cancel()
    assert running.kills == kills
    print(figures(running, time.monotonic() - began))
    assert await asyncio.to_thread(running.differences) == [], running.line.log("gateway")
    assert await asyncio.to_thread(running.moved_twice) == []
    assert running.proxy.lost > orders, "too few answers were lost for this to mean anything"
    assert await running.line.stop_daemon() == 0, running.line.log("gateway")


@pytest.mark.slow
async def test_twenty_orders_and_five_kills(tmp_path: Path) -> None:
    with on_sqlite(tmp_path / "tryton") as server:
        async with shift(tmp_path / "line", server, "500ms") as running:
            await _work(running, orders=20, kills=5, seed=7, seconds=240)


@pytest.mark.system
@pytest.mark.parametrize("books", [on_sqlite, on_postgres])
async def test_two_hundred_orders_and_fifty_kills(books: Callable[[Path], AbstractContextManager[Tryton]], tmp_path: Path) -> None:
    with books(tmp_path / "tryton") as server:
        async with shift(tmp_path / "line", server, "2s") as running:
            await _work(running, orders=200, kills=50, seed=8, seconds=1500)
