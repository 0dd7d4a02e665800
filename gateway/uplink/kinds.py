"""Every kind of uplink that the configuration can name. A new ERP behind the port is one line here and one in `erp.ports.ERP_PORTS`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.uplink.erp.files.settings import FilesSettings
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.erp.tryton.settings import TrytonSettings
from gateway.uplink.settings import HttpSettings, MqttSettings

AnyUplinkSettings = MqttSettings | HttpSettings | TrytonSettings | FilesSettings
UplinkSettings = Annotated[AnyUplinkSettings, Field(discriminator="type")]
"""The settings of one uplink, told apart by `type`."""


def peer_of(settings: AnyUplinkSettings) -> str:
    """Protocol and first address, for the technician."""
    if isinstance(settings, BookingSettings):
        return settings.peer
    if isinstance(settings, MqttSettings):
        host, port, _ = settings.addresses()[0]
        return f"MQTT {host}:{port}"
    host, port, _ = settings.address()
    return f"ERP {host}:{port}"
