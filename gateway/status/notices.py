"""What the page says first: the alerts that stand, and what the board itself shows to be wrong, worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.events import Text
from gateway.domain.view import JobView
from gateway.status.board import Board, UnitStatus, seen
from gateway.status.health import SEVERITIES
from gateway.status.sentences import FAULT_SHEET, Said, aged, say

NO_REASON = Text("sans motif", "no reason given")
_STANDING = frozenset({"stopped", "starved", "blocked"})
_UNKNOWN_AFTER_S = 10.0
"""A link that has just come up still has to say how the machine is."""
_PIECES_WITHOUT_ORDER = 10
"""The last pieces of an order that ends by hand are no reason to call anybody."""


@dataclass(frozen=True)
class Notice:
    """One sentence with what to do. `path`: the screen that shows more."""

    key: str
    severity: str
    text: Text
    remedy: Text
    detail: str
    since: datetime
    path: str


def reason_text(unit: UnitStatus, reason: str | None, fault: int | str | None = None) -> Text:
    """A stop reason in the site's words; `fault:217` and unnamed faults by their number."""
    if reason is not None and reason in unit.reasons:
        named = unit.reasons[reason].text
        return named if fault in (None, 0, "") else Text(f"{named.fr}, F{fault}", f"{named.en}, F{fault}")
    if reason is not None and reason.startswith("fault:"):
        fault = reason.removeprefix("fault:")
    elif reason is not None:
        return Text(reason, reason)
    return NO_REASON if fault in (None, 0, "") else Text(f"défaut {fault}", f"fault {fault}")


def standing(unit: UnitStatus, now: datetime) -> bool:
    """Stopped in a way that asks for somebody: with a reason or a fault, or longer than what counts as a micro-stop."""
    view = unit.view
    explained = view.reason is not None or view.fault not in (None, 0, "", False)
    return view.state in _STANDING and (explained or (now - view.since).total_seconds() > unit.stop_threshold_s)


def remedy(board: Board, unit: UnitStatus) -> Text | None:
    """What to do at this machine now; None when nothing is to be done there."""
    link = board.link(unit.device)
    if not seen(link):
        return link.remedy if link is not None and link.remedy else Text("Vérifier automate et câble.", "Check PLC and cable.")
    if not standing(unit, board.at):
        return None
    view = unit.view
    if view.induced or view.state in ("starved", "blocked"):
        return Text("Voir le poste en amont ou en aval.", "See the machine before or after it.")
    return FAULT_SHEET if view.reason or view.fault else Text("Donner le motif de l’arrêt.", "Give the reason of the stop.")


def notices(board: Board, now: datetime) -> list[Notice]:
    """All of them, worst first, the oldest first among equals."""
    zone = board.gateway.time_zone
    found = [
        Notice(
            alert.key, alert.severity, aged(alert.text, alert.since, now, zone), alert.remedy, alert.detail, alert.since,
            _path(alert.key, alert.work_unit),
        )
        for alert in board.alerts
    ]  # fmt: skip
    for unit in board.units:
        found += _of_unit(board, unit, now)
    return sorted(found, key=lambda notice: (SEVERITIES.index(notice.severity), notice.since))


def _path(key: str, work_unit: str | None) -> str:
    if work_unit is not None:
        return f"/machines/{work_unit}"
    return "/journal" if key.startswith(("journal.", "disk.", "rows.")) else "/links"


def _of_unit(board: Board, unit: UnitStatus, now: datetime) -> Iterator[Notice]:
    view, zone = unit.view, board.gateway.time_zone
    path = f"/machines/{view.work_unit}"
    if seen(board.link(unit.device)) and standing(unit, now):
        induced = view.induced or view.state in ("starved", "blocked")
        reason = reason_text(unit, view.reason, view.fault)
        said = say(
            "machine_stopped", zone,
            {
                "unit": view.work_unit, "reason": reason, "instruction": remedy(board, unit), "state": view.state, "fault": view.fault,
                "since": view.since,
            },
        )  # fmt: skip
        severity = "warning" if induced else "critical"
        yield _notice(f"unit.stopped:{view.work_unit}", severity, said, view.since, now, zone, path)
    elif seen(board.link(unit.device)) and view.state == "unknown" and (now - view.since).total_seconds() > _UNKNOWN_AFTER_S:
        said = say("state_unknown", zone, {"unit": view.work_unit, "since": view.since})
        yield _notice(f"unit.unknown:{view.work_unit}", "warning", said, view.since, now, zone, path)
    if view.without_order >= _PIECES_WITHOUT_ORDER and view.job is None:
        said = say("without_order", zone, {"unit": view.work_unit, "count": view.without_order})
        yield _notice(f"unit.without_order:{view.work_unit}", "info", said, view.since, now, zone, path)
    for job in [view.job, *view.queue]:
        if job is not None and job.verdict in ("at_risk", "late"):
            yield from _late(job, now, zone)


def _notice(key: str, severity: str, said: Said, since: datetime, now: datetime, zone: str, path: str) -> Notice:
    return Notice(key, severity, aged(said.text, since, now, zone), said.remedy, said.detail, since, path)


def due(job: JobView) -> datetime | None:
    """Until when it is promised: the customer's window, else the order's end."""
    customer = job.order.customer
    return customer.delivery_to if customer and customer.delivery_to else job.order.end_time


def _late(job: JobView, now: datetime, zone: str) -> Iterator[Notice]:
    promised = due(job)
    eta = job.eta_safe if job.verdict == "at_risk" else job.eta_likely
    if promised is None or eta is None:
        return
    values = {"job": job.order.job_order_id, "delay": eta - promised, "safe": job.eta_safe, "likely": job.eta_likely, "basis": job.basis}
    said = say("order_at_risk" if job.verdict == "at_risk" else "order_late", zone, values)
    since = job.started_at or now
    yield _notice(f"order.{job.verdict}:{job.order.job_order_id}", "warning", said, since, now, zone, "/orders")
