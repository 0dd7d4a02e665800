"""How much of the coming days is already promised: what a CRM asks before it names a date."""

from __future__ import annotations

from datetime import datetime

from gateway.domain.calendar import Calendar
from gateway.domain.instants import instant, seconds
from gateway.domain.view import DayLoad

HORIZON_DAYS = 14
"""Two weeks: beyond, an estimate from today's rate says nothing."""


def day_loads(
    calendar: Calendar, at: datetime, free_from: datetime | None, *, waiting: bool, days: int = HORIZON_DAYS
) -> tuple[DayLoad, ...]:
    """Per local day from `at` on: required time left and the part of it before `free_from`.

    `waiting`: whether orders run or wait. With orders and no `free_from` nobody knows when they are done: `booked_s` is None.
    """
    loads: list[DayLoad] = []
    start = instant(at)
    busy_until = instant(free_from) if free_from is not None and waiting else start
    unknown = waiting and free_from is None
    for _ in range(days):
        end = calendar.day_bounds(start)[1]
        required = calendar.required(start, end)
        booked = calendar.required(start, min(max(busy_until, start), end))
        loads.append(DayLoad(calendar.local(start).date(), seconds(required), None if unknown else seconds(booked)))
        start = end
    return tuple(loads)
