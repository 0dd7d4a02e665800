"""An ERP in memory with the manners of real ones: no idempotency key, versions that must match, replies that get lost; and its adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from drivers.base import Clock
from gateway.domain.job_order import JobOrder
from gateway.seams import UplinkError
from gateway.uplink.erp.port import (
    BOOKED,
    ErpOrder,
    Listing,
    Measurement,
    Outcome,
    Plan,
    PlanState,
    PromisedDate,
    Right,
    Standing,
    Totals,
)
from gateway.uplink.erp.settings import BookingSettings
from tests.uplink.erp.conformance import Booked, Fault

T = TypeVar("T")
_ZERO = Decimal(0)


class StandInSettings(BookingSettings):
    type: str = "stand-in"

    @property
    def peer(self) -> str:
        return "stand-in"


class ReplyLost(Exception):
    """Nobody knows whether it was booked."""


class Busy(Exception):
    """429, with what the ERP asks for."""

    def __init__(self, after_s: float | None) -> None:
        super().__init__("busy")
        self.after_s = after_s


class Refusal(Exception):
    """A business rule; a person is needed."""


@dataclass
class Production:
    """One order in the ERP's books. `moves`: (kind, quantity, time) of every posting, never changed afterwards."""

    key: str
    job_order: JobOrder
    work_unit: str
    state: PlanState = PlanState.RELEASED
    version: int = 1
    planned: int = 1
    """Version of what a planner wrote, which postings do not touch."""
    started_at: datetime | None = None
    closed_at: datetime | None = None
    moves: list[tuple[str, Decimal, datetime]] = field(default_factory=list)
    run_s: float = 0.0
    stops: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Measurement] = field(default_factory=dict)
    promise: PromisedDate | None = None

    def total(self, kind: str) -> Decimal:
        return sum((quantity for of, quantity, _ in self.moves if of == kind), _ZERO)


class StandInErp:
    """The server. `violations`: what no gateway may do, found in the books."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.productions: dict[str, Production] = {}
        self.fault: Fault | None = None
        self.refuses: dict[str, str] = {}
        """Key -> why everything about it is refused."""
        self.violations: list[str] = []
        self.calls = 0
        self.in_flight = 0

    # --- as a planner --------------------------------------------------------------------------------------------------

    def plan(self, job_order: JobOrder, work_unit: str, state: PlanState = PlanState.RELEASED) -> str:
        key = f"{len(self.productions) + 1}"
        self.productions[key] = Production(key, job_order, work_unit, state)
        return key

    def change(self, key: str, state: PlanState | None = None, job_order: JobOrder | None = None) -> None:
        production = self.productions[key]
        production.state = state or production.state
        production.job_order = job_order or production.job_order
        production.planned += 1
        production.version += 1
        if production.state in (PlanState.CANCELLED, PlanState.CLOSED):
            production.closed_at = self.clock.now()

    def of(self, job_order_id: str) -> Production:
        return next(p for p in self.productions.values() if p.job_order.job_order_id == job_order_id)

    # --- as a server ---------------------------------------------------------------------------------------------------

    async def request(self, work: Callable[[], T], *, writes: bool = False, key: str | None = None) -> T | None:
        """One request: at most one at a time may be under way. None: an answer that means nothing."""
        self.calls += 1
        self.in_flight += 1
        if self.in_flight > 1:
            self.violations.append("two requests at once")
        try:
            await asyncio.sleep(0)
            hit = self.fault is not None and writes and self.calls % 2 == 0
            if key is not None and key in self.refuses:
                raise Refusal(self.refuses[key])
            if hit and self.fault in (Fault.ERROR, Fault.LOCKED):
                raise Busy(None)
            if hit and self.fault is Fault.BUSY:
                raise Busy(2.0)
            if hit and self.fault is Fault.MEANINGLESS:
                return None
            if hit and self.fault is Fault.SLOW:
                await self.clock.sleep(0.5)
            done = work()
            await asyncio.sleep(0)
            if hit and self.fault in (Fault.DROPPED, Fault.HALF):
                raise ReplyLost
            return done
        finally:
            self.in_flight -= 1

    def move(self, key: str, version: int | None, kind: str, quantity: Decimal, at: datetime) -> None:
        """Raises Busy when somebody has written since `version` (None: whoever does not ask is not told)."""
        production = self.productions[key]
        self._check(production, version)
        production.moves.append((kind, quantity, at))

    def write(self, key: str, version: int | None, **changes: Any) -> None:
        production = self.productions[key]
        self._check(production, version)
        for name, value in changes.items():
            setattr(production, name, value)

    def _check(self, production: Production, version: int | None) -> None:
        if production.closed_at is not None:
            self.violations.append(f"{production.key} was written after its end")
            raise Refusal(f"{production.job_order.job_order_id} is closed")
        if version is not None and version != production.version:
            raise Busy(None)
        production.version += 1

    # --- the books -----------------------------------------------------------------------------------------------------

    def booked(self, job_order_id: str) -> Booked:
        production = self.of(job_order_id)
        kinds = {kind for kind, _, _ in production.moves if kind.startswith("take ")}
        return Booked(
            good=production.total("good"), scrap=production.total("scrap"),
            consumed={kind.removeprefix("take "): production.total(kind) for kind in kinds},
            run_s=production.run_s, stops=len(production.stops), results=tuple(sorted(production.results)),
            is_started=production.started_at is not None, is_closed=production.closed_at is not None,
            times=tuple(at for _, _, at in production.moves),
        )  # fmt: skip


class StandInPort:
    """The adapter: reads, posts the difference under the version it read, reads back."""

    def __init__(self, erp: StandInErp) -> None:
        self._erp = erp
        self._is_connected = False

    @property
    def peer(self) -> str:
        return "stand-in"

    async def connect(self) -> None:
        self._is_connected = True

    async def disconnect(self) -> None:
        self._is_connected = False

    async def list_orders(self, known: Mapping[str, str]) -> Listing:
        def read() -> list[Plan]:
            return [
                Plan(p.key, str(p.planned), p.state, p.work_unit, p.job_order)
                for p in self._erp.productions.values()
                if p.state in (PlanState.FORECAST, PlanState.RELEASED) or p.key in known
            ]

        plans = await self._erp.request(read)
        if plans is None:
            raise UplinkError("an answer that means nothing")
        return Listing(plans, is_complete=True)

    async def taken(self, listing: Listing, answers: Mapping[str, str | None]) -> None:
        return

    async def start(self, order: ErpOrder, at: datetime) -> Outcome:
        async def post(p: Production) -> None:
            if p.started_at is None:
                await self._write(p, started_at=at)

        return await self._guarded(order, post, lambda p: p.started_at is not None)

    async def report_totals(self, order: ErpOrder, totals: Totals) -> Outcome:
        wanted = {"good": totals.good, "scrap": totals.scrap}
        for taken in totals.consumption:
            kind = f"take {taken.material_id}"
            wanted[kind] = wanted.get(kind, _ZERO) + taken.quantity
        stops = {stop.stop_id: stop for stop in totals.stops}

        def is_done(p: Production) -> bool:
            return all(p.total(kind) == quantity for kind, quantity in wanted.items()) and p.run_s == totals.run_s and stops == p.stops

        async def post(p: Production) -> None:
            version = p.version
            for kind, quantity in wanted.items():
                if quantity != p.total(kind):
                    move = partial(self._erp.move, order.key, version, kind, quantity - p.total(kind), totals.at)
                    await self._erp.request(move, writes=True, key=order.key)
                    return
            await self._write(p, run_s=totals.run_s, stops=stops)

        # One move per request, as real ERPs have it: each is read back before the next.
        outcome = BOOKED
        for _ in range(2 * len(wanted) + 2):
            outcome = await self._guarded(order, post, is_done)
            if outcome.standing is not Standing.BLOCKED or outcome.words != _NOT_DONE:
                break
        return outcome

    async def quality(self, order: ErpOrder, results: Sequence[Measurement]) -> Outcome:
        async def post(p: Production) -> None:
            kept = {**p.results, **{r.id: r for r in results}}
            await self._write(p, results={id_: r for id_, r in kept.items() if not r.is_cancelled})

        return await self._guarded(order, post, lambda p: all((r.id in p.results) is not r.is_cancelled for r in results))

    async def close(self, order: ErpOrder, totals: Totals) -> Outcome:
        async def post(p: Production) -> None:
            await self._write(p, closed_at=totals.at, state=PlanState.CLOSED)

        return await self._guarded(order, post, lambda p: p.closed_at is not None)

    async def push_promise(self, order: ErpOrder, promise: PromisedDate) -> Outcome:
        async def post(p: Production) -> None:
            await self._write(p, promise=promise)

        return await self._guarded(order, post, lambda p: p.promise == promise)

    async def rights(self) -> Sequence[Right]:
        return [Right("read productions"), Right("write productions")]

    async def _write(self, production: Production, **changes: Any) -> None:
        version = production.version
        await self._erp.request(lambda: self._erp.write(production.key, version, **changes), writes=True, key=production.key)

    async def _guarded(
        self, order: ErpOrder, post: Callable[[Production], Awaitable[None]], is_done: Callable[[Production], bool]
    ) -> Outcome:
        try:
            production = await self._read(order)
            if is_done(production):
                return BOOKED
            if production.closed_at is not None:
                return Outcome(Standing.BLOCKED, f"{order.job_order_id} is closed")
            await post(production)
            return BOOKED if is_done(await self._read(order)) else Outcome(Standing.BLOCKED, _NOT_DONE)
        except Busy as busy:
            return Outcome(Standing.RETRY, "busy", busy.after_s)
        except ReplyLost:
            return Outcome(Standing.RETRY, "no reply")
        except Refusal as refusal:
            return Outcome(Standing.BLOCKED, str(refusal))

    async def _read(self, order: ErpOrder) -> Production:
        found = await self._erp.request(lambda: self._erp.productions[order.key])
        assert found is not None
        return found


_NOT_DONE = "it was answered and not done"


class NaivePort(StandInPort):
    """How not to do it: sends the difference to what it sent last, believes every 200, reads nothing back."""

    def __init__(self, erp: StandInErp) -> None:
        super().__init__(erp)
        self._sent: dict[tuple[str, str], Decimal] = {}

    async def report_totals(self, order: ErpOrder, totals: Totals) -> Outcome:
        wanted = {"good": totals.good, "scrap": totals.scrap}
        for taken in totals.consumption:
            wanted[f"take {taken.material_id}"] = taken.quantity
        try:
            for kind, quantity in wanted.items():
                more = quantity - self._sent.get((order.key, kind), _ZERO)
                if more:
                    move = partial(self._erp.move, order.key, None, kind, more, totals.at)
                    await self._erp.request(move, writes=True)
                    self._sent[order.key, kind] = quantity
            stops = {stop.stop_id: stop for stop in totals.stops}
            await self._erp.request(lambda: self._erp.write(order.key, None, run_s=totals.run_s, stops=stops), writes=True)
        except (Busy, ReplyLost):
            return Outcome(Standing.RETRY, "no reply")
        except Refusal as refusal:
            return Outcome(Standing.BLOCKED, str(refusal))
        return BOOKED
