"""A machine template: a file with the tags and the work unit of one kind of machine, and the parameters that a site puts in.

In `tags` and `work_unit` a `$name` (or `${name}` inside a word) stands for a parameter or constant, in `work_unit` also for a tag of the
template. Whatever names an optional parameter that is not given is left out: of `tags` the whole tag, of `work_unit` the one entry of a
map, the whole item of a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from drivers import DRIVERS
from drivers.settings import FieldError, Name
from gateway.config.faults import problems_of
from gateway.config.problems import Problem, nearest
from gateway.config.section import Section
from gateway.config.yaml_tree import entries, mapping_node, parse, place, plain

PREFIX = "prefix"
"""Parameter that every template has: put before its tags' names, where two machines share one device."""

_NAME = r"[a-z][a-z0-9_]*"
_MARK = re.compile(rf"\$(?:\$|({_NAME})|\{{({_NAME})\}})")
_Word = Annotated[str, Field(pattern=rf"^{_NAME}$")]
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "text": ((str,), "text; put it between quotes"),
    "integer": ((int,), "a whole number; write it without quotes"),
    "number": ((int, float), "a number; write it without quotes"),
    "boolean": ((bool,), "true or false; correct it"),
    "map": ((dict,), "a map; write {key: value, ...}"),
}


class ParameterSettings(Section):
    """What a site tells a template. Without `default` it is required, unless `optional`."""

    about: str = Field(min_length=1)
    type: Literal["text", "integer", "number", "boolean", "map"]
    default: str | int | float | bool | dict[str, str] | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.optional and self.default is not None:
            raise FieldError("a parameter with a default is never missing; remove optional or default", "optional")
        return self

    def json_schema(self) -> dict[str, Any]:
        """The parameter as JSON Schema."""
        kind = {"text": "string", "map": "object"}.get(self.type, self.type)
        return {"type": kind, "description": self.about} | ({} if self.default is None else {"default": self.default})

    def misfit(self, node: Node) -> str:
        """What is wrong with a value for this parameter; empty when nothing is."""
        kinds, wanted = _KINDS[self.type]
        value = plain(node)
        # True is an int to Python, and never a register.
        fits = isinstance(value, kinds) and (self.type == "boolean" or not isinstance(value, bool))
        return "" if fits else f"it must be {wanted}"


class _PrefixSettings(ParameterSettings):
    def misfit(self, node: Node) -> str:
        wrong = not isinstance(node, ScalarNode) or not re.fullmatch(r"[A-Za-z0-9_-]{0,32}", str(node.value))
        return "it must be up to 32 letters, digits, _ and -; rename it" if wrong else ""


def _known_driver(value: str) -> str:
    if value not in DRIVERS:
        raise ValueError(f"there is no driver of this name{nearest(value, DRIVERS)}")
    return value


class TemplateFile(Section):
    """A machine template. `tags` and `work_unit` hold the keys of a device's tags and of a work unit, checked once they are put in."""

    title: str = Field(min_length=1)
    driver: Annotated[str, AfterValidator(_known_driver)]
    parameters: dict[_Word, ParameterSettings] = {}
    constants: dict[_Word, str] = {}
    tags: dict[Name, dict[str, Any]] = Field(min_length=1)
    work_unit: dict[str, Any] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [PREFIX, *self.parameters, *self.constants, *self.tags]
        for section in ("parameters", "constants", "tags"):
            for name in getattr(self, section):
                if names.count(name) > 1:
                    raise FieldError(f"`{name}` is the name of something else as well; rename one of them", section, name)
        return self


@cache
def _schema() -> dict[str, Any]:
    return TemplateFile.model_json_schema(by_alias=True, mode="validation")


@dataclass(frozen=True)
class Template:
    """A template file without mistakes of its own; `root` are its nodes, which know their lines."""

    file: str
    model: TemplateFile
    root: MappingNode

    @property
    def parameters(self) -> Mapping[str, ParameterSettings]:
        """Those of the file, and the prefix."""
        prefix = _PrefixSettings(about="what its tags' names begin with", type="text", default="")
        return {**self.model.parameters, PREFIX: prefix}

    def section(self, name: str) -> dict[str, tuple[ScalarNode, Node]]:
        """Key -> (key node, value node) of a section."""
        return entries(entries(self.root).get(name, (None, None))[1])

    def default(self, parameter: str) -> Node:
        """The node of a parameter's default."""
        return entries(self.section("parameters")[parameter][1])["default"][1]


def read_template(path: Path, text: str) -> tuple[Template | None, list[Problem]]:
    """The template in `text`, or None and what is wrong with it."""
    root, problems = parse(text, str(path))
    if problems:
        return None, problems
    try:
        model = TypeAdapter(TemplateFile).validate_python(plain(root), context={"folder": str(path.parent)})
    except ValidationError as error:
        return None, problems_of(error, root, (), _schema())
    return Template(str(path), model, root), []


class UnknownReferenceError(Exception):
    """A `$name` at `node` that the template does not declare."""

    def __init__(self, name: str, node: Node, known: Iterable[str]) -> None:
        super().__init__(name)
        self.name, self.node, self.known = name, node, tuple(known)


class _Absent(Exception):
    """A reference to something that is not given."""


class Filling:
    """Copies of a template's nodes with `values` put in for their references; None: not given."""

    def __init__(self, values: Mapping[str, Node | None]) -> None:
        self._values = values

    def whole(self, node: Node) -> Node | None:
        """A filled copy; None where anything in it is not given. Raises UnknownReferenceError."""
        try:
            return self._filled(node, whole=True)
        except _Absent:
            return None

    def pairs(self, written: Iterable[tuple[Node, Node]], *, whole: bool = False) -> Iterator[tuple[Node, Node]]:
        """Entries of a map, without those that have nothing left. Raises UnknownReferenceError."""
        for key, value in written:
            try:
                name, filled = self._filled(key, whole), self._filled(value, whole)
            except _Absent:
                if whole:
                    raise
                continue
            # A problem is told at the line of the key: what the site put in, on the site's line.
            if isinstance(name, ScalarNode) and isinstance(filled, ScalarNode) and place(filled)[0] != place(name)[0]:
                name = ScalarNode(name.tag, name.value, filled.start_mark, filled.end_mark)
            yield name, filled

    def _filled(self, node: Node, whole: bool) -> Node:
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if isinstance(node, MappingNode):
            pairs = list(self.pairs(node.value, whole=whole))
            if node.value and not pairs:
                raise _Absent
            return mapping_node(pairs, *place(node))
        filled = []
        for item in node.value:
            try:
                filled.append(self._filled(item, True))
            except _Absent:
                if whole:
                    raise
        if node.value and not filled:
            raise _Absent
        return SequenceNode(node.tag, filled, node.start_mark, node.end_mark)

    def _scalar(self, node: ScalarNode) -> Node:
        text = str(node.value)
        alone = _MARK.fullmatch(text)
        if alone is not None and text != "$$":
            return self._value(alone, node)
        # What the site put in is blamed on the site's line, not on the template's.
        blamed: Node = node
        parts: list[str] = []
        end = 0
        for match in _MARK.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match[0] == "$$":
                parts.append("$")
                continue
            value = self._value(match, node)
            parts.append(str(value.value))
            if place(value)[0] != place(node)[0]:
                blamed = value
        filled = "".join([*parts, text[end:]])
        return ScalarNode(node.tag, filled, blamed.start_mark, blamed.end_mark)

    def _value(self, match: re.Match[str], node: Node) -> Node:
        name = match[1] or match[2]
        if name not in self._values:
            raise UnknownReferenceError(name, node, self._values)
        value = self._values[name]
        if value is None:
            raise _Absent
        return value
