"""Cumulative PLC counters: baseline, rollover, reset, glitch; the last raw value travels in the snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import Counter
from gateway.domain.instants import Instant
from gateway.domain.sample import SampleValue

Number = int | Decimal

ROLLOVER_SHARE = 0.1
"""Within this share of the range below its top, and as far above its bottom, a decrease is a rollover."""


_LARGEST = (1 << 63) - 1
"""What an event can hold as an integer; beyond it (a recording can have it) the long way writes the nearest number."""
_NEVER_MADE = 10**15
"""More between two readings is a tag of a wrong type, or one that was never set: no quantity of a message is larger."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one reading of a counter says.

    `delta` pieces (None: nothing to count), `kind` of the gap event (reset, rollover, glitch, level) or None,
    `previous` raw value, `since`: the instant of the last accepted reading, `late`: nobody was looking since then,
    `baseline`: a first reading, or the first of a new base. `undone`: an earlier glitch turned out to be one.
    """

    delta: Number | None
    kind: str | None = None
    previous: Number | None = None
    since: Instant | None = None
    late: bool = False
    baseline: bool = False
    undone: bool = False


def number(value: SampleValue) -> Number | None:
    """A counter's value; None when it is no number."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return None
        return int(value) if value.is_integer() else Decimal(repr(value))
    return None


class CounterReader:
    """One counter tag. `limit` of `read`: pieces that may at most have been made since the last accepted reading."""

    def __init__(self, counter: Counter) -> None:
        self.tag = counter.tag
        self.per_order = counter.per_order
        self._bits = counter.bits
        self._signed = counter.signed
        self.raw: Number | None = None
        self.at: Instant | None = None
        self.lost = False
        self.suspect: Number | None = None
        self.suspect_at: Instant | None = None

    def lose(self) -> None:
        """The link or the value is bad: what comes next was made while nobody was looking."""
        if self.raw is not None:
            self.lost = True

    def rebase(self) -> None:
        """The counter started anew from 0 together with the unit's total."""
        if self.raw is not None:
            self.raw = 0
            self.suspect = None

    def usual(self, value: SampleValue, at: Instant, seconds_per_piece: float | None, pieces_per_cycle: int, weight: int = 1) -> int | None:
        """The delta of a reading of which nothing else is to be said; None: `read` must look at it. Takes nothing."""
        previous, since = self.raw, self.at
        if type(value) is not int or type(previous) is not int or since is None or self.lost or self.suspect is not None:
            return None
        delta = value - previous
        if delta < 0 or not -_LARGEST <= value <= _LARGEST:
            return None
        # A few pieces are never too many.
        if delta * weight > 4 * pieces_per_cycle and self._too_many(delta * weight, since, at, seconds_per_piece, pieces_per_cycle):
            return None
        return delta

    def read(self, value: Number, at: Instant, seconds_per_piece: float | None, pieces_per_cycle: int, weight: int = 1) -> Count:
        """Take a good reading. `weight`: pieces per count (a counter of cycles)."""
        if self.raw is None or self.at is None:
            self._accept(value, at)
            return Count(None, baseline=True)
        previous, since = self.raw, self.at
        delta, kind = self._step(previous, value)
        if self._too_many(delta * weight, since, at, seconds_per_piece, pieces_per_cycle):
            return self._quarantine(value, at, seconds_per_piece, pieces_per_cycle, weight)
        undone = self.suspect is not None
        late = self.lost
        self._accept(value, at)
        return Count(delta, kind, previous, since, late, undone=undone)

    def _quarantine(self, value: Number, at: Instant, c: float | None, k: int, weight: int) -> Count:
        suspect, suspect_at, previous, since = self.suspect, self.suspect_at, self.raw, self.at
        if suspect is not None and suspect_at is not None and value >= suspect:
            delta = value - suspect
            if not self._too_many(delta * weight, suspect_at, at, c, k):
                late = self.lost
                self._accept(value, at)
                return Count(delta, "level", suspect, suspect_at, late)
        first = suspect is None
        self.suspect, self.suspect_at = value, at
        return Count(None, "glitch" if first else None, previous, since)

    def _accept(self, value: Number, at: Instant) -> None:
        self.raw, self.at, self.lost = value, at, False
        self.suspect = self.suspect_at = None

    def _step(self, previous: Number, value: Number) -> tuple[Number, str | None]:
        if value >= previous:
            return value - previous, None
        if self._bits is not None:
            span = 1 << self._bits
            low = -(span >> 1) if self._signed else 0
            margin = Decimal(repr(ROLLOVER_SHARE)) * span
            # A value beyond the type's range (another type than the machine's is configured) cannot have rolled over.
            if span > previous - low > span - margin and value - low < margin:
                return value + span - previous, "rollover"
        # What a counter shows after a reset was made since; below zero nobody knows, and no piece was unmade.
        return max(value, 0), "reset"

    @staticmethod
    def _too_many(pieces: Number, since: Instant, at: Instant, c: float | None, k: int) -> bool:
        """More than ten times the ideal rate plus four cycles; without an ideal time only what no machine makes."""
        return pieces > _NEVER_MADE or (c is not None and pieces > 10 * (at - since) / 1e6 / c + 4 * k)

    def dump(self) -> dict[str, Any]:
        return {
            "raw": None if self.raw is None else str(self.raw), "at": self.at, "lost": self.lost,
            "suspect": None if self.suspect is None else str(self.suspect), "suspect_at": self.suspect_at,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        self.raw, self.at, self.lost = _parse(state["raw"]), state["at"], state["lost"]
        self.suspect, self.suspect_at = _parse(state["suspect"]), state["suspect_at"]


def _parse(text: str | None) -> Number | None:
    if text is None:
        return None
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else value
