"""What a site writes of its week: shifts and their breaks in wall-clock time, and what contradicts itself in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import time

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN = 24 * 60


@dataclass(frozen=True)
class Break:
    """Wall-clock times inside the shift; `to` <= `from_` ends on the next day."""

    from_: time
    to: time


@dataclass(frozen=True)
class ShiftRule:
    """`days`: ISO weekdays (1 Monday - 7 Sunday) on which it begins.

    `to` <= `from_` ends on the next day, so that `to` 00:00 is 24:00 and `from_` = `to` is 24 h.
    """

    name: str
    days: frozenset[int]
    from_: time
    to: time
    breaks: tuple[Break, ...] = ()


def overlaps(rules: Sequence[ShiftRule]) -> list[str]:
    """One sentence for each pair of shifts that share time in an ordinary week; empty when there is none."""
    found: list[str] = []
    for i, one in enumerate(rules):
        for other in rules[i:]:
            clash = next((d for d in sorted(one.days) if _clashes(one, d, other)), None)
            if clash is not None:
                found.append(
                    f"shift {one.name} ({one.from_:%H:%M}-{one.to:%H:%M}) of {WEEKDAYS[clash - 1]} "
                    f"overlaps shift {other.name} ({other.from_:%H:%M}-{other.to:%H:%M})"
                )
    return found


def misplaced_breaks(rules: Iterable[ShiftRule]) -> list[str]:
    """One sentence for each break that is not inside its shift, is empty, or overlaps another one of it."""
    found: list[str] = []
    for rule in rules:
        length = length_min(rule.from_, rule.to)
        taken: list[tuple[int, int]] = []
        for pause in rule.breaks:
            text = f"break {pause.from_:%H:%M}-{pause.to:%H:%M} of shift {rule.name}"
            start = (_minute(pause.from_) - _minute(rule.from_)) % _DAY_MIN
            end = start + length_min(pause.from_, pause.to)
            if pause.from_ == pause.to:
                found.append(f"{text} begins and ends at the same time")
            elif end > length:
                found.append(f"{text} is not inside {rule.from_:%H:%M}-{rule.to:%H:%M}")
            elif any(start < b and a < end for a, b in taken):
                found.append(f"{text} overlaps another break")
            taken.append((start, end))
    return found


def _minute(at: time) -> int:
    return at.hour * 60 + at.minute


def length_min(from_: time, to: time) -> int:
    """Nominal minutes from `from_` to `to`, 24 h when they are equal."""
    return (_minute(to) - _minute(from_)) % _DAY_MIN or _DAY_MIN


def _clashes(one: ShiftRule, day: int, other: ShiftRule) -> bool:
    start = day * _DAY_MIN + _minute(one.from_)
    end = start + length_min(one.from_, one.to)
    for other_day in other.days:
        if one is other and day == other_day:
            continue
        for week in (-7, 0, 7):
            begin = (other_day + week) * _DAY_MIN + _minute(other.from_)
            if begin < end and start < begin + length_min(other.from_, other.to):
                return True
    return False
