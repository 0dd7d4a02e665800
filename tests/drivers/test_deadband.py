"""Report by exception."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from drivers.base import Quality, Reading, Value
from drivers.deadband import ChangeFilter

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


def reading(value: Value, quality: Quality | None = None, detail: str = "") -> Reading:
    return Reading("t", value, quality or (Quality.BAD if value is None else Quality.GOOD), None, AT, detail)


def passed(values: list[Reading], band: float = 0.0) -> list[Value]:
    changes = ChangeFilter({"t": band})
    return [found.value for value in values for found in changes.changed([value])]


def test_the_first_reading_passes_and_repeats_do_not() -> None:
    assert passed([reading(1), reading(1), reading(2), reading(2), reading(1)]) == [1, 2, 1]


def test_small_moves_add_up_against_the_last_value_that_passed() -> None:
    assert passed([reading(10.0), reading(10.3), reading(10.4), reading(10.5), reading(10.2), reading(9.9)], 0.5) == [10.0, 10.5, 9.9]


def test_a_change_of_quality_always_passes() -> None:
    seen = [reading(10.0), reading(10.1, Quality.UNCERTAIN), reading(None), reading(None), reading(10.1)]
    assert passed(seen, 5.0) == [10.0, 10.1, None, 10.1]


def test_another_reason_for_being_bad_is_news() -> None:
    assert len(passed([reading(None, detail="link lost"), reading(None, detail="BadDeviceFailure")])) == 2


@pytest.mark.parametrize(("old", "new"), [(True, False), ("A", "B"), (1, True), (False, 0.0)])
def test_a_deadband_concerns_numbers_only(old: Value, new: Value) -> None:
    assert passed([reading(old), reading(new)], 100.0) == [old, new]
