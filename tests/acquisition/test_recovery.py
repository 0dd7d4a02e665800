"""Poller and driver together against real servers that die well: restart, black hole, half-open link."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from drivers.base import Quality, Reading
from gateway.acquisition.poller import Poller
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.supervise import LinkState, LinkStatus
from simulators.faults import Fault, FaultProxy, Kind
from simulators.loopback import HOST
from tests.drivers.devices import SLACK, TAGS, Device, ModbusDevice, OpcUaDevice, SubscribedDevice, within

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


class Watched:
    """A poller on a device behind a fault proxy."""

    def __init__(self, device: Device, proxy: FaultProxy) -> None:
        self.device = device
        self.proxy = proxy
        self.batches: list[Sequence[Reading]] = []
        self.states: list[LinkState] = []
        clock = SystemClock()
        settings = device.settings(proxy.port)
        self.poller = Poller(
            "plc", lambda: device.driver(proxy.port), TAGS, settings.interval, clock, Metrics(), self.take, self.linked, settings.peer
        )

    def take(self, name: str, readings: Sequence[Reading], pushed: bool) -> None:
        self.batches.append(readings)

    def linked(self, status: LinkStatus) -> None:
        self.states.append(status.state)

    @property
    def parts(self) -> Reading | None:
        return next((reading for batch in reversed(self.batches) for reading in batch if reading.tag == "parts"), None)

    def counts(self, value: int) -> bool:
        return self.parts is not None and self.parts.value == value

    def losses(self) -> int:
        return sum(1 for batch in self.batches if batch and all(reading.detail == "link lost" for reading in batch))


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=(ModbusDevice, OpcUaDevice, SubscribedDevice), ids=lambda kind: kind.__name__
)
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Device]:
    device: Device = request.param(tmp_path_factory.mktemp("device"))
    await device.start()
    yield device
    await device.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def watched(running: Device) -> AsyncIterator[Watched]:
    await running.reset()
    proxy = FaultProxy(HOST, running.port)
    await proxy.start()
    found = Watched(running, proxy)
    task = asyncio.create_task(found.poller.run())
    await within(3, lambda: found.counts(70_000))
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await proxy.stop()


async def test_a_restarted_server_is_seen_again_within_two_seconds(watched: Watched) -> None:
    await watched.device.stop()
    await within(3, lambda: watched.losses() == 1)
    assert watched.parts is not None
    assert watched.parts.quality is Quality.BAD
    watched.device.values["parts"] = 70_100
    await asyncio.sleep(1.5)
    await watched.device.start()
    await within(2.5, lambda: watched.counts(70_100))
    assert watched.losses() == 1
    assert watched.poller.status.outages == 1


async def test_a_black_hole_of_six_seconds_is_survived(watched: Watched) -> None:
    await watched.proxy.set(Fault(kind=Kind.BLACKHOLE))
    await within(2.8, lambda: watched.losses() == 1)
    await within(1, lambda: LinkState.SILENT in watched.states)
    await asyncio.sleep(3.5)
    await watched.device.show("parts", 70_001)
    await watched.proxy.set(Fault(kind=Kind.PASS))
    await within(4, lambda: watched.counts(70_001))
    assert watched.losses() == 1
    assert watched.poller.status.state in (LinkState.CONNECTED, LinkState.DEGRADED)


@pytest.mark.parametrize("kind", [Kind.HALF_OPEN, Kind.RESET, Kind.REFUSE, Kind.TRUNCATE])
async def test_other_ways_a_link_dies(watched: Watched, kind: Kind) -> None:
    await watched.proxy.set(Fault(kind=kind))
    await within(4, lambda: watched.losses() >= 1)
    await watched.device.show("parts", 70_001)
    await watched.proxy.set(Fault(kind=Kind.PASS))
    await within(5, lambda: watched.counts(70_001))
    values = {reading.value for batch in watched.batches for reading in batch if reading.tag == "parts"}
    assert values <= {70_000, 70_001, None}


async def test_the_tag_that_is_not_there_degrades_the_link(watched: Watched) -> None:
    await within(2, lambda: watched.poller.status.state is LinkState.DEGRADED)
    assert watched.poller.status.refused_tags == ("absent",)


async def test_a_device_that_hangs_delays_no_other(tmp_path: Path) -> None:
    device = ModbusDevice(tmp_path)
    await device.start()
    proxy = FaultProxy(HOST, device.port)
    await proxy.start()
    await proxy.set(Fault(kind=Kind.BLACKHOLE))
    stuck, healthy = Watched(device, proxy), Watched(device, proxy)
    times: list[float] = []
    clock = SystemClock()
    poller = Poller(
        "healthy", device.driver, TAGS, 0.1, clock, Metrics(), lambda *_: times.append(clock.monotonic()), healthy.linked, "Modbus"
    )
    tasks = [asyncio.create_task(stuck.poller.run()), asyncio.create_task(poller.run())]
    await asyncio.sleep(2.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) >= 10
    assert max(gaps) < 1.0
    assert clock.monotonic() - stuck.poller.last_progress < 3 * SLACK
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await proxy.stop()
    await device.stop()
