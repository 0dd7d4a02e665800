"""Try each link of a configuration once: connect, read every tag, close."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers import make_driver, prepare
from drivers.base import Certified, DriverError, LinkError, Quality, Reading
from drivers.recording import RecordingError, read_recording
from drivers.remedies import refusal
from drivers.replay import ReplaySettings
from gateway.app.parts import make_topics
from gateway.clock import SystemClock
from gateway.config import Config, SecretError, read_secret
from gateway.config.schema import AnyDeviceSettings, AnyUplinkSettings
from gateway.seams import UplinkError
from gateway.status.health import certificate_ends
from gateway.uplink.erp.http_trial import HttpProbe
from gateway.uplink.erp.port import ErpPort, Right
from gateway.uplink.erp.ports import Surroundings, make_port
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.kinds import peer_of
from gateway.uplink.settings import HttpSettings, MqttSettings
from gateway.uplink.trial import try_broker

_DEVICE_TIMEOUT_S = 20.0
"""A secured OPC UA connection with hundreds of tags takes seconds on a small PLC."""
_UPLINK_TIMEOUT_S = 20.0
"""An ERP whose answer gets lost is asked three times."""
_AT_A_TIME = 16
"""Enough that one dead device does not keep the others waiting, and no burst on the plant's network."""


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


async def try_links(config: Config, state_dir: Path | None = None) -> list[Trial]:
    """All links, several at the same time, told in the order of the configuration.

    `state_dir`: where the daemon keeps its own certificate and those it trusts.
    """
    if state_dir is not None:
        with contextlib.suppress(LinkError):
            # The link that needs it says the same.
            await asyncio.to_thread(prepare, config.devices.values(), state_dir, config.gateway.id, SystemClock().now())
    used: dict[str, set[str]] = {}
    for unit, references in config.unit_tags.items():
        for device, tag in (config.resolve(unit, reference) for reference in references):
            used.setdefault(device, set()).add(tag)
    devices = [
        _recording(name, settings, used.get(name, set()))
        if isinstance(settings, ReplaySettings)
        else _device(name, settings, config.gateway.time_zone, state_dir)
        for name, settings in config.devices.items()
    ]
    uplinks = [trial for name, settings in config.uplinks.items() for trial in _uplink(name, settings, config)]
    turn = asyncio.Semaphore(_AT_A_TIME)

    async def in_turn(trial: Coroutine[Any, Any, Trial]) -> Trial:
        async with turn:
            return await trial

    return list(await asyncio.gather(*(in_turn(trial) for trial in (*devices, *uplinks))))


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


async def _device(name: str, settings: AnyDeviceSettings, zone: str, state_dir: Path | None) -> Trial:
    clock = SystemClock()
    try:
        driver = make_driver(settings, clock, name=name, secrets=read_secret, state_dir=state_dir)
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
    ends = driver.certificates if isinstance(driver, Certified) else {}
    soon = (certificate_ends(which, end, clock.now(), name, zone) for which, end in ends.items())
    return judged(name, settings.peer, readings, tuple(f"{one[1].text.en} {one[1].remedy.en}" for one in soon if one is not None))


def judged(name: str, peer: str, readings: Sequence[Reading], remarks: tuple[str, ...] = ()) -> Trial:
    """What the first look at a device's tags says of it; `remarks` are of a link that works."""
    bad = tuple(f"tag {r.tag}: {r.detail or 'bad'}. {refusal(r.detail)[1]}" for r in readings if r.quality is Quality.BAD)
    told = f"{len(readings) - len(bad)} of {len(readings)} tags read"
    return Trial(name, peer, not bad, told, (*bad, *remarks))


def _uplink(name: str, settings: AnyUplinkSettings, config: Config) -> list[Coroutine[Any, Any, Trial]]:
    """A trial for each address."""
    if isinstance(settings, HttpSettings):
        return [_guarded(name, peer_of(settings), _http(settings, config))]
    if isinstance(settings, BookingSettings):
        return [_guarded(name, settings.peer, _port(erp_port(name, settings, config)))]
    return [_guarded(name, f"MQTT {address[0]}:{address[1]}", _broker(name, settings, address, config)) for address in settings.addresses()]


async def _guarded(name: str, peer: str, trial: Coroutine[Any, Any, tuple[str, tuple[str, ...], bool]]) -> Trial:
    """`trial` tells what it found, what there is to say of it, and whether the link works."""
    try:
        async with SystemClock().timeout(_UPLINK_TIMEOUT_S):
            told, details, works = await trial
    except TimeoutError:
        return Trial(name, peer, False, "no answer; check the address, the network and its firewall", ("expert: timed out",))
    except UplinkError as error:
        told = error.remedy.en if error.remedy else "cannot be used; check its address, that it runs, and the network"
        return Trial(name, peer, False, told, (f"expert: {error}",))
    except SecretError as error:
        return Trial(name, peer, False, str(error), (f"expert: {error.expert}",))
    return Trial(name, peer, works, told, details)


async def _http(settings: HttpSettings, config: Config) -> tuple[str, tuple[str, ...], bool]:
    trial = await HttpProbe(settings, gateway_id=config.gateway.id, clock=SystemClock(), secrets=read_secret).rights()
    told, missing = rights_told(trial.rights)
    count = None if trial.schedule is None else len(trial.schedule.items)
    orders = "" if count is None else f"{count} order{'' if count == 1 else 's'} there; "
    return f"{orders}{told}", (*missing, *trial.untried), not missing


def erp_port(name: str, settings: BookingSettings, config: Config) -> ErpPort:
    """The adapter of an ERP as the daemon has it, not connected."""
    around = Surroundings(config.gateway.id, tuple(config.work_units), config.gateway.time_zone, SystemClock(), read_secret)
    return make_port(name, settings, around)


async def _port(port: ErpPort) -> tuple[str, tuple[str, ...], bool]:
    """An ERP behind the port: each right of its user by itself."""
    try:
        await port.connect()
        told, missing = rights_told(await port.rights())
    finally:
        await port.disconnect()
    return told, missing, not missing


def rights_told(rights: Sequence[Right]) -> tuple[str, tuple[str, ...]]:
    """One line on all of them, and one for each that is missing."""
    missing = tuple(f"missing: {right.name}: {right.words}" for right in rights if not right.is_there)
    names = ", ".join(right.name for right in rights if right.is_there)
    if missing:
        return f"{len(missing)} of {len(rights)} rights missing; grant them to this user in the ERP", missing
    return f"all rights there ({names})", ()


async def _broker(name: str, settings: MqttSettings, address: tuple[str, int, bool], config: Config) -> tuple[str, tuple[str, ...], bool]:
    refused = await try_broker(
        settings, address, client_id=f"{config.gateway.id}-{name}-check", topics=make_topics(config, settings.root), clock=SystemClock(),
        secrets=read_secret,
    )  # fmt: skip
    if not refused:
        return "user accepted, orders may be received", (), True
    refusals = tuple(f"{topic}: the broker refuses this subscription; grant the gateway the right to read it" for topic in refused)
    return "user accepted, but not all orders may be received", refusals, False
