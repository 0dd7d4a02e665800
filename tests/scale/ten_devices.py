"""Ten Modbus TCP devices that write down when they are asked, of which three can be told to misbehave.

python -m tests.scale.ten_devices             prints {"ports": [...]}, then obeys a line of JSON at a time:
{"disturbed": true}   the last three are dead (connected, no answer), slow (3 s) and flapping (reset every half second); false: healthy
{"ask": "arrivals"}   answers with one list a device: the monotonic seconds of each request since it was asked last
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import sys
import time

DEVICES = 10
DEAD, SLOW, FLAPPING = 7, 8, 9
SLOW_S = 3.0
FLAP_S = 0.5
REGISTERS = 20
LINE_S = 0.02
PATIENCE_S = 0.3
_HEADER = struct.Struct(">HHHB")
_REQUEST = struct.Struct(">BHH")


class Device:
    def __init__(self, number: int) -> None:
        self.number = number
        self.disturbed = False
        self.arrivals: list[float] = []
        self.connections: set[asyncio.StreamWriter] = set()
        self._count = itertools.count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while True:
                tid, _, length, unit = _HEADER.unpack(await reader.readexactly(7))
                request = await reader.readexactly(length - 1)
                self.arrivals.append(time.monotonic())
                if self.disturbed and self.number == DEAD:
                    continue
                if self.disturbed and self.number == SLOW:
                    await asyncio.sleep(SLOW_S)
                writer.write(self.answer(tid, unit, request))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    def answer(self, tid: int, unit: int, request: bytes) -> bytes:
        function, address, count = _REQUEST.unpack(request)
        if function != 3 or address + count > REGISTERS:
            return _HEADER.pack(tid, 0, 3, unit) + bytes([function | 0x80, 2])
        registers = [next(self._count) & 0xFFFF, *range(1, REGISTERS)]
        body = struct.pack(f">{count}H", *registers[address : address + count])
        return _HEADER.pack(tid, 0, 3 + len(body), unit) + bytes([function, len(body)]) + body

    async def flap(self) -> None:
        while True:
            await asyncio.sleep(FLAP_S)
            if self.disturbed:
                for writer in list(self.connections):
                    writer.transport.abort()


class Gateway:
    """One serial line behind one TCP port."""

    def __init__(self, units: list[Device]) -> None:
        self._units = units
        self._line = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                tid, _, length, number = _HEADER.unpack(await reader.readexactly(7))
                request = await reader.readexactly(length - 1)
                unit = self._units[number - 1]
                unit.arrivals.append(time.monotonic())
                async with self._line:
                    writer.write(await self._ask(unit, tid, number, request))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _ask(self, unit: Device, tid: int, number: int, request: bytes) -> bytes:
        silent = unit.disturbed and (unit.number != FLAPPING or time.monotonic() % (2 * FLAP_S) < FLAP_S)
        await asyncio.sleep(PATIENCE_S if silent else LINE_S)
        return _HEADER.pack(tid, 0, 3, number) + bytes([request[0] | 0x80, 0x0B]) if silent else unit.answer(tid, number, request)


def obey(order: dict[str, object], devices: list[Device]) -> object:
    if "disturbed" in order:
        for device in devices[DEAD:]:
            device.disturbed = bool(order["disturbed"])
        return {}
    found = [device.arrivals for device in devices]
    for device in devices:
        device.arrivals = []
    return found


async def main(*, gateway: bool) -> None:
    devices = [Device(number) for number in range(DEVICES)]
    serving = [Gateway(devices).serve] if gateway else [device.serve for device in devices]
    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in serving]
    print(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in servers]}), flush=True)
    flapping = asyncio.create_task(devices[FLAPPING].flap(), name="flapping")
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        print(json.dumps(obey(json.loads(line), devices)), flush=True)
    flapping.cancel()


if __name__ == "__main__":
    asyncio.run(main(gateway="--gateway" in sys.argv))
