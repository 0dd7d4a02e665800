"""A Modbus TCP gateway written by hand, with any number of units behind it, each as good as the test wants it."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.modbus import ModbusDriver
from drivers.modbus_settings import ModbusSettings
from gateway.clock import SystemClock


class Gateway:
    """Holding register N of unit U reads 1000 * U + N. `dead`: units that stay silent; `refused`: unit -> exception code;
    `slow_s`: unit -> seconds to an answer; while `gate` is not set nobody is answered.
    """

    def __init__(self) -> None:
        self.dead: set[int] = set()
        self.refused: dict[int, int] = {}
        self.slow_s: dict[int, float] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[tuple[int, int, int]] = []
        """(unit, function, address) of each request, as it came."""
        self.count: Counter[int] = Counter()
        self.at: defaultdict[int, list[float]] = defaultdict(list)
        self.connections = self.under_way = self.most_under_way = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                header = await reader.readexactly(7)
                tid, _, length, unit = struct.unpack(">HHHB", header)
                request = await reader.readexactly(length - 1)
                await self._answer(writer, tid, unit, request)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, tid: int, unit: int, request: bytes) -> None:
        function, address, count = struct.unpack(">BHH", request[:5])
        self.asked.append((unit, function, address))
        self.count[unit] += 1
        self.at[unit].append(asyncio.get_running_loop().time())
        if unit in self.dead:
            return
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.slow_s.get(unit, 0))
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if unit in self.refused:
            pdu = bytes([function | 0x80, self.refused[unit]])
        elif function in (1, 2):
            pdu = bytes([function, (count + 7) // 8]) + bytes((count + 7) // 8)
        elif function in (3, 4):
            pdu = struct.pack(f">BB{count}H", function, 2 * count, *(1000 * unit + address + i for i in range(count)))
        else:
            pdu = request[:5]
        writer.write(struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu)

    @property
    def open(self) -> int:
        return len(self._writers)

    def hang_up(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Gateway]:
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", gateway.port)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield gateway
    finally:
        server.close()
        gateway.hang_up()
        await server.wait_closed()


def device(
    url: str, unit: int = 1, *, registers: int = 1, name: str = "", clock: SystemClock | None = None, **more: object
) -> ModbusDriver:
    """A driver for tags r0, r200, r400 ... : as many requests as `registers`."""
    tags = {f"r{200 * i}": {"holding": 200 * i, "writable": True} for i in range(registers)} | {"c0": {"coil": 0, "writable": True}}
    settings = ModbusSettings.model_validate(
        {"driver": "modbus", "url": url, "unit_id": unit, "timeout": 0.3, "interval": 0.05, "tags": tags} | more
    )
    return ModbusDriver(settings, clock or SystemClock(), name=name or f"unit-{unit}", secrets=lambda secret: "")
