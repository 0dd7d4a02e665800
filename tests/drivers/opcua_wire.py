"""A TCP proxy that keeps what an OPC UA client sends, to show what it never said."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from simulators.loopback import HOST

GET_ENDPOINTS = 428
"""Numeric id of GetEndpointsRequest in the binary encoding (OPC 10000-6, Annex A)."""
CLOSE_S = 5.0
_NONE = b"http://opcfoundation.org/UA/SecurityPolicy#None"


@dataclass
class Recorded:
    """One connection, from the client."""

    data: bytearray = field(default_factory=bytearray)

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """(type, whole frame) of each message chunk (OPC 10000-6, 7.1.2)."""
        at = 0
        while at + 8 <= len(self.data):
            size = struct.unpack_from("<I", self.data, at + 4)[0]
            yield bytes(self.data[at : at + 3]), bytes(self.data[at : at + size])
            at += size

    @property
    def secured(self) -> bool:
        return any(kind == b"OPN" and _NONE not in frame for kind, frame in self.frames())

    def services(self) -> list[int]:
        """Request ids of the messages; -1 for one that is encrypted."""
        return [-1 if self.secured else int(struct.unpack_from("<H", frame, 26)[0]) for kind, frame in self.frames() if kind == b"MSG"]


class Wire:
    """Listens on a free port for the one behind it. `before_second`: done before the second connection goes through."""

    def __init__(self, target: int, *, before_second: Callable[[], Awaitable[None]] | None = None) -> None:
        self._target = target
        self._before_second = before_second
        self.connections: list[Recorded] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        # The client has hung up, so they end by themselves; cut in the moment of connecting they would leave a socket behind.
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def said(self) -> bytes:
        return b"".join(bytes(connection.data) for connection in self.connections)

    def services(self) -> list[int]:
        return [service for connection in self.connections for service in connection.services()]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._before_second is not None and len(self.connections) == 1:
            await self._before_second()
        kept = Recorded()
        self.connections.append(kept)
        sides = [writer]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection(HOST, self._target)
            sides.append(back)
            ways = [asyncio.create_task(_pump(reader, back, kept)), asyncio.create_task(_pump(there, writer, None))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        for side in sides:
            side.close()
        for side in sides:
            with contextlib.suppress(OSError):
                await side.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: Recorded | None) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            if kept is not None:
                kept.data += chunk
            writer.write(chunk)
            await writer.drain()
