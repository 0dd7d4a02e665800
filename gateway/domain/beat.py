"""Cycle times of a counter that is read on a beat: a gap says then as much of the poll as of the machine, until several are joined.

A machine of 0.9 s that is read every second shows gaps of 1 s and now and then one of 0.5 s a piece; a slow-down of 5 % drowns in that.
The error is at most one poll (or one cycle, if that is shorter) for a whole row of gaps, so a row of twenty is exact to a few per cent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gateway.domain.cycles import SUSTAINED
from gateway.domain.instants import SECOND, Instant

LOOKED_AT = 100
"""Gaps from which it is seen whether they end on a beat."""
ON_BEAT = 0.7
"""Mean resultant length of the gaps' ends on the circle of the poll's period: 0 for ends at any time, 1 for ends on the beat; a poll whose
jitter is 13 % of its period has 0.7."""
POLLS = 20
"""A row of so many polls, or of as many cycles, whichever is shorter, is one cycle time."""


class Beat:
    """`every_s`: how often the counter is read; None: its readings have the machine's own time."""

    def __init__(self, every_s: float | None) -> None:
        self._every_us = round((every_s or 0) * SECOND)
        self._held: list[list[int]] = []
        """(at, microseconds run, pieces, pieces a cycle) of gaps that wait for the decision."""
        self._joins = None if self._every_us else False
        self._run_us = self._pieces = 0

    @property
    def none(self) -> bool:
        """It is known that gaps end at any time: each is a cycle time by itself."""
        return self._joins is False

    def gap(self, at: Instant, run_us: int, pieces: int, per_cycle: int) -> Iterator[tuple[Instant, float]]:
        """One more gap; the cycle times (seconds per piece) that can be told now, each with its instant."""
        if self._joins is None and run_us < POLLS * self._every_us:
            self._held.append([at, run_us, pieces, per_cycle])
            if len(self._held) >= LOOKED_AT:
                self._joins = self._on_beat()
                held, self._held = self._held, []
                for one in held:
                    yield from self._told(*one)
        else:
            yield from self._told(at, run_us, pieces, per_cycle)

    def _told(self, at: Instant, run_us: int, pieces: int, per_cycle: int) -> Iterator[tuple[Instant, float]]:
        self._run_us += run_us
        self._pieces += pieces
        if not self._joins or self._run_us >= POLLS * self._every_us or self._pieces >= SUSTAINED * per_cycle:
            yield at, self._run_us / self._pieces / SECOND
            self._run_us = self._pieces = 0

    def _on_beat(self) -> bool:
        turns = [2 * math.pi * (at % self._every_us) / self._every_us for at, *_ in self._held]
        return math.hypot(sum(map(math.cos, turns)), sum(map(math.sin, turns))) >= ON_BEAT * len(turns)

    def forget(self) -> None:
        """Another product: what it takes says nothing of what the one before took."""
        self._held = []
        self._run_us = self._pieces = 0

    def dump(self) -> list[Any]:
        return [self._every_us, self._joins, self._held, self._run_us, self._pieces]

    def load(self, state: list[Any]) -> None:
        """A counter that is read otherwise than before is looked at anew."""
        if state[0] == self._every_us:
            _, self._joins, self._held, self._run_us, self._pieces = state
