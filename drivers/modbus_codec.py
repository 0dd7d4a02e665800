"""Registers to values: which requests to make, and one compiled decode per reply.

This is the hot path of a Modbus device. A block is compiled once: a gather that puts the registers of its points in value order, one
`struct` pack and one unpack, and short lists of what is left to do (bits, scale). Nothing is looked up and nothing is called per tag.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from operator import itemgetter
from typing import Any

from drivers.base import Value
from drivers.values import carried, outside

REGISTER_TABLES = ("holding", "input")
BIT_TABLES = ("coil", "discrete")

TYPES: dict[str, tuple[int, str]] = {
    "uint16": (1, "H"), "int16": (1, "h"),
    "uint32": (2, "I"), "int32": (2, "i"),
    "uint64": (4, "Q"), "int64": (4, "q"),
    "float32": (2, "f"), "float64": (4, "d"),
    "bcd16": (1, "H"), "bcd32": (2, "I"),
    "bool": (1, "H"),
}  # fmt: skip
"""Type -> registers and struct code. A `string` has as many registers as its length needs."""

# Protocol limits of one request (Modbus application protocol v1.1b3, 6.1, 6.3 and 6.12).
MAX_REGISTERS = 125
MAX_BITS = 2000
MAX_WRITTEN_REGISTERS = 123

# A request costs far more than a few registers nobody asked for.
MAX_GAP = 8


@dataclass(frozen=True, slots=True)
class Point:
    """Where one tag lives and how its value is made of it.

    `order`: the bytes of a value ABCD as they come over the wire. `bits`: (lowest bit, count) within one 16-bit register.
    The value is raw * `scale` + `offset`, exact as long as it fits a float. `valid`: lowest and highest value, in the tag's unit.
    `length`: bytes of a string, two in a register, the first one in the high half (order BADC: in the low half).
    """

    tag: str
    table: str
    address: int
    type: str
    order: str = "ABCD"
    bits: tuple[int, int] | None = None
    scale: Decimal = Decimal(1)
    offset: Decimal = Decimal(0)
    invert: bool = False
    valid: tuple[float, float] | None = None
    length: int = 0

    @property
    def width(self) -> int:
        """Registers, or bits of a bit table, that it covers."""
        return 1 if self.table in BIT_TABLES else (self.length + 1) // 2 if self.type == "string" else TYPES[self.type][0]

    @property
    def code(self) -> str:
        """What `struct` makes of its bytes ABCD."""
        return f"{2 * self.width}s" if self.type == "string" else TYPES[self.type][1]

    @property
    def end(self) -> int:
        return self.address + self.width


def _fraction(point: Point) -> tuple[int, int, int]:
    """scale and offset as (numerator, offset, denominator): value = (raw * numerator + offset) / denominator.

    One division, so that 123 * 0.1 is 12.3 and not 12.300000000000001.
    """
    denominator = 10 ** max(0, *(-int(d.normalize().as_tuple().exponent) for d in (point.scale, point.offset)))
    return int(point.scale * denominator), int(point.offset * denominator), denominator


_MOST = {"float32": 2**128, "float64": int(sys.float_info.max), "bcd16": 9999, "bcd32": 99_999_999}
"""Type -> the largest magnitude it holds; of the others by their bits."""


def _may_overflow(point: Point, numerator: int, offset: int, denominator: int) -> bool:
    """Whether some raw value of this type, scaled, is more than a message carries: 64 bits of an integer, or a finite float."""
    is_real = point.type in ("float32", "float64")
    most = _MOST.get(point.type) or 1 << 16 * point.width
    reached = most * abs(numerator) + abs(offset)
    if denominator == 1 and not is_real:
        return reached >= 1 << 63
    return max(reached, denominator) > sys.float_info.max


def _scaled(raw: float, numerator: int, offset: int, denominator: int) -> int | float | None:
    try:
        whole = raw * numerator + offset
        return carried(whole if denominator == 1 else whole / denominator)
    except OverflowError:
        return None


Gather = Callable[[Sequence[int]], Sequence[int]]


def _gather(indices: list[int], count: int) -> Gather | None:
    """Picks `indices` of a reply of `count` elements; None: the reply as it is."""
    if indices == list(range(count)):
        return None
    if len(indices) == 1:
        only = indices[0]
        return lambda reply: (reply[only],)
    return itemgetter(*indices)


@dataclass(frozen=True, slots=True)
class _Lane:
    """The points of a block that share the byte order within a register, decoded by one pack and one unpack."""

    positions: tuple[int, ...]
    gather: Gather | None
    pack: struct.Struct
    unpack: struct.Struct

    @classmethod
    def compile(cls, block: Block, *, swapped: bool) -> _Lane | None:
        positions: list[int] = []
        indices: list[int] = []
        codes = ""
        for position, point in enumerate(block.points):
            if (point.order in ("BADC", "DCBA")) is not swapped:
                continue
            start = point.address - block.address
            registers = range(start, start + point.width)
            indices += reversed(registers) if point.order in ("CDAB", "DCBA") else registers
            positions.append(position)
            codes += point.code
        if not positions:
            return None
        pack = struct.Struct(f"{'<' if swapped else '>'}{len(indices)}H")
        return cls(tuple(positions), _gather(indices, block.count), pack, struct.Struct(">" + codes))

    def numbers(self, registers: Sequence[int]) -> tuple[int | float | bytes, ...]:
        return self.unpack.unpack(self.pack.pack(*(registers if self.gather is None else self.gather(registers))))


class Block:
    """One read request and its compiled decode. `points` in ascending address; `decode` gives their values in that order."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = tuple(points)
        self.tags = tuple(point.tag for point in points)
        self.table = points[0].table
        self.address = points[0].address
        self.count = max(point.end for point in points) - self.address
        self._compile()

    def __repr__(self) -> str:
        return f"Block({self.table} {self.address}+{self.count}: {', '.join(point.tag for point in self.points)})"

    def _compile(self) -> None:
        places = list(enumerate(self.points))
        self._is_bits = self.table in BIT_TABLES
        self._pick = _gather([point.address - self.address for point in self.points], self.count) if self._is_bits else None
        lanes = () if self._is_bits else (_Lane.compile(self, swapped=False), _Lane.compile(self, swapped=True))
        self._lanes = tuple(lane for lane in lanes if lane is not None)
        self._bits = tuple((i, p.bits[0], (1 << p.bits[1]) - 1) for i, p in places if p.bits is not None)
        self._texts = tuple((i, p.length) for i, p in places if p.type == "string")
        self._decimals = tuple(i for i, p in places if p.type in ("bcd16", "bcd32"))
        self._floats = tuple(i for i, p in places if not self._is_bits and p.type in ("float32", "float64"))
        scaled = [(i, *_fraction(p)) for i, p in places if p.scale != 1 or p.offset != 0]
        self._wide = tuple(one for one in scaled if _may_overflow(self.points[one[0]], *one[1:]))
        self._scaled = tuple(one for one in scaled if one not in self._wide)
        self._booleans = tuple((i, p.invert) for i, p in places if p.type == "bool" or p.invert)
        self._valid = tuple((i, p.valid) for i, p in places if p.valid is not None)

    def decode(self, reply: Sequence[int]) -> tuple[list[Value], dict[int, str]]:
        """`reply`: exactly `count` registers (0..65535) or bits. Returns the values, None where the place is in the second part:
        position -> what is wrong with it.
        """
        values: list[Any]
        if self._is_bits:
            values = list(reply if self._pick is None else self._pick(reply))
        elif len(self._lanes) == 1:
            values = list(self._lanes[0].numbers(reply))
        else:
            values = [None] * len(self.points)
            for lane in self._lanes:
                for position, number in zip(lane.positions, lane.numbers(reply), strict=True):
                    values[position] = number
        faults: dict[int, str] = {}
        self._finish(values, faults)
        return values, faults

    def _finish(self, values: list[Any], faults: dict[int, str]) -> None:
        # Only what each list was compiled for stands at its places.
        for i, shift, mask in self._bits:
            values[i] = (values[i] >> shift) & mask
        for i, length in self._texts:
            values[i] = _text(values[i][:length])
            if values[i] is None:
                faults[i] = "no text: it has control characters"
        for i in self._decimals:
            raw = values[i]
            try:
                values[i] = int(f"{raw:x}")
            except ValueError:
                faults[i] = f"no BCD: 0x{raw:X}"
                values[i] = None
        for i in self._floats:
            number = values[i]
            if number - number != 0.0:
                faults[i] = "not a number" if number != number else "infinite"
                values[i] = None
        for i, numerator, offset, denominator in self._scaled:
            if values[i] is not None:
                scaled = values[i] * numerator + offset
                values[i] = scaled if denominator == 1 else scaled / denominator
        for i, numerator, offset, denominator in self._wide:
            if values[i] is not None:
                values[i] = _scaled(values[i], numerator, offset, denominator)
                if values[i] is None:
                    faults[i] = "too large for a number"
        for i, invert in self._booleans:
            if values[i] is not None:
                values[i] = (not values[i]) if invert else bool(values[i])
        for i, valid in self._valid:
            if values[i] is not None and (detail := outside(values[i], valid)):
                faults[i] = detail
                values[i] = None


def _text(raw: bytes) -> str | None:
    """Up to the first NUL, without white space at its end; UTF-8, else Latin-1. None: no text."""
    raw = raw.split(b"\0", 1)[0].rstrip()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return None if any(char < " " or "\x7f" <= char <= "\x9f" for char in text) else text


@dataclass(frozen=True, slots=True)
class Limits:
    """What one read request may cover.

    `max_gap`: registers that nobody asked for, read along between two values (bits of a bit table: 16 times as many); 0 for devices
    that refuse holes. `forbidden`: (table, first, last) that is never read.
    """

    max_gap: int = MAX_GAP
    max_registers: int = MAX_REGISTERS
    max_bits: int = MAX_BITS
    forbidden: tuple[tuple[str, int, int], ...] = ()

    def joins(self, block: Sequence[Point], end: int, point: Point) -> bool:
        """Whether `point` may be read by the request of `block`, which covers everything up to `end` (exclusive)."""
        first = block[0]
        is_bits = point.table in BIT_TABLES
        if first.table != point.table or max(end, point.end) - first.address > (self.max_bits if is_bits else self.max_registers):
            return False
        gap = point.address - end
        if gap > self.max_gap * (16 if is_bits else 1):
            return False
        return gap <= 0 or not any(t == point.table and low < point.address and high >= end for t, low, high in self.forbidden)


def plan(points: Iterable[Point], limits: Limits = Limits()) -> list[Block]:
    """The fewest requests that read `points` without ever splitting a value."""
    blocks: list[Block] = []
    open_: list[Point] = []
    end = 0
    for point in sorted(points, key=lambda p: (p.table, p.address, p.end)):
        if open_ and not limits.joins(open_, end, point):
            blocks.append(Block(open_))
            open_, end = [], 0
        open_.append(point)
        end = max(end, point.end)
    if open_:
        blocks.append(Block(open_))
    return blocks


def split(block: Block, limits: Limits = Limits()) -> list[Block]:
    """A block the device refuses, in smaller ones: at its holes first, else in halves; a single point cannot be split."""
    if len(block.points) == 1:
        return []
    parts = plan(block.points, replace(limits, max_gap=0))
    if len(parts) > 1:
        return parts
    middle = len(block.points) // 2
    return [Block(block.points[:middle]), Block(block.points[middle:])]


_HAIR = Decimal("1e-9")


def encode(point: Point, value: Value) -> list[int]:
    """A value as the registers to write (a coil: 0 or 1), scale and offset undone.

    Raises ValueError: it does not fit.
    """
    if point.bits is not None:
        raise ValueError("a bit of a register cannot be written alone")
    wire = _encode_text(point, value) if point.type == "string" else struct.pack(">" + point.code, _encode_number(point, value))
    swapped = point.order in ("BADC", "DCBA")
    registers = list(struct.unpack(f"{'<' if swapped else '>'}{point.width}H", wire))
    return registers[::-1] if point.order in ("CDAB", "DCBA") else registers


def _encode_text(point: Point, value: Value) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    wire = value.encode("utf-8")
    if len(wire) > point.length or _text(wire) != value:
        raise ValueError(f"{value!r} does not fit in {point.length} characters of text")
    return wire.ljust(2 * point.width, b"\0")


def _encode_number(point: Point, value: Value) -> int | float:
    if value is None or isinstance(value, str):
        raise ValueError(f"{value!r} is no number")
    if point.valid is not None and (detail := outside(value, point.valid)):
        raise ValueError(detail)
    wrong = ValueError(f"{value!r} is out of range of {point.type}")
    raw = (Decimal(str(float(value) if isinstance(value, float) else int(value))) - point.offset) / point.scale
    if not raw.is_finite():
        raise wrong
    if point.type in ("float32", "float64"):
        number: int | float = float(raw)
    else:
        number = int(raw.to_integral_value())
        # An order of 12.5 is no order of 12; a float that is a hair off its step (0.1 + 0.2) is meant as that step.
        if abs(raw - number) > _HAIR * max(1, abs(number)):
            raise ValueError(
                f"{value!r} lies between two values of {point.type}" + (f" in steps of {point.scale}" if point.scale != 1 else "")
            )
    if point.type == "bool" and number not in (0, 1):
        raise wrong
    if point.invert:
        number = int(not number)
    if point.type in ("bcd16", "bcd32"):
        if not 0 <= number < 10 ** (4 * point.width):
            raise wrong
        number = int(str(number), 16)
    try:
        struct.pack(">" + point.code, number)
    except (struct.error, OverflowError):
        raise wrong from None
    return number
