"""DataValues to readings, node ids, and the order within one publish response."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Quality, Reading, Value
from drivers.opcua_stream import in_sequence
from drivers.opcua_structures import Structures
from drivers.opcua_values import Place, resolve, status_name, to_reading, to_variant

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


def data(value: Any, status: int = 0, kind: ua.VariantType | None = None) -> ua.DataValue:
    stamp = ua.DateTime.fromtimestamp(AT.timestamp(), UTC)
    return ua.DataValue(ua.Variant(value, kind), ua.StatusCode(status), SourceTimestamp=stamp)


def read(value: ua.DataValue, **place: Any) -> Reading:
    return to_reading(Place("t", "i=1", **place), value, AT + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("value", "place", "found"),
    [
        (7, {}, 7), (True, {}, True), (1.5, {}, 1.5), ("A", {}, "A"), ("", {}, ""), (ua.NodeClass.Variable, {}, 2),
        (ua.LocalizedText("Prêt"), {}, "Prêt"), (ua.QualifiedName("Q", 1), {}, "Q"), (b"\x01\xff", {}, "01ff"),
        ([1, 2, 3], {"index": (2,)}, 3), (True, {"invert": True}, False), (0, {"invert": True}, True),
        (2**64 - 1, {}, 2**64 - 1), (-(2**63), {}, -(2**63)),
        (0b1011_0000, {"bits": (4, 4)}, 0b1011), (0b1000, {"bits": (3, 1)}, True), (-1, {"bits": (63, 1)}, True),
        (0b1000, {"bits": (3, 1), "invert": True}, False),
        (7, {"kind": "uint16"}, 7), (1, {"kind": "bool"}, True), (3, {"kind": "float32"}, 3.0), (7, {"kind": "string"}, "7"),
        ("LOT-7\0\0rest", {"kind": "string"}, "LOT-7"), (b"LOT-7  ", {"kind": "string"}, "LOT-7"),
        ([76, 79, 84, 0, 9], {"kind": "string"}, "LOT"), ("LOT-123", {"kind": "string", "length": 5}, "LOT-1"),
        (b"\xe9t\xe9".decode("utf-8", "surrogateescape"), {}, "été"),
        (uuid.UUID(int=5), {}, "00000000-0000-0000-0000-000000000005"),
        (12, {"valid": (0.0, 20.0)}, 12),
    ],
)  # fmt: skip
def test_good_values(value: Any, place: dict[str, Any], found: Value) -> None:
    reading = read(data(value), **place)
    assert (reading.value, reading.quality, reading.detail) == (found, Quality.GOOD, "")
    assert type(reading.value) is type(found)
    assert reading.source_time == AT
    assert reading.received_at == AT + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("value", "place", "says"),
    [
        (data(7, StatusCodes.BadDeviceFailure), {}, "BadDeviceFailure"),
        (data(None, StatusCodes.BadNodeIdUnknown), {}, "BadNodeIdUnknown"),
        (data(7, 0xC0000000), {}, "Bad"),
        (data(None), {}, "no value"),
        (ua.DataValue(), {}, "no value"),
        (data(float("nan")), {}, "not a finite number"),
        (data([1, 2]), {}, "needs an index"),
        (data(1), {"index": (0,)}, "not an array"),
        (data([1, 2]), {"index": (2,)}, "BadIndexRangeNoData: an array of 2 has no index 2"),
        (data([1, 2]), {"index": (0, 1)}, "BadTypeMismatch: an array of 2: the tag needs an index of one number, it has one of 2"),
        (data("A"), {"invert": True}, "needs a bit"),
        (data("A"), {"kind": "uint32"}, "BadTypeMismatch: a text, the tag says uint32"),
        (data(1.5), {"kind": "int16"}, "BadTypeMismatch: a real number, the tag says int16"),
        (data(70_000), {"kind": "uint16"}, "BadTypeMismatch: 70000 does not fit uint16"),
        (data(True), {"kind": "uint16"}, "BadTypeMismatch: a bit, the tag says uint16"),
        (data(2), {"kind": "bool"}, "BadTypeMismatch: an integer, the tag says bool"),
        (data(1.5), {"bits": (0, 1)}, "BadTypeMismatch: bits need an integer, this is a real number"),
        (data(21), {"valid": (0.0, 20.0)}, "21 is outside 0 to 20"),
        (data(7), {"member": ("X",)}, "BadNoMatch: there is no member X; it is an integer"),
        (data(ua.Range(1.0, 2.0)), {}, "BadTypeMismatch: a Range cannot be a tag; name one of its fields with member"),
        (data(ua.Range(1.0, 2.0)), {"member": ("Medium",)}, "BadNoMatch: there is no member Medium; it has Low, High"),
        (data([ua.Range(1.0, 2.0)]), {"member": ("3",)}, "BadNoMatch: 3 is no index of an array of 1"),
    ],
)
def test_what_cannot_be_used_is_bad_and_says_why(value: ua.DataValue, place: dict[str, Any], says: str) -> None:
    reading = read(value, **place)
    assert reading.value is None
    assert reading.quality is Quality.BAD
    assert says in reading.detail


def test_a_member_of_a_structure_and_of_an_array_of_them() -> None:
    ranges = [ua.Range(1.0, 2.0), ua.Range(3.0, 4.0)]
    assert read(data(ua.Range(1.0, 2.0)), member=("High",)).value == 2.0
    assert read(data(ranges), index=(1,), member=("Low",)).value == 3.0
    assert read(data(ranges), member=("1", "High")).value == 4.0


def matrix(count: int, *dimensions: int) -> ua.DataValue:
    """As it comes over the wire: a row of elements and its dimensions."""
    return ua.DataValue(ua.Variant(list(range(count)), ua.VariantType.Int32, list(dimensions)))


def test_an_element_of_a_matrix_has_an_index_for_each_dimension() -> None:
    assert [read(matrix(6, 2, 3), index=(row, column)).value for row in range(2) for column in range(3)] == list(range(6))
    assert read(matrix(90_000, 300, 300), index=(299, 298)).value == 89_998
    assert read(matrix(24, 2, 3, 4), index=(1, 2, 3)).value == 23
    assert read(matrix(3, 3), index=(1,)).value == 1


@pytest.mark.parametrize(
    ("value", "place", "says"),
    [
        (matrix(6, 2, 3), {}, "BadTypeMismatch: a matrix of 2 x 3: the tag needs an index of 2 numbers, such as [0, 0]"),
        (matrix(6, 2, 3), {"index": (1,)}, "an index of 2 numbers, such as [0, 0], it has one of 1"),
        (matrix(6, 2, 3), {"index": (1, 3)}, "BadIndexRangeNoData: a matrix of 2 x 3 has no index 1,3"),
        (matrix(0, 0, 3), {"index": (0, 0)}, "BadIndexRangeNoData: a matrix of 0 x 3 has no index 0,0"),
        (matrix(6, 2, 4), {"index": (0, 0)}, "BadDecodingError: 6 elements for a matrix of 2 x 4"),
        (matrix(6, 2, 2), {"index": (0, 0)}, "BadDecodingError: 6 elements for a matrix of 2 x 2"),
        (matrix(6, -2, -3), {"index": (0, 0)}, "BadDecodingError: 6 elements for a matrix of -2 x -3"),
        (matrix(6, 0, 3), {"index": (0, 0)}, "BadDecodingError: 6 elements for a matrix of 0 x 3"),
        (matrix(1, *[2**31 - 1] * 100_000), {"index": (0, 0)}, "BadDecodingError: 1 elements for a matrix of 2147483647 x"),
        (matrix(1, *[1] * 1000), {}, "the tag needs an index of 1000 numbers, such as [0, 0, 0, 0, 0, 0, ...]"),
    ],
)  # fmt: skip
def test_a_matrix_that_promises_more_than_came_is_bad_alone(value: ua.DataValue, place: dict[str, Any], says: str) -> None:
    reading = read(value, **place)
    assert (reading.value, reading.quality) == (None, Quality.BAD)
    assert says in reading.detail
    assert len(reading.detail) < 150


def test_a_node_id_that_is_no_unicode_can_still_be_told() -> None:
    latin = ua.NodeId(b"Z\xe4hler".decode("utf-8", "surrogateescape"), 3)
    assert read(data(latin)).value == "ns=3;s=Zähler"
    assert "a structure of type ns=3;s=Zähler" in read(data(ua.ExtensionObject(TypeId=latin, Body=b""))).detail
    unknown = to_reading(Place("t", "i=1", member=("X",)), data(ua.ExtensionObject(TypeId=latin)), AT, Structures("opc.tcp://plc").opened)
    assert unknown.detail == "BadDataTypeIdUnknown: the server defines no structure ns=3;s=Zähler"


def test_a_structure_that_nobody_decoded_names_its_type() -> None:
    reading = read(data(ua.ExtensionObject(TypeId=ua.NodeId(7, 3), Body=b"")), member=("X",))
    assert reading.detail == "BadNoMatch: there is no member X; it is a structure of type ns=3;i=7"


def test_the_servers_time_stands_in_for_a_missing_source_time() -> None:
    reading = read(ua.DataValue(ua.Variant(7), ServerTimestamp=AT))
    assert reading.source_time == AT


def test_uncertain_keeps_its_value_and_names_its_reason() -> None:
    reading = read(data(7, StatusCodes.UncertainLastUsableValue))
    assert (reading.value, reading.quality, reading.detail) == (7, Quality.UNCERTAIN, "UncertainLastUsableValue")


def test_an_overflow_of_the_servers_queue_is_told_and_the_value_used() -> None:
    reading = read(data(7, 0x00000480))
    assert (reading.value, reading.quality, reading.detail) == (7, Quality.GOOD, "Overflow")


def test_flags_do_not_hide_a_status_name() -> None:
    assert status_name(StatusCodes.BadDeviceFailure | 0x480) == "BadDeviceFailure"
    assert status_name(0x8FFF0000) == "Bad 0x8FFF0000"


def test_nodes_are_found_by_the_servers_own_namespace_index() -> None:
    namespaces = ["http://opcfoundation.org/UA/", "urn:server", "urn:acme:press"]
    assert resolve("nsu=urn:acme:press;s=Counters.Total", namespaces) == ua.NodeId("Counters.Total", 2)
    assert resolve("nsu=urn:acme:press;i=12", namespaces) == ua.NodeId(12, 2)
    assert resolve("ns=4;s=a;b=c", namespaces) == ua.NodeId("a;b=c", 4)
    assert resolve("i=2258", namespaces) == ua.NodeId(2258, 0)
    assert resolve("nsu=urn:elsewhere;s=x", namespaces) is None


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        (5, ua.VariantType.UInt32, 5),
        (5.0, ua.VariantType.Int16, 5),
        (1, ua.VariantType.Boolean, True),
        (2, ua.VariantType.Double, 2.0),
        (7, ua.VariantType.String, "7"),
    ],
)
def test_values_are_written_in_the_nodes_own_type(value: Value, kind: ua.VariantType, written: Value) -> None:
    variant = to_variant(value, kind)
    assert (variant.Value, variant.VariantType) == (written, kind)
    assert type(variant.Value) is type(written)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (-1, ua.VariantType.UInt16),
        (65536, ua.VariantType.UInt16),
        (1.5, ua.VariantType.Int32),
        ("5", ua.VariantType.Int32),
        (None, ua.VariantType.Int32),
        (2, ua.VariantType.Boolean),
        (1, ua.VariantType.DateTime),
        (float("inf"), ua.VariantType.Int32),
        (1e39, ua.VariantType.Float),
        (10**400, ua.VariantType.Double),
        (float("nan"), ua.VariantType.Double),
    ],
)
def test_what_does_not_fit_is_not_written(value: Value, kind: ua.VariantType) -> None:
    with pytest.raises(ValueError, match=r"fit|no value"):
        to_variant(value, kind)


def told(tag: str, value: int, source_s: float | None) -> Reading:
    return Reading(tag, value, Quality.GOOD, None if source_s is None else AT + timedelta(seconds=source_s), AT)


def shape(batches: list[list[Reading]]) -> list[list[tuple[str, Value]]]:
    return [[(reading.tag, reading.value) for reading in batch] for batch in batches]


def test_one_value_a_tag_is_one_batch() -> None:
    assert shape(in_sequence([told("a", 1, 2), told("b", 2, 1)])) == [[("a", 1), ("b", 2)]]
    assert in_sequence([]) == []


def test_several_values_of_a_tag_are_put_in_the_order_of_the_machine() -> None:
    readings = [told("parts", 1, 1), told("parts", 2, 4), told("parts", 3, 5), told("running", 0, 2), told("running", 1, 3)]
    assert shape(in_sequence(readings)) == [[("parts", 1), ("running", 0)], [("running", 1), ("parts", 2)], [("parts", 3)]]


@pytest.mark.parametrize("times", [(1, None, 2), (5, 1, 2)])
def test_without_usable_source_times_each_tags_own_order_is_kept(times: tuple[float | None, ...]) -> None:
    first, second, third = times
    readings = [told("parts", 1, first), told("parts", 2, second), told("running", 1, third)]
    assert shape(in_sequence(readings)) == [[("parts", 1), ("running", 1)], [("parts", 2)]]


_raw_texts = st.binary(max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary(max_size=20), st.datetimes(), st.uuids(),
    st.builds(ua.LocalizedText, st.text()), st.builds(ua.Range, st.floats(), st.floats()), st.just(ua.ExtensionObject()),
    _raw_texts, st.builds(ua.NodeId, _raw_texts, st.just(2)), st.builds(ua.ExtensionObject, st.builds(ua.NodeId, _raw_texts, st.just(2))),
)  # fmt: skip
_values = st.one_of(_scalars, st.lists(_scalars, max_size=4), st.lists(st.lists(_scalars, max_size=2), max_size=2))
_indexes = st.one_of(st.none(), st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple))
_places = st.builds(
    Place, st.just("t"), st.just("i=1"), index=_indexes, invert=st.booleans(),
    member=st.lists(st.sampled_from(["Low", "0", "x.y", "class"]), max_size=2).map(tuple),
    bits=st.one_of(st.none(), st.tuples(st.integers(0, 63), st.integers(1, 64))),
    kind=st.sampled_from([None, "string", "bool", "uint16", "int64", "float32"]), length=st.one_of(st.none(), st.integers(1, 5)),
    valid=st.one_of(st.none(), st.just((0.0, 10.0))),
)  # fmt: skip


_dimensions = st.one_of(st.none(), st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3), max_size=4))


@given(value=_values, dimensions=_dimensions, place=_places, status=st.sampled_from([0, 0x480, 0x40000000, 0x80340000]))
def test_whatever_a_server_sends_is_a_reading_that_can_be_told(value: Any, dimensions: Any, place: Place, status: int) -> None:
    sent = ua.DataValue(StatusCode=ua.StatusCode(status))
    sent.Value = SimpleNamespace(Value=value, Dimensions=dimensions)
    reading = to_reading(place, sent, AT)
    assert (reading.value is None) is (reading.quality is Quality.BAD)
    assert reading.quality is not Quality.BAD or reading.detail
    assert isinstance(reading.value, bool | int | float | str | None)
    orjson.dumps([reading.value, reading.detail])
