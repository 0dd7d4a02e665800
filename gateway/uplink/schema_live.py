"""JSON Schema of the retained topics: what each field of state, job, availability and health is. More keys may be added later."""

from __future__ import annotations

from typing import Any

from gateway.domain.equipment import STATE_NAMES
from gateway.domain.job_order import JobState
from gateway.domain.promise import PromiseVerdict

Schema = dict[str, Any]

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_NUMBER = {"type": "number"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_TIME = {"type": "string", "format": "date-time"}
_TIME_OR_NULL = {"anyOf": [_TIME, {"type": "null"}]}
_STATE = {"enum": [state.value for state in JobState]}
_MODE = {"enum": ["backflush", "measured", "declared"]}
_VERDICT = {"enum": [verdict.value for verdict in PromiseVerdict]}


def _object(**fields: Schema) -> Schema:
    """All of them are always there; null says that nothing is known."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _said(text: str, schema: Schema) -> Schema:
    return {**schema, "description": text}


def live_schemas() -> dict[str, Schema]:
    """Definitions by name."""
    words = _object(fr=_TEXT, en=_TEXT)
    return {
        "State": _object(
            work_unit=_TEXT, at=_TIME,
            item_state={"enum": ["NotAvailable", "OutOfService", "NotExecuting", "Executing"]},
            operation_mode={"enum": ["None", "Maintenance", "Setup", "Processing"]},
            state={"enum": list(STATE_NAMES)}, since=_TIME, reason=_TEXT_OR_NULL, fault={"type": ["integer", "string", "null"]},
            induced=_FLAG, job_order_id=_TEXT_OR_NULL, product_id=_TEXT_OR_NULL, last_piece_at=_TIME_OR_NULL,
            quality=_said("whether the machine's link can be believed", {"enum": ["good", "bad"]}),
        ),
        "JobResponse": _object(
            job_order_id=_TEXT, state=_STATE, work_master_id=_TEXT_OR_NULL, product_id=_TEXT_OR_NULL, target=_NUMBER_OR_NULL, unit=_TEXT,
            produced=_NUMBER, good=_NUMBER, scrap=_NUMBER, rework=_NUMBER, started_at=_TIME_OR_NULL, ended_at=_TIME_OR_NULL,
            materials=_list(_object(material_id=_TEXT, lot_id=_TEXT_OR_NULL, quantity=_NUMBER, unit=_TEXT, mode=_MODE)),
            quality={"type": "object", "properties": {"pass": _COUNT, "fail": _COUNT}, "required": ["pass", "fail"]},
            eta_likely=_TIME_OR_NULL, eta_safe=_TIME_OR_NULL, verdict=_VERDICT, basis=_said("how the dates came about", _TEXT),
            priority={"type": ["integer", "null"]}, start_time=_TIME_OR_NULL, end_time=_TIME_OR_NULL,
            customer=_or_null(
                _object(
                    name=_TEXT_OR_NULL, priority={"type": ["integer", "null"]}, delivery_from=_TIME_OR_NULL, delivery_to=_TIME_OR_NULL,
                    requirements=_list(_TEXT), order_number=_TEXT_OR_NULL, order_line=_TEXT_OR_NULL,
                )
            ),
            order_id=_TEXT_OR_NULL, operation_id=_TEXT_OR_NULL, lot_id=_TEXT_OR_NULL, properties={"type": "object"},
        ),
        "Availability": _object(
            work_unit=_TEXT, at=_TIME, free_from=_said("next free slot; null where nobody knows", _TIME_OR_NULL),
            load=_list(_object(date={"type": "string", "format": "date"}, required_s=_NUMBER, booked_s=_NUMBER_OR_NULL)),
            queue=_list(
                _object(
                    job_order_id=_TEXT, state=_STATE, product_id=_TEXT_OR_NULL, target=_NUMBER_OR_NULL, good=_NUMBER, unit=_TEXT,
                    priority={"type": ["integer", "null"]}, eta_likely=_TIME_OR_NULL, eta_safe=_TIME_OR_NULL, verdict=_VERDICT,
                )
            ),
        ),
        "Health": _object(
            at=_TIME, started_at=_TIME, gateway=_object(id=_TEXT, enterprise=_TEXT, site=_TEXT, version=_TEXT, config_hash=_TEXT),
            links=_list(_object(name=_TEXT, kind={"enum": ["device", "uplink"]}, peer=_TEXT, state=_TEXT, since=_TIME_OR_NULL)),
            uplinks=_list(_object(name=_TEXT, type=_TEXT, rows=_COUNT, bytes=_COUNT, oldest_at=_TIME_OR_NULL, parked=_COUNT)),
            backlog=_object(rows=_COUNT, bytes=_COUNT, hours_left=_said("until the journal is full at the present rate", _NUMBER_OR_NULL)),
            disk={"enum": ["ok", "low", "full", "read_only"]},
            journal=_object(bytes=_COUNT, cap_bytes=_COUNT, committing=_FLAG, epoch=_TEXT, sequence=_COUNT),
            alerts=_list(_object(alert=_TEXT, severity={"enum": ["info", "warning", "critical"]}, since=_TIME, text=words, remedy=words)),
            tasks=_list(_object(name=_TEXT, running=_FLAG)), readings_per_s=_NUMBER_OR_NULL,
        ),
    }  # fmt: skip
