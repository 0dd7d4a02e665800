"""Brokers that are killed, overflow, deny, refuse, fail over and hang up at every packet: what a consumer has in the end.

`make chaos`. Journal, forwarder and MQTT uplink are the daemon's; brokers are real mosquittos but for the refusals of single rows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import orjson

from gateway.logs import configure
from gateway.outbox.forwarder import Forwarder
from tests.chaos.broker_parts import DOWN, HOWS, NAMES, UP, WAYS, Cut, CuttingProxy, Mes
from tests.uplink.brokers import Behaviour, Mosquitto, StubBroker, until
from tests.uplink.conftest import UNIT, mqtt_uplink
from tests.uplink.doubles import Alerts
from tests.uplink.test_pipeline import Chain, bound, chain

LATE_S = 1.0
"""Within so long the rows of other work units are there, whatever one of them meets."""
PATIENCE_S = 90.0


@dataclass
class Outcome:
    """One run: `rows` recorded; `lost`, `out_of_order` at the consumer; `failures`: what is not as promised."""

    name: str
    rows: int = 0
    lost: int = 0
    repeats: int = 0
    out_of_order: int = 0
    resent: int = 0
    detail: str = ""
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)


@asynccontextmanager
async def acknowledging(*consumers: Mes) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(mes.acknowledge()) for mes in consumers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for mes in consumers:
            mes.away()


@asynccontextmanager
async def linked(folder: Path, *urls: str, alerts: Alerts | None = None) -> AsyncIterator[Chain]:
    """The chain with the consumer `mes` in its configuration."""
    forwarders: list[Forwarder] = []
    alerts = alerts or Alerts()
    uplink = mqtt_uplink(*urls, on_ack=bound(forwarders), consumers=["mes"], alerts=alerts)
    async with chain(folder / "state", uplink, consumers=["mes"], alerts=alerts) as link:
        forwarders.append(link.forwarder)
        yield link


def judged(name: str, link: Chain, mes: Mes, *, without: int = 0, ordered: bool = True) -> Outcome:
    """What the consumer has of all that was recorded; `without`: rows that a broker may never pass on; `ordered`: whether each row must
    come before the later ones of its work unit. It may not where a broker took rows for a consumer and lost them: they are sent again."""
    report, last = mes.copy.report(), link.store.last_position
    resent = link.metrics.registry.get_sample_value("lineside_rows_resent_total", {"uplink": "plant"}) or 0.0
    outcome = Outcome(name, last, last - without - report["rows"], report["repeats"], report["out_of_order"], int(resent))
    outcome.expect(outcome.lost == 0, f"{outcome.lost} rows never came")
    outcome.expect(outcome.out_of_order == 0 or not ordered, f"{outcome.out_of_order} rows came out of the order of their work unit")
    return outcome


async def killed(folder: Path, cycles: int, seed: int = 1) -> Outcome:
    """kill -9 while rows flow; what the broker acknowledged and had not saved is gone with it."""
    draw = random.Random(seed)
    broker = Mosquitto(folder / "broker", "persistence true", f"persistence_location {folder}/broker/", "autosave_interval 1800")
    await broker.start()
    mes = Mes(broker.port)
    async with acknowledging(mes), linked(folder, broker.url) as link:
        for _ in range(cycles):
            link.make(60)
            await asyncio.sleep(draw.uniform(0.0, 0.15))
            broker.kill()
            link.make(20)
            await broker.start()
        await until(lambda: link.done, PATIENCE_S)
        outcome = judged("killed -9", link, mes, ordered=False)
    broker.kill()
    outcome.detail = f"{cycles} kills"
    return outcome


async def overflow(folder: Path, rows: int) -> Outcome:
    """The consumer is away, the broker acknowledges everything and drops what does not fit its queue of 1,000 (mosquitto's default)."""
    broker = Mosquitto(folder / "broker", unlimited=False)
    await broker.start()
    mes = Mes(broker.port)
    mes.away()
    async with linked(folder, broker.url) as link:
        for _ in range(rows // 500):
            link.make(500)
            await link.recorder.committed()
        await until(lambda: link.forwarder._handover.position == rows, PATIENCE_S)
        mes.back()
        async with acknowledging(mes):
            await until(lambda: link.done, PATIENCE_S)
        outcome = judged("queue overflow", link, mes, ordered=False)
    broker.kill()
    outcome.expect(outcome.resent >= rows - 2_000, f"the broker lost less than it should: {outcome.resent} rows were sent again")
    outcome.detail = "acknowledged by the broker, most of them dropped by it"
    return outcome


async def denied(folder: Path, rows: int, *, hangs_up: bool, late_s: float = LATE_S) -> Outcome:
    """One work unit's events are not granted. With unlimited queues mosquitto 2.0.11 also closes the connection after each denial."""
    acl = folder / "acl"
    acl.write_text(f"topic readwrite #\ntopic deny {UNIT}/event/#\n")
    broker = Mosquitto(folder / "broker", f"acl_file {acl}", unlimited=hangs_up)
    await broker.start()
    mes = Mes(broker.port)
    alerts = Alerts()
    async with acknowledging(mes), linked(folder, broker.url, alerts=alerts) as link:
        for _ in range(rows):
            link.make(2)
            await asyncio.sleep(0.02)
        refused, granted = [s for s in range(1, 2 * rows + 1) if s % 2 == 0], [s for s in range(1, 2 * rows + 1) if s % 2]
        await until(lambda: mes.parked >= set(refused) and mes.arrived.keys() >= set(granted), PATIENCE_S)
        outcome = judged("denied, hangs up" if hangs_up else "denied", link, mes, without=len(refused))
    broker.kill()
    late = max(mes.arrived[sequence] for sequence in granted)
    outcome.detail = f"{len(mes.parked & set(refused))} of {len(refused)} refusals told; the others at most {late:.2f} s late"
    outcome.expect(set(refused) <= mes.parked, "a refusal was not told")
    outcome.expect("uplink.refused:plant:press-07" in alerts.up, "no alert")
    outcome.expect(late <= late_s, f"rows of the other unit were {late:.2f} s late")
    return outcome


async def poison(folder: Path, rows: int, *, late_s: float = LATE_S) -> Outcome:
    """One row in the middle is refused each time (0x99, payload format invalid): five tries, then quarantine; the other unit goes on."""
    poisoned, tries = 2 * (rows // 2), 0
    taken: dict[int, float] = {}

    def reason(_topic: str, _count: int) -> int:
        nonlocal tries
        event = orjson.loads(broker.published[-1][1])
        if event.get("sequence") == poisoned:
            tries += 1
            return 0x99
        taken.setdefault(event.get("sequence", 0), time.monotonic())
        return 0

    broker = StubBroker(Behaviour(reason=reason))
    await broker.start()
    outcome = Outcome("poison row")
    made: list[float] = []
    async with chain(folder / "state", mqtt_uplink(broker.url)) as link:
        await until(lambda: link.forwarder.status.state == "connected")
        for _ in range(rows):
            made.append(time.monotonic())
            link.make(2)
            await asyncio.sleep(0.02)
        await until(lambda: link.done, PATIENCE_S)
        apart = await link.store.exceptions("plant")
        outcome.rows = link.store.last_position
    await broker.stop()
    wanted = set(range(1, 2 * rows + 1)) - {poisoned}
    late = max(taken[2 * number + 1] - born for number, born in enumerate(made))
    outcome.lost = len(wanted - taken.keys())
    outcome.detail = f"{tries} tries, {len(apart)} in quarantine; the others at most {late:.2f} s late"
    outcome.expect(tries == 5 and [row.reason for row in apart] == ["0x99 payload format invalid"], "not five tries and one quarantine")
    outcome.expect(outcome.lost == 0, f"{outcome.lost} rows never came")
    outcome.expect(late <= late_s, f"rows of the other unit were {late:.2f} s late")
    return outcome


async def failover(folder: Path, rounds: int) -> Outcome:
    """Two addresses; each broker in turn is killed in the middle of the flow. The consumer listens to both."""
    brokers = [Mosquitto(folder / name) for name in ("one", "two")]
    for broker in brokers:
        await broker.start()
    consumers = [Mes(broker.port) for broker in brokers]
    whole = consumers[0]
    for other in consumers[1:]:
        other.copy, other._lock = whole.copy, whole._lock
    async with acknowledging(*consumers), linked(folder, *(broker.url for broker in brokers)) as link:
        for turn in range(rounds):
            link.make(100)
            await asyncio.sleep(0.1)
            present = brokers[turn % 2]
            present.kill()
            link.make(100)
            await until(lambda: link.forwarder._handover.position == link.store.last_position == link.recorder._position - 1, PATIENCE_S)
            await present.start()
        await until(lambda: link.done, PATIENCE_S)
        outcome = judged("fail-over", link, whole)
    for broker in brokers:
        broker.kill()
    outcome.detail = f"{rounds} times from one broker to the other"
    return outcome


async def cut(folder: Path, direction: str, type_: int, how: str) -> Outcome:
    """The connection ends before, within or after a packet of this type, the second where there are several on a connection."""
    broker = Mosquitto(folder / "broker")
    await broker.start()
    mes = Mes(broker.port)
    # Of what goes up and is confirmed the seventh: the birth message and the first live values are behind it.
    number = 7 if (direction, type_) in ((UP, 3), (DOWN, 4)) else 1
    proxy = CuttingProxy(broker.port, Cut(direction, type_, number, how))
    await proxy.start()
    url = f"mqtt://127.0.0.1:{proxy.port}"
    with mock.patch("gateway.uplink.mqtt_connection.KEEP_ALIVE_S", 1):
        async with acknowledging(mes):
            for _ in range(2):
                # The second process of the gateway's life: the first one's goodbye may have been cut.
                async with linked(folder, url) as link:
                    link.make(40)
                    await until(lambda: link.done, PATIENCE_S)
                    if NAMES[type_].startswith("PING"):
                        await until(lambda: proxy.cut.made, PATIENCE_S)
                    link.make(10)
                    await until(lambda: link.done, PATIENCE_S)
                    outcome = judged(f"cut {how} {NAMES[type_]} {direction}", link, mes)
    await proxy.stop()
    broker.kill()
    outcome.expect(proxy.cut.made, "no such packet came")
    outcome.detail = f"{proxy.connections} connections"
    return outcome


async def every_cut(folder: Path, *, hows: Sequence[str] = HOWS) -> Outcome:
    """All of them as one line."""
    whole = Outcome("cut at every packet")
    for number, ((direction, type_), how) in enumerate((way, how) for way in WAYS for how in hows):
        one = await cut(_made(folder / str(number)), direction, type_, how)
        whole.rows, whole.lost, whole.repeats = whole.rows + one.rows, whole.lost + one.lost, whole.repeats + one.repeats
        whole.out_of_order, whole.resent = whole.out_of_order + one.out_of_order, whole.resent + one.resent
        whole.failures += [f"{one.name}: {failure}" for failure in one.failures]
    whole.detail = f"{len(WAYS)} packets, {len(hows)} places"
    return whole


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def run(folder: Path, *, kills: int, rows: int, late_s: float = LATE_S) -> list[Outcome]:
    outcomes = []
    for name, start in (
        ("killed", lambda at: killed(at, kills)),
        ("overflow", lambda at: overflow(at, rows)),
        ("denied", lambda at: denied(at, 100, hangs_up=False, late_s=late_s)),
        ("hangs-up", lambda at: denied(at, 100, hangs_up=True, late_s=late_s)),
        ("poison", lambda at: poison(at, 400, late_s=late_s)),
        ("failover", lambda at: failover(at, max(kills // 5, 4))),
        ("cut", every_cut),
    ):
        outcomes.append(await start(_made(folder / name)))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> list[str]:
    lines = [f"{'run':<20} {'rows':>7} {'lost':>5} {'out of order':>13} {'repeats':>8}  detail"]
    lines += [f"{o.name:<20} {o.rows:>7} {o.lost:>5} {o.out_of_order:>13} {o.repeats:>8}  {o.detail}" for o in outcomes]
    return lines + [f"FAILED: {o.name}: {failure}" for o in outcomes for failure in o.failures]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.broker", description="What a consumer has after everything a broker can do."
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=10_000, help="recorded while the consumer is away")
    args = parser.parse_args(argv)
    configure()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = asyncio.run(run(Path(folder), kills=args.kills, rows=args.rows))
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {os.cpu_count()} cores")
    print("\n".join(table(outcomes)))
    return 1 if any(outcome.failures for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
