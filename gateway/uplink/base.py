"""The uplink seam: what takes the journal's rows away, and what brings orders in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from gateway.domain.job_order import Fact, JobCommand, Problem


class UplinkError(Exception):
    """The peer cannot be reached or asks to wait; everything not receipted is delivered again.

    `retry_after_s`: what the peer asked for (HTTP Retry-After), None: the forwarder's own back-off.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger row of the journal. `body` is the complete CloudEvent as JSON bytes, stored once, sent as it is."""

    position: int
    epoch: str
    sequence: int
    id: str
    work_unit: str | None
    type: str
    job_order_id: str | None
    at: datetime
    body: bytes


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


@dataclass(frozen=True)
class Refusal:
    """A message that is no command: its answer. `command_id` and `work_unit` where they could still be read."""

    command_id: str | None
    work_unit: str | None
    return_status: int
    problem: Problem


Inbound = JobCommand | Fact | Refusal
"""What a command message turned out to be (`uplink.messages.parse_command`)."""

Ack = Callable[[], Awaitable[None]]


class OrderSource(Protocol):
    """Where orders come from; `ack` is called only after the ledger commit."""

    def orders(self) -> AsyncIterator[tuple[Inbound, Ack]]: ...
