"""An OPC UA subscription as a stream of batches: own bounded queue, keep-alives seen, refused nodes asked again.

It works below asyncua's Subscription: one callback a publish response instead of a task per notification, so that order is kept and
keep-alives are visible.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers import remedies
from drivers.base import Clock, Reading
from drivers.deadband import ChangeFilter
from drivers.opcua_values import status_name

# A keep-alive about every second shows within the watchdog's 2 s that a quiet device is alive.
KEEP_ALIVE_S = 1.0
# The server drops the subscription of a killed gateway after this long (at least three keep-alives).
LIFETIME_S = 15.0
# An unknown server takes 50 items a call (a small PLC gets slow above 200).
ITEMS_PER_CALL = 50
# Values of one item kept between two publishes.
ITEM_QUEUE = 10
# Responses waiting for the poller: minutes of them. A gateway that far behind rebuilds the link, whose first reading is complete.
MAX_WAITING = 1000

# Everything is read again this often, so that an item the server silently dropped shows.
REFRESH_S = 60.0
# A change seen by that look must be notified within this, or its item is gone.
SUSPECT_S = 5.0

_NO_SUBSCRIPTIONS = frozenset(
    {
        StatusCodes.BadServiceUnsupported, StatusCodes.BadTooManySubscriptions, StatusCodes.BadNotImplemented,
        StatusCodes.BadNotSupported,
    }
)  # fmt: skip


@dataclass
class Publishes:
    """Publish responses as they come in. `push` is asyncua's callback: it must neither block nor raise."""

    waiting: deque[ua.PublishResult] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def push(self, result: ua.PublishResult) -> None:
        self.waiting.append(result)
        self.arrived.set()

    def take(self) -> list[ua.PublishResult]:
        taken = list(self.waiting)
        self.waiting.clear()
        self.arrived.clear()
        return taken


class MonitoredTags:
    """One subscription and its monitored items. Every method that talks to the server may raise what asyncua raises."""

    def __init__(self, session: UaSession, interval_s: float) -> None:
        self.publishes = Publishes()
        self.keep_alive_s = KEEP_ALIVE_S
        """As the server revised it: seconds after which it speaks, even when nothing changed."""
        self._session = session
        self._interval_s = interval_s
        self._subscription = 0
        self._handle = 0
        self._tags: dict[int, str] = {}
        self._items: dict[str, int] = {}

    async def open(self) -> None:
        publishing_s = min(self._interval_s, KEEP_ALIVE_S)
        keep_alive = max(1, round(KEEP_ALIVE_S / publishing_s))
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=publishing_s * 1000,
            RequestedMaxKeepAliveCount=keep_alive,
            RequestedLifetimeCount=max(3 * keep_alive, math.ceil(LIFETIME_S / publishing_s)),
            MaxNotificationsPerPublish=0,
            PublishingEnabled=True,
        )
        revised = await self._session.create_subscription(parameters, self.publishes.push)
        self._subscription = revised.SubscriptionId
        self.keep_alive_s = revised.RevisedPublishingInterval / 1000 * revised.RevisedMaxKeepAliveCount

    async def monitor(self, nodes: Mapping[str, ua.NodeId], per_call: int) -> dict[str, int]:
        """Create an item for each tag; one the tag already has is deleted first. Returns tag -> status code of those refused."""
        await self._forget([tag for tag in nodes if tag in self._items])
        refused: dict[str, int] = {}
        tags = list(nodes)
        for start in range(0, len(tags), per_call):
            chunk = tags[start : start + per_call]
            requests = [self._request(tag, nodes[tag]) for tag in chunk]
            results = await self._session.create_monitored_items(
                ua.CreateMonitoredItemsParameters(
                    SubscriptionId=self._subscription, TimestampsToReturn=ua.TimestampsToReturn.Source, ItemsToCreate=requests
                )
            )
            for tag, request, result in zip(chunk, requests, results, strict=True):
                if result.StatusCode.is_good():
                    self._items[tag] = result.MonitoredItemId
                else:
                    del self._tags[request.RequestedParameters.ClientHandle]
                    refused[tag] = int(result.StatusCode.value)
        return refused

    async def _forget(self, tags: list[str]) -> None:
        if tags:
            items = [self._items.pop(tag) for tag in tags]
            await self._session.delete_monitored_items(
                ua.DeleteMonitoredItemsParameters(SubscriptionId=self._subscription, MonitoredItemIds=items)
            )

    def _request(self, tag: str, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        # A handle is never used twice: a late notification of an item that was replaced still names its tag.
        self._handle += 1
        self._tags[self._handle] = tag
        return ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(
                ClientHandle=self._handle, SamplingInterval=self._interval_s * 1000, QueueSize=ITEM_QUEUE, DiscardOldest=True
            ),
        )

    def changes(self, result: ua.PublishResult) -> Iterator[tuple[str, ua.DataValue] | ua.StatusCode]:
        """What a publish response says: values by tag, and a status change of the subscription itself; nothing for a keep-alive."""
        for notification in result.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                for item in notification.MonitoredItems:
                    tag = self._tags.get(item.ClientHandle)
                    if tag is not None:
                        yield tag, item.Value
            elif isinstance(notification, ua.StatusChangeNotification):
                yield notification.Status


class TagStream:
    """The batches of a subscription, and what keeps it honest: a watch on the age of data, a look at everything now and then."""

    def __init__(
        self,
        clock: Clock,
        *,
        peer: str,
        interval_s: float,
        silence_s: float,
        bands: Mapping[str, float],
        read: Callable[[Sequence[str]], Awaitable[Sequence[Reading]]],
        convert: Callable[[str, ua.DataValue, datetime], Reading],
    ) -> None:
        self.refusal = ""
        self.forgotten: set[str] = set()
        """Tags whose value moved on the server without a notification: their item is gone."""
        self._clock = clock
        self._peer = peer
        self._interval_s = interval_s
        self._silence_s = silence_s
        self._read = read
        self._convert = convert
        self._filter = ChangeFilter(bands)
        self._looked: dict[str, datetime] = {}
        self._tags: tuple[str, ...] = ()
        self._polled: list[str] = []
        self._suspects: dict[str, float] = {}
        self._items: MonitoredTags | None = None
        self._heard_at = self._alive_at = self._poll_at = self._refresh_at = 0.0
        self._looked_at = -math.inf

    async def first(self, tags: Sequence[str]) -> Sequence[Reading]:
        """Every tag's present value. Read before anything is monitored: notifications can then only be newer."""
        self._tags = tuple(tags)
        return self._news(await self._read(self._tags))

    async def open(self, session: UaSession) -> bool:
        """False: the server has no subscription for us, everything is polled (`refusal` says why)."""
        now = self._clock.monotonic()
        self._heard_at = self._alive_at = now
        self._poll_at, self._refresh_at = now + self._interval_s, now + REFRESH_S
        items = MonitoredTags(session, self._interval_s)
        try:
            await items.open()
        except UaStatusCodeError as error:
            if error.code not in _NO_SUBSCRIPTIONS:
                raise
            self.refusal = status_name(error.code)
            self._polled = list(self._tags)
            return False
        self._items = items
        return True

    async def monitor(self, nodes: Mapping[str, ua.NodeId], per_call: int) -> dict[str, int]:
        """Monitor these (again). Returns tag -> status code of those refused."""
        if self._items is None or not nodes:
            return {}
        self.forgotten.clear()
        return await self._items.monitor(nodes, per_call)

    def poll(self, tag: str) -> None:
        """Read this tag at the interval: the server does not monitor it."""
        if tag not in self._polled:
            self._polled.append(tag)

    async def next(self, until: float) -> list[Sequence[Reading]]:
        """The next batches; an empty one for a keep-alive; none when the monotonic clock reached `until`. Raises LinkError."""
        items = self._items
        if items is not None and not items.publishes.waiting:
            await self._wait(items, min(until, self._alive_at + self._silence_s, self._next_look()))
        elif items is None:
            await self._clock.sleep(max(0.0, self._poll_at - self._clock.monotonic()))
        now = self._clock.monotonic()
        batches: list[Sequence[Reading]] = []
        if items is not None:
            if len(items.publishes.waiting) > MAX_WAITING:
                raise remedies.silent(self._peer, now - self._heard_at)
            for result in items.publishes.take():
                self._heard_at = self._alive_at = now
                batches += self._of(items, result)
            if now - self._alive_at >= self._silence_s:
                await self._outlast_silence(items, now, batches)
        if self._polled and now >= self._poll_at:
            self._poll_at = max(self._poll_at + self._interval_s, now)
            batches.append(self._news(await self._read(self._polled)))
        if items is not None and now >= self._refresh_at:
            batches.append(await self._refresh(now))
        self.forgotten.update(tag for tag, since in self._suspects.items() if now - since > SUSPECT_S)
        return batches

    def _next_look(self) -> float:
        return min(self._refresh_at, self._poll_at) if self._polled else self._refresh_at

    async def _wait(self, items: MonitoredTags, until: float) -> None:
        try:
            async with self._clock.timeout(max(0.0, until - self._clock.monotonic())):
                await items.publishes.arrived.wait()
        except TimeoutError:
            return

    def _of(self, items: MonitoredTags, result: ua.PublishResult) -> list[Sequence[Reading]]:
        received_at = self._clock.now()
        readings: list[Reading] = []
        for change in items.changes(result):
            if isinstance(change, ua.StatusCode):
                if change.is_bad():
                    raise remedies.dropped(self._peer, f"the subscription ended: {status_name(int(change.value))}")
                continue
            tag, data = change
            self._suspects.pop(tag, None)
            reading = self._convert(tag, data, received_at)
            if not self._is_overtaken(reading, self._heard_at):
                readings.append(reading)
        batches = [news for batch in in_sequence(readings) if (news := self._news(batch))]
        return [*batches] or [[]]

    def _news(self, readings: Iterable[Reading]) -> list[Reading]:
        """Without repeats, and without what the deadband holds back."""
        return self._filter.changed(readings)

    def _is_overtaken(self, reading: Reading, now: float) -> bool:
        """Older than what a look at everything gave a moment ago: it was on its way meanwhile. Only then source times are compared:
        a PLC whose clock was set back speaks the truth."""
        looked = self._looked.get(reading.tag) if now - self._looked_at <= SUSPECT_S else None
        return looked is not None and reading.source_time is not None and reading.source_time < looked

    async def _outlast_silence(self, items: MonitoredTags, now: float, batches: list[Sequence[Reading]]) -> None:
        """A server may insist on rarer keep-alives than the watchdog waits for: then a read tells whether it is alive."""
        is_rare = 1.5 * items.keep_alive_s > self._silence_s
        if not is_rare or now - self._heard_at >= 3 * items.keep_alive_s:
            raise remedies.silent(self._peer, now - self._heard_at)
        batches.append(await self._refresh(now))

    async def _refresh(self, now: float) -> list[Reading]:
        self._refresh_at = now + REFRESH_S
        readings = await self._read(self._tags)
        self._looked_at = self._alive_at = now
        self._looked = {reading.tag: reading.source_time for reading in readings if reading.source_time is not None}
        news = self._news(readings)
        self._suspects.update((reading.tag, now) for reading in news if reading.tag not in self._polled)
        return news


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
