"""A cursor per uplink: takes rows from the journal to one peer, in order, again and again until each is done.

Delivery is at least once; a row keeps its id, so that a consumer that drops repeats gets each exactly once. One forwarder never waits
for another, and polling waits for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.metrics import Metrics
from gateway.outbox.consumers import ROUND_ROWS, Consumers, ResendTimer, Stamp
from gateway.outbox.delivery_alerts import DeliveryAlerts
from gateway.outbox.handover import TRY_AGAIN_S, Handover, Hold
from gateway.outbox.journal import JournalReader, JournalWriter
from gateway.outbox.replay import MOST_REQUESTS, Replay
from gateway.outbox.set_apart import SetApart
from gateway.outbox.transaction import PARKED, QUARANTINED
from gateway.seams import AlertBoard, Receipt, Uplink, UplinkError
from gateway.supervise import UP, Backoff, Diagnosis, Link, LinkStatus

BATCH_ROWS = 200
_BUSY_CAP_S = 60.0
_SHORTEST_PAUSE_S = 0.2
_MUTE_S = 1.0
_HUNG_UP_PAUSE_S = 0.2
_CONSUMERS_BACK_S = 5.0
"""After a broker's return its consumers need a moment to find it again: rows that nobody gets meanwhile wait for them, in order."""
_NOBODY_THERE_S = 0.25


class Forwarder:
    """`run` keeps the link to one uplink alive and the rows flowing. Build it, hand `acknowledge` and `replay` to an MQTT uplink,
    call `notify` after each commit."""

    def __init__(
        self,
        uplink: Uplink,
        *,
        reader: JournalReader,
        writer: JournalWriter,
        clock: Clock,
        metrics: Metrics,
        alerts: AlertBoard,
        on_link: Callable[[LinkStatus], None],
        consumers: Sequence[str] = (),
        backoff: Backoff | None = None,
    ) -> None:
        self.name = uplink.name
        self._uplink = uplink
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._alerts = DeliveryAlerts(uplink.name, alerts)
        self._on_link = on_link
        self._consumers = Consumers(consumers)
        self._cursor = reader.cursor(uplink.name)
        self._resend = ResendTimer(self._cursor)
        self._sent = self._highest = reader.sent_up_to(uplink.name)
        """All rows up to `_sent`, and some up to `_highest`, went out at least once, in this process or an earlier one."""
        self._perhaps_sent = min(reader.last_position, self._sent + ROUND_ROWS)
        """Up to here an earlier process may have sent rows in the moment before it was killed, without a commit that says so."""
        self._new_from = self._cursor
        """Rows behind it count as delivered, rows up to it as sent again."""
        self._apart = SetApart(uplink.name, reader, writer, clock, metrics, self._alerts)
        self._apart.load(self._cursor, ())
        self._holds = self._apart.holds
        self._scan = self._cursor
        self._replay = Replay()
        self._withholds = False
        """The uplink makes a dry run: it is shown every row and takes none."""
        self._not_before = 0.0
        self._busy = Backoff(1.0, _BUSY_CAP_S)
        self._wake = asyncio.Event()
        self._connections = 0
        self._wait_for_consumers_until = 0.0
        self._log = structlog.get_logger("lineside.forwarder").bind(uplink=uplink.name)
        self._link = Link(
            uplink.name, kind="uplink", peer=uplink.peer, clock=clock, on_status=self._told, backoff=backoff or Backoff(0.5, 10.0)
        )

    @property
    def status(self) -> LinkStatus:
        """What the link is doing, for page, health topic and metrics."""
        return self._link.status

    @property
    def cursor(self) -> int:
        """All rows up to here are done, but for those set apart."""
        return self._cursor

    @property
    def _handover(self) -> Handover:
        return self._apart.handover

    def notify(self) -> None:
        """There are new rows in the journal."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Raises only for bugs."""
        self._apart.load(self._cursor, await self._reader.exceptions(self.name))
        for mark in await self._reader.marks(self.name):
            position = self._reader.position_of(mark.epoch, mark.sequence)
            if position is not None and mark.consumer in self._consumers:
                self._consumers.acknowledge(mark.consumer, position)
        self._retire()
        await self._link.run(self._session, (UplinkError,), self._diagnose)

    async def drain(self, timeout_s: float) -> bool:
        """For the shutdown, while `run` still runs: wait until the peer was handed every row; False when time was not enough."""
        try:
            async with self._clock.timeout(timeout_s):
                while self._handover.position < self._reader.last_position:
                    if not self._link.is_up or self._withholds:
                        return False
                    await self._clock.sleep(0.05)
        except TimeoutError:
            return False
        return True

    # -- from the consumers

    def acknowledge(self, consumer: str, epoch: str, sequence: int) -> str | None:
        """All rows up to there are the consumer's. Returns why not, None when it was applied or was known already."""
        if consumer not in self._consumers:
            return f"there is no consumer {consumer!r} in the configuration of {self.name}"
        position = self._reader.position_of(epoch, sequence)
        if position is None:
            return f"epoch {epoch!r} is not known here"
        if position > max(self._highest, self._perhaps_sent):
            return f"sequence {sequence} has not been sent"
        if position > self._highest:
            # True or forged, nobody knows. These rows go out now, and whoever has them says so once more.
            self._metrics.uplink_incidents.labels(self.name, "early_ack").inc()
            self._log.info("ack_before_its_rows", consumer=consumer, sequence=sequence)
            return None
        if self._consumers.acknowledge(consumer, position):
            self._writer.mark(self.name, consumer, epoch, sequence)
            self._retire()
        return None

    def replay(self, epoch: str, from_sequence: int) -> str | None:
        """Send everything from there again, as far as it is still kept, done or not. Returns why not, None when it begins."""
        position = self._reader.position_of(epoch, from_sequence)
        if position is None:
            return f"epoch {epoch!r} is not known here"
        if position > self._reader.last_position + 1:
            return f"sequence {from_sequence} does not exist yet"
        if not self._replay.ask(position - 1, self._clock.monotonic()):
            return f"more than {MOST_REQUESTS} requests within a minute; what was asked for before is sent once"
        self._log.info("replay_asked", epoch=epoch, from_sequence=from_sequence)
        self._wake.set()
        return None

    # -- from a person

    async def requeue(self, positions: Sequence[int]) -> list[Entry]:
        """Try rows that were set apart again, at once where the peer is there. -> those it is done for."""
        found = self._apart.requeue(await self._reader.entries_at(positions))
        self._wake.set()
        return found

    async def drop(self, positions: Sequence[int], *, reason: str, by: str) -> list[Entry]:
        """The peer shall never get these rows; each is told by a ledger event. -> those that were still owed to it."""
        found = self._apart.drop(await self._reader.entries_at(positions), self._cursor, reason, by)
        self._moved()
        self._wake.set()
        return found

    # -- one connection

    async def _session(self) -> None:
        try:
            await self._uplink.connect()
            self._link.connected()
            self._link.good()
            serving = asyncio.create_task(self._uplink.serve(self._link.good), name=f"{self.name}-serve")
            pumping = asyncio.create_task(self._pump(), name=f"{self.name}-forward")
            try:
                await asyncio.wait((serving, pumping), return_when=asyncio.FIRST_COMPLETED)
            finally:
                serving.cancel()
                pumping.cancel()
                ended = await asyncio.gather(serving, pumping, return_exceptions=True)
            _raise_worst(ended)
        finally:
            self._apart.quarantine.connection_ended(self._clock.monotonic())
            await self._uplink.close()

    async def _pump(self) -> None:
        self._begin()
        if not self._apart.quarantine.retry_cost_it:
            await self._retry(list(self._apart.quarantine.positions))
        while True:
            self._wake.clear()
            moved = await self._step()
            self._metrics.backlog.labels(self.name).set(max(self._reader.last_position - self._cursor, 0))
            if not moved:
                await self._idle()

    def _begin(self) -> None:
        self._connections += 1
        if self._connections > 1:
            self._metrics.reconnects.labels(self.name).inc()
            self._wait_for_consumers_until = self._clock.monotonic() + _CONSUMERS_BACK_S
        self._resend.reset(self._cursor)
        if self._consumers:
            self._handover.begin_again(self._cursor)
        self._scan = self._handover.position
        self._not_before = 0.0

    async def _step(self) -> bool:
        """One delivery of whatever comes first. False: nothing to do now."""
        now = self._clock.monotonic()
        if now < self._not_before:
            return False
        if self._apart.quarantine.hung_up and await self._send_new():
            # What is tried again may cost this connection too: the others go first.
            return True
        for hold in self._holds.due(now):
            await self._try_again(hold)
            return True
        if self._apart.requeued:
            requeued, self._apart.requeued = self._apart.requeued, []
            await self._retry(requeued)
            return True
        again = self._replay.goes_on(now)
        if again is not None:
            await self._replay_some(again)
            return True
        due = self._resend.due(now) if self._consumers else []
        if due:
            await self._send_again(due)
            return True
        return await self._send_new()

    async def _idle(self) -> None:
        """Until there is something to do: new rows, an acknowledgement, or a time that was set."""
        now = self._clock.monotonic()
        set_times = (self._holds.next_at, self._replay.next_at, self._resend.next_at() if self._consumers else None)
        times = [at for at in set_times if at is not None]
        until = max(min(times), self._not_before) if times else (self._not_before if now < self._not_before else None)
        if until is None:
            await self._wake.wait()
            return
        try:
            async with self._clock.timeout(max(until - now, 0.001)):
                if now < self._not_before:
                    await asyncio.Event().wait()
                await self._wake.wait()
        except TimeoutError:
            return

    async def _send_new(self) -> bool:
        if self._scan < self._handover.position:
            self._scan = self._handover.position
        read = await self._reader.entries(self._scan, BATCH_ROWS, without=self._holds.units)
        if not read:
            return False
        batch = [entry for entry in read if self._handover.wants(entry.position) and not self._is_given_up(entry)]
        self._scan = read[-1].position
        if batch and not await self._deliver(batch):
            # Rows without an answer come again, in order, before any later one of their work unit.
            self._scan = self._handover.position
        return True

    def _is_given_up(self, entry: Entry) -> bool:
        """A row that would be refused and cost the connection is quarantined without a try."""
        given_up = self._apart.quarantine.gives_up(entry)
        if given_up:
            self._set_apart(entry, "the peer closes the connection over such rows", QUARANTINED)
        return given_up

    async def _send_again(self, due: Sequence[Stamp]) -> None:
        """Rows that the peer took and the consumers did not acknowledge."""
        rows = await self._reader.entries(self._cursor, ROUND_ROWS)
        rows = [entry for entry in rows if entry.position not in self._handover.apart]
        rows = [entry for entry in rows if any(stamp.after < entry.position <= stamp.position for stamp in due)]
        for start in range(0, len(rows), BATCH_ROWS):
            receipt = await self._uplink.deliver(rows[start : start + BATCH_ROWS])
            self._metrics.resent.labels(self.name).inc(len(receipt.accepted))
            self._pause_if_busy(receipt)
        self._resend.resent(due, self._clock.monotonic())

    async def _replay_some(self, after: int) -> None:
        """The next rows of a replay; what has never been handed over follows by itself behind it."""
        up_to = self._handover.position
        rows = [entry for entry in await self._reader.entries(after, BATCH_ROWS) if entry.position <= up_to]
        receipt = await self._uplink.deliver(rows) if rows else Receipt()
        self._metrics.resent.labels(self.name).inc(len(receipt.accepted))
        self._pause_if_busy(receipt)
        # What the peer refuses now it was handed before: a replay does not wait for it, only for rows without an answer.
        answered = receipt.accepted | set(receipt.parked) | set(receipt.refused)
        if self._nobody_there_yet(receipt):
            answered -= receipt.unrouted
        missing = min((entry.position for entry in rows if entry.position not in answered), default=None)
        if missing is not None:
            self._replay.moved(missing - 1)
            self._pause_if_mute(receipt)
        elif rows and rows[-1].position < self._handover.position:
            self._replay.moved(rows[-1].position)
        else:
            self._replay.ended(self._clock.monotonic())
            self._log.info("replay_ended", position=up_to)

    # -- what the peer said

    async def _deliver(self, batch: Sequence[Entry]) -> bool:
        """Hand rows over that go out for the first time on this connection. True: each was answered."""
        # A consumer may have acknowledged the first of them before the last is on its way.
        self._highest = max(self._highest, batch[-1].position)
        receipt = await self._uplink.deliver(batch)
        self._withholds = receipt.withheld
        if receipt.withheld:
            return True
        now = self._clock.monotonic()
        nobody_there = bool(self._consumers) and self._nobody_there_yet(receipt)
        if nobody_there:
            first = min(receipt.unrouted)
            receipt = replace(receipt, accepted=frozenset(p for p in receipt.accepted if p < first), unrouted=frozenset())
        self._apart.quarantine.heard(receipt, now)
        by_position = {entry.position: entry for entry in batch}
        for position, reason in receipt.parked.items():
            self._set_apart(by_position[position], reason, PARKED)
        held = False
        for position, reason in sorted(receipt.refused.items()):
            entry = by_position[position]
            if self._apart.quarantine.knows(entry):
                self._set_apart(entry, reason, QUARANTINED)
            else:
                self._holds.hold(entry, reason, now)
                held = True
        self._taken(batch, receipt)
        self._pause_if_busy(receipt)
        answered = len(receipt.accepted) + len(receipt.parked) + len(receipt.refused)
        if not nobody_there:
            self._pause_if_mute(receipt)
        return answered == len(batch) and not held

    def _taken(self, batch: Sequence[Entry], receipt: Receipt) -> None:
        self._alerts.routed(batch, receipt)
        new = sum(position > self._new_from for position in receipt.accepted)
        self._metrics.delivered.labels(self.name).inc(new)
        self._metrics.resent.labels(self.name).inc(len(receipt.accepted) - new)
        self._handover.take_all(receipt.accepted)
        self._new_from = max(self._new_from, self._handover.position)
        self._moved()

    def _moved(self) -> None:
        """More rows are handed over: with consumers their clock runs, without they are done."""
        handed = self._handover.position
        if self._consumers:
            if handed > self._sent:
                self._sent = handed
                self._writer.note_sent(self.name, handed)
            self._resend.handed(handed, self._clock.monotonic())
            self._retire()
        elif handed > self._cursor:
            self._cursor = handed
            self._writer.advance(self.name, handed)

    def _retire(self) -> None:
        """Every consumer has these rows. One that never went out cannot be among them, whatever a mark beyond it says."""
        position = min(self._consumers.retired, self._sent)
        if position <= self._cursor:
            return
        self._cursor = position
        self._writer.advance(self.name, position)
        self._handover.move_up(position)
        self._resend.acknowledged(position, self._clock.monotonic())
        self._wake.set()

    async def _try_again(self, hold: Hold) -> None:
        if hold.entry.position <= self._cursor or hold.entry.position in self._handover.apart:
            # Every consumer has it from before, or a person dropped it.
            self._holds.release(hold.entry.work_unit)
            return
        receipt = await self._uplink.deliver([hold.entry])
        entry = hold.entry
        now = self._clock.monotonic()
        self._apart.quarantine.heard(receipt, now)
        self._pause_if_busy(receipt)
        if entry.position in receipt.refused:
            if not self._holds.refused_again(hold, receipt.refused[entry.position], now):
                return
            self._set_apart(entry, hold.reason, QUARANTINED)
        elif entry.position in receipt.parked:
            self._set_apart(entry, receipt.parked[entry.position], PARKED)
        elif entry.position not in receipt.accepted:
            hold.due = now + TRY_AGAIN_S
            return
        self._taken([entry], receipt)
        self._holds.release(entry.work_unit)
        self._scan = self._handover.position

    async def _retry(self, positions: Sequence[int]) -> None:
        """Each new connection is one more try for what was refused before, and so is a person's word."""
        unanswered = await self._apart.retry(positions, self._uplink.deliver)
        if unanswered is not None:
            self._pause_if_busy(unanswered)

    def _set_apart(self, entry: Entry, reason: str, state: str) -> None:
        self._apart.set_apart(entry, reason, state)
        self._moved()

    def _pause_if_busy(self, receipt: Receipt) -> None:
        if receipt.retry_after_s is None:
            if receipt.accepted:
                self._busy.reset()
            return
        self._not_before = self._clock.monotonic() + (receipt.retry_after_s or max(self._busy.next_delay(), _SHORTEST_PAUSE_S))

    def _nobody_there_yet(self, receipt: Receipt) -> bool:
        """A broker that came back before its subscribers: what nobody got waits a little for them."""
        now = self._clock.monotonic()
        if not receipt.unrouted or now >= self._wait_for_consumers_until:
            return False
        self._not_before = now + _NOBODY_THERE_S
        return True

    def _pause_if_mute(self, receipt: Receipt) -> None:
        """A peer that says nothing about any row must not be asked again in a tight loop."""
        if not (receipt.accepted or receipt.parked or receipt.refused) and receipt.retry_after_s is None:
            self._not_before = self._clock.monotonic() + _MUTE_S

    def _diagnose(self, error: Exception) -> Diagnosis:
        assert isinstance(error, UplinkError)
        # A peer that hangs up over a refusal is there for the others; that row has its own time of a second.
        pause = _HUNG_UP_PAUSE_S if self._apart.quarantine.hung_up and error.retry_after_s is None else error.retry_after_s
        return Diagnosis(str(error), remedy=error.remedy, silent=error.silent, retry_after_s=pause)

    def _told(self, status: LinkStatus) -> None:
        self._metrics.link_up.labels(self.name, "uplink").set(status.state in UP)
        self._on_link(status)


def _raise_worst(ended: Sequence[object]) -> None:
    """A bug goes before the loss of the link, whichever task met it."""
    errors = [error for error in ended if isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError)]
    errors.sort(key=lambda error: isinstance(error, UplinkError))
    if errors:
        raise errors[0]
