"""Golden vectors, planning and splitting of Modbus blocks."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Value
from drivers.modbus_codec import MAX_REGISTERS, TYPES, Block, Limits, Point, encode, plan, split


def one(registers: list[int], **how: object) -> Value:
    point = Point(**{"tag": "t", "table": "holding", "address": 0, "type": "uint16"} | how)  # type: ignore[arg-type]
    values, faults = Block([point]).decode(registers)
    assert faults == {}
    return values[0]


@pytest.mark.parametrize(
    ("registers", "how", "value"),
    [
        ([0x0001, 0x0002], {"type": "uint32", "order": "ABCD"}, 65538),
        ([0x0001, 0x0002], {"type": "uint32", "order": "CDAB"}, 131073),
        ([0x0001, 0x0002], {"type": "uint32", "order": "BADC"}, 0x01000200),
        ([0x0001, 0x0002], {"type": "uint32", "order": "DCBA"}, 0x02000100),
        ([0x3FC0, 0x0000], {"type": "float32", "order": "ABCD"}, 1.5),
        ([0x0000, 0x3FC0], {"type": "float32", "order": "CDAB"}, 1.5),
        ([0xC03F, 0x0000], {"type": "float32", "order": "BADC"}, 1.5),
        ([0x0000, 0xC03F], {"type": "float32", "order": "DCBA"}, 1.5),
        ([0xFFFF, 0xFFFE], {"type": "int32"}, -2),
        ([0, 0, 1, 0], {"type": "uint64"}, 65536),
        ([1, 0, 0, 0], {"type": "uint64", "order": "CDAB"}, 1),
        ([0x3FF8, 0, 0, 0], {"type": "float64"}, 1.5),
        ([0xFFFF], {"type": "int16"}, -1),
        ([0x1234], {"order": "BADC"}, 0x3412),
        ([0x0008], {"bits": (3, 1), "type": "bool"}, True),
        ([0x0007], {"bits": (3, 1), "type": "bool"}, False),
        ([0x0007], {"bits": (3, 1), "type": "bool", "invert": True}, True),
        ([0x00A5], {"bits": (4, 4)}, 0xA),
        ([2], {"type": "bool"}, True),
        ([123], {"scale": Decimal("0.1")}, 12.3),
        ([3], {"scale": Decimal("0.1")}, 0.3),
        ([400], {"scale": Decimal("0.1"), "offset": Decimal("-40")}, 0.0),
        ([7], {"scale": Decimal(10), "offset": Decimal(1)}, 71),
        ([0xFFFB], {"type": "int16", "scale": Decimal("0.5")}, -2.5),
        ([0x1234], {"type": "bcd16"}, 1234),
        ([0x0012, 0x3456], {"type": "bcd32"}, 123456),
        ([0x3456, 0x0012], {"type": "bcd32", "order": "CDAB"}, 123456),
        ([0x0125], {"type": "bcd16", "scale": Decimal("0.1")}, 12.5),
        ([0x4142, 0x4320], {"type": "string", "length": 4}, "ABC"),
        ([0x4241, 0x0043], {"type": "string", "length": 4, "order": "BADC"}, "ABC"),
        ([0x4142, 0x0043], {"type": "string", "length": 4}, "AB"),
        ([0x4142, 0x4344], {"type": "string", "length": 3}, "ABC"),
        ([0xC3A9, 0x0000], {"type": "string", "length": 4}, "é"),
        ([0xE900, 0x0000], {"type": "string", "length": 4}, "é"),
        ([0x0000, 0x0000], {"type": "string", "length": 4}, ""),
        ([50], {"valid": (0, 50)}, 50),
        ([0xFFFF] * 4, {"type": "uint64"}, 2**64 - 1),
        ([0xFFFF] * 4, {"type": "uint64", "scale": Decimal(10)}, 1.8446744073709552e20),
        ([0x8000, 0, 0, 0], {"type": "int64", "scale": Decimal(10)}, -9.223372036854776e19),
        ([0, 0, 0, 7], {"type": "uint64", "scale": Decimal(10)}, 70),
        ([0, 0, 0, 7], {"type": "uint64", "scale": Decimal("0.1")}, 0.7),
        ([7], {"scale": Decimal("1e300")}, 7e300),
        ([0x00F0], {"bits": (4, 4), "valid": (0, 15)}, 15),
    ],
)
def test_golden_vectors(registers: list[int], how: dict[str, object], value: Value) -> None:
    found = one(registers, **how)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("number", "detail"), [(math.nan, "not a number"), (math.inf, "infinite"), (-math.inf, "infinite")])
def test_a_float_that_is_no_number_is_bad_and_never_zero(number: float, detail: str) -> None:
    block = Block([Point("t", "holding", 0, "float32"), Point("u", "holding", 2, "uint16", scale=Decimal("0.1"))])
    registers = [*struct.unpack(">2H", struct.pack(">f", number)), 5]
    values, faults = block.decode(registers)
    assert values == [None, 0.5]
    assert faults == {0: detail}


@pytest.mark.parametrize(
    ("registers", "how", "detail"),
    [
        ([0x12A4], {"type": "bcd16"}, "no BCD: 0x12A4"),
        ([0x4107], {"type": "string", "length": 2}, "no text: it has control characters"),
        ([51], {"valid": (0, 50)}, "51 is outside 0 to 50"),
        ([0x7FEF, 0xFFFF, 0xFFFF, 0xFFFF], {"type": "float64", "scale": Decimal(10)}, "too large for a number"),
        ([7], {"scale": Decimal("1e308")}, "too large for a number"),
        ([7], {"scale": Decimal("1e4000")}, "too large for a number"),
        ([0xFFFF], {"type": "int16", "scale": Decimal("0.1"), "valid": (0, 0.5)}, "-0.1 is outside 0 to 0.5"),
    ],
)
def test_what_is_no_value_is_bad_and_costs_no_neighbour(registers: list[int], how: dict[str, object], detail: str) -> None:
    point = Point(**{"tag": "t", "table": "holding", "address": 1, "type": "uint16"} | how)  # type: ignore[arg-type]
    block = Block([Point("a", "holding", 0, "uint16"), point, Point("z", "holding", point.end, "uint16")])
    assert block.decode([7, *registers, 8]) == ([7, None, 8], {1: detail})


def test_tags_may_share_and_overlap_registers() -> None:
    block = Block(
        [Point("a", "holding", 10, "uint32"), Point("b", "holding", 11, "uint16"), Point("c", "holding", 11, "bool", bits=(0, 1)),
         Point("d", "holding", 12, "uint32", "CDAB"), Point("e", "holding", 14, "uint32", "DCBA")]
    )  # fmt: skip
    values, _ = block.decode([1, 2, 3, 4, 0x0100, 0])
    assert values == [65538, 2, False, 4 * 65536 + 3, 1]


def test_bits_of_a_bit_table() -> None:
    block = Block([Point("a", "coil", 5, "bool"), Point("b", "coil", 7, "bool", invert=True)])
    assert (block.address, block.count) == (5, 3)
    assert block.decode([True, False, False])[0] == [True, True]


def test_neighbours_are_read_together_and_far_ones_apart() -> None:
    blocks = plan(
        [
            Point("a", "holding", 0, "uint16"),
            Point("b", "holding", 9, "uint16"),
            Point("c", "holding", 19, "uint16"),
            Point("d", "input", 0, "uint16"),
        ]
    )
    assert [(block.table, block.address, block.count) for block in blocks] == [("holding", 0, 10), ("holding", 19, 1), ("input", 0, 1)]


def test_the_largest_request_is_the_protocols() -> None:
    assert [block.count for block in plan(Point(f"t{i}", "holding", i, "uint16") for i in range(126))] == [125, 1]
    assert [block.count for block in plan(Point(f"c{i}", "coil", i, "bool") for i in range(2001))] == [2000, 1]


places = st.lists(st.tuples(st.integers(0, 400), st.sampled_from(sorted(TYPES))), min_size=1, max_size=60)


@given(places)
def test_no_value_is_ever_split_and_none_is_lost(found: list[tuple[int, str]]) -> None:
    points = [Point(f"t{i}", "holding", address, kind) for i, (address, kind) in enumerate(found)]
    blocks = plan(points)
    assert sorted(point.tag for block in blocks for point in block.points) == sorted(point.tag for point in points)
    for block in blocks:
        assert block.count <= MAX_REGISTERS
        assert all(block.address <= point.address and point.end <= block.address + block.count for point in block.points)


tables = st.sampled_from(["holding", "input", "coil", "discrete"])
limits = st.builds(
    Limits,
    max_gap=st.integers(0, 20),
    max_registers=st.integers(4, 125),
    max_bits=st.integers(1, 2000),
    forbidden=st.lists(st.tuples(tables, st.integers(0, 400), st.integers(0, 12)).map(lambda r: (r[0], r[1], r[1] + r[2])), max_size=4).map(
        tuple
    ),
)


@given(st.lists(st.tuples(tables, st.integers(0, 400), st.sampled_from(sorted(TYPES))), min_size=1, max_size=60), limits)
def test_no_request_breaks_the_limits_of_its_device(found: list[tuple[str, int, str]], limits: Limits) -> None:
    points = [
        Point(f"t{i}", table, address, "bool" if table in ("coil", "discrete") else kind) for i, (table, address, kind) in enumerate(found)
    ]
    allowed = [p for p in points if not any(t == p.table and p.address <= high and low < p.end for t, low, high in limits.forbidden)]
    blocks = plan(allowed, limits)
    assert sorted(tag for block in blocks for tag in block.tags) == sorted(point.tag for point in allowed)
    parts = [part for whole in blocks for part in split(whole, limits)]
    for block in blocks + parts:
        is_bits = block.table in ("coil", "discrete")
        assert block.count <= (limits.max_bits if is_bits else limits.max_registers)
        end = block.address + block.count
        assert not any(t == block.table and block.address <= high and low < end for t, low, high in limits.forbidden)
        covered = {address for point in block.points for address in range(point.address, point.end)}
        gap = longest = 0
        for address in range(block.address, end):
            gap = 0 if address in covered else gap + 1
            longest = max(longest, gap)
        assert longest <= limits.max_gap * (16 if is_bits else 1)


def test_a_refused_block_is_split_at_its_holes_then_in_halves() -> None:
    points = [Point(f"t{i}", "holding", address, "uint16") for i, address in enumerate((0, 1, 2, 5))]
    (block,) = plan(points)
    parts = split(block)
    assert [(part.address, part.count) for part in parts] == [(0, 3), (5, 1)]
    assert [(part.address, part.count) for part in split(parts[0])] == [(0, 1), (1, 2)]
    assert split(parts[1]) == []


@given(
    st.sampled_from(["uint16", "int16", "uint32", "int32", "uint64", "int64"]), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]), st.data()
)
def test_what_is_written_is_read_back(kind: str, order: str, data: st.DataObject) -> None:
    width = TYPES[kind][0] * 16
    low, high = (0, 2**width - 1) if kind.startswith("u") else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    number = data.draw(st.integers(low, high))
    point = Point("t", "holding", 0, kind, order)
    assert Block([point]).decode(encode(point, number))[0] == [number]


@given(st.sampled_from(["bcd16", "bcd32"]), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]), st.data())
def test_bcd_is_read_back(kind: str, order: str, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 10 ** (4 * TYPES[kind][0]) - 1))
    point = Point("t", "holding", 0, kind, order)
    assert Block([point]).decode(encode(point, number)) == ([number], {})


@given(st.text(max_size=20), st.integers(1, 40), st.sampled_from(["ABCD", "BADC"]))
def test_text_is_read_back_or_not_written(text: str, length: int, order: str) -> None:
    point = Point("t", "holding", 0, "string", order, length=length)
    try:
        registers = encode(point, text)
    except (ValueError, UnicodeEncodeError):
        return
    assert Block([point]).decode(registers) == ([text], {})


def test_scale_is_undone_when_writing() -> None:
    point = Point("t", "holding", 0, "int16", scale=Decimal("0.1"), offset=Decimal(-40))
    assert encode(point, 12.3) == [523]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uint16", 65536), ("uint16", -1), ("int16", 40000), ("uint16", "12"), ("uint16", None), ("bool", 2), ("uint16", math.inf),
        ("float32", math.nan), ("float32", 1e39), ("bcd16", 10_000), ("bcd16", -1),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(kind: str, value: Value) -> None:
    with pytest.raises(ValueError, match=r"range|number"):
        encode(Point("t", "holding", 0, kind), value)


@pytest.mark.parametrize(
    ("value", "scale", "registers"), [(12.5, "1", None), (0.26, "0.1", None), (0.1 + 0.2, "0.1", [3]), (12.0, "1", [12]), (-0.5, "1", None)]
)
def test_a_value_between_two_steps_is_not_rounded_to_another_order(value: float, scale: str, registers: list[int] | None) -> None:
    point = Point("t", "holding", 0, "int16", scale=Decimal(scale))
    if registers is None:
        with pytest.raises(ValueError, match="between two values of int16"):
            encode(point, value)
    else:
        assert encode(point, value) == registers


def test_a_value_outside_its_valid_range_is_not_written() -> None:
    with pytest.raises(ValueError, match="900 is outside 0 to 500"):
        encode(Point("t", "holding", 0, "uint16", valid=(0, 500)), 900)


@pytest.mark.parametrize("value", ["ABCDE", "A\n", "A ", "A\0B", 5, None])
def test_text_that_would_not_be_read_back_is_not_written(value: Value) -> None:
    with pytest.raises(ValueError, match="text"):
        encode(Point("t", "holding", 0, "string", length=4), value)


def test_a_coil_is_written_by_its_sense() -> None:
    assert encode(Point("c", "coil", 3, "bool"), True) == [1]
    assert encode(Point("c", "coil", 3, "bool", invert=True), True) == [0]
    with pytest.raises(ValueError, match="no number"):
        encode(Point("c", "coil", 3, "bool"), "on")
