"""The only module that reads time or sleeps. Tests hand in `tests.manual_clock.ManualClock` instead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

STEP_S = 1.0
"""A difference between wall and steady clock from which the wall clock was set, and did not just drift."""

SETTLED_S = 0.2
"""A clock that somebody sets may still be read as it was for a moment, by other threads: it counts once it has been right for so long."""

WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)


def _wall() -> datetime:
    return datetime.now(UTC)


def _steady() -> float:
    """Goes on while the machine sleeps, unlike CLOCK_MONOTONIC: what happened meanwhile took its time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemClock:
    """The machine's clocks; satisfies `drivers.base.Clock`. `wall` and `steady`: where they are read."""

    def __init__(self, wall: Callable[[], datetime] = _wall, steady: Callable[[], float] = _steady) -> None:
        self._wall = wall
        self._steady = steady
        self._held: tuple[datetime, datetime, float] | None = None
        self._set_since: float | None = None

    @property
    def is_unset(self) -> bool:
        """The machine's own clock cannot be right: it stands before what the journal knows, or before this program was written."""
        return self._held is not None or self._wall() < WRITTEN

    def hold(self, known: datetime) -> None:
        """The wall clock stands before `known`, a time that was already (a machine without a battery starts in 1970): `now` goes on from
        there until somebody sets the clock."""
        self._held = known, self._wall(), self.monotonic()

    def monotonic(self) -> float:
        return self._steady()

    def now(self) -> datetime:
        wall = self._wall()
        if self._held is None:
            return wall
        known, began, at = self._held
        steady = self.monotonic()
        passed = timedelta(seconds=steady - at)
        if wall < known and abs((wall - began) - passed) < timedelta(seconds=STEP_S):
            self._set_since = None
            return known + passed
        if self._set_since is None:
            self._set_since = steady
        if steady - self._set_since < SETTLED_S:
            return known + passed
        self._held = None
        return wall

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)
