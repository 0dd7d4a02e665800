"""Links, servers and PLC programs that die in turn, below the whole daemon: data comes back, nothing is lost, nothing is left behind.

Each cycle spoils the link of one OPC UA machine in one way, drawn from `--seed` in rounds that hold each way once, while the machine
goes on making ten pieces a second. After the link's return the pieces must be counted within `--within` seconds and then equal the
PLC's; meanwhile a link must never count as up while nothing is counted; tasks, files and threads of the daemon and what the server
holds for it must be the same after each cycle. Exit 1 when anything of this does not hold.

    python -m tests.chaos.opcua --cycles 300 --server asyncua --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import aiohttp

from simulators.faults import Fault as LinkFault
from simulators.faults import FaultProxy, Kind
from simulators.loopback import HOST
from tests.chaos.daemon import Daemon, Footprint, Look
from tests.chaos.opcua_plc import SERVERS, Held, Plc

WITHIN_S = 5.0
"""After the link's return, and the longest a link may count as up while a moving counter does not move."""
SESSION_END_S = 45.0
"""The daemon asks for sessions of 30 s; servers look now and then which are over."""
_LOOK_S = 0.1
_SETTLE_S = 5.0


class Fault(StrEnum):
    BLACKHOLE = "blackhole"
    RESET = "reset"
    FREEZE = "freeze"
    KILL = "kill"
    DOWNLOAD = "download"


@dataclass(frozen=True)
class Cycle:
    number: int
    fault: Fault
    held_s: float
    back_s: float


@dataclass
class Outcome:
    """`violations`: one sentence each. `footprints`, `sessions`: before the first cycle and after each."""

    cycles: list[Cycle] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    silent_deaths: int = 0
    plc: int = 0
    counted: int = 0
    reconnects: int = 0


class Watch:
    """Scrapes the daemon all the time; what it sees last is `now`."""

    def __init__(self, daemon: Daemon, plc: Plc, outcome: Outcome) -> None:
        self._daemon = daemon
        self._plc = plc
        self._outcome = outcome
        self.base = plc.total
        self.now = Look(0, False, 0, 0, 0)
        self.cycle = 0
        self._moved_at = -math.inf
        self._told = False

    async def run(self) -> None:
        while True:
            self.take(await self._daemon.look(), time.monotonic())
            await asyncio.sleep(_LOOK_S)

    def take(self, look: Look, now: float) -> None:
        moves = look.counted != self.now.counted or self._moved_at == -math.inf
        if moves or not look.up or look.refused_tags or not self._plc.making:
            self._moved_at, self._told = now, False
        if now - self._moved_at > WITHIN_S and not self._told:
            self._told = True
            self._outcome.silent_deaths += 1
            self._outcome.violations.append(f"cycle {self.cycle}: the link counts as up, but nothing was counted for {WITHIN_S:g} s")
        if look.counted > self._plc.total - self.base:
            self._outcome.violations.append(f"cycle {self.cycle}: {look.counted} pieces counted of {self._plc.total - self.base}")
        self.now = look

    async def until(self, true: Callable[[Look], bool], limit_s: float) -> float | None:
        """Seconds until it was true; None: it was not within the limit."""
        start = time.monotonic()
        while not true(self.now):
            if time.monotonic() - start > limit_s:
                return None
            await asyncio.sleep(_LOOK_S / 2)
        return time.monotonic() - start


class Chaos:
    """`hold_s`: for how long a fault lasts, from and to; a reset and a kill last between nothing and half of that."""

    def __init__(
        self,
        plc: Plc,
        proxy: FaultProxy,
        daemon: Daemon,
        *,
        seed: int,
        hold_s: tuple[float, float],
        within_s: float = WITHIN_S,
        faults: Sequence[Fault] = tuple(Fault),
    ) -> None:
        self.outcome = Outcome()
        self._plc = plc
        self._proxy = proxy
        self._daemon = daemon
        self._random = random.Random(seed)
        self._hold_s = hold_s
        self._within_s = within_s
        self._watch = Watch(daemon, plc, self.outcome)
        self._held = Held(1, 1, 1)
        """What the server holds for a link that nothing has spoiled yet."""
        self._kinds = list(faults)
        self._faults: dict[Fault, Callable[[float], Awaitable[None]]] = {
            Fault.BLACKHOLE: self._blackhole, Fault.RESET: self._reset, Fault.FREEZE: self._freeze, Fault.KILL: self._kill,
            Fault.DOWNLOAD: self._download,
        }  # fmt: skip

    async def run(self, cycles: int, *, on_cycle: Callable[[Cycle], None] = lambda cycle: None, drain: bool = True) -> Outcome:
        """`drain`: wait at the end until the server has forgotten the sessions of broken links."""
        making = asyncio.create_task(self._plc.make_pieces(), name="machine")
        watching = asyncio.create_task(self._watch.run(), name="watch")
        try:
            if await self._watch.until(lambda look: look.up, 20) is None:
                raise RuntimeError(f"the daemon found no link at the start:\n{self._daemon.log()[-3000:]}")
            self._plc.making = True
            await asyncio.sleep(1)
            await self._compare("at the start")
            order: list[Fault] = []
            for number in range(1, cycles + 1):
                order = order or self._random.sample(self._kinds, len(self._kinds))
                on_cycle(await self._cycle(number, order.pop()))
                if watching.done():
                    watching.result()
            if drain:
                await self._drained()
        finally:
            for task in (making, watching):
                task.cancel()
            await asyncio.gather(making, watching, return_exceptions=True)
        self.outcome.reconnects = self._watch.now.reconnects
        await self._end(drained=drain)
        return self.outcome

    async def _cycle(self, number: int, fault: Fault) -> Cycle:
        self._watch.cycle = number
        low, high = self._hold_s
        held_s = self._random.uniform(0, high / 2) if fault in (Fault.RESET, Fault.KILL) else self._random.uniform(low, high)
        where = f"cycle {number} ({fault}, {held_s:.1f} s)"
        await self._faults[fault](held_s)
        there = self._plc.total - self._watch.base
        # All pieces made so far, and one that was made after the link's return.
        back_s = await self._watch.until(lambda look: look.up and look.counted > there, self._within_s + 30)
        if back_s is None or back_s > self._within_s:
            found = "never" if back_s is None else f"only {back_s:.1f} s"
            self.outcome.violations.append(f"{where}: data came back {found} after the link's return")
        await self._compare(where)
        cycle = Cycle(number, fault, held_s, self._within_s + 30 if back_s is None else back_s)
        self.outcome.cycles.append(cycle)
        return cycle

    async def _compare(self, where: str) -> None:
        """The machine stands for a moment: pieces are the same on both sides, and nothing more is held than at the start."""
        self._plc.making = False
        made = self._plc.total - self._watch.base
        if await self._watch.until(lambda look: look.counted == made and not look.refused_tags, _SETTLE_S) is None:
            look = self._watch.now
            self.outcome.violations.append(f"{where}: PLC {made} pieces, gateway {look.counted}; refused tags: {look.refused_tags}")
        first = self.outcome.footprints[0] if self.outcome.footprints else None
        self.outcome.plc, self.outcome.counted = made, self._watch.now.counted
        footprint, held = await self._steady(first)
        self.outcome.footprints.append(footprint)
        self.outcome.sessions.append(held.sessions)
        self.outcome.memory_mib.append(self._daemon.memory_mib())
        if first is None:
            self._held = held
        elif not footprint.is_like(first):
            self.outcome.violations.append(f"{where}: the daemon holds {footprint}, at the start {first}")
        if held.channels != 1 or (first is None and held.sessions != 1):
            self.outcome.violations.append(f"{where}: the server holds {held} for one link")
        self._plc.making = True

    async def _steady(self, first: Footprint | None) -> tuple[Footprint, Held]:
        """What is held once goodbyes are said; the last look where that does not come about. At the start what is held most of the time:
        a commit or a read that is just under way is a task more."""
        deadline = time.monotonic() + _SETTLE_S
        looks: list[Footprint] = []
        while True:
            footprint, held = await self._daemon.footprint(), await self._plc.held()
            looks.append(footprint)
            if time.monotonic() > deadline or (first is not None and footprint.is_like(first) and held.channels == 1):
                return footprint, held
            if first is None and len(looks) == 9:
                return statistics.mode(looks), held
            await asyncio.sleep(0.17)

    async def _drained(self) -> None:
        deadline = time.monotonic() + SESSION_END_S
        while (held := await self._plc.held()) != self._held:
            if time.monotonic() > deadline:
                self.outcome.violations.append(f"at the end the server holds {held}")
                break
            await asyncio.sleep(1)
        # Half a minute has passed: the channel was renewed meanwhile.
        await self._compare("at the end")

    async def _end(self, *, drained: bool) -> None:
        if (status := await self._daemon.stop()) != 0:
            self.outcome.violations.append(f"the daemon ended with {status} instead of 0")
        if tracebacks := self._daemon.tracebacks():
            self.outcome.violations.append(f"the daemon's log has {tracebacks} tracebacks")
        held = await self._plc.held()
        if held.channels or (drained and held != Held(0, 0, 0)):
            self.outcome.violations.append(f"after the daemon's end the server still holds {held}")

    # --- the faults: each returns at the moment of the link's return ----------------------------------------------------------

    async def _blackhole(self, held_s: float) -> None:
        await self._spoil(Kind.BLACKHOLE, held_s)

    async def _reset(self, held_s: float) -> None:
        await self._spoil(Kind.RESET, held_s)

    async def _spoil(self, kind: Kind, held_s: float) -> None:
        await self._proxy.set(LinkFault(kind=kind))
        await asyncio.sleep(held_s)
        await self._proxy.set(LinkFault())

    async def _freeze(self, held_s: float) -> None:
        self._plc.freeze()
        await asyncio.sleep(held_s)
        self._plc.thaw()

    async def _kill(self, held_s: float) -> None:
        await self._plc.kill()
        await asyncio.sleep(held_s)
        await self._plc.start()

    async def _download(self, held_s: float) -> None:
        self._plc.program(there=False)
        shown_s = await self._watch.until(lambda look: look.refused_tags > 0 or not look.up, held_s + _SETTLE_S)
        if shown_s is None:
            self.outcome.violations.append(f"cycle {self._watch.cycle}: nodes are gone and nothing shows it")
        else:
            await asyncio.sleep(max(0.0, held_s - shown_s))
        self._plc.program(there=True)


@asynccontextmanager
async def chaos(server: str, folder: Path, *, mode: str = "subscribe", **options: object) -> AsyncIterator[Chaos]:
    """A server, a proxy and a daemon up; all ended, whatever went wrong."""
    plc = Plc(server, folder)
    proxy = FaultProxy(HOST, plc.port)
    # One connection: a second one would be a task and a file of the daemon that come and go.
    one = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=one, timeout=aiohttp.ClientTimeout(total=20)) as http:
        daemon = Daemon(folder, proxy.port, http, mode=mode)
        try:
            await proxy.start()
            await asyncio.gather(plc.start(), daemon.start())
            yield Chaos(plc, proxy, daemon, **options)  # type: ignore[arg-type]
        finally:
            await daemon.stop()
            await proxy.stop()
            await plc.kill()


def table(outcome: Outcome) -> str:
    """What a run found, for a person."""
    lines = [f"{'fault':<10} {'cycles':>6} {'held, s':>12} {'back after, s: median':>22} {'worst':>6}"]
    for fault in Fault:
        cycles = [cycle for cycle in outcome.cycles if cycle.fault is fault]
        if cycles:
            back = [cycle.back_s for cycle in cycles]
            held = f"{min(cycle.held_s for cycle in cycles):.1f} to {max(cycle.held_s for cycle in cycles):.1f}"
            lines.append(f"{fault:<10} {len(cycles):>6} {held:>12} {statistics.median(back):>22.2f} {max(back):>6.2f}")
    lines += ["", f"{'':<22} {'start':>7} {'end':>7} {'most':>7}"]
    for name in ("tasks", "files", "threads"):
        row = [getattr(footprint, name) for footprint in outcome.footprints]
        lines.append(f"{f'{name} of the daemon':<22} {row[0]:>7} {row[-1]:>7} {max(row):>7}")
    lines.append(f"{'sessions on the server':<22} {outcome.sessions[0]:>7} {outcome.sessions[-1]:>7} {max(outcome.sessions):>7}")
    memory = outcome.memory_mib
    lines.append(f"{'memory, MiB':<22} {memory[0]:>7.1f} {memory[-1]:>7.1f} {max(memory):>7.1f}")
    lines += ["", f"pieces: PLC {outcome.plc}, gateway {outcome.counted}; reconnects {outcome.reconnects}"]
    lines.append(f"silent deaths {outcome.silent_deaths}, violations {len(outcome.violations)}")
    return "\n".join([*lines, *(f"  {violation}" for violation in outcome.violations)])


async def run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="lineside-chaos-") as folder:
        async with chaos(
            args.server, Path(folder), mode=args.mode, seed=args.seed, hold_s=tuple(args.hold), within_s=args.within, faults=args.only
        ) as running:
            outcome = await running.run(args.cycles, on_cycle=_tell)
    print(table(outcome))
    return 1 if outcome.violations else 0


def _tell(cycle: Cycle) -> None:
    print(f"{cycle.number:>4} {cycle.fault:<10} {cycle.held_s:>4.1f} s, back after {cycle.back_s:.2f} s", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.opcua", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--server", choices=SERVERS, default=SERVERS[0])
    parser.add_argument("--mode", choices=("subscribe", "poll"), default="subscribe")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hold", type=float, nargs=2, default=(2.5, 6.0), metavar=("FROM", "TO"), help="seconds a fault lasts")
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="SECONDS", help="until data must be back")
    parser.add_argument("--only", type=Fault, nargs="+", choices=list(Fault), default=list(Fault), help="these faults alone")
    return asyncio.run(run(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
