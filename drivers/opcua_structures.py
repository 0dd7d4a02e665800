"""Structures of a server, decoded by its own definitions (DataTypeDefinition, OPC 10000-3, 5.8.3), apart from every other server's.

asyncua keeps the classes it makes in registers of the whole process, by node id: two PLCs may use one id for different structures, and a
program download changes what an id means. So each server has its own register, and asyncua's are put back as they were.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.utils import Buffer
from asyncua.ua import uatypes
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import from_binary
from asyncua.ua.uaerrors import UaError

from drivers.opcua_values import Problem

# A definition that the library cannot use is told where a tag needs it; its own tracebacks and name collisions are no news.
for _name in ("asyncua.common.structures104", "asyncua.ua.uatypes"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

# What definitions raise that the library cannot use, and bytes that do not fit their definition.
UNUSABLE = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, struct.error, UaError)

_TYPES, _ENUMS = uatypes.extension_objects_by_typeid, uatypes.enums_by_datatype
_REGISTERS: tuple[dict[Any, Any], ...] = (
    _TYPES, _ENUMS, uatypes.extension_objects_by_datatype, uatypes.datatype_by_extension_object, uatypes.typeid_by_extension_objects,
    uatypes.enums_datatypes, uatypes.basetype_by_datatype, uatypes.basetype_datatypes,
)  # fmt: skip

# Loading fills the registers of the whole process for a moment.
_loading = asyncio.Lock()


@dataclass
class _Known:
    """What a server defines. Kept over reconnections: the library never frees the decoder of a class it has made."""

    classes: Mapping[ua.NodeId, type] = field(default_factory=dict)
    definitions: Mapping[ua.NodeId, object] = field(default_factory=dict)
    """Data type -> its definition as it was when the classes were made."""
    missed: set[ua.NodeId] = field(default_factory=set)
    """Structures that came and were not defined, or did not fit: the server may have learned of them since."""
    hopeless: frozenset[ua.NodeId] = frozenset()
    """Missed, and not there when everything was read again."""


_known: dict[str, _Known] = {}
"""Server address -> its structures."""


class Structures:
    """The structures of the server at `url`. Empty until `load`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._now = _Known()
        # A server that could give none when it was asked last may have learned to.
        self._is_first = url in _known and not _known[url].definitions

    async def load(self, client: Client, per_call: int) -> None:
        """Compare with the definitions the server has now, and read them all where they differ. Raises what asyncua raises."""
        known = _known.get(self._url)
        is_first, self._is_first = self._is_first, False
        is_whole = known is not None and not known.missed and not is_first
        if known is not None and is_whole and await _definitions(client, known.definitions, per_call) == known.definitions:
            self._now = known
            return
        missed = known.hopeless | known.missed if known is not None else frozenset()
        classes, types = await _load(client)
        definitions = await _definitions(client, types, per_call)
        self._now = _known[self._url] = _Known(classes, definitions, hopeless=frozenset(missed - classes.keys()))

    def give_up(self) -> None:
        """The definitions cannot be had: the tags that need them are bad, the others go on. The next connection tries again."""
        known = _known.get(self._url, self._now)
        self._now = _known[self._url] = _Known(hopeless=known.hopeless | known.missed)

    def opened(self, value: object) -> object:
        """A structure with its fields, or a Problem; anything else as it is."""
        if not isinstance(value, ua.ExtensionObject):
            return value
        made = self._now.classes.get(value.TypeId)
        if made is None:
            self._miss(value.TypeId)
            return Problem(f"BadDataTypeIdUnknown: the server defines no structure {value.TypeId.to_string()}")
        try:
            return from_binary(made, Buffer(value.Body or b""))
        except UNUSABLE as error:
            self._miss(value.TypeId)
            return Problem(f"BadDecodingError: {made.__name__} does not fit its definition ({error or type(error).__name__})")

    def _miss(self, typeid: ua.NodeId) -> None:
        if typeid not in self._now.hopeless:
            self._now.missed.add(typeid)


async def _load(client: Client) -> tuple[dict[ua.NodeId, type], list[ua.NodeId]]:
    """Every structure the server defines, by the id of its binary encoding; and all data types that play a part."""
    async with _loading:
        registers = [dict(register) for register in _REGISTERS]
        names = set(vars(ua))
        try:
            await client.load_data_type_definitions()
            classes = {typeid: made for typeid, made in _TYPES.items() if registers[0].get(typeid) is not made}
            types: list[ua.NodeId] = [uatypes.datatype_by_extension_object[made] for made in classes.values()]
            types += [datatype for datatype, made in _ENUMS.items() if registers[1].get(datatype) is not made]
            for made in classes.values():
                _prepare(made)
        finally:
            for register, content in zip(_REGISTERS, registers, strict=True):
                register.clear()
                register.update(content)
            for name in set(vars(ua)) - names:
                delattr(ua, name)
    return classes, types


def _prepare(made: type) -> None:
    """Let asyncua build (and keep) the decoder now, while the names that the definition uses are known."""
    try:
        from_binary(made, Buffer(b""))
    except UNUSABLE:
        return


async def _definitions(client: Client, types: Collection[ua.NodeId], per_call: int) -> dict[ua.NodeId, object]:
    asked = list(types)
    found: dict[ua.NodeId, object] = {}
    for start in range(0, len(asked), per_call):
        chunk = asked[start : start + per_call]
        values = await client.uaclient.session.read_attributes(chunk, AttributeIds.DataTypeDefinition)
        found.update((datatype, data.Value.Value if data.Value is not None else None) for datatype, data in zip(chunk, values, strict=True))
    return found
