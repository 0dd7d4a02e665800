"""KPI windows: seconds by category and quantities, from which every KPI is computed and never stored instead.

Sources: ISO 22400-2 (A = APT/PBT, E = PRI*PQ/APT, QR, OEE), NF E60-182 (tT tO tR tF tN tU; TRS, TRG, TRE).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from gateway.domain.calendar import Calendar, SpanKind
from gateway.domain.equipment import WorkUnit
from gateway.domain.instants import SECOND, Instant, moment, timestamp

ZERO = Decimal(0)


class Category(StrEnum):
    """Where a stretch of a work unit's time belongs; each instant has exactly one."""

    RUN = "run"
    MICRO = "micro"
    STOP = "stop"
    SETUP = "setup"
    UNKNOWN = "unknown"
    PLANNED = "planned"
    """Break, maintenance, not planned, reasons of class planned: inside opening time, outside required time."""
    UNLOADED = "unloaded"
    """Stopped without an order where the site counts that outside required time (NF sous-charge)."""


REQUIRED = (Category.RUN, Category.MICRO, Category.STOP, Category.SETUP, Category.UNKNOWN)


@dataclass
class Window:
    """One window of one work unit; durations in microseconds, `ideal_*` are sum(PRI*quantity) in microseconds.

    `end` None: a job that goes on. `ideal_known`: every piece so far had an ideal cycle time.
    """

    kind: str
    name: str
    start: Instant
    end: Instant | None
    revision: int = 1
    closed: bool = False
    total: int = 0
    opening: int = 0
    required: dict[Category, int] = field(default_factory=lambda: dict.fromkeys(REQUIRED, 0))
    slow: int = 0
    stop_count: int = 0
    micro_count: int = 0
    produced: Decimal = ZERO
    good: Decimal = ZERO
    scrap: Decimal = ZERO
    rework: Decimal = ZERO
    late: Decimal = ZERO
    without_order: Decimal = ZERO
    ideal_produced: Decimal = ZERO
    ideal_good: Decimal = ZERO
    ideal_known: bool = True
    reasons: dict[str, list[int]] = field(default_factory=dict)
    """`kind|reason|induced` -> [microseconds of required time, count]."""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.start}:{self.name}"

    def covers(self, at: Instant) -> bool:
        return self.start <= at and (self.end is None or at < self.end)

    def copy(self) -> Window:
        return replace(self, required=dict(self.required), reasons={k: list(v) for k, v in self.reasons.items()})


def required_overlap(window: Window, start: Instant, end: Instant, calendar: Calendar) -> int:
    """Microseconds of required time that [start, end) has inside the window."""
    start, end = max(start, window.start), end if window.end is None else min(end, window.end)
    if end <= start:
        return 0
    return sum(s.end - s.start for s in calendar.spans(start, end) if s.kind is SpanKind.REQUIRED)


def book_time(windows: Iterable[Window], start: Instant, end: Instant, category: Category, calendar: Calendar, sign: int = 1) -> None:
    """Add (or with sign -1 take back) the stretch [start, end) to every window it touches, clipped to each."""
    if end <= start:
        return
    spans = calendar.spans(start, end)
    for window in windows:
        for span in spans:
            low = max(span.start, window.start)
            high = span.end if window.end is None else min(span.end, window.end)
            if high <= low:
                continue
            duration = sign * (high - low)
            window.total += duration
            if span.kind is SpanKind.CLOSED:
                continue
            window.opening += duration
            if span.kind is SpanKind.REQUIRED and category in window.required:
                window.required[category] += duration


def kpi_line(window: Window, unit: WorkUnit) -> dict[str, Any]:
    """The contract's KPI fields of one window; a zero denominator gives None, seconds are floats.

    run_s keeps micro-stops inside when their bucket is performance. Performance above 1 is published uncapped with
    `over_ideal`. Source: ISO 22400-2; NF E60-182 for trs, trg, tre.
    """
    spent = window.required
    run = spent[Category.RUN] + (spent[Category.MICRO] if unit.oee.micro_stop_bucket == "performance" else 0)
    planned = sum(spent.values())
    known = window.ideal_known
    ideal_produced, ideal_good = float(window.ideal_produced), float(window.ideal_good)
    effectiveness = _ratio(ideal_produced, run) if known else None
    quality = _ratio(ideal_good, ideal_produced) if known else _ratio(float(window.good), float(window.produced))
    useful = ideal_good if known else None
    loss = None
    if unit.cost is not None and useful is not None:
        loss = round(float(unit.cost.per_hour) * (planned - useful) / SECOND / 3600, 4)
    line: dict[str, Any] = {
        "work_unit": unit.name,
        "window": {
            "kind": window.kind, "name": window.name, "from": timestamp(moment(window.start)),
            "to": None if window.end is None else timestamp(moment(window.end)),
        },
        "revision": window.revision, "closed": window.closed,
        "planned_s": planned / SECOND, "opening_s": window.opening / SECOND, "total_s": window.total / SECOND,
        "run_s": run / SECOND, "setup_s": spent[Category.SETUP] / SECOND, "unknown_s": spent[Category.UNKNOWN] / SECOND,
        "stop_s": spent[Category.STOP] / SECOND, "stop_count": window.stop_count,
        "micro_stop_s": spent[Category.MICRO] / SECOND, "micro_stop_count": window.micro_count, "slow_s": window.slow / SECOND,
        "produced": window.produced, "good": window.good, "scrap": window.scrap, "rework": window.rework, "late": window.late,
        "availability": _ratio(run, planned), "effectiveness": effectiveness, "quality_ratio": quality,
        "oee": _share(useful, planned), "trs": _share(useful, planned), "trg": _share(useful, window.opening),
        "tre": _share(useful, window.total), "loss_cost": loss,
        "over_ideal": effectiveness is not None and effectiveness > 1,
        "degraded": spent[Category.UNKNOWN] > 0 or window.late > 0,
    }  # fmt: skip
    return line


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _share(useful: float | None, whole: int) -> float | None:
    return None if useful is None or not whole else useful / whole


def dump_window(window: Window) -> dict[str, Any]:
    """JSON-able; quantities as text."""
    return {
        "kind": window.kind, "name": window.name, "start": window.start, "end": window.end, "revision": window.revision,
        "closed": window.closed, "total": window.total, "opening": window.opening,
        "required": {c.value: n for c, n in window.required.items()}, "slow": window.slow, "stop_count": window.stop_count,
        "micro_count": window.micro_count, "ideal_known": window.ideal_known, "reasons": window.reasons,
        **{name: str(getattr(window, name)) for name in _QUANTITIES},
    }  # fmt: skip


def load_window(state: dict[str, Any]) -> Window:
    values = dict(state)
    values["required"] = {Category(c): n for c, n in state["required"].items()}
    values.update({name: Decimal(state[name]) for name in _QUANTITIES})
    return Window(**values)


_QUANTITIES = ("produced", "good", "scrap", "rework", "late", "without_order", "ideal_produced", "ideal_good")
