"""The scalar fields of the wire messages: what each accepts, and the sentence for what it does not."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from drivers.settings import NAME_PATTERN

MAX_ORDER_ID = 128

# What no machine makes or weighs; beyond it a number is a typing or scaling error, and Decimal arithmetic would lose digits.
_LARGEST = Decimal(10) ** 15
_MOST_DECIMALS = 12


def _printable(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise PydanticCustomError("control_character", "holds a control character")
    return text


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PydanticCustomError("quantity_invalid", "needs a number")
    number = Decimal(value)
    if not number.is_finite() or abs(number) > _LARGEST:
        raise PydanticCustomError("quantity_invalid", "needs a number between -1e15 and 1e15")
    if number and number.normalize().as_tuple().exponent < -_MOST_DECIMALS:  # type: ignore[operator]
        raise PydanticCustomError("quantity_invalid", "has more than 12 decimals")
    return number


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise PydanticCustomError("quantity_invalid", "needs a number above 0")
    return value


def _not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise PydanticCustomError("quantity_invalid", "must not be negative")
    return value


def _moment(value: Any) -> datetime:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value else None
        if at is not None and at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError("moment", "needs a time like 2026-11-25T06:00:00Z, with its offset")


def _echoable(value: Any, depth: int = 0) -> Any:
    """Properties are echoed back as they came: whole numbers that fit every JSON reader, and no tower of brackets."""
    if depth > 10:
        raise PydanticCustomError("properties", "is nested more than 10 deep")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _echoable(item, depth + 1)
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        _number(value)
    return value


Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ORDER_ID), AfterValidator(_printable)]
Line = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_printable)]
UnitCode = Annotated[str, StringConstraints(min_length=1, max_length=16), AfterValidator(_printable)]
UnitName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Number = Annotated[Decimal, BeforeValidator(_number), WithJsonSchema({"type": "number"})]
Positive = Annotated[
    Decimal, BeforeValidator(_number), AfterValidator(_positive), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
NotNegative = Annotated[Decimal, BeforeValidator(_number), AfterValidator(_not_negative), WithJsonSchema({"type": "number", "minimum": 0})]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Priority = Annotated[int, Field(ge=-(10**9), le=10**9)]
Properties = Annotated[dict[str, Any], AfterValidator(_echoable)]
