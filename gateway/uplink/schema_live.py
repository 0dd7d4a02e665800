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


_WORDS = _object(fr=_TEXT, en=_TEXT)
_DISK = {"enum": ["ok", "low", "full", "read_only"]}
_HOURS_LEFT = _said("until the journal or its disk is full at the present rate; null while the rate says nothing", _NUMBER_OR_NULL)


def _gateway() -> Schema:
    return _object(
        id=_TEXT, enterprise=_TEXT, site=_TEXT, language=_TEXT, time_zone=_TEXT, version=_TEXT, config_hash=_TEXT, started_at=_TIME
    )


def _link() -> Schema:
    return _object(
        name=_TEXT, kind={"enum": ["device", "uplink"]}, peer=_TEXT, state=_TEXT, since=_TIME_OR_NULL, last_good=_TIME_OR_NULL,
        error=_TEXT_OR_NULL, attempt=_COUNT, next_try_at=_TIME_OR_NULL, remedy=_or_null(_WORDS), outages=_COUNT,
        refused_tags=_said("tags that the device refuses", _list(_TEXT)),
    )  # fmt: skip


def _uplink() -> Schema:
    return _object(
        name=_TEXT, type=_TEXT, rows=_COUNT, bytes=_COUNT, oldest_at=_TIME_OR_NULL, parked=_COUNT, last_ack_at=_TIME_OR_NULL,
        dropped=_COUNT, hours_left=_HOURS_LEFT,
        bookings=_said("of an ERP that books totals; null for every other uplink", _or_null(_bookings())),
    )  # fmt: skip


def _bookings() -> Schema:
    standings = ("booked", "retry", "blocked", "refused")
    return _object(
        orders=_said("how many stand how", _object(owed=_COUNT, **dict.fromkeys(standings, _COUNT))),
        waiting=_said(
            "what is in the way, the oldest 50; words are the ERP's own",
            _list(
                _object(
                    job_order_id=_TEXT, step={"enum": ["start", "quality", "totals", "close", "promise"]},
                    standing={"enum": list(standings[1:])}, words=_TEXT, since=_TIME,
                )
            ),
        ),
    )  # fmt: skip


def _journal() -> Schema:
    return _object(
        bytes=_COUNT, cap_bytes=_COUNT, disk=_DISK, committing=_FLAG, last_commit_at=_TIME_OR_NULL, dropped=_COUNT,
        hours_left=_HOURS_LEFT, epoch=_TEXT, sequence=_COUNT, error=_TEXT_OR_NULL,
        disk_free_bytes=_or_null(_COUNT),
    )  # fmt: skip


def live_schemas() -> dict[str, Schema]:
    """Definitions by name."""
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
            at=_TIME, started_at=_TIME, gateway=_gateway(), links=_list(_link()), uplinks=_list(_uplink()),
            backlog=_object(rows=_COUNT, bytes=_COUNT, hours_left=_HOURS_LEFT), disk=_DISK, journal=_journal(),
            alerts=_list(
                _object(
                    alert=_TEXT, severity={"enum": ["info", "warning", "critical"]}, since=_TIME, work_unit=_TEXT_OR_NULL, text=_WORDS,
                    remedy=_WORDS, detail=_TEXT,
                )
            ),
            tasks=_list(_object(name=_TEXT, running=_FLAG, last_progress_at=_TIME_OR_NULL)), readings_per_s=_NUMBER_OR_NULL,
            process=_or_null(
                _object(
                    rss_bytes=_COUNT, threads=_COUNT, files=_COUNT, tasks=_COUNT,
                    loop_lag_p99_s=_said("how late the event loop was, last minute", _NUMBER_OR_NULL), loop_lag_max_s=_NUMBER_OR_NULL,
                )
            ),
            drops=_said("messages lost for lack of room since the start", _object(telemetry=_COUNT, ledger=_COUNT)),
        ),
    }  # fmt: skip
