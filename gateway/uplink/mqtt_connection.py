"""One connection to one broker: paho's client driven by the event loop.

Only opening the connection (address look-up, TCP, TLS) blocks, in a thread of its own; from then on paho reads and writes when the loop
says that its socket is ready, and its callbacks run in the loop.

paho's own reconnect, window and retries are not used: a lost connection is thrown away with its client. paho ignores a broker's Receive
Maximum, never repeats a publish whose acknowledgement was lost, and would fall back to MQTT 3.1 by itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.seams import UplinkError
from gateway.uplink.mqtt_client import Access, LoopClient
from gateway.uplink.mqtt_refusals import CLOSED_WITHOUT_ANSWER, not_accepted
from gateway.uplink.mqtt_window import Window
from gateway.uplink.tls_trouble import tls_remedy

CONNECT_BOUND_S = 4.0
"""For address look-up, TCP, TLS and CONNACK together; a stand-in broker must get its turn soon."""
KEEP_ALIVE_S = 12
ACK_BOUND_S = 10.0
"""A publish that is not acknowledged by then was lost on a connection that looks alive."""
SESSION_EXPIRY_S = 86_400
"""Commands that come while the gateway is away wait at the broker for a day."""
_INBOUND_WINDOW = 32
_LARGEST_INBOUND = 4 * 1024 * 1024
"""Well above the largest command, so that one that is too large can still be answered, and no message can fill the memory."""
_NO_LIMIT = 65_535

V5 = MQTTProtocolVersion.MQTTv5
V311 = MQTTProtocolVersion.MQTTv311


@dataclass(frozen=True, slots=True)
class Message:
    """One inbound publish; `mid` is acknowledged with `Connection.ack` once it is dealt with."""

    topic: str
    payload: bytes
    retained: bool
    mid: int
    qos: int
    response_topic: str | None
    correlation_data: bytes | None


Done = Callable[[int | None], None]
"""Called in the loop with the reason code of the acknowledgement (0: success), None: the connection was lost before."""


class Connection:
    """`open` once, then publish and subscribe until `lost` is done, then `close`."""

    def __init__(
        self,
        access: Access,
        *,
        version: MQTTProtocolVersion,
        will: tuple[str, bytes] | None,
        clock: Clock,
        noticed: Callable[[str], None] = lambda kind: None,
    ) -> None:
        """`will`: None for a connection that only tries: the broker keeps nothing of it. `noticed(kind)`: the broker did what it should
        not: `unknown_ack` (acknowledged a message that was not sent, or acknowledged before), `ack_overdue`."""
        self._access = access
        self._is_trial = will is None
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.version = version
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done with the reason once the connection is gone."""
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.window = Window(_NO_LIMIT)
        self._noticed = noticed
        self.heard: Callable[[], None] = lambda: None
        """Called whenever the broker acknowledged or sent something."""
        self._largest_packet = 0
        self._may_retain = True
        self._abandoned = False
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._subscribed: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._outstanding: dict[int, tuple[float, Done, tuple[str, bytes]]] = {}
        self.closed_over: tuple[str, bytes] | None = None
        """Topic and payload of the oldest publish without an answer, where the broker closed the connection; judge it by several."""
        self._unwritten: list[tuple[float, Done]] = []
        self._client: LoopClient | None = self._new_client(will)
        self._release: Callable[[], None] = lambda: None
        """Takes the socket out of the loop."""

    def _new_client(self, will: tuple[str, bytes] | None) -> LoopClient:
        client = LoopClient.reaching(self._access, self._is_acknowledged, version=self.version, will=will, connect_bound_s=CONNECT_BOUND_S)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    @property
    def peer(self) -> str:
        """`host:port`."""
        return self._access.name

    # -- in the loop

    async def open(self) -> None:
        """Raises UplinkError within CONNECT_BOUND_S, VersionRefused for reason 132; nothing is left open then."""
        client = self._client
        assert client is not None
        threading.Thread(target=self._connect, args=(client,), name=f"mqtt-connect-{self._access.name}", daemon=True).start()
        try:
            async with self._clock.timeout(CONNECT_BOUND_S):
                await self._connected
        except TimeoutError:
            await self.close()
            raise UplinkError(f"{self._access.name}: no answer within {CONNECT_BOUND_S:.0f} s", silent=True) from None
        except BaseException:
            await self.close()
            raise

    async def subscribe(self, topics: Sequence[str]) -> dict[str, str]:
        """Subscribe with QoS 1, retained flags kept as published. Returns the topics that were refused, each with the broker's reason.

        Raises UplinkError.
        """
        client = self._client
        if client is None or not topics:
            return {}
        if self.version == V5:
            rc, mid = client.subscribe([(topic, SubscribeOptions(qos=1, retainAsPublished=True)) for topic in topics])
        else:
            rc, mid = client.subscribe([(topic, 1) for topic in topics])
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise UplinkError(f"{self._access.name}: subscribing failed: {paho.error_string(rc)}")
        answer = self._subscribed[mid] = self._loop.create_future()
        try:
            async with self._clock.timeout(CONNECT_BOUND_S):
                await asyncio.wait((answer, self.lost), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise UplinkError(f"{self._access.name}: no answer to a subscription", silent=True) from None
        finally:
            del self._subscribed[mid]
        if not answer.done():
            raise UplinkError(self.lost.result())
        if len(answer.result()) != len(topics):
            raise UplinkError(f"{self._access.name}: {len(answer.result())} answers to {len(topics)} subscriptions")
        return {topic: f"0x{code.value:02x} {code}" for topic, code in zip(topics, answer.result(), strict=True) if code.is_failure}

    def publish(self, topic: str, payload: bytes, done: Done, *, qos: int, retain: bool = False, correlation: bytes | None = None) -> None:
        """Hand one message over; `done` is called once, for QoS 0 when it has been written."""
        client = self._client
        if client is None or self.lost.done():
            done(None)
            return
        mid = client.put(topic, payload, qos=qos, retain=retain and self._may_retain, correlation=correlation)
        if qos:
            self._outstanding[mid] = (self._clock.monotonic(), done, (topic, payload))
        else:
            self._unwritten.append((self._clock.monotonic(), done))

    async def confirmed(self, topic: str, payload: bytes, *, retain: bool = False, correlation: bytes | None = None) -> int | None:
        """Publish with QoS 1 and wait for the reason code; None: the connection was lost before."""
        answer: asyncio.Future[int | None] = self._loop.create_future()

        def done(reason: int | None) -> None:
            if not answer.done():
                answer.set_result(reason)

        self.publish(topic, payload, done, qos=1, retain=retain, correlation=correlation)
        return await answer

    def fits(self, topic: str, payload: bytes) -> bool:
        """Whether the broker takes a packet of this size (it closes the connection over one that is larger)."""
        return not self._largest_packet or len(topic.encode()) + len(payload) + 16 <= self._largest_packet

    def ack(self, message: Message) -> None:
        """The message is dealt with: the broker may forget it."""
        if self._client is not None and not self.lost.done():
            self._client.ack(message.mid, message.qos)

    def overdue(self) -> bool:
        """Whether a publish waits for its acknowledgement, or for being written, for more than ACK_BOUND_S."""
        oldest = [at for at, *_ in self._outstanding.values()][:1] + [at for at, _ in self._unwritten][:1]
        late = any(self._clock.monotonic() - at > ACK_BOUND_S for at in oldest)
        if late:
            self._noticed("ack_overdue")
        return late

    def keep_alive(self) -> None:
        """To be called about once a second: pings a broker that nothing was sent to, and notices one that does not answer."""
        if self._client is not None and not self.lost.done():
            self._client.loop_misc()

    def lose(self, reason: str) -> None:
        """The connection cannot be trusted any more."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self.window.close()
        waiting = [done for _, done, _ in self._outstanding.values()] + [done for _, done in self._unwritten]
        self._outstanding, self._unwritten = {}, []
        for done in waiting:
            done(None)

    async def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """Say goodbye where the peer still listens (at most 1 s), then cut. Never raises."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if self._connected.done() and not self._connected.cancelled() and self._connected.exception() is None:
                await self._say_goodbye(client, farewell)
        finally:
            self._abandoned = True
            self.lose("closed")
            self._connected.cancel()
            self._release()
            client.cut()

    async def _say_goodbye(self, client: LoopClient, farewell: tuple[str, bytes] | None) -> None:
        try:
            async with self._clock.timeout(1.0):
                if farewell is not None and not self.lost.done():
                    written = asyncio.Event()
                    mid = client.put(farewell[0], farewell[1], qos=1, retain=self._may_retain)
                    self._outstanding[mid] = (self._clock.monotonic(), lambda _: written.set(), farewell)
                    await written.wait()
                client.disconnect()
                await asyncio.wait((self.lost,))
        except TimeoutError:
            return

    # -- the socket, in the loop

    def _take_over(self, client: LoopClient) -> None:
        """The connection is open and CONNECT is sent: from here on the loop drives it."""
        sock = client.socket()
        if self._abandoned or sock is None:
            client.cut()
            self._is_disconnected("connection closed")
            return
        loop, descriptor = self._loop, sock.fileno()

        def release(*_: Any) -> None:
            loop.remove_reader(descriptor)
            loop.remove_writer(descriptor)
            self._release = lambda: None

        def flush() -> None:
            client.write_all()
            if not client.want_write():
                self._are_written()
            elif client.socket() is not None:
                loop.add_writer(descriptor, flush)

        def wanted(*_: Any) -> None:
            # What one turn of the loop publishes is written at its end, together; only a socket that is full is watched.
            loop.call_soon(flush)

        def unwanted(*_: Any) -> None:
            loop.remove_writer(descriptor)

        self._release = release
        client.on_socket_close = release
        client.on_socket_register_write = wanted
        client.on_socket_unregister_write = unwanted
        loop.add_reader(descriptor, client.read_all)
        if client.want_write():
            flush()

    def _are_written(self) -> None:
        written, self._unwritten = self._unwritten, []
        for _, done in written:
            done(0)

    def _on_connect(self, _c: paho.Client, _u: Any, _flags: Any, reason: ReasonCode, properties: Properties | None) -> None:
        if self._connected.done():
            return
        if reason.is_failure:
            self._connected.set_exception(not_accepted(self._access.name, reason))
            return
        self.window = Window(getattr(properties, "ReceiveMaximum", _NO_LIMIT))
        self._largest_packet = getattr(properties, "MaximumPacketSize", 0)
        self._may_retain = bool(getattr(properties, "RetainAvailable", 1))
        if getattr(properties, "MaximumQoS", 1) < 1:
            self._connected.set_exception(UplinkError(f"{self._access.name}: the broker takes no QoS 1"))
        else:
            self._connected.set_result(None)

    def _on_disconnect(self, _c: paho.Client, _u: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None) -> None:
        failure = self._client.failure if self._client is not None else None
        if failure is None:
            unanswered = self._access.tls is not None and not self._connected.done()
            self._is_disconnected(f"connection closed ({reason})", CLOSED_WITHOUT_ANSWER if unanswered else None)
        else:
            # TLS 1.3: a client certificate that is missing or refused is told only after the handshake, when the first answer is read.
            self._has_failed(failure)

    def _has_failed(self, error: Exception) -> None:
        self._is_disconnected(str(error) or type(error).__name__, tls_remedy(error) if self._access.tls is not None else None)

    def _is_disconnected(self, reason: str, remedy: Text | None = None) -> None:
        if not self._connected.done():
            self._connected.set_exception(UplinkError(f"{self._access.name}: {reason}", remedy=remedy))
        oldest = next(iter(self._outstanding.values()), None)
        if not self.lost.done() and oldest is not None:
            self.closed_over = oldest[2]
        self.lose(f"{self._access.name}: {reason}")

    def _is_acknowledged(self, mid: int, reason: int) -> None:
        waiting = self._outstanding.pop(mid, None)
        if waiting is None:
            self._noticed("unknown_ack")
            return
        self.heard()
        waiting[1](reason)

    def _on_subscribe(self, _c: paho.Client, _u: Any, mid: int, codes: list[ReasonCode], _properties: Properties | None) -> None:
        answer = self._subscribed.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def _on_message(self, _c: paho.Client, _u: Any, raw: paho.MQTTMessage) -> None:
        self.heard()
        properties = raw.properties
        message = Message(
            topic=raw.topic,
            payload=bytes(raw.payload),
            retained=bool(raw.retain),
            mid=raw.mid,
            qos=raw.qos,
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation_data=getattr(properties, "CorrelationData", None),
        )
        self.messages.put_nowait(message)

    # -- in the thread that opens the connection

    def _connect(self, client: LoopClient) -> None:
        options: dict[str, Any] = {}
        if self.version == V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0 if self._is_trial else SESSION_EXPIRY_S
            properties.ReceiveMaximum = _INBOUND_WINDOW
            properties.MaximumPacketSize = _LARGEST_INBOUND
            options = {"clean_start": self._is_trial, "properties": properties}
        try:
            client.connect(self._access.host, self._access.port, KEEP_ALIVE_S, **options)
        except (OSError, ValueError) as error:
            # ValueError: an address that cannot be encoded, or a certificate for another name.
            # Without its frames: they hold paho's half-open socket.
            self._tell(self._has_failed, error.with_traceback(None))
            return
        if self._abandoned or not self._tell(self._take_over, client):
            client.cut()

    def _tell(self, act: Callable[..., None], argument: Any) -> bool:
        """Have `act` called in the loop; False when there is none any more: the process ends and nobody waits for this."""
        try:
            self._loop.call_soon_threadsafe(act, argument)
        except RuntimeError:
            return False
        return True

    def _on_socket_open(self, _c: paho.Client, _u: Any, _socket: Any) -> None:
        if self._abandoned:
            # A CONNECT that leaves now would take the session away from the connection that came after this one.
            raise ConnectionAbortedError("given up meanwhile")
