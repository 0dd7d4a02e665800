"""Server-sent events: a beat every 5 s and the names of parts that changed; a slow reader skips, it never delays anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from aiohttp import web

from drivers.base import Clock
from gateway.domain.instants import timestamp
from gateway.status.board import Board, Revisions

BEAT_EVERY_S = 5.0
TICK_S = 1.0
"""Changes of one second are told together."""
MAX_READERS = 64
"""A page open in every office is fewer; beyond, somebody leaks connections."""
WRITE_TIMEOUT_S = 20.0
"""A reader that takes nothing for so long is gone."""


@dataclass(eq=False)
class _Reader:
    """What one browser has not been told yet; it stays this small however long the browser sleeps."""

    changed: set[str] = field(default_factory=set)
    beat: datetime | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Stream:
    """The readers of `/api/stream`. `run` compares boards once a second, only while somebody listens."""

    def __init__(self, board: Callable[[], Board | None], clock: Clock, revisions: Revisions) -> None:
        self._board = board
        self._clock = clock
        self._revisions = revisions
        self._readers: set[_Reader] = set()
        self._closing = False

    async def run(self) -> None:
        """Until cancelled."""
        since_beat = BEAT_EVERY_S
        seen = dict(self._revisions.numbers)
        while True:
            board = self._board() if self._readers else None
            if board is not None:
                self._revisions.look(board)
                changed = {name for name, number in self._revisions.numbers.items() if seen.get(name) != number}
                seen = dict(self._revisions.numbers)
            else:
                changed = set()
            since_beat += TICK_S
            beat = since_beat >= BEAT_EVERY_S
            if beat:
                since_beat = 0.0
                changed |= set(self._revisions.numbers)  # ages move on
            self._tell(changed, self._clock.now() if beat else None)
            await self._clock.sleep(TICK_S)

    def _tell(self, changed: set[str], beat: datetime | None) -> None:
        for reader in self._readers:
            reader.changed |= changed
            reader.beat = beat or reader.beat
            if changed or beat:
                reader.wake.set()

    def close(self) -> None:
        """Let every reader go, so that the server can stop."""
        self._closing = True
        for reader in self._readers:
            reader.wake.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One browser, until it goes or the server stops."""
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        if len(self._readers) >= MAX_READERS:
            return web.Response(status=503, text="too many event streams\n")
        response = web.StreamResponse(headers=headers)
        reader = _Reader(beat=self._clock.now())
        reader.wake.set()
        self._readers.add(reader)
        try:
            await response.prepare(request)
            while not self._closing:
                await reader.wake.wait()
                reader.wake.clear()
                async with self._clock.timeout(WRITE_TIMEOUT_S):
                    await response.write(_message(reader))
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._readers.discard(reader)
        return response


def _message(reader: _Reader) -> bytes:
    """Everything not told yet, as one write; empty when there is nothing (aiohttp sends nothing then)."""
    said = b""
    if reader.beat is not None:
        said += b"event: beat\ndata: " + orjson.dumps({"at": timestamp(reader.beat)}) + b"\n\n"
    if reader.changed:
        said += b"event: changed\ndata: " + orjson.dumps(sorted(reader.changed)) + b"\n\n"
    reader.beat, reader.changed = None, set()
    return said
