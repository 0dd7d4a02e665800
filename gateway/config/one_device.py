"""One device of a configuration that need not be whole yet: who looks around in a PLC has no tags and no work units to write down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yaml import MappingNode, ScalarNode

from gateway.config.draft import Draft, read_device, tags_of
from gateway.config.load import load
from gateway.config.problems import ConfigError, Problem, nearest
from gateway.config.schema import AnyDeviceSettings
from gateway.config.sources import gather
from gateway.config.yaml_tree import entries, mapping_node, place, scalar_node

_STAND_IN = {"opcua": {"node": "i=2258"}, "modbus": {"discrete": "65535"}, "mtconnect": {"data_item": "none"}}
"""A tag for a device that has none yet: the server's own time, an address or a name that nobody uses. It is not read."""


@dataclass(frozen=True)
class OneDevice:
    """`tags`: the names of its tags, none where the file has none yet. `gateway_id`: None where the file does not say it."""

    name: str
    settings: AnyDeviceSettings
    tags: tuple[str, ...]
    gateway_id: str | None


def load_device(path: Path | str, name: str) -> OneDevice:
    """The device `name` of the configuration at `path`. Opens no link, reads no secret.

    Raises ConfigError with every problem of that device; what else is wrong or missing in the file does not matter.
    """
    try:
        whole = load(path)
    except ConfigError:
        # Told below, as far as it concerns this device.
        pass
    else:
        if name in whole.devices:
            return OneDevice(name, whole.devices[name], tuple(tags_of(whole.devices[name])), whole.gateway.id)
    sources = gather(Path(path))
    devices = entries(sources.root).get("devices", (None, None))[1]
    known = entries(devices)
    if not sources.readable or name not in known:
        told = [problem for problem in sources.problems if not problem.path.startswith("devices.")]
        file, line = place(devices) if devices is not None else (str(path), 1)
        unknown = Problem(file, line, "devices", name, f"there is no device of this name{nearest(name, known)}", "not a key of `devices`")
        raise ConfigError(told or [unknown])
    node = known[name][1]
    tags = tuple(entries(entries(node).get("tags", (None, None))[1]))
    if isinstance(node, MappingNode) and not tags:
        _lend_tag(node)
    ours = f"devices.{name}."
    draft = Draft(sources.root, frozenset(sources.untagged), [p for p in sources.problems if p.path.startswith(ours) or not p.path])
    device = read_device(draft, name)
    if device is None or draft.problems:
        raise ConfigError(draft.problems)
    gateway_id = draft.node(("gateway", "id"))
    return OneDevice(name, device, tags, gateway_id.value if isinstance(gateway_id, ScalarNode) else None)


def _lend_tag(node: MappingNode) -> None:
    keys = entries(node)
    driver = keys["driver"][1].value if "driver" in keys else None
    stand_in = _STAND_IN.get(driver if isinstance(driver, str) else "")
    if stand_in is None:
        return
    file, line = place(node)
    tag = mapping_node([(scalar_node(key, file, line), scalar_node(value, file, line)) for key, value in stand_in.items()], file, line)
    tags = mapping_node([(scalar_node("none-yet", file, line), tag)], file, line)
    node.value = [pair for pair in node.value if getattr(pair[0], "value", "") != "tags"]
    node.value.append((scalar_node("tags", file, line), tags))
