"""Rows that the peer refuses as things stand (rights, topics): what is known of them, and of a peer that hangs up over them."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.domain.entry import Entry
from gateway.seams import Receipt

_HANG_UP_S = 0.5
"""A connection that ends so soon after a refusal, with nothing accepted in between, was closed over it."""

Kind = tuple[str | None, str]
"""Work unit and event type: what a broker grants rights by."""


class Quarantine:
    """`positions` of the rows that wait for a new connection or a person; times are monotonic seconds."""

    def __init__(self, positions: Iterable[int] = ()) -> None:
        self.positions = dict.fromkeys(positions)
        self._kinds: set[Kind] = set()
        self._refused_at: float | None = None
        self._by_retry = False
        self._heard_refusal = False
        self._hangs_up = False
        self.hung_up = False
        """The last connection was closed over a refusal; mosquitto 2.0.11 with unlimited queues does that."""
        self.retry_cost_it = False
        """It was over a row tried again: once more would only cost the next connection too."""

    def heard(self, receipt: Receipt, now: float, *, retry: bool = False) -> None:
        """What the peer said about a batch; `retry`: of rows that are in quarantine."""
        if receipt.refused:
            self._refused_at, self._by_retry, self._heard_refusal = now, retry, True
        elif receipt.accepted:
            self._refused_at = None

    def connection_ended(self, now: float) -> None:
        self.hung_up = self._refused_at is not None and now - self._refused_at < _HANG_UP_S
        self.retry_cost_it = self.hung_up and self._by_retry
        if self._heard_refusal:
            self._hangs_up = self.hung_up
        self._refused_at, self._heard_refusal = None, False

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
