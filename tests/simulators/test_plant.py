from __future__ import annotations

import asyncio
import importlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pymodbus.client import AsyncModbusTcpClient

from simulators.loopback import HOST, free_port

SIMULATORS = ("broker", "erp", "faults", "mes", "modbus_plc", "opcua_plc", "plant", "press")


@pytest.mark.parametrize("name", SIMULATORS)
def test_each_simulator_says_how_to_start_it_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"simulators.{name}").main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"python -m simulators.{name}" in told
    assert "example:" in told


def test_the_press_prints_its_day(capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module("simulators.press").main(["--seconds", "60"]) == 0
    captured = capsys.readouterr()
    changes = [json.loads(line) for line in captured.out.splitlines()]
    assert changes[-1]["total"] == 48_213 + json.loads(captured.err)["made"]["produced"]


class Running:
    """`python -m simulators.plant` as a process, and its control port."""

    def __init__(self, process: asyncio.subprocess.Process, addresses: dict[str, Any], http: aiohttp.ClientSession) -> None:
        self.process, self.addresses, self.http = process, addresses, http

    async def get(self, path: str) -> Any:
        async with self.http.get(self.addresses["control"] + path) as response:
            assert response.status == 200
            return await response.json()

    async def post(self, path: str, message: Any) -> int:
        async with self.http.post(self.addresses["control"] + path, json=message) as response:
            return response.status


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    ports = tmp_path / "ports.json"
    command = [sys.executable, "-m", "simulators.plant", "--halted", "--speed", "20", "--ports-file", str(ports)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            addresses = json.loads(await process.stdout.readline())
        assert json.loads(ports.read_text()) == addresses
        async with aiohttp.ClientSession() as http:
            yield Running(process, addresses, http)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0


@pytest.mark.slow
async def test_the_plant_obeys_its_control_port_and_ends_on_sigterm(plant: Running) -> None:
    state = await plant.get("/state")
    assert {name: m["made"]["produced"] for name, m in state["machines"].items()} == {"press-07": 0, "packer-02": 0}
    assert state["servers"] == {"press_plc": True, "packer_plc": True, "erp": True}
    assert state["mes"] is None
    for unit in state["machines"]:
        assert await plant.post(f"/machines/{unit}", {"do": "release"}) == 200
    async with asyncio.timeout(30):
        while not all(machine["made"]["produced"] for machine in (await plant.get("/state"))["machines"].values()):
            await asyncio.sleep(0.05)
    for unit in state["machines"]:
        assert await plant.post(f"/machines/{unit}", {"do": "halt"}) == 200
    machines = (await plant.get("/state"))["machines"]
    packer = machines["packer-02"]
    assert packer["made"]["produced"] == packer["counters"]["parts"] - 3_912_004 > 0
    assert machines["press-07"]["made"]["produced"] == machines["press-07"]["counters"]["total"] - 48_213 > 0
    port = int(plant.addresses["packer_plc"].rsplit(":", 1)[1])
    client = AsyncModbusTcpClient(HOST, port=port, retries=0, reconnect_delay=0)
    assert await client.connect()
    registers = (await client.read_holding_registers(100, count=2, device_id=1)).registers
    client.close()
    assert registers[0] << 16 | registers[1] == packer["counters"]["parts"], "the proxy must let it through"
    assert await plant.post("/faults/packer_plc", {"kind": "refuse"}) == 200
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
    assert await plant.post("/servers/press_plc", {"do": "restart"}) == 200
    assert (await plant.get("/state"))["servers"]["press_plc"]


@pytest.mark.slow
async def test_a_wrong_order_is_answered_with_the_reason_and_changes_nothing(plant: Running) -> None:
    for path, message, status in (
        ("/machines/press-07", {"do": "explode"}, 400),
        ("/machines/press-99", {"do": "halt"}, 404),
        ("/servers/erp", {"do": "stop", "x": 1}, 400),
        ("/servers/crm", {"do": "stop"}, 404),
        ("/faults/erp", {"kind": "gremlins"}, 400),
        ("/faults/broker", {"kind": "reset"}, 404),
    ):
        assert await plant.post(path, message) == status, path
    state = await plant.get("/state")
    assert all(state["servers"].values())
    assert set(state["faults"].values()) == {"pass"}


@pytest.mark.slow
async def test_it_ends_with_the_standard_input_of_whoever_started_it() -> None:
    pytest.importorskip("amqtt")
    command = [sys.executable, "-m", "simulators.broker", "--port", str(free_port()), "--exit-with-stdin"]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    async with asyncio.timeout(10):
        assert (await process.stdout.readline()).startswith(b"mqtt://127.0.0.1:")
        process.stdin.close()
        assert await process.wait() == 0
