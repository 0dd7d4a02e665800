"""Modbus devices that write their bytes by hand and answer badly on demand: over TCP, or with serial framing in a TCP connection.

What an honest reply says can be checked: a stamp that grows with every request, and its complement. Whatever a bad reply says
is poison: a well-formed stamp of a range that no honest reply uses. So any value that was taken from a bad reply is seen.

    holding 0-1 stamp, 2-3 complement, 4-5 pieces, 8-9 set point (writable)       input 0-1 stamp, 2-3 complement
    coil 0-15 stamp, 16-31 complement                                             discrete likewise
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from pymodbus.framer.rtu import FramerRTU

POISON = 1 << 31
POISON_BIT = 1 << 15
"""The same for the bit tables, whose stamps have 15 bits."""
WRITE_SHARE = 0.5
"""This share of the answers to writes is bad: a write costs more time than a read."""
OBEYED_SHARE = 0.9
"""This share of the writes that get a bad answer is obeyed nevertheless; each of the others is read back for seconds."""
LATE_S = 0.01
"""Within this time the second part of an answer follows, where it follows in time."""
READS = (1, 2, 3, 4)
_HEADER = struct.Struct(">HHHB")


class Kind(StrEnum):
    """What can be wrong with a reply."""

    SHORT = "short"
    LONG = "long"
    WRONG_FUNCTION = "wrong function"
    WRONG_TRANSACTION = "wrong transaction"
    TRANSACTION_0 = "transaction 0"
    STALE = "stale"
    WRONG_UNIT = "wrong unit"
    WRONG_PROTOCOL = "wrong protocol id"
    GARBAGE = "garbage"
    HUGE_LENGTH = "huge length"
    BUSY = "exception 6"
    GATEWAY_PATH = "exception 0x0A"
    GATEWAY_TARGET = "exception 0x0B"
    HALF = "half a reply"
    TWO = "two replies"
    NONE = "none"
    CHECKSUM = "wrong checksum"


KINDS = tuple(kind for kind in Kind if kind is not Kind.CHECKSUM)
RTU_KINDS = (
    Kind.SHORT, Kind.LONG, Kind.WRONG_FUNCTION, Kind.WRONG_UNIT, Kind.GARBAGE, Kind.BUSY, Kind.GATEWAY_PATH, Kind.GATEWAY_TARGET, Kind.HALF,
    Kind.NONE, Kind.CHECKSUM,
)  # fmt: skip
"""Serial framing has no transaction and no length; a second reply cannot be told from the one to the next request of the same kind."""
EXCEPTIONS = {Kind.BUSY: 0x06, Kind.GATEWAY_PATH: 0x0A, Kind.GATEWAY_TARGET: 0x0B}


def frame(tid: int, pdu: bytes, *, unit: int, protocol: int = 0, length: int | None = None) -> bytes:
    return _HEADER.pack(tid & 0xFFFF, protocol, len(pdu) + 1 if length is None else length, unit) + pdu


class Device:
    """One device. `reads` and `writes`: the bad replies still to be given, drawn from their ends; `share` of those to reads are bad.

    `silence_s`: how long to wait with what shall come only after the gateway gave up.
    """

    framing = "tcp"

    def __init__(
        self,
        rng: random.Random,
        reads: list[Kind],
        writes: list[Kind],
        *,
        share: float,
        silence_s: float,
        write_share: float = WRITE_SHARE,
        unit_id: int = 7,
    ) -> None:
        self.unit_id = unit_id
        self.reads, self.writes = reads, writes
        self.setpoint = 0
        self.pieces = rng.randrange(1 << 16)
        self.honest: dict[int, set[int]] = {function: set() for function in READS}
        """Function code -> the stamps of its honest replies."""
        self.written: Counter[int] = Counter()
        """Value -> how many write requests brought it."""
        self.given: Counter[Kind] = Counter()
        self.requests = self.connections = 0
        self.last_bad: Kind | None = None
        self._rng = rng
        self._share, self._write_share = share, write_share
        self._silence_s = silence_s
        self._stamp = 0
        self.running = True
        """Pieces are made."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                tid, unit, pdu = await read_request(reader, self.framing)
                assert unit == self.unit_id
                self.answer(tid, pdu, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _frame(self, tid: int, pdu: bytes) -> bytes:
        return frame(tid, pdu, unit=self.unit_id)

    def _spoilt(self, kind: Kind, tid: int, request: bytes, poison: bytes) -> bytes:
        return _SPOILT[kind](self._rng, self.unit_id, tid, request, poison)

    def answer(self, tid: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        plan = self.reads if request[0] in READS else self.writes
        kind = plan.pop() if plan and self._rng.random() < (self._share if plan is self.reads else self._write_share) else None
        if kind is not None:
            self.given[kind] += 1
            self.last_bad = kind
        if request[0] not in READS:
            # A frame that came counts, whatever the device makes of it: one that is not obeyed may have been lost behind a gateway.
            value = struct.unpack_from(">I", request, 6)[0]
            self.written[value] += 1
            if kind is None or (kind not in EXCEPTIONS and self._rng.random() < OBEYED_SHARE):
                self.setpoint = value
        if kind is None:
            writer.write(self._frame(tid, self._reply(request, poisoned=False)))
            return
        now, later, after_s = self._bad(kind, tid, request)
        writer.write(now)
        if later:
            asyncio.get_running_loop().call_later(after_s, _say, writer, later)

    # --- replies ------------------------------------------------------------------------------------------------------

    def _reply(self, request: bytes, *, poisoned: bool) -> bytes:
        """A well-formed reply PDU. A poisoned one to a write acknowledges something else."""
        function, address, count = struct.unpack_from(">BHH", request)
        if function not in READS:
            return request[:5] if not poisoned else struct.pack(">BHH", function, address + 1, count)
        self._stamp += 1
        if not poisoned:
            self.honest[function].add(self._stamp)
        if function in (1, 2):
            stamp = self._stamp | (POISON_BIT if poisoned else 0)
            body = struct.pack("<HH", stamp, ~stamp & 0xFFFF)[address // 8 : (address + count + 7) // 8]
        else:
            stamp = self._stamp | (POISON if poisoned else 0)
            if function == 3 and not poisoned and self.running:
                self.pieces += self._rng.randrange(4)
            pieces, setpoint = (stamp, stamp) if poisoned else (self.pieces, self.setpoint)
            body = struct.pack(">IIIII", stamp, ~stamp & 0xFFFFFFFF, pieces, 0, setpoint)[2 * address : 2 * (address + count)]
        return bytes([function, len(body)]) + body

    def _bad(self, kind: Kind, tid: int, request: bytes) -> tuple[bytes, bytes, float]:
        """What is sent at once, what is sent later, and how many seconds later."""
        if kind in EXCEPTIONS:
            return self._frame(tid, bytes([request[0] | 0x80, EXCEPTIONS[kind]])), b"", 0.0
        poison = self._reply(request, poisoned=True)
        draw = self._rng.random
        match kind:
            case Kind.TWO:
                # The first one counts; the second one comes with it or into the next request.
                return self._frame(tid, self._reply(request, poisoned=False)), self._frame(tid, poison), draw() * LATE_S
            case Kind.HALF:
                whole = self._frame(tid, poison)
                cut = self._rng.randrange(1, len(whole))
                return whole[:cut], whole[cut:] if draw() < 0.5 else b"", self._silence_s
            case Kind.NONE:
                return b"", self._frame(tid, poison) if draw() < 0.5 else b"", self._silence_s
            case _:
                return self._spoilt(kind, tid, request, poison), b"", 0.0


def _say(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


class Gateway:
    """Several devices, each with its unit id, behind one address."""

    def __init__(self, devices: list[Device]) -> None:
        self._devices = {device.unit_id: device for device in devices}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        next(iter(self._devices.values())).connections += 1
        try:
            while True:
                tid, unit, pdu = await read_request(reader, "tcp")
                self._devices[unit].answer(tid, pdu, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def read_request(reader: asyncio.StreamReader, framing: str) -> tuple[int, int, bytes]:
    """(transaction, unit, PDU)."""
    if framing == "tcp":
        tid, _, length, unit = _HEADER.unpack(await reader.readexactly(7))
        return tid, unit, await reader.readexactly(length - 1)
    whole = await reader.readexactly(7)
    if whole[1] in (15, 16):
        whole += await reader.readexactly(whole[6])
        whole += await reader.readexactly(2)
    else:
        whole += await reader.readexactly(1)
    assert _with_checksum(whole[:-2]) == whole
    return 0, whole[0], whole[1:-2]


Spoil = Callable[[random.Random, int, int, bytes, bytes], bytes]
"""(random numbers, unit id, transaction id, request PDU, poisoned reply PDU) -> bytes on the wire."""


def _short(rng: random.Random, request: bytes, poison: bytes) -> bytes:
    if request[0] not in READS:
        return poison[: rng.randrange(1, 5)]
    body = poison[2 : 2 + rng.randrange(len(poison) - 2)]
    # Some count what they send, some claim what was asked for.
    return bytes([poison[0], rng.choice((len(body), poison[1]))]) + body


def _long(rng: random.Random, request: bytes, poison: bytes) -> bytes:
    # One byte more than whole registers is as wrong as a register more.
    more = rng.randbytes(rng.randrange(1, 60))
    if request[0] not in READS:
        return poison + more[:6]
    return bytes([poison[0], rng.choice((len(poison) - 2 + len(more), poison[1]))]) + poison[2:] + more


def _wrong_function(rng: random.Random, request: bytes, poison: bytes) -> bytes:
    other = rng.choice([code for code in (1, 2, 3, 4, 5, 6, 15, 16, 22, 43, 100) if code != request[0]])
    return bytes([other | rng.choice((0, 0, 0x80))]) + poison[1:]


SpoilPdu = Callable[[random.Random, bytes, bytes], bytes]
"""(random numbers, request PDU, poisoned reply PDU) -> reply PDU."""

_PDUS: dict[Kind, SpoilPdu] = {
    Kind.SHORT: _short,
    Kind.LONG: _long,
    Kind.WRONG_FUNCTION: _wrong_function,
}


def _another_unit(rng: random.Random, own: int) -> int:
    # Mostly one that is a neighbour behind the same gateway.
    return rng.choice([unit for unit in (*range(1, 17), *range(1, 17), *range(256)) if unit != own])


def _garbage(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 600))


def _spoil_pdu(spoil: SpoilPdu) -> Spoil:
    return lambda rng, unit, tid, request, poison: frame(tid, spoil(rng, request, poison), unit=unit)


_SPOILT: dict[Kind, Spoil] = {
    **{kind: _spoil_pdu(spoil) for kind, spoil in _PDUS.items()},
    Kind.WRONG_TRANSACTION: lambda rng, unit, tid, request, poison: frame(tid + rng.randrange(1, 1 << 16), poison, unit=unit),
    Kind.TRANSACTION_0: lambda rng, unit, tid, request, poison: frame(0, poison, unit=unit),
    Kind.STALE: lambda rng, unit, tid, request, poison: frame(tid - rng.randrange(1, 10), poison, unit=unit),
    Kind.WRONG_UNIT: lambda rng, unit, tid, request, poison: frame(tid, poison, unit=_another_unit(rng, unit)),
    Kind.WRONG_PROTOCOL: lambda rng, unit, tid, request, poison: frame(tid, poison, unit=unit, protocol=rng.randrange(1, 1 << 16)),
    Kind.GARBAGE: lambda rng, unit, tid, request, poison: _garbage(rng),
    Kind.HUGE_LENGTH: lambda rng, unit, tid, request, poison: frame(tid, poison, unit=unit, length=rng.randrange(len(poison) + 2, 1 << 16)),
}


class RtuDevice(Device):
    """The same with serial framing: unit, PDU, checksum."""

    framing = "rtu+tcp"

    def _frame(self, tid: int, pdu: bytes) -> bytes:
        return _with_checksum(bytes([self.unit_id]) + pdu)

    def _spoilt(self, kind: Kind, tid: int, request: bytes, poison: bytes) -> bytes:
        rng = self._rng
        match kind:
            case Kind.WRONG_UNIT:
                return _with_checksum(bytes([_another_unit(rng, self.unit_id)]) + poison)
            case Kind.GARBAGE:
                return _garbage(rng)
            case Kind.CHECKSUM:
                whole = bytearray(self._frame(tid, poison))
                whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
                return bytes(whole)
            case _:
                return self._frame(tid, _PDUS[kind](rng, request, poison))


def _with_checksum(data: bytes) -> bytes:
    return data + FramerRTU.compute_CRC(data).to_bytes(2, "big")
