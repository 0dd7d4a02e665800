"""Base of every settings model, and the scalar types that carry their unit in the file (`250ms`, `2GB`, `10%`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

_DURATION_S = {
    "ms": Decimal("0.001"), "s": Decimal(1), "min": Decimal(60), "h": Decimal(3600), "d": Decimal(86400), "y": Decimal(365 * 86400),
}  # fmt: skip
_SIZE = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Settings(BaseModel):
    """Frozen and strict: an unknown key is an error, nothing is dropped silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class FieldError(ValueError):
    """A problem between several fields of a model. `at` is the path, below the model that raises it, of the value to blame.

    The message says what is wrong; what to do (one sentence, a semicolon between both).
    """

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


def _folder(info: ValidationInfo) -> str | None:
    """The folder of the configuration file in which the value stands; None where code builds the model."""
    return info.context.get("folder") if isinstance(info.context, dict) else None


def _with_unit(value: Any, units: dict[str, Any], example: str) -> tuple[Decimal, str]:
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*([A-Za-z%]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"it needs a number with a unit ({', '.join(units)}); write for example {example}")
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


def _parser(parse: Callable[[Any], Any], parsed: type) -> BeforeValidator:
    # A default, or a value that code gives, is already parsed (seconds, bytes, share); what stands in a file always carries its unit.
    return BeforeValidator(lambda v, info: v if isinstance(v, parsed) and _folder(info) is None else parse(v))


Duration = Annotated[float, _parser(parse_duration, float), _schema(r"^\d+(\.\d+)?\s*(ms|s|min|h|d|y)$", "250ms")]
Size = Annotated[int, _parser(parse_size, int), _schema(r"^\d+(\.\d+)?\s*(kB|MB|GB|TB)$", "2GB")]
Share = Annotated[float, _parser(parse_share, float), _schema(r"^\d+(\.\d+)?\s*%$", "10%")]


def _beside_the_file(value: str, info: ValidationInfo) -> str:
    folder = _folder(info)
    return value if folder is None else str(Path(folder) / value)


class OnDisk:
    """Marks a setting that names a file, so that `lineside check` can look whether it is there."""


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_beside_the_file), OnDisk()]
"""A file; a relative path counts from the folder of the configuration file that names it."""

FolderPath = Annotated[str, Field(min_length=1), AfterValidator(_beside_the_file)]
"""A folder, relative like a file; it may be on a share that is not there yet, so nobody looks for it before its link opens."""


class Secret(Settings):
    """Where a secret is kept; it is read when its link is opened, never stored in the file."""

    credential: str | None = Field(default=None, min_length=1)
    file: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _never_inline(cls, value: Any) -> Any:
        if isinstance(value, str | int | float):
            raise ValueError("a secret is never written in the file; write {credential: NAME} or {file: PATH}")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.credential is None) == (self.file is None):
            raise ValueError("a secret has exactly one place; write {credential: NAME} or {file: PATH}")
        return self


class DeviceSettings(Settings):
    """What every device has, whatever its driver. `recorded`: its source times are authoritative, it is a recording and no machine."""

    recorded: ClassVar[bool] = False

    interval: Duration = 1.0
    timeout: Duration = 1.0

    @property
    def shared_line(self) -> tuple[str, str] | None:
        """(line, how it is set up): what devices of the same line share, and must agree on; None: it shares nothing."""
        return None

    @model_validator(mode="after")
    def _paced(self) -> Self:
        for field in ("interval", "timeout"):
            if getattr(self, field) < 0.01:
                raise FieldError("it is shorter than 10ms; write 10ms or more, for example 250ms", field)
        return self


IntegerType = Literal["uint16", "int16", "uint32", "int32", "uint64", "int64"]

COUNTER_TYPES: dict[str, tuple[int, bool]] = {
    "uint16": (16, False), "int16": (16, True),
    "uint32": (32, False), "int32": (32, True),
    "uint64": (64, False), "int64": (64, True),
}  # fmt: skip
"""Integer type -> bits and whether it is signed: where a counter of this type rolls over."""


Number = Annotated[float, Field(allow_inf_nan=False)]


def _valid(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    low, dots, high = value.partition("..")
    if not dots:
        raise ValueError("it is no range; write for example [0, 1000], in a spreadsheet 0..1000")
    return low.strip(), high.strip()


Range = Annotated[tuple[Number, Number], BeforeValidator(_valid)]
"""Lowest and highest number; in the one cell of a spreadsheet `0..1000`."""


class TagSettings(Settings):
    """What every tag has, whatever its driver.

    `deadband`: changes of a number smaller than this are not reported, in the tag's unit.
    `invert`: swaps the sense of a bit (a number counts as true unless it is 0).
    `valid`: lowest and highest number that can be true, in the tag's unit; one beyond is bad, and is not written.
    """

    unit: str | None = None
    deadband: float = Field(default=0.0, ge=0.0)
    invert: bool = False
    writable: bool = False
    valid: Range | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.valid is not None and self.valid[0] > self.valid[1]:
            raise FieldError("the lowest valid value is above the highest one; exchange them", "valid")
        return self


def picked_bits(bit: int | None, bits: str | None) -> tuple[int, int] | None:
    """(lowest bit, count) of `bit: 4` or `bits: 4-7`; None: the whole value."""
    if bit is not None:
        return bit, 1
    if bits is None:
        return None
    low, high = sorted(int(end) for end in bits.split("-"))
    return low, high - low + 1
