"""Does the watchdog see a hang, and nothing else? Daemons whose event loop, journal writer or poller hangs for good must stop to ping
within ten seconds; daemons that are well must go on pinging on a machine that has far too much to do. Exit 1 when one does not.

    python -m tests.chaos.watchdog --each 5
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.chaos.hung import KINDS
from tests.chaos.lives import Plc, one_machine
from tests.chaos.manager import Manager
from tests.chaos.nursery import Nursery

WATCHDOG_S = 6.0
"""A shorter interval than the unit's, so that a ping is due every two seconds."""
WITHIN_S = 10.0
AFTER_S = 6.0
"""So much longer no ping may come."""
LOAD_S = 10.0
BURNERS = 3 * (os.cpu_count() or 2)
_WELL = "well"
_BURN = """
import os, tempfile
with tempfile.TemporaryFile() as file:
    while True:
        sum(range(300_000))
        file.write(b"x" * 65536)
        os.fsync(file.fileno())
"""


@dataclass
class Outcome:
    """Kind -> seconds from the hang to the last ping, of each daemon; `gaps_s`: the longest time between two pings of each that is well."""

    stopped_s: dict[str, list[float]] = field(default_factory=dict)
    gaps_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Dog:
    """One daemon. `kind` is what will hang."""

    def __init__(self, folder: Path, kind: str, number: int, plc_port: int) -> None:
        self.kind = kind
        self.folder = folder / f"{kind}-{number}"
        self.folder.mkdir()
        self.manager = Manager(self.folder)
        (self.folder / "dog.yaml").write_text(one_machine("dog-pc", plc_port, interval="200ms"))
        self.pid = 0

    async def start(self, nursery: Nursery) -> None:
        """Returns when it has committed something and pings."""
        await self.manager.open()
        run = ("run", "-c", str(self.folder / "dog.yaml"), "--state-dir", str(self.folder / "state"))
        self.pid = await nursery.start(self.folder / "gateway.log", self.kind, str(self.manager.path), *run)

    async def pings(self, count: int) -> None:
        await self.manager.until("WATCHDOG=1", len(self.manager.times("WATCHDOG=1")) + count)

    def since(self, moment: float) -> list[float]:
        return [at - moment for at in self.manager.times("WATCHDOG=1") if at >= moment]


async def run(folder: Path, each: int, *, load_s: float = LOAD_S) -> Outcome:
    outcome = Outcome()
    async with AsyncExitStack() as stack:
        plc = Plc()
        await plc.start()
        stack.push_async_callback(plc.stop)
        plc.making = True
        nursery = Nursery("tests.chaos.hung:main", environment={"WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}, preload=("drivers.modbus",))
        await nursery.open()
        stack.push_async_callback(nursery.close)
        dogs = [Dog(folder, kind, number, plc.port) for kind in KINDS for number in range(each)]
        for dog in dogs:
            await dog.start(nursery)
            stack.callback(dog.manager.close)
        for dog in dogs:
            await dog.manager.until("READY=1", 1)
            await dog.pings(2)
        await _under_load(dogs, load_s, outcome)
        await _hang(dogs, outcome)
        for dog in dogs:
            await nursery.kill(dog.pid)
    return outcome


async def _under_load(dogs: list[Dog], load_s: float, outcome: Outcome) -> None:
    """All of them are well, and have to share the machine with much else."""
    began = time.monotonic()
    with burning(BURNERS):
        await asyncio.sleep(load_s)
    await asyncio.gather(*(dog.pings(1) for dog in dogs))
    for dog in dogs:
        gap = max(later - sooner for sooner, later in pairwise([0.0, *dog.since(began)]))
        outcome.gaps_s.append(gap)
        if gap > WATCHDOG_S:
            outcome.violations.append(f"{dog.folder.name} was well and did not ping for {gap:.1f} s")


async def _hang(dogs: list[Dog], outcome: Outcome) -> None:
    began = {}
    for dog in dogs:
        began[dog.folder.name] = time.monotonic()
        os.kill(dog.pid, signal.SIGUSR1)
    await asyncio.sleep(WITHIN_S + AFTER_S)
    for dog in dogs:
        last = max(dog.since(began[dog.folder.name]), default=0.0)
        outcome.stopped_s.setdefault(dog.kind, []).append(last)
        if last > WITHIN_S:
            outcome.violations.append(f"{dog.folder.name} hangs and still pinged after {last:.1f} s")


@contextmanager
def burning(processes: int) -> Iterator[None]:
    """Processes that take all the time they get, and write to the disk."""
    with ExitStack() as stack:
        for _ in range(processes):
            child = stack.enter_context(subprocess.Popen([sys.executable, "-c", _BURN]))
            stack.callback(child.kill)
        yield


def table(outcome: Outcome) -> Iterator[str]:
    yield f"{'hangs':<10}{'daemons':>8}{'longest':>9}   seconds to the last ping, at most {WITHIN_S:g}"
    for kind, stopped in outcome.stopped_s.items():
        yield f"{kind:<10}{len(stopped):>8}{max(stopped):>9.1f}"
    yield f"{_WELL:<10}{len(outcome.gaps_s):>8}{max(outcome.gaps_s):>9.1f}   seconds between two pings under load, at most {WATCHDOG_S:g}"
    yield f"violations {len(outcome.violations)}"
    yield from (f"  {violation}" for violation in outcome.violations)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.watchdog", description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=5, help="daemons of each kind")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lineside-watchdog-") as folder:
        outcome = asyncio.run(run(Path(folder), given.each))
    print(*table(outcome), sep="\n")
    sys.exit(1 if outcome.violations else 0)


if __name__ == "__main__":
    main()
