"""`machine: NAME` in a work unit: a template gives its state, its counts and the tags on its device, with the site's parameters put in.

This works on the nodes of the files, before anything is checked: what comes from a template is then checked by the same models as what a
site writes itself, and blamed on its own line. What the site writes itself wins: a key of the work unit, a tag of the device.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from yaml import MappingNode, Node, ScalarNode

from drivers.settings import NAME_PATTERN
from gateway.config.machine_template import PREFIX, Filling, Template, UnknownReferenceError, read_template
from gateway.config.problems import Problem, nearest
from gateway.config.sources import Sources
from gateway.config.yaml_tree import entries, mapping_node, place, plain, scalar_node, shown

FOLDER = "machines"
"""Folder of a site's own templates, beside the configuration file that uses them; they win over those of the program."""

_INSTALLED = Path(__file__).parent / "machine_templates"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "config" / "machines"
"""The templates that come with the program: in the wheel beside this module, in a checkout under config/."""

Keys = Mapping[str, tuple[ScalarNode, Node]]


@dataclass
class Expansion:
    """What became of the templates. `users`: template file -> where it is used; `unmade`: devices that lack tags because one failed."""

    users: dict[str, list[str]] = field(default_factory=dict)
    unmade: set[str] = field(default_factory=set)

    def with_users(self, problems: list[Problem]) -> list[Problem]:
        """The problems; one that lies in a template also says who uses it."""
        told = []
        for problem in problems:
            users = self.users.get(problem.file)
            text = problem.text if users is None else f"{problem.text} (machine template, used in {', '.join(users)})"
            told.append(Problem(problem.file, problem.line, problem.path, problem.value, text, problem.expert))
        return told


def template_names(folder: Path = SHIPPED) -> list[str]:
    """Names of the templates in a folder; empty where there is none."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def shipped_parameters() -> dict[str, dict[str, Any]]:
    """Template that comes with the program -> JSON Schema of each of its parameters, for editors."""
    found: dict[str, dict[str, Any]] = {}
    for name in template_names():
        path = SHIPPED / f"{name}.yaml"
        template, _ = read_template(path, path.read_text(encoding="utf-8"))
        if template is not None:
            found[name] = {parameter: settings.json_schema() for parameter, settings in template.parameters.items()}
    return found


def expand_machines(sources: Sources) -> Expansion:
    """Replace `machine` and `with` of every work unit by what the template says; problems go to `sources.problems`.

    A unit whose template cannot be used gets a state that raises no further problem.
    """
    machines = _Machines(sources)
    sections = entries(sources.root)
    units = entries(sections.get("work_units", (None, None))[1])
    if not any("machine" in entries(unit) for _, unit in units.values()):
        return machines.expansion
    filled: dict[str, Node] = {
        "work_units": mapping_node(
            [(key, machines.unit(name, node)) for name, (key, node) in units.items()], *place(sections["work_units"][1])
        )
    }
    if isinstance(machines.devices, MappingNode):
        filled["devices"] = machines.with_tags(machines.devices)
    sources.root = mapping_node([(key, filled.get(name, node)) for name, (key, node) in sections.items()], *place(sources.root))
    return machines.expansion


class _Refused(Exception):
    """A machine that cannot be made; why is already told."""


class _Machines:
    """One pass over the work units. Nodes are made anew where something is put in: an alias may stand in several places."""

    def __init__(self, sources: Sources) -> None:
        self.expansion = Expansion()
        self.devices = entries(sources.root).get("devices", (None, None))[1]
        self._sources = sources
        self._templates: dict[str, Template | None] = {}
        self._tags: dict[str, dict[str, tuple[str, ScalarNode, Node]]] = {}
        self._unwanted: dict[str, set[str]] = {}

    def unit(self, name: str, node: Node) -> Node:
        """The work unit as the rest of the loader reads it."""
        keys = entries(node)
        if "machine" not in keys:
            return node
        own = [pair for key, pair in keys.items() if key not in ("machine", "with")]
        try:
            made = _Use(self, name, keys).made()
        except _Refused:
            device = keys.get("device", (None, None))[1]
            # Nothing is said of tags that are missing for this alone.
            self.expansion.unmade |= {device.value} if isinstance(device, ScalarNode) else set(entries(self.devices))
            state = mapping_node([(scalar_node("from", *place(node)), scalar_node("counts", *place(node)))], *place(node))
            made = [(scalar_node("state", *place(node)), state)]
        return mapping_node([*own, *(pair for pair in made if str(pair[0].value) not in keys)], *place(node))

    def with_tags(self, devices: MappingNode) -> Node:
        """The devices with the tags of their machines."""
        pairs: list[tuple[Node, Node]] = []
        for name, (key, node) in entries(devices).items():
            made = self._tags.get(name)
            keys = entries(node)
            tags_key, listed = keys.get("tags", (scalar_node("tags", *place(node)), None))
            if made and isinstance(node, MappingNode) and (listed is None or isinstance(listed, MappingNode)):
                own = {tag: pair for tag, pair in entries(listed).items() if tag not in self._unwanted.get(name, ())}
                tags = mapping_node(
                    [*own.values(), *((key, tag) for name, (_, key, tag) in made.items() if name not in own)], *place(listed or node)
                )
                node = mapping_node([*(pair for name, pair in keys.items() if name != "tags"), (tags_key, tags)], *place(node))
            pairs.append((key, node))
        return mapping_node(pairs, *place(devices))

    def is_unwanted(self, device: str, tag: str) -> bool:
        """Whether the site says that this machine has no such tag: it stands on the device with nothing behind it."""
        listed = entries(entries(entries(self.devices)[device][1]).get("tags", (None, None))[1])
        is_empty = tag in listed and plain(listed[tag][1]) is None
        if is_empty:
            self._unwanted.setdefault(device, set()).add(tag)
        return is_empty

    def add_tags(self, device: str, unit: str, tags: Mapping[str, tuple[ScalarNode, Node]]) -> tuple[str, str] | None:
        """Remember the tags for the device, or say (tag, work unit) of one that another machine has already made."""
        taken = self._tags.setdefault(device, {})
        for name in tags:
            if name in taken:
                return name, taken[name][0]
        taken.update({name: (unit, key, node) for name, (key, node) in tags.items()})
        return None

    def template(self, path: Path, blame: Problem) -> Template | None:
        """The template in a file, read once."""
        file = str(path)
        self.expansion.users.setdefault(file, []).append(f"{blame.file}:{blame.line}")
        if file not in self._templates:
            text = self._sources.read(path, blame)
            self._templates[file], problems = (None, []) if text is None else read_template(path, text)
            self._sources.problems += problems
        return self._templates[file]

    def tell(self, node: Node, path: str, value: str, text: str, expert: str) -> None:
        self._sources.problems.append(Problem(*place(node), path, value, text, expert))


class _Use:
    """One work unit that uses a template."""

    def __init__(self, machines: _Machines, unit: str, keys: Keys) -> None:
        self._machines = machines
        self._unit = unit
        self._keys = keys
        self._key, self._named = keys["machine"]

    def made(self) -> list[tuple[Node, Node]]:
        """Keys of the work unit; its tags are left with `machines`. Raises _Refused."""
        template = self._template()
        device = self._device(template)
        values = self._values(template)
        try:
            tags = self._tags(template, device, values)
            named: dict[str, Node | None] = {tag: tags[tag][0] if tag in tags else None for tag in template.model.tags}
            made = list(Filling({**values, **named}).pairs(template.section("work_unit").values()))
        except UnknownReferenceError as unknown:
            text = f"`${unknown.name}` is neither a parameter, a constant nor a tag of this template{nearest(unknown.name, unknown.known)}"
            self._machines.tell(unknown.node, "", shown(unknown.node), text, "unknown reference in a machine template")
            raise _Refused from unknown
        doubled = self._machines.add_tags(device, self._unit, {str(key.value): (key, tag) for key, tag in tags.values()})
        if doubled is not None:
            tag, other = doubled
            text = f"the tag `{tag}` of `{device}` is already made for {other}; add a prefix, for example with: {{{PREFIX}: m2_}}"
            self._refuse("machine", text, "two machines make the same tag on one device")
        return made

    def _template(self) -> Template:
        name = str(self._named.value) if isinstance(self._named, ScalarNode) else ""
        if not re.fullmatch(NAME_PATTERN, name):
            self._refuse("machine", "it is not the name of a template; write for example packml-opcua", f"names match {NAME_PATTERN}")
        beside = Path(place(self._key)[0]).parent / FOLDER
        path = next((file for file in (beside / f"{name}.yaml", SHIPPED / f"{name}.yaml") if file.is_file()), None)
        if path is None:
            known = sorted({*template_names(beside), *template_names()})
            self._refuse(
                "machine",
                f"there is no machine template of this name{nearest(name, known)}",
                f"neither in {beside} nor shipped: {', '.join(template_names())}",
            )
        wrong = "the template cannot be read; check its rights, and that it is UTF-8 text"
        template = self._machines.template(path, Problem(*place(self._key), f"work_units.{self._unit}.machine", name, wrong, ""))
        if template is None:
            raise _Refused
        return template

    def _device(self, template: Template) -> str:
        named = self._keys.get("device")
        if named is None or not isinstance(named[1], ScalarNode):
            self._refuse("machine", "a template makes tags and it is not said of which device; add `device:` to the work unit", "no device")
        device = str(named[1].value)
        known = entries(self._machines.devices)
        if device not in known:
            self._refuse("device", f"there is no device of this name{nearest(device, known)}", "not a key of `devices`", key=named)
        driver = entries(known[device][1]).get("driver", (None, None))[1]
        if isinstance(driver, ScalarNode) and driver.value != template.model.driver:
            wanted = template.model.driver
            text = f"this template needs a device with driver {wanted}, and `{device}` has {driver.value}; take another template or device"
            self._refuse("machine", text, f"a template for driver {wanted}")
        return device

    def _values(self, template: Template) -> dict[str, Node | None]:
        """Parameter or constant -> its value, None for an optional one that is not given."""
        given = self._keys.get("with")
        if given is not None and not isinstance(given[1], MappingNode) and plain(given[1]) is not None:
            self._refuse("with", "it must be a map; write {parameter: value}", "expected a mapping", key=given)
        site = entries(given[1]) if given is not None else {}
        known = template.parameters
        values: dict[str, Node | None] = {name: value for name, (_, value) in template.section("constants").items()}
        wrong: list[tuple[Node, str, Node | None, str]] = []
        for name, (key, value) in site.items():
            if name not in known:
                wrong.append(
                    (key, name, value, f"the template has no parameter of this name{nearest(name, [k for k in known if k not in site])}")
                )
            elif misfit := known[name].misfit(value):
                wrong.append((key, name, value, f"{known[name].about}: {misfit}"))
        for name, parameter in known.items():
            if name in site:
                values[name] = site[name][1]
            elif name == PREFIX:
                values[name] = scalar_node("", template.file, 1)
            elif parameter.default is not None:
                values[name] = template.default(name)
            elif parameter.optional:
                values[name] = None
            else:
                text = f"the template needs this parameter, {parameter.about}; add it to the work unit, with: {{{name}: ...}}"
                wrong.append((given[0] if given else self._key, name, None, text))
        for node, name, found, text in wrong:
            self._machines.tell(
                node, f"work_units.{self._unit}.with.{name}", "" if found is None else shown(found), text, f"parameters: {', '.join(known)}"
            )
        if wrong:
            raise _Refused
        return values

    def _tags(self, template: Template, device: str, values: Mapping[str, Node | None]) -> dict[str, tuple[ScalarNode, Node]]:
        """Name in the template -> (name on the device, settings) of each tag that the machine has and whose parameters are given."""
        prefix = getattr(values[PREFIX], "value", "")
        filling = Filling(values)
        made = {}
        for name, (key, node) in template.section("tags").items():
            filled = filling.whole(node)
            if filled is not None and not self._machines.is_unwanted(device, f"{prefix}{name}"):
                made[name] = (scalar_node(f"{prefix}{name}", *place(key)), filled)
        return made

    def _refuse(self, field_name: str, text: str, expert: str, *, key: tuple[ScalarNode, Node] | None = None) -> NoReturn:
        node, value = key or (self._key, self._named)
        self._machines.tell(node, f"work_units.{self._unit}.{field_name}", shown(value), text, expert)
        raise _Refused
