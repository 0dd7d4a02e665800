"""What a broker brings down: commands into the ledger, acknowledgements and replay requests to the forwarder."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container

import structlog

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.domain.job_order import Answer, Problem
from gateway.metrics import Metrics
from gateway.seams import AlertBoard
from gateway.uplink.base import AckHandler, CommandHandler, Complaint, ReplayHandler
from gateway.uplink.messages import AckMessage, ReplayMessage, answer_payload, parse_command, parse_control
from gateway.uplink.mqtt_connection import Connection, Message
from gateway.uplink.mqtt_window import Lane
from gateway.uplink.topics import Topics

_LONGEST_TOPIC = 1024
_MOST_WAITING = 1_000
"""QoS 0 commands of a work unit that wait for their turn; more are dropped, as QoS 0 allows."""
_CALM_S = 600.0
"""An acknowledgement or replay request that is refused stays on the page for so long after the last one, and until a good one comes."""


class Inbox:
    """Commands of one work unit are handled in the order they came, those of different units side by side.

    A command is acknowledged to the broker after its answer left, and its answer leaves after the commit: a gateway that is killed
    in between gets the command again and answers from its journal. MQTT wants acknowledgements in the order of arrival.
    """

    def __init__(
        self,
        name: str,
        topics: Topics,
        *,
        on_command: CommandHandler,
        on_ack: AckHandler,
        on_replay: ReplayHandler,
        alerts: AlertBoard,
        clock: Clock,
        metrics: Metrics,
        withheld: Container[str] = (),
    ) -> None:
        """`withheld`: topics over which the broker hangs up; no answer goes there."""
        self._name = name
        self._topics = topics
        self._places = topics.inbound()
        self._on_command = on_command
        self._on_ack = on_ack
        self._on_replay = on_replay
        self._alerts = alerts
        self._clock = clock
        self._metrics = metrics
        self._withheld = withheld
        self._waiting: set[str] = set()
        """Topics of answers that this connection has not taken yet."""
        self._complaints = {
            "ack": self._complaint("ack", "un accusé de réception", "an acknowledgement"),
            "replay": self._complaint("replay", "une demande de renvoi", "a replay request"),
        }
        self._log = structlog.get_logger("lineside.mqtt").bind(uplink=name)

    @property
    def subscriptions(self) -> list[str]:
        """Full topics to subscribe to."""
        return list(self._places)

    def __contains__(self, topic: object) -> bool:
        """Whether an answer on `topic` waits to be taken, or was when the connection ended."""
        return topic in self._waiting

    async def pump(self, connection: Connection) -> None:
        """Deal with what comes until cancelled."""
        self._waiting.clear()
        acknowledged = _InOrder(connection)
        async with asyncio.TaskGroup() as workers:
            queues: dict[str, asyncio.Queue[tuple[str, Message]]] = {}
            while True:
                message = await connection.messages.get()
                acknowledged.arrived(message)
                kind, work_unit = self._places.get(message.topic, ("foreign", None))
                if work_unit is None:
                    self._control(kind, message)
                    acknowledged.done(message)
                    continue
                if work_unit not in queues:
                    queues[work_unit] = asyncio.Queue()
                    worker = self._serve_unit(connection, work_unit, queues[work_unit], acknowledged)
                    workers.create_task(worker, name=f"{self._name}-commands-{work_unit}")
                if not message.qos and queues[work_unit].qsize() >= _MOST_WAITING:
                    # With QoS 1 the broker holds back what is not acknowledged; without, nothing does.
                    self._metrics.commands.labels(self._name, "flooded").inc()
                    continue
                queues[work_unit].put_nowait((kind, message))

    async def _serve_unit(
        self, connection: Connection, work_unit: str, queue: asyncio.Queue[tuple[str, Message]], acknowledged: _InOrder
    ) -> None:
        while True:
            kind, message = await queue.get()
            # A retained message that reaches an old subscription arrives with its flag whatever the version; live ones only with MQTT 5.
            inbound = parse_command(message.payload, retained=message.retained, topic_work_unit=work_unit, kind=kind)
            answer = await self._on_command(inbound, uplink=self._name, work_unit=work_unit, received_at=self._clock.now())
            await self._answer(connection, work_unit, kind, message, answer)
            acknowledged.done(message)

    async def _answer(self, connection: Connection, work_unit: str, kind: str, message: Message, answer: Answer) -> None:
        payload = answer_payload(answer)
        wanted = message.response_topic
        if wanted is not None and _is_publishable(wanted):
            await self._publish(connection, wanted, payload, message.correlation_data)
        if answer.command_id is not None:
            leaf = "job/response" if kind == "job" else "response"
            topic = self._topics.full(self._topics.unit(work_unit, leaf))
            if topic != wanted:
                await self._publish(connection, topic, payload, message.correlation_data)

    async def _publish(self, connection: Connection, topic: str, payload: bytes, correlation: bytes | None) -> None:
        if topic in self._withheld or not connection.fits(topic, payload):
            self._metrics.uplink_incidents.labels(self._name, "answer_withheld").inc()
            self._log.warning("answer_withheld", topic=topic)
            return
        if not await connection.window.take(Lane.LIVE):
            return
        self._waiting.add(topic)
        try:
            reason = await connection.confirmed(topic, payload, correlation=correlation)
        finally:
            connection.window.give(Lane.LIVE)
        if reason is None:
            return
        self._waiting.discard(topic)
        if reason >= 0x80:
            self._log.warning("answer_refused", topic=topic, reason=reason)

    def _control(self, kind: str, message: Message) -> None:
        problem: str | None
        if kind == "ack":
            ack = parse_control(message.payload, AckMessage, retained=message.retained)
            problem = ack.text if isinstance(ack, Problem) else self._on_ack(ack.consumer, ack.epoch, ack.sequence)
        elif kind == "replay":
            replay = parse_control(message.payload, ReplayMessage, retained=message.retained)
            problem = replay.text if isinstance(replay, Problem) else self._on_replay(replay.epoch, replay.from_sequence)
        else:
            # A session that outlived a work unit: its old subscription still brings messages.
            problem = f"nobody here listens to {message.topic}"
        if problem is None:
            self._complaints[kind].good()
            return
        self._metrics.commands.labels(self._name, f"{kind}_refused").inc()
        self._log.warning("message_refused", kind=kind, problem=problem)
        if kind in self._complaints:
            self._complaints[kind].bad(problem)

    def _complaint(self, kind: str, what_fr: str, what_en: str) -> Complaint:
        return Complaint(
            self._alerts,
            self._clock,
            f"uplink.{kind}_refused:{self._name}",
            Text(f"La liaison {self._name} a refusé {what_fr}.", f"The uplink {self._name} refused {what_en}."),
            Text("Vérifier le réglage du système destinataire.", "Check the settings of the receiving system."),
            patience_s=0.0,
            calm_s=_CALM_S,
        )


class _InOrder:
    """Acknowledges messages in the order of arrival, each once it and all before it are done."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._arrived: deque[Message] = deque()
        self._done: set[int] = set()

    def arrived(self, message: Message) -> None:
        if message.qos:
            self._arrived.append(message)

    def done(self, message: Message) -> None:
        if message.qos:
            self._done.add(id(message))
        while self._arrived and id(self._arrived[0]) in self._done:
            first = self._arrived.popleft()
            self._done.remove(id(first))
            self._connection.ack(first)


def _is_publishable(topic: str) -> bool:
    return 0 < len(topic) <= _LONGEST_TOPIC and not topic.startswith("$") and not any(sign in topic for sign in "+#\0")
