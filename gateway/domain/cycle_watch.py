"""Cycle times on their way: into the tallies of the windows, and to the charts that look for a drift."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.domain.cycles import CycleTally, Sustained
from gateway.domain.drift_watch import DriftWatch
from gateway.domain.instants import Instant
from gateway.domain.oee import Window
from gateway.domain.windows import WindowBook


class CycleWatch:
    """Gathers cycles of the present windows, which get them when somebody looks (`settle`): each is added once, not in every window."""

    def __init__(self, windows: WindowBook, drift: DriftWatch) -> None:
        self._windows = windows
        self._drift = drift
        self._sustained = Sustained()
        self._tally = CycleTally()
        self._present: list[Window] = []
        self._until: Instant = 0

    def ended(self, at: Instant, run_us: int, pieces: int, job: str | None, per_cycle: int) -> None:
        """A gap has ended: `pieces` of `job`, `per_cycle` a cycle, took `run_us` microseconds of running time."""
        self._drift.cycle(at, run_us, pieces, per_cycle)
        if at >= self._until:
            self.settle()
            self._present, self._until = self._windows.present(at, job)
        self._tally.add(run_us, pieces)
        mean_us = self._sustained.add(run_us, pieces, per_cycle)
        if mean_us is not None:
            self._tally.best(mean_us)

    def settle(self) -> None:
        """Cycles so far go to their windows: before anybody looks at these, and before job or windows change."""
        if self._tally.count:
            for window in self._present:
                window.cycles.take(self._tally)
            self._tally = CycleTally()
        self._until = 0

    def forget(self) -> None:
        """Another product, or time that nobody watched: the cycles before are in no row with those that come."""
        self._sustained.forget()

    def dump(self) -> list[list[Any]]:
        """The last cycles; those that no window has yet are settled before."""
        return self._sustained.dump()

    def load(self, rows: Iterable[Sequence[Any]]) -> None:
        self._sustained.load(rows)
