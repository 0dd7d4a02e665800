"""What every driver promises, run against real servers on loopback and a recording."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from drivers.base import Driver, LinkError, Quality, Refusing, Subscribing, TagError
from gateway.clock import SystemClock
from tests.drivers.devices import SLACK, TAGS, Device, ModbusDevice, MTConnectDevice, OpcUaDevice, RecordedDevice, SubscribedDevice, by_tag

# One server for all tests of a device: asyncua's takes a second to start.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ALL: tuple[type[Device], ...] = (ModbusDevice, OpcUaDevice, SubscribedDevice, MTConnectDevice, RecordedDevice)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ALL, ids=lambda kind: kind.__name__)
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Device]:
    found: Device = request.param(tmp_path_factory.mktemp("device"))
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def device(running: Device) -> Device:
    await running.reset()
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def driver(device: Device) -> AsyncIterator[Driver]:
    found = device.driver()
    await found.connect()
    yield found
    await found.close()


async def present(driver: Driver) -> dict[str, object]:
    """The first complete look at the device, by subscription where it pushes."""
    if isinstance(driver, Subscribing):
        return by_tag(await anext(driver.subscribe(TAGS)))
    return by_tag(await driver.read(TAGS))


async def read_on(driver: Driver) -> None:
    for _ in range(20):
        await driver.read(TAGS)
        await asyncio.sleep(0.05)


async def connect_and_read(driver: Driver) -> None:
    await driver.connect()
    await driver.read(TAGS)


async def test_a_constructor_opens_nothing(device: Device) -> None:
    # Outside any event loop: nothing can have been opened.
    driver = await asyncio.to_thread(device.driver)
    assert isinstance(driver, Driver)
    await driver.close()


async def test_values_come_with_quality_and_time(device: Device, driver: Driver) -> None:
    found = await present(driver)
    assert {tag: found[tag].value for tag in TAGS} == {"parts": 70_000, "running": True, "weight": 12.5, "absent": None}
    assert isinstance(found["running"].value, bool)
    for tag in ("parts", "running", "weight"):
        assert found[tag].quality is Quality.GOOD
        assert found[tag].received_at.utcoffset() == timedelta(0)
        assert found[tag].source_time is None or found[tag].source_time.utcoffset() == timedelta(0)


async def test_a_tag_that_is_not_there_is_bad_and_fails_no_other(device: Device, driver: Driver) -> None:
    found = await present(driver)
    assert found["absent"].quality is Quality.BAD
    assert found["absent"].value is None
    assert found["absent"].detail
    if isinstance(driver, Refusing):
        assert set(driver.refused) == {"absent"}


async def test_read_answers_in_the_order_asked(device: Device, driver: Driver) -> None:
    for tags in (TAGS, TAGS[::-1], TAGS[1:3], ()):
        assert [reading.tag for reading in await driver.read(tags)] == list(tags)


async def test_a_change_is_seen(device: Device) -> None:
    driver = device.driver()
    if isinstance(driver, Subscribing) and not device.reconnects:
        await device.show("parts", 70_001)
    await driver.connect()
    try:
        async with asyncio.timeout(20):
            if isinstance(driver, Subscribing):
                seen = []
                async for batch in driver.subscribe(TAGS):
                    seen += [reading.value for reading in batch if reading.tag == "parts"]
                    if seen == [70_000] and device.reconnects:
                        await device.show("parts", 70_001)
                    if seen[-1:] == [70_001]:
                        break
                assert seen == [70_000, 70_001]
            else:
                assert by_tag(await driver.read(TAGS))["parts"].value == 70_000
                await device.show("parts", 70_001)
                assert by_tag(await driver.read(TAGS))["parts"].value == 70_001
    finally:
        await driver.close()


async def test_a_write_arrives_once_and_what_is_not_writable_is_refused(device: Device, driver: Driver) -> None:
    with pytest.raises(TagError):
        await driver.write("weight", 1.0)
    with pytest.raises(TagError):
        await driver.write("nowhere", 1)
    if not device.writes:
        with pytest.raises(TagError):
            await driver.write("parts", 500)
        return
    await driver.write("parts", 66_000)
    assert await device.written() == 66_000
    with pytest.raises(TagError):
        await driver.write("parts", 2**32)
    with pytest.raises(TagError):
        await driver.write("parts", "many")
    assert await device.written() == 66_000


async def test_nobody_there_is_a_link_error_with_a_remedy_in_both_languages(device: Device) -> None:
    if not device.reconnects:
        pytest.skip("a recording has no link")
    await device.stop()
    driver = device.driver()
    with pytest.raises(LinkError) as caught:
        await driver.connect()
    assert caught.value.remedy_fr
    assert caught.value.remedy_en
    await driver.close()
    await device.start()


async def test_a_server_that_goes_away_is_a_link_error_at_once_and_a_fresh_driver_finds_it_again(device: Device, driver: Driver) -> None:
    if not device.reconnects:
        pytest.skip("a recording has no link")
    await present(driver)
    await device.stop()
    started = asyncio.get_running_loop().time()
    with pytest.raises(LinkError):
        await read_on(driver)
    assert asyncio.get_running_loop().time() - started < 1.5 * SLACK
    await driver.close()
    await device.start()
    again = device.driver()
    await again.connect()
    assert (await present(again))["parts"].value == 70_000
    await again.close()


async def test_close_is_safe_at_any_time_and_leaves_no_task_behind(device: Device) -> None:
    before = asyncio.all_tasks()
    driver = device.driver()
    await driver.close()
    await driver.connect()
    await present(driver)
    await driver.close()
    await driver.close()
    await asyncio.sleep(0.1)
    own = [task for task in asyncio.all_tasks() - before if "asyncua.client" in str(task) or "pymodbus.client" in str(task)]
    assert own == []
    if device.reconnects:
        with pytest.raises(LinkError):
            await driver.read(TAGS)


async def test_a_black_hole_ends_in_a_link_error_in_time(device: Device) -> None:
    if not device.reconnects:
        pytest.skip("a recording has no link")

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(4096):
                pass
        finally:
            writer.close()

    hole = await asyncio.start_server(swallow, "127.0.0.1", 0)
    driver = device.driver(port=hole.sockets[0].getsockname()[1], timeout=0.2)
    started = SystemClock().monotonic()
    with pytest.raises(LinkError):
        await connect_and_read(driver)
    await driver.close()
    assert SystemClock().monotonic() - started < 1.5 * SLACK
    hole.close()
    await hole.wait_closed()
