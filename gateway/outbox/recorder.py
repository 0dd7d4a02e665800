"""Where the core meets the disk: what is recorded between two commits becomes one transaction, and only then is it published."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime

from prometheus_client import Counter

from drivers.base import Clock
from gateway.domain.cloud_event import cloud_event, encode
from gateway.domain.entry import Entry
from gateway.domain.events import Event
from gateway.domain.job_order import Answer
from gateway.domain.snapshot import Snapshot
from gateway.metrics import Metrics
from gateway.outbox.ballast import Ballast
from gateway.outbox.disk import DiskState, disk_state
from gateway.outbox.store import Store
from gateway.outbox.transaction import PARKED, Batch, ConsumerMark, RowException, Written

GROUP_ROWS = 200
"""A group this large is committed at once: a transaction's fixed cost is well spread by then."""
GATHER_S = 0.01
"""How long the first of a group waits for others: devices polled in the same instant share a commit."""
SPACING_S = 0.1
"""Commits follow each other no faster while nobody waits for one: a value is seldom late, and a busy line costs ten commits a second."""
CARRIED_S = 1.0
"""What peers have taken waits this long for a commit that happens anyway; should the process be killed meanwhile, it is sent again."""
RETRY_S = (0.25, 5.0)
"""First and longest pause between tries of a commit that failed; recovery is noticed within the longest."""
PRUNE_S = 60.0
SURVEY_S = 5.0
"""How often the room on the file system is looked at."""
TELEMETRY_PENDING = 2_000
"""Telemetry batches held in memory while nothing can be written."""


class Recorder:
    """The only writer of the journal.

    Everything is recorded synchronously, in memory, in the same step of the loop in which the trackers changed; `run` commits it together
    with the trackers' snapshots of the moment in which it takes it. So whatever is recorded without an `await` in between is in ONE
    transaction. A commit that fails is repeated until it succeeds: sequence numbers never get a hole, nothing is lost but by a kill, and
    what a kill takes was published nowhere.

    `source_of(work_unit)` gives the CloudEvents source (None: the gateway's own). `snapshots()` gives the present snapshots of all
    trackers, their changed records with them: what it hands over it need not hand over again. `after_commit(entries)` is called after
    each commit, in the loop, with the rows that became durable (none when only snapshots changed). `ballast` is given up when the disk is
    full and laid again when there is room.
    """

    def __init__(
        self,
        store: Store,
        *,
        gateway_id: str,
        source_of: Callable[[str | None], str],
        clock: Clock,
        metrics: Metrics,
        snapshots: Callable[[], Sequence[Snapshot]],
        after_commit: Callable[[Sequence[Entry]], None],
        ballast: Ballast | None = None,
    ) -> None:
        self.disk = DiskState.OK
        self.disk_error = ""
        """What SQLite said to the last commit, empty while the disk is well."""
        self.failing_since: datetime | None = None
        """Since when nothing could be committed, None while the disk is well."""
        self._store = store
        self._gateway_id = gateway_id
        self._source_of = source_of
        self._sources: dict[str | None, str] = {}
        self._counters: dict[str, Counter] = {}
        self._clock = clock
        self._metrics = metrics
        self._snapshots = snapshots
        self._after_commit = after_commit
        self._ballast = ballast
        self._room_is_low = False
        self._sequence = store.next_sequence
        self._position = store.last_position + 1
        self._pending = Batch()
        self._taken: Batch | None = None
        self._states: dict[str, bytes] = {}
        self._recorded = 0
        self._taken_up_to = 0
        self._durable = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._noted = asyncio.Event()
        """Something waits to be written, be it only what a peer has taken."""
        self._wake = asyncio.Event()
        """Something waits that is worth a commit of its own."""
        self._hurry = asyncio.Event()
        self._progress = clock.monotonic()
        self._settled_at = clock.monotonic() - SPACING_S
        self._known: datetime | None = None
        self._known_until = 0.0
        self._next_prune = clock.monotonic() + PRUNE_S
        self._next_survey = clock.monotonic()

    # -- what the loop records

    def record(self, events: Sequence[Event]) -> None:
        """Give `events` their sequence numbers, in this order.

        Raises TypeError for data that JSON cannot hold; that event then has no number, those before it are recorded.
        """
        for event in events:
            body = encode(
                cloud_event(
                    event,
                    gateway_id=self._gateway_id,
                    epoch=self._store.epoch,
                    sequence=self._sequence,
                    source=self._source(event.work_unit),
                )
            )
            id_ = f"{self._gateway_id}:{self._store.epoch}:{self._sequence}"
            self._pending.entries.append(
                Entry(
                    self._position, self._store.epoch, self._sequence, id_, event.work_unit, event.type, event.job_order_id, event.at, body
                )
            )
            self._sequence += 1
            self._position += 1
            self._touch()
            counter = self._counters.get(event.type)
            if counter is None:
                counter = self._counters[event.type] = self._metrics.events.labels(event.type)
            counter.inc()

    def mark_dirty(self) -> None:
        """A tracker changed without an event (a baseline, a measurement): its snapshot goes into the next commit."""
        self._touch()

    def record_answer(self, answer: Answer, at: datetime) -> None:
        """The answer that a repeat of `answer.command_id` will get."""
        if answer.command_id is None:
            raise ValueError("an answer without command_id cannot be looked up")
        self._pending.answers.append((answer, at))
        self._touch()

    def record_order_cursor(self, uplink: str, cursor: str) -> None:
        """How far the orders of `uplink` have been taken; in the transaction of the orders it brought."""
        self._pending.order_cursors[uplink] = cursor
        self._touch()

    def record_telemetry(self, device: str, body: bytes) -> None:
        """One message of raw tags; the oldest goes when there are too many."""
        waiting = self._pending.telemetry
        if len(waiting) >= TELEMETRY_PENDING:
            del waiting[0]
            self._metrics.telemetry_dropped.labels("journal").inc()
        waiting.append((device, body))
        self._touch()

    # -- what the forwarders record

    def advance(self, uplink: str, position: int) -> None:
        """All rows up to `position` are done for `uplink`, but for its exceptions."""
        self._pending.cursors[uplink] = position
        self._note()

    def note_sent(self, uplink: str, position: int) -> None:
        """All rows up to `position` were handed to the peer of `uplink`, whose consumers have yet to acknowledge them.

        Worth a commit: should the process be killed, what they acknowledge of these rows meanwhile is no forgery.
        """
        self._pending.sent[uplink] = position
        self._touch()

    def park(self, uplink: str, position: int, reason: str, state: str = PARKED) -> None:
        """Set a row apart from the cursor. `state` is PARKED, QUARANTINED or DELIVERED of `outbox.transaction`; any other keeps it open."""
        self._pending.exceptions[uplink, position] = RowException(uplink, position, state, reason, self._clock.now())
        self._touch()

    def unpark(self, uplink: str, position: int) -> None:
        """The row is an exception no longer: what the cursor says holds for it."""
        self._pending.exceptions[uplink, position] = None
        self._touch()

    def record_account(self, uplink: str, job_order_id: str, body: bytes | None) -> None:
        """What the ledger has come to for a job order of an ERP (None: forget it); on disk with, or before, every cursor told later."""
        self._pending.accounts[uplink, job_order_id] = body
        self._note()

    def mark(self, uplink: str, consumer: str, epoch: str, sequence: int) -> None:
        """`consumer` of `uplink` has everything of `epoch` up to `sequence`."""
        self._pending.marks[uplink, consumer, epoch] = ConsumerMark(uplink, consumer, epoch, sequence, self._clock.now())
        self._touch()

    def forget_telemetry(self, up_to_id: int) -> None:
        """Telemetry up to this id (`Store.telemetry`) has been delivered."""
        self._pending.telemetry_done = max(self._pending.telemetry_done, up_to_id)
        self._note()

    # -- durability

    async def committed(self) -> None:
        """Wait until all that was recorded so far is on disk. While nothing can be written it waits on."""
        if self._durable >= self._recorded:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((self._recorded, waiter))
        self._wake.set()
        self._hurry.set()
        await waiter

    async def drain(self, timeout_s: float) -> bool:
        """For the shutdown, while `run` still runs: wait until all is on disk; False when `timeout_s` was not enough."""
        try:
            async with self._clock.timeout(timeout_s):
                await self.committed()
        except TimeoutError:
            return False
        return True

    @property
    def pending_rows(self) -> int:
        """Ledger rows in memory that are not on disk yet."""
        return len(self._pending.entries) + (len(self._taken.entries) if self._taken is not None else 0)

    @property
    def last_progress(self) -> float:
        """Monotonic seconds of the writer's last step, the present time while it has nothing to do; a commit that hangs makes it stand."""
        return self._clock.monotonic() if self._durable >= self._recorded else self._progress

    async def run(self) -> None:
        """The writer task. When it is cancelled a commit under way is carried to its end first.

        Raises sqlite3.Error only for what repeating cannot mend (a damaged database, a wrong statement): the process ends and starts anew.
        """
        if self._taken is not None:
            await self._flush()
        while True:
            await self._noted.wait()
            await self._gather()
            await self._flush()
            if self._ballast is not None and self._clock.monotonic() >= self._next_survey:
                await self._survey(self._ballast)
            if self._clock.monotonic() >= self._next_prune:
                await self._prune()

    def _source(self, work_unit: str | None) -> str:
        source = self._sources.get(work_unit)
        if source is None:
            source = self._sources[work_unit] = self._source_of(work_unit)
        return source

    def _note(self) -> None:
        if self._durable >= self._recorded:
            self._progress = self._clock.monotonic()
        self._recorded += 1
        self._noted.set()

    def _touch(self) -> None:
        self._note()
        self._wake.set()
        if len(self._pending.entries) >= GROUP_ROWS:
            self._hurry.set()

    async def _gather(self) -> None:
        if not self._wake.is_set():
            try:
                async with self._clock.timeout(CARRIED_S):
                    await self._wake.wait()
            except TimeoutError:
                return
        since_last = self._clock.monotonic() - self._settled_at
        try:
            async with self._clock.timeout(max(GATHER_S, SPACING_S - since_last)):
                await self._hurry.wait()
        except TimeoutError:
            return
        if len(self._pending.entries) < GROUP_ROWS:
            await self._clock.sleep(GATHER_S)

    def _take(self) -> Batch:
        """In one step of the loop: what is pending, and the snapshots that belong to exactly these events."""
        batch, self._pending = self._pending, Batch()
        self._taken_up_to = self._recorded
        self._noted.clear()
        self._wake.clear()
        self._hurry.clear()
        for snapshot in self._snapshots():
            if snapshot.records or self._states.get(snapshot.work_unit) != snapshot.state:
                self._states[snapshot.work_unit] = snapshot.state
                batch.snapshots[snapshot.work_unit] = snapshot
        return batch

    async def _flush(self) -> None:
        # A batch that was taken and not written (the task was cancelled meanwhile) goes before all later ones.
        batch = self._taken = self._take() if self._taken is None else self._taken
        pause = RETRY_S[0]
        while self._taken is not None:
            self._progress = self._clock.monotonic()
            try:
                await self._commit(batch)
            except sqlite3.OperationalError as error:
                await self._failed(error)
                if self.disk is DiskState.FULL and await self._made_room():
                    continue
                await self._clock.sleep(pause)
                pause = min(pause * 2, RETRY_S[1])

    async def _commit(self, batch: Batch) -> None:
        if not batch:
            self._settled(batch, None)
            return
        commit = asyncio.create_task(self._store.commit(batch, self._clock.now()), name="journal-commit")
        try:
            written = await asyncio.shield(commit)
        except asyncio.CancelledError:
            # The thread cannot be stopped half-way: what it did must be known before anybody goes on.
            await asyncio.wait([commit])
            if commit.exception() is None:
                self._settled(batch, commit.result())
            raise
        self._settled(batch, written)

    def _settled(self, batch: Batch, written: Written | None) -> None:
        self._taken = None
        self._progress = self._settled_at = self._clock.monotonic()
        self._durable = self._taken_up_to
        if written is not None:
            self._metrics.commits.inc()
            self.disk = DiskState.LOW if self._room_is_low else DiskState.OK
            self.disk_error, self.failing_since = "", None
            if written.telemetry_dropped:
                self._metrics.telemetry_dropped.labels("journal").inc(written.telemetry_dropped)
        self._after_commit(batch.entries)
        waiting = self._waiters
        self._waiters = [(ticket, waiter) for ticket, waiter in waiting if ticket > self._durable]
        for ticket, waiter in waiting:
            if ticket <= self._durable and not waiter.done():
                waiter.set_result(None)
        if self._waiters:
            self._wake.set()
            self._hurry.set()

    async def _failed(self, error: sqlite3.OperationalError) -> None:
        state = disk_state(error)
        if state is None:
            raise error
        self._metrics.commit_failures.inc()
        self.disk, self.disk_error = state, str(error)
        self.failing_since = self.failing_since or self._clock.now()
        if state is not DiskState.FULL:
            # After an I/O error or a remount the connection may hold what is no longer true.
            await self._store.reopen()

    async def _made_room(self) -> bool:
        if self._ballast is None or not await asyncio.to_thread(self._ballast.release):
            return False
        self._room_is_low = True
        return True

    async def _survey(self, ballast: Ballast) -> None:
        self._next_survey = self._clock.monotonic() + SURVEY_S
        self._room_is_low = await asyncio.to_thread(ballast.survey)
        if self.disk in (DiskState.OK, DiskState.LOW):
            self.disk = DiskState.LOW if self._room_is_low else DiskState.OK

    def distrust_clock(self, known: datetime, seconds: float) -> None:
        """The wall clock has gone far ahead of `known`: for so long nothing counts as older than it was then. A clock that is wrong by
        years would else have all history removed before anybody puts it right."""
        self._known, self._known_until = known, self._clock.monotonic() + seconds

    def _now_for_ages(self) -> datetime:
        now = self._clock.now()
        return min(now, self._known) if self._known is not None and self._clock.monotonic() < self._known_until else now

    async def _prune(self) -> None:
        self._next_prune = self._clock.monotonic() + PRUNE_S
        try:
            pruned = await asyncio.shield(self._store.prune(self._now_for_ages()))
        except sqlite3.OperationalError as error:
            await self._failed(error)
            return
        if pruned.telemetry:
            self._metrics.telemetry_dropped.labels("journal").inc(pruned.telemetry)
        if pruned.more:
            self._next_prune = self._clock.monotonic()
