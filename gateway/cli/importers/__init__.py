"""Tag lists of other gateways as tags of this one: what could be mapped, and what could not, row by row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from drivers.modbus_settings import FUNCTIONS, ModbusTag
from drivers.opcua_settings import OpcUaTag
from gateway.cli.tag_list import tag_names

_MODELS: dict[str, type[ModbusTag] | type[OpcUaTag]] = {"modbus": ModbusTag, "opcua": OpcUaTag}
_TABLES = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_MODBUS = re.compile(r"(?P<table>[0134])(?P<item>\d{1,5})")


class NotMapped(Exception):
    """A row has no counterpart here. The message says why and what to do."""


@dataclass(frozen=True)
class Row:
    """One tag as its file has it. `place`: where, for a person (`line 7`, `group a, tag b`)."""

    place: str
    name: str
    driver: str
    tag: Mapping[str, str]
    unit_id: int = 1
    interval_ms: int = 0


@dataclass
class Imported:
    """`rows` could be mapped, `left_out` (place, name, reason) could not; `notes` concern the whole file."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Device:
    """A section below `devices:`, with tags named as topics and pages can show them."""

    driver: str
    unit_id: int
    interval_ms: int
    tags: dict[str, Mapping[str, str]]


def modbus_place(address: str) -> dict[str, str]:
    """`400001`, `40001`, `4001` -> {"holding": "0"}: the first digit names the table, the rest counts from 1. Raises NotMapped."""
    found = _MODBUS.fullmatch(address)
    item = int(found["item"]) if found else 0
    if found is None or not 1 <= item <= 65536:
        raise NotMapped(f"{address!r} is no Modbus address such as 400001; write the tag by hand from the maker's list")
    return {_TABLES[found["table"]]: str(item - 1)}


def devices_of(imported: Imported) -> list[Device]:
    """One device for each driver and unit id; what the configuration would refuse is left out and said."""
    devices: list[Device] = []
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in imported.rows:
        groups.setdefault((row.driver, row.unit_id), []).append(row)
    for (driver, unit_id), rows in groups.items():
        kept = _usable(driver, rows, imported)
        # A whole name as one part: `/` would cut it.
        names = tag_names([row.name.replace("/", "_") for row in kept])
        for name, row in zip(names, kept, strict=True):
            if name != row.name:
                imported.note(f"{row.name} is called {name} here: names are letters, digits, _ and -")
        intervals = sorted({row.interval_ms for row in kept if row.interval_ms > 0})
        if len(intervals) > 1:
            imported.note(f"tags have intervals from {intervals[0]} to {intervals[-1]} ms there; a device has one here, the shortest")
        tags = {name: row.tag for name, row in zip(names, kept, strict=True)}
        devices.append(Device(driver, unit_id, intervals[0] if intervals else 1000, tags))
    return [device for device in devices if device.tags]


def _usable(driver: str, rows: Iterable[Row], imported: Imported) -> list[Row]:
    kept: list[Row] = []
    names: set[str] = set()
    taken: dict[tuple[object, ...], str] = {}
    for row in rows:
        try:
            tag = _MODELS[driver].model_validate(dict(row.tag))
        except ValidationError as error:
            imported.left_out.append((row.place, row.name, "; ".join(str(problem["msg"]) for problem in error.errors())))
            continue
        places = _places(tag, row)
        other = next((taken[place] for place in places if place in taken), None)
        if row.name in names or other is not None:
            twice = "its name stands above already" if other is None else f"it reads the same as {other}, or a part of it"
            imported.left_out.append((row.place, row.name, f"{twice}; keep one of them"))
            continue
        taken.update(dict.fromkeys(places, row.name))
        names.add(row.name)
        kept.append(row)
    return kept


def _places(tag: ModbusTag | OpcUaTag, row: Row) -> list[tuple[object, ...]]:
    """What two tags must not share: a node, a bit of a register, each register of a whole value."""
    if isinstance(tag, OpcUaTag):
        return [tuple(row.tag.values())]
    point = tag.point(row.name)
    if point.bits is not None:
        return [(point.table, point.address, point.bits)]
    return [(point.table, address) for address in range(point.address, point.end)]


def as_yaml(name: str, devices: Iterable[Device]) -> str:
    """Sections for a configuration; the address is a stand-in, no tag list knows it."""
    lines = ["devices:"]
    for number, device in enumerate(devices, start=1):
        lines += [f"  {name if number == 1 else f'{name}-{number}'}:", f"    driver: {device.driver}"]
        if device.driver == "modbus":
            lines += ["    url: tcp://192.0.2.1:502   # write the device's own address", f"    unit_id: {device.unit_id}"]
        else:
            lines += [
                "    url: opc.tcp://192.0.2.1:4840   # write the server's own address",
                "    security: {policy: Basic256Sha256, mode: SignAndEncrypt}",
            ]
        lines += [f"    interval: {device.interval_ms}ms", "    tags:"]
        lines += [
            f"      {tag}: {{{', '.join(f'{key}: {_scalar(key, value)}' for key, value in keys.items())}}}"
            for tag, keys in device.tags.items()
        ]
    return "\n".join(lines) + "\n"


def _scalar(key: str, value: str) -> str:
    plain = key in FUNCTIONS or key in ("type", "order", "bit", "length", "scale", "offset", "index", "invert")
    return value if plain else json.dumps(value, ensure_ascii=False)


def whole(text: str) -> int | None:
    """A whole number of at most nine digits, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def text_of(value: Any) -> str:
    """A cell or JSON value as trimmed text; empty for none."""
    return "" if value is None else str(value).strip()
