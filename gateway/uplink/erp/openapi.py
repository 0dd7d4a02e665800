"""The exchange with an ERP over HTTP as an OpenAPI 3.1 document, made from the models that read and write it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drivers.settings import NAME_PATTERN
from gateway.uplink.erp.http_schedule import LONGEST_CURSOR
from gateway.uplink.erp.posting import MOST_EVENTS
from gateway.uplink.schema import component_schemas

Document = dict[str, Any]

_DESCRIPTION = """What an ERP, an iPaaS or an integration bus offers so that a lineside gateway takes its orders and reports to it.

The gateway is the client: it asks for commands (`GET work-schedule`) and posts ledger events (`POST work-performance`), one request in
flight. A request without a reply is repeated byte for byte. 401, 403, 408, 429 and 5xx are asked again, honouring Retry-After."""

_COMMAND = {
    "command": "StoreAndStart",
    "command_id": "OF-4711-1",
    "work_unit": "press-07",
    "issued_at": "2026-11-25T06:00:00Z",
    "job_order": {
        "job_order_id": "OF-4711",
        "product_id": "PF-100",
        "quantity": 500,
        "unit": "C62",
        "end_time": "2026-11-25T16:00:00Z",
        "customer": {"name": "Dupont SA", "delivery_to": "2026-11-26T12:00:00Z", "order_number": "C-2031"},
    },
}
_EVENT = {
    "specversion": "1.0",
    "id": "line-pc-07:4f1c9a02be:42",
    "source": "/acme/lyon/stamping/line-3/press-07",
    "type": "lineside.job.progress.v1",
    "time": "2026-11-25T06:00:01.200Z",
    "subject": "OF-4711",
    "epoch": "4f1c9a02be",
    "sequence": 42,
    "datacontenttype": "application/json",
    "data": {
        "produced": 120, "good": 118, "scrap": 2, "rework": 0, "target": 500, "unit": "C62",
        "delta": {"produced": 8, "good": 8, "scrap": 0, "rework": 0}, "run_s": 141.5, "setup_s": 0, "stop_s": 12, "shift": "morning",
        "shift_date": "2026-11-25", "final": False, "properties": {}, "order_id": None, "operation_id": None, "lot_id": None,
    },
}  # fmt: skip


def openapi() -> Document:
    """OpenAPI 3.1.0. Its schemas are those of `lineside schema messages`, as far as this exchange needs them."""
    schemas = {**component_schemas(), **_own_schemas()}
    paths = {"/work-schedule": {"get": _schedule()}, "/work-performance": {"post": _performance()}}
    used = set(_reached(paths, schemas))
    return {
        "openapi": "3.1.0",
        "info": {"title": "lineside: ERP over HTTP", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "https://erp.acme.lan/lineside", "description": "the `url` of the uplink"}],
        "security": [{"bearer": []}, {"oauth2": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "`token`: a fixed one"},
                "oauth2": {
                    "type": "oauth2",
                    "description": "`oauth2`: from an identity provider (RFC 6749, 4.4)",
                    "flows": {"clientCredentials": {"tokenUrl": "https://id.acme.lan/token", "scopes": {}}},
                },
                "certificate": {"type": "mutualTLS", "description": "`tls: {certificate, key}`"},
            },
            "schemas": {name: schema for name, schema in schemas.items() if name in used},
        },
    }


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _own_schemas() -> Document:
    addressed = {"required": ["work_unit"]}
    return {
        "WorkSchedule": {
            "type": "object",
            "properties": {
                "commands": {
                    "type": "array",
                    "description": "In the order in which they are to be applied. A `command_id` that the gateway knows changes nothing.",
                    "items": {"allOf": [{"anyOf": [_ref("JobCommand"), _ref("FactsCommand")]}, addressed]},
                },
                "cursor": {
                    "type": ["string", "null"],
                    "maxLength": LONGEST_CURSOR,
                    "description": "Opaque. Kept by the gateway together with the commands it came with, and sent back as `after`; when "
                    "it has moved the gateway asks again at once.",
                },
            },
            "required": ["commands"],
        },
        "WorkPerformance": {
            "type": "object",
            "properties": {"events": {"type": "array", "items": _ref("LedgerEvent"), "minItems": 1, "maxItems": MOST_EVENTS}},
            "required": ["events"],
        },
        "Acknowledgement": {
            "type": "object",
            "properties": {
                "acknowledged": {
                    "type": "integer",
                    "description": "Events up to this sequence are booked for good; those after it are sent again as a new batch.",
                },
                "epoch": {"type": ["string", "null"], "description": "That of the batch; an answer of another epoch is not believed."},
            },
            "required": ["acknowledged"],
        },
        "Rejection": {
            "type": "object",
            "description": "Nothing of the batch is booked. The named events are set aside for a person, the others are sent again; "
            "without names the batch is halved until the culprit stands alone.",
            "properties": {
                "rejected": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"id": {"type": "string"}, "reason": {"type": "string"}},
                        "required": ["id", "reason"],
                    },
                }
            },
        },
    }  # fmt: skip


def _json(schema: str, example: Any = None) -> Document:
    return {"application/json": {"schema": _ref(schema), **({} if example is None else {"example": example})}}


def _parameter(name: str, place: str, schema: Document, text: str, *, required: bool) -> Document:
    return {"name": name, "in": place, "required": required, "description": text, "schema": schema}


def _later() -> Document:
    """Answers after which the gateway asks again."""
    texts = {
        "401": "The token is not known; one of an identity provider is renewed once.",
        "403": "The user may not do this.",
        "408": "Asked again.",
        "429": "Too much; asked again after `Retry-After`.",
        "5XX": "Asked again, after `Retry-After` where it is given.",
    }
    wait = {"Retry-After": {"description": "Seconds or an HTTP date; at most an hour is believed.", "schema": {"type": "string"}}}
    return {status: {"description": text, **({"headers": wait} if status in ("429", "5XX") else {})} for status, text in texts.items()}


def _schedule() -> Document:
    return {
        "operationId": "getWorkSchedule",
        "summary": "Commands for the line that came after a cursor",
        "parameters": [
            _parameter("gateway", "query", {"type": "string", "pattern": NAME_PATTERN}, "Who asks.", required=True),
            _parameter("after", "query", {"type": "string"}, "The cursor stored last; absent until there is one.", required=False),
        ],
        "responses": {
            "200": {"description": "Maybe none.", "content": _json("WorkSchedule", {"commands": [_COMMAND], "cursor": "1"})},
            "204": {"description": "Nothing new."},
            **_later(),
        },
    }


def _performance() -> Document:
    key = (
        "The id of the batch's last event, with `;N` behind it for what is left of a batch that was acknowledged or refused in part. "
        "The same key means the same bytes: answer as the first time."
    )
    return {
        "operationId": "postWorkPerformance",
        "summary": "Ledger events of one epoch in sequence order",
        "parameters": [_parameter("Idempotency-Key", "header", {"type": "string"}, key, required=True)],
        "requestBody": {"required": True, "content": _json("WorkPerformance", {"events": [_EVENT]})},
        "responses": {
            "200": {"description": "Booked, all or up to a sequence.", "content": _json("Acknowledgement", {"acknowledged": 42})},
            "400": {"description": "Refused for good.", "content": _json("Rejection")},
            "422": {
                "description": "Refused for good, as 400.",
                "content": _json("Rejection", {"rejected": [{"id": _EVENT["id"], "reason": "the period is closed"}]}),
            },
            **_later(),
        },
    }


def _reached(value: Any, schemas: Document, seen: set[str] | None = None) -> Iterator[str]:
    """Names of the schemas that are referred to, directly or by one another."""
    seen = set() if seen is None else seen
    if isinstance(value, dict):
        for key, item in value.items():
            name = item.rsplit("/", 1)[1] if key == "$ref" else None
            if name is None:
                yield from _reached(item, schemas, seen)
            elif name not in seen:
                seen.add(name)
                yield name
                yield from _reached(schemas[name], schemas, seen)
    elif isinstance(value, list):
        for item in value:
            yield from _reached(item, schemas, seen)
