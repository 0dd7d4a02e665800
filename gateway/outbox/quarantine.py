"""Rows that the peer refuses as things stand (rights, topics): what is known of them, and of a peer that hangs up over them."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.domain.entry import Entry
from gateway.seams import Receipt

_HANG_UP_S = 2.0

Kind = tuple[str | None, str]
"""Work unit and event type: what a broker grants rights by."""


class Quarantine:
    """`positions` of the rows that wait for a new connection or a person; times are monotonic seconds."""

    def __init__(self, positions: Iterable[int] = ()) -> None:
        self.positions = dict.fromkeys(positions)
        self._kinds: set[Kind] = set()
        self._refused_at = float("-inf")
        self._hangs_up = False
        self.ended_by_refusal = False
        """The last connection was closed right after a refusal; some brokers do that, and a retry would cost the next one too."""

    def heard(self, receipt: Receipt, now: float) -> None:
        """What the peer said about a batch."""
        if receipt.refused:
            self._refused_at = now

    def connection_ended(self, now: float) -> None:
        self.ended_by_refusal = now - self._refused_at < _HANG_UP_S
        self._hangs_up = self._hangs_up or self.ended_by_refusal

    def add(self, entry: Entry) -> None:
        self.positions[entry.position] = None
        self.refused(entry)

    def refused(self, entry: Entry) -> None:
        """Rows of this kind are refused now: later ones get one try and hold nobody up."""
        self._kinds.add((entry.work_unit, entry.type))

    def went_through(self, entry: Entry) -> None:
        """The peer took a row of this kind after all."""
        self.positions.pop(entry.position, None)
        self._kinds.discard((entry.work_unit, entry.type))
        self._hangs_up = False

    def gone(self, position: int) -> None:
        """The journal no longer keeps that row."""
        self.positions.pop(position, None)

    def knows(self, entry: Entry) -> bool:
        """Whether rows of this kind are refused."""
        return (entry.work_unit, entry.type) in self._kinds

    def gives_up(self, entry: Entry) -> bool:
        """Whether a row would be refused and cost the connection, so that it is better not sent at all."""
        return self._hangs_up and self.knows(entry)
