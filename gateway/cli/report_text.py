"""A report as text for a terminal or a file: plain columns, in the site's language."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime

from gateway.domain.equipment import WorkUnit
from gateway.domain.kpi import Line
from gateway.domain.report import Report
from gateway.domain.view import StopReason
from gateway.status.report import LONGEST, Wording, cycle_rows, figures, loss_rows, scrap_costs
from gateway.status.report_words import TIMES
from gateway.status.words import words

Cells = Sequence[str]
_ROWS = 8


def lines_of(report: Report, unit: WorkUnit, wording: Wording) -> Iterator[str]:
    """One machine, section by section."""
    said, line = wording.words, report.line
    head = f"{unit.name} · {unit.work_center} · {unit.area}"
    yield head
    yield "=" * len(head)
    yield f"{wording.title(report)}, {wording.span(report)} ({wording.standing(report)})"
    if line["degraded"]:
        yield f"! {said['degraded']} ({said['degraded_why']})"
    yield from _section(said["orders"], _orders(report, wording) or [(said["no_orders"],)])
    yield from _section(said["times"], _times(line, wording), "r")
    yield from _section(said["kpis"], figures(line, wording), "r")
    yield from _section(said["losses"], _losses(line, wording), " rr")
    by_time = sorted(report.stop_reasons, key=lambda row: -row.duration_s)
    by_count = sorted(report.stop_reasons, key=lambda row: (-row.count, -row.duration_s))
    nothing = [(said["no_stops"],)]
    yield from _section(said["by_time"], _pareto(by_time, wording) or nothing, "rrr")
    yield from _section(said["by_count"], _pareto(by_count, wording, by_count=True) or nothing, "rrr")
    yield from _section(said["stops"], _stops(report, wording) or nothing, "r")
    yield from _section(said["cycle"], cycle_rows(line, wording) or [(said["no_cycle"],)], "r")
    yield from _section(said["quality"], _quality(report, wording), "r")
    yield ""


def total_lines(totals: Sequence[tuple[str, str, Line]], wording: Wording) -> Iterator[str]:
    """Work centres, areas and site: (scope, name, line)."""
    said, formats = wording.words, wording.formats
    page = words(wording.language)
    head = ["", said["oee"], said["availability"], said["effectiveness"], said["quality_ratio"], said["good"], said["scrap"]]
    rows = [[*head, f"{said['losses']}, {page['min']}", said["money"]]]
    for scope, name, line in totals:
        lost = None if line["useful_s"] is None else line["planned_s"] - line["useful_s"]
        rows.append(
            [f"{said[scope]} {name}", *(formats.percent(line[key]) for key in ("oee", "availability", "effectiveness", "quality_ratio")),
             formats.quantity(line["good"]), formats.quantity(line["scrap"]), formats.minutes(lost), wording.money(line["loss_cost"])]
        )  # fmt: skip
    yield from _table(rows, "rrrrrrrr")


def _section(title: str, rows: Sequence[Cells], align: str = "") -> Iterator[str]:
    yield ""
    yield title
    yield from (f"  {text}" for text in _table(rows, align))


def _table(rows: Sequence[Cells], align: str) -> Iterator[str]:
    """`align`: of the columns behind the first, `r` to the right."""
    widths = [max(_width(row[n]) for row in rows if n < len(row)) for n in range(max(map(len, rows)))]
    for row in rows:
        cells = []
        for n, cell in enumerate(row):
            fill = " " * (widths[n] - _width(cell))
            cells.append(fill + cell if n and align[n - 1 : n] == "r" else cell + fill)
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text if not unicodedata.combining(sign))


def _orders(report: Report, wording: Wording) -> list[Cells]:
    formats, said = wording.formats, wording.words
    return [
        (
            job.order.job_order_id, job.order.product_id or "", f"{formats.quantity(job.good)} / {formats.quantity(job.order.quantity)}",
            f"{formats.quantity(job.scrap)} {said['scrap']}", f"{said['started']} {_when(job.started_at, report, wording)}",
            f"{said['ended']} {_when(job.ended_at, report, wording)}",
        )
        for job in report.jobs
    ]  # fmt: skip


def _when(at: datetime | None, report: Report, wording: Wording) -> str:
    return wording.formats.when(at, report.from_)


def _times(line: Line, wording: Wording) -> list[Cells]:
    return [(wording.words[key], f"{wording.seconds(line[key])} s", wording.formats.lasted(line[key])) for key in TIMES]


def _losses(line: Line, wording: Wording) -> list[Cells]:
    rows: list[Cells] = [(row.name, row.kind, f"{row.seconds} s", row.money) for row in loss_rows(line, wording)]
    scrapped: list[Cells] = [(name, "", "", money) for name, money in scrap_costs(line, wording)]
    if not rows:
        return [(words(wording.language)["no_ideal"],), *scrapped]
    total = line["planned_s"] - line["useful_s"]
    rows.append((wording.words["total"], "", f"{wording.seconds(total)} s", wording.money(line["loss_cost"])))
    return rows + scrapped


def _pareto(reasons: Sequence[StopReason], wording: Wording, *, by_count: bool = False) -> list[Cells]:
    formats = wording.formats
    whole = sum(row.count if by_count else row.duration_s for row in reasons)
    rows: list[Cells] = []
    run = 0.0
    for row in reasons[:_ROWS]:
        run += row.count if by_count else row.duration_s
        share = formats.percent(run / whole, 0) if whole else ""
        rows.append((wording.row(row), formats.lasted(row.duration_s), f"{formats.number(row.count)} ×", share))
    rest = reasons[_ROWS:]
    if rest:
        lasted, count = sum(row.duration_s for row in rest), sum(row.count for row in rest)
        rows.append((words(wording.language)["others"], formats.lasted(lasted), f"{formats.number(count)} ×", formats.percent(1, 0)))
    return rows


def _stops(report: Report, wording: Wording) -> list[Cells]:
    formats = wording.formats
    rows: list[Cells] = []
    for stop in report.stops[:LONGEST]:
        until = words(wording.language)["going_on"] if stop.to is None else formats.clock(stop.to)
        named = wording.reason(stop.reason, stop.fault)
        rows.append((f"{_when(stop.from_, report, wording)} – {until}", formats.lasted(stop.duration_s), named, stop.job_order_id or ""))
    return rows


def _quality(report: Report, wording: Wording) -> list[Cells]:
    said, line, formats = wording.words, report.line, wording.formats
    rows: list[Cells] = [(said[key], formats.quantity(line[key])) for key in ("produced", "good", "scrap", "rework", "late")]
    passed, failed = (sum(getattr(job, key) for job in report.jobs) for key in ("quality_pass", "quality_fail"))
    if passed + failed:
        rows += [(said["checks"], formats.number(passed + failed)), (said["failed"], formats.number(failed))]
    return rows
