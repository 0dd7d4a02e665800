"""A B2MML message as one tree, whether it came as XML or as JSON: elements are dicts of lists, leaves are texts.

Namespaces and attributes are left out: every version of B2MML has its own namespace, and no attribute that matters here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from gateway.domain.events import Text
from gateway.uplink.erp.files.faults import Fault, Unreadable
from gateway.uplink.messages import NotAMessage, read_object

Tree = dict[str, Any]
"""Element name -> list of trees and texts."""

_DEEPEST = 40
MAX_BYTES = 16 * 1024 * 1024
# What a JSON message without a name at its top must be, by a member that only this one has.
_TOPS = {
    "WorkRequest": "WorkSchedule", "JobOrder": "WorkRequest", "OperationsRequest": "OperationsSchedule",
    "ProductionRequest": "ProductionSchedule", "SegmentRequirement": "OperationsRequest",
}  # fmt: skip


def read_xml(data: bytes) -> tuple[str, Tree]:
    """Name of the top element and what it holds. Raises Unreadable; entities and document types are refused."""
    try:
        root = fromstring(data, forbid_dtd=True)
        found = _element(root, 0)
    except ParseError as error:
        line, _ = error.position
        text = Text(
            f"ce n'est pas du XML complet ; écrire le fichier en entier ({str(error)[:120]}).",
            f"it is no complete XML; write all of the file ({str(error)[:120]}).",
        )
        raise Unreadable(Fault(text, Text(f"ligne {line}", f"line {line}")), may_grow=True) from error
    except (DefusedXmlException, RecursionError) as error:
        text = Text(
            "le XML contient un DTD, des entités ou trop de niveaux, ce qui est refusé ; l'exporter sans.",
            "the XML holds a DTD, entities or too many levels, which is refused; export it without.",
        )
        raise Unreadable(Fault(text)) from error
    except (ValueError, LookupError) as error:
        text = Text(
            f"l'encodage annoncé du XML n'est pas le sien ; le corriger ({str(error)[:120]}).",
            f"the XML's declared encoding is not its own; correct it ({str(error)[:120]}).",
        )
        raise Unreadable(Fault(text)) from error
    return _local(root.tag), found if isinstance(found, dict) else {}


def _local(tag: Any) -> str:
    return str(tag).rpartition("}")[2]


def _element(element: Element, depth: int) -> Tree | str:
    if depth > _DEEPEST:
        raise RecursionError
    children = [child for child in element if isinstance(child.tag, str)]
    if not children:
        return " ".join((element.text or "").split())
    found: Tree = {}
    for child in children:
        found.setdefault(_local(child.tag), []).append(_element(child, depth + 1))
    return found


def read_json(data: bytes) -> tuple[str, Tree]:
    """Name of the message and what it holds: `{"WorkSchedule": {...}}`, or the object alone. Raises Unreadable."""
    try:
        found = read_object(data.removeprefix(b"\xef\xbb\xbf"), MAX_BYTES)
    except NotAMessage as error:
        text = Text(
            f"ce n'est pas du JSON complet en UTF-8 ; écrire le fichier en entier ({str(error)[:160]}).",
            f"it is no complete JSON in UTF-8; write all of the file ({str(error)[:160]}).",
        )
        raise Unreadable(Fault(text), may_grow=True) from error
    members = [name for name in found if not name.startswith(("$", "@"))]
    if len(members) == 1 and isinstance(found[members[0]], dict):
        name, found = _local_json(members[0]), found[members[0]]
    else:
        names = {_local_json(member) for member in members}
        name = next((top for member, top in _TOPS.items() if member in names), "")
    tree = _object(found, 0)
    return name, tree if isinstance(tree, dict) else {}


def _local_json(name: str) -> str:
    return name.rpartition(":")[2]


def _object(value: Any, depth: int) -> Tree | str:
    if depth > _DEEPEST:
        raise Unreadable(Fault(Text("le JSON a trop de niveaux ; le simplifier.", "the JSON has too many levels; simplify it.")))
    if isinstance(value, dict):
        if "$" in value:
            return _object(value["$"], depth + 1)
        return {
            _local_json(name): [_object(each, depth + 1) for each in (member if isinstance(member, list) else [member])]
            for name, member in value.items()
            if not name.startswith("@") and member is not None
        }
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()


def trees(tree: Tree, *names: str) -> Iterator[Tree]:
    """The elements of these names below `tree`, leaves left out."""
    for name in names:
        for each in tree.get(name, ()):
            if isinstance(each, dict):
                yield each
