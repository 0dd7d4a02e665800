"""`Sample`: what one poll or one publish says about one work unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

SampleValue = bool | int | float | str | None


@dataclass(slots=True)
class Input:
    """One input's value; `good` and `uncertain` values are used, a bad one is unknown (`value` None).

    Nobody changes it. It is not frozen because there is one for every value, and a frozen one takes three times as long to make.
    """

    value: SampleValue
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """The inputs that were read at `at` (aware UTC); an input that is absent holds its last value.

    Keys of `inputs` are tag references as the work unit's configuration names them (`parts`, `other_plc/parts`).
    """

    work_unit: str
    at: datetime
    inputs: Mapping[str, Input]


def number_of(value: SampleValue) -> str:
    """An order or lot number as the ledger spells it; empty text and a zero are no number. Leading zeros of a text belong to it."""
    if isinstance(value, str):
        text = value.strip("\0 \t\r\n")
        return "" if not text.strip("0") else text
    if value is None or isinstance(value, bool) or value == 0:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value)
