from __future__ import annotations

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.framer import FramerType

from simulators.modbus_plc import UNIT_ID, ModbusPlc
from simulators.press import BREAK, Packer


async def _client(plc: ModbusPlc) -> AsyncModbusTcpClient:
    framer = FramerType.RTU if plc.rtu else FramerType.SOCKET
    client = AsyncModbusTcpClient(plc.host, port=plc.port, framer=framer, retries=0, reconnect_delay=0)
    assert await client.connect()
    return client


@pytest.mark.parametrize("rtu", [False, True])
async def test_the_map_of_the_example_configuration(rtu: bool) -> None:
    packer = Packer(seed=2, total=3_912_004)
    plc = ModbusPlc(packer, rtu=rtu)
    assert plc.url.startswith("rtu+tcp://" if rtu else "tcp://")
    await plc.start()
    client = await _client(plc)
    try:
        parts = await client.read_holding_registers(100, count=2, device_id=UNIT_ID)
        assert parts.registers[0] << 16 | parts.registers[1] == 3_912_004
        assert (await client.read_input_registers(7, count=1, device_id=UNIT_ID)).registers == [0]
        assert (await client.read_holding_registers(20, count=1, device_id=UNIT_ID)).registers == [125]
        packer.stop_for(10, code=BREAK)
        assert (await client.read_input_registers(7, count=1, device_id=UNIT_ID)).registers == [BREAK]
        while packer.stoppage is None or packer.stoppage.name != "jam":
            packer.advance(1)
        assert (await client.read_holding_registers(12, count=1, device_id=UNIT_ID)).registers == [0b1000]
        assert (await client.read_discrete_inputs(0, count=1, device_id=UNIT_ID)).bits[0] is True
        whole_block = await client.read_holding_registers(0, count=125, device_id=UNIT_ID)
        assert len(whole_block.registers) == 125
        assert (await client.read_holding_registers(127, count=2, device_id=UNIT_ID)).isError()
        assert (await client.write_register(100, 1, device_id=UNIT_ID)).isError()
    finally:
        client.close()
        await plc.stop()


async def test_a_32_bit_counter_is_never_torn() -> None:
    packer = Packer(seed=2, total=65_500, stoppages=(), speed=50)
    plc = ModbusPlc(packer)
    await plc.start()
    client = await _client(plc)
    seen = []
    try:
        for _ in range(60):
            registers = (await client.read_holding_registers(100, count=2, device_id=UNIT_ID)).registers
            seen.append(registers[0] << 16 | registers[1])
            packer.advance(0.02)
    finally:
        client.close()
        await plc.stop()
    assert seen == sorted(seen)
    assert seen[0] < 65_536 <= seen[-1]


async def test_it_comes_back_on_its_port_while_the_packer_went_on() -> None:
    packer = Packer(seed=2)
    plc = ModbusPlc(packer)
    await plc.start()
    port = plc.port
    await plc.stop()
    with pytest.raises(AssertionError):
        await _client(plc)
    packer.advance(30)
    await plc.start()
    assert plc.port == port
    client = await _client(plc)
    try:
        parts = await client.read_holding_registers(100, count=2, device_id=UNIT_ID)
        assert parts.registers[0] << 16 | parts.registers[1] == packer.total > 3_912_004
    finally:
        client.close()
        await plc.stop()
