"""What every uplink must do, run on each: MQTT 5, MQTT 3.1.1 and HTTP against real peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from gateway.seams import Uplink, UplinkError
from tests.uplink.brokers import Listener, Mosquitto, until
from tests.uplink.conftest import UNIT, http_uplink, mqtt_uplink
from tests.uplink.doubles import Ledger, entry
from tests.uplink.erp_server import Erp

pytestmark = pytest.mark.slow

ORDER = {"command": "Store", "command_id": "c-1", "issued_at": "2026-11-25T06:00:00Z", "job_order": {"job_order_id": "OF-1"}}


class Peer(Protocol):
    """The other side of one uplink."""

    ledger: Ledger

    @property
    def uplink(self) -> Uplink: ...
    async def start(self) -> None: ...
    async def vanish(self) -> None: ...
    def got(self) -> list[int]: ...
    def order(self) -> None: ...
    async def end(self) -> None: ...


class MqttPeer:
    def __init__(self, directory: Path, protocol: str) -> None:
        self.ledger = Ledger()
        self._broker = Mosquitto(directory / "broker")
        self.uplink: Uplink = mqtt_uplink(self._broker.url, ledger=self.ledger, protocol=protocol)
        self._listeners: list[Listener] = []

    async def start(self) -> None:
        await self._broker.start()
        self._listeners.append(Listener(self._broker.port, "lineside/v1/#"))
        await self._listeners[-1].ready()

    async def vanish(self) -> None:
        self._broker.kill()

    def got(self) -> list[int]:
        return [sequence for listener in self._listeners for sequence in listener.events]

    def order(self) -> None:
        self._listeners[-1].publish(f"{UNIT}/job/command", ORDER)

    async def end(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._broker.kill()


class HttpPeer:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self._erp = Erp()
        self._uplink: Uplink | None = None

    @property
    def uplink(self) -> Uplink:
        if self._uplink is None:
            self._uplink = http_uplink(self._erp.url, ledger=self.ledger)
        return self._uplink

    async def start(self) -> None:
        await self._erp.start()

    async def vanish(self) -> None:
        await self._erp.stop()

    def got(self) -> list[int]:
        return self._erp.sequences

    def order(self) -> None:
        self._erp.orders.append({**ORDER, "work_unit": "press-07"})

    async def end(self) -> None:
        await self._erp.stop()


@pytest.fixture(params=["mqtt-5", "mqtt-3.1.1", "http"])
async def peer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Peer]:
    made: Peer = HttpPeer() if request.param == "http" else MqttPeer(tmp_path, request.param.removeprefix("mqtt-"))
    await made.start()
    yield made
    await made.uplink.close()
    await made.end()


async def test_nothing_happens_before_connect(peer: Peer) -> None:
    assert peer.uplink.name
    assert "127.0.0.1" in peer.uplink.peer
    with pytest.raises(UplinkError):
        await peer.uplink.deliver([entry(1)])
    await peer.uplink.close()


async def test_rows_arrive_once_each_in_order(peer: Peer) -> None:
    await peer.uplink.connect()
    left = [entry(number, work_unit="press-07" if number % 3 else "packer-02") for number in range(1, 301)]
    while left:
        receipt = await peer.uplink.deliver(left)
        assert receipt.accepted
        assert not receipt.parked
        assert not receipt.refused
        left = [row for row in left if row.position not in receipt.accepted]
    await until(lambda: len(peer.got()) == 300)
    assert peer.got() == list(range(1, 301))


async def test_orders_come_in_while_serving(peer: Peer) -> None:
    await peer.uplink.connect()
    heard: list[None] = []
    task = asyncio.create_task(peer.uplink.serve(lambda: heard.append(None)))
    peer.order()
    await until(lambda: bool(peer.ledger.taken))
    assert peer.ledger.taken[0][0].command_id == "c-1"
    await until(lambda: bool(heard))
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


async def test_a_peer_that_vanishes_ends_serving_and_delivery(peer: Peer) -> None:
    await peer.uplink.connect()
    task = asyncio.create_task(peer.uplink.serve(lambda: None))
    await peer.vanish()
    with pytest.raises(UplinkError):
        async with asyncio.timeout(10):
            await task
    with pytest.raises(UplinkError):
        await peer.uplink.deliver([entry(1)])


async def test_an_absent_peer_is_an_error_soon_and_works_once_it_is_back(peer: Peer) -> None:
    await peer.vanish()
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(UplinkError) as caught:
            await peer.uplink.connect()
        assert time.monotonic() - began < 12
        assert str(caught.value)
        await peer.uplink.close()
    await peer.start()
    await peer.uplink.connect()
    assert (await peer.uplink.deliver([entry(1), entry(2)])).accepted == {1, 2}
    await until(lambda: peer.got() == [1, 2])


async def test_close_is_bounded_repeatable_and_leaves_no_task(peer: Peer) -> None:
    before = asyncio.all_tasks()
    await peer.uplink.connect()
    began = time.monotonic()
    await peer.uplink.close()
    await peer.uplink.close()
    assert time.monotonic() - began < 8
    with pytest.raises(UplinkError):
        await peer.uplink.deliver([entry(1)])
    await asyncio.sleep(0.05)
    assert {task for task in asyncio.all_tasks() - before if "uplink" in repr(task.get_coro())} == set()


async def test_a_cancelled_connect_leaves_nothing_open(peer: Peer) -> None:
    task = asyncio.create_task(peer.uplink.connect())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await peer.uplink.close()
    await peer.uplink.connect()
    assert (await peer.uplink.deliver([entry(1)])).accepted == {1}
