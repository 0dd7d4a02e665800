"""The bodies of the retained topics, which the HTTP API gives too: one function each, so that both always say the same.

They return plain dicts to be written with `gateway.domain.cloud_event.encode`: times as `datetime`, quantities as `Decimal`.
"""

from __future__ import annotations

from typing import Any

from gateway.domain.job_order import Customer, JobOrder, QualityRequirement
from gateway.domain.view import JobView, LastQuality, MaterialTotal, UnitView
from gateway.seams import BookingStatus
from gateway.status.board import Alert, Board, JournalStatus, ProcessStatus, UplinkStatus, seen
from gateway.supervise import LinkStatus

Payload = dict[str, Any]

WAITING_TOLD = 50
"""Orders that an ERP has not booked, by name; the counts are of all."""


def state_payload(view: UnitView, link: LinkStatus | None = None) -> Payload:
    """`/state`: what the unit does, since when, why, for which job, and whether its link can be believed (good, bad)."""
    good = seen(link) if link is not None else view.state != "unknown"
    return {
        "work_unit": view.work_unit, "at": view.at, "item_state": view.item_state, "operation_mode": view.operation_mode,
        "state": view.state, "since": view.since, "reason": view.reason, "fault": view.fault, "induced": view.induced,
        "job_order_id": view.job.order.job_order_id if view.job else None,
        "product_id": view.job.order.product_id if view.job else None,
        "last_piece_at": view.last_piece_at, "quality": "good" if good else "bad",
    }  # fmt: skip


def job_payload(job: JobView) -> Payload:
    """`/job/{job_order_id}`: the JobResponse with cumulative quantities, actuals, state, ETA and verdict."""
    order = job.order
    return {
        "job_order_id": order.job_order_id, "state": job.state, "work_master_id": order.work_master_id, "product_id": order.product_id,
        "target": order.quantity, "unit": order.unit, "produced": job.produced, "good": job.good, "scrap": job.scrap, "rework": job.rework,
        "started_at": job.started_at, "ended_at": job.ended_at,
        "materials": [_material(material) for material in job.materials],
        "quality": {"pass": job.quality_pass, "fail": job.quality_fail},
        "eta_likely": job.eta_likely, "eta_safe": job.eta_safe, "verdict": job.verdict, "basis": job.basis,
        **_asked(order),
    }  # fmt: skip


def _asked(order: JobOrder) -> Payload:
    return {
        "priority": order.priority, "start_time": order.start_time, "end_time": order.end_time,
        "customer": _customer(order.customer) if order.customer else None,
        "order_id": order.order_id, "operation_id": order.operation_id, "lot_id": order.lot_id, "properties": dict(order.properties),
    }  # fmt: skip


def _customer(customer: Customer) -> Payload:
    return {
        "name": customer.name, "priority": customer.priority, "delivery_from": customer.delivery_from, "delivery_to": customer.delivery_to,
        "requirements": customer.requirements, "order_number": customer.order_number, "order_line": customer.order_line,
    }  # fmt: skip


def _material(total: MaterialTotal) -> Payload:
    return {
        "material_id": total.material_id, "lot_id": total.lot_id, "quantity": total.quantity, "unit": total.unit, "mode": total.mode
    }  # fmt: skip


def availability_payload(view: UnitView) -> Payload:
    """`/availability`: the next free slot, the load per day, the running job and the queue with their ETAs."""
    jobs = ([view.job] if view.job else []) + list(view.queue)
    return {
        "work_unit": view.work_unit, "at": view.at, "free_from": view.capacity_free_from,
        "load": [{"date": load.day.isoformat(), "required_s": load.required_s, "booked_s": load.booked_s} for load in view.load],
        "queue": [
            {
                "job_order_id": job.order.job_order_id, "state": job.state, "product_id": job.order.product_id,
                "target": job.order.quantity, "good": job.good, "unit": job.order.unit, "priority": job.order.priority,
                "eta_likely": job.eta_likely, "eta_safe": job.eta_safe, "verdict": job.verdict,
            }
            for job in jobs
        ],
    }  # fmt: skip


def health_payload(board: Board) -> Payload:
    """`/health`: links, backlog in rows, bytes and hours left at the present rate, drops, versions."""
    return {
        "at": board.at, "started_at": board.started_at, "gateway": gateway_payload(board),
        "links": [link_payload(link) for link in board.links],
        "uplinks": [uplink_payload(uplink, board.journal) for uplink in board.uplinks],
        "backlog": {
            "rows": max((uplink.rows for uplink in board.uplinks), default=0),
            "bytes": max((uplink.bytes for uplink in board.uplinks), default=0),
            "hours_left": board.journal.hours_left,
        },
        "disk": board.journal.disk,
        "journal": journal_payload(board.journal),
        "alerts": [alert_payload(alert) for alert in board.alerts],
        "tasks": [{"name": task.name, "running": task.running, "last_progress_at": task.last_progress_at} for task in board.tasks],
        "readings_per_s": board.readings_per_s, "process": process_payload(board.process), "drops": drops(board),
    }  # fmt: skip


def process_payload(process: ProcessStatus | None) -> Payload | None:
    if process is None:
        return None
    return {
        "rss_bytes": process.rss_bytes, "threads": process.threads, "files": process.files, "tasks": process.tasks,
        "loop_lag_p99_s": process.loop_lag_p99_s, "loop_lag_max_s": process.loop_lag_max_s,
    }  # fmt: skip


def drops(board: Board) -> Payload:
    """Messages lost for lack of room since the start, by class. Of ledger events none ever is."""
    return {"telemetry": board.journal.dropped + sum(uplink.dropped for uplink in board.uplinks), "ledger": 0}


def gateway_payload(board: Board) -> Payload:
    info = board.gateway
    return {
        "id": info.gateway_id, "enterprise": info.enterprise, "site": info.site, "language": info.language,
        "time_zone": info.time_zone, "version": info.version, "config_hash": info.config_hash, "started_at": board.started_at,
    }  # fmt: skip


def link_payload(link: LinkStatus) -> Payload:
    """One link; `remedy` in both languages where the driver knows one."""
    return {
        "name": link.name, "kind": link.kind, "peer": link.peer, "state": link.state.value, "since": link.since,
        "last_good": link.last_good, "error": link.error, "attempt": link.attempt, "next_try_at": link.next_try_at,
        "remedy": {"fr": link.remedy.fr, "en": link.remedy.en} if link.remedy else None,
        "outages": link.outages, "refused_tags": link.refused_tags,
    }  # fmt: skip


def uplink_payload(uplink: UplinkStatus, journal: JournalStatus) -> Payload:
    return {
        "name": uplink.name, "type": uplink.type, "rows": uplink.rows, "bytes": uplink.bytes, "oldest_at": uplink.oldest_at,
        "parked": uplink.parked, "last_ack_at": uplink.last_ack_at, "dropped": uplink.dropped, "hours_left": journal.hours_left,
        "bookings": _bookings(uplink.bookings) if uplink.bookings is not None else None,
    }  # fmt: skip


def _bookings(status: BookingStatus) -> Payload:
    waiting = sorted(status.waiting, key=lambda one: one.since)[:WAITING_TOLD]
    return {
        "orders": dict(status.orders),
        "waiting": [
            {"job_order_id": w.job_order_id, "step": w.step, "standing": w.standing, "words": w.words, "since": w.since} for w in waiting
        ],
    }  # fmt: skip


def journal_payload(journal: JournalStatus) -> Payload:
    return {
        "bytes": journal.bytes, "cap_bytes": journal.cap_bytes, "disk": journal.disk, "committing": journal.committing,
        "last_commit_at": journal.last_commit_at, "dropped": journal.dropped, "hours_left": journal.hours_left,
        "epoch": journal.epoch, "sequence": journal.sequence, "error": journal.error,
        "disk_free_bytes": journal.disk_free_bytes,
    }  # fmt: skip


def alert_payload(alert: Alert) -> Payload:
    return {
        "alert": alert.key, "severity": alert.severity, "since": alert.since, "work_unit": alert.work_unit,
        "text": {"fr": alert.text.fr, "en": alert.text.en}, "remedy": {"fr": alert.remedy.fr, "en": alert.remedy.en},
        "detail": alert.detail,
    }  # fmt: skip


def quality_payload(quality: LastQuality) -> Payload:
    limits: QualityRequirement = quality.limits
    return {
        "characteristic": quality.characteristic, "value": quality.value, "at": quality.at, "result": quality.result,
        "unit": limits.unit, "lower": limits.lower, "target": limits.target, "upper": limits.upper, "required_by": limits.required_by,
    }  # fmt: skip
