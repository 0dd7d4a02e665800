"""Try each link of a configuration once: connect, read every tag, close."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from drivers import make_driver
from drivers.base import DriverError, LinkError, Quality, Reading
from drivers.modbus_settings import ModbusSettings
from drivers.opcua_settings import OpcUaSettings
from drivers.recording import RecordingError, read_recording
from drivers.replay import ReplaySettings
from gateway.clock import SystemClock
from gateway.config import Config, SecretError, read_secret
from gateway.config.schema import AnyUplinkSettings
from gateway.uplink.settings import HttpSettings, peer_of

_DEVICE_TIMEOUT_S = 20.0
"""A secured OPC UA connection with hundreds of tags takes seconds on a small PLC."""
_UPLINK_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class Trial:
    """What became of one link. `details` are its single troubles, one sentence each."""

    name: str
    peer: str
    works: bool
    told: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        head = f"{'connected' if self.works else 'FAILED':<10}{self.name}: {self.peer}: {self.told}"
        return "\n".join([head, *(f"{'':<12}{detail}" for detail in self.details)])


async def try_links(config: Config) -> list[Trial]:
    """All links at the same time, told in the order of the configuration."""
    used: dict[str, set[str]] = {}
    for unit, references in config.unit_tags.items():
        for device, tag in (config.resolve(unit, reference) for reference in references):
            used.setdefault(device, set()).add(tag)
    devices = [
        _recording(name, settings, used.get(name, set())) if isinstance(settings, ReplaySettings) else _device(name, settings)
        for name, settings in config.devices.items()
    ]
    uplinks = [_address(name, settings, *place) for name, settings in config.uplinks.items() for place in _places(settings)]
    return list(await asyncio.gather(*devices, *uplinks))


async def _recording(name: str, settings: ReplaySettings, used: set[str]) -> Trial:
    """A recording has no link: the file must be readable and hold the tags that work units use."""
    try:
        readings = Counter(row[1:3] for row in read_recording(settings.file))
    except RecordingError as error:
        return Trial(name, settings.peer, False, str(error))
    device = settings.device or name
    missing = sorted((used | set(settings.tags)) - {tag for of, tag in readings if of == device})
    details = tuple(f"tag {tag}: not in the recording for device {device}; check both names" for tag in missing)
    return Trial(name, settings.peer, not missing, f"{readings.total()} reading{'s' if readings.total() != 1 else ''}", details)


async def _device(name: str, settings: OpcUaSettings | ModbusSettings) -> Trial:
    clock = SystemClock()
    try:
        driver = make_driver(settings, clock, name=name, secrets=read_secret)
        try:
            async with clock.timeout(_DEVICE_TIMEOUT_S):
                await driver.connect()
                readings = await driver.read(list(settings.tags))
        finally:
            await driver.close()
    except LinkError as error:
        return Trial(name, settings.peer, False, error.remedy_en or str(error), (f"expert: {error}",))
    except (DriverError, SecretError) as error:
        return Trial(name, settings.peer, False, str(error))
    except TimeoutError:
        told = f"no full answer within {_DEVICE_TIMEOUT_S:g} s; check the PLC's load and the network"
        return Trial(name, settings.peer, False, told, ("expert: connect and first read timed out",))
    return _judged(name, settings.peer, readings)


def _judged(name: str, peer: str, readings: Sequence[Reading]) -> Trial:
    bad = tuple(f"tag {r.tag}: {r.detail or 'bad'}; check its address in the PLC" for r in readings if r.quality is Quality.BAD)
    told = f"{len(readings) - len(bad)} of {len(readings)} tags read"
    return Trial(name, peer, not bad, told, bad)


def _places(settings: AnyUplinkSettings) -> list[tuple[str, int]]:
    addresses = [settings.address()] if isinstance(settings, HttpSettings) else settings.addresses()
    return [(host, port) for host, port, _ in addresses]


async def _address(name: str, settings: AnyUplinkSettings, host: str, port: int) -> Trial:
    peer = f"{peer_of(settings).split()[0]} {host}:{port}"
    try:
        async with SystemClock().timeout(_UPLINK_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Trial(name, peer, False, "no answer; check the address, the network and its firewall", ("expert: TCP connect timed out",))
    except OSError as error:
        return Trial(name, peer, False, "cannot be reached; check the address and that it runs", (f"expert: {error}",))
    writer.close()
    return Trial(name, peer, True, "reachable")
