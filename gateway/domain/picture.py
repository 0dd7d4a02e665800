"""Builds the `UnitView` of a work unit from its time and its quantity side."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from gateway.domain.equipment import WorkUnit
from gateway.domain.instants import SECOND, Instant, moment
from gateway.domain.kpi import kpi_line
from gateway.domain.load import day_loads
from gateway.domain.machine import MachineTime
from gateway.domain.oee import Window
from gateway.domain.outlook import pending_windows
from gateway.domain.pace import CycleTimes
from gateway.domain.production import Production
from gateway.domain.view import CycleBin, Interval, MicroStop, StopReason, UnitView

_RECENT = 8 * 3600 * SECOND
_AT_LEAST = 600 * SECOND
"""A gateway that has just begun to look draws ten minutes, not eight empty hours."""


def unit_view(unit: WorkUnit, machine: MachineTime, production: Production) -> UnitView:
    """Reads only; everything in it is immutable."""
    now = machine.now
    pending = pending_windows(machine)
    shift = next((w for w in pending if w.kind == "shift" and not w.closed and w.covers(now)), None)
    start = shift.start if shift is not None else _without_shift(machine)
    end = shift.end if shift is not None and shift.end is not None else now
    running = production.ledger.running
    shown = running or next(iter(production.ledger.interrupted), None)
    said, stand = machine.condition, machine.stand
    queue = (*production.ledger.queue(), *(j for j in production.ledger.interrupted if j is not shown))
    busy = shown is not None or bool(queue)
    free = production.orders.free if busy else now
    free_from = None if free is None else moment(max(free, now))
    window = shift or next((w for w in pending if w.kind == "hour" and w.covers(now)), None)
    return UnitView(
        work_unit=unit.name,
        at=moment(now),
        item_state=said.item_state,
        operation_mode=said.operation_mode,
        state=said.state,
        reason=stand.reason if stand else None,
        fault=stand.fault if stand else None,
        since=moment(machine.since),
        induced=stand is not None and machine.stops.induced(stand),
        last_piece_at=None if machine.last_piece is None else moment(machine.last_piece),
        job=shown.view() if shown else None,
        queue=tuple(j.view() for j in queue),
        recent=tuple(j.view() for j in production.ledger.recent(10)),
        windows=_lines([*machine.windows.closed, *pending], unit, running.job_order_id if running else None, now),
        shift_from=moment(start),
        shift_to=moment(end),
        intervals=intervals(machine, start),
        micro_stops=_micro_stops(machine, start),
        cycles_5min=cycle_bins([*machine.pace.kept, *([machine.pace.bin] if machine.pace.bin else [])], start),
        stop_reasons=stop_reasons(window, stand.reason if stand else None, standing=stand is not None),
        late_count=window.late if window else Decimal(0),
        without_order=window.without_order if window else Decimal(0),
        ideal_cycle_time_s=production.orders.ideal_s,
        ideal_from=production.orders.ideal_from,
        quality=tuple(production.inspection.last.values()),
        capacity_free_from=free_from,
        load=day_loads(unit.calendar, moment(now), free_from, waiting=busy),
    )


def _without_shift(machine: MachineTime) -> Instant:
    """Where the picture begins when no shift is running: 8 hours ago, or when this memory begins."""
    known = machine.timeline.stretches[0].start if machine.timeline.stretches else machine.since
    return max(machine.now - _RECENT, min(known, machine.now - _AT_LEAST))


def _lines(pending: Iterable[Window], unit: WorkUnit, job: str | None, now: Instant) -> dict[str, dict[str, object]]:
    lines = {}
    for window in pending:
        if window.kind in ("hour", "shift") and window.covers(now):
            lines[window.kind] = kpi_line(window, unit)
        elif window.kind == "job" and job in (None, window.name):
            lines["job"] = kpi_line(window, unit)
    return lines


def intervals(machine: MachineTime, start: Instant) -> tuple[Interval, ...]:
    """The timeline from `start` on, with what goes on now."""
    done = [
        Interval(moment(max(s.start, start)), moment(s.end), s.kind, s.reason, s.fault, s.induced)
        for s in machine.timeline.stretches
        if s.end > start
    ]
    stand = machine.stand
    if stand is not None:
        category = machine.stops.category(stand, machine.job)
        kind = {"setup": "setup", "planned": "planned", "unloaded": "no_order"}.get(category.value, "stop")
        done.append(Interval(moment(max(stand.start, start)), None, kind, stand.reason, stand.fault, machine.stops.induced(stand)))
    elif machine.settled <= machine.now:
        kind = {"running": "run", "setup": "setup", "unknown": "unknown"}.get(machine.condition.state, "planned")
        last = done[-1] if done else None
        if last is not None and last.kind == kind and last.to == moment(machine.settled):
            done[-1] = Interval(last.from_, None, kind)
        else:
            done.append(Interval(moment(max(machine.settled, start)), None, kind))
    return tuple(done)


def _micro_stops(machine: MachineTime, start: Instant) -> tuple[MicroStop, ...]:
    return tuple(
        MicroStop(moment(s.start), (s.end - s.start) / SECOND, machine.stops.induced(s))
        for s in machine.recent
        if s.end is not None and s.end > start and not s.decided
    )


def cycle_bins(bins: Iterable[CycleTimes], start: Instant) -> tuple[CycleBin, ...]:
    """The 5-minute bins that reach beyond `start`."""
    return tuple(CycleBin(moment(b.start), b.count, *b.percentiles()) for b in bins if b.values and b.start + 300 * SECOND > start)


def stop_reasons(window: Window | None, open_reason: str | None, *, standing: bool) -> tuple[StopReason, ...]:
    """The Pareto of the window, longest first."""
    rows = []
    for key, (duration, count) in (window.reasons if window else {}).items():
        category, reason, induced = key.split("|")
        kind = {"micro": "micro_stop", "setup": "setup"}.get(category, "stop")
        is_open = standing and (reason or None) == open_reason and kind != "micro_stop"
        rows.append(StopReason(reason or None, kind, duration / SECOND, count, induced == "1", is_open))
    return tuple(sorted(rows, key=lambda row: -row.duration_s))
