"""Where the minutes of a window went: the cascade tT > tO > tR > tF > tN > tU (NF E60-182), and the stops behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.view import Interval, StopReason

MINUTE_S = 60.0
PARETO_ROWS = 7


@dataclass(frozen=True)
class Losses:
    """Seconds of a window, cut so that the parts add up to `total_s`.

    `late_s`: ideal time of pieces that were counted afterwards; it was taken off `unknown_s` and is inside `running_s`.
    `net_s` and `useful_s` are None without an ideal time; `over_s`: how far tN exceeds tF (performance above 1).
    `micro_outside`: micro-stops are lost before tF (their bucket is availability), not inside it.
    """

    total_s: float
    closed_s: float
    off_s: float
    planned_s: float
    stop_s: float
    setup_s: float
    unknown_s: float
    late_s: float
    running_s: float
    micro_s: float
    micro_outside: bool
    slow_s: float
    net_s: float | None
    scrap_s: float
    useful_s: float | None
    over_s: float

    @property
    def lost_s(self) -> float | None:
        """tR - tU."""
        return None if self.useful_s is None else max(self.planned_s - self.useful_s, 0.0)


def losses(line: Mapping[str, Any], ideal_cycle_time_s: float | None) -> Losses:
    """From a KPI line of the contract (its seconds)."""
    planned, run = _seconds(line, "planned_s"), _seconds(line, "run_s")
    stop, setup, unknown, micro = (_seconds(line, key) for key in ("stop_s", "setup_s", "unknown_s", "micro_stop_s"))
    opening = max(_seconds(line, "opening_s"), planned)
    total = max(_seconds(line, "total_s"), opening)
    outside = planned - run - stop - setup - unknown > micro / 2 > 0
    late = min(float(line.get("late") or 0) * (ideal_cycle_time_s or 0.0), unknown)
    running = run + late
    net, useful = line["net_s"], line["useful_s"]
    over = max((net or 0.0) - running, 0.0)
    inside = 0.0 if outside else micro
    gap = running - net if net is not None else inside
    inside = min(inside, max(gap, 0.0))
    return Losses(
        total_s=total, closed_s=total - opening, off_s=opening - planned, planned_s=planned, stop_s=stop, setup_s=setup,
        unknown_s=unknown - late, late_s=late, running_s=running, micro_s=micro if outside else inside, micro_outside=outside,
        slow_s=max(gap - inside, 0.0), net_s=net, scrap_s=max((net or 0.0) - (useful or 0.0), 0.0), useful_s=useful, over_s=over,
    )  # fmt: skip


def _seconds(line: Mapping[str, Any], key: str) -> float:
    return float(line.get(key) or 0.0)


def largest_remainder(parts: Sequence[float], whole: int) -> list[int]:
    """`parts` as whole numbers that sum to `whole` (which is their rounded sum), each off by less than one."""
    floors = [int(part) for part in parts]
    missing = whole - sum(floors)
    order = sorted(range(len(parts)), key=lambda index: floors[index] - parts[index])
    for index in order[: max(missing, 0)]:
        floors[index] += 1
    return floors


@dataclass(frozen=True)
class Lost:
    """One part lost at a step: a word of the page (`lost.stop`), its share of tT, and whole minutes.

    `some`: less than a minute, but not nothing."""

    word: str
    kind: str
    share: float
    minutes: int
    some: bool


@dataclass(frozen=True)
class Step:
    """One row of the cascade. Shares are of tT; `minutes` None where it cannot be said."""

    symbol: str
    kept: float
    late: float
    minutes: int | None
    lost: tuple[Lost, ...]
    over: float = 0.0


_LEAVES = ("useful_s", "scrap_s", "slow_s", "micro_s", "unknown_s", "stop_s", "setup_s", "off_s", "closed_s")
_KINDS = {
    "scrap_s": ("lost.scrap", "l4"), "slow_s": ("lost.slow", "l3"), "micro_s": ("lost.micro", "l2"), "unknown_s": ("lost.unknown", "unk"),
    "stop_s": ("lost.stop", "l1"),
    "setup_s": ("lost.setup", "setup"), "off_s": ("lost.planned", "loss"), "closed_s": ("lost.closed", "loss"),
}  # fmt: skip
_STEPS = (
    ("tT", ()), ("tO", ("closed_s",)), ("tR", ("off_s",)), ("tF", ("stop_s", "setup_s", "unknown_s")), ("tN", ("micro_s", "slow_s")),
    ("tU", ("scrap_s",)),
)  # fmt: skip


def cascade(of: Losses) -> tuple[Step, ...]:
    """Six steps whose minutes add up: each is the one before less what is lost at it."""
    total = of.total_s
    if total <= 0:
        return ()
    known = of.useful_s is not None
    seconds = {leaf: getattr(of, leaf) or 0.0 for leaf in _LEAVES}
    if not known or of.over_s:
        seconds |= {"useful_s": of.running_s, "scrap_s": 0.0, "slow_s": 0.0} | ({} if of.micro_outside else {"micro_s": 0.0})
    minutes = dict(zip(_LEAVES, largest_remainder([value / MINUTE_S for value in seconds.values()], round(total / MINUTE_S)), strict=True))
    left, kept, steps = sum(minutes.values()), total, []
    for symbol, leaves in _STEPS:
        here = _moved(symbol, leaves, of)
        lost = tuple(Lost(*_KINDS[leaf], seconds[leaf] / total, minutes[leaf], 0 < seconds[leaf] < MINUTE_S) for leaf in here)
        left -= sum(minutes[leaf] for leaf in here)
        kept -= sum(seconds[leaf] for leaf in here)
        late = min(of.late_s, kept) if symbol in ("tF", "tN", "tU") else 0.0
        steps.append(
            Step(symbol, kept / total, late / total, left, tuple(item for item in lost if item.share > 0 or symbol in ("tO", "tR")))
        )
    if not known:
        return (*steps[:4], *(Step(symbol, 0.0, 0.0, None, ()) for symbol in ("tN", "tU")))
    return (*steps[:4], *_over(of)) if of.over_s else tuple(steps)


def _moved(symbol: str, leaves: tuple[str, ...], of: Losses) -> tuple[str, ...]:
    if of.micro_outside and symbol == "tF":
        return (*leaves, "micro_s")
    return tuple(leaf for leaf in leaves if leaf != "micro_s") if of.micro_outside else leaves


def _over(of: Losses) -> tuple[Step, Step]:
    """tN and tU when the pace beat the ideal time: kept up to tF, the rest an overrun."""
    net, useful = of.net_s or 0.0, of.useful_s or 0.0
    scrap = (Lost("lost.scrap", "l4", 0.0, round(of.scrap_s / MINUTE_S), 0 < of.scrap_s < MINUTE_S),) if of.scrap_s else ()
    return (
        Step("tN", min(net, of.running_s) / of.total_s, 0.0, round(net / MINUTE_S), (), of.over_s / of.total_s),
        Step(
            "tU", min(useful, of.running_s) / of.total_s, 0.0, round(useful / MINUTE_S), scrap, max(useful - of.running_s, 0.0) / of.total_s
        ),
    )


@dataclass(frozen=True)
class ParetoRow:
    """`letter` matches the strip; `share` is of the longest row; `cumulated` of all stops. `key` None: the other rows together."""

    letter: str
    key: str | None
    stop: StopReason | None
    duration_s: float
    count: int
    share: float
    cumulated: float


def reason_key(reason: str | None, fault: int | str | None = None, kind: str = "stop") -> str:
    """What joins an interval of the strip to a row of the Pareto."""
    if kind == "micro_stop":
        return "micro_stop"
    return reason or (f"fault:{fault}" if fault not in (None, 0, "") else f"none:{kind}")


def interval_key(interval: Interval) -> str:
    return reason_key(interval.reason, interval.fault, interval.kind)


def pareto(reasons: Sequence[StopReason]) -> tuple[ParetoRow, ...]:
    """Longest first, seven rows and the others together; micro-stops are a row without a letter."""
    ordered = sorted((reason for reason in reasons if reason.duration_s > 0), key=lambda reason: -reason.duration_s)
    whole = sum(reason.duration_s for reason in ordered)
    rows: list[ParetoRow] = []
    run, letters = 0.0, iter("ABCDEFG")
    for reason in ordered[:PARETO_ROWS]:
        run += reason.duration_s
        letter = "" if reason.kind == "micro_stop" else next(letters)
        key = reason_key(reason.reason, None, reason.kind)
        rows.append(ParetoRow(letter, key, reason, reason.duration_s, reason.count, reason.duration_s / ordered[0].duration_s, run / whole))
    others = ordered[PARETO_ROWS:]
    if others:
        rest = sum(reason.duration_s for reason in others)
        rows.append(ParetoRow("", None, None, rest, sum(reason.count for reason in others), min(rest / ordered[0].duration_s, 1.0), 1.0))
    return tuple(rows)
