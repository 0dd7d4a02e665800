"""What a browser, or anything else on the network, sends to the status page: from the first byte on."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from gateway.app.planner import Planner
from gateway.config import load
from gateway.domain.trace import Trace
from gateway.domain.work_center import LineRule, WorkCenter
from gateway.metrics import Metrics
from gateway.outbox.archive import Archive
from gateway.outbox.history import History
from gateway.outbox.lots import LotHistory
from gateway.status.server import StatusServer
from gateway.status.settings import Address
from tests.app.remembered import play, save, site
from tests.domain.post import Post
from tests.fuzz.engine import Call, Parser
from tests.manual_clock import ManualClock
from tests.outbox.test_lots import traced_site
from tests.status import fake_board

T = TypeVar("T")
HOST = "127.0.0.1:8080"
PATHS = (
    "/", "/orders?lang=fr", "/machines/press-07?part=kpi&part=stops", "/links", "/journal", "/about", "/board",
    "/report/press-07/last?lang=en",
    "/report/press-07/2026-11-24-morning", "/trace/LOT-1", "/api/trace/LOT-1", "/api/status", "/api/machines/press-07", "/api/orders",
    "/api/availability?product=CAPOT12&quantity=250", "/api/whatif?first=A&priority=B:9", "/api/windows/press-07?kind=hour&limit=5",
    "/api/windows/line-3/_line?from=2026-11-24T00:00:00Z&to=2026-11-25T00:00:00%2B01:00", "/api/stops/press-07?from=2026-11-24T05:00:00Z",
    "/api/stream", "/api/readings", "/metrics", "/healthz", "/readyz", "/static/board.css", "/static/../server.py",
)  # fmt: skip
HEADERS = "Host: 127.0.0.1:8080\r\nAccept-Language: fr-CH, fr;q=0.9, en;q=0.8, *;q=0.5\r\n"
REQUESTS = (
    *(f"GET {path} HTTP/1.1\r\n{HEADERS}\r\n".encode() for path in PATHS),
    b"HEAD / HTTP/1.0\r\nHost: localhost\r\n\r\n",
    b"POST /api/orders HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\nGET /api/status HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nExpect: 100-continue\r\n\r\n",
)
WORDS = (
    b"\r\n",
    b"\r\n\r\n",
    b"%00",
    b"%2e%2e/",
    b"%f",
    b"%ff",
    b"?",
    b"&",
    b"HTTP/1.1",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 9\r\n",
    b"q=",
)
_ROUNDS = 40
"""Of the event loop, in which a page must be there: nothing that is asked here waits for anybody."""


class _Client(asyncio.Transport):
    """The other end: keeps what the server says."""

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()
        self._closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 8080), "peername": ("127.0.0.1", 50000)}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += data

    def writelines(self, list_of_data: Any) -> None:
        self.said += b"".join(list_of_data)

    def close(self) -> None:
        self._closed = True

    abort = close

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0


class _Faults(logging.Handler):
    """What the server could not deal with stands in its log, or in the loop's."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = record.exc_info[1] if record.exc_info else None
        self.errors.append(found or RuntimeError(record.getMessage()))

    def in_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))


def _server(folder: Path, stack: ExitStack) -> StatusServer:
    """With a past, orders that can be asked about, and lots."""
    plant, lots = folder / "plant", folder / "lots"
    for each in (plant, lots):
        each.mkdir()
    config = load(site(plant))
    tracker, center = play(config, "press-07"), WorkCenter("line-3", config.work_units, LineRule(kpi_from="press-07"))
    save(plant / "state", tracker, center=center)
    history = stack.enter_context(closing(History.open(plant / "state")))
    traced_site(lots)
    known = stack.enter_context(closing(LotHistory.open(lots)))

    async def ask(question: Callable[[History], T]) -> T:
        return question(history)

    async def find(name: str) -> Trace:
        return known.trace(name)

    press = Post()
    for name in "RAB":
        press.order(0, "StoreAndStart", name, quantity=Decimal(50), product_id="CAPOT12")
    return StatusServer(
        Address("127.0.0.1", 8080), fake_board.board, Metrics(), ManualClock(fake_board.NOW),
        archive=Archive(config.work_units, {"press-07": tracker}, ask, [center]),
        planner=Planner({"press-07": press.tracker, "packer-02": Post().begin(0).tracker}, "Europe/Paris"), trace=find,
    )  # fmt: skip


async def _ask(runner: web.AppRunner, faults: _Faults, data: bytes) -> None:
    assert runner.server is not None
    protocol, client = runner.server(), _Client()
    protocol.connection_made(client)
    half = len(data) // 2
    for part in (data[:half], data[half:]):
        if part and not client.is_closing():
            protocol.data_received(part)
            await asyncio.sleep(0)
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    if faults.errors:
        raise faults.errors.pop()
    if re.match(rb"HTTP/1\.[01] 503 ", client.said) and (b"stream" in data or b"readings" in data):
        # A listener that went away keeps its seat until the next beat, and there are few.
        return
    assert not client.said or re.match(rb"HTTP/[01]\.\d+ [1-4]\d\d ", client.said), bytes(client.said[:80])


@contextmanager
def http(folder: Path) -> Iterator[Call]:
    faults = _Faults()
    loggers = [logging.getLogger(name) for name in ("aiohttp", "asyncio", "lineside")]
    with ExitStack() as stack:
        runner_of_loop = stack.enter_context(asyncio.Runner())
        loop = runner_of_loop.get_loop()
        loop.set_exception_handler(faults.in_loop)
        for logger in loggers:
            logger.addHandler(faults)
            stack.callback(logger.removeHandler, faults)

        runner = runner_of_loop.run(_server(folder, stack).set_up())
        try:
            yield lambda data: runner_of_loop.run(_ask(runner, faults, data))
        finally:
            faults.errors.clear()
            runner_of_loop.run(runner.cleanup())


PARSERS = (Parser("http", REQUESTS, http, WORDS),)
