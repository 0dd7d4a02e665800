from __future__ import annotations

import pytest

from drivers.base import Value
from drivers.values import InvalidValues, outside


@pytest.mark.parametrize(
    ("value", "detail"),
    [(0, ""), (10.0, ""), (-1, "-1 is outside 0 to 10"), (10.5, "10.5 is outside 0 to 10"), (None, ""), ("11", ""), (True, "")],
)
def test_both_ends_are_inside_and_truth_and_text_have_no_range(value: Value, detail: str) -> None:
    assert outside(value, (0, 10)) == detail


def test_a_value_that_comes_and_goes_is_one_thing_to_tell() -> None:
    invalid = InvalidValues()
    assert invalid.concern(0) is None
    invalid.note("weight", "12.5 is outside 0 to 10", 0)
    told = invalid.concern(0)
    assert told is not None
    assert told.text_en == "The PLC gives impossible values for weight; they are not used."
    assert told.detail == "weight: 12.5 is outside 0 to 10"
    for now in range(10, 100, 10):
        invalid.note("weight", f"{now} is outside 0 to 10", now)
        assert invalid.concern(now) is told
    invalid.note("bore", "not a number", 100)
    both = invalid.concern(100)
    assert both is not None
    assert both.detail == "bore: not a number; weight: 12.5 is outside 0 to 10"
    last = invalid.concern(155)
    assert last is not None
    assert last.detail == "bore: not a number", "weight was right for a minute"
    assert invalid.concern(160) is None
