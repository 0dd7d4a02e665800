"""What speaks to machines. `DRIVERS` is the whole plug-in system: a new protocol is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from drivers.base import Clock, Driver, Explorer
from drivers.modbus_settings import ModbusSettings
from drivers.mtconnect import MTConnectDriver, MTConnectSettings
from drivers.opcua_settings import OpcUaSettings
from drivers.replay import ReplayDriver, ReplaySettings
from drivers.settings import DeviceSettings, Secret

AnyDeviceSettings = OpcUaSettings | ModbusSettings | MTConnectSettings | ReplaySettings
DeviceUnion = Annotated[AnyDeviceSettings, Field(discriminator="driver")]
"""The settings of one device, told apart by `driver`."""


class Entry(NamedTuple):
    """What the configuration says, and which class drives that: protocol stacks load when they are needed, not before.

    `explorer`: the driver that also looks around (`lineside browse`), where the protocol has something to look at.
    """

    settings: type[DeviceSettings]
    driver: Callable[[Any], Callable[..., Driver]]
    explorer: Callable[[], Callable[..., Explorer]] | None = None


def _opcua(settings: OpcUaSettings) -> Callable[..., Driver]:
    from drivers.opcua import OpcUaDriver
    from drivers.opcua_subscriber import OpcUaSubscriber

    return OpcUaSubscriber if settings.mode == "subscribe" else OpcUaDriver


def _modbus(settings: ModbusSettings) -> Callable[..., Driver]:
    from drivers.modbus import ModbusDriver

    return ModbusDriver


def _opcua_explorer() -> Callable[..., Explorer]:
    from drivers.opcua_browse import OpcUaExplorer

    return OpcUaExplorer


def _modbus_explorer() -> Callable[..., Explorer]:
    from drivers.modbus_probe import ModbusExplorer

    return ModbusExplorer


def _mtconnect_explorer() -> Callable[..., Explorer]:
    from drivers.mtconnect_browse import MTConnectExplorer

    return MTConnectExplorer


DRIVERS: dict[str, Entry] = {
    "opcua": Entry(OpcUaSettings, _opcua, _opcua_explorer),
    "modbus": Entry(ModbusSettings, _modbus, _modbus_explorer),
    "mtconnect": Entry(MTConnectSettings, lambda settings: MTConnectDriver, _mtconnect_explorer),
    "replay": Entry(ReplaySettings, lambda settings: ReplayDriver),
}


def prepare(devices: Iterable[AnyDeviceSettings], state_dir: Path, gateway_id: str, now: datetime) -> None:
    """What must be there before any of `devices` is connected: their protocol stacks, and this gateway's own certificate, made at the
    first start. Blocks.

    Raises LinkError where the certificate can be neither read nor made.
    """
    devices = list(devices)
    for settings in devices:
        # Loading a stack takes a second on a small machine: links that are being opened meanwhile would run out of time.
        DRIVERS[settings.driver].driver(settings)
    if any(isinstance(settings, OpcUaSettings) and not settings.security.insecure for settings in devices):
        from drivers.opcua_pki import prepare as prepare_certificate

        prepare_certificate(state_dir, gateway_id, now)


def make_driver(settings: Any, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None) -> Driver:
    """A fresh driver for one connection; it does nothing until `connect`.

    `settings`: one of `DeviceUnion`; `name`: the device's name in the configuration; `secrets`: reads a secret from where it is kept;
    `state_dir`: where the gateway's own certificate is kept (None: it is made anew at each start).
    """
    return DRIVERS[settings.driver].driver(settings)(settings, clock, name=name, secrets=secrets, state_dir=state_dir)


def make_explorer(
    settings: Any, clock: Clock, *, name: str, secrets: Callable[[Secret], str], state_dir: Path | None = None
) -> Explorer | None:
    """Like `make_driver`, for looking around; None where the protocol has nothing to look at."""
    explorer = DRIVERS[settings.driver].explorer
    return explorer()(settings, clock, name=name, secrets=secrets, state_dir=state_dir) if explorer else None
