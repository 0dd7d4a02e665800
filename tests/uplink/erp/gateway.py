"""An ERP link in a gateway of its own: the real forwarder and uplink on a line and a journal in memory, killed when the test says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from drivers.base import Clock
from gateway.metrics import Metrics
from gateway.outbox.forwarder import Forwarder
from gateway.seams import Uplink
from gateway.supervise import UP, Backoff
from gateway.uplink.erp.booking import BookingUplink, Wiring
from tests.manual_clock import ManualClock
from tests.uplink.doubles import EPOCH, Alerts
from tests.uplink.erp.line import Disk, Journal, Line

LIMIT_S = 120.0
"""How long a condition may take on a real clock, and how much a manual one is moved for it (hours, since nobody waits)."""

MakeUplink = Callable[[Wiring], Uplink]


class Gateway:
    """`make(wiring)` builds the uplink anew after each kill. Everything that people are told is in `alerts`."""

    def __init__(self, make: MakeUplink, clock: Clock | None = None, line: Line | None = None) -> None:
        self.clock = clock or ManualClock()
        self.line = line or Line(Journal(Disk()))
        self.alerts = Alerts()
        self.metrics = Metrics()
        self.epoch = EPOCH
        self.kills = 0
        self._make = make
        self._task: asyncio.Task[None] | None = None
        self.uplink: Uplink | None = None
        self.forwarder: Forwarder | None = None

    async def start(self) -> None:
        line, journal = self.line, self.line.journal
        wiring = Wiring(
            journal, journal.erp_accounts, journal.order_cursor, line.on_orders, line, self.alerts, self.clock, self.metrics, self.epoch
        )  # fmt: skip
        self.uplink = self._make(wiring)
        self.forwarder = Forwarder(
            self.uplink, reader=journal, writer=journal, clock=self.clock, metrics=self.metrics, alerts=self.alerts,
            on_link=lambda status: None, backoff=Backoff(0.05, 0.2),
        )  # fmt: skip
        self._task = asyncio.create_task(self.forwarder.run(), name="gateway")

    async def kill(self) -> None:
        """From one moment to the next; then a new process on what was on disk."""
        self.kills += 1
        await self.stop()
        self.alerts = Alerts()
        self.line.restart()
        await self.start()

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def moment(self, seconds: float = 0.5) -> None:
        """Let a little happen; `seconds` on a manual clock."""
        if self._task is not None and self._task.done():
            self._task.result()
        if self.forwarder is not None:
            self.forwarder.notify()
        if isinstance(self.clock, ManualClock):
            await self.clock.advance(seconds)
        else:
            await asyncio.sleep(0.01)

    async def some_steps(self, chance: random.Random) -> None:
        """A little less than `moment`: a kill may come between any two steps of the loop."""
        if chance.random() < 0.3:
            await self.moment()
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)

    async def until(self, holds: Callable[[], bool], what: str = "") -> None:
        """Until `holds`; an AssertionError when it never does."""
        began = self.clock.monotonic()
        limit = 7200.0 if isinstance(self.clock, ManualClock) else LIMIT_S
        while not holds():
            if self.clock.monotonic() - began > limit:
                raise AssertionError(f"it never came to: {what or holds}")
            await self.moment()

    # --- what a test looks at ------------------------------------------------------------------------------------------

    @property
    def is_delivered(self) -> bool:
        """The link is up and has taken every row."""
        is_up = self.forwarder is not None and self.forwarder.status.state in UP
        return is_up and self.line.journal.position == self.line.journal.last_position

    def is_settled(self) -> bool:
        """All rows are with the uplink and nothing is owed any more."""
        return self.is_tried and not (isinstance(self.uplink, BookingUplink) and self.uplink.status().orders["blocked"])

    @property
    def is_tried(self) -> bool:
        """The same, but for what waits for a person."""
        if not self.is_delivered:
            return False
        if not isinstance(self.uplink, BookingUplink):
            return True
        orders = self.uplink.status().orders
        return not orders["owed"] and not orders["retry"]

    async def settled(self) -> None:
        await self.until(self.is_settled, "everything booked")
