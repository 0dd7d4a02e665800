"""Which adapter speaks to which ERP. `ERP_PORTS` is the whole plug-in system: a new ERP is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.base import Clock
from gateway.uplink.base import SecretReader
from gateway.uplink.erp.files.port import FilesPort
from gateway.uplink.erp.port import ErpPort
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.erp.tryton import TrytonPort


@dataclass(frozen=True)
class Surroundings:
    """What an adapter may ask of the gateway. `time_zone`: the site's, IANA; `work_units`: those of this gateway."""

    gateway_id: str
    work_units: Sequence[str]
    time_zone: str
    clock: Clock
    secrets: SecretReader


PortFactory = Callable[[str, Any, Surroundings], ErpPort]
"""(name of the uplink, its settings, surroundings) -> an adapter that does nothing before `connect`."""

ERP_PORTS: dict[str, PortFactory] = {
    "files": lambda name, settings, around: FilesPort(
        settings, gateway_id=around.gateway_id, work_units=around.work_units, time_zone=around.time_zone, clock=around.clock
    ),
    "tryton": lambda name, settings, around: TrytonPort(settings, clock=around.clock, secrets=around.secrets),
}
"""`type` in the configuration -> what makes the adapter."""


def make_port(name: str, settings: BookingSettings, around: Surroundings) -> ErpPort:
    """The adapter of one configured ERP."""
    return ERP_PORTS[settings.type](name, settings, around)
