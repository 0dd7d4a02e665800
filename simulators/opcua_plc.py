"""The press's PLC on OPC UA (asyncua): the nodes of the example configuration, source timestamps set at the piece.

The machine lives outside the server: stopping the server is a network or PLC communication fault, the press goes on.

    python -m simulators.opcua_plc --port 4840       then connect to opc.tcp://127.0.0.1:4840
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from asyncua import ua
from asyncua.server.server import Server

from simulators.loopback import HOST, free_port
from simulators.press import Change, Press, PressValues
from simulators.process import run_until_stopped

NAMESPACE = "urn:acme:press"

_NODES: dict[str, tuple[str, ua.VariantType]] = {
    "rejects": ("Counters.Rejects", ua.VariantType.UInt32),
    "total": ("Counters.Total", ua.VariantType.UInt32),
    "running": ("State.Running", ua.VariantType.Boolean),
    "fault": ("State.Fault", ua.VariantType.UInt16),
    "coil_kg": ("Coil.Weight", ua.VariantType.Double),
    "bore_mm": ("Gauge.Bore", ua.VariantType.Double),
    "recipe": ("Recipe.Number", ua.VariantType.UInt16),
}
"""Values of the press -> node and type. Rejects come before the total, so that no reader sees a piece as good first."""

ORDER_QUANTITY = "Order.Quantity"
"""Writable: the piece preselection an operator, or a gateway, sets."""


class OpcUaPlc:
    """An OPC UA server in front of one press. `start` after `stop` comes back on the same port, as a PLC does."""

    def __init__(self, press: Press, *, host: str = HOST, port: int = 0) -> None:
        self.press = press
        self.host = host
        self.port = port or free_port()
        self._server: Server | None = None
        self._ids: dict[str, ua.NodeId] = {}
        self._shown: PressValues | None = None
        self._quantity = 0

    @property
    def url(self) -> str:
        return f"opc.tcp://{self.host}:{self.port}"

    @property
    def up(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        """Listen; returns when the server answers. Does nothing when it already does."""
        if self._server is not None:
            return
        server = Server()
        await server.init()
        server.set_endpoint(self.url)
        server.set_server_name("Press 07 PLC (simulated)")
        await server.set_application_uri("urn:acme:press:plc")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await self._build_nodes(server, await server.register_namespace(NAMESPACE))
        self._shown = None
        await self._show(server, self.press.values(), datetime.now(UTC))
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Go away: connections are closed, subscriptions are forgotten, the press goes on."""
        server, self._server = self._server, None
        if server is None:
            return
        self._quantity = await self._read_quantity(server)
        await server.stop()

    async def order_quantity(self) -> int:
        """What was last written to Order.Quantity."""
        return self._quantity if self._server is None else await self._read_quantity(self._server)

    async def publish(self, changes: Sequence[Change[PressValues]], slice_start: datetime) -> None:
        """Show what happened since `slice_start` (aware UTC), each change with its own source timestamp."""
        server = self._server
        if server is None:
            return
        for change in changes:
            await self._show(server, change.values, slice_start + timedelta(seconds=change.offset_s))
        await self._show(server, self.press.values(), datetime.now(UTC))

    async def _build_nodes(self, server: Server, index: int) -> None:
        folder = await server.nodes.objects.add_object(index, "Press")
        values = self.press.values()
        for name, (path, kind) in _NODES.items():
            node = await folder.add_variable(ua.NodeId.from_string(f"ns={index};s={path}"), path, getattr(values, name), varianttype=kind)
            self._ids[name] = node.nodeid
        target = await folder.add_variable(
            ua.NodeId.from_string(f"ns={index};s={ORDER_QUANTITY}"), ORDER_QUANTITY, self._quantity, varianttype=ua.VariantType.UInt32
        )
        await target.set_writable()
        self._ids["quantity"] = target.nodeid

    async def _show(self, server: Server, values: PressValues, at: datetime) -> None:
        if values == self._shown:
            return
        for name, (_, kind) in _NODES.items():
            value = getattr(values, name)
            if self._shown is not None and getattr(self._shown, name) == value:
                continue
            stamp = ua.DateTime.fromtimestamp(at.timestamp(), UTC)
            data_value = ua.DataValue(ua.Variant(value, kind), SourceTimestamp=stamp, ServerTimestamp=stamp)
            await server.write_attribute_value(self._ids[name], data_value)
        self._shown = values

    async def _read_quantity(self, server: Server) -> int:
        return int(await server.get_node(self._ids["quantity"]).read_value())


async def _serve(args: argparse.Namespace, stopped: asyncio.Event) -> None:
    press = Press(seed=args.seed, speed=args.speed)
    plc = OpcUaPlc(press, host=args.host, port=args.port)
    await plc.start()
    print(f"{plc.url}  namespace {NAMESPACE}  nodes {', '.join(path for path, _ in _NODES.values())}, {ORDER_QUANTITY}", flush=True)
    loop = asyncio.get_running_loop()
    last = loop.time()
    try:
        while not stopped.is_set():
            await asyncio.sleep(0.02)
            now = loop.time()
            slice_start = datetime.now(UTC) - timedelta(seconds=now - last)
            await plc.publish(press.advance(now - last), slice_start)
            last = now
    finally:
        await plc.stop()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.opcua_plc",
        description="A stamping press behind an OPC UA server.",
        epilog="example: python -m simulators.opcua_plc --port 4840 --speed 5",
    )
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=4840, help="0: a free one (default 4840)")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--speed", type=float, default=1.0)
    args = parser.parse_args(argv)
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    return run_until_stopped(lambda stopped: _serve(args, stopped))


if __name__ == "__main__":
    sys.exit(main())
