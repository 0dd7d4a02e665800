from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.app.footprint import WINDOW_S, Footprint
from gateway.metrics import Metrics
from tests.manual_clock import ManualClock

Run = tuple[ManualClock, Metrics, Footprint]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    clock, metrics = ManualClock(), Metrics()
    footprint = Footprint(clock, metrics)
    task = asyncio.create_task(footprint.run())
    await clock.advance(1.0)
    yield clock, metrics, footprint
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def looks(metrics: Metrics) -> float:
    return next(s.value for m in metrics.loop_lag.collect() for s in m.samples if s.name.endswith("_count"))


async def test_a_loop_that_stood_still_kept_waiting_whatever_came_meanwhile(run: Run) -> None:
    clock, metrics, footprint = run
    before = looks(metrics)
    clock.freeze(2.0)
    await clock.advance(1.0)
    assert 29 <= looks(metrics) - before <= 31
    assert 1.9 <= (footprint.status().loop_lag_max_s or 0) <= 2.1


async def test_a_machine_that_slept_for_a_week_is_not_counted_tenth_by_tenth(run: Run) -> None:
    clock, metrics, footprint = run
    before = looks(metrics)
    clock.freeze(7 * 86_400.0)
    await clock.advance(1.0)
    assert looks(metrics) - before < 20, "sleep is no lag"
    assert (footprint.status().loop_lag_max_s or 0) < WINDOW_S
