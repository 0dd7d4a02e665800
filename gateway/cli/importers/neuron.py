"""Tags of EMQX Neuron and NeuronEX: a template or a tag list as its HTTP API gives them (JSON), or its Excel tag list saved as CSV.

Sources: https://github.com/emqx/neuron-docs (en_US/api/configuration.md: `GET /api/v2/template`, `GET /api/v2/tags`; api/data-type.md;
configuration/import-export/import-export.md: the columns; configuration/south-devices/modbus-tcp and opc-ua: the addresses;
configuration/groups-tags: value * decimal).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.cli.errors import CommandError
from gateway.cli.importers import Imported, NotMapped, Row, modbus_place, text_of, whole
from gateway.config.problems import nearest

_TYPE_NUMBERS = {
    1: "INT8", 2: "UINT8", 3: "INT16", 4: "UINT16", 5: "INT32", 6: "UINT32", 7: "INT64", 8: "UINT64", 9: "FLOAT", 10: "DOUBLE",
    11: "BIT", 12: "BOOL", 13: "STRING", 14: "BYTES", 15: "ERROR", 16: "WORD", 17: "DWORD", 18: "LWORD",
}  # fmt: skip
_TYPES = {
    "INT16": "int16", "UINT16": "uint16", "INT32": "int32", "UINT32": "uint32", "INT64": "int64", "UINT64": "uint64", "FLOAT": "float32",
    "DOUBLE": "float64", "BOOL": "bool", "BIT": "bool", "STRING": "string", "WORD": "uint16", "DWORD": "uint32", "LWORD": "uint64",
}  # fmt: skip
# Bytes in the order of the wire, 1 the most significant, as the page of the Modbus driver has them.
_ORDERS = {"B": "BADC", "L": "ABCD", "LL": "ABCD", "LB": "BADC", "BL": "CDAB", "BB": "DCBA"}
_WRITE, _STATIC = 2, 8

_COLUMNS = ("group", "interval", "name", "address", "attribute", "type", "description", "decimal", "precision", "value", "bias")
_NEEDED = ("name", "address", "type")

_MODBUS = re.compile(r"(?P<unit>\d{1,3})!(?P<place>[0134]\d{4,5})(?:\.(?P<part>\d{1,3})(?P<half>[HLDE])?)?(?:#(?P<order>BB|BL|LB|LL|B|L))?")
_OPCUA = re.compile(r"(?P<index>\d{1,5})!(?P<id>.+)")


def read(text: str, file: str) -> Imported:
    """Raises CommandError for a file that is none of the three."""
    imported = Imported()
    entries = list(_of_json(text, file) if text.lstrip().startswith(("{", "[")) else _of_csv(text, file))
    plugin = next((text_of(entry.get("plugin")) for _, entry in entries if entry.get("plugin")), "").lower()
    driver = "modbus" if "modbus" in plugin else "opcua" if "opc" in plugin else ""
    if plugin and not driver:
        raise CommandError(f"{file} is of the driver {plugin!r}, which is not spoken here; only Modbus and OPC UA tags can be taken over")
    if not driver:
        addresses = [text_of(entry.get("address")) for _, entry in entries if entry.get("address")]
        driver = "modbus" if all(_MODBUS.fullmatch(address) for address in addresses) else "opcua"
        imported.note(f"the file does not say its driver; its addresses look like {'Modbus' if driver == 'modbus' else 'OPC UA'}")
    for place, entry in entries:
        name = text_of(entry.get("name"))
        try:
            imported.rows.append(_row(entry, place, driver, imported))
        except NotMapped as error:
            imported.left_out.append((place, name, str(error)))
    return imported


def _of_json(text: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        # ValueError: also a number of thousands of digits.
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise CommandError(f"{file}:{line}: this is no JSON; save the answer of the API as it came", str(error)) from None
    groups = data.get("groups") if isinstance(data, dict) else None
    if groups is None and isinstance(data, dict) and "tags" in data:
        groups = [{"name": data.get("group", ""), "tags": data["tags"]}]
    if not isinstance(groups, list):
        raise CommandError(
            f"{file} has neither `groups` nor `tags`; save the answer of GET /api/v2/template?name=... or of GET /api/v2/tags", "JSON keys"
        )
    for group in groups:
        tags = group.get("tags") if isinstance(group, dict) else None
        if not isinstance(tags, list):
            raise CommandError(f"{file}: a group has no list of `tags`; save the answer of the API as it came", f"group {str(group)[:60]}")
        name = text_of(group.get("name") or group.get("group"))
        for number, tag in enumerate(tags, start=1):
            if not isinstance(tag, dict):
                raise CommandError(
                    f"{file}: tag {number} of group {name!r} is no object; save the answer of the API as it came", str(tag)[:60]
                )
            yield f"group {name!r}, tag {number}", {"plugin": data.get("plugin"), "interval": group.get("interval"), **tag}


def _of_csv(text: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    lines = text.splitlines()
    delimiter = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    header = [cell.strip().lower() for cell in next(rows, [])]
    for column in header:
        if column and column not in _COLUMNS:
            raise CommandError(
                f"{file}:1: the column {column!r} is none of a Neuron tag list{nearest(column, _COLUMNS)}", f"columns: {', '.join(header)}"
            )
    for column in _NEEDED:
        if column not in header:
            raise CommandError(
                f"{file}:1: the column {column!r} is missing; export the groups again and save the sheet as CSV",
                f"columns: {', '.join(header) or 'none'}",
            )
    for cells in rows:
        if any(cell.strip() for cell in cells):
            yield f"line {rows.line_num}", dict(zip(header, cells, strict=False))


def _row(entry: Mapping[str, Any], place: str, driver: str, imported: Imported) -> Row:
    name, address = text_of(entry.get("name")), text_of(entry.get("address"))
    kind = text_of(entry.get("type")).upper()
    kind = _TYPE_NUMBERS.get(whole(kind) or 0, kind)
    attribute = text_of(entry.get("attribute"))
    bits = whole(attribute) or 0
    if not name:
        raise NotMapped("the tag has no name; fill it in")
    if bits & _STATIC or "static" in attribute.lower():
        raise NotMapped("it is a static tag, a constant of Neuron; the machine does not have it")
    if bits & _WRITE or "write" in attribute.lower():
        imported.note("tags that may be written there are read-only here; add writable: true to those that orders are written to")
    interval = text_of(entry.get("interval"))
    every = whole(interval) or 0
    if driver == "opcua":
        return Row(place, name, driver, {**_opcua(address, kind, imported), **_no_factor(entry)}, interval_ms=every)
    unit_id, tag = _modbus(address, kind)
    factor = _factor(entry)
    imported.note("addresses count from 1 there (unless its start address is 0) and from 0 here: 400001 is holding 0; check one value")
    imported.note("a byte order set for the whole device there is no part of the file; see lineside read --orders")
    return Row(place, name, driver, {**tag, **({"scale": factor} if factor else {})}, unit_id, every)


def _modbus(address: str, kind: str) -> tuple[int, dict[str, str]]:
    found = _MODBUS.fullmatch(address)
    if found is None:
        raise NotMapped(f"{address!r} is no Modbus address such as 1!400001; write the tag by hand")
    tag = modbus_place(found["place"])
    type_ = _TYPES.get(kind)
    if type_ is None:
        raise NotMapped(f"the type {kind or '(empty)'} has no counterpart on Modbus here; read its registers as uint16")
    unit_id = int(found["unit"])
    if type_ == "string":
        # The length is in bytes; low byte first where it says nothing.
        if found["part"] is None or found["half"] in ("D", "E"):
            raise NotMapped("text with one character in a register cannot be read; read its registers as uint16")
        return unit_id, {**tag, "type": "string", "length": found["part"], **({} if found["half"] == "H" else {"order": "BADC"})}
    if "coil" in tag or "discrete" in tag:
        return unit_id, tag
    if kind == "BIT":
        return unit_id, {**tag, "bit": found["part"] or "0"}
    if found["order"] and type_ in ("uint64", "int64", "float64"):
        raise NotMapped("the byte order of a 64-bit value is not described; find it with lineside read --orders")
    order = _ORDERS[found["order"]] if found["order"] else "ABCD"
    return unit_id, {**tag, "type": type_, **({"order": order} if order != "ABCD" else {})}


def _opcua(address: str, kind: str, imported: Imported) -> dict[str, str]:
    found = _OPCUA.fullmatch(address)
    if found is None:
        raise NotMapped(f"{address!r} is no OPC UA address such as 2!Device1.Tag1; write the tag by hand")
    imported.note("node ids have the namespace by index, which may change on the server; lineside browse prints them by URI (nsu=)")
    kind_of_id = "i" if found["id"].isdigit() else "s"
    tag = {"node": f"ns={found['index']};{kind_of_id}={found['id']}"}
    if kind.startswith("ARRAY_"):
        raise NotMapped("it is an array; write one tag with index for each element that is needed")
    if kind in _TYPES:
        tag["type"] = _TYPES[kind]
    return tag


def _factor(entry: Mapping[str, Any]) -> str:
    """`decimal`: value on the device * decimal = value shown; 0 and nothing mean as it is."""
    text = text_of(entry.get("decimal"))
    try:
        return "" if not text or float(text) in (0.0, 1.0) else text
    except ValueError:
        raise NotMapped(f"decimal {text!r} is no number; correct it") from None


def _no_factor(entry: Mapping[str, Any]) -> dict[str, str]:
    if _factor(entry):
        raise NotMapped("a factor (decimal) on an OPC UA value has no counterpart here; scale it where it is used")
    return {}
