"""Orders into real servers: the simulated press on OPC UA, and a Modbus device that is polled at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from asyncua import ua
from asyncua.client.client import Client

from drivers import make_driver
from drivers.base import Reading
from drivers.modbus_settings import ModbusSettings
from drivers.opcua_settings import OpcUaSettings
from gateway.acquisition.poller import Poller
from gateway.clock import SystemClock
from gateway.domain.equipment import ReleaseRule
from gateway.domain.job import WriteState
from gateway.metrics import Metrics
from simulators.faults import Fault, FaultProxy, Kind
from simulators.loopback import HOST
from simulators.opcua_plc import NAMESPACE, ORDER_QUANTITY, OpcUaPlc
from simulators.press import Press
from tests.dispatch.machine import Shop
from tests.drivers.devices import ModbusDevice, within

pytestmark = pytest.mark.slow

KEY = "release:press-07"


@asynccontextmanager
async def connected(settings: OpcUaSettings | ModbusSettings, tag: str) -> AsyncIterator[tuple[Shop, Poller]]:
    """A shop whose machine is a real device, polled as in the daemon."""
    clock = SystemClock()

    def ignore(device: str, readings: Sequence[Reading], pushed: bool) -> None: ...

    poller = Poller(
        "plc", lambda: make_driver(settings, clock, name="plc", secrets=lambda secret: "", state_dir=None), tuple(settings.tags),
        settings.interval, clock, Metrics(), ignore, lambda status: None, settings.peer,
    )  # fmt: skip
    polling = asyncio.create_task(poller.run())
    shop = Shop(ReleaseRule(quantity=tag), real_clock=clock, driver=lambda: poller.driver)
    try:
        yield shop, poller
    finally:
        await shop.stop()
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


async def set_by_hand(plc: OpcUaPlc, quantity: int) -> None:
    async with Client(plc.url) as client:
        index = await client.get_namespace_index(NAMESPACE)
        node = client.get_node(f"ns={index};s={ORDER_QUANTITY}")
        await node.write_value(ua.DataValue(ua.Variant(quantity, ua.VariantType.UInt32), StatusCode=None))


async def test_the_press_gets_its_quantity_once_whatever_the_link_does(tmp_path: Path) -> None:
    plc = OpcUaPlc(Press(seed=3))
    await plc.start()
    proxy = FaultProxy(HOST, plc.port)
    await proxy.start()
    settings = OpcUaSettings.model_validate(
        {
            "driver": "opcua", "url": f"opc.tcp://{HOST}:{proxy.port}", "security": {"insecure": True}, "interval": 0.1,
            "tags": {
                "parts": {"node": f"nsu={NAMESPACE};s=Counters.Total"},
                "target": {"node": f"nsu={NAMESPACE};s={ORDER_QUANTITY}", "writable": True},
            },
        }
    )  # fmt: skip
    async with connected(settings, "target") as (shop, poller):
        job = await shop.start()
        await within(5, lambda: job.written is WriteState.WRITTEN)
        assert await plc.order_quantity() == 250
        assert shop.told() == [("target", 250, "before", None), ("target", 250, "after", None)]

        await set_by_hand(plc, 260)
        await proxy.set(Fault(kind=Kind.RESET))
        await within(3, lambda: poller.driver is None)
        await proxy.set(Fault(kind=Kind.PASS))
        await within(5, lambda: poller.driver is not None)
        await shop.restart()
        await asyncio.sleep(0.5)
        assert await plc.order_quantity() == 260
        assert len(shop.told()) == 2

        job = await shop.start("OF-2", quantity=Decimal(2**33))
        await within(5, lambda: job.written is WriteState.FAILED)
        assert "UInt32" in shop.alerts.standing[KEY][3]
        assert await plc.order_quantity() == 260
    await proxy.stop()
    await plc.stop()


async def test_a_modbus_device_that_is_polled_fast_takes_orders_meanwhile(tmp_path: Path) -> None:
    device = ModbusDevice(tmp_path)
    await device.start()
    async with connected(device.settings(interval=0.01), "parts") as (shop, poller):
        await within(5, lambda: poller.driver is not None)
        for number in range(1, 16):
            job = await shop.start(f"OF-{number}", quantity=Decimal(70_000 + number))
            await within(5, lambda job=job: job.written is not WriteState.NONE and job.written is not WriteState.BEGUN)
            assert job.written is WriteState.WRITTEN
            assert device.values["parts"] == 70_000 + number
        assert poller.status.outages == 0
        assert len(shop.told()) == 30
    await device.stop()
