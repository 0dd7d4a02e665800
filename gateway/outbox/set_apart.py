"""The rows that one uplink treats apart from its cursor: refused ones, and what a person decides about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.domain.events import RowDropped, RowParked
from gateway.metrics import Metrics
from gateway.outbox.delivery_alerts import DeliveryAlerts
from gateway.outbox.handover import Handover, Holds
from gateway.outbox.journal import JournalReader, JournalWriter
from gateway.outbox.quarantine import Quarantine
from gateway.outbox.transaction import DELIVERED, PARKED, QUARANTINED, RowException
from gateway.seams import Receipt

_BATCH_ROWS = 200
REQUEUED = "to be tried again, a person said"


class SetApart:
    """Parked rows (refused for good), quarantined ones (tried again with each new connection) and dropped ones, with what was told of them.

    `handover` and `holds` are the forwarder's own.
    """

    def __init__(
        self, uplink: str, reader: JournalReader, writer: JournalWriter, clock: Clock, metrics: Metrics, alerts: DeliveryAlerts
    ) -> None:
        self._uplink = uplink
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._alerts = alerts
        self.quarantine = Quarantine()
        self.holds = Holds()
        self.handover = Handover(0, ())
        self._dropped: set[int] = set()
        """Rows above the cursor that a person gave up."""
        self.requeued: list[int] = []
        """Rows that a person wants tried at once."""
        self._log = structlog.get_logger("lineside.forwarder").bind(uplink=uplink)

    def load(self, cursor: int, exceptions: Sequence[RowException]) -> None:
        """What the journal knows at the start."""
        self.quarantine = Quarantine(row.position for row in exceptions if row.state not in (PARKED, DELIVERED))
        self.handover = Handover(cursor, (row.position for row in exceptions))
        self._dropped = {row.position for row in exceptions if row.state == DELIVERED}

    def set_apart(self, entry: Entry, reason: str, state: str) -> None:
        """The peer refused `entry`; each is told once."""
        if entry.position in self.handover.apart:
            return
        self._writer.park(self._uplink, entry.position, reason, state)
        self.handover.set_apart(entry.position)
        if state == QUARANTINED:
            self.quarantine.add(entry)
            self._alerts.quarantined(entry, reason)
        self._metrics.parked.labels(self._uplink).inc()
        self._log.warning("row_set_apart", id=entry.id, type=entry.type, state=state, reason=reason)
        if entry.type != RowParked.type:
            # The news of a parked row may itself be refused: that is told by the alert alone.
            self._writer.record(
                [RowParked(work_unit=None, at=self._clock.now(), uplink=self._uplink, id=entry.id, sequence=entry.sequence, reason=reason)]
            )

    async def retry(self, positions: Iterable[int], deliver: Callable[[Sequence[Entry]], Awaitable[Receipt]]) -> Receipt | None:
        """One more try for quarantined rows: rights may have been granted meanwhile. -> the receipt of a peer that answered for none of
        them (busy, or gone), else None."""
        waiting = [position for position in positions if position in self.quarantine.positions]
        refused: set[tuple[str | None, str]] = set()
        for start in range(0, len(waiting), _BATCH_ROWS):
            part = waiting[start : start + _BATCH_ROWS]
            rows = await self._reader.entries_at(part)
            for gone in set(part) - {entry.position for entry in rows}:
                self.quarantine.gone(gone)
            while rows := [entry for entry in rows if (entry.work_unit, entry.type) not in refused]:
                receipt = await deliver(rows)
                self.quarantine.heard(receipt, self._clock.monotonic(), retry=True)
                self._went_through(rows, receipt)
                for entry in rows:
                    if entry.position in receipt.refused:
                        refused.add((entry.work_unit, entry.type))
                        self.quarantine.refused(entry)
                answered = receipt.accepted | set(receipt.refused) | set(receipt.parked)
                if not answered:
                    # The next new connection is another chance.
                    return receipt
                rows = [entry for entry in rows if entry.position not in answered]
        return None

    def _went_through(self, rows: Sequence[Entry], receipt: Receipt) -> None:
        """Quarantined rows that the peer took after all, or refuses for good."""
        for entry in rows:
            if entry.position in receipt.accepted:
                self.quarantine.went_through(entry)
                self._writer.unpark(self._uplink, entry.position)
                self.handover.apart.discard(entry.position)
                self._alerts.taken_after_all(entry.work_unit)
            elif entry.position in receipt.parked:
                self.quarantine.gone(entry.position)
                self._writer.park(self._uplink, entry.position, receipt.parked[entry.position], PARKED)
        self.handover.take_all(receipt.accepted)
        self._metrics.resent.labels(self._uplink).inc(len(receipt.accepted))

    # -- a person's decisions

    def requeue(self, rows: Sequence[Entry]) -> list[Entry]:
        """Rows that are tried at once, or with the next connection. -> those that were set apart; the others are not touched."""
        found = [entry for entry in rows if self._is_refused(entry)]
        for entry in found:
            self._writer.park(self._uplink, entry.position, REQUEUED, QUARANTINED)
            self.quarantine.positions[entry.position] = None
        self.requeued += [entry.position for entry in found]
        return found

    def drop(self, rows: Sequence[Entry], cursor: int, reason: str, by: str) -> list[Entry]:
        """Rows that this uplink's peer shall never get; each is told by a ledger event. -> those that were still owed to it."""
        found = [e for e in rows if (e.position > cursor and e.position not in self._dropped) or self._is_refused(e)]
        now = self._clock.now()
        for entry in found:
            if entry.position > cursor:
                # Done, while earlier ones may be open; the journal forgets it once the cursor has passed.
                self._writer.park(self._uplink, entry.position, reason, DELIVERED)
                self._dropped.add(entry.position)
                self.handover.set_apart(entry.position)
            else:
                self._writer.unpark(self._uplink, entry.position)
                self.handover.apart.discard(entry.position)
            self.quarantine.gone(entry.position)
            self.holds.forget(entry)
            self._log.warning("row_dropped", id=entry.id, type=entry.type, reason=reason, by=by)
        self._writer.record(
            [
                RowDropped(work_unit=None, at=now, uplink=self._uplink, id=e.id, sequence=e.sequence, reason=reason, by=by)
                for e in found
            ]
        )  # fmt: skip
        if not self.quarantine.positions:
            for work_unit in {entry.work_unit for entry in found}:
                self._alerts.taken_after_all(work_unit)
        return found

    def _is_refused(self, entry: Entry) -> bool:
        return entry.position in self.handover.apart and entry.position not in self._dropped
