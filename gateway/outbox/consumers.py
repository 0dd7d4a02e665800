"""Application acknowledgements: what each consumer has, and when unacknowledged rows go out again.

A broker's own acknowledgement says that it took a message, not that anybody will ever get it. Where consumers are configured, a row is
done only when each of them has said so. Pure bookkeeping: positions in, decisions out; times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

FIRST_RESEND_S = 10.0
LONGEST_RESEND_S = 300.0
ROUND_ROWS = 1_000
"""At most so many rows go again at a time: a consumer that is away for a day must not cost the broker a day's rows every 5 minutes."""
AT_WORK_S = 2.0
"""A consumer that is more than a round behind and has just moved on works off what it has: sent again, that would double its work."""
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


@dataclass
class Stamp:
    """Rows that went out together: all behind `after`, up to and with `position`; `at` is when they went out last."""

    after: int
    position: int
    at: float
    delay: float = FIRST_RESEND_S

    @property
    def due(self) -> float:
        return self.at + self.delay


class ResendTimer:
    """When unacknowledged rows go out again: each 10 s after the peer took it, then after 20 s, 40 s ... 5 min.

    Only the first `ROUND_ROWS` of them take part; as these are acknowledged the following move up, so that a long backlog drains at the
    consumers' pace.
    """

    def __init__(self, cursor: int = 0) -> None:
        self._cursor = cursor
        self._stamps: deque[Stamp] = deque()
        self._moved_at = float("-inf")

    def reset(self, cursor: int) -> None:
        """A new connection: everything unacknowledged, all behind `cursor`, is sent anyway."""
        self._cursor = cursor
        self._stamps.clear()

    def handed(self, position: int, now: float) -> None:
        """The peer took all rows up to `position`."""
        after = self._stamps[-1].position if self._stamps else self._cursor
        if position <= after:
            return
        self._stamps.append(Stamp(after, position, now))
        if len(self._stamps) > _MOST_STAMPS:
            self._stamps = deque(self._merged())

    def _merged(self) -> Iterator[Stamp]:
        """Half as many: the older rows of each pair wait a little longer, never shorter."""
        stamps = iter(self._stamps)
        for older in stamps:
            newer = next(stamps, older)
            yield Stamp(older.after, newer.position, max(older.at, newer.at), max(older.delay, newer.delay))

    def acknowledged(self, position: int, now: float) -> None:
        """All rows up to `position` are done."""
        if position > self._cursor:
            self._cursor, self._moved_at = position, now
        while self._stamps and self._stamps[0].position <= position:
            self._stamps.popleft()

    def next_at(self) -> float | None:
        """When rows are due next; None: nothing waits."""
        first = min((stamp.due for stamp in self._taking_part()), default=None)
        return first if first is None else max(first, self._rests_until)

    def due(self, now: float) -> list[Stamp]:
        """What may be sent again now, in order; tell `resent` when it was."""
        if now < self._rests_until:
            return []
        return [stamp for stamp in self._taking_part() if stamp.due <= now]

    def resent(self, stamps: Iterable[Stamp], now: float) -> None:
        """These went out once more."""
        for stamp in stamps:
            stamp.at = now
            stamp.delay = min(stamp.delay * 2, LONGEST_RESEND_S)

    @property
    def _rests_until(self) -> float:
        is_behind = bool(self._stamps) and self._stamps[-1].position - self._cursor > ROUND_ROWS
        return self._moved_at + AT_WORK_S if is_behind else float("-inf")

    def _taking_part(self) -> list[Stamp]:
        """The stamps of the first rows; one that reaches beyond them is cut in two."""
        last = self._cursor + ROUND_ROWS
        found = [stamp for stamp in self._stamps if stamp.after < last]
        if found and found[-1].position > last:
            self._stamps.insert(len(found), replace(found[-1], after=last))
            found[-1].position = last
        return found
