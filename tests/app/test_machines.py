"""Each machine template against a server that has the nodes or registers of its kind: from one line in a work unit to state and count.

The trees below are written down from the node sets that the templates name, apart from the templates themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.node import Node
from asyncua.common.structures104 import new_struct, new_struct_field
from asyncua.server.server import Server
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.base import Refusing
from gateway.acquisition.poller import Poller
from gateway.app.line import Line
from gateway.app.parts import make_line, make_pollers
from gateway.clock import SystemClock
from gateway.config import load
from gateway.domain.events import QuantityCounted
from gateway.domain.tracker import Tracker
from gateway.metrics import Metrics
from gateway.outbox.recorder import Recorder
from simulators.loopback import HOST, free_port
from tests.app.test_line import Remembering
from tests.drivers.mtconnect_agent import Agent

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

VENDOR = "urn:acme:machines"
PACKML = "http://opcfoundation.org/UA/PackML/"
MACHINERY = "http://opcfoundation.org/UA/Machinery/"
MACHINE_TOOL = "http://opcfoundation.org/UA/MachineTool/"
IMM2MES = "http://opcfoundation.org/UA/PlasticsRubber/IMM2MES/"
GENERAL_TYPES = "http://opcfoundation.org/UA/PlasticsRubber/GeneralTypes/"


class Machines:
    """One OPC UA server with a machine of each kind. `nodes`: `machine/leaf` -> its variable."""

    async def start(self) -> None:
        self.server = Server()
        await self.server.init()
        self.port = free_port()
        self.server.set_endpoint(f"opc.tcp://{HOST}:{self.port}")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        # In an order of its own: indexes must come from the URIs.
        uris = ("urn:other", GENERAL_TYPES, MACHINE_TOOL, VENDOR, MACHINERY, IMM2MES, PACKML)
        self.index = {uri: await self.server.register_namespace(uri) for uri in uris}
        self.nodes: dict[str, Node] = {}
        await self.packml()
        await self.machinery()
        await self.machine_tool()
        await self.injection()
        await self.server.start()

    async def machine(self, name: str) -> Node:
        node = ua.NodeId.from_string(f"ns={self.index[VENDOR]};s={name}")
        return await self.server.nodes.objects.add_object(node, f"{self.index[VENDOR]}:{name}")

    async def below(self, parent: Node, *names: tuple[str, str]) -> Node:
        """The object at the end of (namespace, name) steps, made where it is missing."""
        for uri, name in names:
            wanted = ua.QualifiedName(name, self.index[uri])
            found = [child for child in await parent.get_children() if await child.read_browse_name() == wanted]
            parent = found[0] if found else await parent.add_object(self.index[uri], name)
        return parent

    async def state_machine(self, key: str, parent: Node, uri: str, node: int) -> None:
        """`CurrentState` with its `Id`, as FiniteStateVariableType has them: both of OPC UA's own namespace."""
        text = ua.Variant(ua.LocalizedText("Etat", "fr"), ua.VariantType.LocalizedText)
        current = await parent.add_variable(ua.NodeId(f"{key}.CurrentState", 1), "0:CurrentState", text)
        self.nodes[key] = await current.add_property(ua.NodeId(f"{key}.Id", 1), "0:Id", self.state(uri, node))

    def state(self, uri: str, node: int) -> ua.Variant:
        return ua.Variant(ua.NodeId(node, self.index[uri]), ua.VariantType.NodeId)

    async def leaf(self, key: str, parent: Node, uri: str, name: str, value: Any, kind: ua.VariantType) -> None:
        self.nodes[key] = await parent.add_variable(self.index[uri], name, ua.Variant(value, kind))

    async def packml(self) -> None:
        """PackMLBaseObjectType, with two products counted."""
        kinds = {"ID": ua.VariantType.Int32, "Name": ua.VariantType.String, "Count": ua.VariantType.Int32, "AccCount": ua.VariantType.Int32}
        fields = [new_struct_field(name, kind) for name, kind in kinds.items()]
        await new_struct(self.server, self.index[PACKML], "PackMLCountDataType", fields)
        await self.server.load_data_type_definitions()
        filler = await self.machine("Filler")
        status, admin, base = [await self.below(filler, (PACKML, name)) for name in ("Status", "Admin", "BaseStateMachine")]
        inner = await self.below(base, (PACKML, "MachineState"))
        innermost = await self.below(inner, (PACKML, "ExecuteState"))
        await self.state_machine("filler/base", base, PACKML, 5001)
        await self.state_machine("filler/machine", inner, PACKML, 75)
        await self.state_machine("filler/execute", innermost, PACKML, 36)
        await self.leaf("filler/mode", status, PACKML, "UnitModeCurrent", 1, ua.VariantType.Int32)
        await self.leaf("filler/speed", status, PACKML, "CurMachSpeed", 60.0, ua.VariantType.Float)
        for name in ("ProdProcessedCount", "ProdDefectiveCount"):
            await self.leaf(f"filler/{name}", admin, PACKML, name, self.counts(0), ua.VariantType.ExtensionObject)

    @staticmethod
    def counts(second: int) -> list[Any]:
        return [ua.PackMLCountDataType(ID=number, Name="", Count=1, AccCount=count) for number, count in ((1, 7), (2, second))]

    async def machinery(self) -> None:
        """A machine below Machines with its building blocks, and a counter of its own."""
        wrapper = await self.machine("Wrapper")
        await self.building_blocks("wrapper", wrapper)
        await self.leaf("wrapper/parts", await self.below(wrapper, (VENDOR, "Counters")), VENDOR, "Wrapped", 500, ua.VariantType.UInt32)

    async def building_blocks(self, key: str, machine: Node) -> None:
        blocks = await self.below(machine, (MACHINERY, "MachineryBuildingBlocks"))
        state, mode = [await self.below(blocks, (MACHINERY, name)) for name in ("MachineryItemState", "MachineryOperationMode")]
        await self.state_machine(f"{key}/state", state, MACHINERY, 5006)
        await self.state_machine(f"{key}/mode", mode, MACHINERY, 5026)

    async def machine_tool(self) -> None:
        tool = await self.machine("Mill")
        await self.building_blocks("mill", tool)
        production = await self.below(tool, (MACHINE_TOOL, "Production"))
        statistics, program = [await self.below(production, (MACHINE_TOOL, name)) for name in ("Statistics", "ActiveProgram")]
        await self.leaf("mill/parts", statistics, MACHINE_TOOL, "PartsProducedInLifetime", 9000, ua.VariantType.UInt32)
        await self.leaf("mill/program", program, MACHINE_TOOL, "Name", "Sample.nc", ua.VariantType.String)
        monitoring = await self.below(tool, (MACHINE_TOOL, "Monitoring"), (MACHINE_TOOL, "MachineTool"))
        await self.leaf("mill/selector", monitoring, MACHINE_TOOL, "OperationMode", 1, ua.VariantType.Int32)

    async def injection(self) -> None:
        interface = await self.machine("IMM_Acme_4711")
        control = await self.below(interface, (IMM2MES, "MachineMESStatus"), (GENERAL_TYPES, "ProductionControl"))
        await self.leaf("imm/status", control, GENERAL_TYPES, "ProductionStatus", 4, ua.VariantType.Int32)
        machine_status = await self.below(interface, (IMM2MES, "MachineStatus"))
        await self.leaf("imm/mode", machine_status, GENERAL_TYPES, "MachineMode", 1, ua.VariantType.Int32)
        values = await self.below(interface, (IMM2MES, "Jobs"), (GENERAL_TYPES, "ActiveJobValues"))
        await self.leaf("imm/cycles", values, GENERAL_TYPES, "MachineCycleCounter", 2**40, ua.VariantType.UInt64)
        await self.leaf("imm/bad", values, GENERAL_TYPES, "JobBadPartsCounter", 3, ua.VariantType.UInt64)
        await self.leaf("imm/last", values, GENERAL_TYPES, "LastCycleTime", 12_250.0, ua.VariantType.Double)
        job = await self.below(interface, (IMM2MES, "Jobs"), (GENERAL_TYPES, "ActiveJob"))
        await self.leaf("imm/job", job, GENERAL_TYPES, "JobName", "JOB-7", ua.VariantType.String)
        await self.leaf("imm/mould", job, GENERAL_TYPES, "MouldId", "M-19", ua.VariantType.String)

    async def show(self, key: str, value: Any) -> None:
        node = self.nodes[key]
        kind = await node.read_data_type_as_variant_type() if not isinstance(value, ua.Variant) else None
        await node.write_value(value if kind is None else ua.Variant(value, kind))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machines() -> AsyncIterator[Machines]:
    found = Machines()
    await found.start()
    yield found
    await found.server.stop()


class Registers:
    """A Modbus device of 64 holding registers, which a test sets."""

    def __init__(self) -> None:
        self.port = free_port()
        self.words: dict[int, int] = {}
        self.written: dict[int, list[int]] = {}

    async def start(self) -> None:
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        words = [SimData(0, count=64, datatype=DataType.REGISTERS)]
        self.server = ModbusTcpServer(SimDevice(id=1, simdata=(bits, bits, words, words), action=self._refresh), address=(HOST, self.port))
        await self.server.serve_forever(background=True)

    async def _refresh(
        self, function: int, start: int, address: int, count: int, registers: list[int], written: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        if written is None and function == 3:
            for register, word in self.words.items():
                registers[register - start] = word
        return None

    def count(self, register: int, value: int) -> None:
        self.words[register], self.words[register + 1] = value >> 16, value & 0xFFFF


@pytest_asyncio.fixture(loop_scope="module")
async def registers() -> AsyncIterator[Registers]:
    found = Registers()
    await found.start()
    yield found
    await found.server.shutdown()  # type: ignore[no-untyped-call]


class Running:
    """The configuration's pollers and its line, with a recorder that only remembers."""

    def __init__(self, line: Line, poller: Poller, recorder: Remembering) -> None:
        self.line = line
        self.poller = poller
        self._recorder = recorder

    def refused(self) -> Mapping[str, str]:
        """Tags that the device does not have."""
        assert isinstance(self.poller.driver, Refusing)
        return self.poller.driver.refused

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(15):
            while not condition():
                await asyncio.sleep(0.02)

    async def state(self, unit: str, state: str, mode: str = "Processing") -> None:
        """Wait until the unit is in this state. Raises TimeoutError."""
        view = self.line.trackers[unit].view
        await self.until(lambda: self.line.trackers[unit].begun and (view().state, view().operation_mode) == (state, mode))

    async def counted(self, unit: str, produced: int, scrap: int = 0) -> None:
        """Wait until so many pieces were counted since the start."""
        await self.until(lambda: self.total(unit) == (produced, scrap))

    def total(self, unit: str) -> tuple[Decimal, Decimal]:
        found = [e for e in self._recorder.events if isinstance(e, QuantityCounted) and e.work_unit == unit]
        return sum((e.produced for e in found), Decimal(0)), sum((e.scrap for e in found), Decimal(0))


@asynccontextmanager
async def running_on(folder: Path, device: str, unit: str) -> AsyncIterator[Running]:
    path = folder / "lineside.yaml"
    path.write_text(
        "gateway: {id: gw, enterprise: acme, site: lyon}\n"
        f"devices:\n  plc: {{{device}, interval: 100ms}}\n"
        f"work_units:\n  unit: {{area: hall, work_center: cell, device: plc, {unit}}}\n",
        encoding="utf-8",
    )
    async with running(path) as found:
        yield found


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Running]:
    config = load(path)
    clock, metrics, recorder = SystemClock(), Metrics(), Remembering()
    line = make_line(config, {name: Tracker(found) for name, found in config.work_units.items()}, [], clock, metrics)
    line.connect(cast(Recorder, recorder))
    pollers = make_pollers(
        config, path.parent, clock, metrics, on_readings=line.on_readings, on_link=lambda status: None, recorder=cast(Recorder, recorder)
    )
    tasks = [asyncio.create_task(poller.run(), name=name) for name, poller in pollers.items()]
    try:
        found = Running(line, next(iter(pollers.values())), recorder)
        yield found
        assert found.refused() == {}, "every name of the template is one that the machine has"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def opcua(machines: Machines) -> str:
    return f'driver: opcua, url: "opc.tcp://{HOST}:{machines.port}", security: {{insecure: true}}'


def modbus(registers: Registers) -> str:
    return f'driver: modbus, url: "tcp://{HOST}:{registers.port}"'


async def test_packml(machines: Machines, tmp_path: Path) -> None:
    unit = f'machine: packml-opcua, with: {{object: "nsu={VENDOR};s=Filler", product_index: 1}}'
    async with running_on(tmp_path, opcua(machines), unit) as line:
        await line.state("unit", "running")
        await machines.show("filler/ProdProcessedCount", ua.Variant(machines.counts(12), ua.VariantType.ExtensionObject))
        await line.counted("unit", 12)
        await machines.show("filler/ProdDefectiveCount", ua.Variant(machines.counts(2), ua.VariantType.ExtensionObject))
        await line.counted("unit", 12, 2)
        for key, node, state in (
            ("execute", 34, "stopped"),
            ("execute", 36, "running"),
            ("machine", 53, "stopped"),
            ("machine", 75, "running"),
        ):
            await machines.show(f"filler/{key}", machines.state(PACKML, node))
            await line.state("unit", state)
        await machines.show("filler/base", machines.state(PACKML, 62))
        await line.state("unit", "stopped")
        await machines.show("filler/base", machines.state(PACKML, 5001))
        await machines.show("filler/mode", 2)
        await line.state("unit", "maintenance", "Maintenance")


async def test_machinery(machines: Machines, tmp_path: Path) -> None:
    unit = f'machine: machinery-opcua, with: {{object: "nsu={VENDOR};s=Wrapper", parts: "{{{VENDOR}}}Counters/{{{VENDOR}}}Wrapped"}}'
    async with running_on(tmp_path, opcua(machines), unit) as line:
        await line.state("unit", "running")
        await machines.show("wrapper/parts", 504)
        await line.counted("unit", 4)
        await machines.show("wrapper/state", machines.state(MACHINERY, 5007))
        await line.state("unit", "stopped")
        await machines.show("wrapper/mode", machines.state(MACHINERY, 5027))
        await line.state("unit", "setup", "Setup")


async def test_machine_tool(machines: Machines, tmp_path: Path) -> None:
    unit = f'machine: machine-tool-opcua, with: {{object: "nsu={VENDOR};s=Mill"}}, product: {{tag: program}}'
    async with running_on(tmp_path, opcua(machines), unit) as line:
        await line.state("unit", "running")
        await machines.show("mill/parts", 9002)
        await line.counted("unit", 2)
        await machines.show("mill/state", machines.state(MACHINERY, 5004))
        await line.state("unit", "stopped")


async def test_injection_moulding(machines: Machines, tmp_path: Path) -> None:
    unit = f'machine: euromap-77, with: {{object: "nsu={VENDOR};s=IMM_Acme_4711"}}, pieces_per_cycle: 4'
    async with running_on(tmp_path, opcua(machines), unit) as line:
        await line.state("unit", "running")
        await machines.show("imm/cycles", 2**40 + 3)
        await line.counted("unit", 12)
        await machines.show("imm/bad", 5)
        await line.counted("unit", 12, 2)
        await machines.show("imm/status", 1)
        await line.state("unit", "stopped")
        await machines.show("imm/status", 2)
        await line.state("unit", "setup", "Setup")


async def test_press(registers: Registers, tmp_path: Path) -> None:
    registers.words[10] = 0b0010
    registers.count(20, 70_000)
    registers.count(22, 5)
    unit = (
        "machine: press-modbus, with: {status_register: 10, running_bit: 1, setup_bit: 3, fault_register: 11, parts_register: 20, "
        "rejects_register: 22}"
    )
    async with running_on(tmp_path, modbus(registers), unit) as line:
        await line.state("unit", "running")
        registers.count(20, 70_006)
        registers.count(22, 6)
        await line.counted("unit", 6, 1)
        registers.words |= {10: 0, 11: 12}
        await line.state("unit", "stopped")
        assert line.line.trackers["unit"].view().fault == 12
        registers.words[10] = 0b1000
        await line.state("unit", "setup", "Setup")


async def test_the_lathe_of_the_mtconnect_example(tmp_path: Path) -> None:
    """config/mtconnect-lathe.yaml against an agent: the third protocol, from its tags to state and count."""
    text = (Path(__file__).parents[2] / "config/mtconnect-lathe.yaml").read_text(encoding="utf-8")
    items = {
        "exec": "Execution",
        "system_cond": "",
        "pcount_all": "PartCount",
        "pcount_bad": "PartCount",
        "pgm": "Program",
        "s1load": "Load",
    }
    agent = Agent(free_port(), items, conditions=("system_cond",))
    values = (
        ("exec", "ACTIVE"),
        ("system_cond", "Normal"),
        ("pcount_all", "40"),
        ("pcount_bad", "2"),
        ("pgm", "O2200"),
        ("s1load", "31.5"),
    )
    for item, value in values:
        agent.observe(item, value)
    await agent.start()
    (tmp_path / "lineside.yaml").write_text(text.replace("192.168.10.30:5000", f"{HOST}:{agent.port}"), encoding="utf-8")
    async with running(tmp_path / "lineside.yaml") as line:
        await line.state("lathe-02", "running")
        agent.observe("pcount_all", "41")
        agent.observe("pcount_bad", "3")
        await line.counted("lathe-02", 1, 1)
        agent.observe("system_cond", "Fault", code="1005")
        agent.observe("exec", "INTERRUPTED")
        await line.state("lathe-02", "stopped")
        await line.until(lambda: line.line.trackers["lathe-02"].view().fault == 1005)
        agent.observe("exec", "UNAVAILABLE")
        await line.state("lathe-02", "unknown", "None")
    await agent.stop()


async def test_packer(registers: Registers, tmp_path: Path) -> None:
    registers.words[7] = 1
    registers.words |= {30: 1000, 31: 0}
    unit = "machine: packer-modbus, with: {state_register: 7, packs_register: 30, order: CDAB, codes: {1: running, 2: starved}}"
    async with running_on(tmp_path, modbus(registers), unit) as line:
        await line.state("unit", "running")
        registers.words |= {30: 1003}
        await line.counted("unit", 3)
        registers.words[7] = 2
        await line.state("unit", "starved")
