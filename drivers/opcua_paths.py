"""Browse paths as a configuration writes them, told apart from the protocol stack: a path is checked without loading it.

`Objects/{urn:acme:press}Press7/{http://opcfoundation.org/UA/PackML/}Status`: names with their namespace URI in braces, or with its index
as in OPC 10000-4, Annex A.2 (`2:Press7`); without either it is OPC UA's own. `&` takes the special sense from the character after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_STEP = re.compile(r"(?:\{(?P<uri>[^{}]+)\}|(?P<index>\d{1,5}):)?(?P<name>(?:[^/&{}]|&.)+)(?:/|$)")


class Step(NamedTuple):
    """One browse name: its namespace by URI or by its number on the server (0 without any), and its name."""

    uri: str | None
    number: int
    name: str


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a path. Raises ValueError."""
    steps: list[Step] = []
    text = path.removeprefix("/")
    end = 0
    while end < len(text):
        found = _STEP.match(text, end)
        if found is None:
            break
        steps.append(Step(found["uri"], int(found["index"] or 0), re.sub(r"&(.)", r"\1", found["name"])))
        end = found.end()
    if not steps or end < len(text) or text.endswith("/"):
        raise ValueError(f"{path!r} is no browse path; write for example Objects/{{urn:acme:press}}Press7/{{urn:acme:press}}Parts")
    return tuple(steps)


def numbered(steps: Sequence[Step], namespaces: Sequence[str]) -> list[tuple[int, str]] | str:
    """(namespace index on this server, name) of each step, or the first namespace that the server does not have."""
    found: list[tuple[int, str]] = []
    for step in steps:
        if step.uri is None:
            found.append((step.number, step.name))
        elif step.uri in namespaces:
            found.append((namespaces.index(step.uri), step.name))
        else:
            return step.uri
    return found
