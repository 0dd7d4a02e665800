"""How fast the journal grows and readings come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drivers.base import Clock, Quality
from gateway.domain.entry import Entry
from gateway.metrics import Metrics

LOOK_S = 1.0
_FORGETS_S = 600.0
"""Time constant of the journal's rate of growth."""
_RATED_S = 30.0
"""Before that the rate says nothing and hours of autonomy are unknown."""
_ROW_OVERHEAD = 160
"""Bytes of a row beside its body, indexes included."""


class Rates:
    """`readings_per_s`: of the latest second or more; None before it is over."""

    def __init__(self, clock: Clock, metrics: Metrics, devices: Iterable[str]) -> None:
        self.readings_per_s: float | None = None
        self._clock = clock
        self._bytes = 0
        self._bytes_per_s = 0.0
        self._rated_s = 0.0
        self._rated_at = self._counted_at = clock.monotonic()
        self._counters = [metrics.readings.labels(device, quality.value) for device in devices for quality in Quality]
        self._counted = 0.0

    def committed(self, entries: Sequence[Entry]) -> None:
        self._bytes += sum(len(entry.body) for entry in entries) + _ROW_OVERHEAD * len(entries)

    def follow(self) -> None:
        """Called every few seconds or more often."""
        now = self._clock.monotonic()
        elapsed, self._rated_at = max(now - self._rated_at, 1e-3), now
        rate, self._bytes = self._bytes / elapsed, 0
        # At first the mean since the start, later one that forgets; a burst at the start alone says nothing.
        self._rated_s += elapsed
        self._bytes_per_s += (rate - self._bytes_per_s) * elapsed / min(self._rated_s, _FORGETS_S)
        if now - self._counted_at >= LOOK_S:
            total = sum(counter._value.get() for counter in self._counters)
            self.readings_per_s = (total - self._counted) / (now - self._counted_at)
            self._counted, self._counted_at = total, now

    def hours_until(self, free: int) -> float | None:
        """Until so many bytes are full at the present rate; None while that is unknown, or nothing grows."""
        if self._bytes_per_s <= 0 or self._rated_s < _RATED_S:
            return None
        return free / self._bytes_per_s / 3600
