"""Reports on shifts, days and orders, from the journal's history and, for what goes on, the machine's memory."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Protocol, TypeVar

from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Text
from gateway.domain.instants import Instant, instant
from gateway.domain.kpi import Line, kpi_line
from gateway.domain.oee import Window
from gateway.domain.report import (
    NoSuchWindow,
    Past,
    PastUnreadable,
    Present,
    Report,
    StopLine,
    drawn,
    make_report,
    present,
    stop_lines,
    sum_of_hours,
)
from gateway.domain.tracker import Tracker
from gateway.domain.view import Interval
from gateway.domain.work_center import WorkCenter
from gateway.outbox.history import History

T = TypeVar("T")

CURRENT, LAST, TODAY = "current", "last", "today"
"""Words that stand for a shift or a day; a shift of that name is found by its day."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DATED = re.compile(r"(\d{4}-\d{2}-\d{2})-(.+)", re.ASCII)
_NAMED_AMONG = 200
"""A name is looked for among so many of the latest shifts: two months of three a day."""
_CURRENT_FROM = 36 * 3600 * 1_000_000


class Ask(Protocol):
    """Runs a function on the history, in whatever thread it is read."""

    def __call__(self, ask: Callable[[History], T], /) -> Awaitable[T]: ...


class Archive:
    """`trackers`: the present memory of each work unit, where there is one; their units are those of the configuration.

    Methods raise NoSuchWindow with a sentence, and PastUnreadable.
    """

    def __init__(
        self, units: Mapping[str, WorkUnit], trackers: Mapping[str, Tracker], ask: Ask, centers: Iterable[WorkCenter] = ()
    ) -> None:
        self._units = units
        self._trackers = trackers
        self._ask = ask
        self._centers = {center.name: center for center in centers}

    # --- lists ----------------------------------------------------------------------------------------------------

    async def windows(self, work_unit: str, kind: str, start: datetime, end: datetime, limit: int) -> Sequence[Line]:
        """KPI lines of the closed windows of this kind that began in [start, end), oldest first."""
        unit = self._units[work_unit]

        def lines(history: History) -> list[Line]:
            return [kpi_line(window, unit) for window in history.windows(work_unit, kind, instant(start), instant(end), limit)]

        return await self._asked(lines)

    async def line_windows(self, work_center: str, kind: str, start: datetime, end: datetime, limit: int) -> Sequence[Line] | None:
        """`windows` of a whole line; None where the work centre has no figures of its own."""
        center = self._centers.get(work_center)
        if center is None:
            return None

        def lines(history: History) -> list[Line]:
            bodies = history.line_windows(center.key, kind, instant(start), instant(end), limit)
            return [line for body in bodies if (line := center.told(body)) is not None]

        return await self._asked(lines)

    async def stops(self, work_unit: str, start: datetime, end: datetime, limit: int) -> tuple[Sequence[StopLine], bool]:
        """Stops and change-overs that share time with [start, end), in order of time, and whether there are more than `limit`.

        Micro-stops are not among them.
        """
        unit, live = self._units[work_unit], self._present(work_unit)
        now = live.now if live else instant(end)
        stand = [live.stand] if live and live.stand and live.stand.decided and live.stand.start < instant(end) else []

        def lines(history: History) -> tuple[list[StopLine], bool]:
            stops = history.decided_stops(work_unit, instant(start), instant(end), limit + 1)
            whole = {stop.start: stop for stop in [*stops, *stand]}
            found = sorted(stop_lines(unit, whole.values(), now), key=lambda line: line.from_)
            return found[:limit], len(found) > limit

        return await self._asked(lines)

    # --- reports --------------------------------------------------------------------------------------------------

    async def shift(self, work_unit: str, which: str) -> Report:
        """`current`, `last` (the latest that has ended), a shift's name (its latest), or `YYYY-MM-DD-NAME` (the day it began on).

        `today` and `YYYY-MM-DD` are whole days, for machines that have no shifts.
        """
        unit, live = self._units[work_unit], self._present(work_unit)
        day = unit.calendar.local(live.now).date() if which == TODAY and live else _date(which)
        if day is not None:
            return await self.day(work_unit, day)
        open_shifts = [w for w in (live.windows if live else ()) if w.kind == "shift"]
        dated = _dated(which)
        if dated is not None:
            start, end = self.day_bounds(unit, dated[0])
            among = [w for w in open_shifts if start <= w.start < end]
            closed = await self._asked(lambda history: history.windows(work_unit, "shift", start, end))
            found = next((w for w in [*closed, *among] if w.name == dated[1]), None)
            names = [w.name for w in [*closed, *among]]
            where = dated[0].isoformat()
        else:
            now = live.now if live else _FAR
            closed = await self._asked(lambda history: history.latest(work_unit, "shift", now + 1, _NAMED_AMONG))
            found, names = _pick(which, open_shifts, closed, now), list(dict.fromkeys(w.name for w in [*open_shifts, *closed]))
            where = ""
        if found is None:
            raise NoSuchWindow(_no_shift(unit, which, where, names))
        return await self._report(unit, found, live)

    async def job(self, work_unit: str, job_order_id: str) -> Report:
        """An order's own window, whether it goes on or has ended."""
        unit, live = self._units[work_unit], self._present(work_unit)
        window = next((w for w in (live.windows if live else ()) if (w.kind, w.name) == ("job", job_order_id)), None)
        if window is None:
            window = await self._asked(lambda history: _job_window(history, work_unit, job_order_id))
        if window is None:
            raise NoSuchWindow(
                Text(
                    f"{work_unit} n'a pas produit d'OF {job_order_id} : vérifier son numéro.",
                    f"{work_unit} has made no order {job_order_id}: check its number.",
                )
            )
        report = await self._report(unit, window, live)
        return _of_job(report, job_order_id)

    async def day(self, work_unit: str, day: date) -> Report:
        """The local day, as the exact sum of its hours."""
        unit, live = self._units[work_unit], self._present(work_unit)
        start, end = self.day_bounds(unit, day)
        hours = await self._asked(lambda history: history.windows(work_unit, "hour", start, end))
        past = await self._past(work_unit, start, end, live)
        return sum_of_hours(unit, day.isoformat(), start, end, hours, past, live)

    @staticmethod
    def day_bounds(unit: WorkUnit, day: date) -> tuple[Instant, Instant]:
        """Start and end of a local day of the unit's site."""
        return unit.calendar.day_bounds(instant(datetime.combine(day, time(12), tzinfo=unit.calendar.zone)))

    async def _asked(self, question: Callable[[History], T]) -> T:
        try:
            return await self._ask(question)
        except sqlite3.Error as error:
            raise PastUnreadable(str(error)) from error

    def _present(self, work_unit: str) -> Present | None:
        tracker = self._trackers.get(work_unit)
        return present(tracker) if tracker is not None and tracker.begun else None

    async def _report(self, unit: WorkUnit, window: Window, live: Present | None) -> Report:
        end = _FAR if window.end is None else window.end
        return make_report(unit, window, await self._past(unit.name, window.start, end, live), live.now if live else end)

    async def _past(self, work_unit: str, start: Instant, end: Instant, live: Present | None) -> Past:
        """From the journal, and from memory what is newer than it."""
        end = min(end, live.now + 1) if live else end
        past = await self._asked(lambda history: _remembered(history, work_unit, start, end))
        if live is None or end <= live.now - _CURRENT_FROM:
            return past
        fresh = live.past
        stops = {s.start: s for s in [*past.stops, *fresh.stops]}
        bins = {b.start: b for b in [*past.bins, *fresh.bins]}
        jobs = {j.job_order_id: j for j in [*past.jobs, *fresh.jobs]}
        return Past(
            _joined(past.intervals, fresh.intervals), [stops[k] for k in sorted(stops)], [bins[k] for k in sorted(bins)], [*jobs.values()]
        )


_FAR: Instant = 1 << 53


def _joined(old: Sequence[Interval], fresh: Sequence[Interval]) -> list[Interval]:
    """The journal's timeline up to where the memory's begins; a stretch that lies over the seam stays one."""
    if not fresh:
        return list(old)
    seam = fresh[0].from_
    kept = [replace(i, to=min(i.to or seam, seam)) for i in old if i.from_ < seam]
    if kept and replace(kept[-1], from_=seam, to=fresh[0].to) == fresh[0]:
        return [*kept[:-1], replace(kept[-1], to=fresh[0].to), *fresh[1:]]
    return [*kept, *fresh]


def _remembered(history: History, work_unit: str, start: Instant, end: Instant) -> Past:
    return Past(
        drawn(history.stretches(work_unit, start, end)), history.stops(work_unit, start, end), history.bins(work_unit, start, end),
        history.jobs(work_unit, start, end),
    )  # fmt: skip


def _pick(which: str, open_shifts: Sequence[Window], closed: Sequence[Window], now: Instant) -> Window | None:
    """`closed`: latest first."""
    running = [w for w in open_shifts if w.covers(now)]
    ended = [w for w in open_shifts if not w.covers(now)]
    if which == CURRENT:
        return next(iter(running), None)
    past = [*sorted(ended, key=lambda w: -w.start), *closed]
    if which == LAST:
        return next(iter(past), None)
    return next((w for w in [*running, *past] if w.name == which), None)


def _job_window(history: History, work_unit: str, job_order_id: str) -> Window | None:
    job = history.job(work_unit, job_order_id)
    return None if job is None else history.job_window(work_unit, job)


def _of_job(report: Report, job_order_id: str) -> Report:
    """Its own stops and its own order alone."""
    return replace(
        report,
        jobs=tuple(job for job in report.jobs if job.order.job_order_id == job_order_id),
        stops=tuple(stop for stop in report.stops if stop.job_order_id in (None, job_order_id)),
    )


def _dated(which: str) -> tuple[date, str] | None:
    match = _DATED.fullmatch(which)
    day = _date(match[1]) if match is not None else None
    return None if match is None or day is None else (day, match[2])


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def _no_shift(unit: WorkUnit, which: str, day: str, names: Sequence[str]) -> Text:
    listed = ", ".join(names[:10])
    if not names and not unit.calendar.has_shifts:
        return Text(
            f"{unit.name} n'a pas de postes dans la configuration : demander une journée, ou lui donner un calendrier.",
            f"{unit.name} has no shifts in the configuration: ask for a day, or give it a calendar.",
        )
    if which == CURRENT:
        return Text(f"Aucun poste n'est en cours à {unit.name}.", f"No shift is running at {unit.name}.")
    if which == LAST:
        return Text(f"Aucun poste terminé n'est connu à {unit.name}.", f"No shift that has ended is known at {unit.name}.")
    if day:
        known = Text(f" ; ce jour-là : {listed}.", f"; that day had {listed}.") if listed else Text(
            " ; aucun poste de ce jour-là n'est connu.", "; no shift of that day is known."
        )  # fmt: skip
    else:
        known = Text(f" ; ceux connus : {listed}.", f"; those known are {listed}.") if listed else Text(
            " ; aucun poste n'y est connu.", "; no shift is known there."
        )  # fmt: skip
    name = which.removeprefix(f"{day}-")
    when = Text(f" le {day}" if day else "", f" on {day}" if day else "")
    return Text(f"Pas de poste {name}{when.fr} à {unit.name}{known.fr}", f"No shift {name}{when.en} at {unit.name}{known.en}")
