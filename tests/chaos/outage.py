"""A long outage: the whole daemon in this process on a manual clock, ten ledger rows a second while broker and ERP are away.

Then both come back, the clock keeps to the machine's, and the backlog drains while the machines work on. `make outage ROWS=2600000` is
72 hours. Peers are processes of their own, so that the memory measured is the gateway's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from drivers.base import Quality, Reading, Value
from gateway.app import Daemon, _leave_alone_what_stays
from gateway.config import load
from gateway.logs import configure
from gateway.outbox.store import Store
from gateway.uplink.messages import command_from
from simulators.loopback import HOST, free_port
from tests.manual_clock import ManualClock
from tests.uplink.brokers import Mosquitto

UNITS = 9
"""Each makes a piece a second, a `quantity.counted` each, and tells its order's progress every ten seconds: ten rows a second together."""
ROWS_PER_S = 10
STEP_S = 10.0
"""So much passes at once; the writer's thread is waited for in between, where it works."""
IDLE_S = 600.0
"""Connected, before the outage: what the gateway needs without a backlog."""
TICK_S = 0.005
LARGEST_BYTES = 2_000_000_000
MEMORY_MIB = 60.0
DRAIN_ROWS_PER_S = 5_000.0
LIVE_LATE_S = 2.0
LIVE_WATCH_S = 5.0
"""Live values are watched for at least so long: a short backlog is drained before a counter has moved."""

_HEAD = """\
gateway: {{id: outage-pc, enterprise: acme, site: lyon, time_zone: Europe/Paris, language: en, listen: "{host}:{page}"}}
devices:
  plc:
    driver: modbus
    url: tcp://{host}:1
    interval: 1s
    tags:
      running: {{discrete: 0}}
{tags}
work_units:
{units}
uplinks:
  plant: {{type: mqtt, urls: ["mqtt://{host}:{broker}"], consumers: [mes]}}
  erp: {{type: http, url: "http://{host}:{erp}"}}
"""
_UNIT = """\
  unit-{n:02}: {{area: hall, work_center: line-{n:02}, device: plc, ideal_cycle_time: 1s, state: {{from: bits, running: running}},
            counts: {{total: parts{n:02}}}}}
"""


class DaemonClock(ManualClock):
    """What the daemon asks of its clock (`gateway.clock.SystemClock`) beside what every part does."""

    is_unset = False


class Machines:
    """A driver (`drivers.base.Driver`) whose counters follow the clock: every unit a piece a second."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._since = clock.monotonic()

    async def connect(self) -> None:
        return

    async def read(self, tags: Sequence[str]) -> Sequence[Reading]:
        made, at = int(self._clock.monotonic() - self._since), self._clock.now()
        return [Reading(tag, True if tag == "running" else made, Quality.GOOD, None, at) for tag in tags]

    async def write(self, tag: str, value: Value) -> None:
        raise AssertionError("nothing is written here")

    async def close(self) -> None:
        return


class Rig:
    """The daemon, its clock and its peers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = DaemonClock(datetime(2026, 11, 23, 6, tzinfo=UTC))
        self.broker = Mosquitto(folder / "broker")
        self.erp_port = free_port()
        self.config = folder / "outage.yaml"
        tags = "".join(f"      parts{n:02}: {{holding: {2 * n}, type: uint32}}\n" for n in range(UNITS))
        units = "".join(_UNIT.format(n=n) for n in range(UNITS))
        self.config.write_text(
            _HEAD.format(host=HOST, page=free_port(), tags=tags, units=units, broker=self.broker.port, erp=self.erp_port)
        )
        self.highest_mib = 0.0
        self._peers: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def running(self):  # type: ignore[no-untyped-def]
        config = load(self.config)
        self.state_dir = self.folder / "state"
        machines = Machines(self.clock)
        self.store = await Store.open(self.state_dir, uplinks=tuple(config.uplinks), clock=self.clock, settings=config.journal)
        with mock.patch("gateway.app.parts.make_driver", return_value=machines):
            self.daemon = await Daemon.build(config, self.state_dir, self.store, self.clock)  # type: ignore[arg-type]
            _leave_alone_what_stays()
            stop = asyncio.Event()
            self.task = asyncio.create_task(self.daemon.run(stop), name="daemon")
            try:
                yield
            finally:
                stop.set()
                follower = asyncio.create_task(self.follow())
                try:
                    await self.task
                finally:
                    follower.cancel()
                    await self.store.close()

    async def give_orders(self) -> None:
        """One that lasts for every unit, as on a line at work: its pieces have an order to belong to."""
        commands = [
            {
                "command": "StoreAndStart", "command_id": f"c-{unit}", "work_unit": unit, "issued_at": self.clock.now().isoformat(),
                "job_order": {"job_order_id": f"OF-{unit}", "quantity": 10_000_000},
            }
            for unit in self.daemon._config.work_units
        ]  # fmt: skip
        inbound = [command_from(command, retained=False, topic_work_unit=None) for command in commands]
        given = asyncio.ensure_future(self.daemon._intake.handle_batch(inbound, uplink="erp", cursor=None))
        while not given.done():
            await self.clock.advance(0.1)
            await asyncio.sleep(0.001)
        assert all(answer.accepted for answer in given.result()), given.result()

    async def fast_forward(self, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.clock.advance(min(STEP_S, end - self.clock.monotonic()))
            waited = 0
            while self.daemon._recorder._taken is not None:
                await asyncio.sleep(0.001)
                waited += 1
                if waited % 500 == 0:
                    # A commit that failed is tried again after a pause, for which the clock has to move.
                    await self.clock.advance(0.05)
            self.look()

    async def follow(self) -> None:
        """Let the manual clock keep to the machine's."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            await self.clock.advance(now - last)
            last = now
            self.look()

    def look(self) -> float:
        """Resident memory now, in MiB. Raises what ended the daemon."""
        if self.task.done():
            self.task.result()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        self.highest_mib = max(self.highest_mib, mib)
        return mib

    # -- the peers

    async def peers_come(self) -> None:
        await self.broker.start()
        self._peers = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.outage_peers", "--broker", str(self.broker.port), "--erp", str(self.erp_port),
            "--root", "lineside/v1/acme/lyon", "--gateway", "outage-pc", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert (await self._answer())["ready"]

    async def tell_time(self) -> None:
        """Once the clock runs: from then on the consumer knows how late a value is."""
        await self.ask_peers({"clock_offset_s": self.clock.now().timestamp() - time.time()})

    async def ask_peers(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._peers is not None
        assert self._peers.stdin is not None
        self._peers.stdin.write(json.dumps(question).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._peers is not None
        assert self._peers.stdout is not None
        async with asyncio.timeout(60):
            return json.loads(await self._peers.stdout.readline())  # type: ignore[no-any-return]

    async def peers_go(self) -> None:
        if self._peers is not None:
            self._peers.stdin.close()  # type: ignore[union-attr]
            await self._peers.wait()
            self._peers = None
        self.broker.kill()

    @property
    def delivered(self) -> int:
        """Rows that every uplink is done with."""
        return min(self.store.cursor("plant"), self.store.cursor("erp"))


@dataclass
class Outcome:
    """`rows` written while the peers were away; `first_s` until the first of them was taken, `drain_s` until all were done."""

    rows: int
    bytes: int
    idle_mib: float
    outage_mib: float
    drain_mib: float
    first_s: float
    drain_s: float
    drained: dict[str, float]
    """Uplink -> rows a second."""
    live: dict[str, float]
    mes: dict[str, int]
    erp: dict[str, int]
    last: int
    written_s: float

    @property
    def rate(self) -> float:
        return min(self.drained.values())


async def run(rows: int, folder: Path, *, idle_s: float = IDLE_S) -> Outcome:
    rig = Rig(folder)
    try:
        async with rig.running():
            return await _outage(rig, rows, idle_s)
    finally:
        await rig.peers_go()


async def _outage(rig: Rig, rows: int, idle_s: float) -> Outcome:
    await rig.give_orders()
    await rig.fast_forward(idle_s)
    idle_mib, rig.highest_mib = rig.look(), 0.0
    before, began = rig.store.last_position, time.monotonic()
    while (left := rows - (rig.store.last_position - before)) > 0:
        await rig.fast_forward(left / ROWS_PER_S)
    written_s, outage_mib = time.monotonic() - began, rig.highest_mib
    behind = rig.store.last_position
    size = await rig.store.size()
    rig.highest_mib = 0.0
    # The clock stands until both listen: rows that went out before would come again, behind younger ones.
    await rig.peers_come()
    follower = asyncio.create_task(rig.follow(), name="clock")
    began = time.monotonic()
    await rig.tell_time()
    first: dict[str, float] = {}
    done: dict[str, float] = {}
    started = {name: rig.store.cursor(name) for name in ("plant", "erp")}
    while len(done) < 2 or time.monotonic() - began < LIVE_WATCH_S:
        await asyncio.sleep(0.02)
        now = time.monotonic()
        for name, begin in started.items():
            cursor = rig.daemon._forwarders[name]._handover.position if name not in first else rig.store.cursor(name)
            if cursor > begin:
                first.setdefault(name, now)
            if rig.store.cursor(name) >= behind:
                done.setdefault(name, now)
        if follower.done():
            follower.result()
    report = await rig.ask_peers({})
    last = rig.store.last_position
    async with asyncio.timeout(60):
        while rig.delivered < last:
            await asyncio.sleep(0.05)
    final = await rig.ask_peers({})
    follower.cancel()
    return Outcome(
        rows=behind - before, bytes=size, idle_mib=idle_mib, outage_mib=outage_mib, drain_mib=rig.highest_mib,
        first_s=max(first.values()) - began, drain_s=max(done.values()) - began,
        drained={name: (behind - started[name]) / (done[name] - first[name]) for name in done},
        live=report["live"], mes=final["mes"], erp=final["erp"], last=last, written_s=written_s,
    )  # fmt: skip


def failures(outcome: Outcome, *, drain_rows_per_s: float = DRAIN_ROWS_PER_S, live_late_s: float = LIVE_LATE_S) -> Iterator[str]:
    """What is not as promised."""
    for place in ("mes", "erp"):
        report = getattr(outcome, place)
        if report["mark"] < outcome.last:
            yield f"{place} has no row {report['mark'] + 1} of {outcome.last}"
        if report["out_of_order"]:
            yield f"{place} got {report['out_of_order']} rows out of the order of their work unit"
    if outcome.bytes > LARGEST_BYTES:
        yield f"the journal took {outcome.bytes} bytes"
    for what, mib in (("outage", outcome.outage_mib), ("drain", outcome.drain_mib)):
        if mib > outcome.idle_mib + MEMORY_MIB:
            yield f"memory during the {what}: {mib:.0f} MiB, idle {outcome.idle_mib:.0f}"
    if outcome.rate < drain_rows_per_s:
        yield f"drained {outcome.rate:.0f} rows a second"
    if not outcome.live["count"]:
        yield "no live value came while the backlog drained"
    elif outcome.live["worst_s"] > live_late_s:
        yield f"a live value was {outcome.live['worst_s']:.2f} s late"


def table(outcome: Outcome) -> Iterator[str]:
    hours = outcome.rows / ROWS_PER_S / 3600
    yield f"rows written while away      {outcome.rows}  ({hours:.1f} h at {ROWS_PER_S} a second, in {outcome.written_s:.0f} s)"
    yield f"journal                      {outcome.bytes / 1e6:.0f} MB, {outcome.bytes / max(outcome.rows, 1):.0f} bytes a row"
    yield f"memory idle, outage, drain   {outcome.idle_mib:.0f}, {outcome.outage_mib:.0f}, {outcome.drain_mib:.0f} MiB"
    yield f"first rows taken after       {outcome.first_s:.2f} s"
    for name, rate in outcome.drained.items():
        yield f"drained to {name:<17} {rate:.0f} rows/s"
    yield f"live values meanwhile        {outcome.live}"
    for place in ("mes", "erp"):
        yield f"{place:<28} {getattr(outcome, place)}"


def main(argv: Sequence[str] | None = None, out: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    args = parser.parse_args(argv)
    configure()
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(run(args.rows, Path(folder)))
    out(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for line in table(outcome):
        out(line)
    wrong = list(failures(outcome))
    for line in wrong:
        out(f"FAILED: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
