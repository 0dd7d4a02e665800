"""Modbus TCP devices with very many holding registers: raw bytes, no library, so that they cost little beside what is measured.

In each reply every tenth register has counted up since it was read last; register 0 is among them, register 1 is always 1.

    python -m tests.scale.many_registers --devices 10 --registers 2000
prints {"ports": [...]} and, for each line on standard input, {"requests": N, "registers": N}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
from functools import partial

_HEADER = struct.Struct(">HHHB")
_REQUEST = struct.Struct(">BHH")
CHANGING = 10


class Served:
    """Totals over all devices."""

    requests = 0
    registers = 0


class Device:
    def __init__(self, registers: int) -> None:
        self.words = [number & 0xFFFF for number in range(registers)]

    def read(self, address: int, count: int) -> bytes:
        words = self.words
        for place in range(-(-address // CHANGING) * CHANGING, address + count, CHANGING):
            words[place] = words[place] + 1 & 0xFFFF
        return struct.pack(f">{count}H", *words[address : address + count])


class Connection(asyncio.Protocol):
    def __init__(self, device: Device, served: Served) -> None:
        self._device = device
        self._served = served
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 12:
            frame, self._buffer = self._buffer[:12], self._buffer[12:]
            self._transport.write(self._answer(frame))

    def _answer(self, frame: bytes) -> bytes:
        transaction, protocol, _, unit = _HEADER.unpack_from(frame)
        function, address, count = _REQUEST.unpack_from(frame, 7)
        if function != 3 or address + count > len(self._device.words):
            return _HEADER.pack(transaction, protocol, 3, unit) + bytes([function | 0x80, 2])
        self._served.requests += 1
        self._served.registers += count
        body = self._device.read(address, count)
        return _HEADER.pack(transaction, protocol, 3 + len(body), unit) + bytes([3, len(body)]) + body


async def serve(devices: int, registers: int) -> None:
    loop = asyncio.get_running_loop()
    served = Served()
    servers = [await loop.create_server(partial(Connection, Device(registers), served), "127.0.0.1", 0) for _ in range(devices)]
    print(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in servers]}), flush=True)
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while await stdin.readline():
        print(json.dumps({"requests": served.requests, "registers": served.registers}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.many_registers", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--registers", type=int, default=2000)
    given = parser.parse_args()
    asyncio.run(serve(given.devices, given.registers))


if __name__ == "__main__":
    main()
