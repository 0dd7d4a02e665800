"""One data base of a Tryton server behind the port: reads, lets the pure parts say what to call next, calls, and reads again."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from drivers.base import Clock
from gateway.domain.inbound import Refusal
from gateway.domain.instants import known_zone
from gateway.seams import UplinkError
from gateway.uplink.base import SecretReader
from gateway.uplink.erp.port import BOOKED, ErpOrder, Listing, Measurement, Outcome, Plan, PromisedDate, Right, Standing, Totals
from gateway.uplink.erp.tryton import controls, plans, promises, rights, steps, targets
from gateway.uplink.erp.tryton.catalogue import Catalogue, Unknown
from gateway.uplink.erp.tryton.moves import Booking
from gateway.uplink.erp.tryton.records import Production, Work, production_fields, read_production
from gateway.uplink.erp.tryton.rpc import Busy, Call, Declined, Rpc, Stale, Unanswered, as_records
from gateway.uplink.erp.tryton.settings import TrytonSettings
from gateway.uplink.erp.tryton.units import FIELDS as UNIT_FIELDS
from gateway.uplink.erp.tryton.units import Units

_ROUNDS = 60
"""Reads of one production for one booking: each call may have to be repeated, and each round brings it at least one call nearer."""
_LOST_IN_A_ROW = 10
_BUSY_IN_A_ROW = 6
_WAITS_S = 1.0
"""A server that asks for more is left alone, and so is every other order."""
_LOG_OUT_S = 1.0
_PAUSE_S = 0.05
_OPTIONAL = ("production.work", "stock.lot", "quality.control", "sale.line")
"""Models of modules that a site may leave out."""


@dataclass
class _Tried:
    """What happened since a booking began."""

    stock: bool = False
    declined: str = ""
    lost: int = 0
    busy: int = 0


@dataclass
class _Server:
    """What is asked once for each connection."""

    models: frozenset[str]
    units: Units
    time_zone: ZoneInfo
    catalogue: Catalogue
    categories: dict[tuple[int, int], bool] = field(default_factory=dict)


class TrytonPort:
    """`gateway.uplink.erp.port.ErpPort` for Tryton 8.2. Does nothing before `connect`."""

    def __init__(self, settings: TrytonSettings, *, clock: Clock, secrets: SecretReader) -> None:
        self._settings = settings
        self._clock = clock
        self._rpc = Rpc(settings, clock=clock, secrets=secrets)
        self._server: _Server | None = None
        self._units_of = {name: unit for unit, name in settings.work_centers.items()}

    @property
    def peer(self) -> str:
        """`Tryton erp.acme.lan:8000`, for the technician."""
        return self._settings.peer

    # --- the link --------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        await self._rpc.open()
        try:
            self._server = await self._meet()
        except (Busy, Declined) as error:
            await self.disconnect()
            raise UplinkError(f"Tryton: {error}", retry_after_s=getattr(error, "retry_after_s", None), remedy=rights.REMEDY) from error
        except BaseException:
            await self.disconnect()
            raise

    async def _meet(self) -> _Server:
        models = {r["name"] for r in await self._rpc.search("ir.model", [["name", "in", list(_OPTIONAL)]], ["name"])}
        units = Units(await self._rpc.search("product.uom", [], UNIT_FIELDS))
        company = self._rpc.context.get("company")
        if company is None:
            raise UplinkError(f"the user {self._settings.user} belongs to no company in Tryton", remedy=rights.REMEDY)
        companies = as_records(await self._rpc.read("company.company", "read", [company], ["timezone"]), "company.company", ["timezone"])
        zone = _zone(companies[0]["timezone"] if companies else None)
        return _Server(frozenset(models), units, zone, Catalogue(self._rpc, has_lots="stock.lot" in models))

    async def disconnect(self) -> None:
        self._server = None
        with contextlib.suppress(Unanswered, Stale, Busy, Declined, UplinkError, TimeoutError):
            async with self._clock.timeout(_LOG_OUT_S):
                await self._rpc.log_out()
        await self._rpc.close()

    @property
    def _met(self) -> _Server:
        if self._server is None:
            raise UplinkError("not connected")
        return self._server

    # --- down ------------------------------------------------------------------------------------------------------------

    async def list_orders(self, known: Mapping[str, str]) -> Listing:
        server = self._met
        has_works = "production.work" in server.models
        fields = plans.plan_fields(works=has_works, origins="sale.line" in server.models)
        names = list(self._units_of)
        here: list[Any] = [["state", "in", list(plans.OPEN)]]
        if has_works:
            here.append(["OR", ["works.work_center.name", "in", names], [["works", "=", None], ["work_center.name", "in", names]]])
        try:
            records = await self._rpc.search("production", here, fields)
            listed = {record["id"] for record in records}
            gone = sorted({int(key.split("/")[0]) for key in known} - listed)
            if gone:
                records += await self._rpc.search("production", [["id", "in", gone]], fields)
            context = await self._context(records)
        except (Busy, Declined) as error:
            raise UplinkError(
                f"Tryton gives no orders: {error}", retry_after_s=getattr(error, "retry_after_s", None), remedy=rights.REMEDY
            ) from error
        found = [plan for record in records for plan in plans.plans(record, known, context)]
        return Listing(
            plans=[plan for plan in found if isinstance(plan, Plan)],
            is_complete=True,
            refusals=[refusal for refusal in found if isinstance(refusal, Refusal)],
        )

    async def _context(self, records: Sequence[Mapping[str, Any]]) -> plans.Context:
        server = self._met
        lines: dict[int, Mapping[str, Any]] = {}
        ids = sorted({line for record in records if (line := plans.sale_line_of(record)) is not None})
        if ids:
            lines = {line["id"]: line for line in await self._rpc.search("sale.line", [["id", "in", ids]], plans.SALE_LINE_FIELDS)}
        held: dict[int, Sequence[controls.Control]] = {}
        if "quality.control" in server.models and records:
            every = controls.read_controls(await self._rpc.search("quality.control", [], controls.CONTROL_FIELDS))
            for product in {record["product."]["id"] for record in records if record["product."]}:
                held[product] = [control for control in every if await self._is_held_to(control, product)]
        return plans.Context(self._units_of, server.units, server.time_zone, lines, held)

    async def _is_held_to(self, control: controls.Control, product: int) -> bool:
        if control.product not in (None, product):
            return False
        if control.category is None:
            return True
        known = self._met.categories
        if (control.category, product) not in known:
            inside = [["id", "=", product], ["template.categories_all", "child_of", [control.category], "parent"]]
            known[control.category, product] = bool(await self._rpc.search("product.product", inside, ["id"]))
        return known[control.category, product]

    async def taken(self, listing: Listing, answers: Mapping[str, str | None]) -> None:
        """Tryton is not told: it lists an order as long as it is open."""

    # --- up --------------------------------------------------------------------------------------------------------------

    async def start(self, order: ErpOrder, at: dt.datetime) -> Outcome:
        day = self._day(at)

        async def next_(production: Production, tried: _Tried) -> steps.Next:
            return steps.run(production, _work(order, production), day)

        return await self._settle(order, next_)

    async def report_totals(self, order: ErpOrder, totals: Totals) -> Outcome:
        async def next_(production: Production, tried: _Tried) -> steps.Next:
            target = await self._target(order, production, totals)
            return steps.totals(self._booking(order, production, totals, tried), _work(order, production), target)

        return await self._settle(order, next_)

    async def close(self, order: ErpOrder, totals: Totals) -> Outcome:
        async def next_(production: Production, tried: _Tried) -> steps.Next:
            work, target = _work(order, production), await self._target(order, production, totals)
            is_ours = not production.works or production.works[-1].work_center in self._units_of
            return steps.close(self._booking(order, production, totals, tried), work, target, is_ours=is_ours)

        return await self._settle(order, next_)

    async def quality(self, order: ErpOrder, results: Sequence[Measurement]) -> Outcome:
        if "quality.control" not in self._met.models:
            return BOOKED

        async def next_(production: Production, tried: _Tried) -> steps.Next:
            every = controls.read_controls(await self._rpc.search("quality.control", [], controls.CONTROL_FIELDS))
            due = [control for control in every if await self._is_held_to(control, production.product)]
            if not due:
                return BOOKED
            records = await self._rpc.search(
                "quality.inspection", [["origin", "=", f"production,{production.id}"]], controls.INSPECTION_FIELDS
            )
            held = controls.read_inspections(records, self._rpc.user_id)
            return controls.next_calls(production.id, production.company, due, held, results) or BOOKED

        return await self._settle(order, next_)

    async def push_promise(self, order: ErpOrder, promise: PromisedDate) -> Outcome:
        async def next_(production: Production, tried: _Tried) -> steps.Next:
            resources = [f"production,{production.id}"]
            if "sale.line" in self._met.models:
                origin = await self._rpc.search("production", [["id", "=", production.id]], ["origin"])
                line = plans.sale_line_of(origin[0]) if origin else None
                sold = await self._rpc.search("sale.line", [["id", "=", line]], ["sale"]) if line is not None else []
                resources += [f"sale.sale,{record['sale']}" for record in sold]
            mine = [["resource", "in", resources], ["create_uid", "=", self._rpc.user_id]]
            notes = await self._rpc.search("ir.note", mine, ["resource", "message"])
            wanted = promises.message(order.job_order_id, promise, self._met.time_zone)
            return promises.next_calls(resources, notes, order.job_order_id, wanted) or BOOKED

        return await self._settle(order, next_)

    async def rights(self) -> Sequence[Right]:
        """Raises UplinkError."""
        try:
            return await rights.check(self._rpc, self._met.models, self._settings)
        except (Busy, Declined) as error:
            raise UplinkError(f"Tryton does not tell the rights of {self._settings.user}: {error}", remedy=rights.REMEDY) from error

    # --- one booking -----------------------------------------------------------------------------------------------------

    async def _settle(self, order: ErpOrder, next_: Callable[[Production, _Tried], Awaitable[steps.Next]]) -> Outcome:
        """Read, call what is missing, read again, until nothing is."""
        tried = _Tried()
        for _ in range(_ROUNDS):
            try:
                production = await self._read(order)
                if production is None:
                    return steps.blocked(f"Tryton has no production with the id {order.key.split('/')[0]} any more")
                if _is_unsure(order, production) and (strange := steps.booked_before(production, _work(order, production))):
                    return steps.blocked(strange)
                todo = await next_(production, tried)
                if isinstance(todo, Outcome):
                    return todo
                await self._do(order, production, todo, tried)
            except Unknown as error:
                return steps.blocked(str(error))
            except Stale:
                continue
            except Unanswered as error:
                tried.lost += 1
                if tried.lost == _LOST_IN_A_ROW or isinstance(error.__cause__, TimeoutError):
                    raise self._rpc.silence(error) from error
                await self._clock.sleep(_PAUSE_S * (tried.lost - 1))
            except Busy as error:
                tried.busy += 1
                if tried.busy == _BUSY_IN_A_ROW or (error.retry_after_s or 0.0) > _WAITS_S:
                    return Outcome(Standing.RETRY, str(error), error.retry_after_s)
                await self._clock.sleep(max(_PAUSE_S * tried.busy, error.retry_after_s or 0.0))
            except Declined as error:
                # Once may be the echo of a call whose answer was lost; what was read after it shows whether it was.
                if str(error) == tried.declined:
                    return steps.blocked(str(error))
                tried.declined = str(error)
        return Outcome(Standing.RETRY, "it was changed again and again in Tryton while it was booked")

    async def _do(self, order: ErpOrder, production: Production, calls: Sequence[Call], tried: _Tried) -> None:
        if order.memo is None:
            await order.remember("[]")
        for call in calls:
            # Whether stock was asked for says something about the quantities that stood then.
            tried.stock = tried.stock and call.method != "write"
            made = await self._rpc.call(call)
            tried.stock = tried.stock or (call.method == "assign_try" and production.state in ("running", "done"))
            tried.lost = tried.busy = 0
            if (call.model, call.method) == ("stock.move", "create") and len(production.works) > 1:
                await order.remember(json.dumps(sorted({*_remembered(order), *(int(id_) for id_ in made)})))

    async def _read(self, order: ErpOrder) -> Production | None:
        models = self._met.models
        fields = production_fields(lots="stock.lot" in models, works="production.work" in models)
        records = await self._rpc.search("production", [["id", "=", int(order.key.split("/")[0])]], fields)
        return read_production(records[0], self._rpc.user_id) if records else None

    def _booking(self, order: ErpOrder, production: Production, totals: Totals, tried: _Tried) -> Booking:
        # Several operations of one production move the same materials: which moves are whose, only we know.
        mine = frozenset(_remembered(order)) if len(production.works) > 1 else None
        return Booking(production, self._met.units, self._day(totals.at), mine, tried.stock)

    async def _target(self, order: ErpOrder, production: Production, totals: Totals) -> steps.Target:
        is_last = _work(order, production) in (None, *production.works[-1:])
        products = await self._met.catalogue.products(production, [c.material_id for c in totals.consumption])
        lots = await self._met.catalogue.lots(products, totals.consumption)
        return targets.target(production, self._met.units, totals, products, lots, is_last=is_last)

    def _day(self, at: dt.datetime) -> dt.date:
        return at.astimezone(self._met.time_zone).date()


def _zone(name: str | None) -> ZoneInfo:
    try:
        return known_zone(name or "UTC")
    except ValueError as error:
        raise UplinkError(f"the time zone {name} of the company in Tryton is not known here", remedy=rights.REMEDY) from error


def _work(order: ErpOrder, production: Production) -> Work | None:
    """The operation that an order is about; None for a production without a routing, or that has lost its works."""
    _, _, index = order.key.partition("/")
    return production.works[int(index) - 1] if index and int(index) <= len(production.works) else None


def _is_unsure(order: ErpOrder, production: Production) -> bool:
    """Whether what we booked can no longer be told: of several operations only our own memory knows whose a move is."""
    return order.memo is None or (order.is_forgotten and len(production.works) > 1)


def _remembered(order: ErpOrder) -> list[int]:
    """Ids of the stock moves that this order made."""
    return [int(id_) for id_ in json.loads(order.memo)] if order.memo else []
