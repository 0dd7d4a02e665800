"""Both wires carry the same request and give the same reply; what stands in between never becomes another request's reply."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable

import pytest
from pymodbus.client import AsyncModbusTcpClient

from drivers.modbus_wire import PymodbusWire, TcpWire, UnfitReply, Wire

READ = struct.pack(">BHH", 3, 5, 2)
REPLIES = {
    READ: b"\x03\x04\x00\x01\x00\x02",
    struct.pack(">BHH", 1, 0, 10): b"\x01\x02\xff\x03",
    struct.pack(">BHH", 4, 99, 1): b"\x84\x02",
    struct.pack(">BHH", 5, 3, 0xFF00): b"\x05\x00\x03\xff\x00",
    struct.pack(">BHH", 6, 3, 7): b"\x06\x00\x03\x00\x07",
    struct.pack(">BHHBHH", 16, 0, 2, 4, 0, 5): b"\x10\x00\x00\x00\x02",
}


class Device:
    """Answers by REPLIES, in pieces of `piece` bytes."""

    def __init__(self) -> None:
        self.piece = 1000
        self.early = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = REPLIES[await reader.readexactly(length - 1)]
                answer = self.early + struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu
                for start in range(0, len(answer), self.piece):
                    writer.write(answer[start : start + self.piece])
                    await asyncio.sleep(0.001)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    found = Device()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    await server.wait_closed()


WIRES: dict[str, Callable[[int], Wire]] = {
    "tcp": lambda port: TcpWire("127.0.0.1", port),
    "pymodbus": lambda port: PymodbusWire(AsyncModbusTcpClient("127.0.0.1", port=port, timeout=1, retries=0, reconnect_delay=0)),
}


@pytest.mark.parametrize("kind", WIRES)
async def test_a_wire_gives_the_reply_to_each_request(device: Device, kind: str) -> None:
    wire = WIRES[kind](device.port)
    assert not wire.is_open
    assert await wire.open()
    assert wire.is_open
    for request, reply in REPLIES.items():
        assert await wire.exchange(1, request) == reply
    wire.close()
    wire.close()
    assert not wire.is_open


async def test_a_reply_in_pieces_is_one_reply(device: Device) -> None:
    wire = TcpWire("127.0.0.1", device.port)
    await wire.open()
    for device.piece in (1, 3, 8):
        assert await wire.exchange(1, READ) == REPLIES[READ]
    wire.close()


async def test_an_old_reply_that_comes_late_is_not_the_next_ones(device: Device) -> None:
    wire = TcpWire("127.0.0.1", device.port)
    await wire.open()
    await wire.exchange(1, READ)
    device.early = struct.pack(">HHHB", 1, 0, 7, 1) + b"\x03\x04\x00\x63\x00\x63"
    with pytest.raises(UnfitReply, match="transaction 1 for 2"):
        await wire.exchange(1, READ)
    wire.close()


async def test_transactions_begin_anew_without_ever_being_0(device: Device) -> None:
    wire = TcpWire("127.0.0.1", device.port)
    await wire.open()
    wire._transaction = 0xFFFE
    for expected in (0xFFFF, 1, 2):
        await wire.exchange(1, READ)
        assert wire._transaction == expected
    wire.close()


async def test_a_connection_that_ends_is_told_at_once_to_who_waits() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    wire = TcpWire("127.0.0.1", server.sockets[0].getsockname()[1])
    await wire.open()
    async with asyncio.timeout(1):
        with pytest.raises(ConnectionResetError):
            await wire.exchange(1, READ)
    with pytest.raises(ConnectionResetError):
        await wire.exchange(1, READ)
    server.close()
    await server.wait_closed()
