"""Probing a Modbus device: ranges halved where it refuses, busy and silent answers, and what registers mean in every order."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from drivers import modbus_probe
from drivers.base import LinkError, TagError
from drivers.modbus_probe import ModbusExplorer, every_order, parse_range, ranges_of
from drivers.modbus_settings import ModbusSettings
from gateway.clock import SystemClock

Answer = Callable[[int, int, int], int | None]
"""(function, address, count) -> the exception code of the reply, 0 for a good one, None for silence."""


class Plc:
    """Answers reads as `answer` says; register N holds N. `requests` in order."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[int, int, int]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                transaction, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", await reader.readexactly(12))
                self.requests.append((function, address, count))
                code = self.answer(function, address, count)
                if code is None:
                    continue
                if code:
                    body = bytes([function | 0x80, code])
                elif function in (1, 2):
                    body = bytes([function, (count + 7) // 8, *([0xAA] * ((count + 7) // 8))])
                else:
                    words = [(address + place) & 0xFFFF for place in range(count)]
                    body = struct.pack(f">BB{count}H", function, 2 * count, *words)
                writer.write(struct.pack(">HHHB", transaction, 0, len(body) + 1, unit) + body)


@contextlib.asynccontextmanager
async def exploring(answer: Answer, **more: object) -> AsyncIterator[tuple[ModbusExplorer, Plc]]:
    plc = Plc(answer)
    server = await asyncio.start_server(plc.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = ModbusSettings.model_validate(
        {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "timeout": 0.1, "tags": {"a": {"holding": 0}}} | more
    )
    explorer = ModbusExplorer(settings, SystemClock(), name="plc", secrets=lambda secret: "")
    async with server:
        await explorer.connect()
        try:
            yield explorer, plc
        finally:
            await explorer.close()


async def found(explorer: ModbusExplorer, path: str) -> list[str]:
    return [one.path async for batch in explorer.browse(path, lambda _: None) for one in batch]


def only(*addresses: int) -> Answer:
    return lambda function, address, count: 0 if set(range(address, address + count)) <= set(addresses) else 2


def everything(function: int, address: int, count: int) -> int:
    return 0


async def test_registers_are_found_one_by_one_in_a_range_that_is_refused() -> None:
    told: list[str] = []
    async with exploring(only(3, 17, 18, 19, 60)) as (explorer, plc):
        listed = [one async for batch in explorer.browse("holding:0-63", told.append) for one in batch]
        assert ranges_of(listed) == ["holding 3", "holding 17-19", "holding 60"]
        assert [one.path for one in listed] == [f"holding {address}" for address in (3, 17, 18, 19, 60)]
        assert len(plc.requests) < 2 * 64
        assert {function for function, _, _ in plc.requests} == {3}
    assert told[-1].startswith("holding 6")


async def test_a_range_that_answers_is_asked_in_the_largest_pieces() -> None:
    async with exploring(everything) as (explorer, plc):
        assert len(await found(explorer, "input:100-399")) == 300
        assert plc.requests == [(4, 100, 125), (4, 225, 125), (4, 350, 50)]
        plc.requests.clear()
        assert len(await found(explorer, "coil:0-2999")) == 3000
        assert plc.requests == [(1, 0, 2000), (1, 2000, 1000)]


async def test_what_the_configuration_forbids_is_never_asked_and_its_limits_hold() -> None:
    async with exploring(everything, forbidden=("holding 110-119", "holding 95-99", "input 0-9"), max_registers=20) as (explorer, plc):
        assert len(await found(explorer, "holding:90-149")) == 60 - 15
        assert plc.requests == [(3, 90, 5), (3, 100, 10), (3, 120, 20), (3, 140, 10)]
        assert await found(explorer, "holding:95-99") == []
        with pytest.raises(TagError, match="forbidden range 110-119"):
            await explorer.fetch("holding", 100, 11)


async def test_all_tables_without_a_path_and_one_that_the_device_does_not_know_costs_one_request() -> None:
    async with exploring(lambda function, address, count: 1 if function != 3 else 0) as (explorer, plc):
        assert len(await found(explorer, "")) == 1000
        assert [function for function, _, _ in plc.requests].count(1) == 1


async def test_a_busy_device_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modbus_probe, "_BUSY_PAUSE_S", 0.001)
    answers = iter([6, 5, 0])
    async with exploring(lambda function, address, count: next(answers)) as (explorer, _):
        assert await found(explorer, "holding:7") == ["holding 7"]
    async with exploring(lambda function, address, count: 6) as (explorer, _):
        with pytest.raises(TagError, match="busy 5 times"):
            await found(explorer, "holding:7")


async def test_a_unit_that_is_not_there_ends_the_search() -> None:
    async with exploring(lambda function, address, count: 11) as (explorer, plc):
        with pytest.raises(TagError, match="GatewayTargetDeviceFailedToRespond"):
            await found(explorer, "")
        assert len(plc.requests) == 1


@pytest.mark.slow
async def test_silence_where_others_refuse_is_put_up_with_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(function: int, address: int, count: int) -> int | None:
        return 0 if address + count <= 3 else None

    async with exploring(answer) as (explorer, _):
        assert await found(explorer, "holding:0-4") == ["holding 0", "holding 1", "holding 2"]
    monkeypatch.setattr(modbus_probe, "_MOST_SILENCES", 2)
    async with exploring(lambda function, address, count: None) as (explorer, _):
        with pytest.raises(LinkError) as caught:
            await found(explorer, "holding:0-63")
    assert "name a smaller range" in caught.value.remedy_en
    assert caught.value.remedy_fr


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("holding", ("holding", 0, 999)),
        ("coil:7", ("coil", 7, 7)),
        ("input:100-199", ("input", 100, 199)),
        ("discrete:100,2", ("discrete", 100, 101)),
        ("holding:65535", ("holding", 65535, 65535)),
    ],
)
def test_a_range_is_read(text: str, place: tuple[str, int, int]) -> None:
    assert parse_range(text) == place


@pytest.mark.parametrize(
    "text", ["register:1", "holding:", "holding:9-3", "holding:65535,2", "holding:0,0", "", "holding:0-70000", "400001"]
)
def test_a_wrong_range_is_told(text: str) -> None:
    with pytest.raises(TagError, match=r"write for example holding:0-999|the last one is 65535"):
        parse_range(text)


def test_two_registers_in_every_order() -> None:
    rows = {(order, type_): value for order, type_, value in every_order([1, 2])}
    assert rows["ABCD", "uint32"] == "65538"
    assert rows["CDAB", "uint32"] == "131073"
    assert rows["BADC", "uint32"] == str(0x01000200)
    assert rows["DCBA", "uint32"] == str(0x02000100)
    assert {order: value for order, type_, value in every_order([0x4148, 0]) if type_ == "float32"}["ABCD"] == "12.5"
    assert {order: value for order, type_, value in every_order([0, 0x4148]) if type_ == "float32"}["CDAB"] == "12.5"
    assert rows["ABCD", "bcd32"] == "10002"
    ones = {type_: value for order, type_, value in every_order([0xFFFF, 0xFFFF]) if order == "ABCD"}
    assert ones == {"uint32": str(2**32 - 1), "int32": "-1", "float32": "-", "bcd32": "-"}


def test_four_registers_in_every_order() -> None:
    rows = {(order, type_): value for order, type_, value in every_order([0, 0, 1, 2])}
    assert rows["ABCD", "uint64"] == "65538"
    assert rows["CDAB", "int64"] == str(2 << 48 | 1 << 32)
    with pytest.raises(ValueError, match="3 registers"):
        list(every_order([1, 2, 3]))
