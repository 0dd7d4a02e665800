"""OPC UA values to readings and back: status, source time, arrays, enumerations, node ids with their namespace URI."""

from __future__ import annotations

import dataclasses
import math
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from asyncua import ua
from asyncua.common.structures104 import clean_name
from asyncua.ua.status_codes import get_name_and_doc

from drivers.base import Quality, Reading, Value
from drivers.opcua_arrays import element_of
from drivers.opcua_settings import NODE_PATTERN
from drivers.values import fits, outside

_INTEGERS: dict[ua.VariantType, tuple[int, int]] = {
    ua.VariantType.SByte: (-(2**7), 2**7 - 1), ua.VariantType.Byte: (0, 2**8 - 1),
    ua.VariantType.Int16: (-(2**15), 2**15 - 1), ua.VariantType.UInt16: (0, 2**16 - 1),
    ua.VariantType.Int32: (-(2**31), 2**31 - 1), ua.VariantType.UInt32: (0, 2**32 - 1),
    ua.VariantType.Int64: (-(2**63), 2**63 - 1), ua.VariantType.UInt64: (0, 2**64 - 1),
}  # fmt: skip

# Low bits of a status code are flags of the notification, not part of the code (OPC 10000-4, 7.38.1).
_CODE = 0xFFFF0000
_OVERFLOW = 0x0480

# Dataclasses of the library that mean one value, not a structure with fields.
_OWN_MEANING = (ua.LocalizedText, ua.QualifiedName, ua.NodeId, ua.StatusCode, ua.ExtensionObject)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tag lives: its node as written, the element of an array, the field of a structure, the bits of an integer.

    `kind`: the type the value must have, None: whatever comes. `length`: characters of a text that are kept.
    """

    tag: str
    node: str
    index: tuple[int, ...] | None = None
    invert: bool = False
    member: tuple[str, ...] = ()
    bits: tuple[int, int] | None = None
    kind: str | None = None
    length: int | None = None
    valid: tuple[float, float] | None = None
    plain: bool = field(init=False)
    """Nothing but a node: the value is taken as it comes. Worked out once, it is asked for each value."""

    def __post_init__(self) -> None:
        asks = self.invert or self.member or self.bits or self.kind or self.valid
        object.__setattr__(self, "plain", not asks and self.index is None)


class Problem(NamedTuple):
    """Why a value cannot be used, beginning with the status code a server would give."""

    detail: str


Opener = Callable[[object], object]


def as_it_is(value: object) -> object:
    return value


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


def has_overflowed(data: ua.DataValue) -> bool:
    """The server had to drop values of this item before the one it sends (OPC 10000-4, 7.38.1: InfoType DataValue and Overflow)."""
    return data.StatusCode is not None and data.StatusCode.value & _OVERFLOW == _OVERFLOW


def to_reading(place: Place, data: ua.DataValue, received_at: datetime, opened: Opener = as_it_is) -> Reading:
    """A DataValue as a reading. Never raises: what cannot be used is BAD with its reason.

    `opened`: turns a structure that came undecoded into an object with fields (or a Problem).
    """
    status = 0 if data.StatusCode is None else data.StatusCode.value
    source_time = data.SourceTimestamp or data.ServerTimestamp
    severity = status >> 30
    if severity >= 2:
        return bad(place.tag, received_at, status_name(status), source_time)
    variant = data.Value
    raw: Any = variant.Value if variant is not None else None
    kind = type(raw)
    # Nearly all values: numbers and bits of plain tags.
    usual = place.plain and (kind is int or kind is bool or (kind is float and math.isfinite(raw)))
    value: Value | Problem = raw if usual else _picked(place, raw, variant.Dimensions if variant is not None else None, opened)
    if isinstance(value, Problem):
        return bad(place.tag, received_at, _clean(value.detail), source_time)
    if not status:
        return Reading(place.tag, value, Quality.GOOD, source_time, received_at)
    quality = Quality.UNCERTAIN if severity else Quality.GOOD
    detail = status_name(status) if severity else "Overflow" if status & _OVERFLOW == _OVERFLOW else ""
    return Reading(place.tag, value, quality, source_time, received_at, detail)


def _picked(place: Place, raw: object, dimensions: Sequence[int] | None, opened: Opener) -> Value | Problem:
    """What the tag means of the value that came."""
    found = _at(place, raw, dimensions, opened)
    if isinstance(found, Problem):
        return found
    value = _text_of_bytes(found, place.length) if place.kind == "string" else _scalar(found)
    if place.bits is not None and not isinstance(value, Problem):
        value = _bits(value, *place.bits)
    elif place.kind is not None and not isinstance(value, Problem):
        value = _typed(value, place.kind)
    if place.invert and not isinstance(value, Problem):
        value = Problem("BadTypeMismatch: invert needs a bit, this is text") if isinstance(value, str) else not value
    if place.valid is not None and isinstance(value, int | float):
        wrong = outside(value, place.valid)
        return Problem(wrong) if wrong else value
    return value


def _at(place: Place, value: object, dimensions: Sequence[int] | None, opened: Opener) -> object:
    """Follow `index`, then `member`."""
    if isinstance(value, list | tuple):
        value, wrong = element_of(value, dimensions, place.index)
        if wrong:
            return Problem(wrong)
    elif place.index is not None:
        return Problem(f"BadTypeMismatch: not an array but {_kind_of(value)}: the tag has an index")
    for step in place.member:
        if isinstance(value, list | tuple):
            if not step.isdecimal() or int(step) >= len(value):
                return Problem(f"BadNoMatch: {step} is no index of an array of {len(value)}")
            value = value[int(step)]
            continue
        value = opened(value)
        if isinstance(value, Problem):
            return value
        names = fields_of(value)
        name = clean_name(step)
        if name not in names:
            has = f"it has {', '.join(names)}" if names else f"it is {_kind_of(value)}"
            return Problem(f"BadNoMatch: there is no member {step}; {has}")
        value = getattr(value, name)
    return value


def fields_of(value: object) -> list[str]:
    """Names of a decoded structure's fields; none for anything else."""
    if not dataclasses.is_dataclass(value) or isinstance(value, _OWN_MEANING):
        return []
    return [field.name for field in dataclasses.fields(value) if field.name != "Encoding"]


def _scalar(value: object) -> Value | Problem:
    """A plain value, or what is wrong with it."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        # An enumeration is an int to OPC UA as well.
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else Problem("BadOutOfRange: not a finite number")
    if isinstance(value, list | tuple):
        return Problem(f"BadTypeMismatch: an array of {len(value)}: the tag needs an index")
    match value:
        case None:
            return Problem("BadNoData: no value")
        case ua.LocalizedText():
            return _clean(value.Text or "")
        case ua.QualifiedName():
            return _clean(value.Name or "")
        case ua.NodeId():
            return _clean(str(value.to_string()))
        case uuid.UUID():
            return str(value)
        case datetime():
            return value.isoformat()
        case bytes():
            return value.hex()
        case ua.StatusCode():
            return status_name(value.value)
        case Decimal():
            return _scalar(float(value))
    return Problem(f"BadTypeMismatch: {_kind_of(value)} cannot be a tag; name one of its fields with member")


def _text_of_bytes(value: object, length: int | None) -> Value | Problem:
    """Text, also where a PLC shows it as bytes or as an array of characters; what follows a NUL is left over from before."""
    if isinstance(value, list | tuple) and all(isinstance(item, int) and 0 <= item <= 255 for item in value):
        value = bytes(value)
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) and len(item) <= 1 for item in value):
        value = "".join(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="surrogateescape")
    text = _scalar(value)
    if isinstance(text, Problem):
        return text
    text = str(text).split("\0", 1)[0].rstrip()
    return text if length is None else text[:length]


def _clean(text: str) -> str:
    """Without what no message could carry: bytes that are not UTF-8 are taken for Latin-1, as a PLC without Unicode writes them."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", errors="surrogateescape").decode("latin-1")
    return text


def _bits(value: Value, low: int, count: int) -> Value | Problem:
    if not isinstance(value, int):
        return Problem(f"BadTypeMismatch: bits need an integer, this is {_kind_of(value)}")
    found = int(value) >> low & ((1 << count) - 1)
    return bool(found) if count == 1 else found


def _typed(value: Value, kind: str) -> Value | Problem:
    """The value if it is of the type the configuration says."""
    if kind == "string":
        return value
    if kind == "bool":
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
    elif kind in ("float32", "float64"):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _scalar(float(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        return value if fits(value, kind) else Problem(f"BadTypeMismatch: {value} does not fit {kind}")
    return Problem(f"BadTypeMismatch: {_kind_of(value)}, the tag says {kind}")


def _kind_of(value: object) -> str:
    """In a technician's words."""
    match value:
        case None:
            return "no value"
        case bool():
            return "a bit"
        case int():
            return "an integer"
        case float():
            return "a real number"
        case str():
            return "a text"
        case list() | tuple():
            return f"an array of {len(value)}"
        case ua.ExtensionObject():
            return f"a structure of type {value.TypeId.to_string()}"
    return f"a {type(value).__name__}"


_LARGEST = {ua.VariantType.Float: 3.4028234663852886e38, ua.VariantType.Double: sys.float_info.max}
"""IEEE 754, single and double."""


def unfit(place: Place, value: Value) -> str:
    """Why the configuration forbids to write this value to this tag; empty: it does not."""
    if isinstance(value, str) and place.length is not None and len(value) > place.length:
        return f"{len(value)} characters, the tag's length is {place.length}"
    if place.kind is not None and place.kind != "string":
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        typed = _typed(whole, place.kind)
        if isinstance(typed, Problem):
            return typed.detail.removeprefix("BadTypeMismatch: ")
    return "" if place.valid is None else outside(value, place.valid)


def to_variant(value: Value, kind: ua.VariantType) -> ua.Variant:
    """A value in the type the node has. Raises ValueError: it does not fit."""
    if value is None:
        raise ValueError("no value to write")
    if kind is ua.VariantType.Boolean and isinstance(value, bool | int) and value in (0, 1):
        return ua.Variant(bool(value), kind)
    if kind is ua.VariantType.String:
        return ua.Variant(str(value), kind)
    if kind in _LARGEST and not isinstance(value, str):
        if abs(value) <= _LARGEST[kind]:
            return ua.Variant(float(value), kind)
        raise ValueError(f"{value!r} does not fit {kind.name}")
    if kind in _INTEGERS and not isinstance(value, str):
        low, high = _INTEGERS[kind]
        if low <= value <= high and int(value) == value:
            return ua.Variant(int(value), kind)
    raise ValueError(f"{value!r} does not fit {kind.name}")
