"""What the JSON Schema of a configuration knows of a place in a file: the keys and words that may stand there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yaml import Node, ScalarNode

from gateway.config.yaml_tree import Path, entries, step


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
