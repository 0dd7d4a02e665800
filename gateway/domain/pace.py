"""Cycle times of a machine that says itself when it runs: slow time from the gaps between pieces, and the 5-minute picture.

A gap is judged on running time alone (stopped time inside is taken out first). Where readings bring several cycles, gaps
are joined until 20 cycles, so that slow time does not depend on the poll.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, MutableSequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.instants import SECOND, Instant

JOIN_CYCLES = 20
_BIN = 300 * SECOND
_BIN_SAMPLES = 512
_RUNS = 64
TENTHS = 11
_KEPT = 26 * 3600 * SECOND


@dataclass(slots=True)
class Gap:
    """Running time [start, end) stretches since the piece before, and how many pieces ended it."""

    pieces: int
    expected: int
    """Microseconds that these pieces take at the ideal rate."""
    cycles: float
    runs: list[list[int]]

    @property
    def run(self) -> int:
        if len(self.runs) == 1:
            [[start, end]] = self.runs
            return end - start
        return sum(end - start for start, end in self.runs)


@dataclass
class CycleTimes:
    """Cycle times in seconds per piece of one 5-minute bin; thinned evenly beyond 512."""

    start: Instant
    count: int = 0
    values: MutableSequence[float] = field(default_factory=lambda: array("d"))
    stride: int = 1

    def add(self, value: float, pieces: int) -> None:
        self.count += pieces
        if self.count // self.stride != (self.count - pieces) // self.stride:
            self.values.append(value)
        if len(self.values) > _BIN_SAMPLES:
            self.values = self.values[::2]
            self.stride *= 2

    def close(self) -> None:
        """No more come: the tenths are kept, of which the percentiles are the same. A day of a fast machine is hundreds of bins."""
        values = list(self.values)
        if len(values) > TENTHS:
            ranked = sorted(values)
            values = [ranked[round(tenth / 10 * (len(ranked) - 1))] for tenth in range(TENTHS)]
        self.values = values

    def percentiles(self) -> tuple[float | None, float, float | None]:
        """p10, p50, p90; p10 and p90 None under 20 cycles."""
        ranked = sorted(self.values)
        last = len(ranked) - 1

        def at(share: float) -> float:
            return ranked[round(share * last)]

        few = self.count < JOIN_CYCLES
        return (None if few else at(0.1), at(0.5), None if few else at(0.9))


class Pace:
    """Judges gaps; `slow_parts` are handed back as running stretches to book. `on_cycle(at, microseconds run, pieces)`: one has ended."""

    def __init__(self, slow_tolerance: float, on_cycle: Callable[[Instant, int, int], None]) -> None:
        self._tolerance = slow_tolerance
        self._on_cycle = on_cycle
        self._runs: list[list[int]] = []
        self._watching = False
        self._gaps: list[Gap] = []
        self._cycles = 0.0
        """Of `_gaps`."""
        self._doubted: list[Gap] = []
        self._joining = False
        self.bin: CycleTimes | None = None
        self.finished: list[CycleTimes] = []
        """Bins that ended since the last `keep_finished`."""
        self.kept: deque[CycleTimes] = deque()

    def run(self, start: Instant, end: Instant) -> None:
        """The machine ran for [start, end)."""
        if not self._watching or end <= start:
            return
        if self._runs and self._runs[-1][1] == start:
            self._runs[-1][1] = end
        else:
            self._runs.append([start, end])
            if len(self._runs) > _RUNS:
                # A machine that stops hundreds of times without a piece: keep the exact sum, not every edge.
                first, second = self._runs[0], self._runs.pop(1)
                first[0] = second[1] - (first[1] - first[0] + second[1] - second[0])
                first[1] = second[1]

    @property
    def oldest(self) -> Instant | None:
        """The earliest running time that is not judged yet."""
        starts = [runs[0][0] for runs in (self._runs, *(g.runs for g in (*self._gaps, *self._doubted))) if runs]
        return min(starts, default=None)

    def confirm(self) -> None:
        """The machine did run while that was in doubt: what happened then is judged like anything else."""
        self._await(self._doubted)

    def cut(self, at: Instant) -> None:
        """What looked like running from `at` on was none."""
        self._runs = _until(self._runs, at)
        for gap in self._doubted:
            gap.runs = _until(gap.runs, at)
        self._await([gap for gap in self._doubted if gap.runs])

    def _await(self, gaps: Iterable[Gap]) -> None:
        """Of what was in doubt, these wait to be judged."""
        for gap in gaps:
            self._gaps.append(gap)
            self._cycles += gap.cycles
        self._doubted = []

    def lose(self) -> None:
        """Unknown time, or a counter that could not be trusted: this gap is not judged."""
        self._watching = False
        self._runs = []

    def restart(self) -> None:
        """A piece was made that ends no gap worth judging (the first, or after a loss)."""
        self._watching = True
        self._runs = []

    def piece(
        self, at: Instant, pieces: int, ideal_us: float | None, pieces_per_cycle: int, *, in_doubt: bool = False
    ) -> list[tuple[Instant, Instant]]:
        """`pieces` ended a gap at `at`; returns slow stretches that are now judged. `in_doubt`: whether it ran is not known yet."""
        if not self._watching:
            self.restart()
            return []
        cycles = pieces / pieces_per_cycle
        gap = Gap(pieces, round(pieces * ideal_us) if ideal_us else 0, cycles, self._runs)
        self._runs = []
        run = gap.run
        if run > 0:
            self._remember(at, run, pieces)
        if not ideal_us:
            return []
        if in_doubt:
            self._doubted.append(gap)
            return []
        self._gaps.append(gap)
        self._cycles += cycles
        return self._judge_all() if self._cycles >= JOIN_CYCLES else []

    def _remember(self, at: Instant, run: int, pieces: int) -> None:
        present = self.bin
        if present is None or at >= present.start + _BIN:
            start = at // _BIN * _BIN
            if present is not None:
                present.close()
                self.finished.append(present)
                self.kept.append(present)
                while self.kept[0].start <= start - _KEPT:
                    self.kept.popleft()
            present = self.bin = CycleTimes(start)
        present.add(run / pieces / SECOND, pieces)
        self._on_cycle(at, run, pieces)

    def flush(self, *, finished: bool) -> list[tuple[Instant, Instant]]:
        """Judge what is waiting: always at the end of a job or of the recording (`finished`); at the end of a window only
        gaps of single cycles, because a joined batch cut short would be judged by the poll's jitter."""
        multiple = self._joining or any(g.cycles > 1 for g in self._gaps)
        if not self._gaps or (multiple and not finished):
            return []
        return self._judge_all()

    def _judge_all(self) -> list[tuple[Instant, Instant]]:
        gaps, self._gaps, self._cycles = self._gaps, [], 0.0
        multiple = any(g.cycles > 1 for g in gaps)
        joined = multiple or self._joining
        self._joining = multiple
        if joined:
            runs = [r for g in gaps for r in g.runs]
            gaps = [Gap(sum(g.pieces for g in gaps), sum(g.expected for g in gaps), sum(g.cycles for g in gaps), runs)]
        return [part for gap in gaps for part in self._slow(gap)]

    def _slow(self, gap: Gap) -> list[tuple[Instant, Instant]]:
        """The excess of a slow gap, as the last running stretches of it."""
        excess = gap.run - gap.expected
        if excess <= 0 or gap.run <= gap.expected * (1 + self._tolerance):
            return []
        parts: list[tuple[Instant, Instant]] = []
        for start, end in reversed(gap.runs):
            if excess <= 0:
                break
            low = max(start, end - excess)
            parts.append((low, end))
            excess -= end - low
        return parts

    def jump(self, at: Instant) -> None:
        """The clock was set to `at`: bins from there on are made anew."""
        if self.bin is not None and self.bin.start < at // _BIN * _BIN:
            self.bin.close()
            self.finished.append(self.bin)
            self.kept.append(self.bin)
        self.bin = None
        self.kept = deque(b for b in self.kept if b.start < at // _BIN * _BIN)

    def keep_finished(self) -> None:
        """The finished bins are on their way to the journal."""
        self.finished = []

    def load_bins(self, rows: Iterable[dict[str, Any]]) -> None:
        self.kept.extend(sorted((CycleTimes(**row) for row in rows), key=lambda b: b.start))

    def dump(self) -> dict[str, Any]:
        """The open 5-minute bin is a picture only and is not kept over a restart."""
        return {
            "runs": self._runs,
            "watching": self._watching,
            "joining": self._joining,
            "gaps": [[g.pieces, g.expected, g.cycles, g.runs] for g in self._gaps],
            "doubted": [[g.pieces, g.expected, g.cycles, g.runs] for g in self._doubted],
        }

    def load(self, state: dict[str, Any]) -> None:
        self._runs, self._watching, self._joining = state["runs"], state["watching"], state["joining"]
        self._await([Gap(*g) for g in state["gaps"]])
        self._doubted = [Gap(*g) for g in state["doubted"]]


def _until(runs: list[list[int]], at: Instant) -> list[list[int]]:
    return [[start, min(end, at)] for start, end in runs if start < at]
