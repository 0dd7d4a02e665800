"""The published descriptions of all messages: JSON Schema (2020-12) and AsyncAPI 3, made from the models and event classes themselves."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.domain.events import EVENT_TYPES, Event, Text, WindowClosed
from gateway.domain.job_order import JobState
from gateway.domain.kpi import COSTS, KPIS, LOSSES, QUANTITIES, TIMES
from gateway.domain.problems import PROBLEMS
from gateway.uplink.messages import FACTS, MAX_PAYLOAD_BYTES, AckMessage, JobCommandMessage, ReplayMessage
from gateway.uplink.schema_live import live_schemas

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_MODELS: tuple[type[BaseModel], ...] = (JobCommandMessage, *FACTS.values(), AckMessage, ReplayMessage)
_NAMES = {"JobCommandMessage": "JobCommand", "AckMessage": "Ack", "ReplayMessage": "Replay"}
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Decimal: {"type": "number"},
    datetime: _TIME,
    type(None): {"type": "null"},
    Any: {},
}

KPI_NUMBERS = (
    *(element.key for element in TIMES), "stop_count", "micro_stop_count", "failure_count", *QUANTITIES,
    *(kpi.key for kpi in KPIS), *COSTS,
)  # fmt: skip
"""Numbers of a KPI window, null where unknown."""


_KPI_TEXTS = {
    **dict.fromkeys(KPI_NUMBERS, ""),
    **{element.key: ", ".join(part for part in (element.iso, element.nf, element.meaning) if part) for element in TIMES},
    **{kpi.key: f"{kpi.name}: {kpi.formula} ({kpi.unit})" for kpi in KPIS},
    "late": "of the produced: counted when the machine was seen again",
    "without_order": "of the produced: counted against no order, until a Reassign",
}


def _type_schema(hint: Any) -> dict[str, Any]:
    """A field's type as JSON Schema: what `domain.cloud_event.encode` makes of its values."""
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    if hint is Text:
        return {"type": "object", "properties": {"fr": {"type": "string"}, "en": {"type": "string"}}, "required": ["fr", "en"]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_type_schema(argument) for argument in arguments]}
    if origin is tuple:
        return {"type": "array", "items": _type_schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type_schema(arguments[1])}
    raise TypeError(f"no JSON form for {hint}")


def _kpi_window() -> dict[str, Any]:
    window = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["hour", "shift", "job", "range"]},
            "name": {"type": "string"},
            "from": _TIME,
            "to": {"anyOf": [_TIME, {"type": "null"}], "description": "null while the window has no end yet"},
        },
        "required": ["kind", "name", "from", "to"],
    }
    return {
        "type": "object",
        "properties": {
            "work_unit": {"type": "string"},
            "window": window,
            **{key: {**_NUMBER_OR_NULL, "description": text} for key, text in _KPI_TEXTS.items()},
            "cycle": {
                "description": "cycle times in seconds per piece; null without a judged cycle",
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {
                            "count": {"type": "integer"},
                            **{name: {"type": "number"} for name in ("mean_s", "p10_s", "p50_s", "p90_s")},
                            "best_s": {**_NUMBER_OR_NULL, "description": "the best mean over twenty cycles in a row"},
                        },
                    },
                    {"type": "null"},
                ],
            },
            "losses": {
                "description": "seconds lost, together planned_s - useful_s; null without an ideal time",
                "anyOf": [
                    {"type": "object", "properties": {name: {"type": "number", "description": text} for name, _, text in LOSSES}},
                    {"type": "null"},
                ],
            },
            "degraded": {"type": "boolean"},
            "over_ideal": {"type": "boolean", "description": "effectiveness is above 1"},
            "closed": {"type": "boolean"},
            "revision": {"type": "integer", "minimum": 0},
            "changed": {
                "description": "of a revision: each number that changed, [old, new]; a dot leads into losses and cycle",
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": ["number", "boolean", "null"]}},
            },
        },
        "required": ["work_unit", "window", *KPI_NUMBERS, "degraded", "over_ideal", "closed", "revision"],
    }


def event_data(event: type[Event]) -> dict[str, Any]:
    """JSON Schema of the `data` of one event type; more keys may be added later."""
    if event is WindowClosed:
        return {"$ref": "#/$defs/KpiWindow"}
    hints = typing.get_type_hints(event)
    envelope = {field.name for field in fields(Event)}
    names = [field.name for field in fields(event) if field.name not in envelope]
    properties = {name.rstrip("_"): _type_schema(hints[name]) for name in names}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _event_name(event: type[Event]) -> str:
    return f"{event.__name__}Event"


def _event(event: type[Event]) -> dict[str, Any]:
    """The CloudEvents 1.0 envelope of one type."""
    return {
        "title": event.type,
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "description": "<gateway>:<epoch>:<sequence>; the same id is the same event"},
            "source": {"type": "string", "description": "/<enterprise>/.../<work_unit>"},
            "type": {"const": f"lineside.{event.type}.v1"},
            "time": _TIME,
            "subject": {"type": "string", "description": "job_order_id, absent where there is none"},
            "epoch": {"type": "string"},
            "sequence": {"type": "integer", "minimum": 1},
            "datacontenttype": {"const": "application/json"},
            "data": event_data(event),
        },
        "required": ["specversion", "id", "source", "type", "time", "epoch", "sequence", "datacontenttype", "data"],
    }


def _answers() -> dict[str, Any]:
    codes = [{"const": row.code, "description": row.meaning.en} for row in PROBLEMS.values()]
    problem = {"type": "object", "properties": {"code": {"oneOf": codes}, "text": {"type": "string"}}, "required": ["code", "text"]}
    state = {"enum": [*(state.value for state in JobState), None]}
    return {
        "Problem": problem,
        "Answer": {
            "type": "object",
            "properties": {
                "command_id": {"type": ["string", "null"]},
                "return_status": {
                    "type": "integer",
                    "description": "1 success, else a sum of 2 unknown order, 4 invalid command, 8 invalid state, 16 unable to accept, "
                    "4294967296 invalid request (OPC 10031-4 B.2)",
                },
                "accepted": {"type": "boolean"},
                "state": state,
                "problem": {"anyOf": [{"$ref": "#/$defs/Problem"}, {"type": "null"}]},
            },
            "required": ["command_id", "return_status", "accepted", "state", "problem"],
        },
    }


def _live() -> dict[str, Any]:
    """Messages that are no ledger rows."""
    reading = [{"type": "string"}, {"type": "integer"}, {"type": ["number", "boolean", "string", "null"]}, {"$ref": "#/$defs/Quality"}]
    return {
        "Quality": {"enum": ["good", "uncertain", "bad"]},
        "Tag": {
            "type": "object",
            "properties": {
                "timestamp_ms": {"type": "integer"},
                "value": {"type": ["number", "boolean", "string", "null"], "description": "null when bad"},
                "quality": {"$ref": "#/$defs/Quality"},
            },
            "required": ["timestamp_ms", "value", "quality"],
        },
        "DeviceBatch": {
            "type": "object",
            "properties": {
                "sequence": {"type": "integer"},
                "values": {"type": "array", "items": {"type": "array", "prefixItems": reading, "minItems": 4, "maxItems": 4}},
            },
            "required": ["sequence", "values"],
        },
        "GatewayStatus": {"type": "object", "properties": {"online": {"type": "boolean"}}, "required": ["online"]},
        "KpiWindow": _kpi_window(),
        "OpenWindow": {
            "allOf": [
                {"$ref": "#/$defs/KpiWindow"},
                {"type": "object", "properties": {"closed": {"type": "boolean"}}},
            ]
        },
        **live_schemas(),
    }


def _definitions() -> dict[str, Any]:
    _, schema = models_json_schema([(model, "validation") for model in _MODELS], ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = {_NAMES.get(name, name): body for name, body in schema["$defs"].items()}
    definitions = _renamed(definitions)
    definitions["FactsCommand"] = {"oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in FACTS.values()]}
    definitions.update(_answers())
    definitions.update(_live())
    definitions.update({_event_name(event): _event(event) for event in EVENT_TYPES})
    definitions["LedgerEvent"] = {"oneOf": [{"$ref": f"#/$defs/{_event_name(event)}"} for event in EVENT_TYPES]}
    return definitions


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(_new_ref(item) if key == "$ref" else item) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return value


def _new_ref(ref: str) -> str:
    name = ref.rsplit("/", 1)[1]
    return f"#/$defs/{_NAMES.get(name, name)}"


def messages_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of every message, one definition each; the document itself is satisfied by any of them."""
    down = ("JobCommand", "FactsCommand", "Ack", "Replay")
    up = ("Answer", "LedgerEvent", "Tag", "DeviceBatch", "OpenWindow", "GatewayStatus", *live_schemas())
    return {
        "$schema": _DIALECT,
        "$id": "urn:lineside:messages:v1",
        "title": "lineside messages, version 1",
        "description": f"JSON; a message that comes down has at most {MAX_PAYLOAD_BYTES} bytes.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in (*down, *up)],
        "$defs": _definitions(),
    }


_UNIT = "{root}/{enterprise}/{site}/{area}/{work_center}/{work_unit}"
_LINE = "{root}/{enterprise}/{site}/{area}/{work_center}/_line"
_GATEWAY = "{root}/{enterprise}/{site}/_gateway/{gateway_id}"

# channel id -> (address, message, the gateway's action, what it is)
_CHANNELS: dict[str, tuple[str, str, str, str]] = {
    "state": (f"{_UNIT}/state", "State", "send", "Item state, mode, since, reason, running job. Retained."),
    "kpi": (f"{_UNIT}/kpi/{{window}}", "OpenWindow", "send", "The open hour, shift or job window. Retained."),
    "line_kpi": (f"{_LINE}/kpi/{{window}}", "OpenWindow", "send", "The open hour or shift of a line of machines. Retained."),
    "line_event_window_closed": (f"{_LINE}/event/window/closed", "WindowClosedEvent", "send", "A closed window of a line of machines."),
    "job": (f"{_UNIT}/job/{{job_order_id}}", "JobResponse", "send", "The JobResponse of one order. Retained."),
    "tag": (f"{_UNIT}/tag/{{tag}}", "Tag", "send", "One tag on change, QoS 0. Retained."),
    "availability": (f"{_UNIT}/availability", "Availability", "send", "Next free slot, load per day, queue. Retained."),
    "job_command": (f"{_UNIT}/job/command", "JobCommand", "receive", "A command on a job order; never retained."),
    "job_response": (f"{_UNIT}/job/response", "Answer", "send", "The answer, after the commit."),
    "command": (f"{_UNIT}/command", "FactsCommand", "receive", "What people and other systems know and the PLC does not."),
    "response": (f"{_UNIT}/response", "Answer", "send", "The answer, after the commit."),
    "status": (f"{_GATEWAY}/status", "GatewayStatus", "send", "Birth and will. Retained."),
    "health": (f"{_GATEWAY}/health", "Health", "send", "Links, backlog, drops, versions. Retained."),
    "device": (f"{_GATEWAY}/device/{{device}}", "DeviceBatch", "send", "Bulk telemetry, QoS 1."),
    "ack": (f"{_GATEWAY}/ack", "Ack", "receive", "A consumer's high-water mark."),
    "replay": (f"{_GATEWAY}/replay", "Replay", "receive", "Send again from there."),
}


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: every MQTT topic, who sends what there, with the same schemas."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    table = dict(_CHANNELS)
    for event in EVENT_TYPES:
        leaf = event.type.replace(".", "/")
        table[f"event_{event.type.replace('.', '_')}"] = (
            f"{_UNIT}/event/{leaf}",
            _event_name(event),
            "send",
            f"Ledger event {event.type}.",
        )
        name = f"gateway_event_{event.type.replace('.', '_')}"
        table[name] = (f"{_GATEWAY}/event/{leaf}", _event_name(event), "send", f"{event.type} of no work unit.")
    for name, (address, message, action, text) in table.items():
        parameters: dict[str, Any] = {part[1:-1]: {} for part in address.split("/") if part.startswith("{")}
        channels[name] = {
            "address": address,
            "description": text,
            "parameters": parameters,
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        }
        operations[f"{action}_{name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [{"$ref": f"#/channels/{name}/messages/{message}"}],
            "bindings": {"mqtt": {"qos": 0 if name == "tag" else 1, "retain": "Retained." in text}},
        }
        messages[message] = {"name": message, "contentType": "application/json", "payload": {"$ref": f"#/components/schemas/{message}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "lineside", "version": "1", "description": "Topics of one gateway; `root` is lineside/v1 unless configured."},
        "defaultContentType": "application/json",
        "servers": {"broker": {"host": "broker:8883", "protocol": "mqtts", "protocolVersion": "5.0"}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": component_schemas()},
    }


def component_schemas() -> dict[str, Any]:
    """The definitions of all messages where AsyncAPI and OpenAPI keep theirs, below `#/components/schemas/`."""
    moved: dict[str, Any] = _moved(_definitions())
    return moved


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item) for item in value]
    return value
