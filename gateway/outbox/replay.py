"""Replays that a consumer asks for: one at a time, and never so often that new rows get no turn."""

from __future__ import annotations

from collections import deque

UNHURRIED = 3
"""So many requests a minute are one consumer that looks for its place: each begins as soon as the one before has ended."""
SPACING_S = 10.0
"""From the beginning of one replay to that of the next where more are asked for."""
TURN_S = 1.0
"""New rows have the uplink for so long between two replays."""
MOST_REQUESTS = 20
"""A minute; a consumer that asks more often is told so, and what it asked for before is done once."""
_MINUTE_S = 60.0


class Replay:
    """Pure bookkeeping: positions in, decisions out; times are monotonic seconds.

    A request for rows that the running replay has still before it is part of it; one for an earlier row than it began with takes its
    place; any other follows it. However many come meanwhile, one follows.
    """

    def __init__(self) -> None:
        self._begin = 0
        self._after: int | None = None
        self._wanted: int | None = None
        self._not_before = 0.0
        self._asked: deque[float] = deque(maxlen=MOST_REQUESTS)

    def ask(self, after: int, now: float) -> bool:
        """Everything behind row `after`. False: more requests a minute than are taken."""
        if len(self._asked) == MOST_REQUESTS and now - self._asked[0] < _MINUTE_S:
            return False
        self._asked.append(now)
        if self._after is None or after < self._after:
            self._wanted = after if self._wanted is None else min(self._wanted, after)
        return True

    def goes_on(self, now: float) -> int | None:
        """The row behind which to go on now; None: nothing to send again."""
        follows = self._wanted is not None and (self._after is None or self._wanted < self._begin)
        if follows and now >= self._not_before:
            self._begin = self._after = self._wanted  # type: ignore[assignment]
            self._wanted = None
            hurried = sum(now - at < _MINUTE_S for at in self._asked) > UNHURRIED
            self._not_before = now + (SPACING_S if hurried else TURN_S)
        return self._after

    @property
    def next_at(self) -> float | None:
        """When the next one may begin, where one waits for its time."""
        return self._not_before if self._after is None and self._wanted is not None else None

    def moved(self, after: int) -> None:
        """All rows up to `after` went out."""
        self._after = after

    def ended(self, now: float) -> None:
        self._after = None
        self._not_before = max(self._not_before, now + TURN_S)
