"""The published schema of each retained topic names every field that its body has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.domain.cloud_event import encode
from gateway.status.board import Board
from gateway.status.payloads import availability_payload, health_payload, job_payload, state_payload
from gateway.uplink.schema import messages_schema
from tests.status.fake_board import link_lost, no_calendar, no_orders, normal, nulls

SCHEMA = messages_schema()


def bodies(board: Board) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = [("Health", health_payload(board))]
    for unit in board.units:
        view = unit.view
        found += [("State", state_payload(view)), ("Availability", availability_payload(view))]
        found += [("JobResponse", job_payload(job)) for job in (*([view.job] if view.job else []), *view.queue, *view.recent)]
    return found


def unnamed(schema: Any, value: Any, path: str = "") -> list[str]:
    """Fields of `value` that `schema` does not speak of, where it speaks of fields at all."""
    if isinstance(value, list):
        return [name for item in value for name in unnamed(schema.get("items", {}), item, path)]
    for way in schema.get("anyOf", []):
        if way.get("type") == "object":
            schema = way
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return []
    missing = [f"{path}.{name}" for name in value if name not in properties]
    return missing + [name for key, item in value.items() if key in properties for name in unnamed(properties[key], item, f"{path}.{key}")]


@pytest.mark.parametrize("board", [normal, link_lost, no_orders, no_calendar, nulls])
def test_bodies_fit_their_schema_and_hold_no_field_that_it_does_not_name(board: Any) -> None:
    for name, body in bodies(board()):
        written = json.loads(encode(body))
        Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{name}"}]}).validate(written)
        assert set(unnamed(SCHEMA["$defs"][name], written, name)) == set()
