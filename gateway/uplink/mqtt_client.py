"""paho's client where the gateway spends its time: acknowledgements by the hundred, packets in bursts.

It leans on private methods of paho, whose version is pinned for that reason (docs/adr): paho builds a reason code and a properties object
for each of them, and asks the kernel four times for each packet of four bytes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

_READ_AHEAD = 65_536


class LoopClient(paho.Client):
    """`acknowledged(mid, reason)` is called for each PUBACK; `on_publish` stays unused. Everything else is paho's."""

    def __init__(self, acknowledged: Callable[[int, int], None], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._acknowledged = acknowledged
        self._ahead = b""
        self._taken = 0

    def read_all(self) -> None:
        """Deal with everything that has come: the socket does not become readable again for what was read ahead or decrypted already."""
        self.loop_read()
        while (sock := self.socket()) is not None and (
            self._taken < len(self._ahead) or (isinstance(sock, ssl.SSLSocket) and sock.pending())
        ):
            self.loop_read()

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._taken == len(self._ahead):
            self._ahead, self._taken = super()._sock_recv(_READ_AHEAD), 0
        start = self._taken
        self._taken = min(start + bufsize, len(self._ahead))
        return self._ahead[start : self._taken]

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if len(packet) < 2:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        mid = int.from_bytes(packet[:2])
        if self._out_messages.pop(mid, None) is not None:
            self._inflight_messages -= 1
            # MQTT 3.1.1 has no reason, MQTT 5 leaves out the one that says success.
            self._acknowledged(mid, packet[2] if len(packet) > 2 else 0)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


class corked:
    """Inside it TCP holds back what fills no packet."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __enter__(self) -> None:
        self._set(1)

    def __exit__(self, *_: object) -> None:
        self._set(0)

    def _set(self, on: int) -> None:
        with contextlib.suppress(OSError):
            # Closed meanwhile: nothing is held back any more.
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)
