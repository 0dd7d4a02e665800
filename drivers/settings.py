"""Base of every settings model, and the scalar types that carry their unit in the file (`250ms`, `2GB`, `10%`)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

_DURATION_S = {"ms": Decimal("0.001"), "s": Decimal(1), "min": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_SIZE = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Settings(BaseModel):
    """Frozen and strict: an unknown key is an error, nothing is dropped silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def _with_unit(value: Any, units: dict[str, Any], example: str) -> tuple[Decimal, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z%]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"needs a number with a unit ({', '.join(units)}), for example {example}")
    return Decimal(match[1]), match[2]


def parse_duration(value: Any) -> float:
    """`250ms`, `5min`, `7d` -> seconds. Raises ValueError naming the units."""
    number, unit = _with_unit(value, _DURATION_S, "250ms")
    return float(number * _DURATION_S[unit])


def parse_size(value: Any) -> int:
    """`2GB` -> bytes (decimal multiples)."""
    number, unit = _with_unit(value, _SIZE, "2GB")
    return int(number * _SIZE[unit])


def parse_share(value: Any) -> float:
    """`10%` -> 0.1."""
    number, _ = _with_unit(value, {"%": 1}, "10%")
    return float(number / 100)


def _schema(pattern: str, example: str) -> Any:
    return Field(json_schema_extra={"type": "string", "pattern": pattern, "examples": [example]})


# A default in a model is given already parsed (seconds, bytes, share); only text from a file goes through the parser.
Duration = Annotated[float, BeforeValidator(lambda v: v if isinstance(v, float) else parse_duration(v)), _schema(r"^\d+(\.\d+)?\s*(ms|s|min|h|d)$", "250ms")]
Size = Annotated[int, BeforeValidator(lambda v: v if isinstance(v, int) and v >= 10**6 else parse_size(v)), _schema(r"^\d+(\.\d+)?\s*(kB|MB|GB|TB)$", "2GB")]
Share = Annotated[float, BeforeValidator(lambda v: v if isinstance(v, float) else parse_share(v)), _schema(r"^\d+(\.\d+)?\s*%$", "10%")]


class Secret(Settings):
    """Where a secret is kept; it is read when its link is opened, never stored in the file."""

    credential: str | None = None
    file: str | None = None


class DeviceSettings(Settings):
    """What every device has, whatever its driver."""

    interval: Duration = 1.0
    timeout: Duration = 1.0
