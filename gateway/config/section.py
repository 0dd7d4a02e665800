"""What the models of all sections share: their base, and the scalars that several of them hold."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import ConfigDict, Field

from drivers.settings import Duration, Settings

TagRef = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9_-]{1,64}/)?[A-Za-z0-9_-]{1,64}$",
        description="A tag of the unit's own `device`, or `device/tag`.",
        examples=["parts", "packer_plc/parts"],
    ),
]
Number = Annotated[Decimal, Field(allow_inf_nan=False)]
CURRENCY = r"^[A-Z]{3}$"
UNIT_CODE = r"^[A-Z0-9]{2,3}$"
Ideal = Annotated[Duration, Field(gt=0.0)]
Code = Annotated[int, Field(ge=-(2**63), lt=2**64)] | Annotated[str, Field(min_length=1, max_length=128)]
"""A state, fault or recipe as a device gives it: an integer of at most 64 bits, or text."""


class Section(Settings):
    """Keys that are no Python names (`from`, `class`) are written by their alias."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True)
