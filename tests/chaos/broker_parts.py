"""What the broker runs are made of: a consumer that acknowledges, and a proxy that cuts a connection at a chosen MQTT packet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.loopback import HOST
from tests.chaos.outage_peers import Copy
from tests.uplink.conftest import OWN, SITE

EVENTS = [(f"{SITE}/+/+/+/event/#", 1), (f"{OWN}/event/#", 1)]


class Mes:
    """A consumer called `mes` with a session that the broker keeps: it has each row once and says up to where it has all."""

    def __init__(self, port: int) -> None:
        self.copy = Copy()
        self.arrived: dict[int, float] = {}
        """Sequence -> how long after its event it came, in seconds."""
        self.parked: set[int] = set()
        """Sequences that a `row.parked` named."""
        self._port = port
        self._epoch = ""
        self._acked = 0
        self._lock = threading.Lock()
        self._client = self._connected()

    def _connected(self) -> paho.Client:
        subscribed = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="mes", protocol=MQTTProtocolVersion.MQTTv5)
        client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]
        client.on_connect = lambda client, *_: client.subscribe(EVENTS)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = self._on_message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        client.connect(HOST, self._port, clean_start=False, properties=properties)
        client.loop_start()
        if not subscribed.wait(30):
            raise TimeoutError("no subscription")
        return client

    def away(self) -> None:
        """Gone, while the broker keeps its session."""
        self._client.disconnect()
        self._client.loop_stop()

    def back(self) -> None:
        self._client = self._connected()

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        event = orjson.loads(message.payload)
        self._epoch = event["epoch"]
        with self._lock:
            self.copy.take(event["source"], event["sequence"])
        self.arrived.setdefault(event["sequence"], time.time() - _seconds(event["time"]))
        if event["type"] == "lineside.row.parked.v1":
            self.parked.add(event["data"]["sequence"])

    async def acknowledge(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(0.05)
            with self._lock:
                mark = self.copy.move()
            if mark > self._acked:
                self._acked = mark
                self._client.publish(f"{OWN}/ack", json.dumps({"consumer": "mes", "epoch": self._epoch, "sequence": mark}), qos=1)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NAMES = {
    1: "CONNECT", 2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 8: "SUBSCRIBE", 9: "SUBACK", 12: "PINGREQ", 13: "PINGRESP", 14: "DISCONNECT",
}  # fmt: skip
UP, DOWN = "up", "down"
"""From the gateway to the broker, and back."""
WAYS = ((UP, 1), (DOWN, 2), (UP, 8), (DOWN, 9), (UP, 3), (DOWN, 4), (DOWN, 3), (UP, 4), (UP, 12), (DOWN, 13), (UP, 14))
HOWS = ("before", "within", "after")


@dataclass
class Cut:
    """Where the connection ends: at the packet with this number (from 1) of its type and direction."""

    direction: str
    type: int
    number: int
    how: str
    """before it is passed on, within it, after it."""
    made: bool = False
    _seen: int = 0

    def comes(self, direction: str, type_: int) -> bool:
        if self.made or (direction, type_) != (self.direction, self.type):
            return False
        self._seen += 1
        self.made = self._seen == self.number
        return self.made


@dataclass
class CuttingProxy:
    """Passes MQTT on packet by packet until `cut` comes."""

    target: int
    cut: Cut
    port: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_reader, to_writer = await asyncio.open_connection(HOST, self.target)
        pair = (writer, to_writer)
        self._writers.update(pair)
        await asyncio.gather(self._pass(UP, reader, to_writer, pair), self._pass(DOWN, to_reader, writer, pair))
        for each in pair:
            with contextlib.suppress(OSError):
                await each.wait_closed()
        self._writers.difference_update(pair)
        self._tasks.discard(task)

    async def _pass(
        self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                packet = await whole_packet(reader)
                if self.cut.comes(direction, packet[0] >> 4):
                    part = {"before": 0, "within": len(packet) // 2, "after": len(packet)}[self.cut.how]
                    writer.write(packet[:part])
                    await writer.drain()
                    break
                writer.write(packet)
                await writer.drain()
        for each in pair:
            each.close()


async def whole_packet(reader: asyncio.StreamReader) -> bytes:
    """One MQTT packet with its header (MQTT 5, 2.1). Raises IncompleteReadError at the end."""
    head = await reader.readexactly(1)
    length = shift = 0
    while True:
        byte = await reader.readexactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return head + await reader.readexactly(length)
