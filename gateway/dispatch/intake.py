"""Orders and facts in: checked, given to their work unit's tracker, committed, and only then answered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from drivers.base import Clock
from gateway.domain.events import CommandAnswered, Event
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import Answer, Fact, JobCommand, Problem
from gateway.domain.problems import return_status
from gateway.metrics import Metrics

REMEMBERED = 4_096
"""Answers kept in memory; older ones are looked up in the journal."""


class CommandTarget(Protocol):
    """A work unit's tracker, as far as orders are concerned. A refused command changes nothing; the events are recorded either way."""

    def command(self, command: JobCommand, at: datetime, /) -> tuple[Answer, list[Event]]:
        """Apply a verb to an order of this work unit."""

    def fact(self, fact: Fact, at: datetime, /) -> tuple[Answer, list[Event]]:
        """Book what people know and the PLC does not."""


class Journal(Protocol):
    """Where events and answers become durable (`outbox.recorder.Recorder`): all that is recorded without an await in between, at once."""

    def record(self, events: Sequence[Event]) -> None: ...

    def record_answer(self, answer: Answer, at: datetime) -> None: ...

    def record_order_cursor(self, uplink: str, cursor: str) -> None: ...

    async def committed(self) -> None: ...


Cursor = str | None | Callable[[Sequence[Answer]], str | None]
"""How far an uplink's orders have been taken, or what tells it once they are answered."""
Key = tuple[str, bool]
"""A command_id, and whether the message was retained: what a broker repeats at each connection is no repeat of the command itself."""


def _key(inbound: Inbound) -> Key | None:
    if inbound.command_id is None:
        return None
    return inbound.command_id, isinstance(inbound, Refusal) and inbound.problem.code == "retained"


def _refused(command_id: str | None, code: str, text: str) -> Answer:
    return Answer(command_id, return_status(code), None, Problem(code, text))


class Intake:
    """One for the gateway: command_ids are known whatever uplink brings them.

    `known_answer(command_id)` looks an answer up in the journal. Messages are applied in the order in which they are handed in; their
    answers come together, after the commit they share.
    """

    def __init__(
        self,
        trackers: Mapping[str, CommandTarget],
        journal: Journal,
        *,
        known_answer: Callable[[str], Awaitable[Answer | None]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._trackers = trackers
        self._journal = journal
        self._known_answer = known_answer
        self._clock = clock
        self._metrics = metrics
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._turn = asyncio.Lock()

    async def handle(self, inbound: Inbound, *, uplink: str, work_unit: str | None, received_at: datetime) -> Answer:
        """Take one message and return its answer once everything it did is on disk; only then may it be acknowledged.

        `work_unit` is that of the MQTT topic, None where the way in has none (HTTP). `received_at`, aware UTC, is when it came.
        While the disk takes nothing this waits; the command itself is in force at once.
        """
        async with self._turn:
            await self._look_up([inbound])
            answer = self._take(inbound, uplink, work_unit, received_at)
        await self._durable()
        return answer

    async def handle_batch(self, items: Sequence[Inbound], *, uplink: str, cursor: Cursor) -> list[Answer]:
        """Take the orders of one poll; the cursor (None: it has not moved) is stored in the transaction of the orders it brought. One
        that depends on the answers is made from them: a function that must not await."""
        async with self._turn:
            await self._look_up(items)
            # From here to the cursor nothing awaits: that is what makes it one transaction.
            received_at = self._clock.now()
            answers = [self._take(inbound, uplink, None, received_at) for inbound in items]
            moved = cursor(answers) if callable(cursor) else cursor
            if moved is not None:
                self._journal.record_order_cursor(uplink, moved)
        await self._durable()
        return answers

    async def _look_up(self, items: Sequence[Inbound]) -> None:
        corrected = [(fact.corrects, False) for fact in items if isinstance(fact, Fact) and fact.corrects is not None]
        for key in [*corrected, *map(_key, items)]:
            if key is None or key in self._answers or key[1]:
                continue
            answer = await self._known_answer(key[0])
            if answer is not None:
                self._answers[key] = answer

    async def _durable(self) -> None:
        await self._journal.committed()
        # The oldest answers have been on disk for long; none is forgotten while it is only in memory.
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    def _take(self, inbound: Inbound, uplink: str, topic_unit: str | None, received_at: datetime) -> Answer:
        key = _key(inbound)
        known = self._answers.get(key) if key is not None else None
        if known is not None:
            self._metrics.commands.labels(uplink, "repeated").inc()
            return known
        # A clock that was set back between reception and now must not date a command before its message.
        at = max(received_at, self._clock.now())
        answer, events = self._apply(inbound, topic_unit, at)
        self._metrics.commands.labels(uplink, answer.problem.code if answer.problem else "accepted").inc()
        if key is None:
            # Nobody could look this answer up, and garbage must not fill the journal: it is counted.
            return answer
        self._answers[key] = answer
        self._journal.record([*events, self._answered(inbound, answer, topic_unit, at)])
        if not key[1]:
            self._journal.record_answer(answer, at)
        return answer

    def _apply(self, inbound: Inbound, topic_unit: str | None, at: datetime) -> tuple[Answer, list[Event]]:
        if isinstance(inbound, Refusal):
            return Answer(inbound.command_id, inbound.return_status, None, inbound.problem), []
        problem = self._misaddressed(inbound.work_unit, topic_unit)
        if problem is not None:
            return _refused(inbound.command_id, problem.code, problem.text), []
        tracker = self._trackers[topic_unit or inbound.work_unit or ""]
        if isinstance(inbound, Fact):
            corrected = self._answers.get((inbound.corrects, False)) if inbound.corrects is not None else None
            if inbound.corrects is not None and (corrected is None or not corrected.accepted):
                return _refused(inbound.command_id, "unknown_command", f"corrects: no accepted fact {inbound.corrects} is known"), []
            return tracker.fact(replace(inbound, work_unit=topic_unit or inbound.work_unit), at)
        if inbound.expires_at is not None and inbound.expires_at <= at:
            return _refused(inbound.command_id, "expired", f"the command expired at {inbound.expires_at.isoformat()}"), []
        return tracker.command(replace(inbound, work_unit=topic_unit or inbound.work_unit), at)

    def _misaddressed(self, given: str | None, topic_unit: str | None) -> Problem | None:
        if topic_unit is not None and given is not None and given != topic_unit:
            return Problem("wrong_work_unit", f"the message names work unit {given}, its topic {topic_unit}")
        unit = topic_unit or given
        if unit is None:
            return Problem("missing_field", "work_unit: is required here")
        if unit not in self._trackers:
            return Problem("unknown_work_unit", f"this gateway has no work unit {unit}")
        return None

    def _answered(self, inbound: Inbound, answer: Answer, topic_unit: str | None, at: datetime) -> CommandAnswered:
        unit = topic_unit or inbound.work_unit
        order: str | None = None
        if isinstance(inbound, JobCommand):
            order = inbound.job_order.job_order_id
        elif isinstance(inbound, Fact):
            order = inbound.job_order_id
        return CommandAnswered(
            work_unit=unit if unit in self._trackers else None,
            at=at,
            job_order_id=order,
            command_id=answer.command_id,
            return_status=int(answer.return_status),
            problem={"code": answer.problem.code, "text": answer.problem.text} if answer.problem else None,
            by=inbound.by if isinstance(inbound, Fact) else None,
            corrects=inbound.corrects if isinstance(inbound, Fact) else None,
        )
