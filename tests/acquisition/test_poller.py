"""The poller on a manual clock with a driver of our own making."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import ClassVar

import pytest

from drivers.base import Concern, Driver, LinkError, PeerRefusedError, Quality, Reading, Value
from drivers.recording import RecordingError
from gateway.acquisition.poller import Poller
from gateway.metrics import Metrics
from gateway.supervise import LinkState
from tests.manual_clock import ManualClock

TAGS = ("parts", "state")


class Plc:
    """What a test does to the device: `down`, `hangs`, `takes_s` (answer time), `refused`, `all_bad` (only bad values)."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.down = self.hangs = self.all_bad = False
        self.takes_s = 0.0
        self.parts = 0
        self.opened = self.closed = 0
        self.read_at: list[float] = []
        self.refused: dict[str, str] = {}


class FakeDriver:
    def __init__(self, plc: Plc) -> None:
        self.plc = plc
        self.refused = plc.refused

    async def connect(self) -> None:
        self.plc.opened += 1
        if self.plc.down:
            raise LinkError("refused", remedy_fr="Vérifier le câble.", remedy_en="Check the cable.")

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        plc = self.plc
        plc.read_at.append(plc.clock.monotonic())
        if plc.down:
            raise LinkError("reset")
        if plc.hangs:
            await asyncio.Event().wait()
        if plc.takes_s:
            await plc.clock.sleep(plc.takes_s)
        return [Reading(tag, plc.parts, Quality.GOOD, None, plc.clock.now()) for tag in tags]

    async def write(self, tag: str, value: Value) -> None:
        raise AssertionError("the poller never writes")

    async def close(self) -> None:
        self.plc.closed += 1


class Rig:
    def __init__(self, make: Callable[[Plc], Driver] = FakeDriver, interval_s: float = 1.0) -> None:
        self.clock = ManualClock()
        self.plc = Plc(self.clock)
        self.batches: list[tuple[list[Reading], bool]] = []
        self.metrics = Metrics()
        self.poller = Poller(
            "packer",
            lambda: make(self.plc),
            TAGS,
            interval_s,
            self.clock,
            self.metrics,
            self.take,
            lambda status: None,
            "Modbus packer:502",
        )

    def take(self, device: str, readings: Sequence[Reading], pushed: bool) -> None:
        assert device == "packer"
        self.batches.append((list(readings), pushed))

    async def __aenter__(self) -> Rig:
        self.task = asyncio.create_task(self.poller.run())
        await self.clock.advance(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def is_loss(batch: tuple[list[Reading], bool]) -> bool:
    return all(reading.quality is Quality.BAD and reading.detail == "link lost" for reading in batch[0])


async def test_the_cadence_is_fixed_whatever_an_answer_takes() -> None:
    async with Rig() as rig:
        rig.plc.takes_s = 0.3
        start = rig.clock.monotonic()
        await rig.clock.advance(4.5)
        assert [round(at - start, 6) for at in rig.plc.read_at] == [0, 1, 2, 3, 4]
        assert not any(pushed for _, pushed in rig.batches)


async def test_polls_that_were_missed_are_left_out() -> None:
    async with Rig() as rig:
        start = rig.clock.monotonic()
        await rig.clock.advance(1)
        rig.plc.takes_s = 1.4
        await rig.clock.advance(5.5)
        assert [round(at - start, 6) for at in rig.plc.read_at] == [0, 1, 2, 4, 6]


async def test_the_loss_of_the_link_is_told_once_and_its_return_brings_everything() -> None:
    async with Rig() as rig:
        assert rig.poller.status.state is LinkState.CONNECTED
        assert rig.poller.driver is not None
        rig.plc.down = True
        await rig.clock.advance(20)
        assert [is_loss(batch) for batch in rig.batches] == [False, True]
        assert [reading.tag for reading in rig.batches[1][0]] == list(TAGS)
        assert rig.poller.status.state in (LinkState.DISCONNECTED, LinkState.CONNECTING)
        assert rig.poller.status.remedy is not None
        assert rig.poller.status.remedy.fr == "Vérifier le câble."
        assert rig.poller.driver is None
        assert rig.metric("lineside_link_up", link="packer", kind="device") == 0
        rig.plc.down = False
        rig.plc.parts = 7
        await rig.clock.advance(2.1)
        assert [reading.value for reading in rig.batches[2][0]] == [7, 7]
        assert rig.poller.status.state is LinkState.CONNECTED
        assert rig.metric("lineside_link_reconnects_total", link="packer") == 1
        assert rig.metric("lineside_link_up", link="packer", kind="device") == 1
    assert rig.plc.closed == rig.plc.opened, "every connection that was tried is released"


async def test_a_device_that_is_away_at_the_start_is_told_as_lost_once() -> None:
    rig = Rig()
    rig.plc.down = True
    async with rig:
        await rig.clock.advance(10)
        assert [is_loss(batch) for batch in rig.batches] == [True]


@pytest.mark.parametrize(("interval_s", "limit_s"), [(0.1, 2.0), (1.0, 3.0), (60.0, 5.0)])
async def test_a_read_that_hangs_is_ended_by_the_age_of_data(interval_s: float, limit_s: float) -> None:
    rig = Rig(interval_s=interval_s)
    rig.plc.hangs = True
    async with rig:
        await rig.clock.advance(limit_s - 0.01)
        assert rig.batches == []
        await rig.clock.advance(0.02)
        assert is_loss(rig.batches[0])
        rig.plc.hangs = False
        # The first pause is drawn and may be next to nothing: then a second try hangs already.
        await rig.clock.advance(limit_s + 3)
        assert rig.poller.status.state is LinkState.CONNECTED
        assert not is_loss(rig.batches[1])


async def test_a_link_that_hangs_is_silent_not_disconnected() -> None:
    rig = Rig(interval_s=0.1)
    states = []
    rig.poller = Poller(
        "packer", lambda: FakeDriver(rig.plc), TAGS, 0.1, rig.clock, Metrics(), rig.take, lambda s: states.append(s.state), "x"
    )
    rig.plc.hangs = True
    async with rig:
        await rig.clock.advance(2.01)
    assert states[:2] == [LinkState.CONNECTING, LinkState.SILENT]


async def test_a_tag_the_device_refuses_degrades_the_link_and_is_named() -> None:
    async with Rig() as rig:
        rig.plc.refused["state"] = "IllegalDataAddress (2)"
        await rig.clock.advance(1)
        assert rig.poller.status.state is LinkState.DEGRADED
        assert rig.poller.status.refused_tags == ("state",)
        rig.plc.refused.clear()
        await rig.clock.advance(1)
        assert rig.poller.status.state is LinkState.CONNECTED


class Noticing(FakeDriver):
    incidents: dict[str, int] = {}
    concerns: dict[str, Concern] = {}


async def test_what_a_driver_notices_is_counted_and_stands_in_the_links_status() -> None:
    async with Rig(Noticing) as rig:
        Noticing.incidents = {"overflow": 2}
        Noticing.concerns = {"overflow": Concern("warning", "fr", "en", "à faire", "to do")}
        await rig.clock.advance(1)
        Noticing.incidents = {"overflow": 5}
        await rig.clock.advance(1)
        assert rig.metric("lineside_device_incidents_total", device="packer", kind="overflow") == 5
        assert set(rig.poller.status.concerns) == {"overflow"}
        assert rig.poller.status.state is LinkState.CONNECTED, "the link itself is fine"


class Resting(FakeDriver):
    """Its line asks for patience."""

    async def connect(self) -> None:
        self.plc.opened += 1
        if self.plc.down:
            error = LinkError("unit 3 is dead")
            error.retry_after_s = 40.0
            raise error


async def test_a_driver_says_when_it_wants_to_be_tried_again() -> None:
    async with Rig(Resting) as rig:
        rig.plc.down = True
        await rig.clock.advance(5)
        opened = rig.plc.opened
        assert opened <= 3, "the lost link and one try"
        await rig.clock.advance(30)
        assert rig.plc.opened == opened
        assert rig.clock.monotonic() - rig.poller.last_progress == 0, "a rest is no stall"
        await rig.clock.advance(10)
        assert rig.plc.opened == opened + 1


class Slow(FakeDriver):
    """Every request of its long read is answered."""

    @property
    def answered_at(self) -> float:
        return self.plc.clock.monotonic()

    def read_limit_s(self, tags: Sequence[str]) -> float:
        return 1000.0


async def test_a_long_read_whose_requests_are_answered_is_progress() -> None:
    async with Rig(Slow) as rig:
        rig.plc.takes_s = 300
        await rig.clock.advance(100)
        assert len(rig.plc.read_at) == 2
        assert rig.clock.monotonic() - rig.poller.last_progress < 1


class AllBad(FakeDriver):
    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        good = await super().read(tags)
        return [reading._replace(value=None, quality=Quality.BAD, detail="busy") for reading in good] if self.plc.all_bad else good


async def test_a_device_whose_every_tag_is_bad_is_connected_but_gives_nothing_good() -> None:
    async with Rig(AllBad) as rig:
        await rig.clock.advance(1)
        rig.plc.all_bad = True
        last = rig.poller.status.last_good
        await rig.clock.advance(5)
        assert rig.poller.status.state is LinkState.CONNECTED
        assert rig.poller.status.last_good == last
        rig.plc.all_bad = False
        await rig.clock.advance(1)
        assert rig.poller.status.last_good == rig.clock.now()


async def test_a_bug_behind_on_readings_surfaces() -> None:
    rig = Rig()

    def broken(device: str, readings: Sequence[Reading], pushed: bool) -> None:
        raise ZeroDivisionError

    poller = Poller("packer", lambda: FakeDriver(rig.plc), TAGS, 1.0, rig.clock, Metrics(), broken, lambda status: None, "x")
    with pytest.raises(ZeroDivisionError):
        await poller.run()
    assert rig.plc.closed == 1


async def test_cancelling_closes_the_driver_and_tells_no_loss() -> None:
    async with Rig() as rig:
        await rig.clock.advance(1)
    assert rig.plc.closed == 1
    assert not any(is_loss(batch) for batch in rig.batches)
    assert rig.poller.status.state is LinkState.DISCONNECTED
    assert rig.poller.status.outages == 0


class Pushing(FakeDriver):
    """Yields `parts` each 0.5 s, keep-alives in between; goes silent when told to hang; ends after `stop_after` batches."""

    stop_after = 10**6

    async def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        yield await self.read(tags)
        for count in range(self.stop_after):
            await self.plc.clock.sleep(0.5)
            if self.plc.hangs:
                await asyncio.Event().wait()
            yield [Reading("parts", count, Quality.GOOD, None, self.plc.clock.now())] if count % 2 == 0 else []


async def test_a_device_that_pushes_is_listened_to() -> None:
    async with Rig(Pushing) as rig:
        await rig.clock.advance(2.0)
        assert [pushed for _, pushed in rig.batches] == [False, True, True]
        assert [reading.tag for reading in rig.batches[0][0]] == list(TAGS)
        assert rig.metric("lineside_polls_total", device="packer") == 5, "keep-alives are seen too"
        assert rig.metric("lineside_readings_total", device="packer", quality="good") == 4


class BadPushed(FakeDriver):
    """One bad tag of two a second, then the other too; keep-alives in between."""

    async def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        clock = self.plc.clock
        yield await self.read(tags)
        await clock.sleep(1)
        yield [Reading("state", None, Quality.BAD, None, clock.now(), "BadNotConnected")]
        await clock.sleep(1)
        yield []
        await clock.sleep(1)
        yield [Reading(tag, None, Quality.BAD, None, clock.now(), "BadNotConnected") for tag in tags if tag != "state"]
        while True:
            await clock.sleep(1)
            yield []


async def test_keep_alives_keep_what_is_good_fresh_and_nothing_else() -> None:
    async with Rig(BadPushed) as rig:
        await rig.clock.advance(2)
        assert rig.poller.status.last_good == rig.clock.now(), "one tag is bad, the other still holds"
        last = rig.clock.now()
        await rig.clock.advance(4)
        assert rig.poller.status.last_good == last
        assert rig.poller.status.state is LinkState.CONNECTED


async def test_a_stream_that_goes_silent_is_rebuilt() -> None:
    async with Rig(Pushing) as rig:
        rig.plc.hangs = True
        await rig.clock.advance(5)
        assert is_loss(rig.batches[-1])
        rig.plc.hangs = False
        await rig.clock.advance(6)
        assert not is_loss(rig.batches[-1])
        assert rig.poller.status.state is LinkState.CONNECTED


class Asked(FakeDriver):
    """Has nothing to say between two of its own looks, one an interval: an MTConnect agent, an OPC UA server without subscriptions."""

    async def subscribe(self, tags: Sequence[str]) -> AsyncIterator[Sequence[Reading]]:
        while True:
            yield await self.read(tags)
            await self.plc.clock.sleep(60)


async def test_a_device_that_is_asked_rarely_is_not_silent_between_two_looks() -> None:
    async with Rig(Asked, interval_s=60) as rig:
        await rig.clock.advance(300)
        assert rig.plc.opened == 1
        assert not any(is_loss(batch) for batch in rig.batches)


class Recording(Pushing):
    stop_after = 3


async def test_a_stream_that_ends_is_not_started_again_and_the_task_still_shows_life() -> None:
    async with Rig(Recording) as rig:
        await rig.clock.advance(60)
        assert rig.plc.opened == 1
        assert rig.poller.status.state is LinkState.CONNECTED
        assert rig.clock.monotonic() - rig.poller.last_progress <= 1.0


class Unreadable(FakeDriver):
    async def connect(self) -> None:
        raise RecordingError(__file__, 7, "at", "it is no time", "write ISO 8601")  # type: ignore[arg-type]


async def test_a_wrong_recording_ends_the_run() -> None:
    rig = Rig(Unreadable)
    with pytest.raises(RecordingError, match=":7, column at"):
        await rig.poller.run()
    assert rig.plc.closed == 1


async def test_batches_wait_until_the_journal_has_drained() -> None:
    rig = Rig()
    gate = asyncio.Event()

    async def drained() -> None:
        await gate.wait()

    rig.poller = Poller(
        "packer", lambda: Pushing(rig.plc), TAGS, 1.0, rig.clock, Metrics(), rig.take, lambda status: None, "x", drained=drained
    )
    async with rig:
        await rig.clock.advance(5)
        assert len(rig.batches) == 1
        gate.set()
        await rig.clock.advance(5)
        assert len(rig.batches) > 1


class CertifiedDriver(FakeDriver):
    """Stands on a certificate, and refuses its server once the device is `down`."""

    certificates: ClassVar[dict[str, datetime]] = {"server": datetime(2027, 1, 1, tzinfo=UTC)}

    async def connect(self) -> None:
        if self.plc.down:
            raise PeerRefusedError("no", reason="BadCertificateUntrusted", remedy_fr="Non.", remedy_en="No.")


async def test_certificates_are_told_and_refused_servers_counted() -> None:
    rig = Rig(CertifiedDriver)
    async with rig:
        await rig.clock.advance(1)
        assert rig.poller.status.certificates == CertifiedDriver.certificates
    refused = Rig(CertifiedDriver)
    refused.plc.down = True
    async with refused:
        await refused.clock.advance(1)
        assert refused.poller.status.certificates == CertifiedDriver.certificates
        counted = refused.metric("lineside_refused_peers_total", device="packer", reason="BadCertificateUntrusted")
        assert counted
        assert counted >= 1


class GivesUpDriver(FakeDriver):
    """Its library cancels a request of its own, as asyncua does when a connection ends under it."""

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        if self.plc.hangs:
            self.plc.hangs = False
            request = asyncio.get_running_loop().create_future()
            request.cancel()
            await request
        return await super().read(tags)


async def test_a_request_that_its_own_library_cancelled_is_a_lost_link_not_the_end_of_the_poller() -> None:
    async with Rig(GivesUpDriver) as rig:
        await rig.clock.advance(2.0)
        rig.plc.hangs = True
        await rig.clock.advance(5.0)
        assert not rig.task.done()
        assert rig.plc.opened == 2, "a fresh connection"
        assert any(reading.detail == "link lost" for batch, _ in rig.batches for reading in batch)
        assert rig.batches[-1][0][0].quality is Quality.GOOD


async def test_a_poller_that_is_connected_hangs_sooner_than_one_that_connects() -> None:
    async with Rig() as rig:
        assert rig.poller.stall_after_s < 10.0
        rig.plc.down = True
        await rig.clock.advance(2.0)
        assert rig.poller.driver is None
        assert rig.poller.stall_after_s > 30.0
