"""Brokers that close the connection over a message without a word: nothing stands still for ever, and it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.uplink.mqtt_lanes import TelemetrySource
from gateway.uplink.mqtt_suspects import PROVEN_S, Suspects
from tests.uplink.brokers import Behaviour, StubBroker, until
from tests.uplink.conftest import UNIT, mqtt_uplink
from tests.uplink.doubles import Alerts
from tests.uplink.test_pipeline import chain

COMMAND = b'{"command": "StoreAndStart", "command_id": "c-1", "issued_at": "2026-11-25T06:00:00Z", "job_order": {"job_order_id": "OF-1"}}'
EIGHTH = b'"sequence":8,"datacontenttype"'


@dataclass
class Raw:
    id: int
    device: str
    body: bytes


def test_only_the_same_message_again_and_again_is_suspect() -> None:
    suspects = Suspects()
    assert [suspects.ended(("a", b"1"), 1.0) for _ in range(3)] == [1, 2, 3]
    assert suspects.ended(("a", b"2"), 1.0) == 1
    assert suspects.ended(None, 1.0) == 0
    assert suspects.ended(("a", b"1"), 1.0) == 4
    assert suspects.ended(("a", b"1"), PROVEN_S) == 1
    assert all(suspects.ended(("a", bytes([n])), 1.0) for n in range(100))
    assert suspects.ended(("a", b"1"), 1.0) == 1, "what is long ago is forgotten"


@pytest.mark.slow
async def test_a_row_over_which_the_broker_hangs_up_is_parked_and_the_others_arrive(tmp_path: Path, stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(hangs_up_over=lambda topic, payload: EIGHTH in payload)))
    alerts = Alerts()
    async with chain(tmp_path / "state", mqtt_uplink(broker.url, alerts=alerts), alerts=alerts) as link:
        link.make(20)
        await until(lambda: link.done, 60)
        (apart,) = await link.store.exceptions("plant")
        assert (apart.position, apart.state) == (8, "parked")
        assert apart.reason == "the broker closed the connection 5 times over it"
        assert alerts.up["uplink.hangs_up:plant"].startswith(UNIT)
        broker.behaviour.hangs_up_over = lambda topic, payload: False
        assert [row.sequence for row in await link.forwarder.requeue([8])] == [8]
        await until(lambda: any(EIGHTH in payload for _, payload in broker.published[-3:]), 30)


@pytest.mark.slow
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_live_topic_over_which_the_broker_hangs_up_falls_silent_and_the_rows_arrive(
    tmp_path: Path, stubs: Callable[..., Any], qos: int
) -> None:
    denied = f"{UNIT}/tag/"
    broker = await stubs(StubBroker(Behaviour(hangs_up_over=lambda topic, payload: topic.startswith(denied))))
    alerts = Alerts()
    uplink = mqtt_uplink(broker.url, alerts=alerts)
    async with chain(tmp_path / "state", uplink, alerts=alerts) as link:
        for number in range(20):
            uplink.set_live("stamping/line-3/press-07/tag/parts", str(number).encode(), retain=True, qos=qos)
            uplink.set_live("packing/line-3/packer-02/state", str(number).encode(), retain=True, qos=1)
            link.make(2)
            await asyncio.sleep(0.1)
        await until(lambda: link.done, 60)
        assert await link.store.exceptions("plant") == [], "no row is blamed for it"
        assert "connection closed" in alerts.up["uplink.live_refused:plant"]
        settled = len(broker.connects)
        uplink.set_live("stamping/line-3/press-07/tag/parts", b"41", retain=True, qos=qos)
        uplink.set_live("packing/line-3/packer-02/state", b"41", retain=True, qos=1)
        await until(lambda: broker.published[-1][1] == b"41", 10)
        assert len(broker.connects) == settled


@pytest.mark.slow
async def test_an_answer_over_which_the_broker_hangs_up_is_left_out_and_its_command_is_done(
    tmp_path: Path, stubs: Callable[..., Any]
) -> None:
    broker = await stubs(
        StubBroker(Behaviour(hangs_up_over=lambda topic, payload: topic.endswith("/job/response"), sends=(f"{UNIT}/job/command", COMMAND)))
    )
    alerts = Alerts()
    async with chain(tmp_path / "state", mqtt_uplink(broker.url, alerts=alerts), alerts=alerts) as link:
        link.make(20)
        await until(lambda: broker.behaviour.sends is None, 60)
        await until(lambda: link.done, 60)
        settled = len(broker.connects)
        link.make(20)
        await until(lambda: link.done, 60)
        assert len(broker.connects) == settled
        assert await link.store.exceptions("plant") == [], "no row is blamed for it"
        assert alerts.up["uplink.hangs_up:plant"].endswith("/job/response")


@pytest.mark.slow
async def test_telemetry_over_which_the_broker_hangs_up_is_dropped_and_the_rows_arrive(tmp_path: Path, stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(hangs_up_over=lambda topic, payload: "/device/" in topic)))
    rows = [Raw(number, "press", b"%d" % number) for number in range(1, 61)]
    taken: list[int] = []

    async def fetch(after: int, limit: int) -> list[Raw]:
        return rows[after : after + limit]

    alerts = Alerts()
    async with chain(
        tmp_path / "state", mqtt_uplink(broker.url, alerts=alerts, telemetry=TelemetrySource(fetch, taken.append)), alerts=alerts
    ) as link:
        link.make(20)
        await until(lambda: link.done and taken[-1:] == [60], 60)
        settled = len(broker.connects)
        link.make(20)
        await until(lambda: link.done, 60)
        assert len(broker.connects) == settled
        assert "/device/press" in alerts.up["uplink.hangs_up:plant"]
