"""Sixteen kinds of bad Modbus reply against the real driver, poller and writer: no wrong value, no write twice.

Several devices of `modbus_server` answer badly to a share of the requests, `--per-kind` times for each kind, in an order drawn from
`--seed`, while set points are written and read back through the same link. The driver is configured with a time-out of 50 ms;
only the pauses between polls and between tries of connecting are cut short. Then a link whose peer is gone without a word, at the
usual time-outs. Exit 1 when anything of what is promised does not hold.

    python -m tests.chaos.modbus --per-kind 1000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from drivers import make_driver
from drivers.base import Driver, Quality, Reading
from drivers.modbus_settings import ModbusSettings
from gateway.acquisition.poller import Poller
from gateway.clock import SystemClock
from gateway.dispatch.writing import DeviceWriter
from gateway.domain import equipment
from gateway.domain.counters import CounterReader
from gateway.metrics import Metrics
from gateway.supervise import LinkState, LinkStatus
from simulators.faults import Fault, FaultProxy
from simulators.faults import Kind as LinkFault
from simulators.loopback import HOST
from tests.chaos.modbus_server import EXCEPTIONS, KINDS, POISON_BIT, RTU_KINDS, WRITE_SHARE, Device, Gateway, Kind, RtuDevice

TIMEOUT_S = 0.05
SILENCE_S = 3 * TIMEOUT_S
SHARE = 0.25
DEVICES = 16
BITS = range(32)
HALF_OPEN_LIMIT_S = 5.0
EXCEPTION_LOSSES = 0.1
REFUSED = ("cannot be trusted", "nothing readable")
"""In the words of the driver's errors."""


class Tracebacks(logging.Handler):
    """What lands in asyncio's own log was caught by nobody: a technician would find a traceback for each."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.found[record.getMessage().splitlines()[0]] += 1


class HurriedClock(SystemClock):
    """Waits that protect a PLC from us would make hours of these thousands of reconnections; time-outs stay what they are."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.005))


TAGS: dict[str, dict[str, Any]] = {
    "holding_stamp": {"holding": 0, "type": "uint32"},
    "holding_check": {"holding": 2, "type": "uint32"},
    "pieces": {"holding": 4, "type": "uint32"},
    "setpoint": {"holding": 8, "type": "uint32", "writable": True},
    "input_stamp": {"input": 0, "type": "uint32"},
    "input_check": {"input": 2, "type": "uint32"},
    **{f"coil{bit}": {"coil": bit} for bit in BITS},
    **{f"discrete{bit}": {"discrete": bit} for bit in BITS},
}
STAMPS = {"holding": 3, "input": 4, "coil": 1, "discrete": 2}


def settings_for(device: Device, port: int, timeout_s: float, interval_s: float) -> ModbusSettings:
    return ModbusSettings.model_validate(
        {
            "driver": "modbus", "url": f"{device.framing}://{HOST}:{port}", "unit_id": device.unit_id,
            "timeout": timeout_s, "interval": interval_s, "tags": TAGS,
        }
    )  # fmt: skip


@dataclass
class Outcome:
    """What became of it all, over all devices."""

    given: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    """(read or write, kind) -> bad replies given."""
    became: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    """(kind, what the gateway made of it) -> how often, for bad replies to reads."""
    values: int = 0
    """Good readings, all checked."""
    wrong: list[str] = field(default_factory=list)
    """Values that no honest reply said, and everything else that must not happen."""
    writes: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    requests: int = 0
    connections: int = 0
    seconds: float = 0.0
    half_open: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Fault of the link -> seconds until it was found, seconds until data was back."""


class Watch:
    """One device's driver, poller and writer, and the check of everything they say."""

    def __init__(self, name: str, device: Device, outcome: Outcome) -> None:
        self._name = name
        self._device = device
        self._outcome = outcome
        self._newest = dict.fromkeys(STAMPS.values(), 0)
        self._clock = HurriedClock()
        self._counter = CounterReader(equipment.Counter("pieces", bits=32, signed=False))
        self._counted = 0
        self.pieces = 0
        self.polls = 0

    async def run(self, port: int, values: Sequence[int]) -> None:
        """Poll and write `values`, until all bad replies are given; then look once more at an honest device."""
        settings = settings_for(self._device, port, TIMEOUT_S, 0.01)

        def driver() -> Driver:
            return make_driver(settings, self._clock, name=self._name, secrets=lambda secret: "")

        poller = Poller(
            self._name, driver, tuple(TAGS), 0.01, self._clock, Metrics(), self._on_readings, self._on_link, settings.peer
        )  # fmt: skip
        polling = asyncio.create_task(poller.run(), name=f"poll {self._name}")
        try:
            await self._write_all(values, DeviceWriter(self._name, lambda: poller.driver, self._clock))
            while self._device.reads:
                await asyncio.sleep(0.02)
            self._device.writes.clear()
            self._device.running = False
            settled = self.polls + 3
            async with asyncio.timeout(20):
                while self.polls < settled:
                    await asyncio.sleep(0.02)
        finally:
            if polling.done():
                polling.result()
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        self._settle()

    async def _write_all(self, values: Sequence[int], writer: DeviceWriter) -> None:
        for value in values:
            while not writer.is_up:
                await asyncio.sleep(0.01)
            problem = await writer.write("setpoint", value)
            seen = self._device.written[value]
            if problem is None and self._device.setpoint != value:
                self._wrong(f"set point {value} is called written, the device has {self._device.setpoint}")
            if problem is None and seen != 1:
                self._wrong(f"set point {value} is called written, {seen} requests brought it")
            # The link was already gone when the request should have left.
            self._outcome.writes["confirmed" if problem is None else "told as failed" if seen else "never sent"] += 1

    def _on_readings(self, device: str, batch: Sequence[Reading], pushed: bool) -> None:
        found = {reading.tag: reading for reading in batch}
        good = {tag: reading.value for tag, reading in found.items() if reading.quality is Quality.GOOD}
        self._outcome.values += len(good)
        for table in ("holding", "input"):
            if f"{table}_stamp" in good:
                self._check(table, good[f"{table}_stamp"], good.get(f"{table}_check"), 32)
        for table in ("coil", "discrete"):
            bits = [good.get(f"{table}{bit}") for bit in BITS]
            if None not in bits:
                number = sum(int(bool(value)) << bit for bit, value in enumerate(bits))
                self._check(table, number & 0xFFFF, number >> 16, 16)
            elif set(bits) != {None}:
                self._wrong(f"{table}: one reply became half good")
        if "pieces" in good:
            self._count(good["pieces"])
        if len(good) == len(TAGS):
            self.polls += 1
        elif not all(found[tag].detail == "link lost" for tag in found):
            self._attribute("BAD quality")

    def _count(self, value: object) -> None:
        assert isinstance(value, int)
        step = self._counter.read(value, self.polls, None, 1)
        self._counted += value if step.baseline else int(step.delta or 0)
        if step.kind is not None:
            self._wrong(f"the counter of pieces made a {step.kind}")
        self.pieces = value

    def _check(self, table: str, stamp: object, check: object, width: int) -> None:
        assert isinstance(stamp, int)
        function = STAMPS[table]
        if check != ~stamp & ((1 << width) - 1):
            self._wrong(f"{table}: stamp {stamp:#x} with check {check}")
        elif stamp not in self._device.honest[function]:
            self._wrong(f"{table}: stamp {stamp:#x}, which no honest reply had")
        elif stamp <= self._newest[function]:
            self._wrong(f"{table}: stamp {stamp:#x} after {self._newest[function]:#x}")
        else:
            self._newest[function] = stamp

    def _on_link(self, status: LinkStatus) -> None:
        if status.state is LinkState.SILENT:
            self._attribute("no answer")
        elif status.state is LinkState.DISCONNECTED and status.error:
            self._attribute("refused" if any(words in status.error for words in REFUSED) else "link lost")

    def _attribute(self, what: str) -> None:
        """The newest bad reply is why."""
        kind, self._device.last_bad = self._device.last_bad, None
        if kind is not None:
            self._outcome.became[kind, what] += 1

    def _settle(self) -> None:
        device, outcome = self._device, self._outcome
        if not self.pieces == self._counted == device.pieces:
            self._wrong(f"pieces at the end: shown {self.pieces}, counted {self._counted}, made {device.pieces}")
        if max(device.honest[1], default=0) >= POISON_BIT:
            raise RuntimeError("too many requests for 15 bits of stamp: more devices, or fewer replies of each kind")
        outcome.repeated += sum(times - 1 for times in device.written.values())
        outcome.requests += device.requests
        outcome.connections += device.connections

    def _wrong(self, what: str) -> None:
        self._outcome.wrong.append(f"{self._name}, after {self._device.last_bad or 'honest replies'}: {what}")


def _shares(kinds: Sequence[Kind], per_kind: int, devices: int, rng: random.Random) -> list[list[Kind]]:
    """`per_kind` of each kind, in random order, dealt out to the devices."""
    deck = [kind for kind in kinds for _ in range(per_kind)]
    rng.shuffle(deck)
    return [deck[number::devices] for number in range(devices)]


async def replies(per_kind: int, writes_per_kind: int, seed: int, devices: int = DEVICES, layout: str = "tcp") -> Outcome:
    """Every kind of bad reply, `per_kind` times to reads and `writes_per_kind` times to writes."""
    kinds, make = (RTU_KINDS, RtuDevice) if layout == "rtu+tcp" else (KINDS, Device)
    outcome = Outcome()
    rng = random.Random(seed)
    reads, writes = (_shares(kinds, count, devices, rng) for count in (per_kind, writes_per_kind))
    for what, decks in (("read", reads), ("write", writes)):
        outcome.given.update((what, kind) for deck in decks for kind in deck)
    made = [
        make(random.Random(rng.random()), reads[number], writes[number], share=SHARE, silence_s=SILENCE_S, unit_id=number + 1)
        for number in range(devices)
    ]
    serving = [Gateway(made).serve] if layout == "gateway" else [device.serve for device in made]
    servers = [await asyncio.start_server(serve, HOST, 0) for serve in serving]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, device in enumerate(made):
            # Values nobody else writes: a request that comes twice is seen by its value.
            values = range(1, int(len(device.writes) / WRITE_SHARE) + 1)
            watch = Watch(f"plc-{number}", device, outcome)
            group.create_task(watch.run(ports[number % len(ports)], values), name=f"plc-{number}")
    outcome.seconds = time.monotonic() - began
    for server in servers:
        server.close()
    return outcome


async def half_open(fault: LinkFault) -> tuple[float, float]:
    """Seconds until a peer that is gone without a word is found, and until there is data after it came back; usual time-outs.

    Raises TimeoutError after three times the limit.
    """
    device = Device(random.Random(0), [], [], share=0.0, silence_s=0.0)
    server = await asyncio.start_server(device.serve, HOST, 0)
    proxy = FaultProxy(HOST, server.sockets[0].getsockname()[1])
    await proxy.start()
    settings, clock = settings_for(device, proxy.port, 1.0, 1.0), SystemClock()
    good, bad = asyncio.Event(), asyncio.Event()

    def on_readings(name: str, batch: Sequence[Reading], pushed: bool) -> None:
        (good if all(reading.quality is Quality.GOOD for reading in batch) else bad).set()

    def driver() -> Driver:
        return make_driver(settings, clock, name="plc", secrets=lambda secret: "")

    poller = Poller("plc", driver, tuple(TAGS), 1.0, clock, Metrics(), on_readings, lambda status: None, settings.peer)
    polling = asyncio.create_task(poller.run())
    times = []
    try:
        for change, awaited in ((Fault(), good), (Fault(kind=fault), bad), (Fault(), good)):
            await proxy.set(change)
            awaited.clear()
            began = time.monotonic()
            async with asyncio.timeout(3 * HALF_OPEN_LIMIT_S):
                await awaited.wait()
            times.append(time.monotonic() - began)
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        await proxy.stop()
        server.close()
    return times[1], times[2]


def table(outcome: Outcome) -> Iterator[str]:
    columns = sorted({what for _, what in outcome.became})
    yield f"{'bad reply':<20}{'to reads':>10}{'to writes':>11}" + "".join(f"{what:>13}" for what in columns)
    for kind in dict.fromkeys(kind for _, kind in sorted(outcome.given, key=lambda given: list(Kind).index(given[1]))):
        row = f"{kind:<20}{outcome.given['read', kind]:>10}{outcome.given['write', kind]:>11}"
        yield row + "".join(f"{outcome.became[kind, what] or '':>13}" for what in columns)
    yield f"{outcome.requests} requests over {outcome.connections} connections in {outcome.seconds:.0f} s"
    yield f"{outcome.values} good values checked"
    writes = ", ".join(f"{count} {what}" for what, count in sorted(outcome.writes.items()))
    yield f"writes: {writes}; repeated on the wire: {outcome.repeated}"
    for fault, (found, back) in outcome.half_open.items():
        yield f"{fault}: found after {found:.1f} s, data back {back:.1f} s after the link's return"
    yield f"wrong values and other violations: {len(outcome.wrong)}"


def failures(outcome: Outcome, *, exception_losses: float = EXCEPTION_LOSSES) -> Iterator[str]:
    """What must not be. `exception_losses`: share of exceptions that may cost the link all the same, since a device time-out of 50 ms is
    a real one where the machine is busy."""
    yield from outcome.wrong[:20]
    if outcome.repeated:
        yield f"{outcome.repeated} write requests came twice"
    if outcome.writes["never sent"] > sum(outcome.writes.values()) / 2:
        yield "most writes never reached the wire: nothing was shown"
    for kind in EXCEPTIONS:
        # A few belong to the second of two replies just before.
        lost = outcome.became[kind, "refused"] + outcome.became[kind, "no answer"]
        if lost > max(outcome.given["read", kind] * exception_losses, 2):
            yield f"{kind} cost the link {lost} times, which is fine then"
    for fault, times in outcome.half_open.items():
        if max(times) > HALF_OPEN_LIMIT_S:
            yield f"{fault}: found after {times[0]:.1f} s, back after {times[1]:.1f} s, the limit is {HALF_OPEN_LIMIT_S:g} s"


async def run(per_kind: int, writes_per_kind: int, seed: int, devices: int = DEVICES, layout: str = "tcp") -> Outcome:
    tracebacks = Tracebacks()
    logger = logging.getLogger("asyncio")
    logger.addHandler(tracebacks)
    logger.propagate = False
    try:
        outcome = await replies(per_kind, writes_per_kind, seed, devices, layout)
    finally:
        logger.removeHandler(tracebacks)
        logger.propagate = True
    outcome.wrong += [f"{times} times in the log: {what}" for what, times in tracebacks.found.items()]
    for fault in (LinkFault.HALF_OPEN, LinkFault.BLACKHOLE):
        outcome.half_open[fault] = await half_open(fault)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.modbus", description=__doc__.splitlines()[0])
    parser.add_argument("--per-kind", type=int, default=1000, help="bad replies of each kind to reads (default 1000)")
    parser.add_argument("--writes-per-kind", type=int, help="bad replies of each kind to writes (default a tenth of that)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument(
        "--layout",
        choices=("tcp", "rtu+tcp", "gateway"),
        default="tcp",
        help="rtu+tcp: serial framing, which has eleven of the kinds; gateway: all devices are units behind one address",
    )
    given = parser.parse_args()
    # Every bad reply is an outage: told a hundred times a second they bury what the run has to say.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    writes = max(given.per_kind // 10, 1) if given.writes_per_kind is None else given.writes_per_kind
    outcome = asyncio.run(run(given.per_kind, writes, given.seed, given.devices, given.layout))
    print(f"{given.layout}, seed {given.seed}", *table(outcome), sep="\n")
    wrong = list(failures(outcome))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
