"""What source times are worth: wrong zones, clocks set back or reset, old values, times that cannot be."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from drivers.base import Quality, Reading
from drivers.opcua_clock import DeviceClock

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


def told(source: datetime | None, received_s: float, value: int = 1) -> Reading:
    return Reading("parts", value, Quality.GOOD, source, AT + timedelta(seconds=received_s))


class Plc:
    """Its clock runs `error` off ours; a change takes `way_s` to arrive."""

    def __init__(self, interval_s: float = 0.5) -> None:
        self.clock = DeviceClock(interval_s)
        self.error = timedelta(0)

    def change(self, at_s: float, way_s: float = 0.1) -> datetime | None:
        """The source time of a change at `at_s`, as the gateway uses it."""
        reading = told(AT + timedelta(seconds=at_s) + self.error, at_s + way_s)
        self.clock.hear([reading], reading.received_at)
        return self.clock.corrected(reading).source_time


def seconds(times: list[datetime | None]) -> list[float]:
    return [round((at - AT).total_seconds(), 3) for at in times if at is not None]


@pytest.mark.parametrize("error_s", [0.0, 0.25, -0.5])
def test_a_clock_that_is_nearly_right_is_taken_as_it_is(error_s: float) -> None:
    plc = Plc()
    plc.error = timedelta(seconds=error_s)
    assert seconds([plc.change(1, 0.9), plc.change(2, 0.1)]) == [1 + error_s, 2 + error_s]
    assert plc.clock.concern(AT) is None


@pytest.mark.parametrize(
    "error", [timedelta(hours=1), timedelta(hours=-2), timedelta(days=-9826), timedelta(days=400), timedelta(seconds=-7)]
)
def test_a_steady_error_is_taken_out_so_that_durations_stay(error: timedelta) -> None:
    plc = Plc()
    plc.error = error
    plc.change(0, 0.02)
    times = seconds([plc.change(at_s, way_s) for at_s, way_s in ((1, 0.3), (2.2, 0.05), (3.4, 0.5))])
    assert [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)] == [1.2, 1.2], "not the way's jitter"
    assert abs(times[0] - 1) < 0.05


def test_one_change_that_was_long_on_its_way_is_no_clock_behind_but_five_seconds_of_them_are() -> None:
    plc = Plc()
    assert seconds([plc.change(0, 2.4), plc.change(3, 0.1)]) == [0, 3]
    plc.error = timedelta(seconds=-1.8)
    assert seconds([plc.change(4, 0.1)]) == [2.2]
    for at_s in range(5, 11):
        plc.change(at_s, 0.1)
    assert seconds([plc.change(11, 0.1)]) == [11.1], "taken out, but for the way of the freshest change"


def test_a_delay_of_seconds_is_no_clock_that_makes_other_values_of_the_future() -> None:
    clock = DeviceClock(0.5)
    clock.hear([told(AT, 4)], AT + timedelta(seconds=4))
    first_of_an_item = told(AT + timedelta(seconds=4.9), 5)
    assert clock.corrected(first_of_an_item).source_time == first_of_an_item.source_time
    assert (clock.offset, clock.unusable) == (timedelta(0), 0)


def test_a_wrong_zone_is_told_with_its_size() -> None:
    plc = Plc()
    plc.error = timedelta(hours=2)
    plc.change(0)
    concern = plc.clock.concern(AT)
    assert concern is not None
    assert "avance de 2 h 0 min" in concern.text_fr
    assert "ahead" in concern.text_en


def test_a_clock_that_falls_back_to_2000_is_not_used_until_it_is_known_and_then_corrected() -> None:
    plc = Plc()
    plc.change(0)
    plc.error = datetime(2000, 1, 1, tzinfo=UTC) - AT
    assert plc.change(1) is None
    assert plc.clock.unusable == 1
    for at_s in range(2, 8):
        plc.change(at_s)
    assert seconds([plc.change(8), plc.change(9.2)]) == pytest.approx([8, 9.2], abs=0.11)
    assert plc.clock.concern(AT) is not None


def test_a_clock_that_is_set_right_again_is_believed_at_once() -> None:
    plc = Plc()
    plc.error = timedelta(hours=-1)
    plc.change(0)
    plc.error = timedelta(0)
    assert seconds([plc.change(5)]) == [5]
    assert plc.clock.concern(AT) is None


def test_one_old_value_does_not_set_the_clock_for_long() -> None:
    plc = Plc()
    plc.change(0)
    plc.clock.hear([told(AT - timedelta(hours=3), 1)], AT + timedelta(seconds=1))
    assert seconds([plc.change(2)]) == [2]


def test_an_idle_machines_old_values_keep_their_time() -> None:
    clock = DeviceClock(0.5)
    old = told(AT - timedelta(days=3), 0)
    assert clock.corrected(old) == old


@pytest.mark.parametrize("source", [datetime(1601, 1, 1, tzinfo=UTC), None, AT + timedelta(seconds=9)])
def test_no_time_and_a_clock_a_little_ahead_are_no_faults(source: datetime | None) -> None:
    clock = DeviceClock(0.5)
    assert clock.corrected(told(source, 0)) == told(None, 0)
    assert clock.unusable == 0
    assert clock.concern(AT) is None


@pytest.mark.parametrize("source", [datetime(2000, 1, 1, 0, 3, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), AT + timedelta(minutes=2)])
def test_an_impossible_time_is_not_used_and_the_value_stays_good(source: datetime) -> None:
    clock = DeviceClock(0.5)
    found = clock.corrected(told(source, 0, value=7))
    assert (found.value, found.quality, found.source_time) == (7, Quality.GOOD, None)
    assert "not used" in found.detail
    concern = clock.concern(AT + timedelta(seconds=1))
    assert concern is not None
    assert "impossible" in concern.text_en
    assert clock.concern(AT + timedelta(seconds=130)) is None


def test_a_correction_beyond_the_calendar_is_no_time() -> None:
    clock = DeviceClock(0.5)
    clock.hear([told(datetime(9999, 12, 31, tzinfo=UTC), 0)], AT)
    assert clock.corrected(told(datetime(1601, 3, 1, tzinfo=UTC), 1)).source_time is None
