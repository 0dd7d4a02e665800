"""Ledger events: one class per type; `data()` is exactly the `data` of its CloudEvent.

Nobody changes an event once it is told. They are not frozen because a frozen one takes three times as long to make, and there is one
for every piece. Quantities are Decimal, times aware UTC datetimes, unknown is None; the recorder turns them into JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar

Quantity = Decimal | int
"""Exact; whole pieces may be plain integers."""

_ENVELOPE = frozenset({"work_unit", "at", "job_order_id"})


@dataclass(kw_only=True, slots=True)
class Event:
    """`work_unit` None: an event of the gateway itself. `at` is when it happened, not when it was recorded."""

    type: ClassVar[str]
    work_unit: str | None
    at: datetime
    job_order_id: str | None = None

    def data(self) -> dict[str, Any]:
        """The event's own fields, JSON names; a trailing underscore (`class_`, `from_`) is dropped."""
        names, values_of = _own_fields(type(self))  # type: ignore[arg-type]  # mypy takes the hash of an event for that of its class
        return dict(zip(names, values_of(self), strict=True))


@cache
def _own_fields(kind: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """The JSON names of an event's own fields, and what reads their values all at once."""
    names = [f.name for f in fields(kind) if f.name not in _ENVELOPE]
    read = attrgetter(*names)
    return tuple(name.rstrip("_") for name in names), read if len(names) > 1 else lambda event: (read(event),)


@dataclass(frozen=True)
class Text:
    """One sentence in both languages of the site."""

    fr: str
    en: str


@dataclass(kw_only=True, slots=True)
class StateChanged(Event):
    type: ClassVar[str] = "state.changed"
    item_state: str
    operation_mode: str
    state: str
    """The configuration's word: running, stopped, setup, maintenance, break, not_planned, starved, blocked, unknown."""
    reason: str | None
    fault: int | str | None
    since: datetime
    previous: str
    """The item state before."""


@dataclass(kw_only=True, slots=True)
class StopEnded(Event):
    """The same `stop_id` with a higher `revision` replaces the earlier one."""

    type: ClassVar[str] = "stop.ended"
    stop_id: str
    revision: int
    class_: str
    """micro_stop or stop."""
    from_: datetime
    to: datetime
    duration_s: float
    reason: str | None
    reason_class: str | None
    fault: int | str | None
    induced: bool


@dataclass(kw_only=True, slots=True)
class QuantityCounted(Event):
    """Deltas of one reading. `late`: made while nobody was looking, since `since`. `while_stopped`: counted while not running.

    `reassigned`: told earlier under another order (or none); taken away there by one event, given here by another. `product_id`: what
    was made, where each product has a counter of its own.
    """

    type: ClassVar[str] = "quantity.counted"
    produced: Quantity
    good: Quantity
    scrap: Quantity
    rework: Quantity
    counter: Quantity | None
    late: bool
    since: datetime | None = None
    while_stopped: bool = False
    reassigned: bool = False
    product_lot_id: str | None = None
    product_id: str | None = None
    reason: str | None = None
    """Why a person declared scrap or rework, in that person's words."""

    def data(self) -> dict[str, Any]:
        """Spelled out, because there is one for every piece: a third of what looking the fields up costs."""
        return {
            "produced": self.produced, "good": self.good, "scrap": self.scrap, "rework": self.rework, "counter": self.counter,
            "late": self.late, "since": self.since, "while_stopped": self.while_stopped, "reassigned": self.reassigned,
            "product_lot_id": self.product_lot_id,
            "product_id": self.product_id, "reason": self.reason,
        }  # fmt: skip


@dataclass(kw_only=True, slots=True)
class CounterGap(Event):
    """kind: reset, rollover, glitch, level."""

    type: ClassVar[str] = "counter.gap"
    kind: str
    tag: str
    previous: Decimal | None
    value: Decimal | None
    gap_s: float | None


@dataclass(kw_only=True, slots=True)
class JobChanged(Event):
    type: ClassVar[str] = "job.changed"
    state: str
    previous: str | None
    command_id: str | None
    problem: str | None


@dataclass(kw_only=True, slots=True)
class JobProgress(Event):
    """Cumulative totals of the job, and `delta`: the same four since the last progress."""

    type: ClassVar[str] = "job.progress"
    produced: Decimal
    good: Decimal
    scrap: Decimal
    rework: Decimal
    target: Decimal | None
    unit: str
    delta: dict[str, Decimal]
    run_s: float
    setup_s: float
    stop_s: float
    shift: str | None
    shift_date: str | None
    final: bool
    properties: dict[str, Any]
    order_id: str | None
    operation_id: str | None
    lot_id: str | None


@dataclass(kw_only=True, slots=True)
class MaterialConsumed(Event):
    type: ClassVar[str] = "material.consumed"
    material_id: str
    lot_id: str | None
    use: str
    """B2MML MaterialUse: Consumed, Other (scrap)."""
    quantity: Decimal
    total: Decimal
    unit: str
    mode: str
    """backflush, measured or declared."""
    product_lot_id: str | None = None
    by: str | None = None


@dataclass(kw_only=True, slots=True)
class QualityResult(Event):
    type: ClassVar[str] = "quality.result"
    characteristic: str
    value: Decimal
    unit: str | None
    lower: Decimal | None
    target: Decimal | None
    upper: Decimal | None
    result: str
    """Pass or Fail."""
    required_by: str | None
    lot_id: str | None
    product_lot_id: str | None = None
    serial: str | None = None
    by: str | None = None
    measured_at: datetime
    """When it was measured; earlier than the event where a person told it late."""


@dataclass(kw_only=True, slots=True)
class QualityCancelled(Event):
    """A `quality.result` that was told earlier does not count; `measured_at` is that of the result."""

    type: ClassVar[str] = "quality.cancelled"
    characteristic: str
    value: Decimal
    result: str
    measured_at: datetime
    product_lot_id: str | None
    by: str | None


@dataclass(kw_only=True, slots=True)
class QualitySummary(Event):
    """All results of an order that has ended; again with a higher `revision` when one comes late or is cancelled."""

    type: ClassVar[str] = "quality.summary"
    revision: int
    passed: int
    failed: int
    characteristics: dict[str, Any]
    """Name -> pass, fail, min, mean, max, unit, lower, target, upper, required_by (who asked for it)."""
    not_checked: tuple[str, ...]
    """Characteristics that the order asks for and of which there is no result."""
    customer: str | None
    order_id: str | None
    lot_id: str | None


@dataclass(kw_only=True, slots=True)
class AlertRaised(Event):
    """`alert` is a stable key (`counter.glitch:parts`, `link.lost:press_plc`); severity: info, warning, critical."""

    type: ClassVar[str] = "alert.raised"
    alert: str
    severity: str
    text: Text
    remedy: Text
    detail: str = ""
    """For the expert, untranslated."""


@dataclass(kw_only=True, slots=True)
class AlertCleared(Event):
    type: ClassVar[str] = "alert.cleared"
    alert: str
    severity: str
    text: Text
    remedy: Text


@dataclass(kw_only=True, slots=True)
class PromiseChanged(Event):
    type: ClassVar[str] = "promise.changed"
    eta_likely: datetime | None
    eta_safe: datetime | None
    verdict: str
    """on_time, at_risk, late, unknown."""
    previous: str | None
    basis: str


@dataclass(kw_only=True, slots=True)
class WindowClosed(Event):
    """Every field of the KPI line (`gateway.domain.kpi.kpi_line`) with its `revision`."""

    type: ClassVar[str] = "window.closed"
    line: dict[str, Any]

    def data(self) -> dict[str, Any]:
        return dict(self.line)


@dataclass(kw_only=True, slots=True)
class CommandAnswered(Event):
    """One for every command of either kind, whatever uplink brought it."""

    type: ClassVar[str] = "command.answered"
    command_id: str | None
    return_status: int
    problem: dict[str, str] | None
    """`{code, text}`."""
    by: str | None = None
    """Who said it, where a fact told it."""
    corrects: str | None = None
    """The fact that this one corrects."""


@dataclass(kw_only=True, slots=True)
class CommandWritten(Event):
    type: ClassVar[str] = "command.written"
    tag: str
    value: Any
    phase: str
    """before or after."""
    problem: str | None


@dataclass(kw_only=True, slots=True)
class ClockStepped(Event):
    type: ClassVar[str] = "clock.stepped"
    step_s: float
    from_: datetime
    to: datetime


@dataclass(kw_only=True, slots=True)
class RowParked(Event):
    """An uplink's peer refused this row for good; `sequence` and `id` name it."""

    type: ClassVar[str] = "row.parked"
    uplink: str
    id: str
    sequence: int
    reason: str


@dataclass(kw_only=True, slots=True)
class RowDropped(Event):
    """A person decided that an uplink's peer never gets this row; `sequence` and `id` name it, `by` the person's account."""

    type: ClassVar[str] = "row.dropped"
    uplink: str
    id: str
    sequence: int
    reason: str
    by: str


EVENT_TYPES: tuple[type[Event], ...] = (
    StateChanged, StopEnded, QuantityCounted, CounterGap, JobChanged, JobProgress, MaterialConsumed, QualityResult,
    QualityCancelled, QualitySummary, AlertRaised, AlertCleared, PromiseChanged, WindowClosed, CommandAnswered, CommandWritten,
    ClockStepped, RowParked, RowDropped,
)  # fmt: skip
