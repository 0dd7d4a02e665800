from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from simulators.loopback import HOST, free_port
from simulators.mes import Mes
from tests.simulators.test_ledger_copy import event

pytestmark = pytest.mark.slow

BASE = "lineside/v1/acme/lyon"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    program = shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
    if program is None:
        pytest.fail("mosquitto is needed: apt-get install mosquitto")
    port = free_port()
    (tmp_path / "m.conf").write_text(f"listener {port} {HOST}\nallow_anonymous true\nmax_queued_messages 0\n")
    process = subprocess.Popen([program, "-c", str(tmp_path / "m.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                break
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait(5)


class Gateway:
    """Publishes what a gateway would, and hears what a consumer answers."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe([(f"{BASE}/_gateway/gw/ack", 1), (f"{BASE}/_gateway/gw/replay", 1)])
        self.client.on_message = lambda _c, _u, m: self.heard.append((m.topic.rsplit("/", 1)[1], json.loads(m.payload)))
        self.client.connect_async(HOST, port)
        self.client.loop_start()

    def publish(self, message: dict[str, Any]) -> None:
        self.client.publish(f"{BASE}/stamping/line-3/press-07/event/alert/raised", json.dumps(message), qos=1)


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


@pytest.fixture
async def gateway(broker: int) -> AsyncIterator[Gateway]:
    gateway = Gateway(broker)
    await eventually(gateway.client.is_connected)
    yield gateway
    gateway.client.disconnect()
    gateway.client.loop_stop()


@pytest.fixture(params=["5", "3.1.1"])
async def mes(broker: int, request: pytest.FixtureRequest) -> AsyncIterator[Mes]:
    mes = Mes(HOST, broker, protocol=request.param)
    stopped = asyncio.Event()
    mes.start()
    await eventually(lambda: mes.connections == 1)
    task = asyncio.create_task(mes.run(stopped))
    yield mes
    stopped.set()
    await task
    mes.stop()


async def test_it_acknowledges_up_to_the_first_hole_and_drops_repeats(gateway: Gateway, mes: Mes) -> None:
    for sequence in (1, 2, 2, 4):
        gateway.publish(event(sequence))
    await eventually(lambda: len(mes.events()) == 3)
    await eventually(lambda: ("ack", {"consumer": "mes", "epoch": "e1", "sequence": 2}) in gateway.heard)
    assert all(message["sequence"] <= 2 for word, message in gateway.heard if word == "ack")
    gateway.publish(event(3))
    await eventually(lambda: ("ack", {"consumer": "mes", "epoch": "e1", "sequence": 4}) in gateway.heard)
    report = mes.report()
    assert (report["repeats"], report["holes"], report["out_of_order"]) == (1, {}, ["gw:e1:3"])


async def test_a_contradiction_is_convicted(gateway: Gateway, mes: Mes) -> None:
    gateway.publish(event(1, alert="a"))
    gateway.publish(event(1, alert="b"))
    await eventually(lambda: mes.report()["conflicts"] == ["gw:e1:1"])
    assert not mes.report()["clean"]


async def test_a_ledger_joined_in_the_middle_is_asked_for_from_its_beginning(gateway: Gateway, mes: Mes) -> None:
    gateway.publish(event(7))
    await eventually(lambda: ("replay", {"epoch": "e1", "from_sequence": 1}) in gateway.heard)
    assert not [word for word, _ in gateway.heard if word == "ack"]


async def test_telemetry_and_state_are_kept_apart_from_the_ledger(gateway: Gateway, mes: Mes) -> None:
    tag = {"timestamp_ms": 1, "value": 48213, "quality": "good"}
    gateway.client.publish(f"{BASE}/stamping/line-3/press-07/tag/parts", json.dumps(tag), retain=True)
    await eventually(lambda: mes.retained().get("stamping/line-3/press-07/tag/parts") == tag)
    assert mes.events() == []
