"""An OPC UA server with very many variables, for what must be fast or must end: connecting, reading, browsing.

    Objects / Hall / Cell-000 / V00000, V00001, ...       UInt32, node ids ns=2;s=V00000, `--per-folder` of them in each cell

All count up: `--changes` of them a second get a new value, in turn. One line of JSON tells when it answers; then each line on standard
input is answered with {"changes": N}, the new values so far. It ends with standard input.

    python -m tests.scale.many_nodes --nodes 100000
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import sys
from datetime import UTC, datetime

from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.server.server import Server

from simulators.loopback import HOST, free_port
from simulators.process import run_until_stopped

NAMESPACE = "urn:test:many"
TICK_S = 0.05


def node_name(number: int) -> str:
    return f"V{number:05d}"


def _attribute(value: object, kind: ua.VariantType) -> AttributeValue:
    return AttributeValue(ua.DataValue(ua.Variant(value, kind)))


class _Variables:
    """Makes variables straight in the server's address space: its own call for that takes 0.3 ms and 10 kB a node.

    What all variables have alike they share.
    """

    def __init__(self, server: Server, index: int) -> None:
        self._space = server.iserver.aspace
        self._index = index
        self._type = ua.NodeId(ua.ObjectIds.BaseDataVariableType)
        self._shared = {
            ua.AttributeIds.NodeClass: _attribute(ua.NodeClass.Variable, ua.VariantType.Int32),
            ua.AttributeIds.Description: _attribute(ua.LocalizedText(""), ua.VariantType.LocalizedText),
            ua.AttributeIds.WriteMask: _attribute(0, ua.VariantType.UInt32),
            ua.AttributeIds.UserWriteMask: _attribute(0, ua.VariantType.UInt32),
            ua.AttributeIds.DataType: _attribute(ua.NodeId(ua.ObjectIds.UInt32), ua.VariantType.NodeId),
            ua.AttributeIds.ValueRank: _attribute(int(ua.ValueRank.Scalar), ua.VariantType.Int32),
            ua.AttributeIds.AccessLevel: _attribute(1, ua.VariantType.Byte),
            ua.AttributeIds.UserAccessLevel: _attribute(1, ua.VariantType.Byte),
            ua.AttributeIds.Historizing: _attribute(False, ua.VariantType.Boolean),
        }
        self._typed = self._reference(ua.ObjectIds.HasTypeDefinition, self._type, "BaseDataVariableType", ua.NodeClass.VariableType)

    def _reference(
        self, kind: int, target: ua.NodeId, name: str, node_class: ua.NodeClass, *, forward: bool = True
    ) -> ua.ReferenceDescription:
        index = target.NamespaceIndex
        found = ua.ReferenceDescription(ua.NodeId(kind), forward, target, ua.QualifiedName(name, index), ua.LocalizedText(name), node_class)
        if node_class is ua.NodeClass.Variable:
            found.TypeDefinition = self._type
        return found

    def add(self, parent: ua.NodeId, parent_name: str, numbers: range) -> None:
        back = self._reference(ua.ObjectIds.HasComponent, parent, parent_name, ua.NodeClass.Object, forward=False)
        children = self._space[parent].references
        for number in numbers:
            name = node_name(number)
            data = NodeData(ua.NodeId(name, self._index))
            data.attributes = self._shared | {
                ua.AttributeIds.NodeId: _attribute(data.nodeid, ua.VariantType.NodeId),
                ua.AttributeIds.BrowseName: _attribute(ua.QualifiedName(name, self._index), ua.VariantType.QualifiedName),
                ua.AttributeIds.DisplayName: _attribute(ua.LocalizedText(name), ua.VariantType.LocalizedText),
                ua.AttributeIds.Value: _attribute(number, ua.VariantType.UInt32),
            }
            data.references = [self._typed, back]
            self._space[data.nodeid] = data
            children.append(self._reference(ua.ObjectIds.HasComponent, data.nodeid, name, ua.NodeClass.Variable))


async def build(server: Server, nodes: int, per_folder: int) -> int:
    """Fill the address space. Returns the namespace index."""
    index = await server.register_namespace(NAMESPACE)
    variables = _Variables(server, index)
    hall = await server.nodes.objects.add_folder(ua.NodeId("Hall", index), ua.QualifiedName("Hall", index))
    for cell, first in enumerate(range(0, nodes, per_folder)):
        name = f"Cell-{cell:03d}"
        folder = await hall.add_folder(ua.NodeId(name, index), ua.QualifiedName(name, index))
        variables.add(folder.nodeid, name, range(first, min(first + per_folder, nodes)))
    return index


class Counting:
    """Gives the nodes new values, in turn. `changes`: so many so far."""

    def __init__(self, server: Server, index: int, nodes: int) -> None:
        self.changes = 0
        self._server = server
        self._ids = [ua.NodeId(node_name(number), index) for number in range(nodes)]
        self._values = list(range(nodes))

    async def run(self, a_second: float) -> None:
        turn = itertools.cycle(range(len(self._ids)))
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            # What a slow machine missed is left out beyond one round: a simulator that only catches up answers nobody.
            due = min(int((loop.time() - last) * a_second), len(self._ids))
            last += due / a_second
            now = datetime.now(UTC)
            for number in itertools.islice(turn, due):
                self._values[number] += 1
                value = ua.Variant(self._values[number] & 0xFFFFFFFF, ua.VariantType.UInt32)
                await self._server.write_attribute_value(self._ids[number], ua.DataValue(value, SourceTimestamp=now, ServerTimestamp=now))
            self.changes += due


async def _answer(counting: Counting, stopped: asyncio.Event) -> None:
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while await stdin.readline():
        print(json.dumps({"changes": counting.changes}), flush=True)
    stopped.set()


async def _serve(args: argparse.Namespace, stopped: asyncio.Event) -> None:
    server = Server()
    await server.init()
    url = f"opc.tcp://{HOST}:{args.port or free_port()}"
    server.set_endpoint(url)
    await server.set_application_uri("urn:test:many:server")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await build(server, args.nodes, args.per_folder)
    await server.start()
    counting = Counting(server, index, args.nodes)
    print(json.dumps({"url": url, "namespace": NAMESPACE, "nodes": args.nodes}), flush=True)
    tasks = [asyncio.create_task(_answer(counting, stopped), name="answers")]
    if args.changes:
        tasks.append(asyncio.create_task(counting.run(args.changes), name="counting"))
    try:
        await stopped.wait()
    finally:
        for task in tasks:
            task.cancel()
        await server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.many_nodes", description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--per-folder", type=int, default=500)
    parser.add_argument("--changes", type=float, default=0.0, help="new values a second, over all nodes (default: none)")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed")
    args = parser.parse_args()
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    return run_until_stopped(lambda stopped: _serve(args, stopped))


if __name__ == "__main__":
    sys.exit(main())
