"""From batches of readings to samples: whose they are, and when they were."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from drivers.base import Quality, Reading
from drivers.opcua_clock import DeviceClock
from gateway.acquisition.sampling import Sampling
from gateway.domain.sample import Input, Sample

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
TAGS = {
    "press": {"parts": ("press_plc", "parts"), "running": ("press_plc", "running")},
    "robot": {"press_plc/parts": ("press_plc", "parts"), "grip": ("robot_plc", "grip")},
}


def reading(tag: str, value: bool | int | float | str | None = 1, source: float | None = None, quality: Quality = Quality.GOOD) -> Reading:
    """`source`: seconds before (negative) or after the time of receipt."""
    return Reading(tag, value, quality, None if source is None else NOW + timedelta(seconds=source), NOW)


def samples(*batch: Reading, device: str = "press_plc", pushed: bool = False, recorded: bool = False) -> list[Sample]:
    return Sampling(TAGS).samples(device, batch, pushed=pushed, recorded=recorded)


def test_a_poll_is_one_instant_for_each_unit_that_uses_it() -> None:
    found = samples(reading("parts", 7, -3), reading("running", True, -1), reading("spare", 5))
    assert found == [
        Sample("press", NOW, {"parts": Input(7), "running": Input(True)}),
        Sample("robot", NOW, {"press_plc/parts": Input(7)}),
    ]


def test_a_device_or_tag_without_a_use_makes_no_sample() -> None:
    assert samples(reading("spare")) == []
    assert samples(reading("parts"), device="oven_plc") == []


def test_bad_is_unknown_and_uncertain_is_used() -> None:
    found = samples(reading("parts", None, quality=Quality.BAD), reading("running", True, quality=Quality.UNCERTAIN))
    assert found[0].inputs == {"parts": Input(None, bad=True), "running": Input(True)}


def test_what_was_pushed_has_its_own_time_and_comes_in_order() -> None:
    found = samples(reading("parts", 9, -1), reading("parts", 8, -2), reading("running", True, -2), pushed=True)
    press = [(s.at, s.inputs) for s in found if s.work_unit == "press"]
    assert press == [
        (NOW - timedelta(seconds=2), {"parts": Input(8), "running": Input(True)}),
        (NOW - timedelta(seconds=1), {"parts": Input(9)}),
    ]


@pytest.mark.parametrize(
    ("source", "believed"), [(-10, True), (-10.1, False), (0.5, True), (0.6, False), (-835_000_000, False), (None, False)]
)
def test_a_source_time_that_cannot_be_is_replaced_by_the_time_of_receipt(source: float | None, believed: bool) -> None:
    [press, _] = samples(reading("parts", 1, source), pushed=True)
    assert press.at == (NOW + timedelta(seconds=source or 0) if believed else NOW)


def test_a_recordings_times_are_what_happened() -> None:
    [press, _] = samples(reading("parts", 1, -835_000_000), pushed=True, recorded=True)
    assert press.at == NOW - timedelta(seconds=835_000_000)


@pytest.mark.parametrize("off", [timedelta(hours=2), timedelta(hours=-1), datetime(2000, 1, 1, tzinfo=UTC) - NOW])
def test_a_plc_whose_clock_is_far_off_still_gives_exact_cycle_times(off: timedelta) -> None:
    clock, sampling = DeviceClock(0.2), Sampling(TAGS)
    found: list[datetime] = []
    for piece in range(20):
        made_at = NOW + timedelta(seconds=1.2 * piece)
        received_at = made_at + timedelta(seconds=(0.05, 0.31, 0.18)[piece % 3])
        told = Reading("parts", piece, Quality.GOOD, made_at + off, received_at)
        clock.hear([told], received_at)
        found += [
            s.at for s in sampling.samples("press_plc", [clock.corrected(told)], pushed=True, recorded=False) if s.work_unit == "press"
        ]
    # The first piece is the one the error is learned from.
    assert [later - earlier for earlier, later in itertools.pairwise(found)][1:] == [timedelta(seconds=1.2)] * 18
