"""The whole configuration as one model, and its published JSON Schema."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import Field

from drivers import AnyDeviceSettings as AnyDeviceSettings
from drivers import DeviceUnion
from drivers.settings import NAME_PATTERN, Name
from gateway.config.calendars import CalendarSettings
from gateway.config.machines import shipped_parameters, template_names
from gateway.config.section import Section
from gateway.config.settings import GatewaySettings, ProductSettings, ReasonSettings, WorkCenterSettings, WorkUnitSettings
from gateway.outbox.settings import JournalSettings
from gateway.uplink.kinds import AnyUplinkSettings as AnyUplinkSettings
from gateway.uplink.kinds import UplinkSettings


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
            # A tag of a machine template that this machine does not have stands there with nothing behind it.
            named = definition["properties"]["tags"]["patternProperties"]
            named |= {pattern: {"anyOf": [tag, {"type": "null"}]} for pattern, tag in named.items()}
        for field in definition.get("properties", {}).values():
            _write_default(field)
    for field in schema["properties"].values():
        _write_default(field)
    _add_machines(schema["$defs"]["WorkUnitSettings"])
    # A file that is included holds some sections only, so none is required of a single file.
    schema.pop("required", None)
    return schema


def _add_machines(unit: dict[str, Any]) -> None:
    """`machine` and `with`: the loader puts the template's keys in their place, the model sees those only."""
    unit["properties"] |= {
        "machine": {
            "type": "string",
            "pattern": NAME_PATTERN,
            "examples": template_names(),
            "description": "A machine template, of the program or of `machines/` beside this file: gives state, counts and tags.",
        },
        "with": {"type": "object", "description": "Parameters of the machine template."},
    }
    unit["required"] = [key for key in unit["required"] if key != "state"]
    unit["anyOf"] = [{"required": ["state"]}, {"required": ["machine"]}]
    unit["dependentRequired"] = {"with": ["machine"], "machine": ["device"]}
    unit["allOf"] = [
        {
            "if": {"properties": {"machine": {"const": name}}, "required": ["machine"]},
            "then": {"properties": {"with": {"properties": parameters}}},
        }
        for name, parameters in shipped_parameters().items()
    ]


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
