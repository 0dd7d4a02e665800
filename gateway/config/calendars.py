"""The `calendars:` section: weekly shifts with breaks, closed days and planned maintenance, in the site's local time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from drivers.settings import Name
from gateway.config.section import Section
from gateway.domain.calendar import Calendar
from gateway.domain.shift_rules import WEEKDAYS, Break, ShiftRule, misplaced_breaks, overlaps

_DAYS_WRONG = f"it is no day of the week; write one of {', '.join(WEEKDAYS)}, a range such as mon-fri, or a list"


def _days(value: Any) -> frozenset[int]:
    """`sat`, `mon-fri`, `sat-mon`, or a list of these -> ISO weekdays."""
    days: set[int] = set()
    for part in value if isinstance(value, list) else [value]:
        ends = part.strip().lower().split("-") if isinstance(part, str) else []
        if not 1 <= len(ends) <= 2 or any(end.strip() not in WEEKDAYS for end in ends):
            raise ValueError(_DAYS_WRONG)
        first, last = WEEKDAYS.index(ends[0].strip()), WEEKDAYS.index(ends[-1].strip())
        days.update((first + i) % 7 + 1 for i in range((last - first) % 7 + 1))
    if not days:
        raise ValueError(_DAYS_WRONG)
    return frozenset(days)


def _clock_time(value: Any) -> time:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError('it is no time of day; write it with quotes, "05:00" to "23:59"')
    return time(int(match[1]), int(match[2]))


def _end_time(value: Any) -> time:
    # The calendar reads an end at or before the start as the next day's, so midnight says 24:00.
    return time.min if value == "24:00" else _clock_time(value)


def _day_range(value: Any) -> tuple[date, date]:
    try:
        ends = [date.fromisoformat(part.strip()) for part in value.split("/")] if isinstance(value, str) else []
    except ValueError:
        ends = []
    if not 1 <= len(ends) <= 2:
        raise ValueError('it is no date; write "2026-12-25", or "2026-12-28/2027-01-01" for a range with both days')
    if ends[-1] < ends[0]:
        raise ValueError("its last day is before its first; exchange them")
    return ends[0], ends[-1]


def _local_range(value: Any) -> tuple[datetime, datetime]:
    try:
        ends = [datetime.fromisoformat(part.strip()) for part in value.split("/")] if isinstance(value, str) else []
    except ValueError:
        ends = []
    if len(ends) != 2 or any("T" not in part for part in value.split("/")):
        raise ValueError('it is no range of local times; write "2026-11-27T05:00/2026-11-27T07:00"')
    if any(end.tzinfo is not None for end in ends):
        raise ValueError("its times carry an offset; write the site's local time without one")
    if ends[1] <= ends[0]:
        raise ValueError("its end is not after its start; exchange or correct them")
    return ends[0], ends[1]


_TIME_TEXT = Annotated[str, Field(pattern=r"^\d{1,2}:\d{2}$", examples=["05:00"])]
Days = Annotated[frozenset[int], BeforeValidator(_days, json_schema_input_type=str | list[str])]
ClockTime = Annotated[time, BeforeValidator(_clock_time, json_schema_input_type=_TIME_TEXT)]
EndTime = Annotated[time, BeforeValidator(_end_time, json_schema_input_type=_TIME_TEXT)]
DayRange = Annotated[tuple[date, date], BeforeValidator(_day_range, json_schema_input_type=str)]
LocalRange = Annotated[tuple[datetime, datetime], BeforeValidator(_local_range, json_schema_input_type=str)]


class BreakSettings(Section):
    from_: ClockTime = Field(alias="from")
    to: EndTime


class ShiftSettings(Section):
    """`to` at or before `from` ends on the next day; both equal is 24 h."""

    name: Name
    days: Days = Field(description="Days on which the shift begins: `sat`, `mon-fri`, `sat-mon`, or a list.", examples=["mon-fri"])
    from_: ClockTime = Field(alias="from")
    to: EndTime = Field(description="`24:00` is midnight.")
    breaks: tuple[BreakSettings, ...] = ()

    def rule(self) -> ShiftRule:
        return ShiftRule(self.name, self.days, self.from_, self.to, tuple(Break(b.from_, b.to) for b in self.breaks))


class CalendarSettings(Section):
    """When a work unit is meant to produce. Without shifts every moment is, but for what is closed or under maintenance."""

    shifts: tuple[ShiftSettings, ...] = ()
    closed: tuple[DayRange, ...] = Field(default=(), description="Days, or ranges `first/last` with both days.", examples=[["2026-12-25"]])
    maintenance: tuple[LocalRange, ...] = Field(default=(), description="Planned maintenance, `start/end` in local time.")

    def contradictions(self) -> Iterator[str]:
        """One sentence for each pair of shifts that overlap and each break outside its shift."""
        rules = [shift.rule() for shift in self.shifts]
        yield from overlaps(rules)
        yield from misplaced_breaks(rules)

    def build(self, zone: str) -> Calendar:
        """`zone`: the site's IANA time zone."""
        return Calendar(zone, [shift.rule() for shift in self.shifts], self.closed, self.maintenance)
