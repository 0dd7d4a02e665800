"""The links that the suite runs on. A new one: an `ErpUnderTest`, started and stopped by a function here, and its name in `LINKS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from gateway.domain.job_order import JobOrder
from gateway.seams import Uplink
from gateway.uplink.erp.booking import BookingUplink, Wiring
from gateway.uplink.erp.port import PlanState
from tests.erp_tryton.link import tryton
from tests.manual_clock import ManualClock
from tests.uplink.erp.conformance import Booked, ErpUnderTest, Fault
from tests.uplink.erp.http_link import http
from tests.uplink.erp.stand_in import NaivePort, StandInErp, StandInPort, StandInSettings
from tests.uplink.files.link import files


class StandInLink:
    """The ERP in memory."""

    faults = frozenset(Fault)

    def __init__(self, port: Callable[[StandInErp], StandInPort] = StandInPort) -> None:
        self.clock = ManualClock()
        self.erp = StandInErp(self.clock)
        self._port = port

    def uplink(self, wiring: Wiring) -> Uplink:
        settings = StandInSettings(interval=1.0, report_every=2.0)
        return BookingUplink("erp", settings, self._port(self.erp), wiring)

    async def release(self, order: JobOrder, work_unit: str) -> None:
        self.erp.plan(order, work_unit)

    async def cancel(self, job_order_id: str) -> None:
        self.erp.change(self.erp.of(job_order_id).key, PlanState.CANCELLED)

    async def refuse(self, job_order_id: str, words: str | None) -> None:
        key = self.erp.of(job_order_id).key
        self.erp.refuses.pop(key, None)
        if words is not None:
            self.erp.refuses[key] = words

    async def misbehave(self, fault: Fault | None) -> None:
        self.erp.fault = fault

    async def booked(self, job_order_id: str) -> Booked:
        return self.erp.booked(job_order_id)

    async def violations(self) -> list[str]:
        return self.erp.violations


@asynccontextmanager
async def stand_in() -> AsyncIterator[ErpUnderTest]:
    yield StandInLink()


@asynccontextmanager
async def naive() -> AsyncIterator[ErpUnderTest]:
    yield StandInLink(NaivePort)


@dataclass(frozen=True)
class Link:
    """One row of the suite. `faults`: those its ERP can show; `has_planner`: its orders can be changed and refused one by one;
    `is_slow`: it needs a real server; `kills`: how often it is killed in one test; `rare`: faults that are left to `make system`."""

    make: Callable[[], AbstractAsyncContextManager[ErpUnderTest]]
    faults: frozenset[Fault] = frozenset(Fault)
    has_planner: bool = True
    is_slow: bool = False
    kills: int = 30
    rare: frozenset[Fault] = frozenset()


LINKS: dict[str, Link] = {
    "stand-in": Link(stand_in),
    "http": Link(http, has_planner=False, is_slow=True, kills=15),
    "files": Link(files, faults=frozenset({Fault.DROPPED, Fault.ERROR, Fault.LOCKED, Fault.HALF}), has_planner=False),
    "tryton": Link(tryton, is_slow=True, kills=8, rare=frozenset(Fault) - {Fault.DROPPED, Fault.LOCKED}),
}
