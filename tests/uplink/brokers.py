"""Brokers to test against: a real mosquitto, and one of our own that misbehaves on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from simulators.loopback import free_port
from tests.system.line import die_with_parent


class Mosquitto:
    """A real broker as a process of its own; `kill` is kill -9, `start` brings it back on the same port.

    `unlimited` queues lose nothing; but mosquitto 2.0.11 then closes the connection after each publish that it denies.
    """

    def __init__(self, directory: Path, *extra: str, unlimited: bool = True) -> None:
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", *extra]
        if unlimited:
            lines.append("max_queued_messages 0")
        if os.geteuid() == 0:
            # As root it would become another user, who may not read the test's own folder.
            lines.append("user root")
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = subprocess.Popen(
            ["mosquitto", "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._config.parent,
            preexec_fn=die_with_parent,
        )
        for _ in range(1000):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.03)
        raise RuntimeError("mosquitto did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Listener:
    """An independent client: remembers every message, in order."""

    def __init__(self, port: int, *topics: str, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._topics = topics
        self._subscribed = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.on_message = lambda _c, _u, message: self.messages.append(message)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        if self._topics:
            client.subscribe([(topic, SubscribeOptions(qos=1, retainAsPublished=True)) for topic in self._topics])

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed = True

    async def ready(self) -> None:
        await until(lambda: self._subscribed)

    def publish(
        self,
        topic: str,
        payload: object,
        *,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        if correlation is not None:
            properties.CorrelationData = correlation
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, body, qos=1, retain=retain, properties=properties)

    def on(self, topic: str) -> list[Any]:
        """Decoded payloads of one topic, in order of arrival."""
        return [json.loads(message.payload) for message in self.messages if message.topic == topic]

    @property
    def events(self) -> list[int]:
        """Sequences of ledger events in order of arrival."""
        return [json.loads(message.payload)["sequence"] for message in self.messages if "/event/" in message.topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait until `condition` holds; fails the test when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Behaviour:
    """How the stub broker answers. `reason(topic, count)` gives a PUBACK's reason, None: no PUBACK at all."""

    connack: int | None = 0
    old_connack: bool = False
    """Answer in the form of MQTT 3.1.1, as a broker does that knows no other."""
    receive_maximum: int | None = None
    suback: int = 1
    reason: Callable[[str, int], int | None] = lambda topic, count: 0
    close_after: int | None = None
    """Cut the connection in the middle of the publish with this number."""
    hangs_up_over: Callable[[str, bytes], bool] = lambda topic, payload: False
    """Close the connection over such a publish, without a word."""
    sends: tuple[str, bytes] | None = None
    """Topic and payload of a command that waits here: sent after each subscription, until it is acknowledged."""
    stray_acks: bool = False
    """Acknowledge, beside each publish, one that was never sent, and the publish itself twice."""


@dataclass
class StubBroker:
    """A broker that speaks just enough MQTT and does what `behaviour` says; records what it was sent."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    port: int = 0
    connects: list[int] = field(default_factory=list)
    """Protocol level of each CONNECT."""
    published: list[tuple[str, bytes]] = field(default_factory=list)
    most_in_flight: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        v5 = True
        in_flight = 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, body = await _packet(reader)
                if kind >> 4 == 1:
                    v5 = body[6] == 5
                    self.connects.append(body[6])
                    if self.behaviour.connack is None:
                        continue
                    writer.write(self._connack(v5))
                elif kind >> 4 == 3:
                    topic, mid, payload = _publish(kind, body, v5)
                    self.published.append((topic, payload))
                    if self.behaviour.close_after == len(self.published) or self.behaviour.hangs_up_over(topic, payload):
                        writer.close()
                        return
                    if mid is None:
                        continue
                    in_flight += 1
                    self.most_in_flight = max(self.most_in_flight, in_flight)
                    await asyncio.sleep(0)
                    count = sum(1 for seen, _ in self.published if seen == topic)
                    reason = self.behaviour.reason(topic, count)
                    if reason is not None:
                        in_flight -= 1
                        if self.behaviour.stray_acks:
                            writer.write(b"\x40\x02\xea\x60" + b"\x40\x02" + mid)
                        writer.write(bytes([0x40, 3]) + mid + bytes([reason]) if v5 else bytes([0x40, 2]) + mid)
                elif kind >> 4 == 8:
                    count = _subscriptions(body, v5)
                    writer.write(
                        bytes([0x90, (3 if v5 else 2) + count]) + body[:2] + (b"\0" if v5 else b"") + bytes([self.behaviour.suback] * count)
                    )
                    if self.behaviour.sends is not None:
                        writer.write(_command(*self.behaviour.sends, v5))
                elif kind >> 4 == 4:
                    self.behaviour.sends = None
                elif kind >> 4 == 12:
                    writer.write(b"\xd0\x00")
                elif kind >> 4 == 14:
                    return
        if not writer.is_closing():
            writer.close()

    def _connack(self, v5: bool) -> bytes:
        code = self.behaviour.connack or 0
        if self.behaviour.old_connack and v5:
            return bytes([0x20, 2, 0, 1])
        if not v5:
            return bytes([0x20, 2, 0, 0])
        properties = b"" if self.behaviour.receive_maximum is None else bytes([0x21]) + self.behaviour.receive_maximum.to_bytes(2, "big")
        return bytes([0x20, 3 + len(properties), 0, code, len(properties)]) + properties


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return kind, await reader.readexactly(length)


def _publish(kind: int, body: bytes, v5: bool) -> tuple[str, bytes | None, bytes]:
    size = int.from_bytes(body[:2], "big")
    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
    mid = None
    if kind & 0x06:
        mid, rest = rest[:2], rest[2:]
    if v5:
        rest = rest[1 + rest[0] :]
    return topic, mid, rest


def _command(topic: str, payload: bytes, v5: bool) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic.encode() + b"\0\1" + (b"\0" if v5 else b"") + payload
    return bytes([0x32, len(body) & 0x7F | 0x80, len(body) >> 7]) + body


def _subscriptions(body: bytes, v5: bool) -> int:
    rest = body[2:]
    if v5:
        rest = rest[1 + rest[0] :]
    count = 0
    while rest:
        rest = rest[2 + int.from_bytes(rest[:2], "big") + 1 :]
        count += 1
    return count
