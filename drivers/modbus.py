"""Modbus TCP (and RTU where pyserial is installed): block reads over one connection, every reply checked before it is believed.

pymodbus is used for framing only; its retries and its reconnect are off. After a timeout or a reply that does not fit its request the
socket is closed, because a late reply would shift all later ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from drivers import remedies
from drivers.base import Clock, Quality, Reading, TagError, Value
from drivers.modbus_codec import BIT_TABLES, Block, encode, plan, split
from drivers.modbus_settings import FUNCTIONS, ModbusSettings
from drivers.settings import Secret

# The library logs every failed try: here an outage is told once, by whoever keeps the link alive.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

EXCEPTIONS = {
    1: "IllegalFunction", 2: "IllegalDataAddress", 3: "IllegalDataValue", 4: "ServerDeviceFailure", 5: "Acknowledge",
    6: "ServerDeviceBusy", 7: "NegativeAcknowledge", 8: "MemoryParityError", 10: "GatewayPathUnavailable",
    11: "GatewayTargetDeviceFailedToRespond",
}  # fmt: skip
"""Names of the Modbus application protocol specification v1.1b3, chapter 7."""

# These say "this request never works here"; the others (busy, gateway path) pass by themselves.
REFUSALS = frozenset({1, 2, 3})
# A refused register is asked again this often: someone may load the missing program block meanwhile.
REFUSED_RETRY_S = 30.0


class ModbusDriver:
    """Satisfies `drivers.base.Driver`, `Paced` and `Refusing`."""

    recorded: ClassVar[bool] = False

    def __init__(
        self, settings: ModbusSettings, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._points = {tag: found.point(tag) for tag, found in settings.tags.items()}
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._tags: tuple[str, ...] = ()
        self._blocks: list[tuple[Block, tuple[int, ...]]] = []
        self._refused: dict[str, str] = {}
        self._retry_refused_at = 0.0
        self._received_at: datetime | None = None
        self._reading = asyncio.Lock()

    @property
    def refused(self) -> Mapping[str, str]:
        return self._refused

    def read_limit_s(self, tags: Sequence[str]) -> float:
        # One request a block, and some more while a refused block is being split.
        return (len(self._blocks) + len(tags)) * self._settings.timeout

    async def connect(self) -> None:
        peer = self._settings.peer
        client = self._open()
        self._client = client
        try:
            async with self._clock.timeout(2 * self._settings.timeout):
                connected = await client.connect()
        except TimeoutError:
            connected = False
        except OSError as error:
            await self.close()
            raise remedies.unreachable(peer, str(error)) from error
        if not connected:
            await self.close()
            raise remedies.unreachable(peer, f"nobody accepted within {self._settings.timeout:g} s")

    def _open(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        url = urlsplit(self._settings.url)
        timeout = self._settings.timeout
        if url.scheme == "tcp":
            return AsyncModbusTcpClient(
                url.hostname or "", port=url.port or 502, timeout=timeout, retries=0, reconnect_delay=0, trace_connect=self._on_connect
            )
        options = dict(parse_qsl(url.query))
        try:
            return AsyncModbusSerialClient(
                url.path,
                baudrate=int(options.get("baudrate", "19200")),
                parity=options.get("parity", "E"),
                stopbits=int(options.get("stopbits", "1")),
                bytesize=int(options.get("bytesize", "8")),
                timeout=timeout, retries=0, reconnect_delay=0, trace_connect=self._on_connect,
            )  # fmt: skip
        except RuntimeError as error:
            raise remedies.misconfigured(
                self._settings.peer,
                str(error),
                fr="Le PC de ligne n'a pas le pilote série : installer le paquet Python pyserial.",
                en="The line PC lacks the serial driver: install the Python package pyserial.",
            ) from error

    def _on_connect(self, connected: bool) -> None:
        # pymodbus lets a request wait for its timeout after the connection is gone: tell it at once.
        waiting = self._client.ctx.response_future if self._client is not None else None
        if not connected and waiting is not None and not waiting.done():
            waiting.set_exception(ConnectionResetError("connection lost"))
            waiting.exception()  # between two requests nobody waits for it: not worth a warning

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        # A value that was written is read back between two polls: the plan of requests and their time belong to one read.
        async with self._reading:
            return await self._read_all(tuple(tags))

    async def _read_all(self, wanted: tuple[str, ...]) -> Sequence[Reading]:
        if wanted != self._tags:
            self._compile(wanted)
        now = self._clock.monotonic()
        ask_refused = now >= self._retry_refused_at
        if ask_refused:
            self._retry_refused_at = now + REFUSED_RETRY_S
        # All readings of one poll carry one time, that of its first reply: together they are one look at the machine.
        self._received_at = None
        readings: list[Reading | None] = [None] * len(wanted)
        pending = self._blocks[::-1]
        kept: list[tuple[Block, tuple[int, ...]]] = []
        while pending:
            block, places = pending.pop()
            known = "" if ask_refused else self._refused.get(block.points[0].tag, "")
            code = 0 if known else await self._read_block(block, places, readings)
            parts = split(block) if code in (2, 3) else []
            if parts:
                # Only the guilty register shall be bad: the smaller requests are kept for the life of this connection.
                by_tag = dict(zip((point.tag for point in block.points), places, strict=True))
                pending += [(part, tuple(by_tag[point.tag] for point in part.points)) for part in reversed(parts)]
                continue
            kept.append((block, places))
            if code or known:
                self._mark_bad(block, places, readings, known or _exception_name(code), lasting=bool(known) or code in REFUSALS)
        self._blocks = kept
        return [reading for reading in readings if reading is not None]

    def _mark_bad(self, block: Block, places: tuple[int, ...], readings: list[Reading | None], detail: str, *, lasting: bool) -> None:
        received_at = self._received_at or self._clock.now()
        for point, place in zip(block.points, places, strict=True):
            readings[place] = Reading(point.tag, None, Quality.BAD, None, received_at, detail)
            if lasting:
                self._refused[point.tag] = detail
            else:
                self._refused.pop(point.tag, None)

    def _compile(self, tags: tuple[str, ...]) -> None:
        place = {tag: position for position, tag in enumerate(tags)}
        self._blocks = [(block, tuple(place[p.tag] for p in block.points)) for block in plan(self._points[tag] for tag in place)]
        self._tags = tags

    async def _read_block(self, block: Block, places: tuple[int, ...], readings: list[Reading | None]) -> int:
        """One request. Fills `readings` and returns 0, or returns the exception code the device answered."""
        reply = await self._request(FUNCTIONS[block.table], block.address, block.count)
        received_at = self._received_at = self._received_at or self._clock.now()
        if reply.isError():
            return _exception_code(reply)
        data: Sequence[int]
        if block.table in BIT_TABLES:
            data = reply.bits
            # A reply carries whole bytes.
            if len(data) != (block.count + 7) // 8 * 8:
                await self._distrust(f"{len(data)} bits for {block.count}")
            data = data[: block.count]
        else:
            data = reply.registers
            if len(data) != block.count:
                await self._distrust(f"{len(data)} registers for {block.count}")
        values, faults = block.decode(data)
        made = map(Reading._make, zip(block.tags, values, repeat(Quality.GOOD), repeat(None), repeat(received_at), repeat("")))
        for place, reading in zip(places, made, strict=True):
            readings[place] = reading
        for position, detail in faults.items():
            readings[places[position]] = Reading(block.tags[position], None, Quality.BAD, None, received_at, detail)
        if self._refused:
            for tag in block.tags:
                self._refused.pop(tag, None)
        return 0

    async def _request(self, function: int, address: int, count: int = 0, values: Sequence[int] | None = None) -> ModbusPDU:
        """One request, sent once, and its reply after all checks that hold for any. Raises LinkError."""
        client = self._client
        if client is None or not client.connected:
            raise remedies.dropped(self._settings.peer, "connection lost")
        unit = self._settings.unit_id
        try:
            async with self._clock.timeout(self._settings.timeout * 1.2):
                if values is not None:
                    reply = await _write(client, function, address, values, unit)
                else:
                    reply = await _read(client, function, address, count, unit)
        except (TimeoutError, ModbusException) as error:
            await self.close()
            raise remedies.unanswered(self._settings.peer, f"function {function} at {address}, {error or 'timeout'}") from error
        except OSError as error:
            await self.close()
            raise remedies.dropped(self._settings.peer, str(error)) from error
        sent = client.ctx.request_transaction_id
        if reply.transaction_id != sent:
            await self._distrust(f"transaction {reply.transaction_id} for {sent}")
        if unit and reply.dev_id != unit:
            await self._distrust(f"unit {reply.dev_id} for {unit}")
        if reply.function_code & 0x7F != function:
            await self._distrust(f"function {reply.function_code} for {function}")
        return reply

    async def _distrust(self, problem: str) -> None:
        await self.close()
        raise remedies.untrustworthy(self._settings.peer, problem)

    async def write(self, tag: str, value: Value) -> None:
        found = self._settings.tags.get(tag)
        if found is None or not found.writable:
            raise TagError(f"tag {tag} is not writable")
        point = self._points[tag]
        if point.table == "coil":
            function, values = 5, [int(bool(value) is not point.invert)]
        else:
            try:
                values = encode(point, value)
            except ValueError as error:
                raise TagError(f"tag {tag}: {error}") from error
            function = 6 if len(values) == 1 else 16
        reply = await self._request(function, point.address, values=values)
        if reply.isError():
            raise TagError(f"tag {tag}: the device answered {_exception_name(_exception_code(reply))}")
        echoed = {5: [int(bit) for bit in reply.bits[:1]], 6: reply.registers}.get(function, values)
        if reply.address != point.address or echoed != values:
            await self._distrust(f"wrote {echoed} at {reply.address} instead of {values} at {point.address}")

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _exception_code(reply: ModbusPDU) -> int:
    # A code of 0 does not exist: an exception it is nevertheless.
    return int(reply.exception_code) or 4


def _exception_name(code: int) -> str:
    return f"{EXCEPTIONS.get(code, 'exception')} ({code})"


async def _read(client: AsyncModbusTcpClient | AsyncModbusSerialClient, function: int, address: int, count: int, unit: int) -> ModbusPDU:
    match function:
        case 1:
            return await client.read_coils(address, count=count, device_id=unit)
        case 2:
            return await client.read_discrete_inputs(address, count=count, device_id=unit)
        case 3:
            return await client.read_holding_registers(address, count=count, device_id=unit)
        case _:
            return await client.read_input_registers(address, count=count, device_id=unit)


async def _write(
    client: AsyncModbusTcpClient | AsyncModbusSerialClient, function: int, address: int, values: Sequence[int], unit: int
) -> ModbusPDU:
    match function:
        case 5:
            return await client.write_coil(address, bool(values[0]), device_id=unit)
        case 6:
            return await client.write_register(address, values[0], device_id=unit)
        case _:
            return await client.write_registers(address, list(values), device_id=unit)
