"""Structures of a server, decoded by its own definitions (DataTypeDefinition, OPC 10000-3, 5.8.3), apart from every other server's.

asyncua keeps the classes it makes in registers of the whole process, by node id: two PLCs may use one id for different structures, and a
program download changes what an id means. So each device has its own register, and asyncua's are put back as they were.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.utils import Buffer
from asyncua.ua import uatypes
from asyncua.ua.ua_binary import from_binary
from asyncua.ua.uaerrors import UaError

from drivers.opcua_values import Problem

# What decoding of bytes that do not fit their definition raises.
_UNFIT = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, struct.error, UaError)

_REGISTERS: tuple[dict[Any, Any], ...] = (
    uatypes.extension_objects_by_datatype, uatypes.datatype_by_extension_object, uatypes.extension_objects_by_typeid,
    uatypes.typeid_by_extension_objects, uatypes.enums_by_datatype, uatypes.enums_datatypes, uatypes.basetype_by_datatype,
    uatypes.basetype_datatypes,
)  # fmt: skip

# Loading fills the registers of the whole process for a moment.
_loading = asyncio.Lock()


class Structures:
    """One connection's structures. Empty until `load`."""

    def __init__(self) -> None:
        self._classes: Mapping[ua.NodeId, type] = {}

    async def load(self, client: Client) -> None:
        """Read every definition the server has. May raise what asyncua raises."""
        async with _loading:
            registers = [dict(register) for register in _REGISTERS]
            names = set(vars(ua))
            try:
                await client.load_data_type_definitions()
                before = registers[2]
                self._classes = {
                    typeid: made for typeid, made in uatypes.extension_objects_by_typeid.items() if before.get(typeid) is not made
                }
                self._prepare()
            finally:
                for register, content in zip(_REGISTERS, registers, strict=True):
                    register.clear()
                    register.update(content)
                for name in set(vars(ua)) - names:
                    delattr(ua, name)

    def _prepare(self) -> None:
        """Let asyncua build (and keep) the decoders now, while the names that the definitions use are known."""
        for made in self._classes.values():
            try:
                from_binary(made, Buffer(b""))
            except _UNFIT:
                continue

    def opened(self, value: object) -> object:
        """A structure with its fields, or a Problem; anything else as it is."""
        if not isinstance(value, ua.ExtensionObject):
            return value
        made = self._classes.get(value.TypeId)
        if made is None:
            return Problem(f"BadDataTypeIdUnknown: the server defines no structure {value.TypeId.to_string()}")
        try:
            return from_binary(made, Buffer(value.Body or b""))
        except _UNFIT as error:
            return Problem(f"BadDecodingError: {made.__name__} does not fit its definition ({error or type(error).__name__})")
