"""Settings of a Modbus device. Apart from the driver, so that a configuration is read without loading the protocol stack."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, model_validator

from drivers.modbus_codec import BIT_TABLES, TYPES, Point
from drivers.settings import COUNTER_TYPES, DeviceSettings, FieldError, Name, TagSettings

Register = Field(default=None, ge=0, le=65535)

FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
"""Table -> function code of its read request."""

_SERIAL_OPTIONS = {"baudrate": r"\d{3,7}", "parity": "[NEO]", "stopbits": "[12]", "bytesize": "[78]"}


class ModbusTag(TagSettings):
    """One tag: exactly one of holding, input, coil, discrete with its zero-based address.

    `order`: how the bytes ABCD of a value come over the wire. `bit` 0..15 or `bits` "4-7" pick bits of a 16-bit register.
    The value is raw * `scale` + `offset`.
    """

    holding: int | None = Register
    input: int | None = Register
    coil: int | None = Register
    discrete: int | None = Register
    type: Literal["uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "bool"] | None = None
    order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = "ABCD"
    bit: int | None = Field(default=None, ge=0, le=15)
    bits: str | None = Field(default=None, pattern=r"^(\d|1[0-5])-(\d|1[0-5])$")
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
        if self.bit is not None:
            return self.bit, 1
        if self.bits is None:
            return None
        low, high = sorted(int(end) for end in self.bits.split("-"))
        return low, high - low + 1

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
        for field, usual in (("bit", None), ("bits", None), ("scale", 1), ("offset", 0), ("order", "ABCD")):
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
        end = self.address + TYPES[self.value_type][0] - 1
        if end > 65535:
            raise FieldError(f"{self.value_type} at {self.address} ends at register {end}; the last one is 65535", self.table)
        if self.writable and self.table == "input":
            raise FieldError("an input register cannot be written; remove writable or name a holding register", "writable")

    def point(self, name: str) -> Point:
        value_type = "uint16" if self.bits is not None else self.value_type
        return Point(
            name, self.table, self.address, value_type, self.order, self.bit_range, self.scale, self.offset, self.invert,
        )  # fmt: skip


class ModbusSettings(DeviceSettings):
    """A Modbus device: `tcp://host[:502]`, or `rtu:///dev/ttyUSB0?baudrate=19200&parity=E`."""

    driver: Literal["modbus"]
    url: str
    unit_id: int = Field(default=1, ge=0, le=255)
    tags: dict[Name, ModbusTag] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_url()
        places: dict[tuple[str, int, tuple[int, int] | None], str] = {}
        for name, tag in self.tags.items():
            place = (tag.table, tag.address, tag.bit_range)
            other = places.setdefault(place, name)
            if other != name:
                raise FieldError(
                    f"tags {other} and {name} read the same register, {tag.table} {tag.address}; correct the address or remove one",
                    "tags", name, tag.table,
                )  # fmt: skip
        return self

    def _check_url(self) -> None:
        example = "write tcp://192.168.10.22:502 or rtu:///dev/ttyUSB0?baudrate=19200&parity=E"
        url = urlsplit(self.url)
        try:
            port = url.port
        except ValueError:
            raise FieldError(f"{self.url!r} has no usable port; {example}", "url") from None
        if url.scheme == "tcp":
            if not url.hostname or url.path not in ("", "/") or url.query or port == 0:
                raise FieldError(f"{self.url!r} is no address of a Modbus TCP device; {example}", "url")
        elif url.scheme == "rtu":
            options = dict(parse_qsl(url.query, keep_blank_values=True))
            wrong = [k for k, v in options.items() if k not in _SERIAL_OPTIONS or not re.fullmatch(_SERIAL_OPTIONS[k], v)]
            if url.netloc or len(url.path) < 2 or wrong:
                raise FieldError(f"{self.url!r} is no serial line{f' (see {wrong[0]})' if wrong else ''}; {example}", "url")
        else:
            raise FieldError(f"{self.url!r} is no Modbus address; {example}", "url")

    @property
    def peer(self) -> str:
        url = urlsplit(self.url)
        unit = "" if self.unit_id in (0, 1, 255) else f" unit {self.unit_id}"
        return (f"Modbus {url.hostname}:{url.port or 502}" if url.scheme == "tcp" else f"Modbus {url.path}") + unit

    def counter_type(self, tag: str) -> tuple[int, bool] | None:
        """(bits, signed) of an integer tag as the device counts it; None: not a whole raw integer, a decrease means a reset."""
        found = self.tags[tag]
        if found.bit_range is not None or (found.scale, found.offset) != (Decimal(1), Decimal(0)):
            return None
        return COUNTER_TYPES.get(found.value_type)
