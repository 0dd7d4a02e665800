"""KPI windows: time by category and quantities, from which every KPI is computed (`gateway.domain.kpi`) and never stored instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from gateway.domain.calendar import Calendar, SpanKind
from gateway.domain.cycles import CycleTally
from gateway.domain.instants import Instant

ZERO = Decimal(0)


class Category(StrEnum):
    """Where a stretch of a work unit's time belongs; each instant has exactly one."""

    RUN = "run"
    MICRO = "micro"
    STOP = "stop"
    SETUP = "setup"
    UNKNOWN = "unknown"
    PLANNED = "planned"
    """Break, not planned, reasons of class planned: inside opening time, outside required time."""
    MAINTENANCE = "maintenance"
    """The machine's own mode says planned maintenance: outside required time too (ISO 22400-2: APMT)."""
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
    maintenance: int = 0
    """Opening time in planned maintenance, by the calendar or by the machine."""
    required: dict[Category, int] = field(default_factory=lambda: dict.fromkeys(REQUIRED, 0))
    idle: int = 0
    """Of stops and micro-stops in `required`: without an order."""
    idle_micro: int = 0
    """Of `idle`: micro-stops."""
    induced: int = 0
    """Of stops in `required` with an order: those that come from elsewhere."""
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
    ideal_rework: Decimal = ZERO
    scrap_material: Decimal = ZERO
    """What the materials of the scrapped pieces cost, as far as it is known."""
    scrap_unpriced: Decimal = ZERO
    """Scrapped pieces of which nobody knows what their materials cost."""
    ideal_known: bool = True
    cycles: CycleTally = field(default_factory=CycleTally)
    until: Instant | None = field(default=None, compare=False)
    """Of a copy of a job's that goes on: when it was made."""
    reasons: dict[str, list[int]] = field(default_factory=dict)
    """`kind|reason|induced` -> [microseconds of required time, count]."""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.start}:{self.name}"

    def covers(self, at: Instant) -> bool:
        return self.start <= at and (self.end is None or at < self.end)

    def count(self, row: str, sign: int) -> None:
        """A standstill of this row of `reasons` is one more (or one less) of the window."""
        kind = row.split("|", 1)[0]
        if kind == Category.STOP:
            self.stop_count += sign
        elif kind == Category.MICRO:
            self.micro_count += sign
        tally = self.reasons.setdefault(row, [0, 0])
        tally[1] += sign
        if tally == [0, 0]:
            del self.reasons[row]

    def copy(self) -> Window:
        return replace(self, required=dict(self.required), cycles=self.cycles.copy(), reasons={k: list(v) for k, v in self.reasons.items()})


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
            if span.kind is SpanKind.MAINTENANCE or category is Category.MAINTENANCE:
                window.maintenance += duration
            if span.kind is SpanKind.REQUIRED and category in window.required:
                window.required[category] += duration


_TIMES = ("total", "opening", "maintenance", "idle", "idle_micro", "induced", "slow")


def sum_windows(
    windows: Sequence[Window], stops: Iterable[Mapping[str, str]], kind: str, name: str, start: Instant, end: Instant
) -> Window:
    """The window over [start, end), exactly, from windows of one machine that lie in it one after the other (its hours).

    `stops`: of each standstill, the windows in which it was counted (key -> row): one that goes over two hours is one stop of the day.
    """
    total = Window(kind, name, start, end, revision=1 + sum(w.revision - 1 for w in windows), closed=all(w.closed for w in windows))
    for window in windows:
        for field_name in (*_TIMES, *_QUANTITIES):
            setattr(total, field_name, getattr(total, field_name) + getattr(window, field_name))
        for category, duration in window.required.items():
            total.required[category] += duration
        total.ideal_known = total.ideal_known and window.ideal_known
        total.cycles.take(window.cycles)
        for row, (duration, _) in window.reasons.items():
            total.reasons.setdefault(row, [0, 0])[0] += duration
    keys = {window.key for window in windows}
    for counted in stops:
        counted_as = next((row for key, row in counted.items() if key in keys), None)
        if counted_as is not None:
            total.count(counted_as, 1)
    return total


def dump_window(window: Window) -> dict[str, Any]:
    """JSON-able; quantities as text."""
    return {
        "kind": window.kind, "name": window.name, "start": window.start, "end": window.end, "revision": window.revision,
        "closed": window.closed, "total": window.total, "opening": window.opening, "maintenance": window.maintenance,
        "required": {c.value: n for c, n in window.required.items()}, "idle": window.idle, "idle_micro": window.idle_micro,
        "induced": window.induced, "slow": window.slow, "stop_count": window.stop_count,
        "micro_count": window.micro_count, "ideal_known": window.ideal_known, "cycles": window.cycles.dump(),
        "reasons": window.reasons,
        **{name: str(getattr(window, name)) for name in _QUANTITIES},
    }  # fmt: skip


def load_window(state: dict[str, Any]) -> Window:
    values = dict(state)
    values["required"] = {Category(c): n for c, n in state["required"].items()}
    values["cycles"] = CycleTally.load(state["cycles"]) if "cycles" in state else CycleTally()
    # Windows of journals that were begun before rework and cycles were timed do not say, nor what their scrap cost.
    values.setdefault("scrap_unpriced", values["scrap"])
    values.update({name: Decimal(values.get(name, 0)) for name in _QUANTITIES})
    return Window(**values)


_QUANTITIES = (
    "produced", "good", "scrap", "rework", "late", "without_order", "ideal_produced", "ideal_good", "ideal_rework", "scrap_material",
    "scrap_unpriced",
)  # fmt: skip
