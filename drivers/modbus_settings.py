"""Settings of a Modbus device. Apart from the driver, so that a configuration is read without loading the protocol stack."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from drivers.modbus_address import Address, parse_address, parse_range
from drivers.modbus_codec import BIT_TABLES, MAX_BITS, MAX_GAP, MAX_REGISTERS, MAX_WRITTEN_REGISTERS, Limits, Point
from drivers.settings import COUNTER_TYPES, DeviceSettings, Duration, FieldError, Name, TagSettings, picked_bits

Register = Field(default=None, ge=0, le=65535)

FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
"""Table -> function code of its read request."""


_BITS = r"^(\d|1[0-5])-(\d|1[0-5])$"


def _check_bits(bits: str) -> str:
    if re.fullmatch(_BITS, bits) is None:
        raise ValueError(
            f"{bits!r} is no range of bits 0 to 15; write the lowest and the highest, for example 4-7, or bit: 4 for a single one"
        )
    return bits


class ModbusTag(TagSettings):
    """One tag: exactly one of holding, input, coil, discrete with its zero-based address.

    `order`: how the bytes ABCD of a value come over the wire. `bit` 0..15 or `bits` "4-7" pick bits of a 16-bit register.
    The value is raw * `scale` + `offset`. `length`: characters of a string, two in a register.
    """

    holding: int | None = Register
    input: int | None = Register
    coil: int | None = Register
    discrete: int | None = Register
    type: (
        Literal["uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "bcd16", "bcd32", "string", "bool"] | None
    ) = None
    length: int | None = Field(default=None, ge=1, le=2 * MAX_REGISTERS)
    order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = "ABCD"
    bit: int | None = Field(default=None, ge=0, le=15)
    bits: Annotated[str, AfterValidator(_check_bits), WithJsonSchema({"pattern": _BITS, "type": "string"})] | None = None
    scale: Decimal = Field(default=Decimal(1), allow_inf_nan=False)
    offset: Decimal = Field(default=Decimal(0), allow_inf_nan=False)

    @property
    def table(self) -> str:
        return next(table for table in FUNCTIONS if getattr(self, table) is not None)

    @property
    def address(self) -> int:
        address: int = getattr(self, self.table)
        return address

    @property
    def value_type(self) -> str:
        """`type`, or what follows from the rest: bool for a bit, uint16 for a register."""
        return self.type or ("bool" if self.table in BIT_TABLES or self.bit is not None else "uint16")

    @property
    def bit_range(self) -> tuple[int, int] | None:
        """(lowest bit, count); None: the whole value."""
        return picked_bits(self.bit, self.bits)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        tables = [table for table in FUNCTIONS if getattr(self, table) is not None]
        if len(tables) != 1:
            found = " and ".join(tables) if tables else "none"
            raise FieldError(
                f"a tag reads exactly one register, here {found}; write one of holding, input, coil, discrete with its zero-based address",
                *tables[1:2],
            )
        if self.scale == 0:
            raise FieldError("a scale of 0 makes every value the same; write the value of one step, for example 0.1", "scale")
        if self.table in BIT_TABLES:
            self._check_bit_table()
        else:
            self._check_register()
        return self

    def _check_bit_table(self) -> None:
        for field, usual in (
            ("bit", None), ("bits", None), ("scale", 1), ("offset", 0), ("order", "ABCD"), ("length", None), ("valid", None),
        ):  # fmt: skip
            if getattr(self, field) != usual:
                raise FieldError(f"a {self.table} is one bit and has no {field}; remove {field}", field)
        if self.type not in (None, "bool"):
            raise FieldError(f"a {self.table} is one bit and cannot be {self.type}; remove type", "type")
        if self.writable and self.table == "discrete":
            raise FieldError("a discrete input cannot be written; remove writable or name a coil", "writable")

    def _check_register(self) -> None:
        if self.bit is not None and self.bits is not None:
            raise FieldError("bit and bits exclude each other; keep one", "bits")
        field = "bit" if self.bit is not None else "bits"
        if self.bit_range is not None and self.type not in (None, "uint16", "int16", "bool"):
            raise FieldError(f"{field} picks from a 16-bit register, not from {self.type}; remove type", field)
        if self.bit_range is not None and self.writable:
            raise FieldError(f"a tag with {field} cannot be written; remove writable", "writable")
        if (self.bit_range is not None or self.value_type == "bool") and (self.scale, self.offset) != (Decimal(1), Decimal(0)):
            raise FieldError("bits are not scaled; remove scale and offset", "scale")
        if self.valid is not None and self.value_type == "bool":
            raise FieldError("a bit has no valid range; remove valid", "valid")
        self._check_text()
        end = self.point("").end - 1
        if end > 65535:
            raise FieldError(f"{self.value_type} at {self.address} ends at register {end}; the last one is 65535", self.table)
        if self.writable and self.table == "input":
            raise FieldError("an input register cannot be written; remove writable or name a holding register", "writable")
        if self.writable and self.point("").width > MAX_WRITTEN_REGISTERS:
            longest = 2 * MAX_WRITTEN_REGISTERS
            raise FieldError(f"one request writes at most {longest} characters; remove writable or shorten length", "length")

    def _check_text(self) -> None:
        if self.type != "string":
            if self.length is not None:
                raise FieldError("only a string has a length; remove length or write type: string", "length")
            return
        if self.length is None:
            raise FieldError("a string needs its length in characters; write for example length: 16", "type")
        if self.order not in ("ABCD", "BADC"):
            raise FieldError("a string has order ABCD or BADC (the two characters of a register exchanged); write one of them", "order")
        for field, usual in (("scale", 1), ("offset", 0), ("valid", None), ("invert", False)):
            if getattr(self, field) != usual:
                raise FieldError(f"a string has no {field}; remove {field}", field)

    def point(self, name: str) -> Point:
        value_type = "uint16" if self.bits is not None else self.value_type
        return Point(
            name, self.table, self.address, value_type, self.order, self.bit_range, self.scale, self.offset, self.invert, self.valid,
            self.length or 0,
        )  # fmt: skip


def _range(text: str) -> str:
    parse_range(text)
    return text


class ModbusSettings(DeviceSettings):
    """A Modbus device: `tcp://host[:502]`, `rtu+tcp://host:port`, or `rtu:///dev/ttyUSB0?baudrate=19200&parity=E`.

    `pause`: seconds between two requests. `max_gap`, `max_registers`, `max_bits`, `forbidden`: what one request may cover.
    `write: multiple`: functions 15 and 16 also for a single value. `connections`: requests under way at the same time.
    """

    driver: Literal["modbus"]
    url: str
    unit_id: int = Field(default=1, ge=0, le=255)
    pause: Duration = 0.0
    max_gap: int = Field(default=MAX_GAP, ge=0, le=MAX_REGISTERS)
    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS)
    max_bits: int = Field(default=MAX_BITS, ge=1, le=MAX_BITS)
    forbidden: tuple[Annotated[str, AfterValidator(_range)], ...] = ()
    write: Literal["auto", "multiple"] = "auto"
    connections: int = Field(default=1, ge=1, le=8)
    tags: dict[Name, ModbusTag] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            address = parse_address(self.url)
        except ValueError as error:
            raise FieldError(str(error), "url") from None
        if address.is_rtu and self.unit_id == 0:
            raise FieldError("unit 0 is the broadcast of a serial line and never answers; write the unit's own number", "unit_id")
        if address.is_rtu and self.connections > 1:
            raise FieldError("a serial line carries one request at a time; remove connections", "connections")
        points = [tag.point(name) for name, tag in self.tags.items()]
        self._check_places(points)
        self._check_overlaps(points)
        self._check_limits(points)
        return self

    def _check_places(self, points: list[Point]) -> None:
        places: dict[tuple[str, int, tuple[int, int] | None], str] = {}
        for point in points:
            other = places.setdefault((point.table, point.address, point.bits), point.tag)
            if other != point.tag:
                raise FieldError(
                    f"tags {other} and {point.tag} read the same register, {point.table} {point.address}; "
                    "correct the address or remove one",
                    "tags", point.tag, point.table,
                )  # fmt: skip

    def _check_overlaps(self, points: list[Point]) -> None:
        # Bits may be picked from any register; two whole values that share one are a slip in an address or a type.
        whole = sorted((point for point in points if point.bits is None), key=lambda p: (p.table, p.address))
        for one, other in pairwise(whole):
            if one.table == other.table and other.address < one.end:
                raise FieldError(
                    f"tags {one.tag} ({_shown(one)}) and {other.tag} ({_shown(other)}) overlap; correct the address or the type of one",
                    "tags", other.tag, other.table,
                )  # fmt: skip

    def _check_limits(self, points: list[Point]) -> None:
        forbidden = self.limits.forbidden
        for point in points:
            for text, (table, low, high) in zip(self.forbidden, forbidden, strict=True):
                if point.table == table and point.address <= high and low < point.end:
                    raise FieldError(
                        f"tag {point.tag} ({_shown(point)}) lies in the forbidden range {text}; correct one of them",
                        "tags", point.tag, point.table,
                    )  # fmt: skip
            if point.table not in BIT_TABLES and point.width > self.max_registers:
                raise FieldError(
                    f"tag {point.tag} needs {point.width} registers in one request and max_registers is {self.max_registers}; raise it",
                    "max_registers",
                )

    @cached_property
    def address(self) -> Address:
        return parse_address(self.url)

    @cached_property
    def limits(self) -> Limits:
        return Limits(self.max_gap, self.max_registers, self.max_bits, tuple(parse_range(text) for text in self.forbidden))

    @property
    def shared_line(self) -> tuple[str, str]:
        return self.address.line, self.address.how

    @property
    def peer(self) -> str:
        unit = "" if self.unit_id in (0, 1, 255) and not self.address.is_rtu else f" unit {self.unit_id}"
        return f"Modbus {self.address.shown}{unit}"

    def counter_type(self, tag: str) -> tuple[int, bool] | None:
        """(bits, signed) of an integer tag as the device counts it; None: not a whole raw integer, a decrease means a reset."""
        found = self.tags[tag]
        if found.bit_range is not None or (found.scale, found.offset) != (Decimal(1), Decimal(0)):
            return None
        return COUNTER_TYPES.get(found.value_type)


def _shown(point: Point) -> str:
    return f"{point.table} {point.address}" + (f"-{point.end - 1}" if point.width > 1 else "")
