"""Shifts, breaks, closures and planned maintenance, in the site's time zone, as spans of instants.

Wall-clock times become instants by three rules. A local time that a clock change skips is the instant of the jump. A local time
that occurs twice is the first of the two. A break keeps its length whatever the clock does; a shift keeps its wall-clock ends, so
that 22:00-06:00 lasts 7 h in spring and 9 h in autumn and neighbouring shifts always meet.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.domain.instants import SECOND, Instant, instant, moment
from gateway.domain.shift_rules import Break, ShiftRule, length_min

_CACHED_DAYS = 800
"""Two years of days: a year's report or a promise over months builds each day once, and memory stays bounded."""
_ONE_DAY = timedelta(days=1)
HORIZON = 400 * 86_400 * SECOND
"""How far ahead required time is looked for: a plan beyond a year is none."""


class SpanKind(StrEnum):
    REQUIRED = "required"
    BREAK = "break"
    MAINTENANCE = "maintenance"
    CLOSED = "closed"
    """No shift, or closed: outside opening time. The three others are inside."""


@dataclass(frozen=True)
class Shift:
    """One occurrence of a shift; it belongs to the local `day` on which it begins."""

    name: str
    day: date
    start: Instant
    end: Instant


class Span(NamedTuple):
    start: Instant
    end: Instant
    kind: SpanKind


_end_of = attrgetter("end")


@dataclass(frozen=True)
class _Day:
    """One local day: [start, end) cut into spans without gaps."""

    date_: date
    start: Instant
    end: Instant
    spans: tuple[Span, ...]
    required: int
    """Microseconds of required time."""


class Calendar:
    """`spans` cut any [start, end) into consecutive spans without gaps; results are exact across DST.

    `zone`: an IANA name. `shifts`: without any, every instant is required time unless closed or under maintenance.
    `closed`: ranges of local days, both included; a closed day removes the shifts that begin on it (without shifts: the whole local
    day). `maintenance`: naive local times; it changes opening time only, so outside every shift it stays closed.
    Raises zoneinfo.ZoneInfoNotFoundError for an unknown zone.
    """

    def __init__(
        self,
        zone: str,
        shifts: Sequence[ShiftRule] = (),
        closed: Sequence[tuple[date, date]] = (),
        maintenance: Sequence[tuple[datetime, datetime]] = (),
    ) -> None:
        self._zone = ZoneInfo(zone)
        self._rules = tuple(shifts)
        self._closed = tuple(closed)
        self._maintenance = tuple(sorted(self._stretch(start, end) for start, end in maintenance))
        self._days: dict[date, _Day] = {}
        self._begun: dict[date, tuple[tuple[Shift, tuple[Span, ...]], ...]] = {}
        self._planned = tuple(maintenance)
        self._always = not (shifts or closed or maintenance)
        self._before: Calendar | None = None
        self._since: Instant = 0
        self._latest = Span(0, 0, SpanKind.CLOSED)
        self._latest_day: _Day | None = None
        self._latest_shift: Shift | None = None

    def copy(self) -> Calendar:
        """The same calendar with a memory of its own, for another thread."""
        other = copy(self)
        other._days, other._begun = {}, {}
        other._before = None if self._before is None else self._before.copy()
        return other

    @property
    def zone(self) -> ZoneInfo:
        return self._zone

    @property
    def has_shifts(self) -> bool:
        return bool(self._rules)

    def local(self, at: Instant) -> datetime:
        """`at` as an aware datetime of the site."""
        return moment(at).astimezone(self._zone)

    def spans(self, start: Instant, end: Instant) -> list[Span]:
        """[start, end) as consecutive spans, neighbours of one kind merged; empty when end <= start."""
        if self._before is not None and start < self._since:
            return _joined(self._before.spans(start, min(end, self._since)), self.spans(self._since, end))
        if self._always:
            return [Span(start, end, SpanKind.REQUIRED)] if start < end else []
        result: list[Span] = []
        for span in self._walk(start):
            if span.start >= end:
                break
            if span.start < start or span.end > end:
                span = Span(max(span.start, start), min(span.end, end), span.kind)
            if result and result[-1].kind is span.kind:
                span = Span(result.pop().start, span.end, span.kind)
            result.append(span)
        return result

    @property
    def definition(self) -> dict[str, Any]:
        """JSON-able; `defined` takes it back."""
        return {
            "zone": self._zone.key,
            "shifts": [
                [r.name, sorted(r.days), f"{r.from_:%H:%M}", f"{r.to:%H:%M}", [[f"{b.from_:%H:%M}", f"{b.to:%H:%M}"] for b in r.breaks]]
                for r in self._rules
            ],
            "closed": [[first.isoformat(), last.isoformat()] for first, last in self._closed],
            "maintenance": [[start.isoformat(), end.isoformat()] for start, end in self._planned],
        }

    @classmethod
    def defined(cls, definition: Mapping[str, Any]) -> Calendar:
        """The calendar that has this definition."""
        clock = time.fromisoformat
        return cls(
            definition["zone"],
            [
                ShiftRule(name, frozenset(days), clock(a), clock(b), tuple(Break(clock(c), clock(d)) for c, d in breaks))
                for name, days, a, b, breaks in definition["shifts"]
            ],
            [(date.fromisoformat(first), date.fromisoformat(last)) for first, last in definition["closed"]],
            [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in definition["maintenance"]],
        )

    def applies_from(self, since: Instant, before: Calendar) -> None:
        """It was changed at `since`: spans of the time before stay those of the calendar `before`."""
        self._before, self._since = before, since

    def kind_at(self, at: Instant) -> tuple[SpanKind, Instant]:
        """The kind at `at` and the instant (exclusive) until which it surely holds; O(1) for times inside the last answer."""
        latest = self._latest
        if not latest.start <= at < latest.end:
            spans = self._day_of(at).spans
            latest = self._latest = spans[bisect_right(spans, at, key=_end_of)]
        return latest.kind, latest.end

    def required(self, start: Instant, end: Instant) -> int:
        """Microseconds of required time in [start, end)."""
        kind, until = self.kind_at(start)
        if end <= until:
            return max(end - start, 0) if kind is SpanKind.REQUIRED else 0
        return sum(span.end - span.start for span in self.spans(start, end) if span.kind is SpanKind.REQUIRED)

    def after_required(self, start: Instant, duration: int, *, limit: Instant | None = None) -> Instant | None:
        """The instant at which `duration` microseconds of required time have passed since `start`.

        None when there is not that much before `limit` (default: 400 days after `start`).
        """
        limit = start + HORIZON if limit is None else limit
        kind, until = self.kind_at(start)
        if self._always:
            until = limit
        if duration <= 0 or (kind is SpanKind.REQUIRED and start + duration <= until):
            return start + max(duration, 0)
        left, day = duration, self._day_of(start)
        while day.start < limit and day.date_ < date.max - _ONE_DAY:
            if day.start >= start and left > day.required:
                left -= day.required
            else:
                for span in day.spans:
                    if span.start >= limit:
                        return None
                    if span.kind is SpanKind.REQUIRED and span.end > start:
                        begin = max(span.start, start)
                        if begin + left <= span.end:
                            return begin + left
                        left -= span.end - begin
            day = self._day(day.date_ + _ONE_DAY)
        return None

    def shift_at(self, at: Instant) -> Shift | None:
        """The shift that holds `at`, breaks and maintenance included; None outside every shift."""
        latest = self._latest_shift
        if latest is not None and latest.start <= at < latest.end:
            return latest
        found = next(self.shifts(at, at + 1), None)
        self._latest_shift = found or latest
        return found

    def shifts(self, start: Instant, end: Instant) -> Iterator[Shift]:
        """Shifts that touch [start, end), in order of start."""
        if not self._rules:
            return
        day = self._day_of(start).date_ - _ONE_DAY  # a shift lasts a day at most, so only yesterday's can still be running
        while self._midnight(day) < end:
            for shift, _ in self._shifts_of(day):
                if shift.start < end and shift.end > start:
                    yield shift
            day += _ONE_DAY

    def day_bounds(self, at: Instant) -> tuple[Instant, Instant]:
        """Start and end (exclusive) of the local day that holds `at`."""
        day = self._day_of(at)
        return day.start, day.end

    def _walk(self, start: Instant) -> Iterator[Span]:
        """Spans from the one that holds `start` on; ends with the last date that Python knows."""
        day = self._day_of(start)
        yield from day.spans[bisect_right(day.spans, start, key=_end_of) :]
        date_ = day.date_ + _ONE_DAY
        while date_ < date.max - _ONE_DAY:
            yield from self._day(date_).spans
            date_ += _ONE_DAY

    def _day_of(self, at: Instant) -> _Day:
        day = self._latest_day
        if day is not None and day.start <= at < day.end:
            return day
        day = self._day(self.local(at).date())
        if at < day.start:  # clocks put back over midnight show yesterday's date again: the day has already begun
            day = self._day(day.date_ - _ONE_DAY)
        elif at >= day.end:
            day = self._day(day.date_ + _ONE_DAY)
        self._latest_day = day
        return day

    def _day(self, date_: date) -> _Day:
        day = self._days.get(date_)
        if day is None:
            if len(self._days) >= _CACHED_DAYS:
                self._days.clear()
            day = self._days[date_] = self._build(date_)
        return day

    def _build(self, date_: date) -> _Day:
        start, end = self._midnight(date_), self._midnight(date_ + _ONE_DAY)
        if self._rules:
            painted = [Span(start, end, SpanKind.CLOSED)]
            for begun in (date_ - _ONE_DAY, date_):
                for shift, breaks in self._shifts_of(begun):
                    painted = _paint(painted, (Span(shift.start, shift.end, SpanKind.REQUIRED), *breaks))
        else:
            painted = [Span(start, end, SpanKind.CLOSED if self._is_closed(date_) else SpanKind.REQUIRED)]
        painted = _paint(painted, (Span(a, b, SpanKind.MAINTENANCE) for a, b in self._maintenance), keep=SpanKind.CLOSED)
        required = sum(span.end - span.start for span in painted if span.kind is SpanKind.REQUIRED)
        return _Day(date_, start, end, tuple(painted), required)

    def _is_closed(self, date_: date) -> bool:
        return any(first <= date_ <= last for first, last in self._closed)

    def _shifts_of(self, date_: date) -> tuple[tuple[Shift, tuple[Span, ...]], ...]:
        """The shifts that begin on a local day, each with its breaks, in order of start."""
        known = self._begun.get(date_)
        if known is None:
            if len(self._begun) >= _CACHED_DAYS:
                self._begun.clear()
            rules = () if self._is_closed(date_) else tuple(r for r in self._rules if date_.isoweekday() in r.days)
            built = (self._occurrence(rule, date_) for rule in rules)
            known = tuple(sorted((pair for pair in built if pair[0].start < pair[0].end), key=lambda pair: pair[0].start))
            self._begun[date_] = known
        return known

    def _occurrence(self, rule: ShiftRule, date_: date) -> tuple[Shift, tuple[Span, ...]]:
        begin = datetime.combine(date_, rule.from_)
        shift = Shift(rule.name, date_, self._resolve(begin), self._resolve(begin + timedelta(minutes=length_min(rule.from_, rule.to))))
        breaks = []
        for pause in rule.breaks:
            local = datetime.combine(date_, pause.from_)
            start = self._resolve(local if pause.from_ >= rule.from_ else local + _ONE_DAY)
            end = min(start + length_min(pause.from_, pause.to) * 60 * SECOND, shift.end)
            if shift.start <= start < end:
                breaks.append(Span(start, end, SpanKind.BREAK))
        return shift, tuple(breaks)

    def _stretch(self, start: datetime, end: datetime) -> tuple[Instant, Instant]:
        """Wall-clock ends; only a stretch that a clock change skips wholly keeps its length, or it would vanish."""
        first, last = self._resolve(start), self._resolve(end)
        return (first, last) if last > first else (first, first + (end - start) // timedelta(microseconds=1))

    def _midnight(self, date_: date) -> Instant:
        return self._resolve(datetime.combine(date_, time.min))

    def _resolve(self, local: datetime) -> Instant:
        """Naive local time -> Instant: the first of two, the jump itself for one that is skipped."""
        first = local.replace(tzinfo=self._zone, fold=0)
        second = local.replace(tzinfo=self._zone, fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        if before is None or after is None or before >= after:
            return instant(first)
        low, high = instant(second), instant(first)  # the jump lies in (low, high]: offsets are `before` at low and `after` at high
        while high - low > 1:
            middle = (low + high) // 2
            if self.local(middle).utcoffset() == before:
                low = middle
            else:
                high = middle
        return high


def _joined(first: list[Span], then: list[Span]) -> list[Span]:
    """Two rows of spans that meet."""
    if first and then and first[-1].kind is then[0].kind:
        return [*first[:-1], Span(first[-1].start, then[0].end, then[0].kind), *then[1:]]
    return first + then


def always(zone: str = "UTC") -> Calendar:
    """Every instant is required time; no shifts. `zone` decides only where its days begin."""
    return Calendar(zone)


def _paint(ground: list[Span], colours: Iterable[Span], *, keep: SpanKind | None = None) -> list[Span]:
    """Lay each of `colours` over `ground` (consecutive spans), clipped to it; ground of kind `keep` is never covered."""
    for colour in colours:
        if colour.start >= ground[-1].end or colour.end <= ground[0].start:
            continue
        painted: list[Span] = []
        for span in ground:
            start, end = max(span.start, colour.start), min(span.end, colour.end)
            if start >= end or span.kind is keep:
                painted.append(span)
                continue
            pieces = (Span(span.start, start, span.kind), Span(start, end, colour.kind), Span(end, span.end, span.kind))
            painted.extend(piece for piece in pieces if piece.start < piece.end)
        ground = painted
    return ground
