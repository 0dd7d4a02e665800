"""A broker that closes the connection over a message without a word, as MQTT 3.1.1 has it: which message it is, and that it is told.

A broker deals with publishes in their order, so the oldest without an answer is the one at which it stopped. One connection that ends there
says nothing; several in a row do.
"""

from __future__ import annotations

from collections import OrderedDict

SILENCED_AFTER = 3
"""Connections that ended over a live topic before its folder stays silent."""
GIVEN_UP_AFTER = 5
"""Connections that ended over a ledger row before it is parked, as many as a row that is refused has tries."""
PROVEN_S = 60.0
"""A connection that lasted so long clears every suspicion."""
_MOST = 16


class Suspects:
    """Counts, by message (topic and payload), of the connections that ended over it."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def ended(self, over: tuple[str, bytes] | None, lasted_s: float) -> int:
        """A connection ended after `lasted_s`, where the broker closed it `over` a message. -> how many did so over that one."""
        if lasted_s >= PROVEN_S:
            self._counts.clear()
        if over is None:
            return 0
        self._counts[over] = self._counts.pop(over, 0) + 1
        if len(self._counts) > _MOST:
            self._counts.popitem(last=False)
        return self._counts[over]
