"""The whole configuration as one model, its published JSON Schema, and what that schema knows of a place in a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import Field
from yaml import Node, ScalarNode

from drivers import DeviceUnion
from drivers.modbus_settings import ModbusSettings
from drivers.opcua_settings import OpcUaSettings
from drivers.replay import ReplaySettings
from drivers.settings import Name
from gateway.config.calendars import CalendarSettings
from gateway.config.settings import GatewaySettings, ProductSettings, ReasonSettings, Section, WorkCenterSettings, WorkUnitSettings
from gateway.config.yaml_tree import Path, entries, step
from gateway.outbox.settings import JournalSettings
from gateway.uplink.settings import HttpSettings, MqttSettings, UplinkSettings

AnyDeviceSettings = OpcUaSettings | ModbusSettings | ReplaySettings
AnyUplinkSettings = MqttSettings | HttpSettings


class ConfigFile(Section):
    """Configuration of a lineside gateway."""

    include: str | tuple[str, ...] = Field(default=(), description="Further files, from the folder of this one; their sections join these.")
    gateway: GatewaySettings
    journal: JournalSettings = JournalSettings()
    devices: dict[Name, DeviceUnion] = Field(min_length=1, description="What is polled; the keys are the devices' names.")
    work_units: dict[Name, WorkUnitSettings] = Field(min_length=1, description="Machines and posts; the keys are their names.")
    reasons: dict[Name, ReasonSettings] = Field(default={}, description="Stop reasons of the site; the keys are their codes.")
    products: dict[str, ProductSettings] = Field(default={}, description="Products whose recipe or ideal time no order brings.")
    work_centers: dict[Name, WorkCenterSettings] = Field(default={}, description="Lines that need more than the sum of their units.")
    calendars: dict[Name, CalendarSettings] = Field(default={}, description="Shifts, breaks, closed days, planned maintenance.")
    uplinks: dict[Name, UplinkSettings] = Field(default={}, description="Brokers and ERPs; the keys are the uplinks' names.")


TAGS_CSV = {"type": "string", "description": "A CSV file of tags: column `tag` is the name, the others are keys of the tag."}


@cache
def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a configuration file, for editors and for `lineside schema config`."""
    schema = ConfigFile.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for definition in schema["$defs"].values():
        if "driver" in definition.get("properties", {}) and "tags" in definition["properties"]:
            # The loader reads the CSV; the driver's own model sees its tags only.
            definition["properties"]["tags_csv"] = dict(TAGS_CSV)
            definition["required"] = [key for key in definition["required"] if key != "tags"]
        for field in definition.get("properties", {}).values():
            _write_default(field)
    for field in schema["properties"].values():
        _write_default(field)
    # A file that is included holds some sections only, so none is required of a single file.
    schema.pop("required", None)
    return schema


def _write_default(field: dict[str, Any]) -> None:
    """Defaults as a person writes them: `250ms`, `2GB`, `10%`; those of a whole section stand at its keys."""
    default = field.get("default")
    pattern = str(field.get("pattern", ""))
    if default is None or isinstance(default, dict):
        field.pop("default", None)
    elif isinstance(default, int | float) and "ms" in pattern:
        field["default"] = written_duration(default)
    elif isinstance(default, int | float) and "GB" in pattern:
        field["default"] = next(
            f"{default // size}{unit}" for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)) if default % size == 0
        )
    elif isinstance(default, int | float) and "%" in pattern:
        field["default"] = f"{default * 100:g}%"


def written_duration(seconds: float) -> str:
    """Seconds in the largest unit that keeps the number whole: 604800 -> `7d`, 0.25 -> `250ms`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0s"


def known_keys(root: Mapping[str, Any], path: Path, node: Node, base: Path) -> list[str]:
    """Keys that may stand in the map at `path`; `node` is the value at `base`, a beginning of `path`."""
    return list(_at(root, path, node, base).get("properties", {}))


def known_words(root: Mapping[str, Any], path: Path, node: Node, base: Path) -> list[str]:
    """The words that the key at `path` may have, where they can be listed."""
    parent = _at(root, path[:-1], node, base)
    if parent.get("discriminator", {}).get("propertyName") == path[-1]:
        return list(parent["discriminator"]["mapping"])
    field = parent.get("properties", {}).get(path[-1], {})
    return [str(word) for word in field.get("enum", [])]


def _at(root: Mapping[str, Any], path: Path, node: Node, base: Path) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = root
    value: Node | None = None
    for depth, part in enumerate(path):
        if depth >= len(base):
            value = node if depth == len(base) else value
        schema = _below(_chosen(root, schema, value), part)
        below = step(value, part) if value is not None else None
        value = below[1] if below else None
    return _chosen(root, schema, node if len(path) == len(base) else value)


def _below(schema: Mapping[str, Any], part: str | int) -> Mapping[str, Any]:
    """The schema of one item of a list, one key of a model, or any name of a map."""
    if isinstance(part, int):
        found = schema.get("items", {})
    else:
        named = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
        found = schema.get("properties", {}).get(part) or next((kind for kind in named if isinstance(kind, dict)), {})
    return found if isinstance(found, dict) else {}


def _chosen(root: Mapping[str, Any], schema: Mapping[str, Any], value: Node | None) -> Mapping[str, Any]:
    """References followed, and of several kinds the one that `value` chooses, else the first that has keys."""
    while True:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        elif "discriminator" in schema:
            _, tag = entries(value).get(schema["discriminator"]["propertyName"], (None, None))
            target = schema["discriminator"]["mapping"].get(tag.value) if isinstance(tag, ScalarNode) else None
            if target is None:
                return schema
            schema = {"$ref": target}
        elif "anyOf" in schema:
            kinds = [_chosen(root, kind, value) for kind in schema["anyOf"]]
            return next(
                (kind for kind in kinds if not {"properties", "patternProperties", "additionalProperties", "items"}.isdisjoint(kind)),
                schema,
            )
        else:
            return schema
