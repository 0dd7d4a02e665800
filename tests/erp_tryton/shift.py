"""A shift of many small orders: real Tryton, a proxy that loses half of the answers to bookings, a daemon that is killed, four presses.

In the end each order's books in Tryton are compared with the press's own account of it, and its hours with the gateway's journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.erp_tryton.link import number_from_one
from tests.erp_tryton.planner import Planner
from tests.erp_tryton.presses import Presses
from tests.erp_tryton.proxy import TrytonProxy
from tests.erp_tryton.seed import GATEWAY, OIL, OIL_PER_PIECE, PLANNER, PRESSES, SHEET, SHEET_PER_PIECE
from tests.erp_tryton.server import DATABASE, Tryton
from tests.system.line import Line, journal_events, of_type

UNITS = [f"press-{7 + index:02}" for index in range(len(PRESSES))]
_LOOK_S = 0.1
_LOT = 20
_AHEAD = 60
"""So many orders at most are planned and not done."""
_LOT_S = 300.0
"""No longer is a lot waited for."""
_ROUNDED_S = 0.002
_EDGE_S = 0.5
"""How far a press's own hours of one order and those that were read from outside may be apart: readings come every 100 ms."""


@dataclass
class Shift:
    """`productions` by the order's number. `down_s`: how long the gateway did not run, in all."""

    line: Line
    server: Tryton
    planner: Planner
    proxy: TrytonProxy
    presses: Presses
    productions: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    down_s: float = 0.0
    kills: int = 0

    async def release(self, quantities: list[int]) -> None:
        """The planner's work, spread over the presses, in small lots as the ones before get done: each look at what is open costs time."""
        for first in range(0, len(quantities), _LOT):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOT_S):
                    while first + _LOT - await self._count_done() > _AHEAD:
                        await asyncio.sleep(1.0)
            lot = quantities[first : first + _LOT]
            plans = [(float(quantity), PRESSES[(first + index) % len(PRESSES)]) for index, quantity in enumerate(lot)]
            ids = await asyncio.to_thread(self.planner.release_many, plans)
            for production, quantity in zip(ids, lot, strict=True):
                number = await asyncio.to_thread(self.planner.number, production)
                self.productions[number], self.wanted[number] = production, quantity

    async def operate(self) -> None:
        """Operators who start each press with the order that the page shows as running."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                status, body = await self.line.ask_page("/api/orders")
                for order in body["orders"] if status == 200 else ():
                    if order["state"] == "Running" and order["rank"] is not None:
                        press = self.presses.presses[UNITS.index(order["work_unit"])]
                        press.begin(order["job_order_id"], int(order["target"]))
            await asyncio.sleep(_LOOK_S)

    async def kill_at_random(self, times: int, chance: random.Random) -> None:
        """kill -9 and a new start, so many times, with a little life in between."""
        loop = asyncio.get_running_loop()
        while self.kills < times:
            await asyncio.sleep(chance.uniform(0.1, 3.0))
            await self.line.kill_daemon()
            at = loop.time()
            self.kills += 1
            await self.line.start_daemon()
            await self.line.ready()
            self.down_s += loop.time() - at

    async def done(self, count: int, seconds: float) -> None:
        """Until so many productions are done in Tryton. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while await self._count_done() < count:
                self.line.alive()
                await asyncio.sleep(0.5)

    async def _count_done(self) -> int:
        return await asyncio.to_thread(self.planner.are_done, list(self.productions.values()))

    # --- what must be true in the end --------------------------------------------------------------------------------------

    def differences(self) -> list[str]:
        """Order by order: what Tryton holds and the press does not, or the other way round."""
        accounts = {order: account for press in self.presses.presses for order, account in press.accounts.items()}
        told = {event["subject"]: event["data"] for event in of_type(journal_events(self.line.state_dir), "job.progress")}
        wrong = [f"{order} was made and never planned" for order in accounts.keys() - self.productions.keys()]
        ran_s = booked_s = 0.0
        for order, production in self.productions.items():
            books, account = self.planner.books(production), accounts.get(order)
            if account is None:
                wrong.append(f"{order} was never made; Tryton has it {books.state}")
                continue
            made = account.good + account.scrap
            consumed = {SHEET: _weight(made, SHEET_PER_PIECE), OIL: _weight(made, OIL_PER_PIECE)}
            pairs: dict[str, tuple[Any, Any]] = {
                "state": (books.state, "done"),
                "good": (books.good, account.good),
                "wanted": (books.good, self.wanted[order]),
                "scrap": (books.scrap, account.scrap),
                "consumed": (books.consumed, consumed),
                "moves left open": (books.dangling, 0),
            }
            hours = told[order]["run_s"] + told[order]["setup_s"]
            if abs(books.run_s - hours) > _ROUNDED_S:
                wrong.append(f"{order} hours: Tryton {books.run_s} s, the journal {hours} s")
            wrong += [f"{order} {what}: Tryton {held}, should be {true}" for what, (held, true) in pairs.items() if held != true]
            ran_s += account.ran_s
            booked_s += books.run_s
        edges = _EDGE_S * len(self.productions)
        if not ran_s - self.down_s * len(UNITS) - edges <= booked_s <= ran_s + edges:
            wrong.append(f"the presses ran {ran_s:.1f} s, Tryton has {booked_s:.1f} s, the gateway was down {self.down_s:.1f} s")
        return wrong

    def moved_twice(self) -> list[str]:
        """Moves of the gateway beyond one booking each would show in `differences`; here: productions that nobody planned."""
        known = set(self.productions.values())
        found = self.planner.seat.search_read("production", [], ["number"])
        return [str(record["number"]) for record in found if record["id"] not in known]


def _weight(pieces: int, each: float) -> Decimal:
    return pieces * Decimal(str(each))


@asynccontextmanager
async def shift(folder: Path, server: Tryton, interval: str) -> AsyncIterator[Shift]:
    """Everything is up; nothing is planned yet. `interval`: how often Tryton is asked for orders; a look at 200 costs it a while."""
    folder.mkdir(parents=True, exist_ok=True)
    number_from_one(server)
    proxy, presses = TrytonProxy(server.url), Presses(len(UNITS))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        line = Line(folder, http)
        try:
            await proxy.start()
            proxy.fault = "dropped"
            await presses.start()
            line.config.write_text(yaml.safe_dump(_configuration(folder, line, proxy, presses, interval), sort_keys=False))
            await line.start_daemon()
            await line.ready()
            yield Shift(line, server, Planner(server.seat(PLANNER)), proxy, presses)
        finally:
            await line.end()
            await presses.stop()
            await proxy.stop()


def _configuration(folder: Path, line: Line, proxy: TrytonProxy, presses: Presses, interval: str) -> dict[str, Any]:
    password = folder / "tryton.password"
    password.write_text(GATEWAY[1])
    devices, units = presses.configuration(UNITS)
    uplink = {
        "type": "tryton",
        "url": proxy.url,
        "database": DATABASE,
        "user": GATEWAY[0],
        "password": {"file": str(password)},
        "work_centers": dict(zip(UNITS, PRESSES, strict=True)),
        "interval": interval,
        "report_every": "2s",
    }
    gateway = {
        "id": "demo-pc",
        "enterprise": "acme",
        "site": "lyon",
        "time_zone": "Europe/Paris",
        "listen": line.page.removeprefix("http://"),
    }
    return {"gateway": gateway, "devices": devices, "work_units": units, "uplinks": {"erp": uplink}}


def figures(shift: Shift, seconds: float) -> str:
    """For the log of a run."""
    made = [account for press in shift.presses.presses for account in press.accounts.values()]
    told = {
        "orders": len(shift.productions),
        "pieces": sum(account.good + account.scrap for account in made),
        "scrap": sum(account.scrap for account in made),
        "kills": shift.kills,
        "calls": shift.proxy.calls,
        "answers lost": shift.proxy.lost,
        "seconds": round(seconds),
    }
    return json.dumps(told)
