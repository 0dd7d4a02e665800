"""Calendars: exact over clock changes, spans without gaps, one rule per wall-clock oddity."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.calendar import Calendar, Span, SpanKind, always
from gateway.domain.instants import SECOND, Instant, instant, known_zone, moment
from gateway.domain.shift_rules import Break, ShiftRule, misplaced_breaks, overlaps

PARIS = ZoneInfo("Europe/Paris")
HOUR = 3600 * SECOND
MIN = 60 * SECOND
EVERY_DAY = frozenset(range(1, 8))
WORK_DAYS = frozenset(range(1, 6))
NIGHT = ShiftRule("night", EVERY_DAY, time(22), time(6))


def paris(*parts: int, fold: int = 0) -> Instant:
    return instant(datetime(*parts, tzinfo=PARIS, fold=fold))  # type: ignore[arg-type, misc]


def utc(*parts: int) -> Instant:
    return instant(datetime(*parts, tzinfo=UTC))  # type: ignore[arg-type, misc]


def of_kind(calendar: Calendar, start: Instant, end: Instant, kind: SpanKind) -> list[tuple[Instant, Instant]]:
    return [(span.start, span.end) for span in calendar.spans(start, end) if span.kind is kind]


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 27), 8), (date(2026, 3, 28), 7), (date(2026, 10, 24), 9), (date(2026, 10, 25), 8)],
)
def test_night_shift_lasts_what_the_clock_change_makes_of_it(day: date, hours: int) -> None:
    calendar = Calendar("Europe/Paris", [NIGHT])
    midnight = paris(day.year, day.month, day.day)
    shift = next(s for s in calendar.shifts(midnight, midnight + 30 * HOUR) if s.day == day)
    assert shift.end - shift.start == hours * HOUR
    assert calendar.required(shift.start, shift.end) == hours * HOUR
    assert calendar.shift_at(shift.start) == shift
    assert calendar.shift_at(shift.end - 1) == shift
    assert calendar.shift_at(shift.end) is None


def test_day_bounds_over_clock_changes() -> None:
    calendar = always("Europe/Paris")
    for day, hours in ((29, 23), (30, 24)):
        start, end = calendar.day_bounds(paris(2026, 3, day, 12))
        assert (start, end - start) == (paris(2026, 3, day), hours * HOUR)
    start, end = calendar.day_bounds(paris(2026, 10, 25, 2, 30, fold=1))
    assert (start, end - start) == (paris(2026, 10, 25), 25 * HOUR)


def test_day_whose_midnight_comes_twice_or_is_skipped() -> None:
    newfoundland = always("America/St_Johns")  # 2010-11-07 00:01 went back to 23:01 of the day before
    again = utc(2010, 11, 7, 2, 45)  # 23:15 of the 6th, for the second time
    assert newfoundland.local(again).date() == date(2010, 11, 6)
    start, end = newfoundland.day_bounds(again)
    assert start == utc(2010, 11, 7, 2, 30)
    assert end - start == 25 * HOUR
    assert newfoundland.spans(again, again + HOUR) == [Span(again, again + HOUR, SpanKind.REQUIRED)]
    sao_paulo = always("America/Sao_Paulo")  # 2018-11-04 began at 01:00
    start, end = sao_paulo.day_bounds(utc(2018, 11, 4, 12))
    assert (start, end - start) == (utc(2018, 11, 4, 3), 23 * HOUR)


def test_skipped_break_begins_after_the_jump_and_keeps_its_length() -> None:
    night = ShiftRule("night", EVERY_DAY, time(22), time(6), (Break(time(2, 15), time(2, 35)),))
    calendar = Calendar("Europe/Paris", [night])
    start, end = paris(2026, 3, 28, 22), paris(2026, 3, 29, 6)
    jump = utc(2026, 3, 29, 1)
    assert of_kind(calendar, start, end, SpanKind.BREAK) == [(jump, jump + 20 * MIN)]
    assert calendar.required(start, end) == 7 * HOUR - 20 * MIN


def test_break_across_the_jump_keeps_its_length() -> None:
    night = ShiftRule("night", EVERY_DAY, time(22), time(6), (Break(time(1, 50), time(2, 10)),))
    calendar = Calendar("Europe/Paris", [night])
    begin = paris(2026, 3, 29, 1, 50)
    assert of_kind(calendar, begin - HOUR, begin + 3 * HOUR, SpanKind.BREAK) == [(begin, begin + 20 * MIN)]


def test_break_in_the_repeated_hour_is_the_first() -> None:
    night = ShiftRule("night", EVERY_DAY, time(22), time(6), (Break(time(2, 15), time(2, 35)),))
    calendar = Calendar("Europe/Paris", [night])
    first = utc(2026, 10, 25, 0, 15)
    start, end = paris(2026, 10, 24, 22), paris(2026, 10, 25, 6)
    assert of_kind(calendar, start, end, SpanKind.BREAK) == [(first, first + 20 * MIN)]
    assert calendar.required(start, end) == 9 * HOUR - 20 * MIN


def test_shifts_that_meet_in_a_skipped_or_repeated_hour_still_meet() -> None:
    rules = [ShiftRule("early", EVERY_DAY, time(18), time(2, 30)), ShiftRule("late", EVERY_DAY, time(2, 30), time(10))]
    calendar = Calendar("Europe/Paris", rules)
    for start in (paris(2026, 3, 28, 18), paris(2026, 10, 24, 18)):
        early, late = list(calendar.shifts(start, start + 10 * HOUR))
        assert early.end == late.start


def test_closed_range_includes_both_days_and_removes_the_shifts_that_begin_on_them() -> None:
    calendar = Calendar("Europe/Paris", [NIGHT], closed=[(date(2026, 12, 25), date(2026, 12, 26))])
    days = [shift.day.day for shift in calendar.shifts(paris(2026, 12, 24), paris(2026, 12, 29))]
    assert days == [23, 24, 27, 28]
    assert calendar.kind_at(paris(2026, 12, 25, 5))[0] is SpanKind.REQUIRED  # the 24th's shift, on the closed day
    assert calendar.kind_at(paris(2026, 12, 25, 23))[0] is SpanKind.CLOSED
    assert calendar.kind_at(paris(2026, 12, 27, 5))[0] is SpanKind.CLOSED  # the 26th's was removed


def test_closed_without_shifts_is_the_whole_local_day() -> None:
    calendar = Calendar("Europe/Paris", closed=[(date(2026, 5, 1), date(2026, 5, 1))])
    start, end = paris(2026, 4, 30), paris(2026, 5, 3)
    assert of_kind(calendar, start, end, SpanKind.CLOSED) == [(paris(2026, 5, 1), paris(2026, 5, 2))]
    assert list(calendar.shifts(start, end)) == []


def test_maintenance_is_cut_out_of_opening_time_only() -> None:
    morning = ShiftRule("morning", WORK_DAYS, time(5), time(13), (Break(time(9), time(9, 20)),))
    window = (datetime.fromisoformat("2026-11-27T04:00"), datetime.fromisoformat("2026-11-27T09:10"))
    calendar = Calendar("Europe/Paris", [morning], maintenance=[window])
    kinds = [
        (moment(s.start).astimezone(PARIS).time(), s.kind.value) for s in calendar.spans(paris(2026, 11, 27, 3), paris(2026, 11, 27, 14))
    ]
    assert kinds == [
        (time(3), "closed"),
        (time(5), "maintenance"),
        (time(9, 10), "break"),
        (time(9, 20), "required"),
        (time(13), "closed"),
    ]


def test_24_hours_and_midnight_ends() -> None:
    whole = Calendar("Europe/Paris", [ShiftRule("day", EVERY_DAY, time(0), time(0))])
    assert whole.required(paris(2026, 3, 29), paris(2026, 3, 30)) == 23 * HOUR
    assert [s.day.day for s in whole.shifts(paris(2026, 3, 29), paris(2026, 3, 31))] == [29, 30]
    evening = Calendar("Europe/Paris", [ShiftRule("evening", EVERY_DAY, time(16), time(0))])
    shift = evening.shift_at(paris(2026, 11, 25, 23, 59))
    assert shift is not None
    assert shift.end == paris(2026, 11, 26)
    from_noon = Calendar("UTC", [ShiftRule("noon", EVERY_DAY, time(12), time(12), (Break(time(3), time(3, 30)),))])
    assert of_kind(from_noon, utc(2026, 1, 1, 12), utc(2026, 1, 2, 12), SpanKind.BREAK) == [(utc(2026, 1, 2, 3), utc(2026, 1, 2, 3, 30))]


def test_leap_month_is_exact() -> None:
    calendar = Calendar("Europe/Paris", [ShiftRule("day", EVERY_DAY, time(6), time(14))])
    assert calendar.required(paris(2028, 2, 1), paris(2028, 3, 1)) == 29 * 8 * HOUR


def test_after_required_walks_breaks_nights_and_weekends() -> None:
    morning = ShiftRule("morning", WORK_DAYS, time(5), time(13), (Break(time(9), time(9, 20)),))
    calendar = Calendar("Europe/Paris", [morning], closed=[(date(2026, 11, 30), date(2026, 11, 30))])
    friday = paris(2026, 11, 27, 8)
    assert calendar.after_required(friday, HOUR) == paris(2026, 11, 27, 9)
    assert calendar.after_required(friday, HOUR + MIN) == paris(2026, 11, 27, 9, 21)
    assert calendar.after_required(friday, 4 * HOUR + 41 * MIN) == paris(2026, 12, 1, 5, 1)
    assert calendar.after_required(friday, 0) == friday
    for_ever = Calendar("Europe/Paris", [morning], closed=[(date(2026, 1, 1), date(2030, 1, 1))])
    assert for_ever.after_required(friday, 1) is None


def test_overlaps_and_misplaced_breaks_are_named() -> None:
    late = ShiftRule("late", frozenset({7}), time(20), time(4))
    early = ShiftRule("early", frozenset({1}), time(3), time(11))
    assert overlaps([early, late]) == ["shift early (03:00-11:00) of mon overlaps shift late (20:00-04:00)"]
    assert overlaps([NIGHT, ShiftRule("day", EVERY_DAY, time(6), time(22))]) == []
    assert overlaps([ShiftRule("whole", EVERY_DAY, time(6), time(6))]) == []
    rule = ShiftRule(
        "n", EVERY_DAY, time(22), time(6), (Break(time(7), time(8)), Break(time(1), time(1)), Break(time(23, 50), time(0, 10)))
    )
    assert misplaced_breaks([rule]) == [
        "break 07:00-08:00 of shift n is not inside 22:00-06:00",
        "break 01:00-01:00 of shift n begins and ends at the same time",
    ]


minutes = st.integers(0, 24 * 60 - 1).map(lambda m: time(m // 60, m % 60))
zones = st.sampled_from(["Europe/Paris", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "UTC"])
moments = st.integers(utc(2009, 1, 1), utc(2030, 1, 1))
days = st.dates(date(2009, 1, 1), date(2030, 1, 1))


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    rules: list[ShiftRule] = []
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        weekdays = draw(st.frozensets(st.integers(1, 7), min_size=1))
        rule = ShiftRule(name, weekdays, draw(minutes), draw(minutes), tuple(Break(draw(minutes), draw(minutes)) for _ in range(2)))
        if not overlaps([*rules, rule]):
            rules.append(rule)
    closed = [(day, day + timedelta(days=draw(st.integers(0, 9)))) for day in draw(st.lists(days, max_size=2))]
    begins = draw(st.lists(days, max_size=2))
    maintenance = [(begin := datetime.combine(day, draw(minutes)), begin + timedelta(minutes=draw(st.integers(1, 5000)))) for day in begins]
    return Calendar(draw(zones), rules, closed, maintenance)


@settings(deadline=None, max_examples=200)
@given(calendars(), moments, st.integers(1, 40 * 24 * 3600), st.integers(0, 40 * 24 * 3600))
def test_spans_cover_without_gaps_and_agree_with_every_other_question(calendar: Calendar, start: Instant, length: int, offset: int) -> None:
    end = start + length * SECOND
    spans = calendar.spans(start, end)
    assert (spans[0].start, spans[-1].end) == (start, end)
    assert all(a.end == b.start and a.kind is not b.kind for a, b in pairwise(spans))
    assert all(span.start < span.end for span in spans)
    middle = start + offset % length * SECOND
    for part in (*calendar.spans(start, middle), *calendar.spans(middle, end)):
        assert any(span.start <= part.start and part.end <= span.end and span.kind is part.kind for span in spans)
    assert calendar.required(start, middle) + calendar.required(middle, end) == calendar.required(start, end)
    kind, until = calendar.kind_at(middle)
    holding = next(span for span in spans if span.start <= middle < span.end)
    assert kind is holding.kind
    assert middle < until
    assert min(until, end) <= holding.end
    shift = calendar.shift_at(middle)
    if calendar.has_shifts:
        assert (shift is not None) == (kind is not SpanKind.CLOSED)
    elif kind is SpanKind.BREAK:
        raise AssertionError("a break without a shift")
    first, last = calendar.day_bounds(middle)
    assert first <= middle < last
    total = calendar.required(start, end)
    if total:
        reached = calendar.after_required(start, total)
        assert reached is not None
        assert calendar.required(start, reached) == total
        assert reached <= end


def test_a_calendar_is_defined_anew_from_its_definition() -> None:
    full = Calendar(
        "Europe/Paris",
        [ShiftRule("night", frozenset({1, 7}), time(22), time(6), (Break(time(2), time(2, 20)),))],
        [(date(2026, 12, 24), date(2027, 1, 1))],
        [(datetime.fromisoformat("2026-11-23T23:00"), datetime.fromisoformat("2026-11-24T01:00"))],
    )
    other = Calendar.defined(json.loads(json.dumps(full.definition)))
    start, end = instant(datetime(2026, 11, 1, tzinfo=UTC)), instant(datetime(2027, 1, 10, tzinfo=UTC))
    assert other.definition == full.definition
    assert other.spans(start, end) == full.spans(start, end)


def test_a_zone_that_is_none_is_a_value_error_however_it_is_written() -> None:
    assert known_zone("America/Argentina/ComodRivadavia").key == "America/Argentina/ComodRivadavia"
    for name in ("Europe/Nowhere", "Europe", "", "/etc/passwd", "../etc", "a\0b", "x" * 5000, "Europe" + "/e" * 2000, "/".join("e" * 32)):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            known_zone(name)
