"""A small ERP that speaks the HTTP exchange, with faults on request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler


@dataclass
class Erp:
    """Books events by id. `fault(method, count)` gives a prepared reply in place of the ERP's own, or "drop": done, but no reply."""

    token: str = "secret"
    """Bearer token that it knows; a request with another one is answered 401."""
    tls: ssl.SSLContext | None = None
    orders: list[dict[str, Any]] = field(default_factory=list)
    page: int = 2
    """Orders given per poll."""
    poison: set[int] = field(default_factory=set)
    """Sequences that are refused."""
    names_poison: bool = True
    most: int = 10_000
    """Events acknowledged of one batch."""
    fault: Callable[[str, int], web.Response | str | None] = lambda method, count: None
    options: web.Response | None = None
    """What OPTIONS is answered, in place of aiohttp's own 405 with its `Allow`."""
    hangs_up_on_options: bool = False
    booked: dict[str, dict[str, Any]] = field(default_factory=dict)
    posts: list[tuple[str, bytes]] = field(default_factory=list)
    polls: list[dict[str, str]] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    """Authorization headers that were refused."""
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0
    _requests: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/lineside" if self.tls else f"http://127.0.0.1:{self.port}/lineside"

    @property
    def sequences(self) -> list[int]:
        """In order of booking."""
        return [event["sequence"] for event in self.booked.values()]

    async def start(self) -> None:
        app = web.Application(client_max_size=4_000_000, middlewares=[self._known])
        app.router.add_get("/lineside/work-schedule", self._schedule)
        app.router.add_post("/lineside/work-performance", self._performance)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _known(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if request.method == "OPTIONS" and self.hangs_up_on_options:
            assert request.transport is not None
            request.transport.close()
        if request.method == "OPTIONS" and self.options is not None:
            return self.options
        if given == f"Bearer {self.token}":
            return await handler(request)
        self.strangers.append(given)
        return web.json_response({"error": "who are you"}, status=401)

    async def _schedule(self, request: web.Request) -> web.StreamResponse:
        self.polls.append(dict(request.query))
        after = int(request.query.get("after", 0))
        given = self.orders[after : after + self.page]
        return await self._reply(request, web.json_response({"commands": given, "cursor": str(after + len(given))}))

    async def _performance(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.posts.append((request.headers["Idempotency-Key"], body))
        events = (await request.json())["events"]
        refused = [event["id"] for event in events if event["sequence"] in self.poison]
        if refused:
            listed = {"rejected": [{"id": id_, "reason": "no such product"} for id_ in refused]} if self.names_poison else {"error": "bad"}
            return await self._reply(request, web.json_response(listed, status=422))
        reply = self.fault_now(request.method)
        if isinstance(reply, web.Response):
            return reply
        taken = events[: self.most]
        for event in taken:
            self.booked.setdefault(event["id"], event)
        answer = web.json_response({"acknowledged": taken[-1]["sequence"], "epoch": taken[-1]["epoch"]})
        return await self._send(request, answer, reply)

    def fault_now(self, method: str) -> web.Response | str | None:
        self._requests += 1
        return self.fault(method, self._requests)

    async def _reply(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        fault = self.fault_now(request.method)
        return fault if isinstance(fault, web.Response) else await self._send(request, answer, fault)

    async def _send(self, request: web.Request, answer: web.Response, fault: str | None) -> web.StreamResponse:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        if fault == "drop":
            assert request.transport is not None
            request.transport.close()
        return answer
