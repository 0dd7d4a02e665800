"""A morning on a small line, as the gateway would picture it; tests vary it with `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import Reason
from gateway.domain.events import Text
from gateway.domain.job_order import Customer, JobOrder, QualityRequirement
from gateway.domain.view import (
    CycleBin,
    DayLoad,
    Interval,
    JobView,
    LastQuality,
    MaterialTotal,
    MicroStop,
    StopReason,
    UnitView,
)
from gateway.status.board import (
    Alert,
    Board,
    EventLine,
    GatewayInfo,
    JournalStatus,
    TagView,
    TaskStatus,
    UnitStatus,
    UplinkStatus,
)
from gateway.supervise import LinkState, LinkStatus

START = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
"""05:00 in Paris: the morning shift begins."""
NOW = START + timedelta(hours=5, minutes=12, seconds=41)
END = START + timedelta(hours=8)

REASONS = {
    "overload": Reason("overload", "own", Text("surcharge coulisseau", "slide overload"), frozenset({217})),
    "tool_change": Reason("tool_change", "setup", Text("changement d’outil", "tool change")),
    "coil": Reason("coil", "induced", Text("manque bobine", "coil missing")),
    "jam": Reason("jam", "own", Text("bourrage éjecteur", "ejector jam")),
}


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def kpi(kind: str = "shift", **changes: Any) -> dict[str, Any]:
    line: dict[str, Any] = {
        "work_unit": "press-07", "window": {"kind": kind, "name": "morning", "from": "2026-11-24T04:00:00Z", "to": "2026-11-24T12:00:00Z"},
        "revision": 1, "closed": False, "total_s": 312 * 60.0, "opening_s": 312 * 60.0, "planned_s": 292 * 60.0, "run_s": 228 * 60.0,
        "setup_s": 17 * 60.0, "unknown_s": 18 * 60.0, "stop_s": 29 * 60.0, "stop_count": 3, "micro_stop_s": 14 * 60.0,
        "micro_stop_count": 23, "slow_s": 10 * 60.0, "produced": Decimal(5363), "good": Decimal(5276), "scrap": Decimal(87),
        "rework": Decimal(0), "late": Decimal(262), "availability": 0.781, "effectiveness": 0.941, "quality_ratio": 0.984, "oee": 0.723,
        "trs": 0.723, "trg": 0.677, "tre": 0.677, "loss_cost": 121.5, "over_ideal": False, "degraded": True,
    }  # fmt: skip
    return line | changes


def null_kpi() -> dict[str, Any]:
    nulls: dict[str, Any] = dict.fromkeys(("availability", "effectiveness", "quality_ratio", "oee", "trs", "trg", "tre", "loss_cost"))
    zeros: dict[str, Any] = dict.fromkeys(
        ("total_s", "opening_s", "planned_s", "run_s", "setup_s", "unknown_s", "stop_s", "micro_stop_s", "slow_s"), 0.0
    )
    return kpi(**(nulls | zeros), produced=Decimal(0), good=Decimal(0), scrap=Decimal(0), late=Decimal(0), degraded=False)


def job(job_order_id: str = "OF-48213", **changes: Any) -> JobView:
    order = JobOrder(
        job_order_id, product_id="Bride BS-220", quantity=Decimal(12000), priority=3, end_time=at(600),
        customer=Customer("Ateliers Sorel", 1, at(360), at(480), ("certificat 3.1",), "C-118", "10"),
    )  # fmt: skip
    view = JobView(
        order, "Running", Decimal(8773), Decimal(8642), Decimal(131), Decimal(0), at(17), None,
        (MaterialTotal("MP-TOLE-1.5", "B-77120", Decimal("1342.5"), "KGM", "measured"),), 14, 1, at(448), at(508), "at_risk",
        "1,084 good/h observed over 4.9 h; break at 11:00 included",
    )  # fmt: skip
    return replace(view, **changes)


def waiting(job_order_id: str, quantity: int, **changes: Any) -> JobView:
    order = JobOrder(job_order_id, product_id="Bride BS-240", quantity=Decimal(quantity), priority=2)
    nothing = Decimal(0)
    view = JobView(
        order, "AllowedToStart", nothing, nothing, nothing, nothing, None, None, (), 0, 0, None, None, "unknown", "no rate yet"
    )  # fmt: skip
    return replace(view, **changes)


def cycles() -> tuple[CycleBin, ...]:
    bins = []
    for number in range(4, 60):
        minutes = number * 5
        if 85 <= minutes < 92 or 154 <= minutes < 172 or 180 <= minutes < 200 or 247 <= minutes < 258:
            continue
        drift = max(0.0, (minutes - 258) / 43) * 0.2
        middle = 2.45 + drift + 0.02 * ((number * 7) % 5 - 2)
        few = number in (36, 41)
        bins.append(CycleBin(at(minutes), 12 if few else 118, None if few else middle - 0.06, middle, None if few else middle + 0.12))
    return tuple(bins)


def press(**changes: Any) -> UnitView:
    intervals = (
        Interval(at(0), at(17), "setup", "tool_change"), Interval(at(17), at(98), "run"), Interval(at(98), at(105), "stop", "coil", None, True),
        Interval(at(105), at(154), "run"), Interval(at(154), at(172), "unknown"), Interval(at(172), at(180), "run"),
        Interval(at(180), at(200), "planned"), Interval(at(200), at(247), "run"), Interval(at(247), at(258), "stop", "jam"),
        Interval(at(258), at(301), "run"), Interval(at(301), None, "stop", "overload", 217),
    )  # fmt: skip
    ticks = (22, 31, 38, 52, 60, 71, 88, 93, 109, 121, 133, 147, 176, 206, 219, 233, 241, 264, 271, 279, 286, 292, 297)
    view = UnitView(
        work_unit="press-07", at=NOW, item_state="NotExecuting", operation_mode="Processing", state="stopped", reason="overload", fault=217,
        since=at(301), induced=False, last_piece_at=at(301), job=job(), queue=(waiting("OF-48220", 4000), waiting("OF-48231", 900)),
        recent=(job("OF-48199", state="Ended", ended_at=at(12), verdict="on_time"),), windows={"hour": kpi("hour"), "shift": kpi(), "job": kpi("job")},
        shift_from=START, shift_to=END, intervals=intervals, micro_stops=tuple(MicroStop(at(tick), 36.0, False) for tick in ticks),
        cycles_5min=cycles(),
        stop_reasons=(
            StopReason("tool_change", "setup", 17 * 60.0, 1, False, False), StopReason(None, "micro_stop", 14 * 60.0, 23, False, False),
            StopReason("overload", "stop", 11 * 60.0 + 41, 1, False, True), StopReason("jam", "stop", 11 * 60.0, 1, False, False),
            StopReason("coil", "stop", 7 * 60.0, 1, True, False),
        ),
        late_count=Decimal(262), without_order=Decimal(0), ideal_cycle_time_s=2.4,
        quality=(LastQuality("bore_diameter", Decimal("12.013"), at(298), "Pass", QualityRequirement("bore_diameter", "MMT", Decimal("11.98"), Decimal(12), Decimal("12.02"))),),
        capacity_free_from=at(1900), load=(DayLoad(date(2026, 11, 24), 9960.0, 9960.0), DayLoad(date(2026, 11, 25), 28800.0, 4500.0)),
    )  # fmt: skip
    return replace(view, **changes)


def packer(**changes: Any) -> UnitView:
    intervals = (
        Interval(at(0), at(66), "run"), Interval(at(66), at(71), "stop"), Interval(at(71), at(180), "run"), Interval(at(180), at(200), "planned"),
        Interval(at(200), at(265), "run"), Interval(at(265), at(269), "stop", None, None, True), Interval(at(269), None, "run"),
    )  # fmt: skip
    line = kpi(
        work_unit="packer-02", run_s=283 * 60.0, setup_s=0.0, unknown_s=0.0, stop_s=9 * 60.0, stop_count=2, micro_stop_s=5 * 60.0,
        micro_stop_count=6, produced=Decimal(30184), good=Decimal(30150), scrap=Decimal(34), late=Decimal(0), availability=0.969,
        effectiveness=0.8868, quality_ratio=0.9988, oee=0.858, trs=0.858, degraded=False, loss_cost=None,
    )  # fmt: skip
    order = JobOrder("OF-48190", product_id="Carton C12", quantity=Decimal(36000), customer=Customer("Logis Rhône", 2, None, at(700)))
    running = JobView(
        order, "Running", Decimal(30184), Decimal(30150), Decimal(34), Decimal(0), at(0), None, (), 0, 0, at(384), at(401), "on_time", "5,900 good/h observed over 4.9 h"
    )  # fmt: skip
    return press(
        work_unit="packer-02", item_state="Executing", state="running", reason=None, fault=None, since=at(269),
        last_piece_at=NOW - timedelta(seconds=0.6), job=running, queue=(), recent=(), windows={"hour": line, "shift": line, "job": line},
        intervals=intervals, micro_stops=tuple(MicroStop(at(tick), 40.0, False) for tick in (14, 49, 103, 156, 212, 288)),
        stop_reasons=(
            StopReason(None, "stop", 5 * 60.0, 1, False, False), StopReason(None, "micro_stop", 5 * 60.0, 6, False, False),
            StopReason(None, "stop", 4 * 60.0, 1, True, False),
        ),
        late_count=Decimal(0), ideal_cycle_time_s=0.5, quality=(), cycles_5min=(),
    ) if not changes else replace(packer(), **changes)  # fmt: skip


def device(name: str, peer: str, **changes: Any) -> LinkStatus:
    link = LinkStatus(name, "device", peer, LinkState.CONNECTED, at(172), NOW - timedelta(seconds=0.4), outages=1)
    return replace(link, **changes)


def lost(link: LinkStatus) -> LinkStatus:
    return replace(
        link, state=LinkState.DISCONNECTED, since=NOW - timedelta(minutes=3), last_good=NOW - timedelta(minutes=3), attempt=12,
        error="TimeoutError: no answer in 1 s", next_try_at=NOW + timedelta(seconds=2),
        remedy=Text("Vérifier automate et câble.", "Check PLC and cable."),
    )  # fmt: skip


ERP_MUTE = Alert(
    "link.lost:erp", "warning", Text("erp muet depuis {age}, rien n’est perdu.", "erp silent for {age}, nothing lost."),
    Text("Rien à faire sur la ligne.", "Nothing to do here."), NOW - timedelta(minutes=41), None, "connect timeout erp.acme.lan:443 try 27",
)  # fmt: skip


def events() -> tuple[EventLine, ...]:
    found = [
        EventLine(81656, at(301), "state.changed", "press-07", "OF-48213", {"item_state": "NotExecuting", "state": "stopped", "reason": "overload", "fault": 217}),
        EventLine(81655, at(300), "quantity.counted", "press-07", "OF-48213", {"produced": 2, "good": 1, "scrap": 1, "late": False}),
        EventLine(81654, at(299), "job.progress", "packer-02", "OF-48190", {"good": 30150, "target": 36000, "unit": "C62"}),
        EventLine(81653, at(298), "quality.result", "press-07", "OF-48213", {"characteristic": "bore_diameter", "value": 12.013, "unit": "MMT", "result": "Pass"}),
        EventLine(81652, at(297), "promise.changed", "press-07", "OF-48213", {"verdict": "at_risk", "eta_likely": "2026-11-24T11:28:00Z", "eta_safe": at(508)}),
        EventLine(81651, at(271), "alert.raised", None, None, {"alert": "link.lost:erp", "text": {"fr": "erp muet", "en": "erp silent"}}),
        EventLine(81650, at(269), "stop.ended", "packer-02", None, {"class": "stop", "duration_s": 240.0, "reason": None}),
        EventLine(81649, at(268), "command.answered", "press-07", None, {"command_id": "c-9", "return_status": 8, "problem": {"code": "x", "text": "no such order"}}),
        EventLine(81648, at(240), "window.closed", "press-07", None, {"window": {"kind": "hour", "name": "2026-11-24T07:00:00Z"}, "oee": 0.71, "degraded": True}),
        EventLine(81647, at(180), "counter.gap", "press-07", None, {"kind": "reset", "tag": "parts", "previous": 48213, "value": 12}),
        EventLine(81646, at(172), "material.consumed", "press-07", "OF-48213", {"material_id": "MP-TOLE-1.5", "quantity": 1.25, "unit": "KGM", "lot_id": "B-77120"}),
        EventLine(81645, at(17), "job.changed", "press-07", "OF-48213", {"state": "Running", "previous": "AllowedToStart", "problem": None}),
        EventLine(81644, at(16), "clock.stepped", None, None, {"step_s": -2.5}),
        EventLine(81643, at(15), "row.parked", None, None, {"uplink": "erp", "sequence": 18231, "reason": "422 unknown order"}),
        EventLine(81642, at(14), "command.written", "press-07", "OF-48213", {"tag": "target", "value": 12000, "problem": None}),
        EventLine(81641, at(13), "a.later.kind", None, None, {}),
    ]  # fmt: skip
    return tuple(found)


def press_status(view: UnitView | None = None) -> UnitStatus:
    tags = (
        TagView("parts", 1284913, "good", None, NOW - timedelta(seconds=0.4)), TagView("fault", 217, "good", None, NOW - timedelta(seconds=0.4)),
        TagView("coil_kg", 834.5, "good", "KGM", NOW - timedelta(seconds=0.4)), TagView("bore", 12.013, "uncertain", "MMT", at(298), "UncertainSensorNotAccurate"),
        TagView("bearing_temp", None, "bad", "CEL", at(284), "BadDeviceFailure"),
    )  # fmt: skip
    return UnitStatus(view or press(), "stamping", "line-3", "press_plc", 0.5, 120.0, 0.1, tags, REASONS, "EUR")


def packer_status(view: UnitView | None = None) -> UnitStatus:
    tags = (
        TagView("parts", 30184, "good", None, NOW - timedelta(seconds=0.9)),
        TagView("state", 0, "good", None, NOW - timedelta(seconds=0.9)),
    )
    return UnitStatus(view or packer(), "packing", "line-3", "packer_plc", 0.5, 120.0, 0.1, tags, REASONS)


def board(**changes: Any) -> Board:
    """The press stands with a fault, its order is at risk, the packer runs, the ERP has been silent for 41 minutes."""
    made = Board(
        at=NOW, started_at=START - timedelta(days=2), gateway=GatewayInfo(
            "line-pc-07", "acme", "lyon", "fr", "Europe/Paris", "0.1.0", "/etc/lineside/gateway.yaml", "9f8e7d6c5b4a39281706"),
        units=(press_status(), packer_status()),
        links=(
            device("press_plc", "OPC UA 192.168.10.21:4840"), device("packer_plc", "Modbus TCP 192.168.10.22:502"),
            LinkStatus("plant", "uplink", "MQTT broker-1:8883", LinkState.CONNECTED, at(0), NOW - timedelta(seconds=2)),
            LinkStatus("erp", "uplink", "HTTPS erp.acme.lan", LinkState.DISCONNECTED, NOW - timedelta(minutes=41), NOW - timedelta(minutes=41),
                       "connect timeout", None, 27, NOW + timedelta(seconds=96), 1),
        ),
        uplinks=(
            UplinkStatus("plant", "mqtt", 0, 0, None, 0, NOW - timedelta(seconds=2)),
            UplinkStatus("erp", "http", 214, 81_000, NOW - timedelta(minutes=41), 0, NOW - timedelta(minutes=41)),
        ),
        journal=JournalStatus(41_000_000, 2_000_000_000, "ok", True, NOW - timedelta(seconds=0.1), 0, 218.0, "7c0e", 81656),
        alerts=(ERP_MUTE,), events=events(), tasks=(TaskStatus("poll press_plc", True, NOW), TaskStatus("deliver erp", True, NOW - timedelta(minutes=41))),
        readings_per_s=812.0,
    )  # fmt: skip
    return replace(made, **changes)


def normal() -> Board:
    """Both machines run, everything is seen and sent."""
    running = press(
        item_state="Executing", state="running", reason=None, fault=None, job=job(verdict="on_time", eta_safe=at(455)),
        intervals=(*press().intervals[:-1], Interval(at(301), None, "run")), stop_reasons=(), cycles_5min=cycles()[:-6],
        last_piece_at=NOW - timedelta(seconds=1.8),
    )  # fmt: skip
    calm = board(units=(press_status(running), packer_status()), alerts=())
    erp = replace(calm.links[3], state=LinkState.CONNECTED, attempt=0, next_try_at=None, error="")
    return replace(calm, links=(*calm.links[:3], erp), uplinks=(calm.uplinks[0], replace(calm.uplinks[1], rows=0, bytes=0, oldest_at=None)))


def link_lost() -> Board:
    whole = board()
    cut = Alert(
        "link.lost:press_plc", "critical", Text("press-07 non vue depuis {age}.", "press-07 not seen for {age}."),
        Text("Vérifier automate et câble.", "Check PLC and cable."), NOW - timedelta(minutes=3), "press-07", "timeout 192.168.10.21:4840 try 12",
    )  # fmt: skip
    return replace(whole, links=(lost(whole.links[0]), *whole.links[1:]), alerts=(cut, ERP_MUTE))


def no_orders() -> Board:
    empty = press(job=None, queue=(), recent=(), without_order=Decimal(214), capacity_free_from=None, load=())
    return board(units=(press_status(empty), packer_status(packer(job=None))))


def no_calendar() -> Board:
    line = kpi(
        "hour", window={"kind": "hour", "name": "2026-11-24T09:00:00Z", "from": "2026-11-24T09:00:00Z", "to": "2026-11-24T10:00:00Z"}
    )
    view = press(windows={"hour": line}, shift_from=NOW - timedelta(hours=8), shift_to=NOW, job=None)
    return board(units=(press_status(view),))


def nulls() -> Board:
    """Nothing known yet: no reading, no required time, no ideal time."""
    view = press(
        item_state="NotAvailable", state="unknown", reason=None, fault=None, last_piece_at=None, job=None, queue=(), recent=(),
        windows={"hour": null_kpi(), "shift": null_kpi()}, intervals=(), micro_stops=(), cycles_5min=(), stop_reasons=(),
        late_count=Decimal(0), ideal_cycle_time_s=None, quality=(), capacity_free_from=None, load=(),
    )  # fmt: skip
    no_ideal = kpi(work_unit="packer-02", effectiveness=None, oee=None, trs=None, trg=None, tre=None, loss_cost=None)
    return board(
        units=(replace(press_status(view), tags=()), packer_status(packer(windows={"shift": no_ideal}, ideal_cycle_time_s=None))),
        journal=JournalStatus(0, 2_000_000_000), events=(), tasks=(), uplinks=(), links=(), alerts=(), readings_per_s=None,
    )  # fmt: skip


BOARDS = {
    "stopped": board,
    "normal": normal,
    "link_lost": link_lost,
    "no_orders": no_orders,
    "no_calendar": no_calendar,
    "nulls": nulls,
}
