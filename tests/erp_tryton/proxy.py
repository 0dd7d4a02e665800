"""What stands between the gateway and Tryton in the tests, and loses answers there: after the server has done what it was asked."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from simulators.loopback import HOST, free_port

_CHANGES_NOTHING = (".read", ".search_read", ".get_preferences", ".get_access", "common.")
_ERRORS = {
    "locked": {"error": ["ConcurrencyException", "Records were modified in the meanwhile"]},
    "busy": {"error": ["database is locked", "Traceback"]},
}


class TrytonProxy:
    """`fault`: dropped, half, error, too_many, locked, busy, meaningless, slow, None; on about half of the calls, of all or of those
    that change something. `refuse(production)`: words of a business refusal for the order that was read last, None to let it pass."""

    def __init__(self, url: str, *, seed: int = 1, reads_too: bool = False) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.fault: str | None = None
        self.refuse: Callable[[int], str | None] = lambda production: None
        self.calls = 0
        self.lost = 0
        self._to = url
        self._chance = random.Random(seed)
        self._reads_too = reads_too
        self._production = 0
        self._http: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._http is not None:
            await self._http.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = json.loads(body)
        self.calls += 1
        changes = not any(part in asked["method"] for part in _CHANGES_NOTHING)
        if asked["method"] == "model.production.search_read" and asked["params"][0][0][:2] == ["id", "="]:
            self._production = asked["params"][0][0][2]
        if changes and (words := self.refuse(self._production)) is not None:
            return _answer(asked, {"error": ["UserError", [words, "", None]]})
        hit = self.fault is not None and (changes or self._reads_too) and self._chance.random() < 0.5
        if not hit:
            return await self._forward(request, body)
        self.lost += 1
        return await self._spoil(str(self.fault), request, body, asked)

    async def _spoil(self, fault: str, request: web.Request, body: bytes, asked: dict[str, Any]) -> web.StreamResponse:
        if fault == "error":
            return web.Response(status=500, text="Internal Server Error")
        if fault == "too_many":
            return web.Response(status=429, headers={"Retry-After": "0"})
        if fault == "meaningless":
            return web.Response(text="<html>maintenance</html>", content_type="text/html")
        if fault in _ERRORS:
            return _answer(asked, _ERRORS[fault])
        if fault == "slow":
            await asyncio.sleep(0.1)
            return await self._forward(request, body)
        reply = await self._forward(request, body)
        assert isinstance(reply, web.Response)
        if request.transport is None:
            return reply  # The gateway was killed meanwhile.
        if fault == "half":
            payload = bytes(reply.body or b"")  # type: ignore[arg-type]
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            request.transport.write(head.encode() + payload[: len(payload) // 2])
            await asyncio.sleep(0)
            request.transport.close()
        else:
            request.transport.abort()
        return reply

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        assert self._http is not None
        headers = {name: request.headers[name] for name in ("Content-Type", "Authorization") if name in request.headers}
        async with self._http.post(f"{self._to}{request.rel_url}", data=body, headers=headers) as reply:
            return web.Response(status=reply.status, body=await reply.read(), content_type=reply.content_type)


def _answer(asked: dict[str, Any], content: dict[str, Any]) -> web.Response:
    return web.json_response({"id": asked["id"], **content})
