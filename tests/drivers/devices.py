"""Real devices on loopback for the driver tests: each says which values it shows, goes away and comes back on its port."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.server.server import Server
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers import make_driver
from drivers.base import Driver, Value
from drivers.modbus_settings import ModbusSettings
from drivers.mtconnect import MTConnectSettings
from drivers.opcua_settings import OpcUaSettings
from drivers.replay import ReplaySettings
from gateway.clock import SystemClock
from simulators.loopback import HOST, free_port
from tests.drivers.mtconnect_agent import Agent

NAMESPACE = "urn:test:plc"
TAGS = ("parts", "running", "weight", "absent")
"""What every device here shows; `absent` is configured, but the device does not have it."""


INITIAL: dict[str, Value] = {"parts": 70_000, "running": True, "weight": 12.5}


class Device(ABC):
    """One device under test. `values`: what it shows of TAGS but absent."""

    reconnects = True
    writes = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.values: dict[str, Value] = dict(INITIAL)

    async def reset(self) -> None:
        """Show the first values again."""
        for tag, value in INITIAL.items():
            await self.show(tag, value)

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def show(self, tag: str, value: Value) -> None:
        """Let the machine change a value."""

    @abstractmethod
    def settings(self, port: int | None = None, **more: Any) -> Any: ...

    @abstractmethod
    async def written(self) -> Value:
        """What stands in the writable tag `parts`."""

    def driver(self, port: int | None = None, **more: Any) -> Driver:
        return make_driver(self.settings(port, **more), SystemClock(), name="plc", secrets=lambda secret: "secret", state_dir=self.folder)


class ModbusDevice(Device):
    """holding 100 parts (uint32), coil 5 running, input 20 weight (int16 x 0.1); 128 registers a table."""

    fault: ExcCodes | None = None

    async def start(self) -> None:
        bits = [SimData(0, count=64, values=False, datatype=DataType.BITS)]
        words = [SimData(0, count=128, datatype=DataType.REGISTERS)]
        device = SimDevice(id=1, simdata=(bits, bits, words, words), action=self._refresh)
        self.server = ModbusTcpServer(device, address=(HOST, self.port))
        await self.server.serve_forever(background=True)

    async def stop(self) -> None:
        await self.server.shutdown()  # type: ignore[no-untyped-call]

    async def show(self, tag: str, value: Value) -> None:
        self.values[tag] = value

    async def _refresh(
        self, function: int, start: int, address: int, count: int, registers: list[int], written: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        if self.fault is not None:
            return self.fault
        if written is not None:
            if function == 16:
                self.values["parts"] = int(written[0]) << 16 | int(written[1])
            return None
        parts = self.values["parts"]
        assert isinstance(parts, int)
        if function == 3:
            registers[100 - start : 102 - start] = [parts >> 16, parts & 0xFFFF]
        elif function == 4:
            registers[20 - start] = round(float(self.values["weight"] or 0) * 10)
        elif function == 1:
            registers[0] = int(bool(self.values["running"])) << 5
        return None

    def settings(self, port: int | None = None, **more: Any) -> ModbusSettings:
        tags = {
            "parts": {"holding": 100, "type": "uint32", "writable": True},
            "running": {"coil": 5},
            "weight": {"input": 20, "type": "int16", "scale": 0.1},
            "absent": {"holding": 127, "type": "uint32"},
        }
        return ModbusSettings.model_validate(
            {"driver": "modbus", "url": f"tcp://{HOST}:{port or self.port}", "interval": 0.1, "tags": tags} | more
        )

    async def written(self) -> Value:
        return self.values["parts"]


class OpcUaDevice(Device):
    mode = "poll"
    kinds = {"parts": ua.VariantType.UInt32, "running": ua.VariantType.Boolean, "weight": ua.VariantType.Double}

    async def start(self) -> None:
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://{HOST}:{self.port}")
        await server.set_application_uri("urn:test:plc:server")
        await self.secure(server)
        # Not the first of the server's own: the index must come from the URI.
        await server.register_namespace("urn:test:other")
        self.index = await server.register_namespace(NAMESPACE)
        folder = await server.nodes.objects.add_object(self.index, "Machine")
        self.nodes = {}
        for tag, kind in self.kinds.items():
            node_id = ua.NodeId.from_string(f"ns={self.index};s={tag}")
            self.nodes[tag] = await folder.add_variable(node_id, tag, self.values[tag], varianttype=kind)
            await self.nodes[tag].set_writable()
        self.folder_node = folder
        self.server = server
        for tag, value in self.values.items():
            await self.show(tag, value)
        await server.start()

    async def secure(self, server: Server) -> None:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])

    async def stop(self) -> None:
        await self.server.stop()

    async def show(self, tag: str, value: Value, status: int = 0, at: datetime | None = None) -> None:
        self.values[tag] = value
        data = ua.DataValue(
            ua.Variant(value, self.kinds[tag]),
            ua.StatusCode(status),
            SourceTimestamp=at or datetime.now(UTC),
            ServerTimestamp=datetime.now(UTC),
        )
        await self.server.write_attribute_value(self.nodes[tag].nodeid, data)

    def settings(self, port: int | None = None, **more: Any) -> OpcUaSettings:
        tags = {tag: {"node": f"nsu={NAMESPACE};s={tag}", "writable": tag == "parts"} for tag in TAGS}
        base = {
            "driver": "opcua", "url": f"opc.tcp://{HOST}:{port or self.port}", "security": {"insecure": True},
            "mode": self.mode, "interval": 0.1, "tags": tags,
        }  # fmt: skip
        return OpcUaSettings.model_validate(base | more)

    async def written(self) -> Value:
        value = await self.nodes["parts"].read_value()
        assert isinstance(value, int)
        return value


class SubscribedDevice(OpcUaDevice):
    mode = "subscribe"


class MTConnectDevice(Device):
    """An agent; it can only be read."""

    writes = False
    elements = {"parts": "PartCount", "running": "PowerState", "weight": "Load"}

    async def start(self) -> None:
        self.agent = Agent(self.port, self.elements)
        await self.agent.start()
        for tag, value in self.values.items():
            await self.show(tag, value)

    async def stop(self) -> None:
        await self.agent.stop()

    async def show(self, tag: str, value: Value) -> None:
        self.values[tag] = value
        self.agent.observe(tag, {True: "ON", False: "OFF"}[value] if isinstance(value, bool) else str(value))

    def settings(self, port: int | None = None, **more: Any) -> MTConnectSettings:
        tags = {tag: {"data_item": tag} for tag in TAGS} | {"running": {"data_item": "running", "type": "bool"}}
        base = {"driver": "mtconnect", "url": f"http://{HOST}:{port or self.port}", "interval": 0.1, "tags": tags}
        return MTConnectSettings.model_validate(base | more)

    async def written(self) -> Value:
        return self.values["parts"]


class RecordedDevice(Device):
    """The same values as a recording; it has no link that could be lost and nothing to write to."""

    reconnects = writes = False

    async def reset(self) -> None:
        await self.start()

    async def start(self) -> None:
        self.values = dict(INITIAL)
        self.at = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
        self.rows = ["at,device,tag,value,quality"]
        for tag, value in self.values.items():
            await self.show(tag, value)
        self.rows.append(f"{self.at.isoformat()},plc,absent,,bad")
        self._save()

    async def stop(self) -> None:
        (self.folder / "recording.csv").unlink(missing_ok=True)

    async def show(self, tag: str, value: Value) -> None:
        if value != self.values[tag]:
            self.at += timedelta(seconds=1)
        self.values[tag] = value
        self.rows.append(f"{self.at.isoformat()},plc,{tag},{value},good")
        self._save()

    def _save(self) -> None:
        (self.folder / "recording.csv").write_text("\n".join(self.rows) + "\n", encoding="utf-8")

    def settings(self, port: int | None = None, **more: Any) -> ReplaySettings:
        base = {"driver": "replay", "file": str(self.folder / "recording.csv"), "tags": {tag: {} for tag in TAGS}}
        return ReplaySettings.model_validate(base | more)

    async def written(self) -> Value:
        return self.values["parts"]


SLACK = 3
"""Other tests run beside these: so many times what a quiet machine takes is in time. The chaos rigs hold the daemon to its figures."""


async def within(seconds: float, condition: Any) -> None:
    """Wait until `condition()` holds, `SLACK` times as long at most. Raises TimeoutError."""
    async with asyncio.timeout(SLACK * seconds):
        while not condition():
            await asyncio.sleep(0.01)


def by_tag(readings: Sequence[Any]) -> dict[str, Any]:
    return {reading.tag: reading for reading in readings}
