"""Shifts, breaks, closures and planned maintenance, in the site's time zone, as spans of instants.

STUB SIGNATURES: the frozen nouns and the methods other rooms call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from enum import StrEnum

from gateway.domain.instants import Instant


class SpanKind(StrEnum):
    REQUIRED = "required"
    BREAK = "break"
    MAINTENANCE = "maintenance"
    CLOSED = "closed"
    """No shift, or closed: outside opening time. The three others are inside."""


@dataclass(frozen=True)
class Break:
    from_: time
    to: time


@dataclass(frozen=True)
class ShiftRule:
    """`days`: ISO weekdays on which it begins; `to` <= `from_` ends on the next day; 24:00 is time.min with `to_next_day`."""

    name: str
    days: frozenset[int]
    from_: time
    to: time
    breaks: tuple[Break, ...] = ()


@dataclass(frozen=True)
class Shift:
    """One occurrence of a shift; it belongs to the local `day` on which it begins."""

    name: str
    day: date
    start: Instant
    end: Instant


@dataclass(frozen=True)
class Span:
    start: Instant
    end: Instant
    kind: SpanKind


class Calendar:
    """`spans` cut any [start, end) into consecutive spans without gaps; results are exact across DST."""

    def spans(self, start: Instant, end: Instant) -> list[Span]:
        raise NotImplementedError

    def shift_at(self, at: Instant) -> Shift | None:
        raise NotImplementedError

    def shifts(self, start: Instant, end: Instant) -> Iterator[Shift]:
        """Shifts that touch [start, end), in order of start."""
        raise NotImplementedError

    def kind_at(self, at: Instant) -> tuple[SpanKind, Instant]:
        """The kind at `at` and the instant (exclusive) until which it surely holds; cheap when called with rising times."""
        raise NotImplementedError


def always() -> Calendar:
    """Every instant is required time; no shifts."""
    raise NotImplementedError
