"""The public schema of B2MML V7 as a judge of our messages, in XML and in JSON, independent of the code that writes them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import xmlschema

FOLDER = Path(__file__).parent / "b2mml"
_XSD = FOLDER / "B2MML-V7-subset.xsd"
_X = "{http://www.w3.org/2001/XMLSchema}"
_FORMATS = {
    "dateTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
    "decimal": {"type": ["string", "number"]},
}


@cache
def _xml_schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(_XSD)


@cache
def _json_schema() -> dict[str, Any]:
    """The JSON form of the same types, by the rules of the public AllSchemas.json: an element is a property, one that may come several
    times an array, nothing else is allowed. That schema lets any scalar pass as any scalar; here each is held to its XML type."""
    definitions: dict[str, Any] = {}
    tops: dict[str, Any] = {}
    for node in ElementTree.parse(_XSD).getroot():
        name = node.get("name", "")
        if node.tag == f"{_X}element":
            tops[name] = {"$ref": f"#/$defs/{node.get('type')}"}
        elif node.tag == f"{_X}complexType":
            members = node.findall(f"{_X}sequence/{_X}element")
            definitions[name] = {
                "type": "object",
                "additionalProperties": False,
                "required": [member.get("name") for member in members if member.get("minOccurs") != "0"],
                "properties": {
                    member.get("name"): {"type": "array", "items": {"$ref": f"#/$defs/{member.get('type')}"}, "minItems": 1}
                    if member.get("maxOccurs") == "unbounded"
                    else {"$ref": f"#/$defs/{member.get('type')}"}
                    for member in members
                },
            }
        else:
            values = [each.get("value") for each in node.iter(f"{_X}enumeration")]
            base = next(node.iter(f"{_X}restriction")).get("base", "").removeprefix("xsd:")
            definitions[name] = {"enum": values} if values else _FORMATS.get(base, {"type": "string"})
    return {"type": "object", "properties": tops, "additionalProperties": False, "minProperties": 1, "$defs": definitions}


def judge_xml(data: bytes) -> None:
    """Raises for what the schema does not allow."""
    _xml_schema().validate(data.decode())


def judge_json(data: bytes) -> None:
    """Raises for what the schema does not allow."""
    jsonschema.Draft202012Validator(_json_schema()).validate(json.loads(data))
