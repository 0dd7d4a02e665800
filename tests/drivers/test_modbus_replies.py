"""A Modbus server that writes its answers by hand: nothing malformed ever becomes a value."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from drivers.base import LinkError, Quality, Reading, ReplyError, SilentLinkError, TagError
from drivers.modbus import ModbusDriver
from drivers.modbus_settings import ModbusSettings
from gateway.clock import SystemClock

TIMEOUT_S = 0.3
Answer = Callable[[int, bytes], bytes]
"""(transaction id, request PDU) -> bytes to send; empty: none."""


def frame(tid: int, pdu: bytes, *, unit: int = 1, protocol: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">HHHB", tid, protocol, len(pdu) + 1 if length is None else length, unit) + pdu


def registers(*words: int, function: int = 3) -> bytes:
    return struct.pack(f">BB{len(words)}H", function, 2 * len(words), *words)


def right(tid: int, request: bytes) -> bytes:
    """What a healthy device holds: 65538 at holding 0 and 1, 7 in input 0, all coils off."""
    function, address, count = struct.unpack(">BHH", request[:5])
    if function in (1, 2):
        return frame(tid, struct.pack(">BB", function, (count + 7) // 8) + bytes((count + 7) // 8))
    memory = {3: [1, 2], 4: [7]}[function]
    return frame(tid, registers(*memory[address : address + count], function=function))


class Server:
    """Answers each request by `answers` in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [right]
        self.requests: list[bytes] = []
        self.connections = 0
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        try:
            while True:
                header = await reader.readexactly(7)
                request = await reader.readexactly(struct.unpack(">H", header[4:6])[0] - 1)
                self.requests.append(request)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer(struct.unpack(">H", header[:2])[0], request))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, int]]:
    found = Server()
    listening = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    yield found, listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()


TAGS = {"parts": {"holding": 0, "type": "uint32", "writable": True}, "state": {"input": 0}, "jam": {"coil": 3, "writable": True}}


async def connected(port: int, tags: dict[str, dict[str, object]] | None = None, clock: SystemClock | None = None) -> ModbusDriver:
    settings = ModbusSettings.model_validate(
        {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "timeout": TIMEOUT_S, "tags": TAGS if tags is None else tags}
    )
    driver = ModbusDriver(settings, clock or SystemClock(), name="plc", secrets=lambda secret: "")
    await driver.connect()
    return driver


async def test_the_healthy_case(server: tuple[Server, int]) -> None:
    driver = await connected(server[1])
    assert [reading.value for reading in await driver.read(["parts", "state", "jam"])] == [65538, 7, False]
    await driver.close()


MALFORMED: dict[str, Answer] = {
    "short": lambda tid, request: frame(tid, registers(9)),
    "long": lambda tid, request: frame(tid, registers(9, 9, 9)),
    "empty": lambda tid, request: frame(tid, registers()),
    "odd byte count": lambda tid, request: frame(tid, b"\x03\x03\x00\x09\x00"),
    "byte count larger than the frame": lambda tid, request: frame(tid, b"\x03\x08\x00\x09\x00\x09"),
    "wrong function": lambda tid, request: frame(tid, registers(9, 9, function=4)),
    "exception of another function": lambda tid, request: frame(tid, b"\x84\x02"),
    "unknown function": lambda tid, request: frame(tid, b"\x64\x04\x00\x09\x00\x09"),
    "wrong transaction": lambda tid, request: frame(tid + 1, registers(9, 9)),
    "transaction 0": lambda tid, request: frame(0, registers(9, 9)),
    "wrong unit": lambda tid, request: frame(tid, registers(9, 9), unit=2),
    "wrong protocol id": lambda tid, request: frame(tid, registers(9, 9), protocol=1),
    "huge length": lambda tid, request: frame(tid, registers(9, 9), length=60_000),
    "tiny length": lambda tid, request: frame(tid, registers(9, 9), length=1),
    "half a reply": lambda tid, request: frame(tid, registers(9, 9))[:9],
    "garbage": lambda tid, request: b"\xff" * 40,
    "a request instead of a reply": lambda tid, request: frame(tid, request),
    "no reply": lambda tid, request: b"",
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_reply_is_a_link_error_and_never_a_value(server: tuple[Server, int], kind: str) -> None:
    found, port = server
    driver = await connected(port)
    found.answers = [MALFORMED[kind], right]
    with pytest.raises(LinkError) as caught:
        await driver.read(["parts"])
    assert caught.value.remedy_fr
    with pytest.raises(LinkError):
        await driver.read(["parts"])
    assert len(found.requests) == 1, "the socket is closed and the request is not repeated"
    await driver.close()


async def test_a_reply_that_does_not_fit_is_told_apart_from_none(server: tuple[Server, int]) -> None:
    found, port = server
    for kind, error in (("long", ReplyError), ("no reply", SilentLinkError)):
        found.answers = [MALFORMED[kind]]
        driver = await connected(port)
        with pytest.raises(error):
            await driver.read(["parts"])


class LaterClock(SystemClock):
    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


@pytest.mark.parametrize(("rested_s", "is_outage"), [(0.0, True), (30.0, False)])
async def test_a_device_that_hangs_up_at_rest_is_asked_again(server: tuple[Server, int], rested_s: float, is_outage: bool) -> None:
    found, port = server
    clock = LaterClock()
    driver = await connected(port, clock=clock)
    await driver.read(["parts"])
    clock.ahead_s = rested_s
    assert found.writer is not None
    found.writer.close()
    await asyncio.sleep(0.05)
    if is_outage:
        with pytest.raises(LinkError, match="closed the connection"):
            await driver.read(["parts"])
    else:
        assert [reading.value for reading in await driver.read(["parts"])] == [65538]
    assert (found.connections, len(found.requests)) == ((1, 1) if is_outage else (2, 2))
    await driver.close()


async def test_why_nobody_can_be_reached_is_told() -> None:
    closed = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    with pytest.raises(LinkError, match="Connect call failed"):
        await connected(port)


async def test_a_late_reply_cannot_shift_the_following_ones(server: tuple[Server, int]) -> None:
    found, port = server
    driver = await connected(port)

    def two(tid: int, request: bytes) -> bytes:
        return right(tid, request) + frame(tid, registers(0, 99))

    found.answers = [two, right]
    with pytest.raises(ReplyError, match="nobody asked for"):
        await driver.read(["parts"])
    await driver.close()
    driver = await connected(port)
    assert [(await driver.read(["parts"]))[0].value for _ in range(3)] == [65538] * 3
    await driver.close()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (5, "Acknowledge (5)"),
        (6, "ServerDeviceBusy (6)"),
        (10, "GatewayPathUnavailable (10)"),
        (11, "GatewayTargetDeviceFailedToRespond (11)"),
        (4, "ServerDeviceFailure (4)"),
    ],
)
async def test_a_busy_device_is_bad_never_zero_and_the_link_stays(server: tuple[Server, int], code: int, name: str) -> None:
    found, port = server
    driver = await connected(port)
    found.answers = [lambda tid, request: frame(tid, bytes([request[0] | 0x80, code])), right]
    (reading,) = await driver.read(["parts"])
    assert (reading.value, reading.quality, reading.detail) == (None, Quality.BAD, name)
    assert driver.refused == {}
    assert (await driver.read(["parts"]))[0].value == 65538
    assert found.connections == 1
    await driver.close()


async def test_a_device_that_gives_nothing_but_exceptions_is_told_after_some_seconds(server: tuple[Server, int]) -> None:
    found, port = server
    clock = Hurried()
    driver = await connected(port, clock=clock)
    found.answers = [lambda tid, request: frame(tid, bytes([request[0] | 0x80, 6]))]
    await driver.read(["parts", "state", "jam"])
    assert driver.concerns == {}
    clock.ahead_s = 6.0
    await driver.read(["parts", "state", "jam"])
    assert driver.concerns["answers"].text_en == "The device is reached but gives no value: ServerDeviceBusy (6)."
    found.answers = [lambda tid, request: frame(tid, bytes([request[0] | 0x80, 6])), right]
    await driver.read(["parts", "state", "jam"])
    assert driver.concerns == {}
    await driver.close()


class Hurried(SystemClock):
    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


def holes(absent: set[int]) -> Answer:
    """A device that answers exception 2 to every request that touches one of these holding registers."""

    def answer(tid: int, request: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", request)
        if absent & set(range(address, address + count)):
            return frame(tid, bytes([function | 0x80, 2]))
        return frame(tid, registers(*range(address, address + count)))

    return answer


async def test_only_the_register_that_is_not_there_is_bad_and_the_split_is_remembered(server: tuple[Server, int]) -> None:
    found, port = server
    addresses = (1, 2, 3, 4, 8, 9, 10)
    driver = await connected(port, {f"t{address}": {"holding": address} for address in addresses})
    found.answers = [holes({3, 6})]
    tags = [f"t{address}" for address in addresses]
    readings = await driver.read(tags)
    assert [(reading.tag, reading.value) for reading in readings] == [
        (f"t{address}", None if address == 3 else address) for address in addresses
    ]
    assert dict(driver.refused) == {"t3": "IllegalDataAddress (2)"}
    before = len(found.requests)
    assert [reading.value for reading in await driver.read(tags)] == [1, 2, None, 4, 8, 9, 10]
    assert len(found.requests) - before == 3, "no request for the register that is not there"
    await driver.close()


async def test_a_register_that_appears_is_found_again() -> None:
    found, clock = Server(), Hurried()
    listening = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    settings = ModbusSettings.model_validate(
        {"driver": "modbus", "url": f"tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}", "tags": {"a": {"holding": 5}}}
    )
    driver = ModbusDriver(settings, clock, name="plc", secrets=lambda secret: "")
    await driver.connect()
    found.answers = [holes({5})]
    assert (await driver.read(["a"]))[0].value is None
    found.answers = [holes(set())]
    assert (await driver.read(["a"]))[0].value is None
    clock.ahead_s = 31.0
    assert (await driver.read(["a"]))[0].value == 5
    assert driver.refused == {}
    await driver.close()
    listening.close()
    await listening.wait_closed()


async def test_who_looks_after_a_write_is_answered_and_takes_no_turn_of_the_poll() -> None:
    found, clock = Server(), Hurried()
    listening = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    tags = {"parts": {"holding": 5}, "target": {"holding": 7, "writable": True}, "ready": {"holding": 9}}
    settings = ModbusSettings.model_validate(
        {"driver": "modbus", "url": f"tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}", "max_gap": 0, "tags": tags}
    )
    driver = ModbusDriver(settings, clock, name="plc", secrets=lambda secret: "")
    await driver.connect()
    found.answers = [holes({5, 7})]
    assert [reading.value for reading in await driver.read(list(tags))] == [None, None, 9]
    # The program is loaded: a release sees it at once, not half a minute later, ...
    found.answers = [holes(set())]
    assert (await driver.read(["target"]))[0].value == 7
    assert dict(driver.refused) == {"parts": "IllegalDataAddress (2)"}
    # ... and the poll keeps its own half minute, however often a release looks.
    clock.ahead_s = 31.0
    assert (await driver.read(["ready"]))[0].value == 9
    assert [reading.value for reading in await driver.read(list(tags))] == [5, 7, 9]
    assert driver.refused == {}
    await driver.close()
    listening.close()
    await listening.wait_closed()


async def test_a_value_of_two_registers_is_one_request(server: tuple[Server, int]) -> None:
    found, port = server
    driver = await connected(port, {"parts": {"holding": 0, "type": "uint32"}})
    await driver.read(["parts"])
    assert found.requests == [struct.pack(">BHH", 3, 0, 2)]
    await driver.close()


async def test_a_value_that_is_none_is_bad_counted_and_told(server: tuple[Server, int]) -> None:
    driver = await connected(server[1], {"level": {"holding": 0, "valid": [5, 9]}, "parts": {"holding": 1}})
    level, parts = await driver.read(["level", "parts"])
    assert (level.value, level.quality, level.detail) == (None, Quality.BAD, "1 is outside 5 to 9")
    assert (parts.value, parts.quality) == (2, Quality.GOOD)
    assert driver.incidents == {"invalid_value": 1}
    assert driver.concerns["values"].detail == "level: 1 is outside 5 to 9"
    await driver.close()


async def test_readings_of_one_poll_carry_one_time(server: tuple[Server, int]) -> None:
    driver = await connected(server[1])
    readings: list[Reading] = list(await driver.read(["parts", "state", "jam"]))
    assert len({reading.received_at for reading in readings}) == 1
    assert {reading.source_time for reading in readings} == {None}
    await driver.close()


async def test_a_write_without_an_answer_is_not_repeated(server: tuple[Server, int]) -> None:
    found, port = server
    driver = await connected(port)
    found.answers = [lambda tid, request: b""]
    with pytest.raises(LinkError):
        await driver.write("parts", 5)
    await asyncio.sleep(3 * TIMEOUT_S)
    assert found.requests == [struct.pack(">BHHBHH", 16, 0, 2, 4, 0, 5)]
    await driver.close()


async def test_a_write_is_believed_only_when_the_device_echoes_it(server: tuple[Server, int]) -> None:
    found, port = server
    driver = await connected(port)
    found.answers = [lambda tid, request: frame(tid, request)]
    await driver.write("jam", True)
    assert found.requests[-1] == b"\x05\x00\x03\xff\x00"
    found.answers = [lambda tid, request: frame(tid, b"\x05\x00\x04\xff\x00")]
    with pytest.raises(ReplyError):
        await driver.write("jam", True)
    driver = await connected(port)
    found.answers = [lambda tid, request: frame(tid, b"\x85\x03")]
    with pytest.raises(TagError, match="IllegalDataValue"):
        await driver.write("jam", True)
    await driver.close()
