"""What one window of one machine tells afterwards: its figures with all that is behind them, for page, command line and file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Text
from gateway.domain.instants import SECOND, Instant, instant, moment
from gateway.domain.job import Job
from gateway.domain.kpi import kpi_line
from gateway.domain.oee import Window, sum_windows
from gateway.domain.outlook import outlook
from gateway.domain.pace import CycleTimes
from gateway.domain.picture import cycle_bins, intervals, stop_reasons
from gateway.domain.standstill import KIND_OF_CATEGORY, Standstill, StandstillBook
from gateway.domain.timeline import Stretch
from gateway.domain.tracker import Tracker
from gateway.domain.view import CycleBin, Interval, JobView, MicroStop, StopReason
from gateway.domain.windows import WindowBook


class NoSuchWindow(Exception):
    """There is no window to report on; `text` says so, and which there are."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.en)
        self.text = text


class PastUnreadable(Exception):
    """The journal does not answer; the text is the expert's."""


@dataclass(frozen=True)
class StopLine:
    """One stop, whole: it may begin before the window and end after it. `to` None: it goes on, for `duration_s` so far."""

    from_: datetime
    to: datetime | None
    duration_s: float
    kind: str
    """stop, setup, planned, no_order."""
    reason: str | None
    reason_class: str | None
    fault: int | str | None
    induced: bool
    job_order_id: str | None


@dataclass(frozen=True)
class Report:
    """`line` is the window's KPI line; the rest is what happened in [from_, to), in order of time; `stops` longest first, those alone that
    took required time.

    `known_to`: the end of the window, or the time up to which one that goes on is known.
    """

    work_unit: str
    line: Mapping[str, Any]
    from_: datetime
    to: datetime
    known_to: datetime
    intervals: tuple[Interval, ...]
    micro_stops: tuple[MicroStop, ...]
    cycles_5min: tuple[CycleBin, ...]
    stop_reasons: tuple[StopReason, ...]
    stops: tuple[StopLine, ...]
    jobs: tuple[JobView, ...]


@dataclass(frozen=True)
class Past:
    """What is remembered of a machine's time."""

    intervals: Sequence[Interval]
    stops: Sequence[Standstill]
    bins: Sequence[CycleTimes]
    jobs: Sequence[Job]


def drawn(stretches: Iterable[Stretch]) -> tuple[Interval, ...]:
    return tuple(Interval(moment(s.start), moment(s.end), s.kind, s.reason, s.fault, s.induced) for s in stretches)


def make_report(unit: WorkUnit, window: Window, past: Past, now: Instant) -> Report:
    """The report of `window`; `now` is the time up to which the machine is known."""
    end = now if window.end is None else window.end
    start, known_to = moment(window.start), moment(end if window.closed else min(end, now))
    book = StandstillBook(unit, WindowBook(unit.calendar, unit.time_zone))
    stops = [s for s in past.stops if s.start < end and (s.end is None or s.end > window.start)]
    micro = [s for s in stops if s.end is not None and not s.decided and s.start >= window.start]
    return Report(
        work_unit=unit.name,
        line=kpi_line(window, unit),
        from_=start,
        to=moment(end),
        known_to=known_to,
        intervals=tuple(_clipped(_with_last(past.intervals, unit, stops), start, known_to)),
        micro_stops=tuple(MicroStop(moment(s.start), ((s.end or now) - s.start) / SECOND, book.induced(s)) for s in micro),
        cycles_5min=tuple(b for b in cycle_bins(past.bins, window.start) if b.from_ < known_to),
        stop_reasons=stop_reasons(window, None, standing=False),
        stops=stop_lines(unit, [s for s in stops if s.counted], now),
        jobs=tuple(job.view() for job in past.jobs if _was_running(job, window.start, end)),
    )


def _with_last(found: Sequence[Interval], unit: WorkUnit, stops: Sequence[Standstill]) -> Iterable[Interval]:
    """A stop is drawn once it has ended; one that has not is the last of the timeline."""
    yield from found
    last = stops[-1] if stops else None
    if last is not None and last.decided and last.end is None and not any(i.to is None for i in found):
        book = StandstillBook(unit, WindowBook(unit.calendar, unit.time_zone))
        yield Interval(moment(last.start), None, _kind(book, last), last.reason, last.fault, book.induced(last))


def _kind(book: StandstillBook, stop: Standstill) -> str:
    """As the timeline calls it."""
    return KIND_OF_CATEGORY[book.category(stop, stop.parts[0].job if stop.parts else None)]


def _clipped(found: Iterable[Interval], start: datetime, end: datetime) -> Iterable[Interval]:
    for interval in found:
        clipped = replace(interval, from_=max(interval.from_, start), to=min(interval.to or end, end))
        if clipped.to is not None and clipped.to > clipped.from_:
            yield clipped


def _was_running(job: Job, start: Instant, end: Instant) -> bool:
    return job.started_at is not None and instant(job.started_at) < end and (job.ended_at is None or instant(job.ended_at) >= start)


def stop_lines(unit: WorkUnit, stops: Iterable[Standstill], now: Instant) -> tuple[StopLine, ...]:
    """The stops that are no micro-stops, longest first."""
    book = StandstillBook(unit, WindowBook(unit.calendar, unit.time_zone))
    lines = []
    for stop in stops:
        if not stop.decided:
            continue
        job = next((part.job for part in stop.parts if part.job), None)
        lines.append(
            StopLine(
                from_=moment(stop.start), to=None if stop.end is None else moment(stop.end),
                duration_s=((stop.end or now) - stop.start) / SECOND, kind=_kind(book, stop), reason=stop.reason,
                reason_class=book.reason_class(stop.reason), fault=stop.fault, induced=book.induced(stop), job_order_id=job,
            )
        )  # fmt: skip
    return tuple(sorted(lines, key=lambda line: (-line.duration_s, line.from_)))


# --- the present -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Present:
    """What a machine's memory holds and its journal does not yet: windows that are open, the standstill that goes on."""

    windows: Sequence[Window]
    stand: Standstill | None
    past: Past
    now: Instant


def present(tracker: Tracker) -> Present:
    """Reads only."""
    tracker.production.settle()
    machine, ledger = tracker.machine, tracker.production.ledger
    windows, stand = outlook(machine)
    begun = [machine.now, *(w.start for w in windows if w.kind != "job"), *([stand.start] if stand else [])]
    # An hour more: of the last moments before an open window the journal may not know yet.
    start = min(begun) - 3600 * SECOND
    stops = [s for s in machine.recent if s.end is None or s.end > start]
    jobs = [*ledger.recent(), *ledger.interrupted, *([ledger.running] if ledger.running else [])]
    bins = [*machine.pace.kept, *([machine.pace.bin] if machine.pace.bin else [])]
    past = Past(intervals(machine, start), [*stops, *([stand] if stand else [])], bins, sorted(jobs, key=lambda job: job.arrival))
    return Present(windows, stand, past, machine.now)


def sum_of_hours(
    unit: WorkUnit, name: str, start: Instant, end: Instant, hours: Iterable[Window], past: Past, live: Present | None
) -> Report:
    """A day, from the hours that the journal has closed and those that are still open; `end`: of the day.

    Raises NoSuchWindow where nobody looked at the machine in all that time.
    """
    by_key = {w.key: w for w in (live.windows if live else ()) if w.kind == "hour" and start <= w.start < end}
    by_key |= {w.key: w for w in hours}
    stops = {s.start: s for s in past.stops}
    if live is not None and live.stand is not None:
        stops[live.stand.start] = live.stand
    if not by_key:
        raise NoSuchWindow(Text(f"Rien n'est connu de {unit.name} le {name}.", f"Nothing is known of {unit.name} on {name}."))
    window = sum_windows(list(by_key.values()), [s.counted for s in stops.values()], "day", name, start, end)
    now = end if live is None else live.now
    # A day is closed once its last hour is.
    window.closed = window.closed and now >= end
    whole = Past(past.intervals, sorted(stops.values(), key=lambda s: s.start), past.bins, past.jobs)
    return make_report(unit, window, whole, now)
