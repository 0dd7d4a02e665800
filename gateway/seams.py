"""The seam between the journal and what carries its rows away.

It stands below the rooms because the forwarder (outbox) and the uplinks speak it to each other and never import each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from gateway.domain.entry import Entry
from gateway.domain.events import Text


class UplinkError(Exception):
    """The peer cannot be reached, cannot be trusted or asks to wait; everything not receipted is delivered again.

    `retry_after_s`: what the peer asked for (HTTP Retry-After), None: the forwarder's own back-off. `silent`: connected, but no
    answer came. `remedy`: one sentence for the technician.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, silent: bool = False, remedy: Text | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.silent = silent
        self.remedy = remedy


@dataclass(frozen=True)
class Receipt:
    """What became of a batch, by journal position. A row named nowhere is delivered again.

    `accepted`: the peer took it. `parked` (-> reason): refused for good. `refused` (-> reason): refused as things stand, a few
    tries are worth it. `unrouted`: accepted, but the peer had nobody to hand it to (MQTT reason 0x10).
    `retry_after_s`: the peer is busy, nothing more for so long (0: it did not say how long). `withheld`: a dry run, the batch was shown and
    not sent; what follows it may come, and all of it is kept.
    """

    accepted: frozenset[int] = frozenset()
    parked: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)
    unrouted: frozenset[int] = frozenset()
    retry_after_s: float | None = None
    withheld: bool = False


class Uplink(Protocol):
    """One peer. The forwarder calls connect, then serve in a task of its own and deliver in turn, never two at once; close ends both.

    After an UplinkError from any of them the forwarder closes and connects again.
    """

    name: str

    @property
    def peer(self) -> str:
        """Protocol and addresses for the technician: `MQTT broker-1:8883, broker-2:8883`."""

    async def connect(self) -> None:
        """Open the connection. Raises UplinkError within a few seconds; leaves nothing open when it does."""

    async def serve(self, heard: Callable[[], None]) -> None:
        """Carry what is no ledger row (orders in, live values, telemetry) until the connection is lost. Raises UplinkError then.

        `heard` is called whenever the peer said something."""

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        """Hand over rows in journal order. Raises UplinkError when the connection is lost or nothing can be said."""

    async def close(self) -> None:
        """Never raises; ends within 2 s even when the peer is gone."""


@dataclass(frozen=True)
class Waiting:
    """Something of a job order that an ERP has not booked. `step`: start, quality, totals, close, promise. `standing`: blocked (a person
    is needed), refused, retry. `words`: the ERP's own. `since` aware UTC."""

    job_order_id: str
    step: str
    standing: str
    words: str
    since: datetime


@dataclass(frozen=True)
class BookingStatus:
    """How the orders of an ERP stand: `orders`, how many are booked, owed, retry, blocked, refused; `waiting`, what is in the way."""

    orders: Mapping[str, int]
    waiting: tuple[Waiting, ...] = ()


class AlertBoard(Protocol):
    """Where a room tells what a person should look at; each is told once until cleared."""

    def raise_(self, key: str, severity: str, text: Text, remedy: Text, *, work_unit: str | None = None, detail: str = "") -> None:
        """`severity`: info, warning, critical. `detail` is for the expert, untranslated."""

    def clear(self, key: str) -> None:
        """The reason is gone; unknown keys are ignored."""
