"""A week without ERP and MES on a simulated clock: the line works its queue, and afterwards everything arrives, with the times it had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Quality, Reading
from gateway.app.line import Line, UnitCommands, sources
from gateway.app.parts import gateway_path, make_centers, make_line, make_trackers
from gateway.app.routing import Routing
from gateway.config import Config, load
from gateway.dispatch.intake import Intake
from gateway.domain.entry import Entry
from gateway.metrics import Metrics
from gateway.outbox.forwarder import Forwarder
from gateway.outbox.recorder import Recorder
from gateway.outbox.store import Store
from gateway.seams import Receipt
from gateway.supervise import Backoff
from gateway.uplink.messages import command_from
from simulators.ledger_copy import LedgerCopy, parse_json, short_type
from tests.manual_clock import ManualClock
from tests.outbox.test_forwarder import Peer
from tests.uplink.doubles import Alerts

pytestmark = pytest.mark.slow

START = datetime(2026, 11, 23, 6, tzinfo=UTC)
DAYS = 7
EVERY_S = 600
"""Between two readings; each brings the pieces of that time, one in 30 s."""
STEP_S = 3600
AWAY = (timedelta(days=1, hours=3), timedelta(days=3, hours=20), timedelta(days=5, minutes=37))
"""When the gateway is killed; it comes back a quarter of an hour later, and the machines work on."""
AWAY_S = 900
ORDERS = 20
QUANTITY = 900
"""Pieces of each order: twenty of them are six and a quarter days of work."""
SITE = """
gateway: {id: line-pc-07, enterprise: acme, site: lyon, time_zone: Europe/Paris}
devices:
  plc-a: {driver: modbus, url: "tcp://192.0.2.1:502", tags: {run: {discrete: 0}, parts: {holding: 0, type: uint32}}}
  plc-b: {driver: modbus, url: "tcp://192.0.2.2:502", tags: {run: {discrete: 0}, parts: {holding: 0, type: uint32}}}
work_units:
  press-07:
    area: hall
    work_center: line-3
    device: plc-a
    ideal_cycle_time: 30s
    state: {from: bits, running: run}
    counts: {total: parts}
    dispatch: {end: at_quantity, next: auto}
  packer-02:
    area: hall
    work_center: line-3
    device: plc-b
    ideal_cycle_time: 30s
    state: {from: bits, running: run}
    counts: {total: parts}
    dispatch: {end: at_quantity, next: auto}
uplinks:
  plant: {type: mqtt, urls: ["mqtt://127.0.0.1:1883"], consumers: [mes]}
  erp: {type: http, url: "http://127.0.0.1:9/lineside"}
"""
UNITS = {"press-07": "plc-a", "packer-02": "plc-b"}


class Copying(Peer):
    """An ERP or MES that keeps what it takes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.copy = LedgerCopy()
        self.acknowledge: Callable[[str, str, int], str | None] = lambda consumer, epoch, sequence: None

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        receipt = await super().deliver(batch)
        for row in batch:
            self.copy.take(parse_json(row.body))
        # A consumer's acknowledgement comes on its own way, after the broker's.
        asyncio.get_running_loop().call_soon(self.acknowledge, "mes", batch[-1].epoch, batch[-1].sequence)
        return receipt


class Gateway:
    """One process: everything between the machines' readings and the two peers, but for links and page."""

    def __init__(self, config: Config, store: Store, line: Line, clock: ManualClock, peers: Mapping[str, Copying]) -> None:
        self.store, self.line, self.clock = store, line, clock
        metrics = Metrics()
        self.recorder = Recorder(
            store, gateway_id=config.gateway.id, source_of=sources(line, gateway_path(config)), clock=clock, metrics=metrics,
            snapshots=line.snapshots, after_commit=self._committed,
        )  # fmt: skip
        line.connect(self.recorder, Routing(line.trackers, Alerts()).on_event)
        targets = {name: UnitCommands(line, tracker, own_time=False) for name, tracker in line.trackers.items()}
        self.intake = Intake(targets, line.journal(), known_answer=store.known_answer, clock=clock, metrics=metrics)
        self.forwarders = {
            name: Forwarder(
                peer, reader=store, writer=self.recorder, clock=clock, metrics=metrics, alerts=Alerts(), on_link=lambda status: None,
                consumers=("mes",) if name == "plant" else (), backoff=Backoff(600, 3600, draw=lambda: 1.0),
            )
            for name, peer in peers.items()
        }  # fmt: skip
        peers["plant"].acknowledge = self.forwarders["plant"].acknowledge
        self.tasks = [asyncio.create_task(self.recorder.run())]
        self.tasks += [asyncio.create_task(forwarder.run()) for forwarder in self.forwarders.values()]
        for tracker in line.trackers.values():
            if tracker.begun:
                line.record(tracker.lost_events())

    @classmethod
    async def start(cls, config: Config, state_dir: Path, clock: ManualClock, peers: Mapping[str, Copying]) -> Gateway:
        store = await Store.open(state_dir, uplinks=tuple(config.uplinks), clock=clock, settings=config.journal)
        trackers = await make_trackers(config, store)
        line = make_line(config, trackers, await make_centers(config, store, trackers), clock, Metrics())
        return cls(config, store, line, clock, peers)

    def _committed(self, entries: Sequence[Entry]) -> None:
        self.line.committed_tags()
        for forwarder in self.forwarders.values():
            forwarder.notify()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await self.clock.advance(0.02)
                await asyncio.sleep(0.0005)

    async def settle(self) -> None:
        done = asyncio.ensure_future(self.recorder.committed())
        await self.until(done.done)

    async def kill(self) -> None:
        """Without a word: what was not committed is lost."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.store.close()


class Week:
    def __init__(self, tmp_path: Path) -> None:
        path = tmp_path / "site.yaml"
        path.write_text(SITE)
        self.config = load(path)
        self.state_dir = tmp_path / "state"
        self.clock = ManualClock(START)
        self.peers = {"plant": Copying("plant"), "erp": Copying("erp")}
        self.made = dict.fromkeys(UNITS, 0)

    def elapsed(self) -> float:
        return (self.clock.now() - START).total_seconds()

    def read(self, gateway: Gateway, at: datetime) -> None:
        """Both machines at `at`. They stand from 2 to 3 o'clock each night and make a piece every 30 s else."""
        standing = at.hour == 2
        for unit, device in UNITS.items():
            if not standing:
                self.made[unit] += EVERY_S // 30
            values = {"run": int(not standing), "parts": self.made[unit]}
            gateway.line.on_readings(device, [Reading(tag, v, Quality.GOOD, None, at) for tag, v in values.items()], False)

    async def work(self, gateway: Gateway, until_s: float) -> None:
        at = self.clock.now()
        while self.elapsed() < until_s:
            step = min(STEP_S, until_s - self.elapsed())
            await self.clock.advance(step)
            while at + timedelta(seconds=EVERY_S) <= self.clock.now():
                at += timedelta(seconds=EVERY_S)
                self.read(gateway, at)
            gateway.line.pass_time()
            await gateway.settle()

    async def orders(self, gateway: Gateway) -> None:
        commands = [
            {
                "command": "StoreAndStart", "command_id": f"erp-{unit}-{number}", "work_unit": unit, "issued_at": START.isoformat(),
                "job_order": {"job_order_id": f"OF-{number:02}-{unit}", "quantity": QUANTITY, "priority": 100 - number, "product_id": "PF"},
            }
            for unit in UNITS
            for number in range(1, ORDERS + 1)
        ]  # fmt: skip
        inbound = [command_from(command, retained=False, topic_work_unit=None) for command in commands]
        handed_in = asyncio.ensure_future(gateway.intake.handle_batch(inbound, uplink="erp", cursor="c40"))
        await gateway.until(handed_in.done)
        assert all(answer.accepted for answer in handed_in.result())


async def test_a_week_without_erp_and_mes(tmp_path: Path) -> None:
    week = Week(tmp_path)
    gateway = await Gateway.start(week.config, week.state_dir, week.clock, week.peers)
    await gateway.until(lambda: all(peer.connects for peer in week.peers.values()))
    gateway.line.pass_time()
    for unit, device in UNITS.items():
        gateway.line.on_readings(device, [Reading(t, v, Quality.GOOD, None, START) for t, v in (("run", 1), ("parts", 0))], False)
        assert unit in gateway.line.trackers
    await week.orders(gateway)
    for peer in week.peers.values():
        peer.up = False
        peer.lose()
    cut_at = gateway.store.next_sequence - 1
    for away in AWAY:
        await week.work(gateway, away.total_seconds())
        await gateway.kill()
        await week.clock.advance(AWAY_S)
        for unit in week.made:
            week.made[unit] += AWAY_S // 30
        gateway = await Gateway.start(week.config, week.state_dir, week.clock, week.peers)
        assert await gateway.store.order_cursor("erp") == "c40"
    await week.work(gateway, timedelta(days=DAYS).total_seconds())
    back_at = week.clock.now()
    assert all(len(peer.got) <= cut_at for peer in week.peers.values())

    for peer in week.peers.values():
        peer.up = True
    while not all(peer.connects == 2 for peer in week.peers.values()):
        await week.clock.advance(5)
    last = gateway.store.next_sequence - 1
    await gateway.until(lambda: all(forwarder.cursor == gateway.store.last_position for forwarder in gateway.forwarders.values()))
    await gateway.settle()
    for peer in week.peers.values():
        judge(peer, last, back_at, week.made)
    assert week.peers["plant"].copy.events == week.peers["erp"].copy.events
    await gateway.kill()


def judge(peer: Copying, last: int, back_at: datetime, made: Mapping[str, int]) -> None:
    assert peer.got == list(range(1, last + 1)), "each row once, in order, without a hole"
    report = peer.copy.report()
    assert report["clean"]
    assert report["repeats"] == 0
    orders = report["orders"]
    assert len(orders) == 2 * ORDERS
    for unit, total in made.items():
        mine = {name: order for name, order in orders.items() if order["work_unit"] == unit}
        ended = [order for order in mine.values() if order["state"] == "Ended"]
        assert len(ended) == ORDERS
        assert all(order["good"] >= QUANTITY and order["good"] == order["counted"]["good"] for order in ended)
        assert report["made"][unit]["produced"] == total, "also what was made while the gateway was away"
    for unit in made:
        events = [event for event in peer.copy.events if event["source"].endswith(unit)]
        times = [datetime.fromisoformat(event["time"]) for event in events]
        assert times == sorted(times)
        changes = [event for event in events if short_type(event) == "job.changed"]
        began = [event for event in changes if event["data"]["state"] == "Running"]
        assert [event["subject"] for event in began] == [f"OF-{number:02}-{unit}" for number in range(1, ORDERS + 1)]
        over = [event for event in changes if event["data"]["state"] == "Ended"]
        for end, next_ in zip(over, began[1:], strict=False):
            assert end["time"] == next_["time"], "the next order begins when the one before has its pieces"
        assert all(datetime.fromisoformat(event["time"]) < back_at for event in changes)
        judge_ends(events, over)


def judge_ends(events: Sequence[Mapping[str, Any]], over: Sequence[Mapping[str, Any]]) -> None:
    """An order ended at the time of the reading that brought its last piece, whenever that was told."""
    for end in over:
        good, reached = Decimal(0), None
        for event in events:
            if short_type(event) == "quantity.counted" and event.get("subject") == end["subject"] and reached is None:
                good += Decimal(str(event["data"]["good"]))
                reached = event["time"] if good >= QUANTITY else None
        assert end["time"] == reached
