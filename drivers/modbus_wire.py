"""One pymodbus client over one connection: opened, asked once a request, every reply checked, closed at the first doubt.

pymodbus frames and decodes; its retries and its reconnect are off.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import struct
import termios
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.framer import FramerType
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsResponse, ReadDiscreteInputsResponse
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, ReadInputRegistersResponse

from drivers import remedies
from drivers.base import Clock, LinkError
from drivers.modbus_address import Address

# The library logs every failed try: here an outage is told once, by whoever keeps the link alive.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

Client = AsyncModbusTcpClient | AsyncModbusSerialClient

# The clock handed in bounds every request; the library's own timer shall never be the first.
_LIBRARY_TIMEOUT_S = 3600.0

# Many devices hang up on whoever has not asked for a while (their idle time-out). After so long at rest nothing was lost by it: the next
# request opens the line again, and if it cannot, that is the outage.
RESTED_S = 2.0

_BITS = tuple(tuple(bool(byte >> bit & 1) for bit in range(8)) for byte in range(256))


class _HoldingRegisters(ReadHoldingRegistersResponse):
    """Decoded in one go, and only if the byte count is that of the frame: what else comes is no register at all, which no request fits."""

    def decode(self, data: bytes) -> None:
        size = len(data) - 1
        self.registers = list(struct.unpack(f">{size // 2}H", data[1:])) if size > 0 and size % 2 == 0 and data[0] == size else []


class _InputRegisters(_HoldingRegisters, ReadInputRegistersResponse):
    function_code = 4


class _Coils(ReadCoilsResponse):
    """Likewise."""

    def decode(self, data: bytes) -> None:
        self.bits = [bit for byte in data[1:] for bit in _BITS[byte]] if data and data[0] == len(data) - 1 else []


class _DiscreteInputs(_Coils, ReadDiscreteInputsResponse):
    function_code = 2


class _Malformed(ModbusPDU):
    """A frame whose content is no reply; function 0 fits no request."""


class _Decoder(DecodePDU):
    """Replies to the functions used here. What cannot be decoded becomes a reply that fits nothing: pymodbus would raise in the middle of
    the event loop's callback, which ends the connection with a traceback in the log."""

    _FUNCTIONS = frozenset({1, 2, 3, 4, 5, 6, 15, 16})

    def __init__(self) -> None:
        super().__init__(False)
        for response in (_Coils, _DiscreteInputs, _HoldingRegisters, _InputRegisters):
            self.register(response)

    def lookupPduClass(self, data: bytes) -> type[ModbusPDU] | None:
        return super().lookupPduClass(data) if data[1] & 0x7F in self._FUNCTIONS else None

    def decode(self, frame: bytes) -> ModbusPDU:
        return super().decode(frame) or _Malformed()


DECODER = _Decoder()


class Asker(Protocol):
    """Whose request it is."""

    unit_id: int
    peer: str
    timeout_s: float
    pause_s: float


class Refusal(Exception):
    """The line cannot be opened. `make`: the error of one of its devices, by how that is called."""

    def __init__(self, make: Callable[[str], LinkError]) -> None:
        super().__init__("the line cannot be opened")
        self.make = make


class Wire:
    """One connection of a line. `dropped` is called when the other side closes it while nobody waits for a reply, unless it was at rest."""

    def __init__(self, address: Address, clock: Clock, dropped: Callable[[], None]) -> None:
        self._address = address
        self._clock = clock
        self._dropped = dropped
        self._client: Client | None = None
        self._quiet_until = 0.0
        self._used_at = clock.monotonic()
        self._received = b""
        self._asking = False
        self._stray = False

    @property
    def is_open(self) -> bool:
        return self._client is not None and self._client.connected

    async def open(self, timeout_s: float) -> None:
        """Raises Refusal. A client is used for one connection only."""
        self.close()
        client = self._make_client()
        self._client, self._stray = client, False
        reached, problem = False, f"nobody accepted within {timeout_s:g} s"
        connect = client.ctx.call_create

        async def told() -> object:
            # pymodbus only says that it failed: refused, no route and an unknown name are three different errands.
            nonlocal problem
            try:
                return await connect()
            except OSError as error:
                problem = str(error)
                raise

        client.ctx.call_create = told
        try:
            async with self._clock.timeout(timeout_s):
                reached = await client.connect()
            if reached and isinstance(client, AsyncModbusSerialClient):
                # pyserial's lock holds off only those who lock as well; this holds off everybody but root.
                fcntl.ioctl(client.ctx.transport.sync_serial.fileno(), termios.TIOCEXCL)  # type: ignore[attr-defined]
            self._used_at = self._clock.monotonic()
        except TimeoutError:
            pass
        except (OSError, ValueError, termios.error) as error:
            # pyserial: a speed that the adapter cannot do is a ValueError, a parity that it does not know a termios.error. pymodbus leaves
            # the port open then, in an object that only this traceback still holds.
            traceback.clear_frames(error.__traceback__)
            reached, problem = False, str(error)
        except BaseException:
            self.close()
            raise
        if reached:
            return
        self.close()
        if self._address.is_serial:
            raise Refusal(_serial_problem(self._address, problem))
        raise Refusal(lambda peer: remedies.unreachable(peer, problem))

    def _make_client(self) -> Client:
        address = self._address
        client: Client
        if address.is_serial:
            client = AsyncModbusSerialClient(
                address.path, baudrate=address.baudrate, parity=address.parity, stopbits=address.stopbits, bytesize=8,
                timeout=_LIBRARY_TIMEOUT_S, retries=0, reconnect_delay=0,
                trace_packet=self._on_packet, trace_connect=lambda up: self._on_connect(client, up),
            )  # fmt: skip
        else:
            client = AsyncModbusTcpClient(
                address.host, port=address.port, framer=FramerType.RTU if address.is_rtu else FramerType.SOCKET,
                timeout=_LIBRARY_TIMEOUT_S, retries=0, reconnect_delay=0,
                trace_packet=self._on_packet, trace_connect=lambda up: self._on_connect(client, up),
            )  # fmt: skip
        client.ctx.framer.decoder = DECODER
        return client

    def _on_packet(self, sending: bool, data: bytes) -> bytes:
        # What came of the reply so far: a line that carries noise is told apart from one that is silent.
        self._received = b"" if sending else data
        if not sending and self._client is not None and self._client.ctx.response_future.done():
            self._stray = True
        return data

    def _on_connect(self, client: Client, connected: bool) -> None:
        if connected or client is not self._client:
            return
        # pymodbus lets a request wait for its timeout after the connection is gone: tell it at once.
        waiting = client.ctx.response_future
        if self._asking and not waiting.done():
            waiting.set_exception(ConnectionResetError("connection lost"))
        elif self._clock.monotonic() - self._used_at < RESTED_S:
            self._dropped()

    async def ask(self, asker: Asker, function: int, address: int, count: int, values: Sequence[int] | None, limit_s: float) -> ModbusPDU:
        """One request, sent once, and its reply after all checks; it may be an exception reply. Raises LinkError; then the wire is closed.

        `values`: what is written (None: `count` registers or bits are read).
        """
        client = self._client
        if client is None:
            raise remedies.dropped(asker.peer, "connection lost")
        wait = self._quiet_until - self._clock.monotonic()
        if wait > 0:
            await self._clock.sleep(wait)
        self._asking, self._received = True, b""
        trusted = False
        try:
            self._check_stray(asker.peer)
            async with self._clock.timeout(limit_s):
                reply = await _call(client, function, address, count, values, asker.unit_id)
            problem = _misfit(client, reply, asker.unit_id, function, address, count, values)
            if problem:
                raise remedies.untrustworthy(asker.peer, problem)
            self._check_stray(asker.peer)
            trusted = True
            return reply
        except (OSError, ConnectionException) as error:
            if isinstance(error, TimeoutError):
                raise self._unanswered(asker.peer, f"function {function} at {address}, timeout") from error
            raise remedies.dropped(asker.peer, str(error)) from error
        except ModbusException as error:
            raise self._unanswered(asker.peer, f"function {function} at {address}, {error}") from error
        finally:
            self._asking = False
            self._used_at = self._clock.monotonic()
            self._quiet_until = self._used_at + asker.pause_s
            if not trusted:
                # A cancelled request too: its reply may still come, and would be taken for that of the next one.
                self.close()

    def _check_stray(self, peer: str) -> None:
        """Over TCP every byte belongs to a request; a serial line may carry noise and late replies between two of them."""
        stray, self._stray = self._stray, False
        if not self._address.is_rtu and (stray or (self._client is not None and self._client.ctx.recv_buffer)):
            raise remedies.untrustworthy(peer, "bytes that nobody asked for")

    def _unanswered(self, peer: str, detail: str) -> LinkError:
        if not self._received:
            return remedies.mute_unit(peer, detail)
        detail = f"{detail}, {len(self._received)} bytes that are no reply"
        return remedies.garbled(peer, detail) if self._address.is_rtu else remedies.untrustworthy(peer, detail)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


async def _call(client: Client, function: int, address: int, count: int, values: Sequence[int] | None, unit: int) -> ModbusPDU:
    written = values or ()
    match function:
        case 1:
            return await client.read_coils(address, count=count, device_id=unit)
        case 2:
            return await client.read_discrete_inputs(address, count=count, device_id=unit)
        case 3:
            return await client.read_holding_registers(address, count=count, device_id=unit)
        case 4:
            return await client.read_input_registers(address, count=count, device_id=unit)
        case 5:
            return await client.write_coil(address, bool(written[0]), device_id=unit)
        case 6:
            return await client.write_register(address, written[0], device_id=unit)
        case 15:
            return await client.write_coils(address, [bool(value) for value in written], device_id=unit)
        case _:
            return await client.write_registers(address, list(written), device_id=unit)


def _misfit(client: Client, reply: ModbusPDU, unit: int, function: int, address: int, count: int, values: Sequence[int] | None) -> str:
    """How a reply does not fit its request; empty: it does."""
    sent = client.ctx.request_transaction_id
    if reply.transaction_id != sent:
        return f"transaction {reply.transaction_id} for {sent}"
    if unit and reply.dev_id != unit:
        return f"unit {reply.dev_id} for {unit}"
    if reply.function_code & 0x7F != function:
        return f"function {reply.function_code} for {function}"
    if reply.isError():
        return ""
    if values is None:
        # A reply carries whole bytes.
        found, wanted = (len(reply.registers), count) if function in (3, 4) else (len(reply.bits), (count + 7) // 8 * 8)
        return "" if found == wanted else f"{found} {'registers' if function in (3, 4) else 'bits'} for {wanted}"
    if function in (5, 6):
        told = [int(bit) for bit in reply.bits[:1]] if function == 5 else list(reply.registers)
    else:
        told = list(values) if reply.count == len(values) else []
    if reply.address != address or told != list(values):
        return f"wrote {told or reply.count} at {reply.address} instead of {list(values)} at {address}"
    return ""


def _serial_problem(address: Address, detail: str) -> Callable[[str], LinkError]:
    """Why a serial port could not be opened: pymodbus only says that it could not."""
    path = address.path

    def because(why: str, fr: str, en: str) -> Callable[[str], LinkError]:
        return lambda peer: remedies.misconfigured(peer, why, fr=fr, en=en)

    taken = because(
        f"{path} is used by another program",
        f"Le port série {path} est déjà utilisé : arrêter l'autre programme (le trouver avec « fuser {path} »).",
        f"The serial port {path} is in use: stop the other program (find it with `fuser {path}`).",
    )
    try:
        if not stat.S_ISCHR(os.stat(path).st_mode):
            return because(
                f"{path} is no serial port", f"{path} n'est pas un port série : corriger url.", f"{path} is no serial port: correct url."
            )
        port = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return taken
        if error.errno in (errno.EACCES, errno.EPERM):
            return because(
                f"{path}: {error.strerror}",
                f"Le service n'a pas le droit d'ouvrir {path} : installer le complément série de l'unité systemd (systemd/README.md).",
                f"The service may not open {path}: install the serial drop-in of the systemd unit (systemd/README.md).",
            )
        return because(
            f"{path}: {error.strerror}",
            f"Le port série {path} n'est pas là : brancher l'adaptateur, ou corriger url (les ports : ls /dev/serial/by-id).",
            f"The serial port {path} is not there: plug in the adapter, or correct url (the ports: ls /dev/serial/by-id).",
        )
    try:
        fcntl.flock(port, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return taken
    finally:
        os.close(port)
    return because(
        detail,
        f"Le port série {path} refuse ces réglages ({address.how}) : les corriger dans url.",
        f"The serial port {path} refuses these settings ({address.how}): correct them in url.",
    )
