"""Changes of state too short to be meant: a stop under `ignore_under`, a run after a stop under `min_run`."""

from __future__ import annotations

from typing import Any

from gateway.domain.equipment import CycleRules
from gateway.domain.instants import SECOND, Instant
from gateway.domain.state import Condition


class Chatter:
    """Holds a change back until it has lasted long enough; `said` holds since `at` while it is pending."""

    def __init__(self, rules: CycleRules) -> None:
        self._stop_us = round(rules.ignore_under_s * SECOND)
        self._run_us = round(rules.min_run_s * SECOND)
        self.said: Condition | None = None
        self.at: Instant = 0

    def hold(self, said: Condition, present: Condition) -> int:
        """Microseconds that a change must last; 0: it counts at once."""
        if said.stands and present.state == "running":
            return self._stop_us
        return self._run_us if said.state == "running" and present.stands else 0

    def doubt(self, said: Condition, at: Instant) -> None:
        """`said` may be chatter; what changes its mind in the meantime keeps the time of the first change."""
        if self.said is None or self.said.stands != said.stands:
            self.at = at
        self.said = said

    def due(self, present: Condition) -> Instant | None:
        """When the pending change has lasted long enough."""
        return None if self.said is None else self.at + self.hold(self.said, present)

    @property
    def since(self) -> Instant | None:
        """From here on it is not known what holds."""
        return None if self.said is None else self.at

    @property
    def restarting(self) -> bool:
        """A standstill may have ended."""
        return self.said is not None and self.said.state == "running"

    def dump(self) -> list[Any] | None:
        return None if self.said is None else [self.said.dump(), self.at]

    def load(self, state: list[Any] | None) -> None:
        if state is not None:
            self.said, self.at = Condition(**state[0]), state[1]
