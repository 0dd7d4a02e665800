"""A morning on a small line, as the gateway would picture it; tests vary it with `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.events import Text
from gateway.domain.view import Interval, UnitView
from gateway.status.board import Alert, Board, EventLine, GatewayInfo, JournalStatus, TagView, TaskStatus, UnitStatus, UplinkStatus
from gateway.supervise import LinkState, LinkStatus
from tests.status.fake_units import END, NOW, REASONS, START, at, cycles, job, kpi, null_kpi, packer, press, waiting

__all__ = ["END", "NOW", "START", "at", "cycles", "job", "kpi", "null_kpi", "packer", "press", "waiting"]


def device(name: str, peer: str, **changes: Any) -> LinkStatus:
    link = LinkStatus(name, "device", peer, LinkState.CONNECTED, at(172), NOW - timedelta(seconds=0.4), outages=1)
    return replace(link, **changes)


def lost(link: LinkStatus) -> LinkStatus:
    return replace(
        link,
        state=LinkState.DISCONNECTED,
        since=NOW - timedelta(minutes=3),
        last_good=NOW - timedelta(minutes=3),
        attempt=12,
        error="TimeoutError: no answer in 1 s",
        next_try_at=NOW + timedelta(seconds=2),
        remedy=Text("Vérifier automate et câble.", "Check PLC and cable."),
    )


ERP_MUTE = Alert(
    "link.lost:erp",
    "warning",
    Text("erp muet depuis {age}, rien n’est perdu.", "erp silent for {age}, nothing lost."),
    Text("Rien à faire sur la ligne.", "Nothing to do here."),
    NOW - timedelta(minutes=41),
    None,
    "connect timeout erp.acme.lan:443 try 27",
)


def events() -> tuple[EventLine, ...]:
    found = [
        EventLine(
            81656,
            at(301),
            "state.changed",
            "press-07",
            "OF-48213",
            {"item_state": "NotExecuting", "state": "stopped", "reason": "overload", "fault": 217},
        ),
        EventLine(81655, at(300), "quantity.counted", "press-07", "OF-48213", {"produced": 2, "good": 1, "scrap": 1, "late": False}),
        EventLine(81654, at(299), "job.progress", "packer-02", "OF-48190", {"good": 30150, "target": 36000, "unit": "C62"}),
        EventLine(
            81653,
            at(298),
            "quality.result",
            "press-07",
            "OF-48213",
            {"characteristic": "bore_diameter", "value": 12.013, "unit": "MMT", "result": "Pass"},
        ),
        EventLine(
            81652,
            at(297),
            "promise.changed",
            "press-07",
            "OF-48213",
            {"verdict": "at_risk", "eta_likely": "2026-11-24T11:28:00Z", "eta_safe": at(508)},
        ),
        EventLine(81651, at(271), "alert.raised", None, None, {"alert": "link.lost:erp", "text": {"fr": "erp muet", "en": "erp silent"}}),
        EventLine(81650, at(269), "stop.ended", "packer-02", None, {"class": "stop", "duration_s": 240.0, "reason": None}),
        EventLine(
            81649,
            at(268),
            "command.answered",
            "press-07",
            None,
            {"command_id": "c-9", "return_status": 8, "problem": {"code": "x", "text": "no such order"}},
        ),
        EventLine(
            81648,
            at(240),
            "window.closed",
            "press-07",
            None,
            {"window": {"kind": "hour", "name": "2026-11-24T07:00:00Z"}, "oee": 0.71, "degraded": True},
        ),
        EventLine(81647, at(180), "counter.gap", "press-07", None, {"kind": "reset", "tag": "parts", "previous": 48213, "value": 12}),
        EventLine(
            81646,
            at(172),
            "material.consumed",
            "press-07",
            "OF-48213",
            {"material_id": "MP-TOLE-1.5", "quantity": 1.25, "unit": "KGM", "lot_id": "B-77120"},
        ),
        EventLine(
            81645, at(17), "job.changed", "press-07", "OF-48213", {"state": "Running", "previous": "AllowedToStart", "problem": None}
        ),
        EventLine(81644, at(16), "clock.stepped", None, None, {"step_s": -2.5}),
        EventLine(81643, at(15), "row.parked", None, None, {"uplink": "erp", "sequence": 18231, "reason": "422 unknown order"}),
        EventLine(81642, at(14), "command.written", "press-07", "OF-48213", {"tag": "target", "value": 12000, "problem": None}),
        EventLine(81641, at(13), "a.later.kind", None, None, {}),
    ]
    return tuple(found)


def press_status(view: UnitView | None = None) -> UnitStatus:
    tags = (
        TagView("parts", 1284913, "good", None, NOW - timedelta(seconds=0.4)),
        TagView("fault", 217, "good", None, NOW - timedelta(seconds=0.4)),
        TagView("coil_kg", 834.5, "good", "KGM", NOW - timedelta(seconds=0.4)),
        TagView("bore", 12.013, "uncertain", "MMT", at(298), "UncertainSensorNotAccurate"),
        TagView("bearing_temp", None, "bad", "CEL", at(284), "BadDeviceFailure"),
    )
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
        at=NOW,
        started_at=START - timedelta(days=2),
        gateway=GatewayInfo(
            "line-pc-07", "acme", "lyon", "fr", "Europe/Paris", "0.1.0", "/etc/lineside/gateway.yaml", "9f8e7d6c5b4a39281706"
        ),
        units=(press_status(), packer_status()),
        links=(
            device("press_plc", "OPC UA 192.168.10.21:4840"),
            device("packer_plc", "Modbus TCP 192.168.10.22:502"),
            LinkStatus("plant", "uplink", "MQTT broker-1:8883", LinkState.CONNECTED, at(0), NOW - timedelta(seconds=2)),
            LinkStatus(
                "erp",
                "uplink",
                "HTTPS erp.acme.lan",
                LinkState.DISCONNECTED,
                NOW - timedelta(minutes=41),
                NOW - timedelta(minutes=41),
                "connect timeout",
                None,
                27,
                NOW + timedelta(seconds=96),
                1,
            ),
        ),
        uplinks=(
            UplinkStatus("plant", "mqtt", 0, 0, None, 0, NOW - timedelta(seconds=2)),
            UplinkStatus("erp", "http", 214, 81_000, NOW - timedelta(minutes=41), 0, NOW - timedelta(minutes=41)),
        ),
        journal=JournalStatus(41_000_000, 2_000_000_000, "ok", True, NOW - timedelta(seconds=0.1), 0, 218.0, "7c0e", 81656),
        alerts=(ERP_MUTE,),
        events=events(),
        tasks=(TaskStatus("poll press_plc", True, NOW), TaskStatus("deliver erp", True, NOW - timedelta(minutes=41))),
        readings_per_s=812.0,
    )
    return replace(made, **changes)


def normal() -> Board:
    """Both machines run, everything is seen and sent."""
    running = press(
        item_state="Executing",
        state="running",
        reason=None,
        fault=None,
        job=job(verdict="on_time", eta_safe=at(455)),
        intervals=(*press().intervals[:-1], Interval(at(301), None, "run")),
        stop_reasons=(),
        cycles_5min=cycles()[:-6],
        last_piece_at=NOW - timedelta(seconds=1.8),
    )
    calm = board(units=(press_status(running), packer_status()), alerts=())
    erp = replace(calm.links[3], state=LinkState.CONNECTED, attempt=0, next_try_at=None, error="")
    return replace(calm, links=(*calm.links[:3], erp), uplinks=(calm.uplinks[0], replace(calm.uplinks[1], rows=0, bytes=0, oldest_at=None)))


def link_lost() -> Board:
    whole = board()
    cut = Alert(
        "link.lost:press_plc",
        "critical",
        Text("press-07 non vue depuis {age}.", "press-07 not seen for {age}."),
        Text("Vérifier automate et câble.", "Check PLC and cable."),
        NOW - timedelta(minutes=3),
        "press-07",
        "timeout 192.168.10.21:4840 try 12",
    )
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
        item_state="NotAvailable",
        state="unknown",
        reason=None,
        fault=None,
        last_piece_at=None,
        job=None,
        queue=(),
        recent=(),
        windows={"hour": null_kpi(), "shift": null_kpi()},
        intervals=(),
        micro_stops=(),
        cycles_5min=(),
        stop_reasons=(),
        late_count=Decimal(0),
        ideal_cycle_time_s=None,
        quality=(),
        capacity_free_from=None,
        load=(),
    )
    no_ideal = kpi(work_unit="packer-02", effectiveness=None, oee=None, trs=None, trg=None, tre=None, loss_cost=None)
    return board(
        units=(replace(press_status(view), tags=()), packer_status(packer(windows={"shift": no_ideal}, ideal_cycle_time_s=None))),
        journal=JournalStatus(0, 2_000_000_000),
        events=(),
        tasks=(),
        uplinks=(),
        links=(),
        alerts=(),
        readings_per_s=None,
    )


BOARDS = {
    "stopped": board,
    "normal": normal,
    "link_lost": link_lost,
    "no_orders": no_orders,
    "no_calendar": no_calendar,
    "nulls": nulls,
}
