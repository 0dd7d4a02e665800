"""Geometry of the charts: x in per cent (or thousandths inside a stretched path), y in pixels. The SVG itself is in the templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from math import ceil, floor, log10
from statistics import median

from gateway.domain.view import CycleBin, Interval, JobView, MicroStop, UnitView
from gateway.status.formats import Formats
from gateway.status.losses import interval_key

BASE, TOP = 86.0, 14.0
"""Baseline of the strip, and the top of a full bar."""
_HEIGHTS = {"run": 0.5, "stop": 1.0, "past": 1.0, "indp": 0.75, "ind": 0.75, "setup": 1.0, "off": 0.16, "unk": 1.0}
MIN_WIDTH = 0.25
"""Per cent: 2 px on a strip of 800."""
_LETTER_WIDTH = 1.3
TREND_TOP, TREND_BASE = 8.0, 162.0
SLOWER = 1.05
"""From this ratio on the last half hour is said to be slower than the shift."""
_BIN = timedelta(minutes=5)


@dataclass(frozen=True)
class Tick:
    x: float
    label: str
    anchor: str
    """first, last, or odd (left out on a phone), or nothing."""


@dataclass(frozen=True)
class Box:
    x: float
    width: float
    y: float
    height: float
    css: str
    letter: str = ""


@dataclass(frozen=True)
class Strip:
    ticks: tuple[Tick, ...]
    boxes: tuple[Box, ...]
    runs: str
    """Path of all running stretches, x in thousandths."""
    micro: str
    """Path of the micro-stops' ticks above."""
    now: float


@dataclass(frozen=True)
class Scale:
    """A stretch of time laid over 100 per cent."""

    start: datetime
    end: datetime

    def x(self, at: datetime) -> float:
        share = (at - self.start) / (self.end - self.start) if self.end > self.start else 0.0
        return round(100 * min(max(share, 0.0), 1.0), 2)


_STEPS_MIN = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720)
_TICKS = 9


def ticks(scale: Scale, formats: Formats) -> tuple[Tick, ...]:
    """Round times of the site's clock, about eight of them, and both ends."""
    whole = (scale.end - scale.start).total_seconds() / 60
    step = next((step for step in _STEPS_MIN if whole / step <= _TICKS), 24 * 60)
    stride = min(step, 60)
    start = formats.local(scale.start)
    first = scale.start - timedelta(minutes=start.minute % stride, seconds=start.second, microseconds=start.microsecond)
    made = [Tick(0.0, formats.clock(scale.start), "first")]
    edge, inner = min(100 * 0.45 * step / max(whole, step), 7.0), 0
    for count in range(int(whole / stride) + 2):
        at = first + timedelta(minutes=count * stride)
        local, x = formats.local(at), scale.x(at)
        if (local.hour * 60 + local.minute) % step or not edge < x < 100 - edge or not scale.start < at < scale.end:
            continue
        inner += 1
        made.append(Tick(x, formats.clock(at), "odd" if inner % 2 else ""))
    return (*made, Tick(100.0, formats.clock(scale.end), "last"))


def _css(interval: Interval, *, alarmed: bool) -> str:
    """Class of a stretch; only a stop that still goes on and asks for somebody is coloured."""
    open_ = interval.to is None and alarmed
    match interval.kind:
        case "run" | "setup":
            return interval.kind
        case "unknown":
            return "unk"
        case "planned" | "no_order":
            return "off"
        case _ if interval.induced:
            return "ind" if open_ else "indp"
        case _:
            return "stop" if open_ else "past"


def strip(view: UnitView, now: datetime, formats: Formats, letters: Mapping[str, str], *, alarmed: bool, lost_at: datetime | None) -> Strip:
    """The shift's band. `letters`: reason key -> letter of the Pareto. `lost_at`: since then the link is lost and all is unknown."""
    scale = Scale(view.shift_from, max(view.shift_to, view.shift_from + timedelta(minutes=1)))
    boxes: list[Box] = []
    runs: list[tuple[float, float]] = []
    for interval in _told(view.intervals, scale.start, now, lost_at):
        css = _css(interval, alarmed=alarmed)
        x = scale.x(interval.from_)
        width = round(scale.x(interval.to or now) - x, 2)
        if interval.to is not None and interval.to <= scale.start:
            continue
        if css == "run":
            runs.append((x, width))
            continue
        height = _HEIGHTS[css] * (BASE - TOP)
        letter = letters.get(interval_key(interval), "") if css in ("stop", "past", "ind", "indp", "setup") else "?" if css == "unk" else ""
        width = max(width, MIN_WIDTH)
        _lay(boxes, Box(round(min(x, 100 - width), 2), width, round(BASE - height, 1), round(height, 1), css, letter))
    kept = tuple(box if box.width >= _LETTER_WIDTH else Box(box.x, box.width, box.y, box.height, box.css) for box in boxes)
    return Strip(ticks(scale, formats), kept, _runs(runs), _micro(view.micro_stops, scale), scale.x(now))


def _told(intervals: Sequence[Interval], start: datetime, now: datetime, lost_at: datetime | None) -> Sequence[Interval]:
    """Before the first reading nothing is known; what the machine said last holds until its link was lost, not longer."""
    if not intervals or intervals[0].from_ > start:
        until = intervals[0].from_ if intervals else min(lost_at or now, now)
        intervals = [Interval(start, until, "unknown"), *intervals]
    if lost_at is None:
        return intervals
    kept = [interval for interval in intervals if interval.from_ < lost_at]
    if kept and (kept[-1].to is None or kept[-1].to > lost_at):
        kept[-1] = replace(kept[-1], to=lost_at)
    return [*kept, Interval(lost_at, None, "unknown")]


def _lay(boxes: list[Box], box: Box) -> None:
    """Neighbours of one kind that the eye cannot tell apart become one, so that a day of short stops stays a small page."""
    last = boxes[-1] if boxes else None
    if last is not None and last.css == box.css and last.letter == box.letter and box.x - (last.x + last.width) < MIN_WIDTH / 2:
        boxes[-1] = Box(last.x, round(box.x + box.width - last.x, 2), last.y, last.height, last.css, last.letter)
    else:
        boxes.append(box)


def _runs(stretches: Iterable[tuple[float, float]]) -> str:
    y, height = BASE - _HEIGHTS["run"] * (BASE - TOP), _HEIGHTS["run"] * (BASE - TOP)
    merged: list[list[float]] = []
    for x, width in stretches:
        if merged and x - merged[-1][1] < MIN_WIDTH / 2:
            merged[-1][1] = x + width
        else:
            merged.append([x, x + width])
    return "".join(f"M{_mille(start)} {y:g}h{_mille(max(end - start, 0.05))}v{height:g}H{_mille(start)}z" for start, end in merged)


def _micro(stops: Iterable[MicroStop], scale: Scale) -> str:
    places = sorted({round(scale.x(stop.from_) * 5) for stop in stops if scale.start <= stop.from_ <= scale.end})
    return "".join(f"M{2 * place} 2v9" for place in places)


def _mille(per_cent: float) -> str:
    return f"{per_cent * 10:.1f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Mark:
    """A figure on the y axis."""

    y: float
    label: str


@dataclass(frozen=True)
class Trend:
    """Cycle times over the strip's x; paths in thousandths of x. `slower`: ratio of the last half hour to the shift, else None."""

    marks: tuple[Mark, ...]
    bands: tuple[str, ...]
    lines: tuple[str, ...]
    dots: tuple[tuple[float, float, bool], ...]
    """x, y, and whether it lies beyond the axis."""
    gaps: tuple[Box, ...]
    ideal_y: float | None
    slow_y: float | None
    slow_s: float | None
    slower: float | None


def trend(view: UnitView, now: datetime, formats: Formats, slow_tolerance: float) -> Trend | None:
    """None without a measured cycle. The axis is 0.9 to 1.25 ideal cycle times; without one, the data's own range."""
    bins = [found for found in view.cycles_5min if found.p50 > 0]
    if not bins:
        return None
    ideal = view.ideal_cycle_time_s
    low, high = (0.9 * ideal, 1.25 * ideal) if ideal else (0.9 * min(found.p50 for found in bins), 1.1 * max(found.p50 for found in bins))
    scale = Scale(view.shift_from, max(view.shift_to, view.shift_from + timedelta(minutes=1)))

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(TREND_BASE - share * (TREND_BASE - TREND_TOP), 1)

    values, digits = _round_values(low, high)
    marks = tuple(Mark(y(value), formats.number(value, digits)) for value in values)
    bands, lines = [], []
    for group in _groups(found for found in bins if found.p10 is not None and found.p90 is not None):
        xs = [_mille(scale.x(found.from_ + _BIN / 2)) for found in group]
        lines.append(" ".join(f"{x},{y(found.p50)}" for x, found in zip(xs, group, strict=True)))
        upper = [f"{x},{y(found.p90 or 0)}" for x, found in zip(xs, group, strict=True)]
        lower = [f"{x},{y(found.p10 or 0)}" for x, found in zip(xs, group, strict=True)]
        bands.append(" ".join(upper + lower[::-1]))
    dots = tuple(
        (scale.x(found.from_ + _BIN / 2), y(found.p50), not low <= found.p50 <= high)
        for found in bins
        if found.p10 is None or not low <= found.p50 <= high
    )
    slow = ideal * (1 + slow_tolerance) if ideal else None
    return Trend(
        marks, tuple(bands), tuple(lines), dots, _gaps(view.intervals, scale, now), y(ideal) if ideal else None,
        y(slow) if slow else None, slow, slower(bins, now),
    )  # fmt: skip


def _round_values(low: float, high: float) -> tuple[list[float], int]:
    """Three to six round figures between `low` and `high`, and the decimals they need."""
    exponent = floor(log10((high - low) / 3))
    step = next(
        nice for nice in (10.0**exponent, 2 * 10.0**exponent, 5 * 10.0**exponent, 10.0 ** (exponent + 1)) if (high - low) / nice <= 6
    )
    return [count * step for count in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)], max(-floor(log10(step) + 1e-9), 0)


def _groups(bins: Iterable[CycleBin]) -> list[list[CycleBin]]:
    """Runs of neighbouring bins: no line is drawn over a gap."""
    groups: list[list[CycleBin]] = []
    for found in bins:
        if groups and found.from_ - groups[-1][-1].from_ <= _BIN * 1.5:
            groups[-1].append(found)
        else:
            groups.append([found])
    return groups


def _gaps(intervals: Sequence[Interval], scale: Scale, now: datetime) -> tuple[Box, ...]:
    boxes: list[Box] = []
    for interval in intervals:
        if interval.kind == "run":
            continue
        x = scale.x(interval.from_)
        width = round(scale.x(interval.to or now) - x, 2)
        if width >= MIN_WIDTH:
            _lay(boxes, Box(x, width, TREND_TOP, TREND_BASE - TREND_TOP, "soft" if interval.kind == "unknown" else "nodata"))
    return tuple(boxes)


def slower(bins: Sequence[CycleBin], now: datetime) -> float | None:
    """How much the median of the last 30 min exceeds the shift's, where that is 5 % or more."""
    recent = [found.p50 for found in bins if found.from_ >= now - timedelta(minutes=35)]
    before = [found.p50 for found in bins if found.from_ < now - timedelta(minutes=35)]
    if len(recent) < 3 or len(before) < 3:
        return None
    ratio = median(recent) / median([*before, *recent])
    return ratio if ratio >= SLOWER else None


@dataclass(frozen=True)
class PromiseChart:
    """Delivery window over the likely to safe bar; x in per cent. `late_x`: where the bar leaves the window."""

    ticks: tuple[Tick, ...]
    window: tuple[float, float] | None
    bar: tuple[float, float]
    late: tuple[float, float] | None
    now: float


_NEAREST = timedelta(minutes=5)
"""The least stretch a promise is drawn on."""


def promise(job: JobView, due: datetime | None, now: datetime, formats: Formats) -> PromiseChart | None:
    """None while no end can be told."""
    if job.eta_likely is None or job.eta_safe is None:
        return None
    customer = job.order.customer
    opens = customer.delivery_from if customer else None
    reach = max(moment for moment in (job.eta_safe, due, now + _NEAREST) if moment is not None)
    scale = Scale(now - (reach - now) / 30, reach + (reach - now) / 12)
    window = None
    if due is not None:
        window = (scale.x(opens) if opens is not None else scale.x(scale.start), scale.x(due))
    likely, safe = scale.x(job.eta_likely), scale.x(job.eta_safe)
    late_from = scale.x(due) if due is not None else 100.0
    bar = (min(likely, late_from), min(max(safe, likely + 0.4), late_from)) if likely < late_from else (likely, likely)
    late = (max(likely, late_from), max(safe, likely + 0.4)) if safe > late_from else None
    return PromiseChart(_promise_ticks(scale, formats), window, bar, late, scale.x(now))


def _promise_ticks(scale: Scale, formats: Formats) -> tuple[Tick, ...]:
    """The same hour ticks without the ends, days named beyond one day."""
    if scale.end - scale.start <= timedelta(hours=30):
        return tuple(Tick(tick.x, tick.label, "" if tick.anchor == "odd" else tick.anchor) for tick in ticks(scale, formats)[1:-1])
    step = max(1, round((scale.end - scale.start).total_seconds() / 86400 / 6))
    midnight = formats.local(scale.start).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight + timedelta(days=count) for count in range(1, (scale.end - scale.start).days + 2, step)]
    return tuple(Tick(scale.x(day), f"{day:%d/%m}", "") for day in days if scale.start < day < scale.end)


def spread(values: Sequence[float]) -> list[tuple[float, float]]:
    """Bars laid one after the other: (x, width) for each value."""
    edges = [0.0]
    for value in values:
        edges.append(edges[-1] + value)
    return [(round(start, 2), round(end - start, 2)) for start, end in pairwise(edges)]
