"""A service manager's end of NOTIFY_SOCKET: what the daemon tells systemd, with the time at which it came."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path


class Manager(asyncio.DatagramProtocol):
    """`heard`: (monotonic seconds, line) of every line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.heard: list[tuple[float, str]] = []
        self._news = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self) -> None:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        peer.bind(str(self.path))
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=peer)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: object) -> None:
        now = time.monotonic()
        self.heard += [(now, line) for line in data.decode().splitlines()]
        self._news.set()

    def times(self, line: str) -> list[float]:
        """When it came."""
        return [at for at, said in self.heard if said == line]

    async def until(self, line: str, count: int, limit_s: float = 60.0) -> None:
        """Wait until it has come so often. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while len(self.times(line)) < count:
                self._news.clear()
                await self._news.wait()
