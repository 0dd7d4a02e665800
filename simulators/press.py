"""Seeded machine models: a stamping press and a packer that run, hesitate, fail and recover. No I/O, no clock.

A model moves only when `advance(dt_s)` says how much time passed, and the way time is cut does not matter: the same
seed gives the same strokes at the same machine time whether a second comes whole or in ten slices.

    python -m simulators.press --seconds 600        prints what a press would do in ten minutes
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

_MICRO = 1_000_000
UINT32 = 1 << 32

COIL_CHANGE_FAULT = 12
"""The press reports its coil change as a fault word, as many presses do; the gateway's reasons call it set-up."""

RUNNING, STOPPED, SETUP, BREAK, NOT_PLANNED = 0, 1, 2, 8, 9
"""State codes of the packer."""


@dataclass(frozen=True)
class Stoppage:
    """One way a machine stops. Seconds are machine seconds: a plant at speed 5 lives them five times faster.

    `mean_between_s` counts running time; the first one falls between a quarter and three quarters of it.
    """

    name: str
    mean_between_s: float
    shortest_s: float
    longest_s: float
    fault: int = 0
    code: int = STOPPED


@dataclass(frozen=True)
class SlowPhase:
    """A stretch of running time in which every cycle takes `factor` times as long."""

    mean_between_s: float = 150.0
    shortest_s: float = 20.0
    longest_s: float = 50.0
    factor: float = 1.3


@dataclass(frozen=True)
class Made:
    """Pieces made since the model was built, whatever became of the PLC's counters."""

    produced: int
    good: int
    scrap: int


@dataclass(frozen=True)
class PressValues:
    """What the press's PLC shows; counters are cumulative uint32, `coil_kg` in kilograms, `bore_mm` in millimetres."""

    total: int
    rejects: int
    running: bool
    fault: int
    coil_kg: float
    bore_mm: float
    recipe: int


@dataclass(frozen=True)
class PackerValues:
    """What the packer's PLC shows; `weight` is the last carton's, in tenths of a kilogram."""

    parts: int
    state: int
    jam: bool
    weight: int


V = TypeVar("V")


@dataclass(frozen=True)
class Change(Generic[V]):
    """The PLC's values after something happened, `offset_s` real seconds after the beginning of the slice."""

    offset_s: float
    values: V


class Machine(ABC, Generic[V]):
    """The common life of a machine: cycles, slow phases, stoppages. Subclasses say what a stroke does.

    `speed` makes machine time run faster than real time. A halted machine lets time pass and does nothing.
    """

    def __init__(
        self,
        *,
        seed: int,
        cycle_time_s: float,
        stoppages: Sequence[Stoppage],
        slow: SlowPhase,
        reject_share: float,
        total: int = 0,
        rejects: int = 0,
        speed: float = 1.0,
        halted: bool = False,
    ) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self._random = random.Random(seed)
        self.speed = speed
        self.halted = halted
        self.reject_share = reject_share
        self._cycle_time_s = cycle_time_s
        self._stoppages = tuple(stoppages)
        self._slow = slow
        self._total = total
        self._rejects = rejects
        self._produced = 0
        self._scrap = 0
        self._carry_us = 0.0
        self._run_us = 0
        self._due_us = {s.name: self._draw_us(0.25 * s.mean_between_s, 0.75 * s.mean_between_s) for s in self._stoppages}
        self._stoppage: Stoppage | None = None
        self._stop_left_us = 0
        self._slow_from_us = self._draw_us(0.25 * slow.mean_between_s, 0.75 * slow.mean_between_s)
        self._slow_until_us = self._slow_from_us + self._draw_us(slow.shortest_s, slow.longest_s)
        self._cycle_left_us = self._draw_cycle_us()

    @abstractmethod
    def values(self) -> V:
        """What the PLC shows now."""

    @abstractmethod
    def _stroke(self) -> Stoppage | None:
        """One piece was made; returns the stoppage it makes necessary, if any."""

    @property
    def made(self) -> Made:
        return Made(self._produced, self._produced - self._scrap, self._scrap)

    @property
    def stoppage(self) -> Stoppage | None:
        return self._stoppage

    @property
    def executing(self) -> bool:
        return not self.halted and self._stoppage is None

    @property
    def total(self) -> int:
        return self._total % UINT32

    @property
    def rejects(self) -> int:
        return self._rejects % UINT32

    def advance(self, dt_s: float) -> list[Change[V]]:
        """Let `dt_s` real seconds pass. Returns every change inside them, in order."""
        if self.halted:
            return []
        self._carry_us += dt_s * self.speed * _MICRO
        slice_us = int(self._carry_us)
        self._carry_us -= slice_us
        left_us, changes = slice_us, []
        while left_us > 0:
            left_us, changed = self._step(left_us)
            if changed:
                changes.append(Change((slice_us - left_us) / _MICRO / self.speed, self.values()))
        return changes

    def halt(self) -> None:
        """The operator switches the machine off, between two strokes."""
        self.halted = True

    def release(self) -> None:
        """The operator switches it on again; a stoppage that was going on still has to be cured."""
        self.halted = False

    def stop_for(self, duration_s: float, fault: int = 0, code: int = STOPPED) -> None:
        """Stop now for `duration_s` machine seconds, on top of what the seed has in store."""
        self._begin(Stoppage("ordered", 0.0, duration_s, duration_s, fault, code))

    def reset_counters(self) -> None:
        """The PLC's counters start again at 0 (a power cycle); `made` does not forget."""
        self._total = 0
        self._rejects = 0

    def _step(self, left_us: int) -> tuple[int, bool]:
        """Up to the next happening or the end of the slice: what is left, and whether something happened."""
        if self._stoppage is not None:
            step = min(left_us, self._stop_left_us)
            self._stop_left_us -= step
            ended = self._stop_left_us == 0
            if ended:
                self._stoppage = None
            return left_us - step, ended
        step = min(left_us, self._cycle_left_us)
        self._cycle_left_us -= step
        self._run_us += step
        if self._cycle_left_us > 0:
            return left_us - step, False
        self._complete_cycle()
        return left_us - step, True

    def _complete_cycle(self) -> None:
        self._total += 1
        self._produced += 1
        necessary = self._stroke()
        self._cycle_left_us = self._draw_cycle_us()
        due = necessary or self._next_due()
        if due is not None:
            self._begin(due)

    def _next_due(self) -> Stoppage | None:
        for stoppage in self._stoppages:
            if self._run_us >= self._due_us[stoppage.name]:
                self._due_us[stoppage.name] = self._run_us + int(self._random.expovariate(1 / stoppage.mean_between_s) * _MICRO)
                return stoppage
        return None

    def _begin(self, stoppage: Stoppage) -> None:
        self._stoppage = stoppage
        self._stop_left_us = max(self._draw_us(stoppage.shortest_s, stoppage.longest_s), 1)

    def _reject(self) -> None:
        self._rejects += 1
        self._scrap += 1

    def _draw_us(self, shortest_s: float, longest_s: float) -> int:
        return int(self._random.uniform(shortest_s, longest_s) * _MICRO)

    def _draw_cycle_us(self) -> int:
        """A cycle is never much faster than the ideal, and sometimes a little slower."""
        jitter = self._random.triangular(0.99, 1.06, 1.01)
        if self._run_us >= self._slow_until_us:
            slow = self._slow
            self._slow_from_us = self._run_us + int(self._random.expovariate(1 / slow.mean_between_s) * _MICRO)
            self._slow_until_us = self._slow_from_us + self._draw_us(slow.shortest_s, slow.longest_s)
        factor = self._slow.factor if self._run_us >= self._slow_from_us else 1.0
        return max(int(self._cycle_time_s * jitter * factor * _MICRO), 1)


PRESS_STOPPAGES = (
    Stoppage("hesitation", 60.0, 4.0, 14.0),
    Stoppage("overload", 260.0, 25.0, 50.0, fault=21),
    Stoppage("misfeed", 700.0, 20.0, 60.0, fault=34),
)
PACKER_STOPPAGES = (
    Stoppage("box wait", 70.0, 3.0, 10.0),
    Stoppage("jam", 240.0, 8.0, 30.0),
    Stoppage("format change", 900.0, 40.0, 90.0, code=SETUP),
    Stoppage("break", 5400.0, 300.0, 600.0, code=BREAK),
)


class Press(Machine[PressValues]):
    """A stamping press fed from a coil: its weight falls with each stroke, its end is a coil change (fault 12).

    The bore gauge measures one piece in `gauge_every`; tool wear lets the bore drift until the next coil change.
    """

    def __init__(
        self,
        *,
        seed: int = 3,
        cycle_time_s: float = 1.2,
        total: int = 48_213,
        rejects: int = 611,
        coil_kg: float = 80.5,
        full_coil_kg: float = 900.0,
        kg_per_stroke: float = 0.35,
        recipe: int = 12,
        gauge_every: int = 20,
        speed: float = 1.0,
        halted: bool = False,
        stoppages: Sequence[Stoppage] = PRESS_STOPPAGES,
        slow: SlowPhase = SlowPhase(),
        reject_share: float = 0.015,
    ) -> None:
        super().__init__(
            seed=seed,
            cycle_time_s=cycle_time_s,
            stoppages=stoppages,
            slow=slow,
            reject_share=reject_share,
            total=total,
            rejects=rejects,
            speed=speed,
            halted=halted,
        )
        self.recipe = recipe
        self._coil_kg = coil_kg
        self._full_coil_kg = full_coil_kg
        self._kg_per_stroke = kg_per_stroke
        self._gauge_every = gauge_every
        self._wear_mm = 0.0
        self._bore_mm = 12.0

    def values(self) -> PressValues:
        fault = self._stoppage.fault if self._stoppage is not None else 0
        return PressValues(self.total, self.rejects, self.executing, fault, round(self._coil_kg, 2), self._bore_mm, self.recipe)

    def _stroke(self) -> Stoppage | None:
        self._coil_kg -= self._kg_per_stroke
        self._wear_mm += 0.00001
        bad = self._random.random() < self.reject_share
        if self._produced % self._gauge_every == 0:
            self._bore_mm = round(12.0 + self._wear_mm + self._random.gauss(0.0, 0.005), 4)
            bad = bad or not 11.98 <= self._bore_mm <= 12.02
        if bad:
            self._reject()
        if self._coil_kg >= self._kg_per_stroke:
            return None
        self._coil_kg = round(self._full_coil_kg * self._random.uniform(0.97, 1.03), 2)
        self._wear_mm = 0.0
        return Stoppage("coil change", 0.0, 30.0, 55.0, fault=COIL_CHANGE_FAULT)


class Packer(Machine[PackerValues]):
    """A packer that tells its state by code; while nobody is planned there it shows 9."""

    def __init__(
        self,
        *,
        seed: int = 2,
        cycle_time_s: float = 0.5,
        total: int = 3_912_004,
        speed: float = 1.0,
        halted: bool = False,
        stoppages: Sequence[Stoppage] = PACKER_STOPPAGES,
        slow: SlowPhase = SlowPhase(mean_between_s=200.0),
    ) -> None:
        super().__init__(
            seed=seed, cycle_time_s=cycle_time_s, stoppages=stoppages, slow=slow, reject_share=0.0, total=total, speed=speed, halted=halted
        )
        self._weight = 125

    def values(self) -> PackerValues:
        if self.halted:
            return PackerValues(self.total, NOT_PLANNED, False, self._weight)
        stoppage = self._stoppage
        state = RUNNING if stoppage is None else stoppage.code
        return PackerValues(self.total, state, stoppage is not None and stoppage.name == "jam", self._weight)

    def _stroke(self) -> Stoppage | None:
        self._weight = 125 + round(self._random.gauss(0.0, 1.0))
        return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.press",
        description="Run a machine model without a clock and print every change of its PLC values, one JSON object a line.",
        epilog="example: python -m simulators.press --machine packer --seconds 60 --seed 3",
    )
    parser.add_argument("--machine", choices=("press", "packer"), default="press")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="machine seconds to run (default 60)")
    args = parser.parse_args(argv)
    machine: Press | Packer = Press(seed=args.seed) if args.machine == "press" else Packer(seed=args.seed)
    for change in machine.advance(args.seconds):
        print(json.dumps({"at_s": round(change.offset_s, 3), **asdict(change.values)}))
    print(json.dumps({"made": asdict(machine.made)}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
