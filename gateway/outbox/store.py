"""The journal on disk: one SQLite database, one writing connection, readers of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.domain.instants import instant, moment
from gateway.domain.job_order import Answer, Problem
from gateway.domain.snapshot import Record, Snapshot
from gateway.domain.trace import Trace, TraceUnreadable
from gateway.outbox import retention
from gateway.outbox.damage import checksum, damaged, is_damage
from gateway.outbox.epochs import IN_ORDER, begin_epoch
from gateway.outbox.exchange import DAMAGED, Thinned
from gateway.outbox.history import History
from gateway.outbox.lots import LotHistory
from gateway.outbox.salvage import Salvaged
from gateway.outbox.session import Session, open_reader, open_writer
from gateway.outbox.settings import JournalSettings
from gateway.outbox.statedir import DATABASE, lock, prepare, release
from gateway.outbox.tail import Tail
from gateway.outbox.transaction import CLOSED_STATES, Batch, ConsumerMark, RowException, Written, write

T = TypeVar("T")

_LATEST_ROWS = 400
"""Twice a forwarder's batch: one that is not behind finds its next batch in memory."""
_LATEST_TELEMETRY = 50
_ENTRY = "position, epoch, sequence, id, work_unit, type, job_order_id, at, body, crc"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an uplink still has to take: rows, the bytes of their bodies, and when the oldest happened (None: nothing waits)."""

    rows: int
    bytes: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One batch of raw tags of a device; `body` is the message as it is sent."""

    id: int
    device: str
    body: bytes


def _entry(row: tuple[int, str, int, str, str | None, str, str | None, int, bytes, int | None], bases: Mapping[str, int]) -> Entry:
    position, epoch, sequence, id_, work_unit, type_, job_order_id, at, body, crc = row
    # Rows of earlier versions have no checksum; that a row is where its key says holds for all of them.
    if (crc is not None and crc != checksum(*row[:-1])) or bases.get(epoch) != position - sequence:
        raise damaged(f"row {position} is not what was written")
    try:
        return Entry(position, epoch, sequence, id_, work_unit, type_, job_order_id, moment(at), body)
    except OverflowError:
        raise damaged(f"row {position} is of no time") from None


class Store:
    """Made by `Store.open`. Only the recorder writes (`commit`, `prune`); everybody may read.

    Reads see what is committed. Forwarders and the page have a reader each, so that a long look into the history holds up no delivery.
    """

    def __init__(self, path: Path, writer: Session, uplinks: Sequence[str], settings: JournalSettings, lock_handle: int) -> None:
        self.path = path
        self.settings = settings
        self.uplinks = tuple(uplinks)
        self.epoch = ""
        """Of this database file: the events recorded from now on carry it."""
        self.origin: str | None = None
        """Why this start began a new epoch in a journal that had one (`salvaged`, `log_lost`), or `restored` before its first event; the
        app raises an alert when it is set."""
        self.moved_aside: Path | None = None
        """Where a damaged database was moved at the start."""
        self.salvaged: Salvaged | None = None
        """What was saved from it."""
        self.thinned = Thinned()
        """What became of those that were moved aside before it."""
        self.last_position = 0
        """Of the latest committed row."""
        self._epochs: dict[str, int] = {}
        """Each with the position before its first row, in the order in which they began."""
        self._cursors: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._total_bytes = 0
        self._latest: Tail[Entry] = Tail(_LATEST_ROWS)
        self._latest_telemetry: Tail[Telemetry] = Tail(_LATEST_TELEMETRY)
        self._lock_handle = lock_handle
        self._writer = writer
        self._reader = Session(lambda: open_reader(path))
        self._history = Session(lambda: open_reader(path))
        self._reports = Session(lambda: open_reader(path))

    @classmethod
    async def open(cls, state_dir: Path, *, uplinks: Sequence[str], clock: Clock, settings: JournalSettings | None = None) -> Store:
        """Own the directory, open or create its database, bring it to this version's schema.

        `uplinks` are the configured ones: a new one starts at the oldest row still kept; the cursor of one that is not named here is
        kept but holds nothing back. A damaged database is moved aside (`moved_aside`), what can be read of it is saved (`salvaged`), and a
        new epoch begins (`origin`).
        Raises StoreError, with a sentence and a remedy, when the directory or the database cannot be used.
        """
        handle = lock(state_dir)
        path = state_dir / DATABASE
        prepared: list[sqlite3.Connection] = []
        writer = Session(lambda: prepared.pop() if prepared else open_writer(path))
        store = cls(path, writer, uplinks, settings or JournalSettings(), handle)
        try:
            opened = await asyncio.to_thread(prepare, state_dir, clock)
            prepared.append(opened.connection)
            store.origin, store.moved_aside, store.salvaged = opened.origin, opened.aside, opened.salvaged
            store.thinned = opened.thinned
            await writer.run(lambda connection: store._load(connection, clock))
        except BaseException:
            await writer.close()
            os.close(handle)
            raise
        return store

    def _load(self, connection: sqlite3.Connection, clock: Clock) -> None:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
        self.last_position = row[0] if row else 0
        epochs = connection.execute(f"SELECT epoch, base, origin FROM epochs {IN_ORDER}").fetchall()
        self._epochs = {epoch: base for epoch, base, _ in epochs}
        unused = [(self.last_position, "restored"), (self.last_position, "salvaged")]
        if self.origin != "log_lost" and epochs and epochs[-1][1:] in unused:
            # It was begun before the file took its place, and has no event yet: none that a lost log held either.
            self.origin = epochs[-1][2]
        elif self.origin is not None or not epochs:
            epoch = begin_epoch(connection, self.origin or "new", instant(clock.now()))
            self._epochs[epoch] = self.last_position
        self.epoch = next(reversed(self._epochs))
        last = connection.execute("SELECT total_bytes FROM journal ORDER BY position DESC LIMIT 1").fetchone()
        self._total_bytes = last[0] if last else 0
        first = connection.execute("SELECT position FROM journal ORDER BY position LIMIT 1").fetchone()
        before_first = (first[0] - 1) if first else self.last_position
        kept = dict(connection.execute("SELECT uplink, position FROM cursors"))
        self._cursors = {uplink: max(kept.get(uplink, 0), before_first) for uplink in self.uplinks}
        self._sent = dict(connection.execute("SELECT uplink, min(position, ?) FROM sent", (self.last_position,)))

    # -- writing: the recorder's

    @property
    def next_sequence(self) -> int:
        """Of the next row of this epoch."""
        return self.last_position - self._epochs[self.epoch] + 1

    async def commit(self, batch: Batch, recorded_at: datetime) -> Written:
        """Write `batch` in one transaction. Raises sqlite3.Error with nothing written (or, after an I/O error, perhaps all of it:
        repeating the same batch is safe). Entries continue at `last_position + 1` without a hole."""
        at = instant(recorded_at)
        total_bytes = self._total_bytes
        written = await self._guarded(self._writer, lambda connection: write(connection, batch, total_bytes=total_bytes, recorded_at=at))
        self._total_bytes = written.total_bytes
        if batch.entries:
            self.last_position = batch.entries[-1].position
            self._latest.extend(batch.entries[0].position, batch.entries)
        if batch.telemetry:
            first = written.telemetry_last - len(batch.telemetry) + 1
            self._latest_telemetry.extend(first, [Telemetry(first + i, *row) for i, row in enumerate(batch.telemetry)])
        if written.telemetry_dropped:
            self._latest_telemetry.clear()
        self._cursors.update(batch.cursors)
        return written

    async def reopen(self) -> None:
        """Give the writing connection up after an I/O error; the next commit opens a fresh one."""
        await self._writer.close()

    async def prune(self, now: datetime) -> retention.Pruned:
        """Remove one slice of what may go: see `retention.prune`. Raises sqlite3.Error with nothing removed."""
        floor = min((self._cursors[u] for u in self.uplinks), default=self.last_position)
        at = instant(now)
        pruned = await self._guarded(self._writer, lambda connection: retention.prune(connection, self.path, self.settings, at, floor))
        if pruned.journal:
            self._latest.clear()
        if pruned.telemetry:
            self._latest_telemetry.clear()
        return pruned

    async def close(self) -> None:
        """After the last commit: fold the log into the database and let the directory go."""
        await self._reader.close()
        await self._history.close()
        await self._reports.close()
        # With a full disk the log cannot be folded in; it stays beside the database and nothing of it is lost.
        with contextlib.suppress(sqlite3.OperationalError, OSError):
            await self._writer.run(lambda connection: _fold(connection, self.path))
        await self._writer.close()
        os.close(self._lock_handle)

    async def _guarded(self, session: Session, work: Callable[[sqlite3.Connection], T]) -> T:
        """Damage that shows only now ends the process by its error; the next start moves the database aside without looking at it again."""
        try:
            return await session.run(work)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                # A disk that takes no mark either must not hide what was found.
                with contextlib.suppress(OSError):
                    self.path.with_name(DAMAGED).touch()
            raise

    # -- reading: the forwarders'

    async def entries(self, after_position: int, limit: int, *, without: Collection[str | None] = ()) -> list[Entry]:
        """Up to `limit` rows behind `after_position`, in order, but for those of the work units in `without` (None: the gateway's own)."""
        latest = self._latest.after(after_position, limit) if not without else None
        if latest is not None:
            return latest
        named = [unit for unit in without if unit is not None]
        condition = f" AND (work_unit IS NULL OR work_unit NOT IN ({', '.join('?' * len(named))}))" if named else ""
        if None in without:
            condition += " AND work_unit IS NOT NULL"
        sql = f"SELECT {_ENTRY} FROM journal WHERE position > ?{condition} ORDER BY position LIMIT ?"

        def work(connection: sqlite3.Connection) -> list[Entry]:
            # All of them first: a statement that damage ends in the middle would hold up the folding of the log.
            found = connection.execute(sql, (after_position, *named, limit)).fetchall()
            return [_entry(row, self._epochs) for row in found]

        return await self._guarded(self._reader, work)

    async def entries_at(self, positions: Sequence[int]) -> list[Entry]:
        """The rows at `positions` that are still kept, in journal order."""
        sql = f"SELECT {_ENTRY} FROM journal WHERE position = ?"

        def work(connection: sqlite3.Connection) -> list[Entry]:
            found = [connection.execute(sql, (position,)).fetchone() for position in sorted(positions)]
            return [_entry(row, self._epochs) for row in found if row is not None]

        return await self._guarded(self._reader, work)

    def position_of(self, epoch: str, sequence: int) -> int | None:
        """Where that row is or would be, whether it is still kept or not; None for an epoch this journal never had.

        It may lie beyond `last_position`: the caller judges what a sequence not yet used means. Of an epoch that another followed, what
        lies beyond its end was lost with a damaged or replaced journal: that is its last row here.
        """
        base = self._epochs.get(epoch)
        if base is None:
            return None
        names = list(self._epochs)
        # One that lost all its rows ends where the next begins, which is where it began itself.
        return min([base + sequence, *(self._epochs[later] for later in names[names.index(epoch) + 1 :])])

    def cursor(self, uplink: str) -> int:
        """All rows up to here are done for `uplink`, but for its exceptions."""
        return self._cursors[uplink]

    def sent_up_to(self, uplink: str) -> int:
        """All rows up to here were handed to the peer of `uplink` by an earlier process, whether they are done or not."""
        return max(self._cursors[uplink], self._sent.get(uplink, 0))

    async def exceptions(self, uplink: str) -> list[RowException]:
        """In journal order."""
        sql = "SELECT uplink, position, state, reason, at FROM exceptions WHERE uplink = ? ORDER BY position"
        return await self._guarded(
            self._reader, lambda c: [RowException(u, p, s, r, moment(at)) for u, p, s, r, at in c.execute(sql, (uplink,))]
        )

    async def marks(self, uplink: str) -> list[ConsumerMark]:
        """What each consumer of `uplink` has acknowledged, for each epoch."""
        sql = "SELECT uplink, consumer, epoch, sequence, at FROM consumer_marks WHERE uplink = ? ORDER BY consumer, at"
        return await self._guarded(
            self._reader, lambda c: [ConsumerMark(u, n, e, s, moment(at)) for u, n, e, s, at in c.execute(sql, (uplink,))]
        )

    async def backlog(self, uplink: str) -> Backlog:
        """Constant time, whatever the length of the journal."""
        cursor, last, total = self._cursors[uplink], self.last_position, self._total_bytes

        def work(connection: sqlite3.Connection) -> Backlog:
            first = connection.execute(
                "SELECT total_bytes - length(body), at FROM journal WHERE position > ? ORDER BY position LIMIT 1", (cursor,)
            ).fetchone()
            rows = max(last - cursor, 0)
            size, oldest = (total - first[0], first[1]) if first and rows else (0, None)
            listed = connection.execute(
                "SELECT e.state, e.position, length(j.body), j.at FROM exceptions e JOIN journal j USING (position) WHERE e.uplink = ?",
                (uplink,),
            )
            for state, position, length, at in listed:
                closed = state in CLOSED_STATES
                if closed and cursor < position <= last:
                    rows, size = rows - 1, size - length
                elif not closed and position <= cursor:
                    rows, size, oldest = rows + 1, size + length, at if oldest is None else min(oldest, at)
            return Backlog(rows, max(size, 0), None if oldest is None or rows == 0 else moment(oldest))

        return await self._guarded(self._reader, work)

    async def telemetry(self, after_id: int, limit: int) -> list[Telemetry]:
        """Up to `limit` batches behind `after_id`, in order."""
        latest = self._latest_telemetry.after(after_id, limit)
        if latest is not None:
            return latest
        sql = "SELECT id, device, body FROM telemetry WHERE id > ? ORDER BY id LIMIT ?"
        return await self._guarded(self._reader, lambda c: [Telemetry(*row) for row in c.execute(sql, (after_id, limit))])

    # -- reading: intake, trackers, page

    async def known_answer(self, command_id: str) -> Answer | None:
        """What that command was answered, None for a new one."""
        sql = "SELECT return_status, state, problem_code, problem_text FROM answers WHERE command_id = ?"
        row = await self._guarded(self._reader, lambda c: c.execute(sql, (command_id,)).fetchone())
        if row is None:
            return None
        status, state, code, text = row
        return Answer(command_id, status, state, Problem(code, text) if code is not None else None)

    async def order_cursor(self, uplink: str) -> str | None:
        """How far the orders of `uplink` have been taken, None at first."""
        sql = "SELECT cursor FROM order_cursors WHERE uplink = ?"
        row = await self._guarded(self._reader, lambda c: c.execute(sql, (uplink,)).fetchone())
        return row[0] if row else None

    async def erp_accounts(self, uplink: str) -> dict[str, bytes]:
        """Job order -> its account at the ERP `uplink`."""
        sql = "SELECT job_order_id, body FROM erp_accounts WHERE uplink = ?"
        return await self._guarded(self._reader, lambda c: dict(c.execute(sql, (uplink,)).fetchall()))

    async def snapshots(self) -> dict[str, Snapshot]:
        """The latest of each work unit; its records are read with `records`."""
        return await self._guarded(self._reader, lambda c: History(c).snapshots())

    async def records(self, work_unit: str, kinds: Sequence[str], since: datetime) -> list[Record]:
        """The records of these kinds whose `at` is not before `since`, oldest first."""
        return await self._guarded(self._history, lambda c: History(c).records(work_unit, kinds, instant(since)))

    async def history(self, ask: Callable[[History], T]) -> T:
        """What `ask` finds in the history; it runs in a thread of its own and holds up no commit and no delivery."""
        return await self._guarded(self._reports, lambda c: ask(History(c)))

    async def trace(self, name: str) -> Trace:
        """The genealogy of a lot, a serial number or an order. Raises TraceUnreadable."""
        try:
            return await self._guarded(self._reports, lambda c: LotHistory(c).trace(name))
        except sqlite3.Error as error:
            raise TraceUnreadable(str(error)) from error

    async def size(self) -> int:
        """Bytes in use on disk, log included."""
        return await self._guarded(self._history, lambda c: retention.used_bytes(c, self.path))


def _fold(connection: sqlite3.Connection, path: Path) -> None:
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if not busy:
        release(path)
