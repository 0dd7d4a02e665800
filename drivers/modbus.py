"""Modbus TCP (and RTU where pyserial is installed): block reads over one connection, every reply checked before it is believed.

After a timeout or a reply that does not fit its request the connection is closed, because a late reply would shift all later ones.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from drivers import remedies
from drivers.base import Clock, Quality, Reading, TagError, Value
from drivers.modbus_codec import BIT_TABLES, Block, encode, plan, split
from drivers.modbus_settings import FUNCTIONS, ModbusSettings
from drivers.modbus_wire import PymodbusWire, TcpWire, UnfitReply, Wire
from drivers.settings import Secret

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

_REQUEST = struct.Struct(">BHH")
"""Function, address, then how many, or the value to write."""
# What `Reading._make` does without a call of Python for each value; the only place where a hundred are made at once.
_new_reading: Callable[[tuple[Any, ...]], Reading] = partial(tuple.__new__, Reading)


class ModbusDriver:
    """Satisfies `drivers.base.Driver`, `Paced` and `Refusing`."""

    recorded: ClassVar[bool] = False

    def __init__(
        self, settings: ModbusSettings, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._points = {tag: found.point(tag) for tag, found in settings.tags.items()}
        self._wire: Wire | None = None
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
        wire = self._wire = self._make_wire()
        try:
            async with self._clock.timeout(2 * self._settings.timeout):
                connected = await wire.open()
        except TimeoutError:
            connected = False
        except OSError as error:
            await self.close()
            raise remedies.unreachable(peer, str(error)) from error
        if not connected:
            await self.close()
            raise remedies.unreachable(peer, f"nobody accepted within {self._settings.timeout:g} s")

    def _make_wire(self) -> Wire:
        url = urlsplit(self._settings.url)
        if url.scheme == "tcp":
            return TcpWire(url.hostname or "", url.port or 502)
        try:
            return PymodbusWire.serial(url, self._settings.timeout)
        except RuntimeError as error:
            raise remedies.misconfigured(
                self._settings.peer,
                str(error),
                fr="Le PC de ligne n'a pas le pilote série : installer le paquet Python pyserial.",
                en="The line PC lacks the serial driver: install the Python package pyserial.",
            ) from error

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
        reply = await self._request(_REQUEST.pack(FUNCTIONS[block.table], block.address, block.count))
        received_at = self._received_at = self._received_at or self._clock.now()
        if reply[0] & 0x80:
            return _exception_code(reply)
        is_bits = block.table in BIT_TABLES
        size = (block.count + 7) // 8 if is_bits else 2 * block.count
        if reply[1] != size or len(reply) != size + 2:
            await self._distrust(f"{len(reply) - 2} bytes of data, {reply[1]} announced, for {size}")
        data = _bits(reply, block.count) if is_bits else struct.unpack_from(f">{block.count}H", reply, 2)
        values, faults = block.decode(data)
        made = map(_new_reading, zip(block.tags, values, repeat(Quality.GOOD), repeat(None), repeat(received_at), repeat("")))
        for place, reading in zip(places, made, strict=True):
            readings[place] = reading
        for position, detail in faults.items():
            readings[places[position]] = Reading(block.tags[position], None, Quality.BAD, None, received_at, detail)
        if self._refused:
            for tag in block.tags:
                self._refused.pop(tag, None)
        return 0

    async def _request(self, pdu: bytes) -> bytes:
        """One request, sent once, and the PDU of its reply after all checks that hold for any. Raises LinkError."""
        wire = self._wire
        if wire is None or not wire.is_open:
            raise remedies.dropped(self._settings.peer, "connection lost")
        try:
            async with self._clock.timeout(self._settings.timeout):
                reply = await wire.exchange(self._settings.unit_id, pdu)
        except TimeoutError as error:
            await self.close()
            raise remedies.unanswered(
                self._settings.peer, f"function {pdu[0]} at {int.from_bytes(pdu[1:3])}, {str(error) or 'timeout'}"
            ) from error
        except UnfitReply as error:
            await self.close()
            raise remedies.untrustworthy(self._settings.peer, str(error)) from error
        except OSError as error:
            await self.close()
            raise remedies.dropped(self._settings.peer, str(error)) from error
        if reply[0] & 0x7F != pdu[0]:
            await self._distrust(f"function {reply[0]} for {pdu[0]}")
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
            pdu = _REQUEST.pack(5, point.address, 0xFF00 if bool(value) is not point.invert else 0)
        else:
            try:
                values = encode(point, value)
            except ValueError as error:
                raise TagError(f"tag {tag}: {error}") from error
            if len(values) == 1:
                pdu = _REQUEST.pack(6, point.address, values[0])
            else:
                count = len(values)
                pdu = struct.pack(f">BHHB{count}H", 16, point.address, count, 2 * count, *values)
        reply = await self._request(pdu)
        if reply[0] & 0x80:
            raise TagError(f"tag {tag}: the device answered {_exception_name(_exception_code(reply))}")
        # Address and value, or address and count, come back as they were sent.
        if reply != pdu[: _REQUEST.size]:
            await self._distrust(f"{reply.hex()} to the write {pdu.hex()}")

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


def _bits(reply: bytes, count: int) -> list[bool]:
    return [bool(reply[2 + i // 8] >> i % 8 & 1) for i in range(count)]


def _exception_code(reply: bytes) -> int:
    # A code of 0 does not exist: an exception it is nevertheless.
    return reply[1] or 4


def _exception_name(code: int) -> str:
    return f"{EXCEPTIONS.get(code, 'exception')} ({code})"
