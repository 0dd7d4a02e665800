"""A clock that moves only when a test says so; satisfies `drivers.base.Clock`."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta


class ManualClock:
    def __init__(self, start: datetime = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)) -> None:
        self._wall = start
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + max(seconds, 0.0), self._count, future))
        await future

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return self._timeout(seconds)

    @asynccontextmanager
    async def _timeout(self, seconds: float) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.ensure_future(self.sleep(seconds))
        fired = over = False

        def expire(done: asyncio.Future[None]) -> None:
            nonlocal fired
            if not done.cancelled() and not over:
                fired = True
                task.cancel()

        timer.add_done_callback(expire)
        try:
            yield
        except asyncio.CancelledError:
            if fired and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            # A timer that ran out in the very step in which the body ended must not cancel what the task does next.
            over = True
            timer.cancel()

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as NTP does."""
        self._wall += timedelta(seconds=seconds)

    def freeze(self, seconds: float) -> None:
        """Nothing of the process runs for so long; who should have been woken meanwhile is woken with the next `advance`."""
        self._wall += timedelta(seconds=seconds)
        self._monotonic += seconds

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking sleepers in order and letting tasks run after each."""
        end = self._monotonic + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._wall += timedelta(seconds=max(due - self._monotonic, 0.0))
            self._monotonic = max(due, self._monotonic)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._wall += timedelta(seconds=end - self._monotonic)
        self._monotonic = end
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
