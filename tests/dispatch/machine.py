"""What the tests of the release share: a PLC that takes values, a work unit with one running order, and a journal in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from drivers.base import Clock, Driver, LinkError, Quality, Reading, TagError, Value
from gateway.dispatch.release import Release, make_plan
from gateway.dispatch.writing import DeviceWriter
from gateway.domain.equipment import Product, ReleaseRule
from gateway.domain.events import CommandWritten, Event, JobChanged, Text
from gateway.domain.job import Job, WriteState
from gateway.domain.job_order import JobOrder, JobState
from gateway.metrics import Metrics
from tests.manual_clock import ManualClock


@dataclass
class Plc:
    """A driver with values in memory. `refuse`: tag -> what it answers to a write; `deaf`: tags whose write it drops silently.

    `lose_after_write`: the link dies once the next value has arrived, `lose_before_write`: before it has.
    """

    clock: ManualClock
    values: dict[str, Value]
    up: bool = True
    refuse: dict[str, str] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    lose_after_write: bool = False
    lose_before_write: bool = False
    writes: list[tuple[str, Value]] = field(default_factory=list)
    on_write: Callable[[str, Value], None] = lambda tag, value: None
    writing: int = 0
    at_once: int = 0

    def driver(self) -> Driver | None:
        return self if self.up else None

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        if not self.up:
            raise LinkError("gone")
        now = self.clock.now()
        return [
            Reading(tag, self.values[tag], Quality.GOOD, None, now)
            if tag in self.values
            else Reading(tag, None, Quality.BAD, None, now, "unknown")
            for tag in tags
        ]

    async def write(self, tag: str, value: Value) -> None:
        self.writing += 1
        self.at_once = max(self.at_once, self.writing)
        try:
            await asyncio.sleep(0)
            self._take(tag, value)
        finally:
            self.writing -= 1

    def _take(self, tag: str, value: Value) -> None:
        if self.lose_before_write:
            self.up = self.lose_before_write = False
            raise LinkError("reset")
        if tag in self.refuse:
            raise TagError(self.refuse[tag])
        self.writes.append((tag, value))
        if tag not in self.deaf:
            self.values[tag] = value
        self.on_write(tag, value)
        if self.lose_after_write:
            self.up = self.lose_after_write = False
            raise LinkError("no answer")


@dataclass
class Board:
    """Alerts that stand, and all that was ever raised."""

    standing: dict[str, tuple[str, Text, Text, str]] = field(default_factory=dict)
    raised: int = 0

    def raise_(self, key: str, severity: str, text: Text, remedy: Text, *, work_unit: str | None = None, detail: str = "") -> None:
        self.raised += key not in self.standing
        self.standing[key] = (severity, text, remedy, detail)

    def clear(self, key: str) -> None:
        self.standing.pop(key, None)


class Shop:
    """A work unit with its release running, on a manual clock unless told otherwise; `restart` is a new process with the same memory.

    `driver`: that of a real device, instead of `plc`; `writer`: another shop's, where both are behind one PLC.
    """

    def __init__(
        self,
        rule: ReleaseRule,
        products: Sequence[Product] = (),
        *,
        real_clock: Clock | None = None,
        driver: Callable[[], Driver | None] | None = None,
        writer: DeviceWriter | None = None,
    ) -> None:
        self.clock = ManualClock()
        self._used_clock: Clock = real_clock or self.clock
        self.plc = Plc(self.clock, {"target": 0, "recipe": 0, "number": "", "take": False, "taken": False})
        self.writer = writer or DeviceWriter("plc", driver or self.plc.driver, self._used_clock)
        self.rule = rule
        self.products = {product.product_id: product for product in products}
        self.job: Job | None = None
        self.standing = True
        self.events: list[Event] = []
        self.commit_lets_through = asyncio.Event()
        self.commit_lets_through.set()
        self.alerts = Board()
        self.metrics = Metrics()
        self._begin()

    def _begin(self) -> None:
        plan = make_plan("press-07", self.rule, lambda reference: ("plc", reference))
        self.release = Release(plan, self.products, self, {"plc": self.writer}, self, self.alerts, self._used_clock, self.metrics)
        self.task = asyncio.create_task(self.release.run())

    # --- what the release sees: the unit's orders and the journal

    def running(self) -> Job | None:
        return self.job if self.job is not None and self.job.state is JobState.RUNNING else None

    def stands(self) -> bool:
        return self.standing

    def mark(self, job_order_id: str, state: WriteState) -> None:
        assert self.job is not None
        assert self.job.job_order_id == job_order_id
        self.job.written = state

    def record(self, events: Sequence[Event]) -> None:
        self.events += events

    async def committed(self) -> None:
        await self.commit_lets_through.wait()

    # --- what a test does

    async def start(self, job_order_id: str = "OF-1", **order: Any) -> Job:
        self.job = Job(JobOrder(job_order_id, **({"quantity": Decimal(250)} | order)), JobState.RUNNING, 0)
        await self.change("Running", "AllowedToStart")
        return self.job

    async def change(self, state: str, previous: str) -> None:
        assert self.job is not None
        self.job.state = JobState(state)
        self.release.on_event(
            JobChanged(
                work_unit="press-07", at=self.clock.now(), job_order_id=self.job.job_order_id, state=state, previous=previous,
                command_id=None, problem=None,
            )
        )  # fmt: skip
        await self.clock.advance(0)

    async def restart(self) -> None:
        await self.stop()
        self.alerts = Board()
        self._begin()
        await self.clock.advance(0)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def told(self) -> list[tuple[str, Any, str, str | None]]:
        """(tag, value, phase, problem) of each command.written."""
        return [(e.tag, e.value, e.phase, e.problem) for e in self.events if isinstance(e, CommandWritten)]

    def counted(self, outcome: str) -> float:
        labels = {"work_unit": "press-07", "outcome": outcome}
        return self.metrics.registry.get_sample_value("lineside_orders_written_total", labels) or 0.0
