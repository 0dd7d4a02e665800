"""A real server on a free loopback port, asked by raw sockets where a client library would be too polite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson

from gateway.metrics import Metrics
from gateway.status.board import Board
from gateway.status.report import Archive
from gateway.status.server import StatusServer
from gateway.status.settings import Address
from gateway.status.trace_routes import Find
from gateway.status.whatif import Planner
from tests.manual_clock import ManualClock
from tests.status import fake_board


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> object:
        return orjson.loads(self.body)


@dataclass
class Served:
    """The server and what it shows; `show` replaces the board."""

    server: StatusServer
    clock: ManualClock
    metrics: Metrics
    boards: list[Board | None]
    streams: list[asyncio.StreamWriter] = field(default_factory=list)

    def show(self, board: Board | None) -> None:
        self.boards[:] = [board]

    @property
    def host(self) -> str:
        return str(self.server.address)

    async def ask(self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, host: str | None = "") -> Answer:
        """`host` "": the right one; None: no Host header at all."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.address.port)
        lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
        if host is not None:
            lines.append(f"Host: {host or self.host}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode(errors="surrogateescape"))
        raw = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return Answer(int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}, body)

    async def stream(self) -> asyncio.StreamReader:
        """An open event stream, behind its head, which is as guarded as that of a page."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.address.port)
        self.streams.append(writer)
        writer.write(f"GET /api/stream HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b"Content-Security-Policy: default-src 'none'" in head
        assert b"X-Content-Type-Options: nosniff" in head
        return reader


@asynccontextmanager
async def serving(
    board: Callable[[], Board | None] = fake_board.board, archive: Archive | None = None, planner: Planner | None = None,
    trace: Find | None = None,
) -> AsyncIterator[Served]:  # fmt: skip
    boards: list[Board | None] = [board()]
    clock, metrics = ManualClock(fake_board.NOW), Metrics()
    server = StatusServer(Address("127.0.0.1", 0), lambda: boards[0], metrics, clock, archive=archive, planner=planner, trace=trace)
    await server.start()
    served = Served(server, clock, metrics, boards)
    running = asyncio.create_task(server.run())
    try:
        yield served
    finally:
        for writer in served.streams:
            writer.close()
        running.cancel()
        await server.stop()
