"""Tags of a Kepware server (KEPServerEX and its relatives) from the CSV that `Export CSV` of a device or tag group writes.

The columns are those that Kepware's own pages and SDK name; the Modbus addresses those of its Modbus drivers. Sources:
http://www.kepware.com/Products/feature-csvimportexport.htm, https://github.com/PTCInc/Kepware-ConfigAPI-SDK-dotnet (CsvTagSerializer),
https://support.ptc.com/help/kepware/drivers/en/kepware/drivers/MODBUS/Address_Descriptions__Modbus.html.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Mapping
from decimal import Decimal

from drivers.opcua_settings import NODE_PATTERN
from gateway.cli.errors import CommandError
from gateway.cli.importers import Imported, NotMapped, Row, modbus_place, text_of, whole
from gateway.config.problems import nearest

_NAME, _ADDRESS, _TYPE = "Tag Name", "Address", "Data Type"
COLUMNS = (
    _NAME, _ADDRESS, _TYPE, "Respect Data Type", "Client Access", "Scan Rate", "Scaling", "Raw Low", "Raw High", "Scaled Low",
    "Scaled High", "Scaled Data Type", "Clamp Low", "Clamp High", "Eng Units", "Description", "Negate Value",
)  # fmt: skip
_OTHER_SPELLING = {"Eng. Units": "Eng Units"}

_MODBUS_TYPES = {
    "boolean": "bool", "word": "uint16", "short": "int16", "dword": "uint32", "long": "int32", "float": "float32", "double": "float64",
    "bcd": "bcd16", "lbcd": "bcd32", "qword": "uint64", "llong": "int64",
}  # fmt: skip
_WIDE = frozenset({"uint32", "int32", "float32", "bcd32", "uint64", "int64", "float64"})
# OPC 10000-6 has the same types under these names; BCD is a matter of registers.
_OPCUA_TYPES = {**_MODBUS_TYPES, "string": "string"}
_NO_OPCUA_TYPE = ("bcd", "lbcd")

_PLACE = re.compile(r"(?P<place>\d+)(?:\.(?P<part>\d{1,3})(?P<half>[HL])?)?")
_LARGEST = Decimal(sys.float_info.max)
"""Of the numbers of a scaling, which are doubles there and here."""
_UNIT_CODE = re.compile(r"[A-Z0-9]{2,3}")


def read(text: str, file: str, order: str) -> Imported:
    """`order`: byte order of 32-bit and 64-bit values, which is a setting of the device there. Raises CommandError for a wrong header."""
    lines = text.splitlines()
    # The server's options offer both (http://www.toolboxopc.com/html/csvimportexport.html).
    delimiter = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    header = [_OTHER_SPELLING.get(cell.strip(), cell.strip()) for cell in next(rows, [])]
    _check_header(header, file)
    imported = Imported()
    for cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"line {rows.line_num}"
        values = {column: text_of(cell) for column, cell in zip(header, cells, strict=False)}
        name = values.get(_NAME, "")
        try:
            if len(cells) > len([*header, ""]):
                raise NotMapped(f"the row has {len(cells)} cells and the first line {len(header)}; quote a cell that holds a separator")
            imported.rows.append(_row(values, place, order, imported))
        except NotMapped as error:
            imported.left_out.append((place, name, str(error)))
    return imported


def _check_header(header: list[str], file: str) -> None:
    for column in header:
        if column and column not in COLUMNS:
            raise CommandError(
                f"{file}:1: the column {column!r} is none of a Kepware tag export{nearest(column, COLUMNS)}",
                f"columns: {', '.join(header)}",
            )
    for column in (_NAME, _ADDRESS, _TYPE):
        if column not in header:
            raise CommandError(
                f"{file}:1: the column {column!r} is missing; export the tags again with File, Export CSV of the device",
                f"columns: {', '.join(header) or 'none'}",
            )


def _row(values: Mapping[str, str], place: str, order: str, imported: Imported) -> Row:
    name, address, kind = values[_NAME], values.get(_ADDRESS, "").strip('"'), values.get(_TYPE, "").lower()
    if not name:
        raise NotMapped("the row has no tag name; fill it in")
    if kind.endswith(" array"):
        raise NotMapped("it is an array; write one tag for each element that is needed")
    if NODE_PATTERN.fullmatch(address) and "=" in address:
        driver, tag = "opcua", _opcua(address, kind, imported)
    elif _PLACE.fullmatch(address):
        driver, tag = "modbus", _modbus(address, kind, order, imported)
    else:
        raise NotMapped(f"the address {address!r} is of a protocol that is not spoken here; read it through Kepware's own OPC UA server")
    scaling = _scaling(values)
    if scaling and driver == "opcua":
        raise NotMapped("a scaled OPC UA value has no counterpart here; read the raw value and scale it where it is used")
    tag.update(scaling)
    unit = values.get("Eng Units", "")
    if _UNIT_CODE.fullmatch(unit):
        tag["unit"] = unit
    elif unit:
        imported.note(f"{name}: the unit {unit!r} is free text there; write its code (KGM, MMT) as unit")
    if values.get("Client Access", "").upper() in ("R/W", "RW", "WO"):
        imported.note("tags that may be written there are read-only here; add writable: true to those that orders are written to")
    rate = values.get("Scan Rate", "")
    return Row(place, name, driver, tag, interval_ms=whole(rate) or 0)


def _opcua(address: str, kind: str, imported: Imported) -> dict[str, str]:
    if address.startswith("ns="):
        imported.note("node ids have the namespace by index, which may change on the server; lineside browse prints them by URI (nsu=)")
    tag = {"node": address}
    if kind in _OPCUA_TYPES and kind not in _NO_OPCUA_TYPE:
        tag["type"] = _OPCUA_TYPES[kind]
    return tag


def _modbus(address: str, kind: str, order: str, imported: Imported) -> dict[str, str]:
    found = _PLACE.fullmatch(address)
    assert found is not None
    tag = modbus_place(found["place"])
    imported.note("addresses count from 1 there and from 0 here: 400001 is holding 0; check one value with lineside read")
    if found["half"] or kind == "string":
        if not found["half"] or kind != "string":
            raise NotMapped(f"{address!r} is no text such as 400001.20H; correct address or type")
        # Length in bytes; H: the first character in the high byte.
        return {**tag, "type": "string", "length": found["part"], **({"order": "BADC"} if found["half"] == "L" else {})}
    type_ = _MODBUS_TYPES.get(kind)
    if type_ is None:
        raise NotMapped(f"the data type {kind or '(empty)'!r} has no counterpart here; choose one of uint16, int16, uint32, int32, float32")
    if "coil" in tag or "discrete" in tag:
        return tag
    if found["part"] is not None:
        return {**tag, "bit": found["part"]}
    tag["type"] = type_
    if type_ in _WIDE:
        if order != "ABCD":
            tag["order"] = order
        imported.note(
            f"the byte order of values over two or four registers is no part of the file, {order} is taken; see lineside read --orders"
        )
    return tag


def _scaling(values: Mapping[str, str]) -> dict[str, str]:
    """`Linear` from Raw Low..High to Scaled Low..High as scale and offset."""
    kind = values.get("Scaling", "").lower()
    if kind in ("", "none", "0"):
        return {}
    if kind != "linear":
        raise NotMapped(f"the scaling {kind!r} is not linear; read the raw value and scale it where it is used")
    try:
        raw_low, raw_high, low, high = (Decimal(values.get(column, "")) for column in COLUMNS[7:11])
        scale = (high - low) / (raw_high - raw_low)
        if values.get("Negate Value", "").lower() in ("1", "true"):
            scale, low = -scale, -low
        offset = low - scale * raw_low
        usable = all(abs(number) <= _LARGEST for number in (raw_low, raw_high, low, high, scale, offset))
    except ArithmeticError:
        usable = False
    if not usable:
        raise NotMapped("its scaling has no four different numbers; correct Raw Low to Scaled High")
    found = {"scale": _plain(scale), "offset": _plain(offset)}
    return {key: text for key, text in found.items() if text != ("1" if key == "scale" else "0")}


def _plain(number: Decimal) -> str:
    text = f"{number:.15f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
