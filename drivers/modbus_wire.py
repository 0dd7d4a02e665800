"""What carries a Modbus request to a device and its reply back: TCP by a protocol of our own, a serial line by pymodbus.

TCP is the hot path: pymodbus spends on one request three times what is needed, and checks less of its reply. Neither repeats a request
or connects anew: after any error the wire is closed and the supervisor has a fresh one made.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import DecodePDU

# The library logs every failed try: here an outage is told once, by whoever keeps the link alive.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

_HEADER = struct.Struct(">HHHB")
"""MBAP: transaction, protocol, length of what follows it (unit included), unit."""
_LENGTHS = range(3, 255)
"""Unit, function and at least one byte; the largest PDU has 253 (Modbus application protocol v1.1b3, 4.1)."""


class UnfitReply(Exception):
    """A reply that does not belong to its request, in words for the expert."""


class Wire(Protocol):
    """One connection, one request at a time."""

    @property
    def is_open(self) -> bool: ...

    async def open(self) -> bool:
        """False or OSError: nobody there. The caller bounds the time."""

    async def exchange(self, unit: int, pdu: bytes) -> bytes:
        """Send a request once; the PDU of its reply. The caller bounds the time.

        Raises UnfitReply, TimeoutError, or OSError when the connection is gone.
        """

    def close(self) -> None:
        """Never raises, safe to call twice."""


class TcpWire(asyncio.Protocol):
    """Modbus TCP (Modbus messaging on TCP/IP implementation guide v1.0b)."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._buffer = b""
        self._transaction = 0
        self._unit = 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def open(self) -> bool:
        await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)
        return True

    async def exchange(self, unit: int, pdu: bytes) -> bytes:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("connection lost")
        self._transaction = self._transaction % 0xFFFF + 1
        self._unit, self._buffer = unit, b""
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        transport.write(_HEADER.pack(self._transaction, 0, len(pdu) + 1, unit) + pdu)
        try:
            return await waiting
        finally:
            self._waiting = None

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # -- from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            # Nobody asked: what belongs to an earlier request is never taken for the next one's.
            return
        reply = self._buffer = self._buffer + data if self._buffer else data
        if len(reply) < _HEADER.size:
            return
        transaction, protocol, length, unit = _HEADER.unpack_from(reply)
        if transaction != self._transaction:
            waiting.set_exception(UnfitReply(f"transaction {transaction} for {self._transaction}"))
        elif protocol or length not in _LENGTHS:
            waiting.set_exception(UnfitReply(f"protocol {protocol}, length {length}"))
        elif self._unit and unit != self._unit:
            waiting.set_exception(UnfitReply(f"unit {unit} for {self._unit}"))
        elif len(reply) >= length + 6:
            waiting.set_result(reply[7 : length + 6])

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("connection lost"))


class PymodbusWire:
    """Through a client of pymodbus, whose own retries and reconnect are off."""

    _decoder = DecodePDU(is_server=True)

    def __init__(self, client: AsyncModbusSerialClient | AsyncModbusTcpClient) -> None:
        self._client = client

    @classmethod
    def serial(cls, url: SplitResult, timeout: float) -> PymodbusWire:
        """`rtu:///dev/ttyUSB0?baudrate=19200&parity=E`. Raises RuntimeError where pyserial is not installed."""
        options = dict(parse_qsl(url.query))
        client = AsyncModbusSerialClient(
            url.path,
            baudrate=int(options.get("baudrate", "19200")),
            parity=options.get("parity", "E"),
            stopbits=int(options.get("stopbits", "1")),
            bytesize=int(options.get("bytesize", "8")),
            timeout=timeout,
            retries=0,
            reconnect_delay=0,
        )
        return cls(client)

    @property
    def is_open(self) -> bool:
        return bool(self._client.connected)

    async def open(self) -> bool:
        return bool(await self._client.connect())

    async def exchange(self, unit: int, pdu: bytes) -> bytes:
        request = self._decoder.decode(pdu)
        assert request is not None, f"no Modbus request: {pdu.hex()}"
        request.dev_id = unit
        try:
            reply = await self._client.execute(False, request)
        except ModbusException as error:
            raise TimeoutError(str(error)) from error
        if unit and reply.dev_id != unit:
            raise UnfitReply(f"unit {reply.dev_id} for {unit}")
        return bytes([reply.function_code]) + bytes(reply.encode())

    def close(self) -> None:
        self._client.close()
