"""`kill -9` of the whole daemon, below an ERP that exchanges files: a PLC that goes on counting, folders, orders of a few pieces.

The ERP writes an order file when a machine has too few orders, sends old files again under other names, and posts each confirmation once,
by its name. At the end its books, the ledger and the PLC must hold the same. Exit 1 when they do not.

    python -m tests.chaos.files_kill --cycles 200 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from tests.chaos.kill import ledger_faults
from tests.chaos.lives import UNITS, Lives, Plc, two_machines
from tests.chaos.nursery import Nursery

_BACK_S = 60.0
_SETTLE_S = 120.0
_UPLINK = """\
{type: files, inbox: inbox, archive: archive, error: error, outbox: outbox, format: csv, interval: 100ms, settle: 50ms, report_every: 0s}"""


class FileErp:
    """Orders for each machine, and books."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self._folder = folder
        self._dice = dice
        self.orders: dict[str, str] = {}
        self.posted: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self.feeding = True
        self._closed: set[str] = set()
        self._copies = 0

    async def run(self) -> None:
        while True:
            self.collect()
            if self.feeding:
                self._feed()
            await asyncio.sleep(0.02)

    def _feed(self) -> None:
        for unit in UNITS:
            if sum(1 for order, of in self.orders.items() if of == unit and order not in self._closed) < 3:
                order = f"OF-{len(self.orders) + 1:05d}"
                self.orders[order] = unit
                text = f"job_order_id;work_unit;product_id;quantity\n{order};{unit};ART-{len(self.orders) % 3};{self._dice.randint(3, 6)}\n"
                part = self._folder / "inbox" / f"{order}.csv.part"
                part.write_text(text)
                part.rename(part.with_suffix(""))
        if self._dice.random() < 0.01:
            old = self._dice.choice(list(self.orders))
            taken = self._folder / "archive" / f"{old}.csv"
            if taken.exists():
                self._copies += 1
                (self._folder / "inbox" / f"copy_{self._copies}.csv").write_bytes(taken.read_bytes())

    def collect(self) -> None:
        for path in sorted((self._folder / "outbox").iterdir()):
            if path.name.startswith("."):
                continue
            data = path.read_bytes()
            if self.posted.setdefault(path.name, data) != data:
                self.wrong.append(f"{path.name} came twice, with different content")
            if not data.endswith(b"\r\n"):
                self.wrong.append(f"{path.name} is half a file")
            if "_close" in path.name:
                self._closed |= {row["job_order_id"] for row in _rows(data)}
            # Now and then the import dies between posting and removing, and sees the file again.
            if self._dice.random() < 0.9:
                path.unlink()

    def book(self, kind: str) -> list[dict[str, str]]:
        return [row for name, data in self.posted.items() if name.endswith(f"_{kind}.csv") for row in _rows(data)]


def _rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode()), delimiter=";"))


@dataclass
class Outcome:
    """`violations`: one sentence each."""

    cycles: int = 0
    early: int = 0
    orders: int = 0
    confirmations: int = 0
    pieces: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class FilesKill:
    def __init__(self, folder: Path, lives: Lives, plc: Plc, seed: int) -> None:
        self.outcome = Outcome(violations=lives.violations)
        self.erp = FileErp(folder, random.Random(seed))
        self._random = random.Random(seed + 1)
        self._folder = folder
        self._lives = lives
        self._plc = plc

    async def run(self, cycles: int) -> Outcome:
        begun = time.monotonic()
        importer = asyncio.create_task(self.erp.run(), name="erp")
        try:
            pid = await self._lives.start()
            # From the first order on every piece is somebody's to count.
            if not await self._lives.until(lambda: len(self.erp.book("start")) >= 2, "the first orders"):
                return self.outcome
            self._plc.making = True
            await self._lives.kill(pid)
            for cycle in range(1, cycles + 1):
                await self._cycle(cycle)
                if len(self.outcome.violations) > 20:
                    break
            self.erp.feeding = False
            self._plc.making = False
            await self._compare()
        finally:
            importer.cancel()
            with suppress(asyncio.CancelledError):
                await importer
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    async def _cycle(self, cycle: int) -> None:
        known = len(self.erp.posted)
        pid = await self._lives.start()
        self.outcome.cycles = cycle
        if self._random.random() < 5 / 6:
            # From the middle of a start, which takes about 0.4 s, to well within the first exchange.
            self.outcome.early += 1
            await asyncio.sleep(self._random.uniform(0.0, 0.9))
        else:
            await self._lives.until(lambda: len(self.erp.posted) > known, f"cycle {cycle}: a new confirmation")
            await asyncio.sleep(self._random.uniform(0.0, 0.3))
        await self._lives.kill(pid, f"cycle {cycle}")

    async def _compare(self) -> None:
        """The machines stand; the last life delivers everything."""
        self.outcome.pieces = self._plc.made
        pid = await self._lives.start()
        await self._lives.settled(self._differences, _SETTLE_S)
        self.outcome.violations += [*self.erp.wrong, *ledger_faults(self._lives.journal())]
        self.outcome.orders, self.outcome.confirmations = len(self.erp.orders), len(self.erp.posted)
        await self._lives.term(pid)

    def _differences(self) -> list[str]:
        counted, states = Counter[str](), dict[str, list[str]]()
        for event in self._lives.journal():
            kind, order = event["type"].removeprefix("lineside.").removesuffix(".v1"), event.get("subject")
            if kind == "quantity.counted":
                counted[order or ""] += int(event["data"]["produced"])
            elif kind == "job.changed" and order is not None:
                states.setdefault(order, []).append(event["data"]["state"])
        found = []
        if sum(counted.values()) != self.outcome.pieces * len(UNITS):
            found.append(f"{sum(counted.values())} pieces in the ledger, {self.outcome.pieces} made by each machine")
        booked = Counter[str]()
        for row in self.erp.book("totals"):
            booked[row["job_order_id"]] += Decimal(row["good"])  # type: ignore[assignment]
        started = Counter(row["job_order_id"] for row in self.erp.book("start"))
        closed = Counter(row["job_order_id"] for row in self.erp.book("close"))
        for order in self.erp.orders:
            said = states.get(order, [])
            if not said:
                found.append(f"{order} was never taken")
            if booked[order] != counted[order]:
                found.append(f"{order}: {booked[order]} booked, {counted[order]} counted")
            if started[order] != int("Running" in said) or closed[order] != int("Ended" in said):
                found.append(f"{order}: started {started[order]} times, closed {closed[order]} times, {said}")
        for left in ("inbox", "archive/.taking", "outbox", "outbox/.pending"):
            names = [path.name for path in (self._folder / left).iterdir() if path.is_file()]
            if names:
                found.append(f"left in {left}: {names[:5]}")
        return found


@asynccontextmanager
async def exchange(folder: Path, *, seed: int) -> AsyncIterator[FilesKill]:
    """PLC, folders and nursery; all ended, whatever went wrong."""
    for name in ("inbox", "archive", "error", "outbox"):
        (folder / name).mkdir()
    plc, nursery = Plc(), Nursery("gateway.__main__:main")
    config = folder / "files.yaml"
    config.write_text(two_machines("files-pc", plc.port, erp=_UPLINK))
    try:
        await asyncio.gather(plc.start(), nursery.open())
        yield FilesKill(folder, Lives(folder, nursery, config, back_s=_BACK_S), plc, seed)
    finally:
        await nursery.close()
        await plc.stop()


def table(outcome: Outcome) -> str:
    """What a run found, for a person."""
    rows = {
        "kills": outcome.cycles,
        "of them in the first second": outcome.early,
        "orders": outcome.orders,
        "pieces made by each machine": outcome.pieces,
        "confirmations posted by the ERP": outcome.confirmations,
        "seconds a cycle": f"{outcome.seconds / max(outcome.cycles, 1):.2f}",
        "lost, doubled": len(outcome.violations),
    }
    return "\n".join([*(f"{name:<36} {value:>8}" for name, value in rows.items()), *(f"  {each}" for each in outcome.violations)])


async def run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="lineside-files-kill-") as folder:
        async with exchange(Path(folder), seed=args.seed) as running:
            outcome = await running.run(args.cycles)
    print(table(outcome))
    return 1 if outcome.violations else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="kill the daemon below an ERP that exchanges files")
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
