"""One OPC UA subscription and its monitored items, below asyncua's Subscription: one callback a publish response instead of a task
per notification, so that order is kept and keep-alives are visible."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.opcua_profiles import TOO_MUCH

# A keep-alive about every second shows within the watchdog's 2 s that a quiet device is alive.
KEEP_ALIVE_S = 1.0
# The server drops the subscription of a killed gateway after this long (at least three keep-alives).
LIFETIME_S = 15.0
# Values of one item kept between two publishes.
ITEM_QUEUE = 10

_SERVER = ua.NodeId(ua.Int32(ObjectIds.Server))
_GET_MONITORED_ITEMS = ua.NodeId(ua.Int32(ObjectIds.Server_GetMonitoredItems))


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

    def __init__(self, session: UaSession, interval_s: float, stamps: ua.TimestampsToReturn) -> None:
        self.publishes = Publishes()
        self.keep_alive_s = KEEP_ALIVE_S
        """As the server revised it: seconds after which it speaks, even when nothing changed."""
        self.notice_s = interval_s
        """As the server revised it: seconds after which a change is told at the latest."""
        self._session = session
        self._interval_s = interval_s
        self._stamps = stamps
        self._subscription = 0
        self._publishing_s = interval_s
        self._handle = 0
        self._tags: dict[int, str] = {}
        self._items: dict[str, int] = {}
        self._tells_items = True

    def __iter__(self) -> Iterator[str]:
        """The tags that have an item."""
        return iter(self._items)

    async def open(self) -> None:
        publishing_s = min(self._interval_s, KEEP_ALIVE_S)
        keep_alive, lifetime = _counts(publishing_s)
        revised = await self._session.create_subscription(
            ua.CreateSubscriptionParameters(
                RequestedPublishingInterval=publishing_s * 1000, RequestedMaxKeepAliveCount=keep_alive, RequestedLifetimeCount=lifetime,
                MaxNotificationsPerPublish=0, PublishingEnabled=True,
            ),
            self.publishes.push,
        )  # fmt: skip
        self._subscription = revised.SubscriptionId
        self._accept(revised)
        if _counts(self._publishing_s)[0] < revised.RevisedMaxKeepAliveCount:
            await self._hasten()

    async def _hasten(self) -> None:
        """The server publishes more rarely than asked (an S7 each 500 ms or 1 s, as configured): its keep-alives shall not come later."""
        keep_alive, lifetime = _counts(self._publishing_s)
        parameters = ua.ModifySubscriptionParameters(
            SubscriptionId=self._subscription, RequestedPublishingInterval=self._publishing_s * 1000,
            RequestedMaxKeepAliveCount=keep_alive, RequestedLifetimeCount=lifetime, MaxNotificationsPerPublish=0,
        )  # fmt: skip
        # A server that cannot do this keeps the subscription as it was.
        with contextlib.suppress(UaStatusCodeError):
            self._accept(await self._session.update_subscription(parameters))

    def _accept(self, revised: ua.CreateSubscriptionResult | ua.ModifySubscriptionResult) -> None:
        self._publishing_s = revised.RevisedPublishingInterval / 1000
        self.keep_alive_s = self._publishing_s * revised.RevisedMaxKeepAliveCount
        self.notice_s = self._publishing_s

    async def monitor(self, nodes: Mapping[str, ua.NodeId], per_call: int) -> dict[str, int]:
        """Create an item for each tag; one the tag already has is deleted first. Returns tag -> status code of those refused."""
        await self.forget([tag for tag in nodes if tag in self._items], per_call)
        refused: dict[str, int] = {}
        tags = list(nodes)
        while tags:
            chunk = tags[:per_call]
            requests = [self._request(tag, nodes[tag]) for tag in chunk]
            try:
                results = await self._session.create_monitored_items(
                    ua.CreateMonitoredItemsParameters(
                        SubscriptionId=self._subscription, TimestampsToReturn=self._stamps, ItemsToCreate=requests
                    )
                )
            except UaStatusCodeError as error:
                if error.code not in TOO_MUCH or len(chunk) == 1:
                    raise
                per_call = len(chunk) // 2
                for request in requests:
                    del self._tags[request.RequestedParameters.ClientHandle]
                continue
            del tags[:per_call]
            for tag, request, result in zip(chunk, requests, results, strict=True):
                if result.StatusCode.is_good():
                    self._items[tag] = result.MonitoredItemId
                    self.notice_s = max(self.notice_s, self._publishing_s + result.RevisedSamplingInterval / 1000)
                else:
                    del self._tags[request.RequestedParameters.ClientHandle]
                    refused[tag] = int(result.StatusCode.value)
        return refused

    async def forget(self, tags: list[str], per_call: int) -> None:
        """Delete the items of these tags. That the server may not know one any more is no error."""
        items = [self._items.pop(tag) for tag in tags]
        for start in range(0, len(items), per_call):
            await self._session.delete_monitored_items(
                ua.DeleteMonitoredItemsParameters(SubscriptionId=self._subscription, MonitoredItemIds=items[start : start + per_call])
            )

    async def lost(self) -> list[str]:
        """Tags whose item the server does not have any more, as it says itself (GetMonitoredItems, OPC 10000-5, 9.1).

        Empty for ever from a server that cannot say; then only a look at the values can tell.
        """
        if not self._tells_items:
            return []
        argument = ua.Variant(self._subscription, ua.VariantType.UInt32)
        (result,) = await self._session.call([ua.CallMethodRequest(_SERVER, _GET_MONITORED_ITEMS, [argument])])
        if result.StatusCode.value == StatusCodes.BadSubscriptionIdInvalid:
            raise UaStatusCodeError(result.StatusCode.value)  # type: ignore[no-untyped-call]
        if not result.StatusCode.is_good() or len(result.OutputArguments or ()) != 2:
            self._tells_items = False
            return []
        known = set(result.OutputArguments[0].Value or ())
        return [tag for tag, item in self._items.items() if item not in known]

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


def _counts(publishing_s: float) -> tuple[int, int]:
    """Publishing intervals until a keep-alive, and until the server drops the subscription."""
    keep_alive = max(1, round(KEEP_ALIVE_S / publishing_s))
    return keep_alive, max(3 * keep_alive, math.ceil(LIFETIME_S / publishing_s))
