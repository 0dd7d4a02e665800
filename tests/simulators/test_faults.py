from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from simulators.faults import Fault, FaultProxy, Kind


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    proxy = FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1])
    await proxy.start()
    yield proxy
    await proxy.stop()
    server.close()
    await server.wait_closed()


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes, timeout: float = 1.0) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(timeout):
            return await self.reader.read(1024)


@pytest.fixture
async def peer(proxy: FaultProxy) -> AsyncIterator[Peer]:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await peer.ask(b"hello") == b"hello"
    yield peer
    peer.writer.close()


async def test_latency_delays_each_way(proxy: FaultProxy, peer: Peer) -> None:
    await proxy.set(Fault(kind=Kind.LATENCY, delay_s=0.1))
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await peer.ask(b"x") == b"x"
    assert loop.time() - start >= 0.19


async def test_a_blackhole_swallows_nothing_for_good(proxy: FaultProxy, peer: Peer) -> None:
    await proxy.set(Fault(kind=Kind.BLACKHOLE))
    with pytest.raises(TimeoutError):
        await peer.ask(b"x", timeout=0.15)
    late = Peer(*await asyncio.open_connection("127.0.0.1", proxy.port))
    with pytest.raises(TimeoutError):
        await late.ask(b"y", timeout=0.15)
    await proxy.set(Fault())
    assert await peer.ask(b"") == b"x"
    assert await late.ask(b"") == b"y"
    late.writer.close()


async def test_reset_ends_open_and_new_connections_with_an_rst(proxy: FaultProxy, peer: Peer) -> None:
    await proxy.set(Fault(kind=Kind.RESET))
    with pytest.raises(ConnectionResetError):
        await peer.ask(b"x")
    try:
        late = Peer(*await asyncio.open_connection("127.0.0.1", proxy.port))
        got = await late.ask(b"x")
    except ConnectionError:
        got = b""
    assert got == b""
    await proxy.set(Fault())
    again = Peer(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await again.ask(b"x") == b"x"
    again.writer.close()


async def test_refuse_closes_the_port_until_the_fault_is_over(proxy: FaultProxy, peer: Peer) -> None:
    await proxy.set(Fault(kind=Kind.REFUSE))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.set(Fault())
    again = Peer(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await again.ask(b"x") == b"x"
    again.writer.close()


async def test_drip_passes_everything_byte_by_byte(proxy: FaultProxy, peer: Peer) -> None:
    await proxy.set(Fault(kind=Kind.DRIP, bytes_per_s=100))
    loop = asyncio.get_running_loop()
    start = loop.time()
    peer.writer.write(b"12345678")
    async with asyncio.timeout(10):
        assert await peer.reader.readexactly(8) == b"12345678"
    assert loop.time() - start >= 0.07


async def test_truncate_cuts_the_answer_and_the_connection(proxy: FaultProxy, peer: Peer) -> None:
    await proxy.set(Fault(kind=Kind.TRUNCATE, after_bytes=3))
    fresh = Peer(*await asyncio.open_connection("127.0.0.1", proxy.port))
    fresh.writer.write(b"0123456789")
    async with asyncio.timeout(10):
        assert await fresh.reader.read() == b"012"
    fresh.writer.close()


async def test_half_open_keeps_our_side_open_and_silent(proxy: FaultProxy, peer: Peer) -> None:
    await proxy.set(Fault(kind=Kind.HALF_OPEN))
    with pytest.raises(TimeoutError):
        await peer.ask(b"x", timeout=0.15)
    with pytest.raises(TimeoutError):
        await peer.ask(b"y", timeout=0.15)
    await proxy.set(Fault())
    async with asyncio.timeout(10):
        assert await peer.reader.read() == b"", "what was sent to a dead peer must be lost"


async def test_stop_leaves_no_connection_behind(proxy: FaultProxy, peer: Peer) -> None:
    assert proxy.open_connections == 1
    await proxy.stop()
    assert proxy.open_connections == 0
