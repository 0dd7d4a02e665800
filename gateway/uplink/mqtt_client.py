"""paho's client where the gateway spends its time: publishes and their acknowledgements by the hundred.

paho keeps the session: CONNECT, subscriptions, pings, inbound messages. For each publish it would build a message with a lock of its own
and send it alone, for each acknowledgement a reason code and a properties object, and it asks the kernel four times for a packet of four
bytes. So what leaves in one turn of the loop is put together here and written at once, and acknowledgements are read as they are.
This leans on private methods of paho, whose version is pinned.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MessageType, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_READ_AHEAD = 65_536


@dataclass(frozen=True)
class Access:
    """How to reach one broker."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    client_id: str
    user: str | None = None
    password: str | None = None

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


class LoopClient(paho.Client):
    """`acknowledged(mid, reason)` is called for each PUBACK. `publish` and `on_publish` of paho stay unused."""

    def __init__(self, acknowledged: Callable[[int, int], None], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._acknowledged = acknowledged
        self._burst: list[bytes] = []
        self._ahead = b""
        self._taken = 0
        self.failure: ssl.SSLError | None = None
        """Why reading ended, where TLS was to blame."""

    @classmethod
    def reaching(
        cls,
        access: Access,
        acknowledged: Callable[[int, int], None],
        *,
        version: MQTTProtocolVersion,
        will: tuple[str, bytes] | None,
        connect_bound_s: float,
    ) -> LoopClient:
        """A client for one connection, not opened yet. `will`: topic and retained payload; None for one that only tries, and leaves no
        session behind."""
        client = cls(
            acknowledged,
            CallbackAPIVersion.VERSION2,
            client_id=access.client_id,
            protocol=version,
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else will is None,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = connect_bound_s
        if will is not None:
            client.will_set(will[0], will[1], qos=1, retain=True)
        if access.user is not None:
            client.username_pw_set(access.user, access.password)
        if access.tls is not None:
            client.tls_set_context(access.tls)
        return client

    def put(self, topic: str, payload: bytes, *, qos: int, retain: bool, correlation: bytes | None = None) -> int:
        """Put a PUBLISH behind those before it; returns its packet identifier (0 for QoS 0).

        `on_socket_register_write` is called for the first of them and asks for `write_all`.
        """
        name = topic.encode()
        mid = self._mid_generate() if qos else 0
        head = struct.pack(f">H{len(name)}s", len(name), name) + (mid.to_bytes(2) if qos else b"")
        if self._protocol == MQTTProtocolVersion.MQTTv5:
            head += _properties(correlation)
        first = MessageType.PUBLISH | qos << 1 | retain
        self._burst.append(bytes([first]) + _varint(len(head) + len(payload)) + head + payload)
        self._call_socket_register_write()
        return mid

    def write_all(self) -> None:
        """Send what was put and what paho itself has to say, as far as the socket takes it; `want_write` tells whether that was all."""
        if self._burst:
            burst, self._burst = b"".join(self._burst), []
            # To paho it is one packet whose acknowledgement it does not wait for.
            self._packet_queue(MessageType.PUBLISH, burst, 0, 1)
        self.loop_write()

    def read_all(self) -> None:
        """Deal with everything that has come: the socket does not become readable again for what was read ahead or decrypted already."""
        self.loop_read()
        while (sock := self.socket()) is not None and (
            self._taken < len(self._ahead) or (isinstance(sock, ssl.SSLSocket) and sock.pending())
        ):
            self.loop_read()

    def cut(self) -> None:
        """Close the socket; nothing that paho still does with it is heard of."""
        self.on_connect = self.on_disconnect = self.on_publish = self.on_subscribe = self.on_message = None
        self.on_socket_close = self.on_socket_register_write = self.on_socket_unregister_write = None
        found = cast(socket.socket | None, self.socket())
        if found is not None:
            with contextlib.suppress(OSError):
                # Already closed by the peer or by paho.
                found.shutdown(socket.SHUT_RDWR)
            found.close()

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._taken == len(self._ahead):
            try:
                self._ahead, self._taken = super()._sock_recv(_READ_AHEAD), 0
            except ssl.SSLError as error:
                self.failure = error
                raise
            if self._ahead and isinstance(sock := self.socket(), socket.socket):
                # A broker that leaves Nagle's algorithm on (mosquitto's default) holds all acknowledgements but the first until the kernel
                # has confirmed that one, which it delays: a backlog drains eight times as fast. The option does not last, so each time.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        start = self._taken
        self._taken = min(start + bufsize, len(self._ahead))
        return self._ahead[start : self._taken]

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if len(packet) < 2:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        # MQTT 3.1.1 has no reason, MQTT 5 leaves out the one that says success.
        self._acknowledged(int.from_bytes(packet[:2]), packet[2] if len(packet) > 2 else 0)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _properties(correlation: bytes | None) -> bytes:
    if correlation is None:
        return b"\0"
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.CorrelationData = correlation
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    return packed


def _varint(value: int) -> bytes:
    """MQTT's variable byte integer (MQTT 5, 1.5.5)."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
