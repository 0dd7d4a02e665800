"""Cheap Modbus TCP devices for the bench: raw bytes, no library, so that they cost little beside what is measured.

Each device has 100 holding registers that all change with every request: register 0 counts one piece a request,
register 1 has bit 0 always set (running) and the rest counting, the others count from different starts.

    python -m tests.bench.plcs --devices 10      prints {"ports": [...]} and, for each line on stdin, {"requests": N, "registers": N}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
from collections.abc import Iterable
from functools import partial
from typing import Protocol

REGISTERS = 100
_HEADER = struct.Struct(">HHHB")
_REQUEST = struct.Struct(">BHH")


class Served:
    """Totals over all devices, so that the bench divides by what was really read."""

    requests = 0
    registers = 0


class Registers(Protocol):
    """One device's holding registers; all connections to it see the same ones."""

    size: int

    def read(self, address: int, count: int) -> bytes:
        """What an answer carries; all of it is there."""


class Device:
    def __init__(self, number: int) -> None:
        self.size = REGISTERS
        self._number = number
        self._count = 0

    def read(self, address: int, count: int) -> bytes:
        self._count += 1
        n = self._count
        values = [(n + self._number * 613 + address * 251) & 0xFFFF for address in range(REGISTERS)]
        values[0] = n & 0xFFFF
        values[1] = (n << 1 & 0xFFFF) | 1
        return struct.pack(f">{count}H", *values[address : address + count])


class Connection(asyncio.Protocol):
    def __init__(self, device: Registers, served: Served) -> None:
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
        if function != 3 or address + count > self._device.size:
            return _HEADER.pack(transaction, protocol, 3, unit) + bytes([function | 0x80, 1 if function != 3 else 2])
        self._served.requests += 1
        self._served.registers += count
        body = self._device.read(address, count)
        return _HEADER.pack(transaction, protocol, 3 + len(body), unit) + bytes([3, len(body)]) + body


async def serve(devices: Iterable[Registers]) -> None:
    """Tell their ports, then what was served whenever somebody asks, until standard input ends."""
    loop = asyncio.get_running_loop()
    served = Served()
    servers = [await loop.create_server(partial(Connection, device, served), "127.0.0.1", 0) for device in devices]
    print(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in servers]}), flush=True)
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while await stdin.readline():
        print(json.dumps({"requests": served.requests, "registers": served.registers}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=10)
    asyncio.run(serve([Device(number) for number in range(parser.parse_args().devices)]))


if __name__ == "__main__":
    main()
