"""What a link is doing, and the loop that keeps one alive: retry with jitter, an outage logged once when it begins and once when it ends.

Devices and uplinks share it. A link's stages are an explicit table (`TRANSITIONS`); a step that is not in it is a bug and raises.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog

from drivers.base import Clock, Concern
from gateway.domain.events import Text

GAVE_UP = "the connection was given up by its own library"


class LinkState(StrEnum):
    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DEGRADED = "degraded"
    SILENT = "silent"


def honour_cancellation() -> None:
    """Raise the CancelledError that a library swallowed: Python 3.11's `asyncio.wait_for` does when its result comes in the same moment."""
    if is_asked_to_end():
        raise asyncio.CancelledError


def is_asked_to_end() -> bool:
    """Whether this task is being cancelled. Else a CancelledError is a library's own: a request or a task of its own that it gave up."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def for_good(work: Coroutine[Any, Any, None], name: str) -> None:
    """`work` ends when it is cancelled, and never by itself: a TaskGroup would not mind, and a part would be missing from then on.

    Raises RuntimeError then."""
    try:
        await work
    except asyncio.CancelledError:
        if is_asked_to_end():
            raise
    raise RuntimeError(f"{name} has ended by itself")


UP = frozenset({LinkState.CONNECTED, LinkState.DEGRADED})

TRANSITIONS: dict[LinkState, frozenset[LinkState]] = {
    LinkState.DISCONNECTED: frozenset({LinkState.CONNECTING, LinkState.DISCONNECTED}),
    LinkState.CONNECTING: frozenset({LinkState.CONNECTED, LinkState.DEGRADED, LinkState.DISCONNECTED, LinkState.SILENT}),
    LinkState.CONNECTED: frozenset({LinkState.CONNECTED, LinkState.DEGRADED, LinkState.DISCONNECTED, LinkState.SILENT}),
    LinkState.DEGRADED: frozenset({LinkState.DEGRADED, LinkState.CONNECTED, LinkState.DISCONNECTED, LinkState.SILENT}),
    LinkState.SILENT: frozenset({LinkState.CONNECTING, LinkState.DISCONNECTED}),
}

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class LinkStatus:
    """One link as page, health topic and metrics show it. Times aware UTC; `next_try_at` while waiting to retry.

    `since`: when the link came up, or when the outage began (tries in between do not move it).
    `attempt`: failed tries in a row; `outages`: how often the link was lost since the start of the process.
    """

    name: str
    kind: str
    """device or uplink."""
    peer: str
    """Protocol and address for the technician: `OPC UA 192.168.10.21:4840`."""
    state: LinkState
    since: datetime
    last_good: datetime | None = None
    error: str = ""
    remedy: Text | None = None
    attempt: int = 0
    next_try_at: datetime | None = None
    outages: int = 0
    refused_tags: tuple[str, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Refused tag -> what the device answered."""
    concerns: Mapping[str, Concern] = field(default_factory=dict)
    """Kind -> what is wrong beside the link, as last heard from the driver."""
    certificates: Mapping[str, datetime] = field(default_factory=dict)
    """Which certificate of the link (`own`, `server`, `user`) -> its end, as last seen."""


@dataclass(frozen=True)
class Diagnosis:
    """Why a link failed: `error` for the expert (untranslated), `remedy` for the technician.

    `silent`: connected, but nothing came. `retry_after_s`: what the peer asked for; None: the back-off decides.
    """

    error: str
    remedy: Text | None = None
    silent: bool = False
    retry_after_s: float | None = None


class Backoff:
    """Exponential back-off with full jitter: the n-th delay is uniform in 0 .. min(cap, base * 2**n) seconds.

    Full jitter, so that a plant that comes back after a power cut is not asked by every gateway in the same instant.
    """

    def __init__(self, base_s: float = 0.2, cap_s: float = 5.0, *, draw: Callable[[], float] = random.random) -> None:
        self.base_s = base_s
        self.cap_s = cap_s
        self._draw = draw
        self._failures = 0

    def next_delay(self) -> float:
        """Seconds to wait before the next try."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return ceiling * self._draw()

    def reset(self) -> None:
        self._failures = 0


class Link:
    """The state of one link, told to `on_status` at each change, and (`run`) the loop around it.

    `on_status` gets every change but `good()`, which only moves `last_good`: it is called on each answer.
    """

    def __init__(
        self, name: str, *, kind: str, peer: str, clock: Clock, on_status: Callable[[LinkStatus], None], backoff: Backoff | None = None
    ) -> None:
        self._clock = clock
        self._on_status = on_status
        self._backoff = backoff or Backoff()
        self._status = LinkStatus(name=name, kind=kind, peer=peer, state=LinkState.DISCONNECTED, since=clock.now())
        self._last_good: datetime | None = None
        self._up_at: float | None = None
        self._outage_at: float | None = None
        self._log = structlog.get_logger("lineside.link").bind(link=name, peer=peer)

    @property
    def status(self) -> LinkStatus:
        return replace(self._status, last_good=self._last_good)

    @property
    def is_up(self) -> bool:
        return self._status.state in UP

    def connecting(self) -> None:
        self._step(LinkState.CONNECTING, next_try_at=None)

    def connected(self, refused: Mapping[str, str] = _NOTHING, concerns: Mapping[str, Concern] = _NOTHING) -> None:
        """The peer answered. With `refused` tags (-> why) the link is degraded: it works, but not for these."""
        was_up = self.is_up
        if was_up and refused == self._status.refusals and concerns == self._status.concerns:
            return
        now = self._clock.monotonic()
        tags = tuple(sorted(refused))
        if not was_up:
            self._up_at = now
            if self._outage_at is not None:
                self._log.info("link_back", outage_s=round(now - self._outage_at, 3), attempts=self._status.attempt)
            else:
                self._log.info("link_up")
            self._outage_at = None
        if refused and (not was_up or tags != self._status.refused_tags):
            self._log.warning("link_tags_refused", tags=dict(refused))
        self._step(
            LinkState.DEGRADED if refused else LinkState.CONNECTED,
            since=self._status.since if was_up else self._clock.now(),
            error="", remedy=None, attempt=0, next_try_at=None, refused_tags=tags, refusals=dict(refused),
            concerns=dict(concerns),
        )  # fmt: skip

    def certified(self, ends: Mapping[str, datetime]) -> None:
        """The certificates the link stands on; told with the next change."""
        if ends:
            self._status = replace(self._status, certificates=dict(ends))

    def good(self) -> None:
        """Something usable came over the link just now, or word that what came last still holds."""
        self._last_good = self._clock.now()

    def lost(self, diagnosis: Diagnosis) -> float:
        """The link is gone or a try failed. Returns the seconds to wait before the next try."""
        now = self._clock.monotonic()
        if self._up_at is not None and now - self._up_at >= self._backoff.cap_s:
            # Only a connection that lasted earns a fast first retry: one that dies at once must not be retried in a tight loop.
            self._backoff.reset()
        began = self._outage_at is None
        self._up_at = None
        if began:
            self._outage_at = now
            self._log.warning("link_lost", error=diagnosis.error, silent=diagnosis.silent)
        delay = self._backoff.next_delay() if diagnosis.retry_after_s is None else diagnosis.retry_after_s
        self._step(
            LinkState.SILENT if diagnosis.silent else LinkState.DISCONNECTED,
            since=self._clock.now() if began else self._status.since,
            error=diagnosis.error,
            remedy=diagnosis.remedy,
            attempt=self._status.attempt + 1,
            next_try_at=self._clock.now() + timedelta(seconds=delay),
            outages=self._status.outages + began,
            refused_tags=(),
            refusals={},
        )
        return delay

    def closed(self) -> None:
        """The gateway itself closed the link (shutdown): no outage."""
        self._up_at = None
        self._step(LinkState.DISCONNECTED, since=self._clock.now(), next_try_at=None)

    async def run(
        self, serve: Callable[[], Awaitable[None]], expected: tuple[type[Exception], ...], diagnose: Callable[[Exception], Diagnosis]
    ) -> None:
        """Call `serve` again and again until it returns. It connects, calls `connected()` and `good()`, and releases everything
        it opened before it ends; one of `expected` means the link is lost and is retried after the back-off.
        Anything else it raises is a bug and ends the loop.
        """
        try:
            while True:
                self.connecting()
                try:
                    await serve()
                    return
                except expected as error:
                    honour_cancellation()
                    delay = self.lost(diagnose(error))
                except asyncio.CancelledError:
                    if is_asked_to_end():
                        raise
                    delay = self.lost(Diagnosis(GAVE_UP))
                await self._clock.sleep(delay)
        except asyncio.CancelledError:
            self.closed()
            raise

    def _step(self, state: LinkState, **changes: object) -> None:
        if state not in TRANSITIONS[self._status.state]:
            raise ValueError(f"link {self._status.name}: no step from {self._status.state} to {state}")
        self._status = replace(self._status, state=state, **changes)  # type: ignore[arg-type]
        self._on_status(self.status)
