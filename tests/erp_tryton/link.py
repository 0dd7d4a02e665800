"""The real Tryton in the suite of every ERP link: one server for all tests of a process, a new proxy and new orders for each."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from decimal import Decimal
from functools import cache
from pathlib import Path

from drivers.base import Clock
from gateway.clock import SystemClock
from gateway.domain.job_order import JobOrder
from gateway.seams import Uplink
from gateway.uplink.erp.booking import BookingUplink, Wiring
from gateway.uplink.erp.tryton import TrytonPort, TrytonSettings
from tests.erp_tryton.planner import Planner
from tests.erp_tryton.proxy import TrytonProxy
from tests.erp_tryton.seed import ADMINISTRATOR, GATEWAY, PLANNER, PRESSES
from tests.erp_tryton.server import DATABASE, Tryton, on_sqlite
from tests.uplink.erp.conformance import Booked, Fault

_FAULTS = {
    Fault.DROPPED: "dropped",
    Fault.ERROR: "error",
    Fault.BUSY: "too_many",
    Fault.LOCKED: "locked",
    Fault.MEANINGLESS: "meaningless",
    Fault.SLOW: "slow",
    Fault.HALF: "half",
}


@cache
def shared_server() -> Tryton:
    """Started with the first test that needs it, gone with the process."""
    folder = Path(tempfile.mkdtemp(prefix="lineside-tryton-"))
    stack = ExitStack()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(stack.close)
    return stack.enter_context(on_sqlite(folder))


def settings(url: str, *, presses: int = 2, **more: object) -> TrytonSettings:
    """Of a gateway with `press-07` and its neighbours, in a hurry."""
    work_centers = {f"press-{7 + index:02}": name for index, name in enumerate(PRESSES[:presses])}
    return TrytonSettings.model_validate(
        {
            "type": "tryton",
            "url": url,
            "database": DATABASE,
            "user": GATEWAY[0],
            "password": {"credential": "tryton"},
            "work_centers": work_centers,
            "interval": 0.2,
            "report_every": 0.3,
            **more,
        }
    )


def number_from_one(server: Tryton) -> None:
    """The next production is OF-1; that a test before had one of that number does not matter, ids are what counts."""
    admin = server.seat(ADMINISTRATOR)
    sequence = admin.search_read("ir.sequence", [["name", "=", "Production"]], ["id"])[0]["id"]
    admin.call("ir.sequence", "write", [sequence], {"prefix": "OF-", "number_next": 1})


class TrytonLink:
    """`tests.uplink.erp.conformance.ErpUnderTest`."""

    faults = frozenset(Fault)

    def __init__(self, server: Tryton) -> None:
        self.clock: Clock = SystemClock()
        self.proxy = TrytonProxy(server.url)
        self.planner = Planner(server.seat(PLANNER))
        self.productions: dict[str, int] = {}
        number_from_one(server)
        self._refused: dict[int, str] = {}
        self.proxy.refuse = self._refused.get

    def port(self) -> TrytonPort:
        return TrytonPort(settings(self.proxy.url), clock=self.clock, secrets=lambda secret: GATEWAY[1])

    def uplink(self, wiring: Wiring) -> Uplink:
        return BookingUplink("erp", settings(self.proxy.url), self.port(), wiring)

    async def release(self, order: JobOrder, work_unit: str) -> None:
        press = PRESSES[int(work_unit[-2:]) - 7]
        assert order.quantity is not None
        production = self.planner.release(float(order.quantity), press)
        assert self.planner.number(production) == order.job_order_id
        self.productions[order.job_order_id] = production

    async def cancel(self, job_order_id: str) -> None:
        self.planner.press("cancel", self.productions[job_order_id])

    async def refuse(self, job_order_id: str, words: str | None) -> None:
        self._refused.pop(self.productions[job_order_id], None)
        if words is not None:
            self._refused[self.productions[job_order_id]] = words

    async def misbehave(self, fault: Fault | None) -> None:
        self.proxy.fault = None if fault is None else _FAULTS[fault]

    async def booked(self, job_order_id: str) -> Booked:
        production = self.productions[job_order_id]
        books = self.planner.books(production)
        results = [i for inspection in self.planner.inspections(production) for i in (inspection["reference"] or "").split()]
        return Booked(
            good=books.good,
            scrap=books.scrap,
            consumed={code: quantity for code, quantity in books.consumed.items() if quantity != Decimal(0)},
            run_s=books.run_s,
            results=tuple(sorted(results)),
            is_started=books.state in ("running", "done"),
            is_closed=books.state == "done",
        )

    async def violations(self) -> list[str]:
        return [
            f"{name}: {books.dangling} moves left open"
            for name, id_ in self.productions.items()
            if (books := self.planner.books(id_)).dangling
        ]


@asynccontextmanager
async def tryton() -> AsyncIterator[TrytonLink]:
    link = TrytonLink(shared_server())
    await link.proxy.start()
    try:
        yield link
    finally:
        await link.proxy.stop()
        link.planner.abandon()
