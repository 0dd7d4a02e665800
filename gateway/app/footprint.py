"""What the process takes of its machine: memory, threads, descriptors, tasks, and how late its event loop is."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path

from drivers.base import Clock
from gateway.metrics import Metrics
from gateway.status.board import ProcessStatus

PROBE_S = 0.1
WINDOW_S = 60.0
"""The figures on page and health topic are those of the last minute; `/metrics` has all of them as a histogram."""
_PROCESS = Path("/proc/self")


class Footprint:
    """`run` measures how late the loop is: ten times a second something wants to run, and the delay is what a reading would have waited."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._seen = metrics.loop_lag
        self._lags: deque[float] = deque(maxlen=int(WINDOW_S / PROBE_S))
        metrics.tasks.set_function(lambda: float(len(asyncio.all_tasks())))
        metrics.threads.set_function(lambda: float(_count("task")))

    async def run(self) -> None:
        """Until cancelled."""
        due = self._clock.monotonic() + PROBE_S
        while True:
            await self._clock.sleep(due - self._clock.monotonic())
            now = self._clock.monotonic()
            if now - due > WINDOW_S:
                # The machine slept: systemd does not let a loop hang for so long.
                due = now + PROBE_S
            while due <= now:
                # A loop that stood for a second kept ten of these waiting, not one.
                self._note(now - due)
                due += PROBE_S

    def _note(self, lag_s: float) -> None:
        self._lags.append(lag_s)
        self._seen.observe(lag_s)

    def status(self) -> ProcessStatus:
        """As it is now."""
        ranked = sorted(self._lags)
        return ProcessStatus(
            rss_bytes=_rss_bytes(), threads=_count("task"), files=_count("fd"), tasks=len(asyncio.all_tasks()),
            loop_lag_p99_s=ranked[int(0.99 * (len(ranked) - 1))] if ranked else None, loop_lag_max_s=ranked[-1] if ranked else None,
        )  # fmt: skip


def _rss_bytes() -> int:
    return int((_PROCESS / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _count(what: str) -> int:
    return len(os.listdir(_PROCESS / what))
