"""Two machines of a small line on one morning, as the domain would picture them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import Reason
from gateway.domain.events import Text
from gateway.domain.job_order import Customer, JobOrder, QualityRequirement
from gateway.domain.kpi import COSTS
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
        "work_unit": "press-07",
        "window": {"kind": kind, "name": "morning", "from": "2026-11-24T04:00:00Z", "to": "2026-11-24T12:00:00Z"},
        "revision": 1,
        "closed": False,
        "total_s": 312 * 60.0,
        "opening_s": 312 * 60.0,
        "planned_s": 292 * 60.0,
        "run_s": 228 * 60.0,
        "setup_s": 17 * 60.0,
        "unknown_s": 18 * 60.0,
        "stop_s": 29 * 60.0,
        "stop_count": 3,
        "micro_stop_s": 14 * 60.0,
        "micro_stop_count": 23,
        "slow_s": 10 * 60.0,
        "produced": Decimal(5363),
        "good": Decimal(5276),
        "scrap": Decimal(87),
        "rework": Decimal(0),
        "late": Decimal(262),
        "availability": 0.781,
        "effectiveness": 0.941,
        "quality_ratio": 0.984,
        "oee": 0.723,
        "trs": 0.723,
        "trg": 0.677,
        "tre": 0.677,
        "loss_cost": 121.5,
        "scrap_cost": 104.4,
        "scrap_piece_cost": 43.5,
        "scrap_material_cost": 60.9,
        "cycle": {"count": 5101, "mean_s": 2.51, "p10_s": 2.38, "p50_s": 2.46, "p90_s": 2.7, "best_s": 2.36},
        "over_ideal": False,
        "degraded": True,
    }
    line |= changes
    net = None if line["effectiveness"] is None else line["effectiveness"] * line["run_s"]
    useful = None if line["oee"] is None else line["oee"] * line["planned_s"]
    return {"net_s": net, "useful_s": useful} | line


def null_kpi() -> dict[str, Any]:
    nulls: dict[str, Any] = dict.fromkeys(("availability", "effectiveness", "quality_ratio", "oee", "trs", "trg", "tre", *COSTS))
    zeros: dict[str, Any] = dict.fromkeys(
        ("total_s", "opening_s", "planned_s", "run_s", "setup_s", "unknown_s", "stop_s", "micro_stop_s", "slow_s"), 0.0
    )
    return kpi(**(nulls | zeros), produced=Decimal(0), good=Decimal(0), scrap=Decimal(0), late=Decimal(0), degraded=False)


def job(job_order_id: str = "OF-48213", **changes: Any) -> JobView:
    order = JobOrder(
        job_order_id,
        product_id="Bride BS-220",
        quantity=Decimal(12000),
        priority=3,
        end_time=at(600),
        customer=Customer("Ateliers Sorel", 1, at(360), at(480), ("certificat 3.1",), "C-118", "10"),
    )
    view = JobView(
        order,
        "Running",
        Decimal(8773),
        Decimal(8642),
        Decimal(131),
        Decimal(0),
        at(17),
        None,
        (MaterialTotal("MP-TOLE-1.5", "B-77120", Decimal("1342.5"), "KGM", "measured"),),
        14,
        1,
        at(448),
        at(508),
        "at_risk",
        "1,084 good/h observed over 4.9 h; break at 11:00 included",
    )
    return replace(view, **changes)


def waiting(job_order_id: str, quantity: int, **changes: Any) -> JobView:
    order = JobOrder(job_order_id, product_id="Bride BS-240", quantity=Decimal(quantity), priority=2)
    nothing = Decimal(0)
    view = JobView(order, "AllowedToStart", nothing, nothing, nothing, nothing, None, None, (), 0, 0, None, None, "unknown", "no rate yet")
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
        Interval(at(0), at(17), "setup", "tool_change"),
        Interval(at(17), at(98), "run"),
        Interval(at(98), at(105), "stop", "coil", None, True),
        Interval(at(105), at(154), "run"),
        Interval(at(154), at(172), "unknown"),
        Interval(at(172), at(180), "run"),
        Interval(at(180), at(200), "planned"),
        Interval(at(200), at(247), "run"),
        Interval(at(247), at(258), "stop", "jam"),
        Interval(at(258), at(301), "run"),
        Interval(at(301), None, "stop", "overload", 217),
    )
    ticks = (22, 31, 38, 52, 60, 71, 88, 93, 109, 121, 133, 147, 176, 206, 219, 233, 241, 264, 271, 279, 286, 292, 297)
    view = UnitView(
        work_unit="press-07",
        at=NOW,
        item_state="NotExecuting",
        operation_mode="Processing",
        state="stopped",
        reason="overload",
        fault=217,
        since=at(301),
        induced=False,
        last_piece_at=at(301),
        job=job(),
        queue=(waiting("OF-48220", 4000), waiting("OF-48231", 900)),
        recent=(job("OF-48199", state="Ended", ended_at=at(12), verdict="on_time"),),
        windows={"hour": kpi("hour"), "shift": kpi(), "job": kpi("job")},
        shift_from=START,
        shift_to=END,
        intervals=intervals,
        micro_stops=tuple(MicroStop(at(tick), 36.0, False) for tick in ticks),
        cycles_5min=cycles(),
        stop_reasons=(
            StopReason("tool_change", "setup", 17 * 60.0, 1, False, False),
            StopReason(None, "micro_stop", 14 * 60.0, 23, False, False),
            StopReason("overload", "stop", 11 * 60.0 + 41, 1, False, True),
            StopReason("jam", "stop", 11 * 60.0, 1, False, False),
            StopReason("coil", "stop", 7 * 60.0, 1, True, False),
        ),
        late_count=Decimal(262),
        without_order=Decimal(0),
        ideal_cycle_time_s=2.4,
        ideal_from="order",
        quality=(
            LastQuality(
                "bore_diameter",
                Decimal("12.013"),
                at(298),
                "Pass",
                QualityRequirement("bore_diameter", "MMT", Decimal("11.98"), Decimal(12), Decimal("12.02")),
            ),
        ),
        capacity_free_from=at(1900),
        load=(DayLoad(date(2026, 11, 24), 9960.0, 9960.0), DayLoad(date(2026, 11, 25), 28800.0, 4500.0)),
    )
    return replace(view, **changes)


def packer(**changes: Any) -> UnitView:
    intervals = (
        Interval(at(0), at(66), "run"),
        Interval(at(66), at(71), "stop"),
        Interval(at(71), at(180), "run"),
        Interval(at(180), at(200), "planned"),
        Interval(at(200), at(265), "run"),
        Interval(at(265), at(269), "stop", None, None, True),
        Interval(at(269), None, "run"),
    )
    line = kpi(
        work_unit="packer-02",
        run_s=283 * 60.0,
        setup_s=0.0,
        unknown_s=0.0,
        stop_s=9 * 60.0,
        stop_count=2,
        micro_stop_s=5 * 60.0,
        micro_stop_count=6,
        produced=Decimal(30184),
        good=Decimal(30150),
        scrap=Decimal(34),
        late=Decimal(0),
        availability=0.969,
        effectiveness=0.8868,
        quality_ratio=0.9988,
        oee=0.858,
        trs=0.858,
        degraded=False,
        loss_cost=None,
    )
    order = JobOrder("OF-48190", product_id="Carton C12", quantity=Decimal(36000), customer=Customer("Logis Rhône", 2, None, at(700)))
    running = JobView(
        order,
        "Running",
        Decimal(30184),
        Decimal(30150),
        Decimal(34),
        Decimal(0),
        at(0),
        None,
        (),
        0,
        0,
        at(384),
        at(401),
        "on_time",
        "5,900 good/h observed over 4.9 h",
    )
    return (
        press(
            work_unit="packer-02",
            item_state="Executing",
            state="running",
            reason=None,
            fault=None,
            since=at(269),
            last_piece_at=NOW - timedelta(seconds=0.6),
            job=running,
            queue=(),
            recent=(),
            windows={"hour": line, "shift": line, "job": line},
            intervals=intervals,
            micro_stops=tuple(MicroStop(at(tick), 40.0, False) for tick in (14, 49, 103, 156, 212, 288)),
            stop_reasons=(
                StopReason(None, "stop", 5 * 60.0, 1, False, False),
                StopReason(None, "micro_stop", 5 * 60.0, 6, False, False),
                StopReason(None, "stop", 4 * 60.0, 1, True, False),
            ),
            late_count=Decimal(0),
            ideal_cycle_time_s=0.5,
            quality=(),
            cycles_5min=(),
        )
        if not changes
        else replace(packer(), **changes)
    )
