"""Standstills: from the moment the machine stands to its restart, what explains it, and where its time belongs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.calendar import Calendar
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import StopEnded
from gateway.domain.instants import SECOND, Instant, moment, seconds, timestamp
from gateway.domain.oee import Category, Window, required_overlap
from gateway.domain.state import FaultCode
from gateway.domain.timeline import Stretch
from gateway.domain.windows import WindowBook

KIND_OF_CATEGORY = {
    Category.RUN: "run",
    Category.SETUP: "setup",
    Category.UNKNOWN: "unknown",
    Category.PLANNED: "planned",
    Category.MAINTENANCE: "planned",
    Category.STOP: "stop",
    Category.UNLOADED: "no_order",
    Category.MICRO: "run",
}
"""The timeline's words; micro-stops are inside `run`."""


@dataclass(slots=True)
class Part:
    """A stretch of the standstill with one running job (None: no order)."""

    start: Instant
    end: Instant
    job: str | None


@dataclass(slots=True)
class Standstill:
    """`end` None: still standing. `booked_until`: its time before that is in the windows, in the category it has now."""

    start: Instant
    induced: bool
    reason: str | None = None
    fault: FaultCode | None = None
    end: Instant | None = None
    revision: int = 0
    parts: list[Part] = field(default_factory=list)
    booked_until: Instant = 0
    long: bool = False
    """Longer than the threshold (so far)."""
    transition: bool = False
    """So far only a transition between states was seen: the first real state decides whether it is induced."""
    counted: dict[str, str] = field(default_factory=dict)
    """Window key -> tally (stop or micro) in which this standstill was counted. The stops of two days share their few keys and tallies."""

    def extend(self, at: Instant, job: str | None) -> None:
        """The machine still stands at `at`, with `job` running since the last call."""
        last = self.parts[-1].end if self.parts else self.start
        if at <= last:
            return
        if self.parts and self.parts[-1].job == job:
            self.parts[-1].end = at
        else:
            self.parts.append(Part(last, at, job))

    def truncate(self, at: Instant) -> None:
        """The standstill ended earlier than it was extended to."""
        self.parts = [Part(p.start, min(p.end, at), p.job) for p in self.parts if p.start < at]

    @property
    def decided(self) -> bool:
        return self.reason is not None or self.long

    @property
    def class_(self) -> str:
        return "stop" if self.decided else "micro_stop"


class StandstillBook:
    """Books standstills into the windows and takes them back when their explanation changes."""

    def __init__(self, unit: WorkUnit, windows: WindowBook) -> None:
        self._unit = unit
        self._windows = windows
        self._calendar: Calendar = unit.calendar

    def reason_class(self, reason: str | None) -> str | None:
        """own, induced, setup, planned; an unmapped fault is own."""
        if reason is None:
            return None
        known = self._unit.reasons.get(reason)
        return known.reason_class if known else "own"

    def induced(self, stop: Standstill) -> bool:
        """A reason's class wins over what the machine said."""
        known = self.reason_class(stop.reason)
        return stop.induced if known is None else known == "induced"

    def category(self, stop: Standstill, job: str | None) -> Category:
        known = self.reason_class(stop.reason)
        if known == "setup":
            return Category.SETUP
        if known == "planned":
            return Category.PLANNED
        if job is None and self._unit.oee.no_order_bucket == "unloaded":
            return Category.UNLOADED
        return Category.STOP if stop.decided else Category.MICRO

    def too_long(self, stop: Standstill, at: Instant) -> bool:
        return at - stop.start > self.threshold

    @property
    def threshold(self) -> int:
        return round(self._unit.cycles.stop_threshold_s * SECOND)

    def book(self, stop: Standstill, until: Instant) -> None:
        """Book what is not yet booked up to `until`."""
        for part in stop.parts:
            start, end = max(part.start, stop.booked_until), min(part.end, until)
            if end > start:
                category = self.category(stop, part.job)
                windows = self._windows.book(start, end, category, part.job)
                self._tally(stop, windows, start, end, category, part.job)
        stop.booked_until = max(stop.booked_until, until)

    def unbook(self, stop: Standstill) -> None:
        """Take back all that was booked, before the explanation changes."""
        for part in stop.parts:
            end = min(part.end, stop.booked_until)
            if end > part.start:
                category = self.category(stop, part.job)
                windows = self._windows.book(part.start, end, category, part.job, sign=-1)
                self._untally(stop, windows, part.start, end, category, part.job)
        for window in self._windows.by_key(stop.counted):
            window.count(stop.counted[window.key], -1)
        stop.counted.clear()
        stop.booked_until = stop.start

    def _tally(
        self, stop: Standstill, windows: Iterable[Window], start: Instant, end: Instant, category: Category, job: str | None
    ) -> None:
        """Minutes by reason and by order; a stop counts once in each window in which it has required time."""
        for window in windows:
            overlap = required_overlap(window, start, end, self._calendar)
            if overlap and category in window.required:
                self._cut(window, stop, overlap, category, job)
                window.reasons.setdefault(self._row(stop, category), [0, 0])[0] += overlap
                if window.key not in stop.counted:
                    row = stop.counted[sys.intern(window.key)] = sys.intern(self._row(stop, category))
                    window.count(row, 1)

    def _untally(
        self, stop: Standstill, windows: Iterable[Window], start: Instant, end: Instant, category: Category, job: str | None
    ) -> None:
        for window in windows:
            overlap = required_overlap(window, start, end, self._calendar)
            if overlap and category in window.required:
                self._cut(window, stop, -overlap, category, job)
            row = window.reasons.get(self._row(stop, category))
            if overlap and row is not None:
                row[0] -= overlap

    def _cut(self, window: Window, stop: Standstill, overlap: int, category: Category, job: str | None) -> None:
        """Whose loss it is: nobody's order, or something elsewhere."""
        if category not in (Category.STOP, Category.MICRO):
            return
        if job is None:
            window.idle += overlap
            if category is Category.MICRO:
                window.idle_micro += overlap
        elif category is Category.STOP and self.induced(stop):
            window.induced += overlap

    def ended(self, stop: Standstill, now: Instant) -> StopEnded:
        """The event of a stop that has ended; the order is the first one it kept waiting."""
        assert stop.end is not None
        return StopEnded(
            work_unit=self._unit.name, at=moment(now), job_order_id=next((p.job for p in stop.parts if p.job), None),
            stop_id=f"{self._unit.name}/{timestamp(moment(stop.start))}", revision=stop.revision, class_=stop.class_,
            from_=moment(stop.start), to=moment(stop.end), duration_s=seconds(stop.end - stop.start), reason=stop.reason,
            reason_class=self.reason_class(stop.reason), fault=stop.fault, induced=self.induced(stop),
        )  # fmt: skip

    def stretch(self, stop: Standstill) -> Stretch:
        """How the timeline draws a stop that has ended."""
        assert stop.end is not None
        kind = KIND_OF_CATEGORY[self.category(stop, stop.parts[0].job if stop.parts else None)]
        if kind == "run":
            return Stretch(stop.start, stop.end, kind)
        return Stretch(stop.start, stop.end, kind, stop.reason, stop.fault, self.induced(stop))

    def _row(self, stop: Standstill, category: Category) -> str:
        return f"{category.value}|{stop.reason or ''}|{int(self.induced(stop))}"


def dump_stop(stop: Standstill) -> dict[str, Any]:
    return {
        "start": stop.start, "induced": stop.induced, "reason": stop.reason, "fault": stop.fault, "end": stop.end,
        "revision": stop.revision, "parts": [[p.start, p.end, p.job] for p in stop.parts], "booked_until": stop.booked_until,
        "long": stop.long, "transition": stop.transition, "counted": stop.counted,
    }  # fmt: skip


def load_stop(state: dict[str, Any]) -> Standstill:
    return Standstill(**{**state, "parts": [Part(*p) for p in state["parts"]], "counted": dict(state["counted"])})
