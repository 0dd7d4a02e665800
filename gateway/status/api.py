"""The bodies of `/api/...`: the topics' own payloads, put together."""

from __future__ import annotations

from gateway.domain.view import JobView
from gateway.status.board import Board, UnitStatus
from gateway.status.notices import remedy
from gateway.status.payloads import (
    Payload,
    alert_payload,
    availability_payload,
    gateway_payload,
    health_payload,
    job_payload,
    quality_payload,
    state_payload,
)
from gateway.status.sentences import aged


def status_body(board: Board) -> Payload:
    """`/api/status`: health, and every unit with its state, KPI windows and job."""
    body = health_payload(board)
    body["alerts"] = [
        alert_payload(alert)
        | {"text": vars(aged(alert.text, alert.since, board.at, board.gateway.time_zone))}
        for alert in board.alerts
    ]  # fmt: skip
    body["gateway"] = gateway_payload(board)
    body["work_centers"] = [{"work_center": name, "kpi": dict(windows)} for name, windows in board.lines.items()]
    body["units"] = [unit_body(board, unit) for unit in board.units]
    return body


def unit_body(board: Board, unit: UnitStatus) -> Payload:
    view = unit.view
    return {
        **state_payload(view, board.link(unit.device)),
        "area": unit.area, "work_center": unit.work_center, "device": unit.device,
        "shift": {"from": view.shift_from, "to": view.shift_to},
        "kpi": dict(view.windows), "job": job_payload(view.job) if view.job else None, "queue_count": len(view.queue),
        "without_order": view.without_order, "ideal_cycle_time_s": view.ideal_cycle_time_s,
        "ideal_from": view.ideal_from, "free_from": view.capacity_free_from,
    }  # fmt: skip


def machine_body(board: Board, unit: UnitStatus) -> Payload:
    """`/api/machines/{work_unit}`: the unit with the history of its shift, its tags and what to do."""
    view = unit.view
    said = remedy(board, unit)
    return {
        **unit_body(board, unit),
        "queue": [job_payload(job) for job in view.queue],
        "intervals": [
            {"from": i.from_, "to": i.to, "kind": i.kind, "reason": i.reason, "fault": i.fault, "induced": i.induced}
            for i in view.intervals
        ],
        "micro_stops": [{"from": m.from_, "duration_s": m.duration_s, "induced": m.induced} for m in view.micro_stops],
        "cycles_5min": [{"from": c.from_, "count": c.count, "p10": c.p10, "p50": c.p50, "p90": c.p90} for c in view.cycles_5min],
        "stop_reasons": [
            {
                "reason": s.reason, "kind": s.kind, "duration_s": s.duration_s, "count": s.count, "induced": s.induced, "open": s.open,
                "text": vars(unit.reasons[s.reason].text) if s.reason is not None and s.reason in unit.reasons else None,
            }
            for s in view.stop_reasons
        ],
        "late_count": view.late_count,
        "quality": [quality_payload(quality) for quality in view.quality],
        "tags": [
            {"tag": t.tag, "value": t.value, "quality": t.quality, "unit": t.unit, "at": t.at, "detail": t.detail} for t in unit.tags
        ],
        "remedy": vars(said) if said else None,
    }  # fmt: skip


def orders_body(board: Board) -> Payload:
    """`/api/orders`: every order of every unit, running first, then the dispatch list, then what ended lately."""
    orders: list[Payload] = []
    for unit in board.units:
        view = unit.view
        running = [view.job] if view.job else []
        orders += [_placed(job, view.work_unit, rank) for rank, job in enumerate([*running, *view.queue])]
        orders += [_placed(job, view.work_unit, None) for job in view.recent]
    return {"at": board.at, "orders": orders}


def _placed(job: JobView, work_unit: str, rank: int | None) -> Payload:
    """`rank`: place in the dispatch list, 0 first; None for an order that is over."""
    return {"work_unit": work_unit, "rank": rank, **job_payload(job)}


def availability_body(board: Board) -> Payload:
    return {"at": board.at, "units": [availability_payload(unit.view) for unit in board.units]}
