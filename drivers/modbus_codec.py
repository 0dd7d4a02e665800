"""Registers to values: which requests to make, and one compiled decode per reply.

This is the hot path of a Modbus device. A block is compiled once: a gather that puts the registers of its points in value order, one
`struct` pack and one unpack, and short lists of what is left to do (bits, scale). Nothing is looked up and nothing is called per tag.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter

from drivers.base import Value

REGISTER_TABLES = ("holding", "input")
BIT_TABLES = ("coil", "discrete")

TYPES: dict[str, tuple[int, str]] = {
    "uint16": (1, "H"), "int16": (1, "h"),
    "uint32": (2, "I"), "int32": (2, "i"),
    "uint64": (4, "Q"), "int64": (4, "q"),
    "float32": (2, "f"), "float64": (4, "d"),
    "bool": (1, "H"),
}  # fmt: skip
"""Type -> registers and struct code."""

# Protocol limits of one read request (Modbus application protocol v1.1b3, 6.1 and 6.3).
MAX_REGISTERS = 125
MAX_BITS = 2000

# A request costs far more than a few registers nobody asked for.
MAX_GAP_REGISTERS = 8
MAX_GAP_BITS = 128


@dataclass(frozen=True, slots=True)
class Point:
    """Where one tag lives and how its value is made of it.

    `order`: the bytes of a value ABCD as they come over the wire. `bits`: (lowest bit, count) within one 16-bit register.
    The value is raw * `scale` + `offset`, exact as long as it fits a float.
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

    @property
    def width(self) -> int:
        """Registers, or bits of a bit table, that it covers."""
        return 1 if self.table in BIT_TABLES else TYPES[self.type][0]

    @property
    def end(self) -> int:
        return self.address + self.width


def _fraction(point: Point) -> tuple[int, int, int]:
    """scale and offset as (numerator, offset, denominator): value = (raw * numerator + offset) / denominator.

    One division, so that 123 * 0.1 is 12.3 and not 12.300000000000001.
    """
    denominator = 10 ** max(0, *(-int(d.normalize().as_tuple().exponent) for d in (point.scale, point.offset)))
    return int(point.scale * denominator), int(point.offset * denominator), denominator


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
            codes += TYPES[point.type][1]
        if not positions:
            return None
        pack = struct.Struct(f"{'<' if swapped else '>'}{len(indices)}H")
        return cls(tuple(positions), _gather(indices, block.count), pack, struct.Struct(">" + codes))

    def numbers(self, registers: Sequence[int]) -> tuple[int | float, ...]:
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
        self._floats = tuple(i for i, p in places if not self._is_bits and p.type in ("float32", "float64"))
        self._scaled = tuple((i, *_fraction(p)) for i, p in places if p.scale != 1 or p.offset != 0)
        self._booleans = tuple((i, p.invert) for i, p in places if p.type == "bool" or p.invert)

    def decode(self, reply: Sequence[int]) -> tuple[list[Value], dict[int, str]]:
        """`reply`: exactly `count` registers (0..65535) or bits. Returns the values, None where the place is in the second part:
        position -> what is wrong with it.
        """
        values: list[Value]
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

    def _finish(self, values: list[Value], faults: dict[int, str]) -> None:
        # Only numbers of the kind that each list was compiled for stand at its places.
        for i, shift, mask in self._bits:
            values[i] = (values[i] >> shift) & mask  # type: ignore[operator]
        for i in self._floats:
            number = values[i]
            if number - number != 0.0:  # type: ignore[operator]
                faults[i] = "not a number" if number != number else "infinite"
                values[i] = None
        for i, numerator, offset, denominator in self._scaled:
            if values[i] is not None:
                scaled = values[i] * numerator + offset  # type: ignore[operator]
                values[i] = scaled if denominator == 1 else scaled / denominator
        for i, invert in self._booleans:
            if values[i] is not None:
                values[i] = (not values[i]) if invert else bool(values[i])


def plan(points: Iterable[Point], *, max_gap: int | None = None) -> list[Block]:
    """The fewest requests that read `points` without ever splitting a value. `max_gap`: unasked registers or bits read along
    (None: the usual), 0 for devices that refuse holes."""
    blocks: list[Block] = []
    open_: list[Point] = []
    end = 0
    for point in sorted(points, key=lambda p: (p.table, p.address, p.end)):
        is_bit = point.table in BIT_TABLES
        gap = max_gap if max_gap is not None else MAX_GAP_BITS if is_bit else MAX_GAP_REGISTERS
        limit = MAX_BITS if is_bit else MAX_REGISTERS
        first = open_[0] if open_ else None
        if first and (first.table != point.table or point.address - end > gap or max(end, point.end) - first.address > limit):
            blocks.append(Block(open_))
            open_, end = [], 0
        open_.append(point)
        end = max(end, point.end)
    if open_:
        blocks.append(Block(open_))
    return blocks


def split(block: Block) -> list[Block]:
    """A block the device refuses, in smaller ones: at its holes first, else in halves; a single point cannot be split."""
    if len(block.points) == 1:
        return []
    parts = plan(block.points, max_gap=0)
    if len(parts) > 1:
        return parts
    middle = len(block.points) // 2
    return [Block(block.points[:middle]), Block(block.points[middle:])]


def encode(point: Point, value: Value) -> list[int]:
    """A value as the registers to write, scale and offset undone, rounded to the type's step. Raises ValueError: it does not fit."""
    if point.bits is not None:
        raise ValueError("a bit of a register cannot be written alone")
    if value is None or isinstance(value, str):
        raise ValueError(f"{value!r} is no number")
    if point.invert:
        value = not value
    raw = (Decimal(str(float(value) if isinstance(value, float) else int(value))) - point.offset) / point.scale
    width, code = TYPES[point.type]
    number = float(raw) if code in "fd" else int(raw.to_integral_value()) if raw.is_finite() else None
    if number is None or (point.type == "bool" and number not in (0, 1)):
        raise ValueError(f"{value!r} is out of range of {point.type}")
    try:
        wire = struct.pack(">" + code, number)
    except (struct.error, OverflowError):
        raise ValueError(f"{value!r} is out of range of {point.type}") from None
    swapped = point.order in ("BADC", "DCBA")
    registers = list(struct.unpack(f"{'<' if swapped else '>'}{width}H", wire))
    return registers[::-1] if point.order in ("CDAB", "DCBA") else registers
