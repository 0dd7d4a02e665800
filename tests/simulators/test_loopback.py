from __future__ import annotations

import asyncio
import socket

import pytest

from simulators.loopback import HOST, free_port


async def test_a_port_is_kept_from_others_and_its_server_may_come_back() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
    for _ in range(2):
        async with await asyncio.start_server(lambda _, writer: writer.close(), HOST, port):
            reader, writer = await asyncio.open_connection(HOST, port)
            assert await reader.read() == b""
            writer.close()
