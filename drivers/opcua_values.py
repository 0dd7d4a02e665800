"""OPC UA values to readings and back: status, source time, arrays, enumerations, node ids with their namespace URI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from asyncua import ua
from asyncua.ua.status_codes import get_name_and_doc

from drivers.base import Quality, Reading, Value
from drivers.opcua_settings import NODE_PATTERN

_INTEGERS: dict[ua.VariantType, tuple[int, int]] = {
    ua.VariantType.SByte: (-(2**7), 2**7 - 1), ua.VariantType.Byte: (0, 2**8 - 1),
    ua.VariantType.Int16: (-(2**15), 2**15 - 1), ua.VariantType.UInt16: (0, 2**16 - 1),
    ua.VariantType.Int32: (-(2**31), 2**31 - 1), ua.VariantType.UInt32: (0, 2**32 - 1),
    ua.VariantType.Int64: (-(2**63), 2**63 - 1), ua.VariantType.UInt64: (0, 2**64 - 1),
}  # fmt: skip

# Low bits of a status code are flags of the notification, not part of the code (OPC 10000-4, 7.38.1).
_CODE = 0xFFFF0000
_OVERFLOW = 0x0480


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tag lives: its node as written, the element of an array, and whether a bit's sense is swapped."""

    tag: str
    node: str
    index: int | None = None
    invert: bool = False


def resolve(node: str, namespaces: Sequence[str]) -> ua.NodeId | None:
    """`nsu=URI;s=Name` -> node id with this server's own namespace index; None: the server does not have that namespace."""
    found = NODE_PATTERN.fullmatch(node)
    if found is None:
        raise ValueError(f"{node!r} is no node id")
    uri = found["uri"]
    if uri is None:
        return ua.NodeId.from_string(node)
    return ua.NodeId.from_string(f"ns={namespaces.index(uri)};{found['id']}") if uri in namespaces else None


def status_name(status: int) -> str:
    """`BadNodeIdUnknown`; the number where the code is unknown."""
    name, _ = get_name_and_doc(status & _CODE)
    return name if name not in ("Good", "Bad", "Uncertain") or not status & 0x0FFF0000 else f"{name} 0x{status:08X}"


def bad(tag: str, received_at: datetime, detail: str, source_time: datetime | None = None) -> Reading:
    return Reading(tag, None, Quality.BAD, source_time, received_at, detail)


def to_reading(place: Place, data: ua.DataValue, received_at: datetime) -> Reading:
    """A DataValue as a reading. Never raises: what cannot be used is BAD with its reason."""
    status = 0 if data.StatusCode is None else int(data.StatusCode.value)
    source_time = data.SourceTimestamp
    severity = status >> 30
    if severity >= 2:
        return bad(place.tag, received_at, status_name(status), source_time)
    value, problem = _scalar(data.Value.Value if data.Value is not None else None, place.index)
    if problem:
        return bad(place.tag, received_at, problem, source_time)
    if place.invert:
        if isinstance(value, str):
            return bad(place.tag, received_at, "invert needs a bit, this is text", source_time)
        value = not value
    quality = Quality.UNCERTAIN if severity else Quality.GOOD
    detail = status_name(status) if severity else "Overflow" if status & _OVERFLOW == _OVERFLOW else ""
    return Reading(place.tag, value, quality, source_time, received_at, detail)


def _scalar(value: object, index: int | None) -> tuple[Value, str]:
    """A plain value, or what is wrong with it."""
    if isinstance(value, list | tuple):
        if index is None:
            return None, f"an array of {len(value)}: the tag needs an index"
        if index >= len(value):
            return None, f"an array of {len(value)} has no index {index}"
        value = value[index]
    elif index is not None:
        return None, "not an array: the tag has an index"
    if isinstance(value, bool | str):
        return value, ""
    if isinstance(value, int):
        # An enumeration is an int to OPC UA as well.
        return int(value), ""
    if isinstance(value, float):
        return (float(value), "") if math.isfinite(value) else (None, "not a finite number")
    return _text(value)


def _text(value: object) -> tuple[Value, str]:
    """The less usual types as text, as they are shown elsewhere."""
    match value:
        case None:
            return None, "no value"
        case ua.LocalizedText():
            return value.Text or "", ""
        case ua.QualifiedName():
            return value.Name or "", ""
        case ua.NodeId():
            return str(value.to_string()), ""
        case datetime():
            return value.isoformat(), ""
        case bytes():
            return value.hex(), ""
        case Decimal():
            return float(value), ""
    return None, f"a {type(value).__name__} cannot be a tag"


def to_variant(value: Value, kind: ua.VariantType) -> ua.Variant:
    """A value in the type the node has. Raises ValueError: it does not fit."""
    if value is None:
        raise ValueError("no value to write")
    if kind is ua.VariantType.Boolean and isinstance(value, bool | int) and value in (0, 1):
        return ua.Variant(bool(value), kind)
    if kind is ua.VariantType.String:
        return ua.Variant(str(value), kind)
    if kind in (ua.VariantType.Float, ua.VariantType.Double) and not isinstance(value, str):
        return ua.Variant(float(value), kind)
    if kind in _INTEGERS and not isinstance(value, str):
        low, high = _INTEGERS[kind]
        if int(value) == value and low <= value <= high:
            return ua.Variant(int(value), kind)
    raise ValueError(f"{value!r} does not fit {kind.name}")
