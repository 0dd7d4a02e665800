"""The subscription stream on a manual clock, with a server of our own making."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import LinkError, Quality, Reading, SilentLinkError
from drivers.opcua_clock import DeviceClock
from drivers.opcua_items import MonitoredTags
from drivers.opcua_stream import LOOK_S, TagStream
from tests.manual_clock import ManualClock

AT = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


class Server:
    """The subscription services of a session; `keep_alive_s` is what it insists on, `value` what a read finds."""

    def __init__(self, keep_alive_s: float = 1.0) -> None:
        self.keep_alive_s = keep_alive_s
        self.publishes_each_s = 0.0
        self.refuses: int | None = None
        self.items: dict[str, int] = {}
        self.ids: dict[str, int] = {}
        self.tells_items = False
        self.value, self.source_s = 1, 0.0
        self.reads = 0
        self.push: Callable[[ua.PublishResult], None] = lambda result: None

    async def create_subscription(self, parameters: Any, callback: Callable[[ua.PublishResult], None]) -> Any:
        if self.refuses is not None:
            raise UaStatusCodeError(self.refuses)
        self.push = callback
        interval_ms = max(parameters.RequestedPublishingInterval, 1000 * self.publishes_each_s)
        # A server that insists on rare keep-alives does so whatever is asked.
        count = self.keep_alive_s * 1000 / interval_ms if self.keep_alive_s > 1 else parameters.RequestedMaxKeepAliveCount
        return SimpleNamespace(SubscriptionId=1, RevisedPublishingInterval=interval_ms, RevisedMaxKeepAliveCount=count)

    async def update_subscription(self, parameters: Any) -> Any:
        return await self.create_subscription(parameters, self.push)

    async def create_monitored_items(self, parameters: Any) -> list[Any]:
        for item in parameters.ItemsToCreate:
            tag = item.ItemToMonitor.NodeId.Identifier
            self.items[tag] = item.RequestedParameters.ClientHandle
            self.ids[tag] = 100 + len(self.ids)
        return [
            SimpleNamespace(
                StatusCode=ua.StatusCode(0), MonitoredItemId=self.ids[item.ItemToMonitor.NodeId.Identifier], RevisedSamplingInterval=100
            )
            for item in parameters.ItemsToCreate
        ]

    async def call(self, requests: Any) -> list[Any]:
        if not self.tells_items:
            return [SimpleNamespace(StatusCode=ua.StatusCode(StatusCodes.BadMethodInvalid), OutputArguments=[])]
        return [SimpleNamespace(StatusCode=ua.StatusCode(0), OutputArguments=[ua.Variant([*self.ids.values()]), ua.Variant()])]

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
        self.refused: dict[str, str] = {}
        self.stream = TagStream(
            self.clock, peer="OPC UA plc:4840", interval_s=0.5, silence_s=2.0, per_read=50, bands={}, read=server.read,
            convert=self.convert, refused=self.refused, device_clock=DeviceClock(0.5),
        )  # fmt: skip

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


async def test_a_server_that_insists_on_rare_keep_alives_is_given_three_of_them() -> None:
    rig = Rig(Server(keep_alive_s=10.0))
    await rig.begin()
    for _ in range(19):
        assert await rig.next(1.5) == [[]], "a quiet look is a sign of life"
    with pytest.raises(SilentLinkError):
        await rig.next(1.5)


async def test_a_server_given_up_after_a_silence_is_silent_not_closed() -> None:
    rig = Rig(Server())
    await rig.begin()
    await rig.clock.advance(1.6)
    rig.server.publish(status=StatusCodes.BadShutdown)
    with pytest.raises(SilentLinkError, match=r"sent nothing for 1\.6 s"):
        await rig.next(0)


@pytest.mark.parametrize(("publishes_each_s", "keep_alive_s"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (4.0, 4.0)])
async def test_keep_alives_come_each_second_also_from_a_server_that_publishes_rarely(publishes_each_s: float, keep_alive_s: float) -> None:
    server = Server()
    server.publishes_each_s = publishes_each_s
    items = MonitoredTags(server, 0.1, ua.TimestampsToReturn.Source)  # type: ignore[arg-type]
    await items.open()
    assert items.keep_alive_s == keep_alive_s


async def test_the_end_of_the_subscription_is_a_link_error() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.server.publish(status=StatusCodes.BadTimeout)
    with pytest.raises(LinkError, match="BadTimeout"):
        await rig.next(0)


async def test_what_a_look_finds_waits_for_its_notification() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.server.value = 12
    await rig.clock.advance(LOOK_S)
    rig.server.publish()
    assert await rig.next(0) == [[], []], "the look found 12, its notification may be on its way"
    rig.server.publish(("parts", 11, 60.5), ("parts", 12, 61.0))
    assert await rig.next(0) == [[11], [12]], "no value comes out of turn"
    await rig.clock.advance(LOOK_S)
    rig.server.publish()
    await rig.next(0)
    assert rig.stream.forgotten == set()


async def test_a_change_without_a_notification_means_that_the_item_is_gone() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.server.value = 12
    found = []
    for _ in range(3):
        await rig.clock.advance(LOOK_S)
        rig.server.publish()
        found += await rig.next(0)
    assert [values for values in found if values] == [[12]]
    assert rig.stream.forgotten == {"parts"}
    await rig.stream.monitor({"parts": ua.NodeId("parts", 2)}, 50)
    assert rig.stream.forgotten == set()
    assert rig.server.deleted == [100]
    rig.server.publish(("parts", 14, 99.0))
    assert await rig.next(0) == [[14]]


async def test_what_the_device_refuses_is_told_at_the_first_look() -> None:
    rig = Rig(Server())
    await rig.begin()
    rig.refused["parts"] = "BadNodeIdUnknown"
    rig.server.value = 0
    await rig.clock.advance(LOOK_S)
    rig.server.publish()
    assert await rig.next(0) == [[], [0]]
    assert rig.stream.forgotten == set(), "it is asked again as refused"


@pytest.mark.parametrize("tells_items", [True, False])
async def test_the_servers_own_list_of_items_is_compared_where_it_has_one(tells_items: bool) -> None:
    rig = Rig(Server())
    rig.server.tells_items = tells_items
    await rig.begin()
    await rig.stream.compare()
    assert rig.stream.forgotten == set()
    rig.server.ids["parts"] = 7
    await rig.stream.compare()
    assert rig.stream.forgotten == ({"parts"} if tells_items else set())


async def test_what_is_not_monitored_is_polled_in_requests_of_the_servers_size_between_publishes() -> None:
    rig = Rig(Server())
    await rig.stream.first([f"t{number}" for number in range(120)])
    await rig.stream.open(rig.server)  # type: ignore[arg-type]
    rig.stream.poll([f"t{number}" for number in range(120)])
    rig.server.value = 2
    found = []
    await rig.clock.advance(0.5)
    for _ in range(3):
        rig.server.publish()
        found.append([len(values) for values in await rig.next(0)])
    assert found == [[0, 50], [0, 50], [0, 20]]


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


class Counting(Server):
    """A counter that a PLC samples each 0.1 s and publishes each 0.2 s, as it happens on the clock; `dead` items tell nothing."""

    def __init__(self, clock: ManualClock, steps: Sequence[float], dies_at: float) -> None:
        super().__init__(keep_alive_s=0.2)
        self.clock = clock
        self.began = clock.monotonic()
        self.steps = sorted(steps)
        self.dies_at = dies_at
        self.revived = False
        self.queue: list[tuple[str, int, float]] = []
        self.sampled = 0

    def counted(self) -> int:
        """What the PLC shows just now."""
        return sum(step <= self.clock.monotonic() - self.began for step in self.steps)

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        self.value = self.counted()
        self.reads += 1
        return [Reading(tag, self.value, Quality.GOOD, None, AT) for tag in tags]

    async def create_monitored_items(self, parameters: Any) -> list[Any]:
        self.revived = bool(self.items)
        self.sampled = self.counted()
        self.queue = [("parts", self.sampled, 0.0)]
        return await super().create_monitored_items(parameters)

    def sample(self) -> None:
        alive = self.revived or self.clock.monotonic() - self.began < self.dies_at
        if alive and self.counted() != self.sampled:
            self.sampled = self.counted()
            self.queue.append(("parts", self.sampled, 0.0))

    def tell(self) -> None:
        told, self.queue = self.queue, []
        self.publish(*told)


@settings(deadline=None, max_examples=8)
@given(
    steps=st.lists(st.floats(min_value=0.05, max_value=20.0), max_size=60),
    dies_at=st.one_of(st.just(math.inf), st.floats(min_value=0.0, max_value=15.0)),
)
async def test_a_counter_never_goes_backwards_and_never_stays_behind(steps: list[float], dies_at: float) -> None:
    clock = ManualClock()
    rig = Rig(Counting(clock, steps, dies_at))
    rig.clock = clock
    rig.stream = TagStream(
        clock, peer="OPC UA plc:4840", interval_s=0.2, silence_s=2.0, per_read=50, bands={}, read=rig.server.read, convert=rig.convert,
        refused=rig.refused, device_clock=DeviceClock(0.2),
    )  # fmt: skip
    await rig.begin()
    server = rig.server
    assert isinstance(server, Counting)
    seen: list[int] = []
    behind_since: float | None = None
    for turn in range(250):
        await clock.advance(0.1)
        server.sample()
        if turn % 2:
            server.tell()
            for batch in await rig.stream.next(until=0.0):
                seen += [reading.value for reading in batch if isinstance(reading.value, int)]
        if rig.stream.forgotten:
            await rig.stream.monitor({"parts": ua.NodeId("parts", 2)}, 50)
        now = clock.monotonic()
        behind_since = None if (seen[-1] if seen else 0) == server.counted() else behind_since or now
        assert behind_since is None or now - behind_since <= 5.0
    assert seen == sorted(seen)
    assert (seen[-1] if seen else 0) == len(steps)
