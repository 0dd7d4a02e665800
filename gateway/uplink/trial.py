"""One try of a broker, for `lineside check --connect`: the uplink's own way in, and nothing left behind at the peer."""

from __future__ import annotations

from drivers.base import Clock
from gateway.uplink.base import SecretReader, tls_context
from gateway.uplink.mqtt_client import Access
from gateway.uplink.mqtt_connection import V5, V311, Connection
from gateway.uplink.mqtt_refusals import VersionRefused
from gateway.uplink.settings import MqttSettings
from gateway.uplink.topics import Topics


async def log_in(
    settings: MqttSettings, address: tuple[str, int, bool], *, client_id: str, clock: Clock, secrets: SecretReader
) -> Connection:
    """An open connection to one of the addresses (host, port, TLS), to be closed by the caller.

    `client_id` is not the daemon's: a second connection of the same name would end the daemon's own. Raises UplinkError.
    """
    host, port, tls = address
    access = Access(
        host=host,
        port=port,
        tls=tls_context(settings.tls) if tls else None,
        client_id=client_id,
        user=settings.user.name if settings.user else None,
        password=secrets(settings.user.password) if settings.user and settings.user.password else None,
    )
    connection = Connection(access, version=V311 if settings.protocol == "3.1.1" else V5, will=None, clock=clock)
    try:
        await connection.open()
    except VersionRefused:
        if settings.protocol != "auto":
            raise
        connection = Connection(access, version=V311, will=None, clock=clock)
        await connection.open()
    return connection


async def try_broker(
    settings: MqttSettings,
    address: tuple[str, int, bool],
    *,
    client_id: str,
    topics: Topics,
    clock: Clock,
    secrets: SecretReader,
) -> list[str]:
    """Log in and subscribe as the daemon does. Returns the topics that were refused. Raises UplinkError."""
    connection = await log_in(settings, address, client_id=client_id, clock=clock, secrets=secrets)
    try:
        return list(await connection.subscribe(list(topics.inbound())))
    finally:
        await connection.close()
