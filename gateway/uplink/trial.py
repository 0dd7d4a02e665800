"""One try of an uplink, for `lineside check --connect`: the uplink's own way in, and nothing left behind at the peer."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.domain.inbound import Inbound
from gateway.metrics import Metrics
from gateway.uplink.base import SecretReader, tls_context
from gateway.uplink.erp.http import HttpUplink
from gateway.uplink.mqtt_connection import V5, V311, Access, Connection, VersionRefused
from gateway.uplink.settings import HttpSettings, MqttSettings
from gateway.uplink.topics import Topics


class _NoAlerts:
    """What goes wrong in a trial is its result."""

    def raise_(self, key: str, severity: str, text: Text, remedy: Text, *, work_unit: str | None = None, detail: str = "") -> None:
        return

    def clear(self, key: str) -> None:
        return


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
        return await connection.subscribe(list(topics.inbound()))
    finally:
        await connection.close()


async def _no_orders(items: Sequence[Inbound], *, uplink: str, cursor: str | None) -> None:
    return


async def _no_cursor(_uplink: str) -> str | None:
    return None


async def try_erp(name: str, settings: HttpSettings, *, gateway_id: str, clock: Clock, secrets: SecretReader) -> str:
    """Ask the ERP for orders once, from the beginning, and take none. Returns what it answered. Raises UplinkError."""

    uplink = HttpUplink(
        name, settings, gateway_id=gateway_id, clock=clock, metrics=Metrics(), secrets=secrets, alerts=_NoAlerts(), on_orders=_no_orders,
        order_cursor=_no_cursor,
    )  # fmt: skip
    return await uplink.try_once()
