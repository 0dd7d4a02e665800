from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua
from asyncua.client.client import Client

from simulators.opcua_plc import NAMESPACE, OpcUaPlc
from simulators.press import Press

pytestmark = pytest.mark.slow


class _Watch:
    def __init__(self) -> None:
        self.values: list[tuple[int, datetime]] = []

    def datachange_notification(self, node: object, value: int, data: object) -> None:
        stamp = data.monitored_item.Value.SourceTimestamp  # type: ignore[attr-defined]
        self.values.append((value, stamp))


async def test_nodes_read_write_and_come_back_after_a_restart_while_the_press_goes_on() -> None:
    press = Press(seed=3)
    plc = OpcUaPlc(press)
    await plc.start()
    try:
        async with Client(plc.url) as client:
            index = await client.get_namespace_index(NAMESPACE)
            assert await client.get_node(f"ns={index};s=Counters.Total").read_value() == 48_213
            assert await client.get_node(f"ns={index};s=Counters.Rejects").read_value() == 611
            assert await client.get_node(f"ns={index};s=State.Running").read_value() is True
            assert await client.get_node(f"ns={index};s=State.Fault").read_value() == 0
            assert await client.get_node(f"ns={index};s=Coil.Weight").read_value() == pytest.approx(80.5)
            assert await client.get_node(f"ns={index};s=Gauge.Bore").read_value() == 12.0
            assert await client.get_node(f"ns={index};s=Recipe.Number").read_value() == 12
            target = client.get_node(f"ns={index};s=Order.Quantity")
            await target.write_value(ua.DataValue(ua.Variant(130, ua.VariantType.UInt32)))
            with pytest.raises(ua.UaStatusCodeError):
                await client.get_node(f"ns={index};s=Counters.Total").write_value(ua.DataValue(ua.Variant(1, ua.VariantType.UInt32)))
        await plc.stop()
        assert not plc.up
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(plc.host, plc.port)
        press.advance(30)
        await plc.start()
        async with Client(plc.url) as client:
            total = await client.get_node(f"ns={index};s=Counters.Total").read_value()
            assert total == press.values().total > 48_213
        assert await plc.order_quantity() == 130
    finally:
        await plc.stop()


async def test_each_piece_has_its_own_source_timestamp() -> None:
    press = Press(seed=3, stoppages=())
    plc = OpcUaPlc(press)
    await plc.start()
    watch = _Watch()
    try:
        async with Client(plc.url) as client:
            index = await client.get_namespace_index(NAMESPACE)
            subscription = await client.create_subscription(20, watch)
            await subscription.subscribe_data_change(client.get_node(f"ns={index};s=Counters.Total"), queuesize=20)
            slice_start = datetime.now(UTC) - timedelta(seconds=10)
            changes = press.advance(10)
            await plc.publish(changes, slice_start)
            async with asyncio.timeout(20):
                while len(watch.values) < len(changes) + 1:
                    await asyncio.sleep(0.01)
    finally:
        await plc.stop()
    seen = watch.values[1:]
    assert [value for value, _ in seen] == [c.values.total for c in changes]
    offsets = [(stamp.replace(tzinfo=UTC) - slice_start).total_seconds() for _, stamp in seen]
    assert offsets == pytest.approx([c.offset_s for c in changes], abs=1e-4)
