"""The report on one window of one machine: what it says, for the A4 page, the terminal and whoever wants the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from gateway.domain.equipment import Reason
from gateway.domain.events import Text
from gateway.domain.kpi import LOSSES
from gateway.domain.report import Report, StopLine
from gateway.domain.view import StopReason
from gateway.status.formats import DASH, Formats, unbroken
from gateway.status.notices import NO_REASON
from gateway.status.payloads import Payload, job_payload
from gateway.status.report_words import CYCLES, DURATIONS, RATIOS, report_words
from gateway.status.words import words

LONGEST = 8
"""Stops that a report lists one by one."""


class Archive(Protocol):
    """What the server asks of the past. Each raises PastUnreadable, and `shift` NoSuchWindow with a sentence."""

    async def windows(self, work_unit: str, kind: str, start: datetime, end: datetime, limit: int) -> Sequence[Mapping[str, Any]]: ...

    async def line_windows(
        self, work_center: str, kind: str, start: datetime, end: datetime, limit: int
    ) -> Sequence[Mapping[str, Any]] | None: ...

    async def stops(self, work_unit: str, start: datetime, end: datetime, limit: int) -> tuple[Sequence[StopLine], bool]: ...

    async def shift(self, work_unit: str, which: str) -> Report: ...


def stop_payload(stop: StopLine) -> Payload:
    return {
        "from": stop.from_, "to": stop.to, "duration_s": stop.duration_s, "kind": stop.kind, "reason": stop.reason,
        "reason_class": stop.reason_class, "fault": stop.fault, "induced": stop.induced, "job_order_id": stop.job_order_id,
    }  # fmt: skip


def report_payload(report: Report) -> Payload:
    """The KPI line with what is behind it; times as datetimes, quantities as Decimals."""
    return {
        **report.line,
        "known_to": report.known_to,
        "intervals": [
            {"from": i.from_, "to": i.to, "kind": i.kind, "reason": i.reason, "fault": i.fault, "induced": i.induced}
            for i in report.intervals
        ],
        "micro_stops": [{"from": m.from_, "duration_s": m.duration_s, "induced": m.induced} for m in report.micro_stops],
        "cycles_5min": [{"from": c.from_, "count": c.count, "p10": c.p10, "p50": c.p50, "p90": c.p90} for c in report.cycles_5min],
        "stop_reasons": [
            {"reason": s.reason, "kind": s.kind, "duration_s": s.duration_s, "count": s.count, "induced": s.induced}
            for s in report.stop_reasons
        ],
        "stops": [stop_payload(stop) for stop in report.stops],
        "orders": [job_payload(job) for job in report.jobs],
    }  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """Who reads: words of the report, formats of the site, names of its stop reasons, and the currency of its money."""

    language: str
    formats: Formats
    reasons: Mapping[str, Reason]
    currency: str | None = None

    @property
    def words(self) -> Mapping[str, str]:
        return report_words(self.language)

    def text(self, text: Text) -> str:
        return unbroken(text.fr) if self.language == "fr" else text.en

    def reason(self, reason: str | None, fault: int | str | None = None) -> str:
        """In the site's words, beginning with a capital; a fault nobody named by its number."""
        known = self.reasons.get(reason) if reason is not None else None
        if known is not None:
            said = self.text(known.text)
        elif reason is not None and reason.startswith("fault:"):
            said = self.text(Text(f"défaut {reason.removeprefix('fault:')}", f"fault {reason.removeprefix('fault:')}"))
        elif reason is not None:
            said = reason
        else:
            said = self.text(NO_REASON)
        if known is not None and fault not in (None, 0, ""):
            said = f"{said}, F{fault}"
        return said[:1].upper() + said[1:]

    def row(self, stop: StopReason) -> str:
        """How a row of the Pareto is called, with the mark of what comes from elsewhere."""
        return self.named(stop) + (f" {words(self.language)['induced_mark']}" if stop.induced and stop.kind != "micro_stop" else "")

    def named(self, stop: StopReason | None) -> str:
        """How a row of the Pareto is called; None: the others together."""
        page = words(self.language)
        if stop is None:
            return page["others"]
        if stop.kind == "micro_stop":
            return page["micro_row"]
        if stop.reason is None:
            return page["setup_row" if stop.kind == "setup" else "no_reason"]
        return self.reason(stop.reason)

    def money(self, amount: float | None) -> str:
        return DASH if amount is None or self.currency is None else f"{self.formats.number(amount, 2)} {self.currency}"

    def seconds(self, seconds: float | None) -> str:
        return self.formats.number(seconds)

    def span(self, report: Report) -> str:
        """`mar. 24/11/2026, 05:00–13:00`; both dates where they differ; of a day its date alone."""
        formats = self.formats
        first, last = formats.date(report.from_), formats.date(report.to)
        if report.line["window"]["kind"] == "day":
            return first
        if first == last:
            return f"{first}, {formats.clock(report.from_)}–{formats.clock(report.to)}"
        return f"{first}, {formats.clock(report.from_)} – {last}, {formats.clock(report.to)}"

    def title(self, report: Report) -> str:
        window, kind = report.line["window"], report.line["window"]["kind"]
        return self.words[f"kind.{kind}"] + ("" if kind == "day" else f" {window['name']}")

    def standing(self, report: Report) -> str:
        """Whether the figures are final: `révision 2`, `en cours …, connu jusqu’à 09:12`, `dégradé`."""
        line, said = report.line, self.words
        parts = [f"{said['revision']} {line['revision']}"]
        if not line["closed"]:
            parts.append(f"{said['open']}, {said['known_to']} {self.formats.clock(report.known_to)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class LossRow:
    name: str
    kind: str
    seconds: str
    money: str


def loss_rows(line: Mapping[str, Any], wording: Wording) -> tuple[LossRow, ...]:
    """Every loss of the window, in the order of the table; nothing where a piece had no ideal time."""
    lost = line["losses"]
    if lost is None:
        return ()
    required = line["planned_s"] - line["useful_s"]
    price = None if line["loss_cost"] is None or not required else line["loss_cost"] / required
    return tuple(
        LossRow(
            wording.words[f"loss.{name}"], wording.words[f"kind.{kind}"], wording.seconds(lost[name]),
            wording.money(None if price is None else price * lost[name]),
        )
        for name, kind, _ in LOSSES
    )  # fmt: skip


def scrap_costs(line: Mapping[str, Any], wording: Wording) -> tuple[tuple[str, str], ...]:
    """What the scrapped pieces cost beside their time, and how much of it is material where it is not all; empty without a price."""
    whole, piece, material = (line[name] for name in ("scrap_cost", "scrap_piece_cost", "scrap_material_cost"))
    if wording.currency is None or (whole is None and piece is None):
        return ()
    rows = [(wording.words["scrap_cost"], wording.money(whole))]
    if piece is not None and material is not None:
        rows.append((wording.words["scrap_material_cost"], wording.money(material)))
    return tuple(rows)


def figures(line: Mapping[str, Any], wording: Wording) -> tuple[tuple[str, str], ...]:
    """Name and value of each ratio, of MTBF and MTTR, and of the throughput."""
    said, formats = wording.words, wording.formats
    rows = [(said[key], formats.percent(line[key])) for key in RATIOS]
    rows += [(said[key], formats.lasted(line[key])) for key in DURATIONS]
    return (*rows, (said["throughput_per_h"], formats.number(line["throughput_per_h"], 1)))


def _cycle(seconds: float | None, formats: Formats) -> str:
    """Hundredths of a second; thousandths of a machine that makes more than one a second."""
    return formats.number(seconds, 2 if seconds is None or seconds >= 1 else 3)


def cycle_rows(line: Mapping[str, Any] | None, wording: Wording) -> tuple[tuple[str, str], ...]:
    """The distribution of cycle times; empty without a judged cycle."""
    cycle, formats = line["cycle"] if line is not None else None, wording.formats
    if cycle is None:
        return ()
    label = {"mean_s": wording.words["cycle.mean_s"], "best_s": wording.words["cycle.best_s"]}
    rows = [(label.get(key, key.removesuffix("_s")), _cycle(cycle[key], formats)) for key in CYCLES]
    return ((wording.words["cycle.count"], formats.number(cycle["count"])), *((name, f"{value} s") for name, value in rows))
