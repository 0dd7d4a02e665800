"""A counter that the PLC resets for each order: the reset, not the command, says which order a piece belongs to."""

from __future__ import annotations

from typing import Any

from gateway.domain.counters import Number
from gateway.domain.instants import SECOND, Instant

GIVEN_BACK = 900 * SECOND
"""MES and ERP tell a change of order within minutes; a reset without one after a quarter of an hour was none."""


class OrderChange:
    """`since`: the instant of a reset whose order nobody has started yet; pieces from then on wait for it."""

    def __init__(self) -> None:
        self.since: Instant | None = None
        self._from_zero = False
        """The counter shows the running order alone."""

    def reset(self, now: Instant, *, running: bool) -> None:
        """The counter began anew. The first reset of an order that began with a count of another is its own; any other announces the
        next order, whose command comes a little later."""
        if running and not self._from_zero:
            self._from_zero = True
        elif self.since is None:
            self.since = now

    def started(self, raw: Number | None) -> Instant | None:
        """An order starts while the counter shows `raw`: since when pieces have waited for it."""
        waiting, self.since = self.since, None
        self._from_zero = waiting is not None or not raw
        return waiting

    def overdue(self, now: Instant) -> bool:
        """No order came for the pieces that wait."""
        return self.since is not None and now - self.since >= GIVEN_BACK

    def give_up(self) -> Instant | None:
        """The reset was no change of order: since when pieces waited for nothing."""
        waiting, self.since = self.since, None
        return waiting

    def clock_set(self, by: int) -> None:
        self.since = None if self.since is None else self.since + by

    def dump(self) -> list[Any]:
        return [self.since, self._from_zero]

    def load(self, state: list[Any]) -> None:
        self.since, self._from_zero = state
