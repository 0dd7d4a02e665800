"""`UnitView`: one immutable picture of a work unit for page, API and retained topics; built after a commit, never by a reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from gateway.domain.job_order import JobOrder, QualityRequirement


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of the timeline. kind: run, stop, setup, planned, no_order, unknown (micro-stops are listed apart).

    `to` None: still going on. `reason` and `induced` concern stops.
    """

    from_: datetime
    to: datetime | None
    kind: str
    reason: str | None = None
    fault: int | str | None = None
    induced: bool = False


@dataclass(frozen=True, slots=True)
class MicroStop:
    from_: datetime
    duration_s: float
    induced: bool


@dataclass(frozen=True)
class CycleBin:
    """Cycle times of one 5-minute bin, in seconds per piece; percentiles are None under 20 cycles."""

    from_: datetime
    count: int
    p10: float | None
    p50: float
    p90: float | None


@dataclass(frozen=True)
class StopReason:
    """One row of the shift's Pareto; `reason` None is stops without a reason; micro-stops are their own row (`micro_stop`)."""

    reason: str | None
    kind: str
    """stop, micro_stop or setup."""
    duration_s: float
    count: int
    induced: bool
    open: bool


@dataclass(frozen=True)
class MaterialTotal:
    material_id: str
    lot_id: str | None
    quantity: Decimal
    unit: str
    mode: str


@dataclass(frozen=True)
class LastQuality:
    characteristic: str
    value: Decimal
    at: datetime
    result: str
    limits: QualityRequirement


@dataclass(frozen=True)
class JobView:
    """The JobResponse of one order: state, totals, material, quality, promise."""

    order: JobOrder
    state: str
    produced: Decimal
    good: Decimal
    scrap: Decimal
    rework: Decimal
    started_at: datetime | None
    ended_at: datetime | None
    materials: tuple[MaterialTotal, ...]
    quality_pass: int
    quality_fail: int
    eta_likely: datetime | None
    eta_safe: datetime | None
    verdict: str
    basis: str


@dataclass(frozen=True)
class DayLoad:
    """One local day's required time and how much of it running and queued jobs take; `booked_s` None while no rate is known."""

    day: date
    required_s: float
    booked_s: float | None


@dataclass(frozen=True)
class UnitView:
    work_unit: str
    at: datetime
    item_state: str
    operation_mode: str
    state: str
    """running, stopped, setup, maintenance, break, not_planned, starved, blocked, unknown."""
    reason: str | None
    fault: int | str | None
    since: datetime
    induced: bool
    last_piece_at: datetime | None
    job: JobView | None
    """The running (or interrupted) job."""
    queue: tuple[JobView, ...]
    """AllowedToStart first, in dispatch order, then NotAllowedToStart, then interrupted ones while another job is shown."""
    recent: tuple[JobView, ...]
    """Ended and aborted lately, latest first."""
    windows: Mapping[str, Mapping[str, Any]]
    """`hour`, `shift`, `job` -> KPI line of the open window (keys of the contract)."""
    shift_from: datetime
    shift_to: datetime
    intervals: tuple[Interval, ...]
    """Of the running shift (without shifts: the last 8 h), in order."""
    micro_stops: tuple[MicroStop, ...]
    cycles_5min: tuple[CycleBin, ...]
    stop_reasons: tuple[StopReason, ...]
    late_count: Decimal
    """Pieces of this shift counted late."""
    without_order: Decimal
    """Pieces of this shift counted against no order."""
    ideal_cycle_time_s: float | None
    ideal_from: str | None
    """Who says so: order, product, machine or configuration."""
    quality: tuple[LastQuality, ...]
    capacity_free_from: datetime | None
    """When the running and queued jobs are done at the present rate."""
    load: tuple[DayLoad, ...] = ()
    """From today on, for who promises dates (`gateway.domain.load.day_loads`)."""
