"""Builders for the uplinks under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Clock
from drivers.settings import Secret
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.uplink.erp.http import HttpUplink
from gateway.uplink.erp.posting_memory import PostingMemory
from gateway.uplink.mqtt import MqttUplink
from gateway.uplink.settings import HttpSettings, MqttSettings
from gateway.uplink.topics import Topics
from tests.uplink.brokers import Mosquitto, StubBroker
from tests.uplink.doubles import GATEWAY, Alerts, Ledger
from tests.uplink.erp_server import Erp

UNITS = {"press-07": "stamping/line-3/press-07", "packer-02": "packing/line-3/packer-02"}
SITE = "lineside/v1/acme/lyon"
UNIT = f"{SITE}/stamping/line-3/press-07"
OWN = f"{SITE}/_gateway/{GATEWAY}"


def topics() -> Topics:
    return Topics(root="lineside/v1", enterprise="acme", site="lyon", gateway_id=GATEWAY, units=UNITS)


def mqtt_uplink(*urls: str, ledger: Ledger | None = None, alerts: Alerts | None = None, **changes: Any) -> MqttUplink:
    """An uplink on these addresses; `changes` go to its settings, or to its constructor (`on_ack`, `on_replay`, `telemetry`)."""
    wiring: dict[str, Any] = {"on_ack": lambda *_: None, "on_replay": lambda *_: None, "telemetry": None, "clock": SystemClock()}
    wiring.update({key: changes.pop(key) for key in list(changes) if key in wiring})
    return MqttUplink(
        "plant",
        MqttSettings(type="mqtt", urls=urls, **changes),
        gateway_id=GATEWAY,
        topics=topics(),
        metrics=Metrics(),
        secrets=lambda secret: "secret",
        alerts=alerts or Alerts(),
        on_command=(ledger or Ledger()).handle,
        about=lambda: {"version": "0.1.0"},
        **wiring,
    )


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "broker")
    await broker.start()
    yield broker
    broker.kill()


@pytest.fixture
async def stubs() -> AsyncIterator[Callable[..., Any]]:
    """Makes stub brokers that are stopped at the end."""
    made: list[StubBroker] = []

    async def make(broker: StubBroker | None = None) -> StubBroker:
        made.append(broker or StubBroker())
        await made[-1].start()
        return made[-1]

    yield make
    for broker in made:
        await broker.stop()


class Cursors:
    """What the journal keeps for an uplink by the contract of `PostingJournal`; outlives a process that is killed."""

    def __init__(self, **kept: str) -> None:
        self.kept = kept
        self._recorded: dict[str, str] = {}
        self.is_full = False

    def record_order_cursor(self, uplink: str, cursor: str) -> None:
        self._recorded[uplink] = cursor

    async def committed(self) -> None:
        if self.is_full:
            await asyncio.Event().wait()
        self.kept |= self._recorded

    async def order_cursor(self, uplink: str) -> str | None:
        return self.kept.get(uplink)


def http_uplink(
    url: str,
    *,
    ledger: Ledger | None = None,
    alerts: Alerts | None = None,
    cursors: Cursors | None = None,
    clock: Clock | None = None,
    **changes: Any,
) -> HttpUplink:
    """An uplink to this ERP; `cursors`: what the journal holds, `changes` go to its settings."""
    cursors, clock = cursors or Cursors(), clock or SystemClock()
    return HttpUplink(
        "erp",
        HttpSettings(type="http", url=url, **{"token": Secret(credential="erp"), "interval": 0.05, **changes}),
        gateway_id=GATEWAY,
        clock=clock,
        metrics=Metrics(),
        secrets=lambda secret: "secret",
        alerts=alerts or Alerts(),
        on_orders=(ledger or Ledger()).handle_batch,
        order_cursor=cursors.order_cursor,
        postings=PostingMemory("erp", cursors, cursors.order_cursor, clock),
    )


class LeapingClock(SystemClock):
    """The machine's clock, which a test may let leap ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0
        steady = self.monotonic
        self.monotonic = lambda: steady() + self.ahead_s


@pytest.fixture
async def erp() -> AsyncIterator[Erp]:
    server = Erp()
    await server.start()
    yield server
    await server.stop()
