"""What leaves beside the ledger: live values, where only the latest counts, and bulk telemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from drivers.base import Clock
from gateway.metrics import Metrics
from gateway.uplink.mqtt_alerts import BrokerAlerts
from gateway.uplink.mqtt_connection import Connection
from gateway.uplink.mqtt_window import Lane
from gateway.uplink.topics import Topics

MOST_TOPICS = 20_000
"""Live topics kept in memory; the one that was set longest ago goes first (it stays with the broker)."""
_UNWRITTEN = 200
"""QoS 0 messages handed over and not yet written: beyond that the peer is slow, and newer values replace older ones here."""
_REFUSED_FROM = 0x80
_HANG_UP_S = 0.5
"""A connection that ends so soon after a refusal, with nothing taken in between, was closed over it."""
_TELEMETRY_BATCH = 50
_IDLE_S = 10.0


class LiveLane:
    """The latest value of each live topic; all of them go out again after each connection, and never wait behind ledger events.

    Some brokers close the connection over a publish that they deny (mosquitto 2.0.11 with unlimited queues), for QoS 0 without a word.
    So a topic whose QoS 0 publish nothing proves to have been taken is asked about with QoS 1 on the next connection, and the folder of
    one that cost a connection stays silent on those that follow, until one of them ends for another reason.
    """

    def __init__(self, name: str, clock: Clock, alerts: BrokerAlerts, noticed: Callable[[], None]) -> None:
        """`noticed` is called for each refusal."""
        self._clock = clock
        self._alerts = alerts
        self._noticed = noticed
        self._latest: dict[str, tuple[bytes, int, bool]] = {}
        self._changed: dict[str, None] = {}
        self._lasting: dict[str, bytes] = {}
        """Values that go out before the latest of their topic."""
        self._refused: dict[str, str] = {}
        """Topic -> the broker's reason, until it takes the topic."""
        self._refused_last: tuple[str, float] | None = None
        """Topic and time of a refusal after which nothing was taken."""
        self._silent: set[str] = set()
        self._number = 0
        self._unproven: dict[str, int] = {}
        """QoS 0 topics -> number of the publish, in its order; a QoS 1 publish behind it that was taken proves that it was."""
        self._asked: set[str] = set()
        self._wake = asyncio.Event()
        self._unwritten = 0
        self._log = structlog.get_logger("lineside.mqtt").bind(uplink=name)

    def set(self, topic: str, payload: bytes, *, qos: int, retain: bool, lasting: bool = False) -> None:
        """The value of `topic` is now `payload`; an empty one removes a retained topic. A `lasting` value is published even when another
        follows before it was."""
        if lasting:
            self._lasting[topic] = payload
        self._latest.pop(topic, None)
        self._latest[topic] = (payload, qos, retain)
        if len(self._latest) > MOST_TOPICS:
            oldest = next(iter(self._latest))
            del self._latest[oldest]
            self._changed.pop(oldest, None)
            self._lasting.pop(oldest, None)
        self._changed[topic] = None
        self._wake.set()

    async def pump(self, connection: Connection) -> None:
        """Publish everything once, then what changes, until the connection is lost."""
        self._changed = dict.fromkeys(self._latest)
        self._refused_last = None
        self._asked.update(self._unproven)
        self._unproven.clear()
        self._unwritten = 0
        while not connection.lost.done():
            if self._changed and self._unwritten < _UNWRITTEN:
                topic = next(iter(self._changed))
                if _folder(topic) in self._silent:
                    self._changed.pop(topic)
                    continue
                payload, qos, retain = self._latest[topic]
                qos = max(qos, topic in self._asked or topic in self._refused)
                if qos and not await connection.window.take(Lane.LIVE):
                    return
                # The value may have changed while it waited for its place.
                payload, _, retain = self._latest.get(topic, (payload, qos, retain))
                lasting = self._lasting.pop(topic, payload)
                if lasting == payload:
                    self._changed.pop(topic, None)
                self._publish(connection, topic, lasting, qos, retain)
                continue
            self._wake.clear()
            await self._wake.wait()

    def _publish(self, connection: Connection, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self._number += 1
        if not qos:
            self._unwritten += 1
            self._unproven.pop(topic, None)
            self._unproven[topic] = self._number
        done = partial(self._done, connection, topic, payload, qos, self._number)
        connection.publish(topic, payload, done, qos=qos, retain=retain)

    def connection_ended(self) -> bool:
        """To be told once each connection is lost. True: it was closed over a live topic, the next one will leave it out."""
        refused, self._refused_last = self._refused_last, None
        hung_up = refused is not None and self._clock.monotonic() - refused[1] < _HANG_UP_S
        if refused is not None and hung_up:
            self._silent.add(_folder(refused[0]))
            self._log.warning("live_topics_silent", folder=_folder(refused[0]))
        else:
            self._silent.clear()
        return hung_up

    def __contains__(self, topic: object) -> bool:
        return topic in self._latest

    def give_up(self, topic: str) -> None:
        """The broker closes the connection over `topic` again and again: its folder stays silent on the next."""
        self._silent.add(_folder(topic))
        self._refused[topic] = "connection closed"
        self._alerts.live(self._refused)

    def _done(self, connection: Connection, topic: str, payload: bytes, qos: int, number: int, reason: int | None) -> None:
        if qos:
            connection.window.give(Lane.LIVE)
        else:
            self._unwritten -= 1
            if self._unwritten == _UNWRITTEN - 1:
                self._wake.set()
        if qos and reason is not None:
            self._is_answered(topic, number, reason)
        if not payload and reason == 0 and topic not in self._changed:
            self._latest.pop(topic, None)

    def _is_answered(self, topic: str, number: int, reason: int) -> None:
        self._asked.discard(topic)
        while self._unproven and next(iter(self._unproven.values())) < number:
            del self._unproven[next(iter(self._unproven))]
        if reason < _REFUSED_FROM:
            self._refused_last = None
            if self._refused.pop(topic, None) is not None:
                self._alerts.live(self._refused)
            return
        self._refused_last = topic, self._clock.monotonic()
        self._noticed()
        if topic not in self._refused:
            self._refused[topic] = f"0x{reason:02x}"
            self._alerts.live(self._refused)
            self._log.warning("live_topic_refused", topic=topic, reason=reason)


def _folder(topic: str) -> str:
    return topic.rpartition("/")[0]


class TelemetryRow(Protocol):
    """One batch of raw tags: `body` is the message as it is sent."""

    @property
    def id(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def body(self) -> bytes: ...


@dataclass(frozen=True)
class TelemetrySource:
    """The journal's telemetry; the oldest goes when nobody fetches it.

    `fetch(after_id, limit)`: the oldest rows behind `after_id`, in order. `done(id)`: everything up to this id has been delivered.
    """

    fetch: Callable[[int, int], Awaitable[Sequence[TelemetryRow]]]
    done: Callable[[int], None]


class TelemetryLane:
    """Bulk telemetry with QoS 1, in the journal's order, a few in flight."""

    def __init__(
        self, name: str, source: TelemetrySource, topics: Topics, clock: Clock, metrics: Metrics, *, withheld: Container[str] = ()
    ) -> None:
        """`withheld`: topics over which the broker hangs up; their rows are dropped."""
        self._name = name
        self._source = source
        self._topics = topics
        self._clock = clock
        self._metrics = metrics
        self._withheld = withheld
        self._used: set[str] = set()
        self._done_id = 0
        self._wake = asyncio.Event()

    def __contains__(self, topic: object) -> bool:
        return topic in self._used

    def notify(self) -> None:
        """There may be new rows."""
        self._wake.set()

    async def pump(self, connection: Connection) -> None:
        while not connection.lost.done():
            self._wake.clear()
            rows = await self._source.fetch(self._done_id, _TELEMETRY_BATCH)
            if rows:
                await self._send(connection, rows)
                continue
            try:
                async with self._clock.timeout(_IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _send(self, connection: Connection, rows: Sequence[TelemetryRow]) -> None:
        open_rows: dict[int, None] = {}
        idle = asyncio.Event()
        idle.set()
        sent = True

        def done(row_id: int, reason: int | None) -> None:
            nonlocal sent
            connection.window.give(Lane.TELEMETRY)
            del open_rows[row_id]
            if reason is None:
                sent = False
            elif reason >= _REFUSED_FROM:
                self._metrics.telemetry_dropped.labels(self._name).inc()
            if not open_rows:
                idle.set()

        for row in rows:
            topic = self._topics.device(row.device)
            if topic in self._withheld or not connection.fits(topic, row.body):
                self._metrics.telemetry_dropped.labels(self._name).inc()
                continue
            if not await connection.window.take(Lane.TELEMETRY):
                return
            open_rows[row.id] = None
            idle.clear()
            self._used.add(topic)
            connection.publish(topic, row.body, partial(done, row.id), qos=1)
        await idle.wait()
        if sent:
            self._done_id = rows[-1].id
            self._source.done(self._done_id)
