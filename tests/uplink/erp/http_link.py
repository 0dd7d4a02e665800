"""The row `http` of the conformance suite: a real server that adds up what events say, each once by its id, and misbehaves."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from aiohttp import web

from drivers.settings import Secret
from gateway.clock import SystemClock
from gateway.domain.job_order import JobOrder
from gateway.seams import Uplink
from gateway.uplink.erp.booking import Wiring
from gateway.uplink.erp.http import HttpUplink
from gateway.uplink.erp.posting_memory import PostingMemory
from gateway.uplink.settings import HttpSettings
from tests.uplink.doubles import GATEWAY
from tests.uplink.erp.conformance import Booked, ErpUnderTest, Fault
from tests.uplink.erp.line import Journal

_FASTER = 4.0


class FastClock(SystemClock):
    """Runs four times as fast as the machine's, so that pauses between tries are short."""

    def __init__(self) -> None:
        super().__init__()
        steady = self.monotonic
        self.monotonic = lambda: steady() * _FASTER

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / _FASTER)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds / _FASTER)


class HttpLink:
    """The ERP adds up differences, so that any event booked twice or never shows."""

    faults = frozenset(Fault)

    def __init__(self) -> None:
        self.clock = FastClock()
        self._fault: Fault | None = None
        self._dice = random.Random(7)
        self._commands: list[dict[str, Any]] = []
        self._events: dict[str, dict[str, Any]] = {}
        self._violations: list[str] = []
        self._bodies: dict[str, bytes] = {}
        self._port = 0

    # -- what the suite does with it

    def uplink(self, wiring: Wiring) -> Uplink:
        assert isinstance(wiring.journal, Journal)
        return HttpUplink(
            "erp", HttpSettings(type="http", url=f"http://127.0.0.1:{self._port}", token=Secret(credential="erp"), interval=0.1),
            gateway_id=GATEWAY, clock=wiring.clock, metrics=wiring.metrics, secrets=lambda secret: "secret", alerts=wiring.alerts,
            on_orders=wiring.on_orders, order_cursor=wiring.order_cursor,
            postings=PostingMemory("erp", wiring.journal, wiring.order_cursor, wiring.clock),
        )  # fmt: skip

    async def release(self, order: JobOrder, work_unit: str) -> None:
        job_order = {"job_order_id": order.job_order_id, "product_id": order.product_id, "quantity": float(order.quantity or 0)}
        self._commands.append(
            {
                "command": "StoreAndStart", "command_id": f"c-{len(self._commands)}", "work_unit": work_unit,
                "issued_at": "2026-11-25T06:00:00Z", "job_order": job_order,
            }
        )  # fmt: skip

    async def cancel(self, job_order_id: str) -> None:
        raise NotImplementedError("over HTTP a planner's act is a command")

    async def refuse(self, job_order_id: str, words: str | None) -> None:
        raise NotImplementedError("over HTTP single events are refused")

    async def misbehave(self, fault: Fault | None) -> None:
        self._fault = fault

    async def booked(self, job_order_id: str) -> Booked:
        good, scrap, run_s, stops = Decimal(0), Decimal(0), 0.0, set[str]()
        consumed: dict[str, Decimal] = defaultdict(Decimal)
        results, states, times = [], set(), []
        for event in self._events.values():
            if event.get("subject") != job_order_id:
                continue
            data, kind = event["data"], event["type"].removeprefix("lineside.").removesuffix(".v1")
            times.append(datetime.fromisoformat(event["time"]))
            if kind == "job.progress":
                good += data["delta"]["good"]
                scrap += data["delta"]["scrap"]
                run_s = float(data["run_s"])
            elif kind == "material.consumed":
                consumed[data["material_id"]] += data["quantity"]
            elif kind == "stop.ended":
                stops.add(data["stop_id"])
            elif kind == "quality.result":
                results.append(event["id"])
            elif kind == "job.changed":
                states.add(data["state"])
        return Booked(
            good, scrap, dict(consumed), run_s, len(stops), tuple(sorted(results)), "Running" in states, "Ended" in states, tuple(times)
        )  # fmt: skip

    async def violations(self) -> list[str]:
        return self._violations

    # -- the server

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=4_000_000)
        app.router.add_get("/work-schedule", self._schedule)
        app.router.add_post("/work-performance", self._performance)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            yield
        finally:
            await runner.cleanup()

    async def _schedule(self, request: web.Request) -> web.StreamResponse:
        after = int(request.query.get("after", "0"))
        return web.json_response({"commands": self._commands[after:], "cursor": str(len(self._commands))})

    async def _performance(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        events = json.loads(body, parse_float=Decimal, parse_int=Decimal)["events"]
        key, sequences = request.headers["Idempotency-Key"], [int(event["sequence"]) for event in events]
        if key.split(";")[0] != events[-1]["id"] or sequences != sorted(set(sequences)):
            self._violations.append(f"{key}: {sequences}")
        if self._bodies.setdefault(key, body) != body:
            self._violations.append(f"{key}: other bytes than before")
        fault = self._fault if self._dice.random() < 0.5 else None
        if fault is Fault.ERROR:
            return web.Response(status=500, text="<html>")
        if fault is Fault.BUSY:
            return web.Response(status=429, headers={"Retry-After": "1"})
        if fault is Fault.LOCKED:
            return web.json_response({"error": "the order is locked"}, status=423)
        if fault is Fault.MEANINGLESS:
            return web.json_response({"result": {"type": "ir.actions.act_window"}})
        for event in events:
            self._events.setdefault(event["id"], event)
        answer = json.dumps({"acknowledged": sequences[-1], "epoch": events[-1]["epoch"]}).encode()
        if fault is Fault.SLOW:
            await asyncio.sleep(0.1)
        assert request.transport is not None
        if fault is Fault.DROPPED:
            request.transport.abort()
        if fault is Fault.HALF:
            reply = web.StreamResponse(headers={"Content-Length": str(len(answer))})
            await reply.prepare(request)
            await reply.write(answer[: len(answer) // 2])
            request.transport.close()
            return reply
        return web.Response(body=answer)


@asynccontextmanager
async def http() -> AsyncIterator[ErpUnderTest]:
    link = HttpLink()
    async with link.serving():
        yield link
