"""The clock of the tests must not do to the code what no real clock does."""

from __future__ import annotations

import asyncio

from tests.manual_clock import ManualClock


async def test_a_time_that_runs_out_as_its_body_ends_cancels_nothing_that_follows() -> None:
    clock, ended, told = ManualClock(), asyncio.Event(), list[str]()

    async def body() -> None:
        async with clock.timeout(1.0):
            await ended.wait()
        told.append("in time")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        told.append("goes on")

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ((_, _, timer),) = clock._sleepers
    # The body wakes one place before the timer's callback, which its own step has made due already.
    asyncio.get_running_loop().call_soon(ended.set)
    timer.set_result(None)
    await asyncio.wait([task])
    assert told == ["in time", "goes on"]
