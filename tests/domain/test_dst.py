"""The two nights of 2026 on which clocks change, and a February of 29 days, exact to the second, through the tracker itself."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.calendar import Calendar
from gateway.domain.equipment import Counter, Counts
from gateway.domain.instants import timestamp
from gateway.domain.shift_rules import Break, ShiftRule
from tests.domain.post import T0, Post

PARIS = ZoneInfo("Europe/Paris")
EVERY_DAY = frozenset(range(1, 8))
WORK_DAYS = frozenset(range(1, 6))
Line = dict[str, Any]


def paris(month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, *, year: int = 2026, fold: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=PARIS, fold=fold).astimezone(UTC)


def since(at: datetime) -> float:
    """Seconds of `Post`."""
    return (at - T0).total_seconds()


def night(*breaks: tuple[time, time], end: time = time(6)) -> Calendar:
    return Calendar("Europe/Paris", [ShiftRule("night", EVERY_DAY, time(22), end, tuple(Break(*one) for one in breaks))])


def post_of(calendar: Calendar, begin: datetime) -> Post:
    post = Post(calendar=calendar, time_zone="Europe/Paris", counts=Counts(total=Counter("parts")))
    post.read(since(begin), running=1, parts=0)
    return post


def of_kind(post: Post, kind: str) -> list[Line]:
    return sorted((w for w in post.windows() if w["window"]["kind"] == kind), key=lambda w: str(w["window"]["from"]))


SPRING, AUTUMN = (paris(3, 28, 20), paris(3, 29, 8)), (paris(10, 24, 20), paris(10, 25, 8))


@pytest.mark.parametrize(("span", "hours"), [(SPRING, 7), (AUTUMN, 9)])
def test_the_night_shift_and_its_hours(span: tuple[datetime, datetime], hours: int) -> None:
    post = post_of(night(), span[0])
    post.wait(since(span[1]))
    post.end()
    (shift,) = (w for w in of_kind(post, "shift") if w["total_s"])
    assert shift["window"]["from"] == timestamp(span[0] + timedelta(hours=2))
    assert shift["window"]["to"] == timestamp(span[0] + timedelta(hours=2 + hours))
    assert (shift["planned_s"], shift["run_s"], shift["opening_s"]) == (hours * 3600,) * 3
    inside = [w for w in of_kind(post, "hour") if shift["window"]["from"] <= w["window"]["from"] < shift["window"]["to"]]
    assert [w["planned_s"] for w in inside] == [3600] * hours, "an hour is an hour, and each has a name of its own"
    assert len({w["window"]["name"] for w in inside}) == hours


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 29, 23), (10, 25, 25), (3, 28, 24), (10, 26, 24)])
def test_a_local_day_has_23_24_or_25_hours(month: int, day: int, hours: int) -> None:
    start, end = paris(month, day), paris(month, day) + timedelta(hours=hours)
    assert end.astimezone(PARIS).timetz() == start.astimezone(PARIS).timetz() == time(0, tzinfo=PARIS)
    post = post_of(Calendar("Europe/Paris", []), start - timedelta(hours=1))
    post.tracker.keep_range(start, end)
    post.wait(since(end + timedelta(hours=1)))
    post.end()
    assert post.window()["total_s"] == post.window()["run_s"] == hours * 3600
    inside = [w for w in of_kind(post, "hour") if timestamp(start) <= w["window"]["from"] < timestamp(end)]
    assert (len(inside), sum(w["run_s"] for w in inside)) == (hours, hours * 3600)


@pytest.mark.parametrize(
    ("span", "given", "begins", "seconds"),
    [
        # In the skipped hour: after the jump, with its length.
        (SPRING, (time(2, 15), time(2, 35)), datetime(2026, 3, 29, 1, tzinfo=UTC), 1200),
        (SPRING, (time(2, 0), time(3, 0)), datetime(2026, 3, 29, 1, tzinfo=UTC), 3600),
        # Begins before the jump: goes on over it, with its length.
        (SPRING, (time(1, 59), time(2, 1)), datetime(2026, 3, 29, 0, 59, tzinfo=UTC), 120),
        (SPRING, (time(3, 0), time(3, 20)), datetime(2026, 3, 29, 1, tzinfo=UTC), 1200),
        # In the repeated hour: the first of the two.
        (AUTUMN, (time(2, 15), time(2, 35)), datetime(2026, 10, 25, 0, 15, tzinfo=UTC), 1200),
        (AUTUMN, (time(1, 50), time(2, 10)), datetime(2026, 10, 24, 23, 50, tzinfo=UTC), 1200),
        (AUTUMN, (time(3, 0), time(3, 20)), datetime(2026, 10, 25, 2, tzinfo=UTC), 1200),
    ],
)
def test_a_break_near_the_change(span: tuple[datetime, datetime], given: tuple[time, time], begins: datetime, seconds: int) -> None:
    post = post_of(night(given), span[0])
    post.tracker.keep_range(begins, begins + timedelta(seconds=seconds))
    post.wait(since(span[1]))
    post.end()
    assert post.window()["total_s"] == seconds
    assert post.window()["planned_s"] == 0, "the whole of it is the break"
    (shift,) = (w for w in of_kind(post, "shift") if w["total_s"])
    hours = 7 if span is SPRING else 9
    assert (shift["planned_s"], shift["opening_s"]) == (hours * 3600 - seconds, hours * 3600), "and nothing else is"


def test_a_stop_over_the_jump_and_one_that_lasts_the_repeated_hour() -> None:
    spring = post_of(night(), SPRING[0])
    spring.read(since(paris(3, 29, 1, 50, 1)), running=0)
    spring.read(since(paris(3, 29, 3, 10)), running=1)
    spring.wait(since(SPRING[1]))
    assert [stop["duration_s"] for stop in spring.stops()] == [20 * 60 - 1]
    autumn = post_of(night(), AUTUMN[0])
    autumn.read(since(paris(10, 25, 2, 30)), running=0)
    autumn.read(since(paris(10, 25, 2, 30, fold=1)), running=1)
    autumn.wait(since(AUTUMN[1]))
    assert [stop["duration_s"] for stop in autumn.stops()] == [3600]
    assert [w["stop_s"] for w in of_kind(autumn, "hour") if w["stop_s"]] == [1800, 1800], "in the first and in the second hour from 02:00"


def test_pieces_of_the_same_wall_clock_time_belong_to_two_hours() -> None:
    post = post_of(night(), AUTUMN[0])
    post.read(since(paris(10, 25, 2, 30)), parts=100)
    post.read(since(paris(10, 25, 2, 30, fold=1)), parts=160)
    post.wait(since(AUTUMN[1]))
    assert [w["produced"] for w in of_kind(post, "hour") if w["produced"]] == [100, 60]
    (shift,) = (w for w in of_kind(post, "shift") if w["total_s"])
    assert shift["produced"] == 160


@pytest.mark.parametrize(("month", "day", "fold"), [(3, 29, 0), (10, 25, 0), (10, 25, 1)])
def test_every_second_around_the_change_is_what_the_clock_on_the_wall_says(month: int, day: int, fold: int) -> None:
    """Against a clock that is asked second by second: a shift that ends at 02:30 and one that begins then."""
    rules = [
        ShiftRule("evening", EVERY_DAY, time(18), time(1, 30)),
        ShiftRule("morning", EVERY_DAY, time(3, 30), time(11), (Break(time(3, 40), time(3, 50)),)),
    ]
    calendar = Calendar("Europe/Paris", rules)
    start = paris(month, day, 1, 20, fold=fold)
    post = Post(calendar=calendar, time_zone="Europe/Paris")
    post.read(since(start - timedelta(hours=1)), running=1, parts=0)
    length = 4 * 3600
    post.tracker.keep_range(start, start + timedelta(seconds=length))
    post.wait(since(start) + length + 3600)
    required = opening = 0
    for second in range(length):
        wall = (start + timedelta(seconds=second)).astimezone(PARIS).time()
        in_shift = wall >= time(18) or wall < time(1, 30) or time(3, 30) <= wall < time(11)
        opening += in_shift
        required += in_shift and not time(3, 40) <= wall < time(3, 50)
    line = post.end().window()
    assert (line["opening_s"], line["planned_s"]) == (opening, required)


def test_a_february_of_29_days() -> None:
    """2028-02 begins on a Tuesday and has 21 working days; the night of the 29th ends in March and belongs to the 29th."""
    rules = [
        ShiftRule("early", WORK_DAYS, time(6), time(14), (Break(time(9), time(9, 20)), Break(time(12), time(12, 10)))),
        ShiftRule("night", frozenset({2}), time(22), time(6)),
    ]
    begin, end = paris(2, 1, year=2028), paris(3, 1, year=2028)
    assert end - begin == timedelta(days=29)
    post = Post(calendar=Calendar("Europe/Paris", rules), time_zone="Europe/Paris")
    post.begin(since(begin))
    post.tracker.keep_range(begin, end)
    post.read(since(begin), running=1, parts=0)
    for hour in range(1, 29 * 24 + 12):
        post.wait(since(begin) + hour * 3600)
    post.end()
    nights = 5  # the 1st, 8th, 15th, 22nd and 29th: two hours of the last one are in February
    required = 21 * (8 * 3600 - 1800) + (nights - 1) * 8 * 3600 + 2 * 3600
    assert post.window()["total_s"] == 29 * 86400
    assert post.window()["planned_s"] == post.window()["run_s"] == required
    hours = [w for w in of_kind(post, "hour") if timestamp(begin) <= w["window"]["from"] < timestamp(end)]
    assert (len(hours), sum(w["planned_s"] for w in hours)) == (29 * 24, required)
    last = [w for w in of_kind(post, "shift") if w["window"]["name"] == "night"][-1]
    assert (last["window"]["from"], last["window"]["to"]) == ("2028-02-29T21:00:00Z", "2028-03-01T05:00:00Z")
    assert last["planned_s"] == 8 * 3600
    assert len([w for w in of_kind(post, "shift") if w["window"]["name"] == "early"]) == 22, "21 of February and the first of March"
