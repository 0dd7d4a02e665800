"""What a device's value means as a state or fault code."""

from __future__ import annotations

import pytest

from gateway.domain.sample import SampleValue
from gateway.domain.state import code_of


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (7, 7), (7.0, 7), (True, 1), (" 12 ", 12), ("-3", -3), ("E12", "E12"), ("", ""), (None, None), (2**64 - 1, 2**64 - 1),
        (1.5, "1.5"), ("--5", "--5"), ("²", "²"), ("9" * 5000, "9" * 5000),
        (1e20, "1e+20"), ("9" * 20, "9" * 20), (-1e300, "-1e+300"), (float("nan"), "nan"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_code_of(value: SampleValue, code: int | str | None) -> None:
    assert code_of(value) == code
