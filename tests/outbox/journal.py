"""What the tests of the journal share: a recorder on a real file, and events to record."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from gateway.domain.entry import Entry
from gateway.domain.events import QuantityCounted
from gateway.domain.snapshot import Snapshot
from gateway.metrics import Metrics
from gateway.outbox.ballast import Ballast
from gateway.outbox.recorder import Recorder
from gateway.outbox.settings import JournalSettings
from gateway.outbox.store import Store
from tests.manual_clock import ManualClock

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


def counted(pieces: int, work_unit: str | None = "press-07", at: datetime = AT) -> QuantityCounted:
    number = Decimal(pieces)
    zero = Decimal(0)
    return QuantityCounted(
        work_unit=work_unit, at=at, job_order_id="OF-1", produced=number, good=number, scrap=zero, rework=zero, counter=number, late=False
    )


@dataclass
class Journal:
    """A store, its recorder running on a manual clock, and what the recorder told."""

    store: Store
    recorder: Recorder
    clock: ManualClock
    metrics: Metrics
    task: asyncio.Task[None]
    published: list[Entry]
    snapshots: list[Snapshot] = field(default_factory=list)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass in small steps until the writer's thread has done its part."""
        async with asyncio.timeout(10):
            while not condition():
                await self.clock.advance(0.05)
                await asyncio.sleep(0.001)

    async def real_until(self, condition: Callable[[], bool]) -> None:
        """Let the writer's thread do its part while the clock stands."""
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """Until all that was recorded is on disk."""
        done = asyncio.ensure_future(self.recorder.committed())
        await self.until(done.done)
        done.result()

    async def sequences(self) -> list[int]:
        return [entry.sequence for entry in await self.store.entries(0, 100_000)]

    def commits(self) -> float:
        return self.metrics.registry.get_sample_value("lineside_commits_total") or 0.0

    def failures(self) -> float:
        return self.metrics.registry.get_sample_value("lineside_commit_failures_total") or 0.0

    async def fill_disk(self) -> None:
        """SQLite's own way to have no room: from now on a new page is an error in the middle of a statement."""
        await self.on_writer("PRAGMA max_page_count = 1")

    async def free_disk(self) -> None:
        await self.on_writer("PRAGMA max_page_count = 1073741823")

    async def on_writer(self, sql: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(sql).fetchall()

        await self.store._writer.run(work)


@asynccontextmanager
async def journal(
    state_dir: Path,
    *,
    uplinks: Sequence[str] = ("plant",),
    settings: JournalSettings | None = None,
    store_class: type[Store] = Store,
    ballast: Ballast | None = None,
) -> AsyncIterator[Journal]:
    clock = ManualClock()
    metrics = Metrics()
    store = await store_class.open(state_dir, uplinks=uplinks, clock=clock, settings=settings)
    published: list[Entry] = []
    snapshots: list[Snapshot] = []
    recorder = Recorder(
        store,
        gateway_id="line-pc-07",
        source_of=lambda unit: f"/acme/lyon/stamping/line-3/{unit}" if unit else "/acme/lyon/_gateway/line-pc-07",
        clock=clock,
        metrics=metrics,
        snapshots=lambda: tuple(snapshots),
        after_commit=published.extend,
        ballast=ballast,
    )
    task = asyncio.create_task(recorder.run(), name="journal")
    try:
        yield Journal(store, recorder, clock, metrics, task, published, snapshots)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()
