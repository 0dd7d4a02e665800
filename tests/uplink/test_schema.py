"""The published schemas agree with the parser and with the events as they are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.domain import events
from gateway.domain.cloud_event import cloud_event, encode
from gateway.domain.events import EVENT_TYPES, Event, Text
from gateway.domain.inbound import Refusal
from gateway.domain.problems import PROBLEMS
from gateway.uplink.messages import parse_command
from gateway.uplink.schema import asyncapi, messages_schema
from tests.uplink.test_messages import FULL, LEAST, changed

AT = datetime(2026, 11, 25, 6, tzinfo=UTC)
SCHEMA = messages_schema()
WORDS = Text("oui", "yes")
ONE = Decimal(1)

EXAMPLES: tuple[Event, ...] = (
    events.StopEnded(
        work_unit="press-07", at=AT, stop_id="s", revision=1, class_="stop", from_=AT, to=AT, duration_s=3.5,
        reason=None, reason_class=None, fault=12, induced=False,
    ),
    events.QuantityCounted(
        work_unit="press-07", at=AT, job_order_id="OF-1",
        produced=ONE, good=ONE, scrap=Decimal(0), rework=Decimal(0), counter=None, late=False
    ),
    events.JobChanged(work_unit="press-07", at=AT, job_order_id="OF-1", state="Running", previous=None, command_id="c", problem=None),
    events.MaterialConsumed(
        work_unit="press-07", at=AT, material_id="M", lot_id=None,
        use="Consumed", quantity=Decimal("0.16"), total=ONE, unit="KGM", mode="backflush"
    ),
    events.AlertRaised(work_unit=None, at=AT, alert="a", severity="info", text=WORDS, remedy=WORDS),
    events.CommandAnswered(work_unit="press-07", at=AT, command_id=None, return_status=4, problem={"code": "not_json", "text": "no"}),
    events.RowParked(work_unit=None, at=AT, uplink="erp", id="g:e:1", sequence=1, reason="no"),
    events.RowDropped(work_unit=None, at=AT, uplink="erp", id="g:e:1", sequence=1, reason="booked by hand", by="anna"),
    events.ClockStepped(work_unit=None, at=AT, step_s=-3.0, from_=AT, to=AT),
)  # fmt: skip


def of(name: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{name}"}]})


def test_the_document_is_a_schema_and_is_made_the_same_each_time() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.dumps(messages_schema()) == json.dumps(messages_schema())


@pytest.mark.parametrize("message", [FULL, LEAST])
def test_what_the_parser_takes_the_schema_takes(message: dict[str, Any]) -> None:
    of("JobCommand").validate(message)


@pytest.mark.parametrize(
    "message",
    [
        changed("colour", to=1),
        changed("job_order", "quantity", to=-1),
        changed("job_order", "job_order_id", to="x" * 129),
        changed("job_order", "pieces_per_cycle", to=0),
        changed("work_unit", to="press 07"),
        changed("command", to="Fly"),
    ],
)
def test_what_the_schema_refuses_the_parser_refuses(message: dict[str, Any]) -> None:
    assert not of("JobCommand").is_valid(message)
    assert isinstance(parse_command(json.dumps(message).encode(), retained=False, topic_work_unit=None), Refusal)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_events_as_they_are_written_fit_their_schema(event: Event) -> None:
    written = json.loads(encode(cloud_event(event, gateway_id="g", epoch="e", sequence=1, source="/acme/lyon/x")))
    of(f"{type(event).__name__}Event").validate(written)
    of("LedgerEvent").validate(written)
    written["data"].popitem()
    assert not of(f"{type(event).__name__}Event").is_valid(written)


def test_every_event_type_and_every_problem_code_is_published() -> None:
    types = {
        SCHEMA["$defs"][ref["$ref"].rsplit("/", 1)[1]]["properties"]["type"]["const"] for ref in SCHEMA["$defs"]["LedgerEvent"]["oneOf"]
    }
    assert types == {f"lineside.{event.type}.v1" for event in EVENT_TYPES}
    codes = {row["const"] for row in SCHEMA["$defs"]["Problem"]["properties"]["code"]["oneOf"]}
    assert codes == set(PROBLEMS)


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {item for key, item in value.items() if key == "$ref"} | {r for item in value.values() for r in references(item)}
    return {r for item in value for r in references(item)} if isinstance(value, list) else set()


def resolve(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


@pytest.mark.parametrize("document", [SCHEMA, asyncapi()], ids=["messages", "asyncapi"])
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = references(document)
    assert found
    for reference in found:
        assert resolve(document, reference) is not None


def test_asyncapi_knows_every_topic() -> None:
    document = asyncapi()
    addresses = {channel["address"].rsplit("}", 1)[1].lstrip("/") for channel in document["channels"].values()}
    assert {"state", "job/command", "job/response", "command", "response", "availability", "status", "health", "ack", "replay"} <= addresses
    assert "event/job/progress" in addresses
    receives = {name for name, operation in document["operations"].items() if operation["action"] == "receive"}
    assert receives == {"receive_job_command", "receive_command", "receive_ack", "receive_replay"}
    for channel in document["channels"].values():
        assert set(channel["parameters"]) == {part[1:-1] for part in channel["address"].split("/") if part.startswith("{")}
