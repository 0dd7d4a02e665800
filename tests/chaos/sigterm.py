"""SIGTERM at a random moment after READY, hundreds of times, on a daemon that subscribes to an OPC UA server and feeds a broker.

In a third of the cycles PLC and broker have just become black holes. Each time the daemon must end with 0 within five seconds, and leave
no session on the PLC: at once where the PLC can still be told, else when the session's time is over. Exit 1 when anything of this does
not hold.

    python -m tests.chaos.sigterm --cycles 300 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from simulators.faults import Fault, FaultProxy, Kind
from simulators.loopback import HOST, free_port
from tests.chaos.daemon import opcua_machine
from tests.chaos.manager import Manager
from tests.chaos.mosquitto import mosquitto
from tests.chaos.nursery import Nursery
from tests.chaos.opcua_plc import Held, Plc

BOUND_S = 5.0
MOMENT_S = 2.5
DARK_S = 1.0
"""So long at most the links have been black holes when the signal comes."""
TOLD_S = 5.0
"""A server needs a moment to forget a session that was closed; the machine may be busy."""
SESSION_END_S = 45.0
"""The daemon asks for sessions of 30 s; servers look now and then which are over."""


@dataclass
class Outcome:
    """Seconds from the signal to the end, of each cycle; `violations`: one sentence each."""

    clear_s: list[float] = field(default_factory=list)
    dark_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    forgotten_s: float = 0.0
    """After the last dark cycle, until the server held no session."""


class Sigterm:
    def __init__(self, folder: Path, plc: Plc, links: Sequence[FaultProxy], manager: Manager, nursery: Nursery, seed: int) -> None:
        self.outcome = Outcome()
        self._folder = folder
        self._plc = plc
        self._links = links
        self._manager = manager
        self._nursery = nursery
        self._random = random.Random(seed)
        self._starts = 0

    async def run(self, cycles: int, *, on_cycle: Callable[[str, float], None] = lambda kind, took: None) -> Outcome:
        """The dark ones last, so that their sessions are not mistaken for one that was left."""
        making = asyncio.create_task(self._plc.make_pieces(), name="machine")
        self._plc.making = True
        try:
            dark = cycles // 3
            for _ in range(cycles - dark):
                on_cycle("clear", await self._cycle(dark=False))
            for _ in range(dark):
                on_cycle("dark", await self._cycle(dark=True))
            await self._forgotten()
        finally:
            making.cancel()
        return self.outcome

    async def _cycle(self, *, dark: bool) -> float:
        self._starts += 1
        where = f"cycle {self._starts} ({'dark' if dark else 'clear'})"
        pid = await self._nursery.start(
            self._folder / "gateway.log", "run", "-c", str(self._folder / "term.yaml"), "--state-dir", str(self._folder / "state")
        )
        await self._manager.until("READY=1", self._starts)
        # Each third at once: while links are still being made.
        await asyncio.sleep(self._random.choice((0.0, self._random.uniform(0, 0.4), self._random.uniform(0, MOMENT_S))))
        if dark:
            await self._spoil(Kind.BLACKHOLE)
            await asyncio.sleep(self._random.uniform(0, DARK_S))
        began = time.monotonic()
        status = await self._nursery.term(pid)
        took = time.monotonic() - began
        (self.outcome.dark_s if dark else self.outcome.clear_s).append(took)
        if dark:
            await self._spoil(Kind.PASS)
        elif (held := await self._nothing_held(TOLD_S)) is not None:
            self.outcome.violations.append(f"{where}: the PLC still holds {held}")
        if status != 0:
            self.outcome.violations.append(f"{where}: the daemon ended with {status}")
        if took > BOUND_S:
            self.outcome.violations.append(f"{where}: it took {took:.2f} s")
        return took

    async def _spoil(self, kind: Kind) -> None:
        for link in self._links:
            await link.set(Fault(kind=kind))

    async def _nothing_held(self, limit_s: float) -> Held | None:
        """What the server still holds after so long; None: nothing."""
        deadline = time.monotonic() + limit_s
        while (held := await self._plc.held()) != Held(0, 0, 0):
            if time.monotonic() > deadline:
                return held
            await asyncio.sleep(0.05)
        return None

    async def _forgotten(self) -> None:
        began = time.monotonic()
        held = await self._nothing_held(SESSION_END_S)
        self.outcome.forgotten_s = time.monotonic() - began
        if held is not None:
            self.outcome.violations.append(f"{SESSION_END_S:g} s after the end the PLC still holds {held}")
        log = (self._folder / "gateway.log").read_text("utf-8", "replace")
        if "Traceback" in log:
            self.outcome.violations.append(
                f"the daemon's log has {log.count('Traceback')} tracebacks:\n{log[log.index('Traceback') :][:1500]}"
            )


@asynccontextmanager
async def rig(folder: Path, *, seed: int) -> AsyncIterator[Sigterm]:
    """A server, a broker, their proxies; all ended, whatever went wrong."""
    async with AsyncExitStack() as stack:
        plc = Plc("asyncua", folder)
        await plc.start()
        stack.push_async_callback(plc.kill)
        broker_port = await stack.enter_async_context(mosquitto(folder))
        links = [FaultProxy(HOST, plc.port), FaultProxy(HOST, broker_port)]
        for link in links:
            await link.start()
            stack.push_async_callback(link.stop)
        machine = opcua_machine("term-pc", links[0].port, f"{HOST}:{free_port()}")
        uplink = f'uplinks: {{plant: {{type: mqtt, urls: ["mqtt://{HOST}:{links[1].port}"]}}}}'
        (folder / "term.yaml").write_text(f"{machine}{uplink}\n")
        manager = Manager(folder)
        await manager.open()
        stack.callback(manager.close)
        nursery = Nursery("gateway.__main__:main", environment={"NOTIFY_SOCKET": str(manager.path)}, preload=("drivers.opcua",))
        await nursery.open()
        stack.push_async_callback(nursery.close)
        yield Sigterm(folder, plc, links, manager, nursery, seed)


def table(outcome: Outcome) -> Iterator[str]:
    yield f"{'links':<14}{'signals':>8}{'median':>10}{'p99':>8}{'longest':>9}   seconds from SIGTERM to the end"
    for name, took in (("as they are", outcome.clear_s), ("black holes", outcome.dark_s)):
        if took:
            ranked = sorted(took)
            p99 = ranked[min(int(0.99 * len(ranked)), len(ranked) - 1)]
            yield f"{name:<14}{len(ranked):>8}{ranked[len(ranked) // 2]:>10.2f}{p99:>8.2f}{ranked[-1]:>9.2f}"
    yield f"sessions that could not be closed were gone {outcome.forgotten_s:.1f} s after the last end"
    yield f"violations {len(outcome.violations)}"
    yield from (f"  {violation}" for violation in outcome.violations)


async def _main(cycles: int, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="lineside-sigterm-") as folder:
        async with rig(Path(folder), seed=seed) as running:
            outcome = await running.run(cycles, on_cycle=lambda kind, took: print(f"{kind} {took:.2f} s", flush=True))
    print(*table(outcome), sep="\n")
    return 1 if outcome.violations else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.sigterm", description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(asyncio.run(_main(given.cycles, given.seed)))


if __name__ == "__main__":
    main()
