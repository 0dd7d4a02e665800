"""How much of the coming days is already promised: what a CRM asks before it names a date."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from gateway.domain.calendar import Calendar
from gateway.domain.instants import Instant, instant, seconds
from gateway.domain.view import DayLoad

HORIZON_DAYS = 14
"""Two weeks: beyond, an estimate from today's rate says nothing."""


def day_loads(
    calendar: Calendar, at: datetime, free_from: datetime | None, *, waiting: bool, days: int = HORIZON_DAYS
) -> tuple[DayLoad, ...]:
    """Per local day from `at` on: required time left and the part of it before `free_from`.

    `waiting`: whether orders run or wait. With orders and no `free_from` nobody knows when they are done: `booked_s` is None.
    """
    start = instant(at)
    end = calendar.day_bounds(start)[1]
    unknown = waiting and free_from is None
    busy_until = max(instant(free_from), start) if free_from is not None and waiting else start
    return (_load(calendar, start, end, busy_until, unknown), *_whole_days(calendar, end, max(busy_until, end), unknown, days - 1))


@lru_cache(maxsize=256)
def _whole_days(calendar: Calendar, start: Instant, busy_until: Instant, unknown: bool, days: int) -> tuple[DayLoad, ...]:
    """The days from a midnight on: most of the time, nothing of them changes from one look to the next."""
    loads: list[DayLoad] = []
    for _ in range(days):
        end = calendar.day_bounds(start)[1]
        loads.append(_load(calendar, start, end, busy_until, unknown))
        start = end
    return tuple(loads)


def _load(calendar: Calendar, start: Instant, end: Instant, busy_until: Instant, unknown: bool) -> DayLoad:
    required = calendar.required(start, end)
    booked = calendar.required(start, min(max(busy_until, start), end))
    return DayLoad(calendar.local(start).date(), seconds(required), None if unknown else seconds(booked))
