"""An OPC UA subscription as a stream of batches, and what keeps it honest: a watch on the age of data, a look at all values in turn."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers import remedies
from drivers.base import Clock, Quality, Reading
from drivers.deadband import ChangeFilter
from drivers.opcua_clock import DeviceClock
from drivers.opcua_items import MonitoredTags
from drivers.opcua_values import status_name

# Responses waiting for the poller: minutes of them. A gateway that far behind rebuilds the link, whose first reading is complete.
MAX_WAITING = 1000
# One request's worth of values is read again this often, all of them at least once a minute: an item that the server silently
# dropped (a program download does that) then shows within seconds on a small PLC.
LOOK_S = 1.5
ROUND_S = 60.0
# A change seen by a look must be notified by the next one, or half a second after the server's own intervals, or its item is gone.
SUSPECT_S = 1.4

_NO_SUBSCRIPTIONS = frozenset(
    {
        StatusCodes.BadServiceUnsupported, StatusCodes.BadTooManySubscriptions, StatusCodes.BadNotImplemented,
        StatusCodes.BadNotSupported,
    }
)  # fmt: skip


class TagStream:
    """`read` reads tags now, `convert` makes a reading of a notified value, `refused` names the tags the device does not serve.

    What a look finds is not handed on as long as a notification of it may be on its way: values never go backwards. Only where the
    next look still differs is the item taken for dead, its value handed on and its tag put into `forgotten`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        peer: str,
        interval_s: float,
        silence_s: float,
        per_read: int,
        bands: Mapping[str, float],
        read: Callable[[Sequence[str]], Awaitable[Sequence[Reading]]],
        convert: Callable[[str, ua.DataValue, datetime], Reading],
        refused: Collection[str],
        device_clock: DeviceClock,
    ) -> None:
        self.refusal = ""
        self.forgotten: set[str] = set()
        """Tags whose value moved on the server without a notification: their item is gone."""
        self.items: MonitoredTags | None = None
        self._clock = clock
        self._peer = peer
        self._interval_s = interval_s
        self._silence_s = silence_s
        self._per_read = per_read
        self._read = read
        self._convert = convert
        self._refused = refused
        self._device_clock = device_clock
        self._filter = ChangeFilter(bands)
        self._tags: tuple[str, ...] = ()
        self.polled: dict[str, None] = {}
        """Tags that are read at the interval, since the server does not monitor them."""
        self._suspects: dict[str, float] = {}
        self._fresh: set[str] = set()
        """Tags whose item has told its first value: what it tells from then on are changes, and their source times are of now."""
        self._heard_at = self._poll_at = self._look_at = 0.0
        self._poll_next = self._look_next = 0

    async def first(self, tags: Sequence[str]) -> Sequence[Reading]:
        """Every tag's present value. Read before anything is monitored: notifications can then only be newer."""
        self._tags = tuple(tags)
        return self._filter.changed(await self._read(self._tags))

    async def open(self, session: UaSession, stamps: ua.TimestampsToReturn = ua.TimestampsToReturn.Source) -> bool:
        """False: the server has no subscription for us, everything is polled (`refusal` says why)."""
        now = self._clock.monotonic()
        self._heard_at = now
        self._poll_at, self._look_at = now + self._interval_s, now + LOOK_S
        items = MonitoredTags(session, self._interval_s, stamps)
        try:
            await items.open()
        except UaStatusCodeError as error:
            if error.code not in _NO_SUBSCRIPTIONS:
                raise
            self.refusal = status_name(error.code)
            self.polled = dict.fromkeys(self._tags)
            return False
        self.items = items
        return True

    async def monitor(self, nodes: Mapping[str, ua.NodeId], per_call: int) -> dict[str, int]:
        """Monitor these (again). Returns tag -> status code of those refused."""
        if self.items is None or not nodes:
            return {}
        self.forgotten.difference_update(nodes)
        self._fresh.difference_update(nodes)
        refused = await self.items.monitor(nodes, per_call)
        for tag in nodes.keys() - refused.keys():
            self._suspects.pop(tag, None)
            self.polled.pop(tag, None)
        return refused

    async def compare(self) -> None:
        """Ask the server which items it has; those it does not know are forgotten."""
        if self.items is not None:
            self.forgotten.update(await self.items.lost())

    def poll(self, tags: Iterable[str]) -> None:
        """Read these tags at the interval: the server does not monitor them."""
        self.polled.update(dict.fromkeys(tags))

    async def next(self, until: float) -> list[Sequence[Reading]]:
        """The next batches; an empty one for a keep-alive; none when the monotonic clock reached `until`. Raises LinkError."""
        items = self.items
        if items is None or not items.publishes.waiting:
            await self._wait(min(until, self._next_due()))
        now = self._clock.monotonic()
        batches: list[Sequence[Reading]] = []
        if items is not None:
            if len(items.publishes.waiting) > MAX_WAITING:
                raise remedies.silent(self._peer, now - self._heard_at)
            for result in items.publishes.take():
                quiet_s, self._heard_at = now - self._heard_at, now
                batches += self._of(items, result, quiet_s)
            if now >= self._silent_at(items):
                raise remedies.silent(self._peer, now - self._heard_at)
        if self.polled and now >= self._poll_at:
            batches.append(await self._poll(now))
        if items is not None and now >= self._look_at and self._may_look(items, now):
            batches.append(await self._look(now))
        return batches

    def _next_due(self) -> float:
        """When something has to be done although nothing arrives."""
        due = self._poll_at if self.polled else math.inf
        if self.items is None:
            return due
        look_at = max(self._look_at, self._clock.monotonic())
        return min(due, self._silent_at(self.items), look_at if self._may_look(self.items, look_at) else math.inf)

    def _may_look(self, items: MonitoredTags, now: float) -> bool:
        """A link that has just gone silent is not asked: the request would only delay the verdict."""
        return self._is_rare(items) or now - self._heard_at < 1.2 * items.keep_alive_s

    def _is_rare(self, items: MonitoredTags) -> bool:
        """Some servers insist on rarer keep-alives than the watchdog waits for; a look tells meanwhile that they are alive."""
        return 1.5 * items.keep_alive_s > self._silence_s

    def _silent_at(self, items: MonitoredTags) -> float:
        return self._heard_at + (3 * items.keep_alive_s if self._is_rare(items) else self._silence_s)

    async def _wait(self, until: float) -> None:
        seconds = max(0.0, until - self._clock.monotonic())
        if self.items is None:
            await self._clock.sleep(seconds)
            return
        try:
            async with self._clock.timeout(seconds):
                await self.items.publishes.arrived.wait()
        except TimeoutError:
            return

    def _of(self, items: MonitoredTags, result: ua.PublishResult, quiet_s: float) -> list[Sequence[Reading]]:
        received_at = self._clock.now()
        readings: list[Reading] = []
        for change in items.changes(result):
            if isinstance(change, ua.StatusCode):
                if change.is_bad():
                    if quiet_s >= 1.5 * items.keep_alive_s:
                        # The library's own probe gave the server up before the watchdog did, and ends the subscription in its name.
                        raise remedies.silent(self._peer, quiet_s)
                    raise remedies.dropped(self._peer, f"the subscription ended: {status_name(int(change.value))}")
                continue
            readings.append(self._convert(*change, received_at))
        if not readings:
            return [[]]
        for reading in readings:
            self._suspects.pop(reading.tag, None)
        readings = self._dated(readings, received_at)
        return [news for batch in in_sequence(readings) if (news := self._filter.changed(batch))] or [[]]

    def _dated(self, readings: list[Reading], received_at: datetime) -> list[Reading]:
        """With source times on our clock. The first value of an item may be old; the later ones are changes of just now."""
        fresh = self._fresh
        self._device_clock.hear((r for r in readings if r.tag in fresh and r.quality is not Quality.BAD), received_at)
        fresh.update(reading.tag for reading in readings)
        return [self._device_clock.corrected(reading) for reading in readings]

    async def _poll(self, now: float) -> Sequence[Reading]:
        """One request's worth of what is not monitored; publishes are looked at between two of them."""
        tags = list(self.polled)
        part = tags[self._poll_next : self._poll_next + self._per_read]
        self._poll_next += len(part)
        if self._poll_next >= len(tags):
            self._poll_next = 0
            self._poll_at = max(self._poll_at + self._interval_s, now)
        return self._filter.changed(await self._read(part))

    async def _look(self, now: float) -> Sequence[Reading]:
        """Compare one request's worth of what is monitored with what was notified."""
        part = self._tags[self._look_next : self._look_next + self._per_read]
        self._look_next += len(part)
        if self._look_next >= len(self._tags):
            self._look_next = 0
        requests = max(1, math.ceil(len(self._tags) / self._per_read))
        self._look_at = now + min(LOOK_S, ROUND_S / requests)
        notice_s = self.items.notice_s if self.items is not None else 0.0
        news: list[Reading] = []
        for reading in await self._read([tag for tag in part if tag not in self.polled]):
            tag = reading.tag
            if not self._filter.differs(reading):
                self._suspects.pop(tag, None)
                continue
            since = self._suspects.setdefault(tag, now)
            if tag in self._refused or now - since >= max(SUSPECT_S, notice_s + 0.5):
                news.append(reading)
                if tag not in self._refused:
                    self.forgotten.add(tag)
        return self._filter.changed(news)


def in_sequence(readings: Iterable[Reading]) -> list[list[Reading]]:
    """Readings of one publish response as batches in which no tag stands twice, in the order things happened.

    Servers group a response by item: with source times the values of different tags are put back in order.
    """
    everything = list(readings)
    if len({reading.tag for reading in everything}) == len(everything):
        return [everything] if everything else []
    if _stamped_in_order(everything):
        everything.sort(key=lambda reading: reading.source_time or reading.received_at)
        batches: list[list[Reading]] = []
        seen: set[str] = set()
        for reading in everything:
            if not batches or reading.tag in seen:
                batches.append([])
                seen.clear()
            batches[-1].append(reading)
            seen.add(reading.tag)
        return batches
    # Without usable times: the n-th value of each tag goes into the n-th batch.
    count: dict[str, int] = {}
    by_rank: list[list[Reading]] = []
    for reading in everything:
        rank = count[reading.tag] = count.get(reading.tag, -1) + 1
        if rank == len(by_rank):
            by_rank.append([])
        by_rank[rank].append(reading)
    return by_rank


def _stamped_in_order(readings: Iterable[Reading]) -> bool:
    """Every reading has a source time, and no tag's times run backwards (the PLC's clock was not set meanwhile)."""
    last: dict[str, Reading] = {}
    for reading in readings:
        known = last.get(reading.tag)
        if reading.source_time is None or (known is not None and known.source_time is not None and reading.source_time < known.source_time):
            return False
        last[reading.tag] = reading
    return True
