"""What PLCs, OPC UA servers and MTConnect agents answer, and addresses of theirs that people write."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from xml.etree.ElementTree import ParseError

import orjson
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from asyncua.ua.uaerrors import UaError
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.base import LinkError, Reading
from drivers.modbus_address import parse_address, parse_range
from drivers.modbus_codec import Point, plan
from drivers.modbus_wire import Wire
from drivers.mtconnect import MTConnectDriver, MTConnectSettings, parse_document
from drivers.opcua_certificates import parse_chain
from drivers.opcua_paths import parse_path
from drivers.opcua_pki import Pki
from drivers.opcua_session import _GARBLED
from drivers.opcua_trust import Wanted, believe
from drivers.opcua_values import Place, resolve, to_reading
from gateway.clock import SystemClock
from tests.drivers.opcua_certificates import URI
from tests.fuzz.engine import Call, Parser, simple

NOW = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


def assert_finite(readings: Iterable[Reading]) -> None:
    """What is good can be computed with and written as JSON."""
    for reading in readings:
        assert reading.value is None or isinstance(reading.value, str) or math.isfinite(reading.value), reading
        str(reading.value).encode()
        orjson.dumps(reading.value)


# --- Modbus ---------------------------------------------------------------------------------------------------------------

UNIT = 7
POINTS = (
    Point("word", "holding", 0, "uint16"), Point("wide", "holding", 1, "int32", "CDAB"), Point("real", "holding", 3, "float32"),
    Point("long", "holding", 5, "uint64", "DCBA"), Point("bcd", "holding", 9, "bcd32"), Point("bits", "holding", 11, "uint16", bits=(3,
    4)),
    Point("text", "holding", 12, "string", length=7), Point("scaled", "holding", 16, "int16", scale=Decimal("0.1"), offset=Decimal(-40)),
    Point("bounded", "holding", 17, "float64", valid=(0.0, 100.0)), Point("steep", "holding", 21, "uint64", scale=Decimal(1000)),
)  # fmt: skip
[BLOCK] = plan(POINTS)


class _Asker:
    unit_id = UNIT
    peer = "plc:502"
    timeout_s = 1.0
    pause_s = 0.0


class _Impatient(SystemClock):
    """A reply that has not come with the bytes that were sent does not come: no time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Timeout | None = None

    def timeout(self, seconds: float) -> asyncio.Timeout:
        self.waiting = asyncio.timeout(None)
        return self.waiting


class _Line(asyncio.Transport):
    """Sends `reply` for whatever is asked, in three parts."""

    def __init__(self, reply: bytes, clock: _Impatient) -> None:
        super().__init__()
        self.protocol: Any = None
        self._reply = reply
        self._clock = clock

    def write(self, data: bytes | bytearray | memoryview) -> None:
        asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        third = len(self._reply) // 3
        for part in (self._reply[:third], self._reply[third : third + 1], self._reply[third + 1 :]):
            if part and not self.is_closing():
                self.protocol.data_received(part)
        if self._clock.waiting is not None:
            self._clock.waiting.reschedule(0.0)

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool:
        return False


async def _ask(url: str, reply: bytes) -> None:
    """What is believed is what the protocol says it is, to the byte; it decodes."""
    clock = _Impatient()
    wire = Wire(parse_address(url), clock, lambda: None)
    wire._client = client = wire._make_client()
    line = _Line(reply, clock)
    line.protocol = client.ctx
    client.ctx.transport = line
    try:
        found = await wire.ask(cast(Any, _Asker()), 3, 0, BLOCK.count, None, 1.0)
    except LinkError:
        return
    finally:
        wire.close()
    if not found.isError():
        body = struct.pack(f">{BLOCK.count}H", *found.registers)
        pdu = bytes([UNIT, 3, len(body)]) + body
        assert pdu in reply, "registers that nobody sent"
        BLOCK.decode(found.registers)


def _modbus(url: str) -> Any:
    @contextmanager
    def opened(folder: Path) -> Iterator[Call]:
        with asyncio.Runner() as runner:
            yield lambda data: runner.run(_ask(url, data))

    return opened


def _registers(*, spoil: bool = False) -> bytes:
    body = struct.pack(">H", 500) + bytes(range(1, 2 * BLOCK.count - 1))
    return bytes([UNIT, 3, len(body) + spoil]) + body


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return data + struct.pack("<H", crc)


_PDUS = (_registers(), _registers(spoil=True), bytes([UNIT, 0x83, 2]), bytes([UNIT, 3, 2, 0, 1]), bytes([UNIT + 1, 3, 2, 0, 1]))
TCP = tuple(struct.pack(">HHH", 1, 0, len(pdu)) + pdu for pdu in _PDUS)
RTU = tuple(_checksum(pdu) for pdu in _PDUS)


def registers(data: bytes) -> None:
    """Any content of registers is a value or a fault of its tag."""
    words = struct.unpack(f">{BLOCK.count}H", data[: 2 * BLOCK.count].ljust(2 * BLOCK.count, b"\x00"))
    values, faults = BLOCK.decode(words)
    assert all((value is None) == (place in faults) for place, value in enumerate(values))
    assert all(value is None or isinstance(value, str) or math.isfinite(value) for value in values)
    orjson.dumps(values)


def addresses(data: bytes) -> None:
    """What a person writes into `url`, `node` and `path`, and asks `browse` for."""
    text = data.decode("utf-8", "replace")
    for parse in (parse_address, parse_range, parse_path, lambda node: resolve(node, ["http://opcfoundation.org/UA/", "urn:acme:press"])):
        with suppress(ValueError):
            parse(text)


# --- OPC UA ---------------------------------------------------------------------------------------------------------------

PLACES = (
    Place("plain", "i=1"), Place("third", "i=1", index=(3,)), Place("flipped", "i=1", invert=True), Place("bits", "i=1", bits=(3, 4)),
    Place("field", "i=1", member=("value", "deep")), Place("typed", "i=1", kind="uint16"), Place("real", "i=1", kind="float32",
    valid=(0, 9)),
    Place("text", "i=1", kind="string", length=5), Place("truth", "i=1", kind="bool"),
)  # fmt: skip
_VARIANTS = (
    ua.Variant(7, ua.VariantType.Int32), ua.Variant(1.5, ua.VariantType.Double), ua.Variant(True, ua.VariantType.Boolean),
    ua.Variant("é12", ua.VariantType.String), ua.Variant([1, 2, 3, 4], ua.VariantType.UInt16), ua.Variant(b"abc\x00",
    ua.VariantType.ByteString),
    ua.Variant([1, 2, 300], ua.VariantType.Int64), ua.Variant(NOW, ua.VariantType.DateTime), ua.Variant(ua.NodeId(3, 2),
    ua.VariantType.NodeId),
    ua.Variant(ua.LocalizedText("Marche", "fr"), ua.VariantType.LocalizedText), ua.Variant(None, ua.VariantType.Null),
    ua.Variant(ua.QualifiedName("x", 2), ua.VariantType.QualifiedName), ua.Variant(ua.StatusCode(0x80340000), ua.VariantType.StatusCode),
    ua.Variant([[1, 2], [3, 4]], ua.VariantType.Int16),
)  # fmt: skip


def _encoded(variant: ua.Variant, status: int) -> bytes:
    found = ua.DataValue(Value=variant, StatusCode=ua.StatusCode(status), SourceTimestamp=NOW, ServerTimestamp=NOW)
    return bytes(struct_to_binary(found))


def data_value(data: bytes) -> None:
    """What the library decodes of a server's bytes is a reading, good or bad."""
    try:
        found = struct_from_binary(ua.DataValue, Buffer(data))
    except (UaError, *_GARBLED):
        # These end the session.
        return
    assert_finite(to_reading(place, found, NOW) for place in PLACES)


SEEDS = Path(__file__).parent / "seeds"
PLC = (SEEDS / "plc.der").read_bytes()
_WANTED = Wanted("OPC UA plc:4840", "127.0.0.1", "Basic256Sha256", "SignAndEncrypt")
_VALID_AT = parse_chain(PLC)[0].not_valid_before_utc + timedelta(days=2)


@contextmanager
def certificates(folder: Path) -> Iterator[Call]:
    """Believed is the one that a person trusted, unchanged; whatever else comes is refused with its reason."""
    pki = Pki(folder)
    pki.add_trusted(PLC)

    def call(data: bytes) -> None:
        shown = ua.EndpointDescription(ServerCertificate=data)
        shown.Server.ApplicationUri = URI
        try:
            believed = believe(shown, _WANTED, pki, _VALID_AT)
        except LinkError:
            return
        assert believed.certificate.public_bytes(Encoding.DER) == PLC

    yield call


# --- MTConnect ------------------------------------------------------------------------------------------------------------

STREAMS = b"""<?xml version="1.0" encoding="UTF-8"?>
<MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:1.3"><Header instanceId="1" nextSequence="9" lastSequence="8"/>
<Streams><DeviceStream name="lathe"><ComponentStream component="Path"><Samples>
<Position dataItemId="x" sequence="5" timestamp="2026-11-25T06:00:00Z">12.5</Position></Samples><Events>
<PartCount dataItemId="parts" sequence="6" timestamp="2026-11-25T06:00:01.25Z">41</PartCount>
<Execution dataItemId="run" sequence="7" timestamp="2026-11-25T06:00:01">ACTIVE</Execution></Events><Condition>
<Fault dataItemId="fault" sequence="8" timestamp="2026-11-25T06:00:02Z" nativeCode="E12" type="SYSTEM">jam</Fault>
</Condition></ComponentStream></DeviceStream></Streams></MTConnectStreams>"""
AGENT_ERROR = (
    b"""<MTConnectError><Header instanceId="1"/><Errors><Error errorCode="OUT_OF_RANGE">'from' must be</Error></Errors></MTConnectError>"""
)
LATHE = MTConnectSettings.model_validate(
    {
        "driver": "mtconnect", "url": "http://agent:5000", "tags": {
            "parts": {"data_item": "parts", "type": "uint32"}, "x": {"data_item": "x"}, "run": {"data_item": "run"},
            "fault": {"data_item": "fault"},
        },
    }
)  # fmt: skip


def mtconnect(data: bytes) -> None:
    try:
        found = parse_document(data)
    except (ParseError, ValueError, LookupError, OverflowError):
        return
    driver = MTConnectDriver(LATHE, SystemClock(), name="lathe", secrets=lambda secret: "")
    assert_finite(driver._present(["parts", "x", "run", "fault"], found))


PARSERS = (
    Parser("modbus-tcp", TCP, _modbus("tcp://plc:502")),
    Parser("modbus-rtu", RTU, _modbus("rtu+tcp://plc:4001")),
    Parser("registers", (_registers()[3:],), simple(registers)),
    Parser(
        "addresses",
        (
            b"tcp://192.168.10.22:502", b"rtu:///dev/ttyUSB0?baudrate=19200&parity=E", b"rtu+tcp://[fe80::1]:4001", b"holding:0-99",
            b"nsu=urn:acme:press;s=Counters.Total", b"ns=2;i=1001", b"ns=1;g=0b8d9c8e-7a47-4b0e-9d8f-0d3b7a6f3c11", b"ns=3;b=aGVsbG8=",
            b"Objects/{urn:acme:press}Press7/{http://opcfoundation.org/UA/PackML/}Status", b"/2:Press&/7/3:A&&B",
        ),
        simple(addresses),
    ),
    Parser("data-value", tuple(_encoded(one, status) for one in _VARIANTS for status in (0, 0x40000000, 0x80340000)), simple(data_value)),
    Parser("certificates", (PLC, (SEEDS / "issued.der").read_bytes()), certificates),
    Parser("mtconnect", (STREAMS, AGENT_ERROR), simple(mtconnect)),
)  # fmt: skip
