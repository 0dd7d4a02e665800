"""The uplink seam: what takes the journal's rows away, and what brings orders in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.domain.entry import Entry
from gateway.domain.inbound import Inbound as Inbound
from gateway.domain.inbound import Refusal as Refusal


class UplinkError(Exception):
    """The peer cannot be reached or asks to wait; everything not receipted is delivered again.

    `retry_after_s`: what the peer asked for (HTTP Retry-After), None: the forwarder's own back-off.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Receipt:
    """What became of a batch. `accepted` and `parked` (position -> reason) are done with; what is in neither is sent again."""

    accepted: frozenset[int] = frozenset()
    parked: dict[int, str] = field(default_factory=dict)


class Uplink(Protocol):
    """One peer. The forwarder calls connect, then deliver in turn, never two at once; close at the end."""

    name: str

    async def connect(self) -> None:
        """Raises UplinkError."""

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        """Hand over rows in journal order. Raises UplinkError when nothing of it can be said."""

    async def close(self) -> None:
        """Never raises; bounded."""


Ack = Callable[[], Awaitable[None]]


class OrderSource(Protocol):
    """Where orders come from; `ack` is called only after the ledger commit."""

    def orders(self) -> AsyncIterator[tuple[Inbound, Ack]]: ...
