"""Checks real requests and replies of the HTTP exchange against the published OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from gateway.uplink.erp.openapi import openapi

DOCUMENT = openapi()


def _fits(schema: Mapping[str, Any], value: Any) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def check_request(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> None:
    """Raises for anything that the document does not know. `path` without the uplink's own."""
    operation = DOCUMENT["paths"][path][method.lower()]
    given = {"query": dict(query), "header": {name.lower(): value for name, value in headers.items()}}
    for parameter in operation["parameters"]:
        name = parameter["name"].lower() if parameter["in"] == "header" else parameter["name"]
        value = given[parameter["in"]].pop(name, None)
        assert value is not None or not parameter["required"], f"{method} {path} without {name}"
        if value is not None:
            _fits(parameter["schema"], value)
    assert given["query"] == {}, f"{method} {path} with more than the document knows"
    if "requestBody" in operation:
        _fits(operation["requestBody"]["content"]["application/json"]["schema"], json.loads(body))


def check_reply(method: str, path: str, status: int, body: bytes) -> None:
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    response = responses.get(str(status)) or responses[f"{status // 100}XX"]
    if "content" in response:
        _fits(response["content"]["application/json"]["schema"], json.loads(body))
