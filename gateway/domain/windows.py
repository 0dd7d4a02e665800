"""The windows of one work unit: which are open, which still wait for a standstill to be decided, which were closed lately."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from gateway.domain.calendar import Calendar
from gateway.domain.instants import SECOND, Instant, moment, timestamp
from gateway.domain.oee import Category, Window, book_time, dump_window, load_window

KEEP = 48 * 3600 * SECOND
"""How long a closed window can still be revised from memory."""

_HOUR = 3600 * SECOND


class WindowBook:
    """Hour, shift, job and range windows; whatever is booked to a closed one makes it `revised`."""

    def __init__(self, calendar: Calendar, time_zone: str) -> None:
        self._calendar = calendar
        self._zone = ZoneInfo(time_zone)
        self.open: dict[str, Window] = {}
        """By kind (hour, shift, range) or `job:<id>`."""
        self.closing: list[Window] = []
        self.closed: list[Window] = []
        self.revised: dict[str, Window] = {}
        self._announced: dict[str, Window] = {}
        self._told: dict[str, Window] = {}
        """Closed windows as they were told last."""
        self._closed_end: Instant = 0
        self.boundary: Instant = 0
        """The next instant at which an hour or a shift ends or a shift begins."""

    def start_range(self, start: Instant, end: Instant | None) -> None:
        self.open["range"] = Window("range", "range", start, end)

    def turn(self, at: Instant) -> None:
        """At a boundary (or at the very beginning): close what ends at or before `at`, open what covers it."""
        for kind in ("hour", "shift"):
            window = self.open.get(kind)
            if window is not None and window.end is not None and window.end <= at:
                self.closing.append(self.open.pop(kind))
        if "hour" not in self.open:
            start = self._hour(at)
            self.open["hour"] = self._of("hour", timestamp(moment(start)), start, start + _HOUR)
        next_shift: Instant | None = None
        if "shift" not in self.open:
            shift = self._calendar.shift_at(at)
            if shift is not None:
                self.open["shift"] = self._of("shift", shift.name, shift.start, shift.end)
            else:
                next_shift = self._next_shift(at)
        ends = [w.end for w in (self.open.get("hour"), self.open.get("shift")) if w is not None and w.end is not None]
        if next_shift is not None:
            ends.append(next_shift)
        self.boundary = min(ends)

    def _of(self, kind: str, name: str, start: Instant, end: Instant) -> Window:
        """A new window, or the one of that time that there is already because the clock was set back into it: it is filled further."""
        known = next((w for w in (*self.closing, *self.closed) if (w.kind, w.name, w.start) == (kind, name, start)), None)
        if known is None:
            return Window(kind, name, start, end)
        if known.closed:
            known.closed = False
            known.revision += 1
            self.revised.pop(known.key, None)
        self.closing = [w for w in self.closing if w is not known]
        self.closed = [w for w in self.closed if w is not known]
        return known

    def jump(self, at: Instant, by: int) -> dict[str, str]:
        """The clock was set by `by` to `at`: hour and shift that do not cover `at` close with what they have, or wait for their time to
        come again; `turn` opens those of `at`.

        The windows of jobs that are not over move with the clock, so that they stay as long as the work took. -> their keys before and now.
        """
        renamed = {}
        for key, window in list(self.open.items()):
            if window.kind == "job":
                before = window.key
                window.start += by
                renamed[before] = window.key
            elif window.kind in ("hour", "shift") and not window.covers(at):
                self.closing.append(self.open.pop(key))
        return renamed

    def forget_closed(self) -> None:
        """Those that were told need not be known any more: the clock went too far away from them."""
        self.closed, self._told, self._closed_end = [], {}, 0

    def look_again(self, at: Instant) -> None:
        """The calendar has changed: a shift of the new one may be running, or begin before the next boundary."""
        self.boundary = min(self.boundary, at)

    def _next_shift(self, at: Instant) -> Instant | None:
        """The start of a shift that begins within this hour; a later one is looked for at the next boundary."""
        for shift in self._calendar.shifts(at, at + _HOUR):
            if shift.start > at:
                return shift.start
        return None

    def _hour(self, at: Instant) -> Instant:
        """Start of the local clock hour (zones are whole minutes off UTC, not always whole hours)."""
        offset = moment(at).astimezone(self._zone).utcoffset() or timedelta(0)
        shift = int(offset.total_seconds()) * SECOND
        return (at + shift) // _HOUR * _HOUR - shift

    def start_job(self, job_order_id: str, at: Instant) -> None:
        """Open the job's window; a job that was interrupted goes on in its own."""
        key = f"job:{job_order_id}"
        if key not in self.open:
            self.open[key] = Window("job", job_order_id, at, None)

    def end_job(self, job_order_id: str, at: Instant) -> None:
        window = self.open.pop(f"job:{job_order_id}", None)
        if window is not None:
            window.end = at
            self.closing.append(window)

    def job(self, job_order_id: str | None) -> Window | None:
        """The job's window, open or lately closed."""
        if job_order_id is None:
            return None
        window = self.open.get(f"job:{job_order_id}")
        if window is not None:
            return window
        return next((w for w in reversed(self.closing + self.closed) if w.kind == "job" and w.name == job_order_id), None)

    def all(self) -> Iterator[Window]:
        yield from self.open.values()
        yield from self.closing
        yield from self.closed

    def touching(self, start: Instant, end: Instant, job: str | None) -> list[Window]:
        """Windows that share time with [start, end); a job's window only for time of that job."""
        windows: Iterable[Window] = self.open.values()
        if self.closing or (self.closed and start < self._closed_end):
            windows = self.all()
        return [
            w for w in windows
            if w.start < end and (w.end is None or w.end > start) and (w.kind != "job" or w.name == job)
        ]  # fmt: skip

    def at(self, at: Instant, job: str | None) -> list[Window]:
        """Windows that a piece made at `at` for `job` belongs to; the job's own one whenever it was made."""
        windows = self.open.values() if not self.closing and not (self.closed and at < self._closed_end) else self.all()
        found = [w for w in windows if w.kind != "job" and w.covers(at)]
        own = self.job(job)
        return found if own is None else [*found, own]

    def present(self, at: Instant, job: str | None) -> tuple[list[Window], Instant]:
        """`at` for the present instant, and until when it gives the same as long as no window is opened or closed."""
        edges = [edge for w in self.open.values() for edge in (w.start, w.end) if edge is not None and edge > at]
        return self.at(at, job), min(edges, default=at + KEEP)

    def by_key(self, keys: Iterable[str]) -> list[Window]:
        wanted = set(keys)
        return [w for w in self.all() if w.key in wanted]

    def changed(self, windows: Iterable[Window]) -> None:
        for window in windows:
            if window.closed:
                self.revised[window.key] = window

    def book(self, start: Instant, end: Instant, category: Category, job: str | None, sign: int = 1) -> list[Window]:
        windows = self.touching(start, end, job)
        book_time(windows, start, end, category, self._calendar, sign)
        self.changed(windows)
        return windows

    def book_slow(self, parts: Iterable[tuple[Instant, Instant]], job: str | None) -> None:
        """Slow time is an overlay of running time; it is clipped like time."""
        for start, end in parts:
            for window in self.touching(start, end, job):
                for span in self._calendar.spans(start, end):
                    low, high = max(span.start, window.start), min(span.end, window.end or span.end)
                    if high > low and span.kind == "required":
                        window.slow += high - low
                        self.changed([window])

    def settle(self, at: Instant) -> list[tuple[Window, Window | None]]:
        """Windows that can close now that all time before `at` is decided, oldest end first; then the revised ones, each with what it
        was before. What was taken back and booked again alike is no revision."""
        if not self.closing and not self.revised:
            return []
        done = [w for w in self.closing if (w.end or 0) <= at]
        if not done and not self.revised:
            return []
        self.closing = [w for w in self.closing if (w.end or 0) > at]
        for window in done:
            window.closed = True
        revised = [(w, before) for w in sorted(self.revised.values(), key=_by_end) if (before := self._told.get(w.key)) != w]
        self.revised.clear()
        for window, _ in revised:
            window.revision += 1
        told = done + [window for window, _ in revised]
        self._announced.update({w.key: w for w in told})
        self._told.update({w.key: w.copy() for w in told})
        if done:
            self.closed = [w for w in self.closed if (w.end or 0) > at - KEEP]
            done.sort(key=_by_end)
            self.closed.extend(done)
            self._closed_end = max((w.end or 0 for w in self.closed), default=0)
            self._told = {w.key: self._told[w.key] for w in self.closed}
        return [*((window, None) for window in done), *revised]

    def take_changed(self) -> list[Window]:
        """Closed windows that are new or revised since the call before."""
        changed = list(self._announced.values())
        self._announced.clear()
        return changed

    def dump(self) -> dict[str, Any]:
        """What the hot snapshot needs; closed windows are rows of their own."""
        return {
            "open": {k: dump_window(w) for k, w in self.open.items()},
            "closing": [dump_window(w) for w in self.closing],
            "boundary": self.boundary,
        }

    def load(self, state: dict[str, Any], closed: Iterable[dict[str, Any]]) -> None:
        self.open = {k: load_window(w) for k, w in state["open"].items()}
        self.closing = [load_window(w) for w in state["closing"]]
        # One that was opened again after the clock was set back has a row from when it was closed.
        known = {w.key for w in (*self.open.values(), *self.closing)}
        self.closed = sorted((w for w in map(load_window, closed) if w.key not in known), key=_by_end)
        self._told = {w.key: w.copy() for w in self.closed}
        self._closed_end = max((w.end or 0 for w in self.closed), default=0)
        self.boundary = state["boundary"]


def _by_end(window: Window) -> tuple[Instant, Instant, str]:
    """The order in which windows are told, whatever the order in which they changed."""
    return window.end or 0, window.start, window.key


def add_pieces(windows: Iterable[Window], produced: Decimal, ideal_s: Decimal | None, *, late: bool, ordered: bool) -> None:
    """New pieces, all good until a reject or rework marks them."""
    for window in windows:
        window.produced += produced
        window.good += produced
        if late:
            window.late += produced
        if not ordered:
            window.without_order += produced
        if ideal_s is None:
            window.ideal_known = False
        else:
            ideal = produced * ideal_s * SECOND
            window.ideal_produced += ideal
            window.ideal_good += ideal


def mark_pieces(windows: Iterable[Window], quantity: Decimal, what: str, ideal_s: Decimal | None, material: Decimal | None) -> None:
    """Good pieces become `what` (scrap or rework); a negative quantity makes them good again. `material`: what that of a piece costs."""
    for window in windows:
        window.good -= quantity
        setattr(window, what, getattr(window, what) + quantity)
        if what == "scrap":
            price_scrap(window, quantity, material)
        if ideal_s is not None:
            ideal = quantity * ideal_s * SECOND
            window.ideal_good -= ideal
            if what == "rework":
                window.ideal_rework += ideal


def price_scrap(window: Window, quantity: Decimal, material: Decimal | None) -> None:
    """`quantity` more scrapped pieces whose material costs so much each; None: nobody knows."""
    if material is None:
        window.scrap_unpriced += quantity
    else:
        window.scrap_material += quantity * material
