"""How cycle times are distributed: counts in buckets of one per cent, from a machine of 60 ms to one of half an hour, in bounded memory.

A bucket spans one per cent of its own time, so that a percentile is right to half a per cent whatever the machine's pace, and windows of
one machine add up exactly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.instants import SECOND

SUSTAINED = 20
"""Cycles over which a pace must be held to count as the best: one quick cycle is a miscount, twenty are what the machine can do."""
_STEP = math.log(1.01)


@dataclass
class CycleTally:
    """Cycle times per piece. `total_us` over `count` pieces; `best_us`: the best mean over twenty cycles in a row, None before so many."""

    count: int = 0
    total_us: int = 0
    best_us: float | None = None
    buckets: dict[int, int] = field(default_factory=dict)
    """Place of the bucket -> pieces."""
    _is_shared: bool = field(default=False, compare=False, repr=False)
    """`buckets` belong to a copy too: closed windows are remembered beside what was told of them, nearly always alike, for two days."""

    def add(self, run_us: int, pieces: int) -> None:
        if self._is_shared:
            self._own_buckets()
        bucket = round(math.log(run_us / pieces) / _STEP)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + pieces
        self.count += pieces
        self.total_us += run_us

    def best(self, mean_us: float) -> None:
        if self.best_us is None or mean_us < self.best_us:
            self.best_us = mean_us

    def take(self, other: CycleTally) -> None:
        """Add all of another."""
        self.count += other.count
        self.total_us += other.total_us
        if other.best_us is not None:
            self.best(other.best_us)
        if self._is_shared:
            self._own_buckets()
        for bucket, pieces in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + pieces

    def percentile(self, share: float) -> float:
        """Seconds per piece that `share` of the pieces did not exceed. Only with at least one piece."""
        wanted, seen, bucket = share * self.count, 0, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                break
        return math.exp(bucket * _STEP) / SECOND

    def line(self) -> dict[str, Any] | None:
        """As KPI lines carry it, seconds per piece; None without a judged cycle."""
        if not self.count:
            return None
        return {
            "count": self.count, "mean_s": self.total_us / self.count / SECOND,
            **{f"p{round(share * 100)}_s": self.percentile(share) for share in (0.1, 0.5, 0.9)},
            "best_s": None if self.best_us is None else self.best_us / SECOND,
        }  # fmt: skip

    def copy(self) -> CycleTally:
        """Both go on for themselves."""
        self._is_shared = True
        return CycleTally(self.count, self.total_us, self.best_us, self.buckets, True)

    def _own_buckets(self) -> None:
        self.buckets, self._is_shared = dict(self.buckets), False

    def dump(self) -> list[Any]:
        return [self.count, self.total_us, self.best_us, list(self.buckets.items())]

    @classmethod
    def load(cls, row: list[Any]) -> CycleTally:
        count, total_us, best_us, buckets = row
        return cls(count, total_us, best_us, dict(buckets))


class Sustained:
    """The mean over the last twenty cycles, whatever readings they came with."""

    def __init__(self) -> None:
        self._last: deque[tuple[int, int, float]] = deque()
        self._run_us = self._pieces = 0
        self._cycles = 0.0

    def add(self, run_us: int, pieces: int, per_cycle: int) -> float | None:
        """One more gap; microseconds per piece over at least twenty cycles, None before so many."""
        cycles = pieces / per_cycle
        self._last.append((run_us, pieces, cycles))
        self._run_us += run_us
        self._pieces += pieces
        self._cycles += cycles
        while self._cycles - self._last[0][2] >= SUSTAINED:
            old_us, old_pieces, old_cycles = self._last.popleft()
            self._run_us -= old_us
            self._pieces -= old_pieces
            self._cycles -= old_cycles
        return self._run_us / self._pieces if self._cycles >= SUSTAINED else None

    def forget(self) -> None:
        """Another product, or time that nobody watched: nothing that came before is in a row with what comes."""
        self._last.clear()
        self._run_us = self._pieces = 0
        self._cycles = 0.0

    def dump(self) -> list[list[Any]]:
        return [list(row) for row in self._last]

    def load(self, rows: Iterable[Sequence[Any]]) -> None:
        self.forget()
        for run_us, pieces, cycles in rows:
            self._last.append((run_us, pieces, cycles))
            self._run_us += run_us
            self._pieces += pieces
            self._cycles += cycles
