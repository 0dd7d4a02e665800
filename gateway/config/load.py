"""One configuration file, read whole: every problem is found before any link is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yaml import MappingNode

from gateway.config.draft import Draft, read_sections
from gateway.config.machines import expand_machines
from gateway.config.problems import ConfigError
from gateway.config.references import check_references, split_reference, tag_references
from gateway.config.schema import AnyDeviceSettings, AnyUplinkSettings
from gateway.config.settings import GatewaySettings, WorkCenterSettings
from gateway.config.sources import gather
from gateway.config.work_units import build_work_unit
from gateway.domain.equipment import WorkUnit
from gateway.domain.work_center import LineRule
from gateway.outbox.settings import JournalSettings


@dataclass(frozen=True)
class Config:
    """A configuration without mistakes. Maps are keyed by the names that topics, pages and metrics show.

    `unit_tags`: work unit -> the tag references it uses, as written (`parts`, `packer_plc/parts`), each once.
    `device_of_unit`: work unit -> the device of its references without one, or None.
    `files`: everything that was read; `digest` (SHA-256) changes with any byte of them.
    """

    path: Path
    gateway: GatewaySettings
    journal: JournalSettings
    devices: Mapping[str, AnyDeviceSettings]
    work_units: Mapping[str, WorkUnit]
    work_centers: Mapping[str, WorkCenterSettings]
    uplinks: Mapping[str, AnyUplinkSettings]
    unit_tags: Mapping[str, tuple[str, ...]]
    device_of_unit: Mapping[str, str | None]
    files: tuple[Path, ...]
    digest: str
    tree: MappingNode = field(repr=False, compare=False)
    """What the files say, with their lines: later checks (secrets) blame the right one."""

    def lines(self) -> dict[str, dict[str, WorkUnit]]:
        """Work centre -> its machines, for each of several machines and each that the configuration speaks of."""
        found: dict[str, dict[str, WorkUnit]] = {}
        for unit in self.work_units.values():
            found.setdefault(unit.work_center, {})[unit.name] = unit
        return {name: units for name, units in found.items() if len(units) > 1 or name in self.work_centers}

    def line_rule(self, work_center: str) -> LineRule:
        """Whose figures are those of the line `work_center`."""
        found = self.work_centers.get(work_center, WorkCenterSettings())
        return LineRule(found.kpi_from, found.time_from, found.ideal_from, found.good_from, found.scrap_from)

    def resolve(self, work_unit: str, reference: str) -> tuple[str, str]:
        """(device, tag) of a reference of `unit_tags[work_unit]`."""
        device, tag = split_reference(reference, self.device_of_unit[work_unit])
        if device is None:
            raise KeyError(f"{reference!r} of {work_unit} names no device")
        return device, tag


def load(path: Path | str) -> Config:
    """Read, join and check the configuration at `path`. Opens no link, reads no secret. Raises ConfigError with every problem."""
    sources = gather(Path(path))
    expansion = expand_machines(sources)
    draft = Draft(sources.root, frozenset(sources.untagged | expansion.unmade), list(sources.problems))
    if sources.readable:
        read_sections(draft)
        check_references(draft)
    gateway = draft.gateway
    if draft.problems or gateway is None:
        raise ConfigError(expansion.with_users(draft.problems))
    units = draft.work_units
    return Config(
        path=Path(path),
        gateway=gateway,
        journal=draft.journal,
        devices=draft.devices,
        work_units={name: build_work_unit(name, draft, gateway) for name in units},
        work_centers=draft.work_centers,
        uplinks=draft.uplinks,
        unit_tags={name: tuple(dict.fromkeys(tag for _, tag in tag_references(unit))) for name, unit in units.items()},
        device_of_unit={name: unit.device for name, unit in units.items()},
        files=tuple(sources.files),
        digest=sources.digest,
        tree=sources.root,
    )
