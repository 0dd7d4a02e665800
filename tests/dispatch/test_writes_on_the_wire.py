"""What leaves for a device when a value is to be written: counted by the device itself, request by request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from drivers import make_driver
from drivers.base import Driver, Value
from drivers.modbus_settings import ModbusSettings
from gateway.clock import SystemClock
from gateway.dispatch.writing import DeviceWriter
from simulators.loopback import HOST
from tests.chaos.modbus_server import Device, Kind
from tests.drivers.devices import within

pytestmark = pytest.mark.slow

TAGS = {
    "pieces": {"holding": 4, "type": "uint32"},
    "setpoint": {"holding": 8, "type": "uint32", "writable": True, "valid": [0, 5000]},
}


class Wire:
    """A device, and the gateway's one writer to it. `lose`: the link is gone; `connect` makes a new one, as the poller does."""

    def __init__(self, device: Device, port: int) -> None:
        self.device = device
        self._settings = ModbusSettings.model_validate(
            {"driver": "modbus", "url": f"tcp://{HOST}:{port}", "unit_id": device.unit_id, "timeout": 0.1, "tags": TAGS}
        )
        self.driver: Driver | None = None
        self.writer = DeviceWriter("plc", lambda: self.driver, SystemClock())

    async def connect(self) -> None:
        await self.lose()
        driver = make_driver(self._settings, SystemClock(), name="plc", secrets=lambda secret: "")
        await driver.connect()
        self.driver = driver

    async def lose(self) -> None:
        driver, self.driver = self.driver, None
        if driver is not None:
            await driver.close()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    # Every answer to a write is bad as long as the test has put one there.
    device = Device(random.Random(1), [], [], share=0.0, silence_s=0.3, write_share=1.0)
    server = await asyncio.start_server(device.serve, HOST, 0)
    found = Wire(device, server.sockets[0].getsockname()[1])
    await found.connect()
    yield found
    await found.lose()
    server.close()


@pytest.mark.parametrize(
    ("tag", "value", "why"),
    [
        ("pieces", 5, "not writable"),
        ("elsewhere", 5, "not writable"),
        ("setpoint", 5001, "outside 0 to 5000"),
        ("setpoint", 12.5, "between two values"),
        ("setpoint", "12", "no number"),
        ("setpoint", None, "no number"),
    ],
)
async def test_what_may_not_be_written_never_leaves(wire: Wire, tag: str, value: Value, why: str) -> None:
    problem = await wire.writer.write(tag, value)
    assert problem is not None
    assert why in problem
    assert wire.device.requests == 0


async def test_a_value_leaves_once_and_is_read_back(wire: Wire) -> None:
    assert await wire.writer.write("setpoint", 250) is None
    assert wire.device.written == {250: 1}
    assert wire.device.requests == 2


async def test_writes_of_many_at_the_same_time_leave_one_after_the_other(wire: Wire) -> None:
    results = await asyncio.gather(*(wire.writer.write("setpoint", value) for value in range(1, 6)))
    assert results == [None] * 5, "each was read back before the next one left"
    assert wire.device.written == dict.fromkeys(range(1, 6), 1)


@pytest.mark.parametrize("kind", [Kind.NONE, Kind.HALF, Kind.GARBAGE, Kind.WRONG_TRANSACTION, Kind.SHORT])
async def test_a_write_whose_answer_is_lost_is_read_on_the_next_connection_and_not_repeated(wire: Wire, kind: Kind) -> None:
    wire.device.writes = [kind]
    writing = asyncio.create_task(wire.writer.write("setpoint", 777))
    await within(5, lambda: wire.device.written[777])
    await asyncio.sleep(0.25)
    await wire.connect()
    problem = await writing
    assert (problem is None) == (wire.device.setpoint == 777)
    assert wire.device.written == {777: 1}
    assert wire.device.connections == 2


async def test_without_a_link_nothing_is_kept_for_later(wire: Wire) -> None:
    await wire.lose()
    assert await wire.writer.write("setpoint", 250) == "the link is down"
    await wire.connect()
    await asyncio.sleep(0.05)
    assert wire.device.written == {}
