"""One YAML file as a tree of nodes that know their line, and the plain data in it.

Scalars follow the core schema of YAML 1.2: `13:00`, `2026-12-25`, `no` and `1_000` are text, not the numbers, dates and
truth values that YAML 1.1 makes of them; `010` is ten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from yaml import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.problems import Problem

Path = tuple[str | int, ...]
"""Where a value stands: text is the key of a map (numbers too), an integer the place in a list."""

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR = (f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str"))
_MAX_NODES = 200_000
"""Far above any plant; stops a file whose aliases multiply."""
_LONGEST_NUMBER = 1000
"""Characters; what is longer stays text, which no setting takes for a number."""
_DEEPEST = 60
"""No key of any section is nested a fifth as deep. The time that brackets in brackets take grows with the square of their depth."""


class _TooDeep(Exception):
    """Brackets or indented lines without an end, in line `line`."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


class _Loader(yaml.SafeLoader):
    """Composes nodes only; the implicit types are those of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    depth = 0

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        # The scanner looks a thousand characters ahead.
        if self.flow_level > _DEEPEST:
            raise _TooDeep(self.line + 1)
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _TooDeep(self.peek_event().start_mark.line + 1)  # type: ignore[no-untyped-call]
        found: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return found


_Loader.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_INT, re.compile(r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+.0123456789"),
)

# `"\\ud800"` is half a character: no text that could be written or sent.
_HALF = re.compile("[\ud800-\udfff]")
_HALVED = "this holds half a character; write the character itself"

# Types a scalar that comes from no YAML: a list of tags has tens of thousands of them.
_RESOLVER = _Loader("")


def _scalar(node: ScalarNode) -> Any:
    text = str(node.value)
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    if node.tag == _INT and len(text) < _LONGEST_NUMBER:
        return int(text, 16) if text.startswith("0x") else int(text, 8) if text.startswith("0o") else int(text)
    if node.tag == _FLOAT:
        return float(
            text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".nan", "nan").replace(".NaN", "nan")
        )
    return text


def scalar_node(text: str, file: str, line: int) -> ScalarNode:
    """A plain scalar that stands in `file` at `line` (from 1), typed as YAML would type it."""
    mark = yaml.Mark(file, 0, line - 1, 0, None, 0)
    tag = _RESOLVER.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return ScalarNode(tag, text, mark, mark)


def mapping_node(pairs: list[tuple[Node, Node]], file: str, line: int) -> MappingNode:
    """A map that stands in `file` at `line` (from 1)."""
    mark = yaml.Mark(file, 0, line - 1, 0, None, 0)
    return MappingNode(f"{_TAG}map", pairs, mark, mark)


def place(node: Node) -> tuple[str, int]:
    """(file, line from 1) of a node."""
    return str(node.start_mark.name), node.start_mark.line + 1


def parse(text: str, file: str) -> tuple[MappingNode, list[Problem]]:
    """The root map of a file and what is wrong in its YAML (an empty map where nothing could be read)."""
    empty = mapping_node([], file, 1)
    try:
        root = _compose(text, file)
    except yaml.MarkedYAMLError as error:
        return empty, [_syntax(error, text, file)]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        wrong = "the file holds a character that YAML does not allow; remove it, or save the file as UTF-8 text"
        return empty, [Problem(file, line, "", ascii(chr(error.character)), wrong, error.reason)]
    except _TooDeep as deep:
        wrong = "the brackets are nested without an end; look for a missing one"
        return empty, [Problem(file, deep.line, "", "", wrong, f"more than {_DEEPEST} levels")]
    if root is None:
        return empty, [
            Problem(file, 1, "", "", "the file is empty; start with `gateway:`, `devices:` and `work_units:`", "no YAML document")
        ]
    if not isinstance(root, MappingNode):
        return empty, [Problem(file, 1, "", "", "the file is not a map of sections; start with `gateway:`", f"the root is {shown(root)}")]
    try:
        _weigh(root, frozenset(), iter(range(_MAX_NODES)))
    except _Endless as endless:
        line = place(endless.node)[1]
        return empty, [Problem(file, line, "", "", "an alias repeats itself; write the values themselves", "recursive or exploding alias")]
    return root, list(_faults(root, ()))


def _compose(text: str, file: str) -> Node | None:
    loader = _Loader(text)
    loader.name = file
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    lines = text.splitlines()
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    if "\t" in (lines[line - 1][: (mark.column if mark else 0) + 1] if 0 < line <= len(lines) else ""):
        wrong = "the line is indented with a tab; indent with spaces"
    elif error.problem and "undefined alias" in error.problem:
        wrong = "an alias (*name) has no anchor (&name) above it; write the value itself"
    else:
        wrong = "this is not YAML; look at this line and the one above for a missing colon, quote or bracket, or a wrong indentation"
    expert = " ".join(part for part in (error.context, error.problem) if part)
    return Problem(file, line, "", shown[:80], wrong, f"{expert}, column {mark.column + 1 if mark else 0}")


class _Endless(Exception):
    """Aliases that contain themselves, or multiply beyond any plant."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node


def _weigh(node: Node, above: frozenset[int], budget: Iterator[int]) -> None:
    if id(node) in above or next(budget, None) is None:
        raise _Endless(node)
    if isinstance(node, CollectionNode):
        for item in node.value:
            for part in item if isinstance(node, MappingNode) else (item,):
                _weigh(part, above | {id(node)}, budget)


def _faults(node: Node, path: Path) -> Iterator[Problem]:
    """Doubled keys, and tags and merge keys that are not part of the language of this file."""
    file, line = place(node)
    if not node.tag.startswith(_TAG) or node.tag[len(_TAG) :] not in {"null", "bool", "int", "float", "str", "map", "seq"}:
        yield Problem(file, line, dotted(path), node.tag, "this YAML tag is not known here; remove it", "only the core schema is read")
    elif isinstance(node, ScalarNode) and _HALF.search(node.value):
        yield Problem(file, line, dotted(path), ascii(node.value)[:60], _HALVED, "a lone surrogate")
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield from _faults(item, (*path, index))
    elif isinstance(node, MappingNode):
        yield from _faults_of_keys(node, path)
        for key, value in node.value:
            yield from _faults(value, (*path, str(key.value)))


def _faults_of_keys(node: MappingNode, path: Path) -> Iterator[Problem]:
    first: dict[str, Node] = {}
    for key, value in node.value:
        file, line = place(key)
        if not isinstance(key, ScalarNode):
            yield Problem(file, line, dotted(path), "", "a key must be a word or a number; quote it", f"complex key ({key.id})")
        elif _HALF.search(key.value):
            yield Problem(file, line, dotted(path), ascii(key.value)[:60], _HALVED, "a lone surrogate")
        elif key.value == "<<":
            yield Problem(
                file, line, dotted((*path, "<<")), "", "merge keys are not read here; repeat the keys", "YAML 1.2 has no merge key"
            )
        elif key.value in first:
            here = place(first[key.value])
            first_in = f"line {here[1]}" if here[0] == file else f"{here[0]}:{here[1]}"
            wrong = f"this key stands twice, first in {first_in}; keep one of them"
            yield Problem(file, line, dotted((*path, key.value)), shown(value), wrong, "duplicate mapping key")
        else:
            first[key.value] = key


def plain(node: Node) -> Any:
    """Plain data of a tree in which `parse` found no fault. Keys are text, numbers too; of a doubled key the first counts."""
    if isinstance(node, MappingNode):
        data: dict[str, Any] = {}
        for key, value in node.value:
            data.setdefault(str(key.value), plain(value))
        return data
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.value]
    return _scalar(node) if isinstance(node, ScalarNode) else None


def entries(node: Node | None) -> dict[str, tuple[ScalarNode, Node]]:
    """Key text -> (key node, value node) of a map; of a doubled key the first counts; empty for anything else."""
    found: dict[str, tuple[ScalarNode, Node]] = {}
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode):
                found.setdefault(key.value, (key, value))
    return found


def step(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """(the node that carries the line, the value) one step down, or None where the file has nothing there."""
    if isinstance(node, MappingNode):
        return entries(node).get(str(part))
    if isinstance(node, SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return node.value[part], node.value[part]
    return None


def shown(node: Node | None) -> str:
    """A value as a person wrote it, short enough for one line."""
    if node is None:
        return "(missing)"
    if isinstance(node, ScalarNode):
        text = node.value if node.tag != _NULL else "(empty)"
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(node, SequenceNode):
        return "[...]" if node.value else "[]"
    return "{...}" if node.value else "{}"


def dotted(path: Sequence[str | int]) -> str:
    """`devices.press_plc.tags.parts`, list items as `shifts[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
