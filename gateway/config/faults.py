"""From what pydantic found to problems a technician can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml import Node, ScalarNode

from drivers.settings import NAME_PATTERN, FieldError
from gateway.config.problems import Problem, nearest
from gateway.config.schema_places import known_keys, known_words
from gateway.config.section import CURRENCY, UNIT_CODE
from gateway.config.yaml_tree import Path, dotted, entries, place, shown, step

_SECRET_KEYS = frozenset({"password", "token", "key", "secret"})
_NAME_RULE = "a name is 1 to 64 letters, digits, _ and -; rename it"
_WRITTEN = {
    CURRENCY: "it is no currency of ISO 4217; write its three capital letters, for example EUR",
    UNIT_CODE: "it is no unit of UN/ECE Rec 20; write its code, for example KGM, GRM, MTR, LTR, or C62 for pieces",
}
"""What a text must look like, in words."""
_NEEDS = {
    "string_type": "it must be text; put it between quotes",
    "int_type": "it must be a whole number; write it without quotes",
    "int_parsing": "it must be a whole number; correct it",
    "int_from_float": "it must be a whole number; correct it",
    "float_type": "it must be a number; correct it",
    "float_parsing": "it must be a number, with a decimal point; correct it",
    "decimal_type": "it must be a number; correct it",
    "decimal_parsing": "it must be a number, with a decimal point; correct it",
    "finite_number": "it must be a finite number; correct it",
    "bool_type": "it must be true or false; correct it",
    "bool_parsing": "it must be true or false; correct it",
    "dict_type": "it must be a map of names; write name: {...} below it",
    "model_type": "it must be a map of keys; write {key: value, ...}",
    "model_attributes_type": "it must be a map of keys; write {key: value, ...}",
    "tuple_type": "it must be a list; write [ ... ]",
    "list_type": "it must be a list; write [ ... ]",
    "union_tag_not_found": "it must be a map with this choice in it",
}
_NUMBER_OR_TEXT = "it must be a whole number or text; correct it"


def problems_of(error: ValidationError, node: Node, base: Path, root: Mapping[str, Any]) -> list[Problem]:
    """All problems of one entry. `node` is the value at `base`; `root` the JSON Schema of the whole configuration."""
    found: dict[tuple[str, int, str], Problem] = {}
    for details in error.errors(include_url=False):
        problem = _problem(details, node, base, root)
        where = (problem.file, problem.line, problem.path)
        first = found.get(where)
        # A value that may be of several kinds fails once for each of them: one sentence for the person, all for the expert.
        found[where] = problem if first is None else _joined(first, problem)
    return list(found.values())


def _joined(first: Problem, other: Problem) -> Problem:
    either = first.text == _NEEDS["int_type"] and other.text == _NEEDS["string_type"]
    text = _NUMBER_OR_TEXT if either else first.text
    return Problem(first.file, first.line, first.path, first.value, text, f"{first.expert}; {other.expert}")


def _problem(details: ErrorDetails, node: Node, base: Path, root: Mapping[str, Any]) -> Problem:
    kind = details["type"]
    parts, missing = _place_in_model(details)
    is_key = bool(parts) and parts[-1] == "[key]"
    path, carrier, found = _follow(node, parts[:-1] if is_key else parts)
    value: Node | None = found
    for part in missing:
        below = step(value, part) if value is not None else None
        carrier, value = below if below is not None else (carrier, None)
        path = (*path, part)
    full = (*base, *path)
    if kind in ("missing", "union_tag_not_found"):
        # A missing key is blamed on the line of what it is missing in.
        text = f"the key `{path[-1]}` is missing; add it{_among(known_words(root, full, node, base))}"
    else:
        text = _sentence(kind, details, path, node, base, root, is_key)
    display = "" if is_key else "***" if _is_secret(full) and isinstance(value, ScalarNode) else shown(value)
    file, line = place(carrier)
    told = "" if kind == "value_error" else f": {details['msg']}"
    expert = f"{kind} at {'.'.join(str(part) for part in (*base, *details['loc']))}, given {type(details['input']).__name__}{told}"
    return Problem(file, line, dotted(full), display, text, expert)


def _place_in_model(details: ErrorDetails) -> tuple[tuple[str | int, ...], tuple[str | int, ...]]:
    """Where the model found it, and steps below that the file may not have: a missing key, a choice, a field that a check blames."""
    kind, location = details["type"], details["loc"]
    context = details.get("ctx", {})
    cause = context.get("error")
    if kind in ("missing", "extra_forbidden"):
        # An unknown key may be called like the choice of another model: it is a key all the same.
        return location[:-1], location[-1:]
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return location, (str(context.get("discriminator", "")).split("|")[-1].strip().strip("'"),)
    return location, cause.at if isinstance(cause, FieldError) else ()


def _among(words: list[str]) -> str:
    return f", one of {', '.join(words)}" if words else ""


_CHOICES = ("driver", "type", "from")
"""Keys that choose between models; pydantic puts their value into the path as one more step."""


def _follow(node: Node, parts: tuple[str | int, ...]) -> tuple[Path, Node, Node]:
    """As far down as the file goes: the path, the node that carries the line, the value. Steps of the models only are left out."""
    path: list[str | int] = []
    carrier, value = node, node
    chosen = False
    for part in parts:
        # `state: {from: codes, codes: {...}}`: the first `codes` of the path is the choice, only a second one the key.
        if not chosen and part in _choices(value):
            chosen = True
            continue
        below = step(value, part)
        if below is not None:
            carrier, value = below
            path.append(part)
            chosen = False
    return tuple(path), carrier, value


def _choices(value: Node) -> set[str]:
    chosen = (below[1] for below in map(entries(value).get, _CHOICES) if below is not None)
    return {node.value for node in chosen if isinstance(node, ScalarNode)}


def _is_secret(path: Path) -> bool:
    return any(str(part) in _SECRET_KEYS for part in path)


def _sentence(kind: str, details: ErrorDetails, path: Path, node: Node, base: Path, root: Mapping[str, Any], is_key: bool) -> str:
    context = details.get("ctx", {})
    given = str(details["input"])
    if is_key or (kind == "string_pattern_mismatch" and context.get("pattern") == NAME_PATTERN):
        return _NAME_RULE
    if kind == "extra_forbidden":
        keys = known_keys(root, (*base, *path[:-1]), node, base)
        present = set(entries(_follow(node, path[:-1])[2]))
        return f"this key is not known in this version{nearest(str(path[-1]), [k for k in keys if k not in present])}"
    if kind == "value_error":
        return _capless(str(context.get("error", details["msg"])))
    if kind == "literal_error":
        words = [word.strip("'") for word in re.split(r", | or ", str(context.get("expected", "")))]
        return f"this word is not known here{nearest(given, words)}"
    if kind == "union_tag_invalid":
        words = [word.strip("'") for word in str(context.get("expected_tags", "")).split(", ")]
        return f"`{context.get('tag')}` is not known here{nearest(str(context.get('tag')), words)}"
    if kind in _NEEDS:
        return _NEEDS[kind]
    if context.get("pattern") in _WRITTEN:
        return _WRITTEN[context["pattern"]]
    return _of_limits(kind, context, details["msg"])


def _of_limits(kind: str, context: Mapping[str, Any], message: str) -> str:
    limits = {
        "greater_than": "it must be above {gt}; correct it",
        "greater_than_equal": "it must be {ge} or more; correct it",
        "less_than": "it must be below {lt}; correct it",
        "less_than_equal": "it must be {le} or less; correct it",
        "string_pattern_mismatch": "it is not written as expected ({pattern}); correct it",
        "string_too_short": "it is empty; fill it in",
        "string_too_long": "it is longer than {max_length} characters; shorten it",
        "too_short": "it is empty; it needs at least {min_length}",
        "too_long": "it has more than {max_length} items; shorten it",
    }
    plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    return limits[kind].format(**plain) if kind in limits else f"{_capless(message)}; correct it"


def _capless(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
