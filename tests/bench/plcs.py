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
from functools import partial

REGISTERS = 100
_HEADER = struct.Struct(">HHHB")
_REQUEST = struct.Struct(">BHH")


class Served:
    """Totals over all devices, so that the bench divides by what was really read."""

    requests = 0
    registers = 0


class Device:
    """One device's registers; all connections to it see the same ones."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._count = 0

    def registers(self) -> list[int]:
        self._count += 1
        n = self._count
        values = [(n + self._number * 613 + address * 251) & 0xFFFF for address in range(REGISTERS)]
        values[0] = n & 0xFFFF
        values[1] = (n << 1 & 0xFFFF) | 1
        return values


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
        if function != 3 or address + count > REGISTERS:
            return _HEADER.pack(transaction, protocol, 3, unit) + bytes([function | 0x80, 1 if function != 3 else 2])
        self._served.requests += 1
        self._served.registers += count
        body = struct.pack(f">{count}H", *self._device.registers()[address : address + count])
        return _HEADER.pack(transaction, protocol, 3 + len(body), unit) + bytes([3, len(body)]) + body


async def serve(devices: int) -> None:
    loop = asyncio.get_running_loop()
    served = Served()
    servers = []
    for number in range(devices):
        device = Device(number)
        servers.append(await loop.create_server(partial(Connection, device, served), "127.0.0.1", 0))
    print(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in servers]}), flush=True)
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while await stdin.readline():  # ends when the bench closes its end
        print(json.dumps({"requests": served.requests, "registers": served.registers}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=10)
    asyncio.run(serve(parser.parse_args().devices))


if __name__ == "__main__":
    main()
