"""How long pieces should take, and when a gap between them is more than slow."""

from __future__ import annotations

from gateway.domain.equipment import CycleRules
from gateway.domain.instants import SECOND


class CycleTime:
    """`ideal_us`: microseconds per piece, None where nobody knows; a cycle makes `per_cycle` pieces."""

    def __init__(self, rules: CycleRules) -> None:
        self._rules = rules
        self.ideal_us: float | None = None
        self.per_cycle = 1

    @property
    def cycle_us(self) -> int:
        """Microseconds of one ideal cycle (all its pieces); 0 without an ideal time."""
        return round((self.ideal_us or 0) * self.per_cycle)

    def after_first_us(self, pieces: int) -> int:
        """What `pieces` that came together take beyond their first cycle."""
        return max(round((pieces - self.per_cycle) * (self.ideal_us or 0)), 0)

    def stands(self, gap: int, pieces: int) -> bool:
        """Whether a gap that ends with `pieces` is more than slow, so that its excess is a standstill."""
        cycle = self.cycle_us
        expected = cycle + self.after_first_us(pieces)
        slow = max(self._rules.micro_factor * expected, self._rules.micro_min_s * SECOND)
        return bool(cycle) and gap > max(slow, self.normal_us(expected))

    def normal_us(self, expected: int) -> float:
        """Up to here a gap in which `expected` was due is a normal one."""
        return expected * (1 + self._rules.slow_tolerance)
