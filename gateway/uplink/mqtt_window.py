"""How many publishes may be in flight on one connection, and who gets the next place."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum


class Lane(IntEnum):
    """In the order in which a free place is given away."""

    LIVE = 0
    LEDGER = 1
    TELEMETRY = 2


MOST_IN_FLIGHT = 16
"""A broker may offer thousands; so many are enough for a busy line and few enough to repeat after a broken connection."""


class Window:
    """Places for QoS 1 publishes that are not yet acknowledged: min(16, the broker's Receive Maximum).

    An eighth of them is kept free for each lane, so that a long ledger backlog never holds up live values or answers; the others are
    taken by whoever needs them.
    """

    def __init__(self, receive_maximum: int) -> None:
        self._limit = max(1, min(MOST_IN_FLIGHT, receive_maximum))
        share, left = max(1, self._limit // 8), self._limit - 1
        self._kept: dict[Lane, int] = {}
        for lane in Lane:
            self._kept[lane] = min(share, left)
            left -= self._kept[lane]
        self._used = dict.fromkeys(Lane, 0)
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}
        self._open = True

    @property
    def in_flight(self) -> int:
        return sum(self._used.values())

    def _has_place(self, lane: Lane) -> bool:
        taken = 0
        for other, used in self._used.items():
            taken += used if other is lane else max(used, self._kept[other])
        return taken < self._limit

    async def take(self, lane: Lane) -> bool:
        """Wait for a place. False: the connection is gone."""
        while self._open and not self._has_place(lane):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[lane].append(place)
            await place
        if self._open:
            self._used[lane] += 1
        return self._open

    def give(self, lane: Lane) -> None:
        """A place is free again."""
        self._used[lane] -= 1
        self._wake()

    def close(self) -> None:
        """The connection is gone: everybody who waits is told."""
        self._open = False
        self._wake()

    def _wake(self) -> None:
        # All of a lane, they look again themselves: one that was cancelled meanwhile must not take the news with it.
        for lane, waiting in self._waiting.items():
            if waiting and (not self._open or self._has_place(lane)):
                while waiting:
                    place = waiting.popleft()
                    if not place.done():
                        place.set_result(None)
