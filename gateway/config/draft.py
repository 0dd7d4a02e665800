"""A configuration while it is being checked: the sections that are right so far, the tree they came from, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from yaml import MappingNode, Node

from drivers.settings import NAME_PATTERN, TagSettings
from gateway.config.calendars import CalendarSettings
from gateway.config.faults import problems_of
from gateway.config.problems import Problem, nearest
from gateway.config.schema import AnyDeviceSettings, AnyUplinkSettings, ConfigFile, config_schema
from gateway.config.settings import GatewaySettings, ProductSettings, ReasonSettings, WorkCenterSettings, WorkUnitSettings
from gateway.config.yaml_tree import Path, dotted, entries, place, plain, scalar_node, shown, step
from gateway.outbox.settings import JournalSettings

_SINGLE = ("gateway", "journal")
_MAPS = ("devices", "work_units", "reasons", "products", "work_centers", "calendars", "uplinks")
_REQUIRED = ("gateway", "devices", "work_units")
_LATER = {"operator", "serve", "sparkplug", "collect"}
"""Sections that the product's plan names and this version does not have."""


@dataclass
class Draft:
    """`problems` grows while sections are read and checked; what failed is missing from the sections.

    `untagged`: devices whose tag list could not be read, so that nothing is said of tags missing there.
    """

    root: MappingNode
    untagged: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)
    gateway: GatewaySettings | None = None
    journal: JournalSettings = field(default_factory=JournalSettings)
    devices: dict[str, AnyDeviceSettings] = field(default_factory=dict)
    work_units: dict[str, WorkUnitSettings] = field(default_factory=dict)
    reasons: dict[str, ReasonSettings] = field(default_factory=dict)
    products: dict[str, ProductSettings] = field(default_factory=dict)
    work_centers: dict[str, WorkCenterSettings] = field(default_factory=dict)
    calendars: dict[str, CalendarSettings] = field(default_factory=dict)
    uplinks: dict[str, AnyUplinkSettings] = field(default_factory=dict)

    @cached_property
    def _sections(self) -> Mapping[str, tuple[Node, Node]]:
        return entries(self.root)

    def node(self, path: Path) -> Node | None:
        """The value at `path`, None where the file has none."""
        value: Node | None = self.root
        for part in path:
            below = step(value, part) if value is not None else None
            value = below[1] if below else None
        return value

    def names(self, section: str) -> list[str]:
        """Names that the file gives in a section, right or wrong."""
        return list(entries(self.node((section,))))

    def tags(self, device: str) -> list[str] | None:
        """Tag names of a device as the file gives them; None where the device does not list any (a recording)."""
        if device in self.untagged:
            return None
        listed = self.node(("devices", device, "tags"))
        return list(entries(listed)) if isinstance(listed, MappingNode) else None

    def blame(self, path: Path, text: str, expert: str, *, value: str | None = None) -> None:
        """A problem of the value at `path`, or of the nearest thing above it that the file has."""
        carrier: Node = self.root
        below: Node | None = self.root
        for part in path:
            found = step(below, part) if below is not None else None
            if found is None:
                below = None
                break
            carrier, below = found
        file, line = place(carrier)
        self.problems.append(Problem(file, line, dotted(path), shown(below) if value is None else value, text, expert))

    def blame_unknown(self, path: Path, what: str, known: Iterable[str], section: str) -> None:
        """A name that `section` does not have."""
        name = shown(self.node(path))
        names = list(known)
        remedy = nearest(name, names) if names else f"; add it under `{section}:`"
        self.blame(path, f"there is no {what} of this name{remedy}", f"not a key of `{section}`")


def tags_of(device: AnyDeviceSettings) -> Mapping[str, TagSettings]:
    """Settings of the tags that a device lists; empty for a recording."""
    tags: Mapping[str, TagSettings] = getattr(device, "tags", {})
    return tags


def read_sections(draft: Draft) -> None:
    """Validate each section, and each entry of the maps, on its own: one wrong entry hides no other."""
    for name, (key, value) in draft._sections.items():
        if name not in ConfigFile.model_fields:
            file, line = place(key)
            known = [k for k in ConfigFile.model_fields if k not in draft._sections]
            later = "this section is not available in this version; remove it"
            text = later if name in _LATER else f"this section is not known{nearest(name, known)}"
            draft.problems.append(Problem(file, line, name, shown(value), text, "unknown key at the top level"))
    for name in _REQUIRED:
        if name not in draft._sections:
            draft.blame((name,), f"the section `{name}` is missing; add it", f"required: {', '.join(_REQUIRED)}")
    for section in _SINGLE:
        if section in draft._sections:
            model = _adapter(section)
            value = _validated(draft, model, (section,))
            if value is not None:
                setattr(draft, section, value)
    for section in _MAPS:
        if section in draft._sections:
            getattr(draft, section).update(_read_map(draft, section))


def read_device(draft: Draft, name: str) -> AnyDeviceSettings | None:
    """Validate one device alone; None with its problems told."""
    device: AnyDeviceSettings | None = _validated(draft, _adapter("devices"), ("devices", name))
    return device


def _adapter(section: str) -> TypeAdapter[Any]:
    annotation: Any = ConfigFile.model_fields[section].annotation
    return TypeAdapter(get_args(annotation)[1] if section in _MAPS else annotation)


_NAME: TypeAdapter[str] = TypeAdapter(get_args(ConfigFile.model_fields["devices"].annotation)[0])


def _read_map(draft: Draft, section: str) -> dict[str, Any]:
    node = draft._sections[section][1]
    if not isinstance(node, MappingNode) and plain(node) is not None:
        draft.blame((section,), "this section is a map; write name: {...} below it", "expected a mapping")
        return {}
    if section in _REQUIRED and not entries(node):
        draft.blame((section,), f"`{section}` is empty; add at least one", "at least one entry is required", value="")
    adapter = _adapter(section)
    read: dict[str, Any] = {}
    for name in entries(node):
        if section != "products":
            try:
                _NAME.validate_python(name)
            except ValidationError:
                text = "a name is 1 to 64 letters, digits, _ and -; rename it"
                draft.blame((section, name), text, f"names match {NAME_PATTERN}", value="")
        value = _validated(draft, adapter, (section, name))
        if value is not None:
            read[name] = value
    return read


def _validated(draft: Draft, adapter: TypeAdapter[Any], path: Path) -> Any:
    """The entry at `path` as its model, or None with its problems told. Relative file names count from the file it stands in."""
    node = draft.node(path)
    if node is None:
        return None
    folder = FilePath(place(node)[0]).parent
    value = plain(node)
    if value is None:
        value, node = {}, _empty(node)
    try:
        return adapter.validate_python(value, context={"folder": str(folder)})
    except ValidationError as error:
        unsure = {dotted((*path, "tags"))} if path[0] == "devices" and path[-1] in draft.untagged else set()
        draft.problems += [problem for problem in problems_of(error, node, path, config_schema()) if problem.path not in unsure]
        return None


def _empty(node: Node) -> Node:
    # `uplinks:` with nothing below is read as an empty map, so that what is missing is said by name.
    file, line = place(node)
    return MappingNode("tag:yaml.org,2002:map", [], node.start_mark, scalar_node("", file, line).start_mark)
