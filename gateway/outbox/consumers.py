"""Application acknowledgements: what each consumer has, and when unacknowledged rows go out again.

A broker's own acknowledgement says that it took a message, not that anybody will ever get it. Where consumers are configured, a row is
done only when each of them has said so. Pure bookkeeping: positions in, decisions out; times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

FIRST_RESEND_S = 10.0
LONGEST_RESEND_S = 300.0
ROUND_ROWS = 1_000
"""At most so many rows go again at a time: a consumer that is away for a day must not cost the broker a day's rows every 5 minutes."""
_MOST_STAMPS = 2_000


class Consumers:
    """High-water marks, as journal positions."""

    def __init__(self, names: Sequence[str]) -> None:
        self._marks = dict.fromkeys(names, 0)

    def __bool__(self) -> bool:
        return bool(self._marks)

    def __contains__(self, name: str) -> bool:
        return name in self._marks

    def acknowledge(self, name: str, position: int) -> bool:
        """Whether the mark moved; it never moves back."""
        if position <= self._marks[name]:
            return False
        self._marks[name] = position
        return True

    @property
    def retired(self) -> int:
        """All rows up to here are every consumer's."""
        return min(self._marks.values(), default=0)


class ResendTimer:
    """When the oldest unacknowledged rows go out again: 10 s after the peer took them, then doubling to 5 min while nothing moves.

    A round that the consumers acknowledge to its end is followed by the next at once, so that a long backlog drains at their pace.
    """

    def __init__(self) -> None:
        self._stamps: deque[tuple[int, float]] = deque()
        self._delay = FIRST_RESEND_S
        self._round: tuple[int, float] | None = None

    def reset(self) -> None:
        """A new connection: everything unacknowledged is sent anyway."""
        self._stamps.clear()
        self._delay = FIRST_RESEND_S
        self._round = None

    def handed(self, position: int, now: float) -> None:
        """The peer took all rows up to `position`."""
        if self._stamps and self._stamps[-1][0] >= position:
            return
        self._stamps.append((position, now))
        if len(self._stamps) > _MOST_STAMPS:
            # Every second stamp is enough: rows before it then wait a little longer, never shorter.
            self._stamps = deque(stamp for index, stamp in enumerate(self._stamps) if index % 2 or stamp is self._stamps[-1])

    def acknowledged(self, position: int) -> None:
        """All rows up to `position` are done."""
        while self._stamps and self._stamps[0][0] <= position:
            self._stamps.popleft()
        self._delay = FIRST_RESEND_S
        if self._round is not None and position >= self._round[0]:
            self._round = None

    def resent(self, position: int, now: float) -> None:
        """A round ended with `position`."""
        if self._round is not None:
            self._delay = min(self._delay * 2, LONGEST_RESEND_S)
        else:
            self._delay = FIRST_RESEND_S * 2
        self._round = (position, now)

    @property
    def next_at(self) -> float | None:
        """When the next round is due; None: nothing waits."""
        if not self._stamps:
            return None
        first = self._stamps[0][1] + FIRST_RESEND_S
        return first if self._round is None else max(first, self._round[1] + self._delay)

    def due_up_to(self, now: float) -> int | None:
        """The last position that may be sent again now; None: nothing is due."""
        if self.next_at is None or now < self.next_at:
            return None
        return max((position for position, at in self._stamps if at + FIRST_RESEND_S <= now), default=None)
