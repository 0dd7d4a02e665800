"""What the uplinks and the forwarder are tested with: an alert board, a journal in memory, rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import orjson

from gateway.domain.entry import Entry
from gateway.domain.events import Event, RowParked, Text
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import Answer
from gateway.outbox.transaction import PARKED, ConsumerMark, RowException

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
EPOCH = "e1"
GATEWAY = "line-pc-07"


def entry(position: int, *, work_unit: str | None = "press-07", type_: str = "quantity.counted", base: int = 0) -> Entry:
    """Row `position`; its sequence is `position - base`."""
    sequence = position - base
    id_ = f"{GATEWAY}:{EPOCH}:{sequence}"
    source = f"/acme/lyon/stamping/line-3/{work_unit}" if work_unit else f"/acme/lyon/_gateway/{GATEWAY}"
    body = orjson.dumps({"id": id_, "source": source, "type": f"lineside.{type_}.v1", "epoch": EPOCH, "sequence": sequence, "data": {}})
    return Entry(position, EPOCH, sequence, id_, work_unit, type_, None, AT, body)


class Alerts:
    """Remembers what is up, and every raise and clear in order."""

    def __init__(self) -> None:
        self.up: dict[str, str] = {}
        self.told: list[str] = []

    def raise_(self, key: str, severity: str, text: Text, remedy: Text, *, work_unit: str | None = None, detail: str = "") -> None:
        assert severity in ("info", "warning", "critical")
        assert text.fr
        assert text.en
        assert remedy.fr
        assert remedy.en
        if key not in self.up:
            self.told.append(f"+{key}")
        self.up[key] = detail

    def clear(self, key: str) -> None:
        if self.up.pop(key, None) is not None:
            self.told.append(f"-{key}")


class MemoryJournal:
    """Reader and writer of the forwarder, as the store and the recorder behave once everything is committed."""

    def __init__(self, rows: Sequence[Entry] = (), *, cursor: int = 0) -> None:
        self.rows = list(rows)
        self.position = cursor
        self.sent = cursor
        self.apart: dict[int, RowException] = {}
        self.consumer_marks: dict[tuple[str, str], int] = {}
        self.events: list[Event] = []
        self.advances: list[int] = []

    def append(self, *rows: Entry) -> None:
        self.rows.extend(rows)

    @property
    def last_position(self) -> int:
        return self.rows[-1].position if self.rows else 0

    async def entries(self, after_position: int, limit: int, *, without: Collection[str | None] = ()) -> list[Entry]:
        return [row for row in self.rows if row.position > after_position and row.work_unit not in without][:limit]

    async def entries_at(self, positions: Sequence[int]) -> list[Entry]:
        return [row for row in self.rows if row.position in positions]

    def position_of(self, epoch: str, sequence: int) -> int | None:
        return sequence if epoch == EPOCH else None

    def cursor(self, uplink: str) -> int:
        return self.position

    def sent_up_to(self, uplink: str) -> int:
        return self.sent

    async def exceptions(self, uplink: str) -> list[RowException]:
        return list(self.apart.values())

    async def marks(self, uplink: str) -> list[ConsumerMark]:
        return [ConsumerMark(uplink, name, epoch, sequence, AT) for (name, epoch), sequence in self.consumer_marks.items()]

    def record(self, events: Sequence[Event]) -> None:
        self.events.extend(events)

    def advance(self, uplink: str, position: int) -> None:
        assert position > self.position, "the cursor moves forward only"
        self.position = position
        self.advances.append(position)

    def note_sent(self, uplink: str, position: int) -> None:
        assert position > self.sent, "what was sent is told once"
        self.sent = position

    def park(self, uplink: str, position: int, reason: str, state: str = PARKED) -> None:
        self.apart[position] = RowException(uplink, position, state, reason, AT)

    def unpark(self, uplink: str, position: int) -> None:
        del self.apart[position]

    def mark(self, uplink: str, consumer: str, epoch: str, sequence: int) -> None:
        self.consumer_marks[consumer, epoch] = sequence

    @property
    def parked_sequences(self) -> list[int]:
        return [event.sequence for event in self.events if isinstance(event, RowParked)]


class Ledger:
    """Takes commands as the intake does, answering success, a refusal as it stands; a repeat gets its first answer."""

    def __init__(self) -> None:
        self.taken: list[tuple[Inbound, str | None]] = []
        self.answers: dict[str, Answer] = {}
        self.cursors: list[str | None] = []

    async def handle(self, inbound: Inbound, *, uplink: str, work_unit: str | None, received_at: datetime) -> Answer:
        if inbound.command_id is not None and inbound.command_id in self.answers:
            return self.answers[inbound.command_id]
        self.taken.append((inbound, work_unit))
        if isinstance(inbound, Refusal):
            answer = Answer(inbound.command_id, inbound.return_status, problem=inbound.problem)
        else:
            answer = Answer(inbound.command_id, 1, state="Running")
        if inbound.command_id is not None:
            self.answers[inbound.command_id] = answer
        return answer

    async def handle_batch(
        self, items: Sequence[Inbound], *, uplink: str, cursor: str | Callable[[Sequence[Answer]], str | None] | None
    ) -> list[Answer]:
        answers = [await self.handle(item, uplink=uplink, work_unit=None, received_at=AT) for item in items]
        self.cursors.append(cursor(answers) if callable(cursor) else cursor)
        return answers
