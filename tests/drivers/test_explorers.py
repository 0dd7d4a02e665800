"""What every explorer promises, run against real servers on loopback: it finds, it reads as the driver does, it writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from drivers import DRIVERS, make_explorer
from drivers.base import Driver, Explorer, LinkError, Quality, TagError
from gateway.clock import SystemClock
from tests.drivers.devices import TAGS, Device, ModbusDevice, MTConnectDevice, OpcUaDevice, RecordedDevice

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ALL: dict[type[Device], dict[str, str]] = {
    ModbusDevice: {"holding:100-101": "holding 101"},
    MTConnectDevice: {"PartCount": "PartCount/parts", "": "Load/weight"},
    OpcUaDevice: {"Machine": "Machine/parts", "nsu=urn:test:plc;s=parts": "nsu=urn:test:plc;s=parts"},
}
"""Device -> paths, each with something to be found there."""


def explorer_of(device: Device) -> Explorer | None:
    return make_explorer(device.settings(), SystemClock(), name="plc", secrets=lambda secret: "secret", state_dir=device.folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ALL, ids=lambda kind: kind.__name__)
async def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Device]:
    found: Device = request.param(tmp_path_factory.mktemp("device"))
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def explorer(device: Device) -> AsyncIterator[Explorer]:
    found = explorer_of(device)
    assert found is not None
    await found.connect()
    yield found
    await found.close()


async def test_it_is_a_driver_too(explorer: Explorer) -> None:
    assert isinstance(explorer, Explorer)
    assert isinstance(explorer, Driver)


async def test_it_inspects_what_the_driver_reads(explorer: Explorer) -> None:
    read = await explorer.read(TAGS)
    inspected = await explorer.inspect(TAGS)
    assert [(raw.reading.tag, raw.reading.value, raw.reading.quality) for raw in inspected] == [(r.tag, r.value, r.quality) for r in read]
    absent = inspected[TAGS.index("absent")]
    assert absent.reading.quality is Quality.BAD
    assert absent.reading.detail
    assert all(raw.raw for raw in inspected if raw.reading.quality is Quality.GOOD)


async def test_it_finds_what_is_there_and_says_what_is_not(device: Device, explorer: Explorer) -> None:
    for path, expected in ALL[type(device)].items():
        found = [one async for batch in explorer.browse(path, lambda _: None) for one in batch]
        assert expected in [one.path for one in found]
        assert all(one.tag and one.access == ("rw" if device.writes else "r") for one in found if one.path == expected)
    with pytest.raises(TagError):
        _ = [one async for one in explorer.browse("nowhere", lambda _: None)]


async def test_after_the_link_is_lost_it_raises_as_a_driver_does(device: Device) -> None:
    found = explorer_of(device)
    assert found is not None
    await found.connect()
    await found.close()
    with pytest.raises(LinkError):
        _ = [one async for one in found.browse("", lambda _: None)]


async def test_every_driver_of_a_real_machine_has_one(tmp_path: Path) -> None:
    assert explorer_of(RecordedDevice(tmp_path)) is None
    assert {name for name, entry in DRIVERS.items() if not entry.explorer} == {"replay"}
