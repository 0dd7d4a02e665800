"""What the A4 sheet of a shift shows: the machine page's charts over a window that may have ended long ago."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.domain.report import Report
from gateway.domain.view import UnitView
from gateway.status.board import Board, UnitStatus
from gateway.status.charts import strip, trend
from gateway.status.losses import cascade, losses, pareto
from gateway.status.report import LONGEST, Wording, cycle_rows, loss_rows, scrap_costs
from gateway.status.screens import Reader, order_line

ORDERS = 5
"""Orders on the sheet; of a shift with more the first ones, and how many more."""


def pictured(view: UnitView, report: Report) -> UnitView:
    """`view` as it would have looked at the end of the window."""
    line = report.line
    ideal = float(line["net_s"]) / float(line["produced"]) if line["net_s"] and line["produced"] else None
    return replace(
        view, windows={"shift": line}, shift_from=report.from_, shift_to=report.to, intervals=report.intervals,
        micro_stops=report.micro_stops, cycles_5min=report.cycles_5min, stop_reasons=report.stop_reasons, ideal_cycle_time_s=ideal,
    )  # fmt: skip


def report_context(board: Board, unit: UnitStatus, report: Report, reader: Reader) -> Mapping[str, Any]:
    formats, line, end = reader.formats, report.line, report.known_to
    wording = Wording(reader.language, formats, unit.reasons, unit.currency)
    view = pictured(unit.view, report)
    rows = pareto(report.stop_reasons)
    letters = {row.key: row.letter for row in rows if row.key and row.letter}
    of = losses(line, view.ideal_cycle_time_s) if line["planned_s"] else None
    stops = [
        (formats.when(s.from_, end), "" if s.to is None else formats.clock(s.to), formats.lasted(s.duration_s),
         wording.reason(s.reason, s.fault), s.job_order_id or "")
        for s in report.stops[:LONGEST]
    ]  # fmt: skip
    return {
        "board": board, "unit": unit, "report": report, "line": line, "w": reader.words, "r": wording.words, "f": formats,
        "lang": reader.language, "now": reader.now, "title": wording.title(report), "span": wording.span(report),
        "standing": wording.standing(report), "strip": strip(view, end, formats, letters, alarmed=False, lost_at=None),
        "trend": trend(view, end, formats, unit.slow_tolerance), "ideal": view.ideal_cycle_time_s,
        "steps": cascade(of) if of else (), "pareto": rows, "named": [wording.named(row.stop) for row in rows],
        "stops": stops, "more_stops": max(len(report.stops) - LONGEST, 0), "cycle": cycle_rows(line, wording),
        "losses": loss_rows(line, wording), "scrap_costs": scrap_costs(line, wording), "money": wording.money,
        "lost": None if of is None else of.lost_s,
        "orders": [(job, order_line(job, reader)) for job in report.jobs[:ORDERS]], "more_orders": max(len(report.jobs) - ORDERS, 0),
        "checks": (sum(job.quality_pass for job in report.jobs), sum(job.quality_fail for job in report.jobs)),
    }  # fmt: skip
