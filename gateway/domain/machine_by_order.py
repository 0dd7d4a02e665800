"""A manual post: `state: {from: order}`. It runs while its order does, unless a person declares otherwise."""

from __future__ import annotations

from typing import Any

from gateway.domain.equipment import STATE_NAMES
from gateway.domain.instants import Instant
from gateway.domain.machine import CATEGORY_OF_STATE, MachineTime
from gateway.domain.state import RUNNING, Condition, condition


class MachineByOrder(MachineTime):
    """A declaration holds until the next one, or until an order starts: who starts an order begins to work."""

    _declared: str | None = None
    _ordered: str | None = None
    _ordered_at: Instant = 0

    @property
    def declarable_from(self) -> Instant:
        """A state can be declared back to here: what was declared or ordered earlier stands."""
        return max(self.since, self._ordered_at)

    def begin(self, at: Instant) -> None:
        super().begin(at)
        self._adopt(self._due, at)

    @property
    def _due(self) -> Condition:
        word = self._declared or ("stopped" if self.job is None else "running")
        if word not in STATE_NAMES:
            return condition("stopped", reason=word)
        return RUNNING if word == "running" else condition(word)

    def follow_order(self) -> None:
        if self.job != self._ordered:
            if self.job is not None:
                self._declared = None
            self._ordered, self._ordered_at = self.job, self.now
        self._adopt(self._due, self.now)

    def declare(self, word: str, at: Instant) -> None:
        """`word`: one of STATE_NAMES or a reason, from `at` on; not before `declarable_from`."""
        # Who declares that it runs while its order does says no more than the order.
        self._declared = None if word == "running" and self.job is not None else word
        if self._due == self.condition:
            return
        self._take_back(at)
        self._adopt(self._due, at)
        self.settle(self.now)

    def _take_back(self, at: Instant) -> None:
        """Time from `at` on that is booked already, but for a standstill: that one can end earlier than it looked."""
        if self.stand is not None or at >= self.settled:
            return
        category = CATEGORY_OF_STATE[self.condition.state]
        for low, high, job in self.jobs.cut(at, self.settled):
            self.windows.book(low, high, category, job, -1)
        self.timeline.cut(at)
        self.settled = at

    def lose(self) -> None:
        """No link tells its state: the order goes on whatever the gateway hears."""
        self._adopt(self._due, self.now)

    def dump(self) -> dict[str, Any]:
        return super().dump() | {"declared": [self._declared, self._ordered, self._ordered_at]}

    def load(self, state: dict[str, Any], *rows: Any) -> None:
        super().load(state, *rows)
        # A memory of when this unit's state still came from its machine: nobody has declared anything.
        self._declared, self._ordered, self._ordered_at = state.get("declared", [None, self.job, self.settled])
