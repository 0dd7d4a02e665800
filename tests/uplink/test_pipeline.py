"""Journal, forwarder and uplink together against real peers that die and come back: nothing lost, each event once by its id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.domain.entry import Entry
from gateway.domain.events import QuantityCounted
from gateway.metrics import Metrics
from gateway.outbox.forwarder import Forwarder
from gateway.outbox.recorder import Recorder
from gateway.outbox.store import Store
from gateway.seams import Uplink
from gateway.supervise import Backoff
from tests.uplink.brokers import Listener, Mosquitto, until
from tests.uplink.conftest import OWN, http_uplink, mqtt_uplink
from tests.uplink.doubles import GATEWAY, Alerts
from tests.uplink.erp_server import Erp

pytestmark = pytest.mark.slow


class Chain:
    """Everything between `record` and the peer."""

    def __init__(self, store: Store, recorder: Recorder, forwarder: Forwarder, metrics: Metrics) -> None:
        self.metrics = metrics
        self.store = store
        self.recorder = recorder
        self.forwarder = forwarder

    def make(self, count: int) -> None:
        for number in range(count):
            event = QuantityCounted(
                work_unit="press-07" if number % 2 else "packer-02", at=SystemClock().now(),
                produced=Decimal(1), good=Decimal(1), scrap=Decimal(0), rework=Decimal(0), counter=None, late=False,
            )  # fmt: skip
            self.recorder.record([event])

    @property
    def done(self) -> bool:
        return self.recorder.pending_rows == 0 and self.store.cursor(self.forwarder.name) == self.store.last_position


@asynccontextmanager
async def chain(directory: Path, uplink: Uplink, *, alerts: Alerts | None = None, consumers: Sequence[str] = ()) -> AsyncIterator[Chain]:
    clock, metrics = SystemClock(), Metrics()
    store = await Store.open(directory, uplinks=[uplink.name], clock=clock)
    forwarders: list[Forwarder] = []

    def after_commit(entries: Sequence[Entry]) -> None:
        if entries:
            forwarders[0].notify()

    recorder = Recorder(
        store, gateway_id=GATEWAY, source_of=lambda unit: f"/acme/lyon/x/y/{unit}", clock=clock, metrics=metrics,
        snapshots=lambda: (), after_commit=after_commit,
    )  # fmt: skip
    forwarder = Forwarder(
        uplink, reader=store, writer=recorder, clock=clock, metrics=metrics, alerts=alerts or Alerts(),
        on_link=lambda status: None, consumers=consumers, backoff=Backoff(0.1, 0.5),
    )  # fmt: skip
    forwarders.append(forwarder)
    tasks = [asyncio.create_task(recorder.run()), asyncio.create_task(forwarder.run())]
    try:
        yield Chain(store, recorder, forwarder, metrics)
    finally:
        for task in reversed(tasks):
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError), repr(ended)
        await store.close()


def bound(link: list[Forwarder]) -> Callable[[str, str, int], str | None]:
    return lambda consumer, epoch, sequence: link[0].acknowledge(consumer, epoch, sequence)


async def test_a_broker_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker")
    await broker.start()
    forwarders: list[Forwarder] = []
    alerts = Alerts()
    uplink = mqtt_uplink(broker.url, on_ack=bound(forwarders), consumers=["mes"], alerts=alerts)
    got: list[int] = []
    listener = Listener(broker.port, "lineside/v1/+/+/+/+/+/event/#", f"{OWN}/event/#")
    await listener.ready()

    async def consume() -> None:
        """A consumer that acknowledges what it has without a hole, as the contract asks."""
        have, mark = set[int](), 0
        while True:
            await asyncio.sleep(0.02)
            for sequence in listener.events[len(got) :]:
                got.append(sequence)
                have.add(sequence)
            while mark + 1 in have:
                mark += 1
            if mark:
                listener.publish(f"{OWN}/ack", {"consumer": "mes", "epoch": link.store.epoch, "sequence": mark})

    async with chain(tmp_path / "state", uplink, consumers=["mes"]) as link:
        forwarders.append(link.forwarder)
        consumer = asyncio.create_task(consume())
        for _ in range(4):
            link.make(150)
            await asyncio.sleep(0.15)
            broker.kill()
            link.make(50)
            await asyncio.sleep(0.2)
            await broker.start()
        await until(lambda: link.done, 40)
        consumer.cancel()
    assert not alerts.up, "every acknowledgement was of rows that had been sent"
    assert set(got) == set(range(1, 801))
    by_id: dict[str, bytes] = {}
    for message in listener.messages:
        body = json.loads(message.payload)
        assert by_id.setdefault(body["id"], bytes(message.payload)) == message.payload, "the same id is the same event"
    listener.close()
    broker.kill()


async def test_the_stand_in_broker_takes_over(tmp_path: Path) -> None:
    first, second = Mosquitto(tmp_path / "first"), Mosquitto(tmp_path / "second")
    await first.start()
    await second.start()
    listener = Listener(second.port, "lineside/v1/#")
    await listener.ready()
    async with chain(tmp_path / "state", mqtt_uplink(first.url, second.url)) as link:
        link.make(20)
        await until(lambda: link.done)
        assert listener.events == []
        first.kill()
        link.make(20)
        await until(lambda: link.done)
        assert listener.events == list(range(21, 41))
    listener.close()
    second.kill()


@pytest.mark.parametrize("unlimited", [False, True])
async def test_a_denied_work_unit_ends_in_quarantine_and_the_other_goes_on(tmp_path: Path, unlimited: bool) -> None:
    """With unlimited queues mosquitto 2.0.11 closes the connection after each denial."""
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite #\ntopic deny lineside/v1/acme/lyon/stamping/line-3/press-07/event/#\n")
    broker = Mosquitto(tmp_path / "broker", f"acl_file {acl}", unlimited=unlimited)
    await broker.start()
    listener = Listener(broker.port, "lineside/v1/#")
    await listener.ready()
    alerts = Alerts()
    async with chain(tmp_path / "state", mqtt_uplink(broker.url), alerts=alerts) as link:
        link.make(20)
        await until(lambda: len([sequence for sequence in set(listener.events) if sequence <= 20]) == 10, 30)
        await until(lambda: link.done, 40)
        apart = await link.store.exceptions("plant")
        assert {row.state for row in apart} == {"quarantined"}
        assert len(apart) == 10
        assert "uplink.refused:plant:press-07" in alerts.up
        link.make(4)
        await until(lambda: link.done, 20)
        told = [message for message in listener.messages if message.topic == f"{OWN}/event/row/parked"]
        assert len({message.payload for message in told}) >= 10
    listener.close()
    broker.kill()


async def test_an_erp_away_and_dropping_every_second_reply_books_each_event_once(tmp_path: Path) -> None:
    erp = Erp(fault=lambda method, count: "drop" if count % 2 else None)
    await erp.start()
    async with chain(tmp_path / "state", http_uplink(erp.url)) as link:
        link.make(150)
        await asyncio.sleep(0.3)
        await erp.stop()
        link.make(150)
        await asyncio.sleep(1.0)
        await erp.start()
        link.make(50)
        await until(lambda: link.done, 30)
    assert erp.sequences == list(range(1, 351))
    assert erp.most_in_flight == 1
    await erp.stop()


async def test_a_restart_goes_on_where_the_peer_stopped(tmp_path: Path) -> None:
    erp = Erp()
    await erp.start()
    async with chain(tmp_path / "state", http_uplink(erp.url)) as link:
        link.make(30)
        await until(lambda: link.done)
    await erp.stop()
    async with chain(tmp_path / "state", http_uplink(erp.url)) as link:
        link.make(30)
        await link.recorder.committed()
    await erp.start()
    async with chain(tmp_path / "state", http_uplink(erp.url)) as link:
        await until(lambda: link.done, 20)
    assert erp.sequences == list(range(1, 61))
    assert len(erp.posts) == 2 or sum(len(json.loads(body)["events"]) for _, body in erp.posts) == 60
    await erp.stop()
