"""The MQTT uplink: ledger rows, live values and telemetry up, commands, acknowledgements and replay requests down."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from drivers.base import Clock
from gateway.domain.cloud_event import encode
from gateway.domain.entry import Entry
from gateway.metrics import Metrics
from gateway.seams import AlertBoard, Receipt, UplinkError
from gateway.uplink.base import AckHandler, CommandHandler, ReplayHandler, SecretReader, tls_context, warn_plain_text
from gateway.uplink.mqtt_alerts import BrokerAlerts
from gateway.uplink.mqtt_client import Access
from gateway.uplink.mqtt_connection import CONNECT_BOUND_S, V5, V311, Connection
from gateway.uplink.mqtt_inbox import Inbox
from gateway.uplink.mqtt_lanes import LiveLane, TelemetryLane, TelemetrySource
from gateway.uplink.mqtt_refusals import VersionRefused
from gateway.uplink.mqtt_suspects import GIVEN_UP_AFTER, PROVEN_S, SILENCED_AFTER, Suspects
from gateway.uplink.mqtt_window import Lane
from gateway.uplink.settings import MqttSettings
from gateway.uplink.topics import Topics

NO_SUBSCRIBERS = 0x10
REFUSED_AS_IT_STANDS = {0x87: "not authorized", 0x90: "topic name invalid", 0x99: "payload format invalid"}
_BUSY_S = 2.0
"""How long to leave a broker alone that answers quota exceeded (0x97) or an error of its own (0x83)."""
_HUNG_UP_PAUSE_S = 0.2
"""A broker that closed the connection over one topic is there for the others."""
_WATCH_S = 1.0


class MqttUplink:
    """One MQTT peer (`gateway.seams.Uplink`). Does nothing before `connect`; one object for the life of the process.

    `about`: what the birth message tells beside `online` (version, epoch ...). `telemetry`: None leaves bulk telemetry out.
    """

    def __init__(
        self,
        name: str,
        settings: MqttSettings,
        *,
        gateway_id: str,
        topics: Topics,
        clock: Clock,
        metrics: Metrics,
        secrets: SecretReader,
        alerts: AlertBoard,
        on_command: CommandHandler,
        on_ack: AckHandler,
        on_replay: ReplayHandler,
        about: Callable[[], dict[str, Any]] = dict,
        telemetry: TelemetrySource | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._gateway_id = gateway_id
        self._topics = topics
        self._status_topic = topics.full(topics.gateway("status"))
        self._clock = clock
        self._secrets = secrets
        self._alerts = alerts
        self._about = about
        self._first = 0
        self._opened_at = 0.0
        self._suspects = Suspects()
        self._given_up: set[bytes] = set()
        """Ledger rows over which the broker closed the connection again and again."""
        self._withheld: set[str] = set()
        """Topics of answers and telemetry over which it did: they stay silent until a connection ends for another reason."""
        self._connection: Connection | None = None
        self._broker_alerts = BrokerAlerts(name, alerts)
        self._incidents = metrics.uplink_incidents
        self._live = LiveLane(name, clock, self._broker_alerts, partial(self._noticed, "live_refused"))
        self._telemetry: TelemetryLane | None = None
        if telemetry is not None:
            self._telemetry = TelemetryLane(name, telemetry, topics, clock, metrics, withheld=self._withheld)
        self._inbox = Inbox(
            name, topics, on_command=on_command, on_ack=on_ack, on_replay=on_replay, alerts=alerts, clock=clock, metrics=metrics,
            withheld=self._withheld,
        )  # fmt: skip
        self._log = structlog.get_logger("lineside.mqtt").bind(uplink=name)

    @property
    def peer(self) -> str:
        """`MQTT broker-1:8883, broker-2:8883`."""
        return "MQTT " + ", ".join(f"{host}:{port}" for host, port, _ in self._settings.addresses())

    # -- live values and telemetry, from the app

    def set_live(self, topic_suffix: str, payload: bytes, *, retain: bool, qos: int, lasting: bool = False) -> None:
        """The present value of a live topic below `{root}/{enterprise}/{site}/` (see `Topics`); an empty payload removes it. A `lasting`
        one goes out before the one that replaces it."""
        self._live.set(self._topics.full(topic_suffix), payload, qos=qos, retain=retain, lasting=lasting)

    def notify_telemetry(self) -> None:
        """The journal may have new telemetry rows."""
        if self._telemetry is not None:
            self._telemetry.notify()

    # -- the seam

    async def connect(self) -> None:
        """Try each address once, beginning with the one that worked last. Raises UplinkError with the last failure."""
        if self._settings.plain_text():
            warn_plain_text(self._alerts, self.name, self.peer)
        addresses = self._settings.addresses()
        failure = UplinkError("no address")
        for step in range(len(addresses)):
            index = (self._first + step) % len(addresses)
            host, port, tls = addresses[index]
            try:
                self._connection = await self._open(host, port, tls_context(self._settings.tls) if tls else None)
            except UplinkError as error:
                failure = error
                continue
            self._first = index
            self._opened_at = self._clock.monotonic()
            return
        raise failure

    async def _open(self, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        user = self._settings.user
        access = Access(
            host=host,
            port=port,
            tls=tls,
            client_id=f"{self._gateway_id}-{self.name}",
            user=user.name if user else None,
            password=self._secrets(user.password) if user and user.password else None,
        )
        connection = self._new_connection(access, V311 if self._settings.protocol == "3.1.1" else V5)
        try:
            await connection.open()
        except VersionRefused:
            if self._settings.protocol != "auto":
                raise
            connection = self._new_connection(access, V311)
            await connection.open()
        try:
            await self._introduce(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _new_connection(self, access: Access, version: Any) -> Connection:
        will = self._status_topic, self._status(online=False)
        return Connection(access, version=version, will=will, clock=self._clock, noticed=self._noticed)

    def _noticed(self, kind: str) -> None:
        """Something a broker did that is no refusal of a row; counted, so that a broker that does it often is found."""
        self._incidents.labels(self.name, kind).inc()

    def _status(self, *, online: bool) -> bytes:
        about = self._about() if online else {}
        return encode({"online": online, "gateway": self._gateway_id, **about})

    async def _introduce(self, connection: Connection) -> None:
        """Listen for commands first, then say that we are there."""
        refused = await connection.subscribe(self._inbox.subscriptions)
        self._incidents.labels(self.name, "subscription_refused").inc(len(refused))
        self._broker_alerts.subscriptions(refused)
        self._broker_alerts.version(connection.peer, tells_refusals=connection.version == V5)
        try:
            async with self._clock.timeout(CONNECT_BOUND_S):
                reason = await connection.confirmed(self._status_topic, self._status(online=True), retain=True)
        except TimeoutError:
            raise UplinkError("the birth message was not acknowledged", silent=True) from None
        if reason is None:
            raise UplinkError(connection.lost.result())
        if reason >= 0x80:
            self._log.warning("birth_refused", reason=reason)

    async def serve(self, heard: Callable[[], None]) -> None:
        connection = self._connection
        if connection is None:
            raise UplinkError("not connected")
        connection.heard = heard
        pumps: list[Coroutine[Any, Any, None]] = [self._live.pump(connection), self._inbox.pump(connection), self._watch(connection)]
        if self._telemetry is not None:
            pumps.append(self._telemetry.pump(connection))
        tasks = [asyncio.ensure_future(pump) for pump in pumps]
        waiting: list[asyncio.Future[Any]] = [*tasks, connection.lost]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            # At once: the forwarder, which met the end of the connection in the same moment, may cancel what waits here.
            hung_up = self._live.connection_ended()
            self._judge_end(connection)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            # A pump ends by itself only with the connection; anything else is a bug and must be seen.
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError | UplinkError):
                raise error
        lost = connection.lost.result() if connection.lost.done() else "connection lost"
        raise UplinkError(lost, retry_after_s=_HUNG_UP_PAUSE_S if hung_up else None)

    def _judge_end(self, connection: Connection) -> None:
        """Whether the broker closed it over one message, as before: that one is left out then."""
        over = connection.closed_over
        if over is None:
            self._withheld.clear()
        elif over[0] in self._live:
            # Its value may be another one each time.
            over = over[0], b""
        count = self._suspects.ended(over, self._clock.monotonic() - self._opened_at)
        if over is None or count < SILENCED_AFTER:
            return
        self._noticed("closed_over_message")
        self._broker_alerts.hangs_up(over[0])
        if over[0] in self._live:
            self._live.give_up(over[0])
        elif over[0] in self._inbox or (self._telemetry is not None and over[0] in self._telemetry):
            self._withheld.add(over[0])
        elif count >= GIVEN_UP_AFTER:
            self._given_up.add(over[1])
            self._log.warning("message_given_up", topic=over[0], connections=count)

    async def _watch(self, connection: Connection) -> None:
        while not connection.overdue():
            connection.keep_alive()
            if self._clock.monotonic() - self._opened_at >= PROVEN_S:
                self._broker_alerts.hangs_up(None)
            await self._clock.sleep(_WATCH_S)
        connection.lose("a message was not acknowledged within 10 s")

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        """Publish rows in order, up to the window in flight. After a refusal nothing more of that work unit is sent."""
        connection = self._connection
        if connection is None or connection.lost.done():
            raise UplinkError("not connected" if connection is None else connection.lost.result())
        delivery = _Delivery(connection)
        for entry in batch:
            topic = self._topics.event(entry)
            if entry.work_unit in delivery.held or delivery.busy:
                continue
            if entry.body in self._given_up:
                # Once: a person may have it tried again.
                self._given_up.discard(entry.body)
                delivery.parked[entry.position] = f"the broker closed the connection {GIVEN_UP_AFTER} times over it"
                continue
            if not connection.fits(topic, entry.body):
                delivery.parked[entry.position] = "larger than the broker's maximum packet size"
                continue
            if not await connection.window.take(Lane.LEDGER):
                break
            if entry.work_unit in delivery.held or delivery.busy:
                connection.window.give(Lane.LEDGER)
                continue
            delivery.send(entry, topic)
        await delivery.answered.wait()
        if connection.lost.done() and not (delivery.accepted or delivery.refused or delivery.parked):
            raise UplinkError(connection.lost.result())
        return delivery.receipt()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close((self._status_topic, self._status(online=False)))


class _Delivery:
    """One batch on its way: what the broker has said about each row so far."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._open = 0
        self.accepted: set[int] = set()
        self.unrouted: set[int] = set()
        self.refused: dict[int, str] = {}
        self.parked: dict[int, str] = {}
        self.held: set[str | None] = set()
        self.busy = False
        self.answered = asyncio.Event()
        self.answered.set()

    def send(self, entry: Entry, topic: str) -> None:
        self._open += 1
        self.answered.clear()
        self._connection.publish(topic, entry.body, partial(self._done, entry), qos=1)

    def _done(self, entry: Entry, reason: int | None) -> None:
        self._connection.window.give(Lane.LEDGER)
        self._open -= 1
        if reason is not None:
            self._judge(entry, reason)
        if not self._open:
            self.answered.set()

    def _judge(self, entry: Entry, reason: int) -> None:
        if reason < 0x80:
            self.accepted.add(entry.position)
            if reason == NO_SUBSCRIBERS:
                self.unrouted.add(entry.position)
        elif reason in REFUSED_AS_IT_STANDS:
            self.refused[entry.position] = f"0x{reason:02x} {REFUSED_AS_IT_STANDS[reason]}"
            self.held.add(entry.work_unit)
        else:
            self.busy = True

    def receipt(self) -> Receipt:
        return Receipt(
            accepted=frozenset(self.accepted),
            parked=self.parked,
            refused=self.refused,
            unrouted=frozenset(self.unrouted),
            retry_after_s=_BUSY_S if self.busy else None,
        )
