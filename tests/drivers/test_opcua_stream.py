"""The subscription stream on a manual clock, with a server of our own making."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.base import LinkError, Quality, Reading, SilentLinkError
from drivers.opcua_stream import REFRESH_S, TagStream
from tests.manual_clock import ManualClock

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


class Server:
    """The subscription services of a session; `keep_alive_s` is what it insists on, `value` what a read finds."""

    def __init__(self, keep_alive_s: float = 1.0) -> None:
        self.keep_alive_s = keep_alive_s
        self.refuses: int | None = None
        self.items: dict[str, int] = {}
        self.value, self.source_s = 1, 0.0
        self.reads = 0
        self.push: Callable[[ua.PublishResult], None] = lambda result: None

    async def create_subscription(self, parameters: Any, callback: Callable[[ua.PublishResult], None]) -> Any:
        if self.refuses is not None:
            raise UaStatusCodeError(self.refuses)
        self.push = callback
        return SimpleNamespace(SubscriptionId=1, RevisedPublishingInterval=self.keep_alive_s * 1000, RevisedMaxKeepAliveCount=1)

    async def create_monitored_items(self, parameters: Any) -> list[Any]:
        for item in parameters.ItemsToCreate:
            self.items[item.ItemToMonitor.NodeId.Identifier] = item.RequestedParameters.ClientHandle
        return [SimpleNamespace(StatusCode=ua.StatusCode(0), MonitoredItemId=1) for _ in parameters.ItemsToCreate]

    async def delete_monitored_items(self, parameters: Any) -> None:
        self.deleted = parameters.MonitoredItemIds

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        self.reads += 1
        return [Reading(tag, self.value, Quality.GOOD, AT + timedelta(seconds=self.source_s), AT) for tag in tags]

    def publish(self, *changes: tuple[str, int, float], status: int | None = None) -> None:
        notification = ua.DataChangeNotification(
            MonitoredItems=[
                ua.MonitoredItemNotification(
                    self.items[tag], ua.DataValue(ua.Variant(value), SourceTimestamp=AT + timedelta(seconds=source_s))
                )
                for tag, value, source_s in changes
            ]
        )
        said: list[Any] = [notification] if changes else []
        if status is not None:
            said.append(ua.StatusChangeNotification(Status=ua.StatusCode(status)))
        self.push(ua.PublishResult(1, NotificationMessage=ua.NotificationMessage(NotificationData=said)))


class Rig:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.clock = ManualClock()
        self.stream = TagStream(
            self.clock, peer="OPC UA plc:4840", interval_s=0.5, silence_s=2.0, bands={}, read=server.read, convert=self.convert
        )

    def convert(self, tag: str, data: ua.DataValue, received_at: datetime) -> Reading:
        assert data.Value is not None
        return Reading(tag, data.Value.Value, Quality.GOOD, data.SourceTimestamp, received_at)

    async def begin(self) -> None:
        await self.stream.first(["parts"])
        await self.stream.open(self.server)  # type: ignore[arg-type]
        await self.stream.monitor({"parts": ua.NodeId("parts", 2)}, 50)

    async def next(self, after_s: float) -> list[list[object]]:
        """The values of the next batches, when `after_s` pass while waiting."""
        task = asyncio.create_task(self.stream.next(until=float("inf")))
        await self.clock.advance(after_s)
        assert task.done()
        return [[reading.value for reading in batch] for batch in task.result()]


async def test_changes_and_keep_alives() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.server.publish(("parts", 2, 1.0))
    assert await rig.next(0) == [[2]]
    rig.server.publish()
    assert await rig.next(0) == [[]]


async def test_silence_is_a_dead_link() -> None:
    rig = Rig(Server())
    await rig.begin()
    with pytest.raises(SilentLinkError, match=r"sent nothing for 2\.0 s"):
        await rig.next(2.0)


async def test_a_server_that_insists_on_rare_keep_alives_is_asked_instead() -> None:
    rig = Rig(Server(keep_alive_s=10.0))
    await rig.begin()
    rig.server.value, rig.server.source_s = 2, 1.0
    assert await rig.next(2.0) == [[2]]
    for _ in range(13):
        assert await rig.next(2.0) == [[]], "a quiet answer is a sign of life"
    assert rig.server.reads == 15, "one look in each 2 s, no more"
    with pytest.raises(SilentLinkError):
        await rig.next(2.0)


async def test_the_end_of_the_subscription_is_a_link_error() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.server.publish(status=StatusCodes.BadTimeout)
    with pytest.raises(LinkError, match="BadTimeout"):
        await rig.next(0)


async def test_a_notification_overtaken_by_a_look_at_everything_is_dropped() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.server.value, rig.server.source_s = 12, 61.0
    await rig.clock.advance(REFRESH_S)
    rig.server.publish()
    assert await rig.next(0) == [[], [12]]
    rig.server.publish(("parts", 11, 60.5), ("parts", 12, 61.0))
    assert await rig.next(0) == [[]]
    assert rig.stream.forgotten == set()
    await rig.clock.advance(10)
    rig.server.publish(("parts", 13, 40.0))
    assert await rig.next(0) == [[13]], "a clock set back is believed"


async def test_a_change_without_a_notification_means_that_the_item_is_gone() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.server.value = 12
    await rig.clock.advance(REFRESH_S)
    rig.server.publish()
    await rig.next(0)
    await rig.clock.advance(6)
    rig.server.publish()
    await rig.next(0)
    assert rig.stream.forgotten == {"parts"}
    await rig.stream.monitor({"parts": ua.NodeId("parts", 2)}, 50)
    assert rig.server.deleted == [1]
    rig.server.publish(("parts", 14, 99.0))
    assert await rig.next(0) == [[14]]


@pytest.mark.parametrize("status", [StatusCodes.BadServiceUnsupported, StatusCodes.BadTooManySubscriptions])
async def test_without_a_subscription_everything_is_polled(status: int) -> None:
    server = Server()
    server.refuses = status
    rig = Rig(server)
    await rig.stream.first(["parts"])
    assert not await rig.stream.open(server)  # type: ignore[arg-type]
    server.value = 2
    assert await rig.next(0.5) == [[2]]
    assert await rig.next(0.5) == [[]]


async def test_other_refusals_are_errors() -> None:
    server = Server()
    server.refuses = StatusCodes.BadSessionIdInvalid
    rig = Rig(server)
    with pytest.raises(UaStatusCodeError):
        await rig.stream.open(server)  # type: ignore[arg-type]
