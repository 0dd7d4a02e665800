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
