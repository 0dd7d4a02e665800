"""One uplink's rows while no gateway runs: a person's decision is written, the peer hears of it at the next start."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.domain.events import Text
from gateway.metrics import Metrics
from gateway.outbox.delivery_alerts import DeliveryAlerts
from gateway.outbox.journal import JournalReader, JournalWriter
from gateway.outbox.set_apart import SetApart


class _NoBoard:
    """Nobody looks at a page that is not there."""

    def raise_(self, key: str, severity: str, text: Text, remedy: Text, *, work_unit: str | None = None, detail: str = "") -> None:
        return

    def clear(self, key: str) -> None:
        return


class Alone:
    """`outbox.requests.Hand` without a forwarder."""

    def __init__(self, apart: SetApart, reader: JournalReader, cursor: int) -> None:
        self._apart = apart
        self._reader = reader
        self._cursor = cursor

    @classmethod
    async def of(cls, uplink: str, reader: JournalReader, writer: JournalWriter, clock: Clock, metrics: Metrics) -> Alone:
        apart = SetApart(uplink, reader, writer, clock, metrics, DeliveryAlerts(uplink, _NoBoard()))
        cursor = reader.cursor(uplink)
        apart.load(cursor, await reader.exceptions(uplink))
        return cls(apart, reader, cursor)

    async def requeue(self, positions: Sequence[int]) -> list[Entry]:
        return self._apart.requeue(await self._reader.entries_at(positions))

    async def drop(self, positions: Sequence[int], *, reason: str, by: str) -> list[Entry]:
        return self._apart.drop(await self._reader.entries_at(positions), self._cursor, reason, by)
