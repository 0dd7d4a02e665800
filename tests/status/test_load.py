"""How much of the coming days is booked."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from gateway.domain.calendar import Calendar
from gateway.domain.load import day_loads
from gateway.domain.shift_rules import ShiftRule

AT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)  # Tuesday, 10:00 in Paris
SHIFTS = Calendar("Europe/Paris", (ShiftRule("morning", frozenset({1, 2, 3, 4, 5}), time(5), time(13)),))


def test_booked_is_the_required_time_before_it_is_free() -> None:
    loads = day_loads(SHIFTS, AT, datetime(2026, 11, 25, 6, 0, tzinfo=UTC), waiting=True, days=3)
    assert [(load.day, load.required_s, load.booked_s) for load in loads] == [
        (date(2026, 11, 24), 3 * 3600.0, 3 * 3600.0),
        (date(2026, 11, 25), 8 * 3600.0, 2 * 3600.0),
        (date(2026, 11, 26), 8 * 3600.0, 0.0),
    ]


def test_an_idle_unit_is_free_and_an_unknown_rate_is_unknown() -> None:
    assert [load.booked_s for load in day_loads(SHIFTS, AT, None, waiting=False, days=2)] == [0.0, 0.0]
    assert [load.booked_s for load in day_loads(SHIFTS, AT, None, waiting=True, days=2)] == [None, None]
