"""The driver seam: batches of readings from one device.

A driver is built from its frozen settings and a clock, does nothing until `connect()`, and is thrown away after
`close()` or after any `LinkError`: the supervisor builds a fresh one for the next try.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

Value = bool | int | float | str | None


def silence_limit(interval_s: float) -> float:
    """Seconds after which a connected link without an answer counts as dead: three intervals, at least 2 s, at most 5 s."""
    return min(5.0, max(3 * interval_s, 2.0))


class Quality(StrEnum):
    """How far a value can be trusted (OPC UA status severity)."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Reading(NamedTuple):
    """One value of one tag. `value` is None exactly when `quality` is BAD; times are aware UTC.

    A named tuple and no frozen dataclass like the other nouns: there is one for every value of every poll, and a frozen dataclass costs
    three times as much to make.

    `source_time` is the device's own time of the value, a steady error of its clock taken out; None where the protocol has none (Modbus)
    or where it cannot be true.
    `detail` names what was wrong with a bad or uncertain value, in the protocol's own words.
    """

    tag: str
    value: Value
    quality: Quality
    source_time: datetime | None
    received_at: datetime
    detail: str = ""


class DriverError(Exception):
    """Base of what a driver may raise."""


class LinkError(DriverError):
    """The link is gone or cannot be trusted any more; expected, retried with a fresh driver.

    `remedy_fr` and `remedy_en` say in one sentence what a technician should check. `retry_after_s`: seconds after which a driver wants
    to be tried again; None: the back-off decides.
    """

    def __init__(self, message: str, *, remedy_fr: str = "", remedy_en: str = "") -> None:
        super().__init__(message)
        self.remedy_fr = remedy_fr
        self.remedy_en = remedy_en
        self.retry_after_s: float | None = None


class SilentLinkError(LinkError):
    """Connected, but no answer came in time: the other side hangs, or the network swallows everything."""


class ReplyError(LinkError):
    """A reply that does not fit its request; nothing of it is used, and the link is built anew."""


class PeerRefusedError(LinkError):
    """This side refuses the peer: its certificate, its security, or how it would take the user's password. Nothing was told to it.

    `reason`: a short name for counters, an OPC UA status where there is one.
    """

    def __init__(self, message: str, *, reason: str, remedy_fr: str, remedy_en: str) -> None:
        super().__init__(message, remedy_fr=remedy_fr, remedy_en=remedy_en)
        self.reason = reason


class TagError(DriverError):
    """One tag cannot be written (unknown, not writable, out of range); the link is fine."""


class Clock(Protocol):
    """What a driver may know of time; `gateway.clock` implements it, tests hand in a manual one."""

    def now(self) -> datetime:
        """Aware UTC wall clock."""

    def monotonic(self) -> float:
        """Seconds, never stepped."""

    async def sleep(self, seconds: float) -> None:
        """Wait on the monotonic clock."""

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Like `asyncio.timeout`: raises TimeoutError inside the block after `seconds`."""


@runtime_checkable
class Driver(Protocol):
    """One link to one device. The poller calls connect once, then read in turn, and close at the end.

    Every method ends within the device's `timeout` (connect within a few of them) or raises LinkError.
    """

    async def connect(self) -> None:
        """Open the link. Raises LinkError; never leaves a socket or a task behind when it does."""

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        """One reading for each of `tags`, same order. A tag the device refuses is BAD with a detail,
        it never fails the others. Raises LinkError when the link is gone or a reply cannot be trusted."""

    async def write(self, tag: str, value: Value) -> None:
        """Write once, never repeat. Raises TagError or LinkError."""

    async def close(self) -> None:
        """Release everything; never raises, safe to call twice and after a failed connect."""


@runtime_checkable
class Subscribing(Protocol):
    """Optional capability: the device pushes changes by itself."""

    def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        """Batches as they arrive, the first with every tag's present value. An empty batch is a keep-alive:
        the device spoke and nothing changed. Raises LinkError when the link is gone or silent; ends (returns)
        only where the source is exhausted (a recording)."""


@runtime_checkable
class Refusing(Protocol):
    """Optional capability: the driver knows which tags the device refuses by itself, while the link is fine."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Tag -> what the device answered: an unknown node, a register that is not there. They are BAD and asked again now and then."""


class Concern(NamedTuple):
    """Something a technician should put right although the link works. `severity`: info, warning, critical.

    `detail` is for the expert, untranslated.
    """

    severity: str
    text_fr: str
    text_en: str
    remedy_fr: str
    remedy_en: str
    detail: str = ""


@runtime_checkable
class Watching(Protocol):
    """Optional capability: the driver notices what is wrong beside the link itself. The poller asks after each batch."""

    @property
    def concerns(self) -> Mapping[str, Concern]:
        """Kind (`clock`, `overflow`) -> what stands now; each is one alert of the device until it is gone from here."""

    @property
    def incidents(self) -> Mapping[str, int]:
        """Kind -> how often it happened since the driver was made; counted in `/metrics`."""


@runtime_checkable
class Paced(Protocol):
    """Optional capability: a `read` may be many requests, each bounded by itself."""

    def read_limit_s(self, tags: Sequence[str]) -> float:
        """Seconds a `read` of these tags may take while every request is still answered in time."""


@runtime_checkable
class Answering(Protocol):
    """Optional capability: a `read` may be long, and the driver knows how it moves on."""

    @property
    def answered_at(self) -> float:
        """Monotonic time of the last answer on the device's line, also within a `read`: a poll of minutes over a slow line, or a turn
        that many dead neighbours delay, is no stall."""


class Found(NamedTuple):
    """One value that a device has, as a person looks for it.

    `path`: what the device calls it. `tag`: the keys that a tag needs to read it, empty where it cannot be a tag; `remark` says why then.
    `access`: r, w, rw or empty. `value`: the present one as text.
    """

    path: str
    tag: Mapping[str, str]
    data_type: str
    access: str
    value: str
    remark: str = ""


class Raw(NamedTuple):
    """One reading and, in the protocol's own words, what it was made of."""

    reading: Reading
    raw: str


@runtime_checkable
class Explorer(Driver, Protocol):
    """A driver that also looks around, for commissioning: `connect` first, `close` at the end, nothing is ever written.

    `told` gets a few words about the progress, as often as there are any.
    """

    def browse(self, path: str, told: Callable[[str], None]) -> AsyncIterator[Sequence[Found]]:
        """What there is below `path` (empty: everything), in batches. Raises LinkError, and TagError for a path that is not there."""

    async def inspect(self, tags: Sequence[str]) -> Sequence[Raw]:
        """Like `read`, with the raw reply."""


@runtime_checkable
class Certified(Protocol):
    """Optional capability: the link stands on certificates, and they end."""

    @property
    def certificates(self) -> Mapping[str, datetime]:
        """Which (`own`, `server`, `user`) -> the end of its validity, aware UTC; empty before the peer is believed."""
