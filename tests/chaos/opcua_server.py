"""A machine behind asyncua's server, told what to do a line of JSON at a time; `tests/peers/opcua_server.js` does the same on node-opcua.

{"total": N}         the machine made its N-th piece
{"program": false}   its nodes are gone, as in the middle of a download; true: they are there again
{"ask": "held"}      how many sessions, subscriptions and channels the server holds, answered with a line

    python -m tests.chaos.opcua_server PORT [TOTAL]        it ends when standard input ends
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server

from simulators.loopback import HOST

NAMESPACE = "urn:lineside:chaos"

_NODES: dict[str, tuple[Any, ua.VariantType]] = {
    "Counters.Total": (0, ua.VariantType.UInt32),
    "State.Running": (True, ua.VariantType.Boolean),
    "Recipe.Number": (7, ua.VariantType.UInt16),
}


class Machine:
    def __init__(self, server: Server, index: int, total: int) -> None:
        self.total = total
        self._server = server
        self._index = index
        self._nodes: dict[str, Node] = {}

    async def load(self) -> None:
        for name, (value, kind) in _NODES.items():
            node_id = ua.NodeId.from_string(f"ns={self._index};s={name}")
            self._nodes[name] = await self._server.nodes.objects.add_variable(node_id, name, value, varianttype=kind)
        await self.count(self.total)

    async def unload(self) -> None:
        nodes, self._nodes = list(self._nodes.values()), {}
        await self._server.delete_nodes(nodes)

    async def count(self, total: int) -> None:
        self.total = total
        node = self._nodes.get("Counters.Total")
        if node is not None:
            now = datetime.now(UTC)
            value = ua.DataValue(ua.Variant(total, ua.VariantType.UInt32), SourceTimestamp=now, ServerTimestamp=now)
            await self._server.write_attribute_value(node.nodeid, value)

    async def obey(self, order: dict[str, Any]) -> None:
        if "total" in order:
            await self.count(order["total"])
        elif order.get("program") is True and not self._nodes:
            await self.load()
        elif order.get("program") is False and self._nodes:
            await self.unload()


def held(server: Server) -> dict[str, int]:
    internal = server.iserver
    return {
        # asyncua publishes no session count: its registry of sessions that came over the network is the truth behind it.
        "sessions": len(internal._external_sessions),
        "subscriptions": len(internal.subscription_service.subscriptions),
        "channels": len(internal.asyncio_transports),
    }


async def serve(port: int, total: int) -> None:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://{HOST}:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    # A PLC whose program was changed numbers its namespaces differently: each start does so here.
    for number in range(total % 3):
        await server.register_namespace(f"{NAMESPACE}:other-{number}")
    machine = Machine(server, await server.register_namespace(NAMESPACE), total)
    await machine.load()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with server:
        print(json.dumps({"listening": port}), flush=True)
        while line := await orders.readline():
            order = json.loads(line)
            await machine.obey(order)
            if "ask" in order:
                print(json.dumps(held(server)), flush=True)


if __name__ == "__main__":
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
