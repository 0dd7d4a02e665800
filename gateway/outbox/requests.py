"""What a person decides about rows that a peer does not take: asked for in a file of the state directory, done by the one writer.

`lineside outbox` leaves `requests/NAME.json` there and waits for `requests/NAME.answer`; a gateway that is down finds it at its next start.
A request that is found twice (the gateway was killed between doing and answering) changes nothing the second time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.outbox.journal import JournalReader
from gateway.outbox.transaction import DELIVERED

FOLDER = "requests"
LOOK_S = 1.0
_LARGEST = 8_000_000
"""Bytes of a request: a hundred thousand ids."""


class Request(BaseModel):
    """`ids` of rows, or `everything` that is set apart; at one uplink, or at each (None). `by`: whose account asks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    do: Literal["requeue", "drop"]
    uplink: str | None = None
    ids: tuple[str, ...] = ()
    everything: bool = False
    reason: str = ""
    by: str = ""


class Result(BaseModel):
    """`done`: uplink and id of each row; `untouched`: ids that no uplink had set apart or owed. `problem`: why nothing was done."""

    done: tuple[tuple[str, str], ...] = ()
    untouched: tuple[str, ...] = ()
    problem: str | None = None


class Hand(Protocol):
    """One uplink's rows (`outbox.forwarder.Forwarder`); each method returns the rows it changed something for."""

    async def requeue(self, positions: Sequence[int]) -> list[Entry]: ...
    async def drop(self, positions: Sequence[int], *, reason: str, by: str) -> list[Entry]: ...


def position_of(reader: JournalReader, row_id: str) -> int | None:
    """Where the row with this id (`gateway:epoch:sequence`) stands; None: there is none, or it is no id."""
    _, _, rest = row_id.partition(":")
    epoch, _, sequence = rest.rpartition(":")
    position = reader.position_of(epoch, int(sequence)) if sequence.isascii() and sequence.isdigit() and len(sequence) < 18 else None
    return position if position is not None and 0 < position <= reader.last_position else None


async def apply(request: Request, hands: Mapping[str, Hand], reader: JournalReader) -> Result:
    """Do it. What it changes is durable with the next commit."""
    if request.uplink is not None and request.uplink not in hands:
        return Result(problem=f"there is no uplink {request.uplink}; the gateway has {', '.join(hands) or 'none'}")
    chosen = hands if request.uplink is None else {request.uplink: hands[request.uplink]}
    known = {row_id: position_of(reader, row_id) for row_id in request.ids}
    done: list[tuple[str, str]] = []
    for name, hand in chosen.items():
        positions = [position for position in known.values() if position is not None]
        if request.everything:
            positions = [row.position for row in await reader.exceptions(name) if row.state != DELIVERED]
        if not positions:
            continue
        if request.do == "requeue":
            rows = await hand.requeue(positions)
        else:
            rows = await hand.drop(positions, reason=request.reason, by=request.by)
        done += [(name, row.id) for row in rows]
    touched = {row_id for _, row_id in done}
    return Result(done=tuple(done), untouched=tuple(row_id for row_id in request.ids if row_id not in touched))


class Requests:
    """Looks for requests as long as the gateway runs. `committed`: waits until all that was recorded is on disk."""

    def __init__(
        self, state_dir: Path, hands: Mapping[str, Hand], reader: JournalReader, committed: Callable[[], Awaitable[None]], clock: Clock
    ) -> None:
        self._folder = state_dir / FOLDER
        self._hands = hands
        self._reader = reader
        self._committed = committed
        self._clock = clock
        self._log = structlog.get_logger("lineside.outbox")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            # First a pause: the forwarders read at their start what is set apart.
            await self._clock.sleep(LOOK_S)
            for path in await asyncio.to_thread(_found, self._folder):
                await self._serve(path)

    async def _serve(self, path: Path) -> None:
        result = await self._done(await asyncio.to_thread(_read, path))
        await self._committed()
        self._log.info("request_done", request=path.name, done=len(result.done), problem=result.problem)
        await asyncio.to_thread(_answer, path, result)

    async def _done(self, body: bytes | None) -> Result:
        if body is None:
            return Result(problem="the request cannot be read by the gateway; give it to the gateway's account")
        try:
            request = Request.model_validate_json(body)
        except ValidationError as error:
            return Result(problem=f"the request is not one: {error.error_count()} errors, the first: {error.errors()[0]['msg']}")
        return await apply(request, self._hands, self._reader)


def _found(folder: Path) -> list[Path]:
    """Requests in the order of their names."""
    try:
        return sorted(folder.glob("*.json"))
    except OSError:
        return []


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError:
        return None


def _answer(path: Path, result: Result) -> None:
    """The answer first: a request without one is done again at the next look, which changes nothing."""
    with contextlib.suppress(OSError):
        # A full disk: whoever waits hears nothing and looks for himself.
        leave(path.with_suffix(".answer"), result)
    with contextlib.suppress(OSError):
        path.unlink()


def leave(path: Path, message: BaseModel) -> None:
    """Write a file that is there whole or not at all. Raises OSError."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(message.model_dump_json(), encoding="utf-8")
    part.rename(path)
