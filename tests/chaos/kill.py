"""`kill -9` of the daemon, thousands of times, below a whole chain: a PLC that goes on counting, a real broker with a consumer that
keeps every event by its key and acknowledges, an ERP that hands out orders and books. At the end all places must hold the same.

About a third of the kills fall into the first 0.4 s of a start (opening the journal, restoring, connecting), the others up to 0.4 s after
the consumer has the first new event of that life. Exit 1 when anything was lost, doubled in effect (an id with two contents, pieces or
totals that do not add up), or out of order, or when the daemon did not come back by itself.

    python -m tests.chaos.kill --cycles 60 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulators.erp import Books, Erp
from simulators.ledger_copy import unit_of
from simulators.loopback import HOST
from simulators.mes import Mes
from simulators.work_plan import WorkPlan
from tests.chaos.lives import UNITS, Lives, Plc, two_machines
from tests.chaos.mosquitto import mosquitto
from tests.chaos.nursery import Nursery

BACK_S = 30.0
"""How long after a start the consumer may wait for the first new event; generous, the machine may be busy with other things."""
_EARLY_S = 0.4
_LATE_S = 0.4
_SETTLE_S = 120.0
_RECUT = "came again with another body"
"""A batch whose answer a kill swallowed may be cut anew under the same key; its events are recognised by their own ids."""


@dataclass
class Outcome:
    """`violations`: one sentence each. `early`: kills during a start; `idle`: lives in which nothing was committed."""

    cycles: int = 0
    early: int = 0
    idle: int = 0
    pieces: int = 0
    events: int = 0
    repeats: dict[str, int] = field(default_factory=dict)
    recut: int = 0
    back_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Kill:
    """`folder` holds the state and everything else; made by `chain`."""

    def __init__(self, lives: Lives, plc: Plc, mes: Mes, erp: Erp, seed: int) -> None:
        self.outcome = Outcome(violations=lives.violations)
        self._lives = lives
        self._plc = plc
        self._mes = mes
        self._erp = erp
        self._random = random.Random(seed)

    async def run(self, cycles: int, *, on_cycle: Callable[[int], None] = lambda cycle: None) -> Outcome:
        begun = time.monotonic()
        # The first life sets the baseline of the counters; from then on every piece is the gateway's to tell.
        pid = await self._lives.start()
        if not await self._lives.until(self._counters_are_read, "the counters' first values"):
            return self.outcome
        self._plc.making = True
        await self._lives.kill(pid)
        for cycle in range(1, cycles + 1):
            await self._cycle(cycle)
            on_cycle(cycle)
            if len(self.outcome.violations) > 20:
                break
        self.outcome.seconds = time.monotonic() - begun
        await self._compare()
        return self.outcome

    def _counters_are_read(self) -> bool:
        tags = {topic.rpartition("/tag/")[2]: value for topic, value in self._mes.retained().items() if "/tag/" in topic}
        return all(tags.get(tag, {}).get("quality") == "good" for tag in ("press", "packer"))

    async def _cycle(self, cycle: int) -> None:
        rows, told = self._lives.rows(), len(self._mes.events())
        pid = await self._lives.start()
        started = time.monotonic()
        self.outcome.cycles = cycle
        if self._random.random() < 1 / 3:
            self.outcome.early += 1
            await asyncio.sleep(self._random.uniform(0.0, _EARLY_S))
        else:
            await self._lives.until(lambda: len(self._mes.events()) > told, f"cycle {cycle}: a new event")
            self.outcome.back_s.append(time.monotonic() - started)
            await asyncio.sleep(self._random.uniform(0.0, _LATE_S))
        await self._lives.kill(pid, f"cycle {cycle}")
        self.outcome.idle += self._lives.rows() == rows

    async def _compare(self) -> None:
        """The machines stand; the last life delivers everything and ends by SIGTERM."""
        self._plc.making = False
        self.outcome.pieces = self._plc.made
        pid = await self._lives.start()
        await self._lives.settled(self._differences, _SETTLE_S)
        await self._lives.term(pid)
        in_journal = self._lives.journal()
        self.outcome.events = len(in_journal)
        self.outcome.violations += ledger_faults(in_journal)
        # What the last life said while it was ending may wait in the journal; everything delivered must be there, word for word.
        held = {event["id"]: event for event in in_journal}
        for place, copy in (("consumer", self._mes.events()), ("ERP", self._erp.books.copy.events)):
            foreign = [event["id"] for event in copy if held.get(event["id"]) != event]
            if foreign:
                self.outcome.violations.append(f"the {place} has {len(foreign)} events that the journal has not: {foreign[:3]}")
        self.outcome.repeats = {place: report["repeats"] for place, report in self._reports().items()}
        self.outcome.recut = sum(_RECUT in what for what in self._erp.violations)

    def _reports(self) -> Mapping[str, Mapping[str, Any]]:
        return {"consumer": self._mes.report(), "ERP": self._erp.report()}

    def _differences(self) -> list[str]:
        found = [] if (rows := self._lives.rows()) else ["the journal is empty"]
        for place, report in self._reports().items():
            if not report["clean"]:
                found.append(f"{place}: { ({key: report[key] for key in ('conflicts', 'invalid', 'out_of_order', 'holes')}) }")
            if report["events"] != rows:
                found.append(f"{place}: {report['events']} events, {rows} in the journal")
            if len(report["epochs"]) != 1:
                found.append(f"{place}: epochs {list(report['epochs'])}")
            # Totals are told every 10 s while an order runs, and at its end.
            for order, known in report["orders"].items():
                if known["produced"] != known["counted"]["produced"]:
                    found.append(f"{place}: {known['produced']} pieces of {order} reported, {known['counted']['produced']} counted")
            for unit in UNITS:
                made = int(report["made"].get(unit, {}).get("produced", 0))
                if made != self.outcome.pieces:
                    found.append(f"{place}: {made} pieces of {unit}, {self.outcome.pieces} made")
        return found + [f"the ERP complains: {what}" for what in self._erp.violations if _RECUT not in what]


def ledger_faults(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a ledger says against itself: holes, orders that began twice or ended twice, totals that are not the sum of the pieces."""
    found = []
    if [event["sequence"] for event in events] != list(range(1, len(events) + 1)):
        found.append("the journal's sequence has holes")
    states: dict[str, list[str]] = defaultdict(list)
    totals: dict[str, list[float]] = defaultdict(list)
    pieces: dict[str, float] = defaultdict(float)
    for event in events:
        order, kind, data = event.get("subject"), event["type"].removeprefix("lineside.").removesuffix(".v1"), event["data"]
        if order is None or unit_of(event) is None:
            continue
        if kind == "job.changed":
            states[order].append(data["state"])
        elif kind == "job.progress":
            totals[order].append(data["produced"])
        elif kind == "quantity.counted":
            pieces[order] += data["produced"]
    for order, seen in states.items():
        if len(set(seen)) != len(seen):
            found.append(f"{order} went through {seen}")
    for order, seen in totals.items():
        if seen != sorted(seen):
            found.append(f"the totals of {order} fell")
        if pieces[order] != seen[-1]:
            found.append(f"{order}: {pieces[order]:g} pieces counted, {seen[-1]} reported")
    return found


@asynccontextmanager
async def chain(folder: Path, *, seed: int) -> AsyncIterator[Kill]:
    """PLC, broker, consumer, ERP and the nursery up; all ended, whatever went wrong."""
    token, config = folder / "token", folder / "kill.yaml"
    token.write_text("kill")
    plc, nursery = Plc(), Nursery("gateway.__main__:main")
    erp = Erp(Books(WorkPlan(lambda: datetime.now(UTC), speed=6.0)), "kill")
    async with mosquitto(folder) as broker:
        consumer = f'{{type: mqtt, urls: ["mqtt://{HOST}:{broker}"], consumers: [mes]}}'
        books = f'{{type: http, url: "{erp.url}", token: {{file: {token}}}, interval: 1s}}'
        config.write_text(two_machines("kill-pc", plc.port, plant=consumer, erp=books))
        mes, stopped = Mes(HOST, broker), asyncio.Event()
        acknowledging = asyncio.create_task(mes.run(stopped), name="consumer")
        try:
            mes.start()
            await asyncio.gather(plc.start(), erp.start(), nursery.open())
            yield Kill(Lives(folder, nursery, config, back_s=BACK_S), plc, mes, erp, seed)
        finally:
            stopped.set()
            await acknowledging
            mes.stop()
            await nursery.close()
            await erp.stop()
            await plc.stop()


def table(outcome: Outcome) -> str:
    """What a run found, for a person."""
    back = sorted(outcome.back_s) or [0.0]
    rows = {
        "kills": outcome.cycles,
        "of them during a start": outcome.early,
        "lives without a commit": outcome.idle,
        "pieces made by each machine": outcome.pieces,
        "ledger events": outcome.events,
        "seconds a cycle": f"{outcome.seconds / max(outcome.cycles, 1):.2f}",
        "start to first new event, median": f"{back[len(back) // 2]:.2f} s",
        "start to first new event, worst": f"{back[-1]:.2f} s",
        **{f"repeats removed by key, {place}": count for place, count in outcome.repeats.items()},
        "batches cut anew under the same key": outcome.recut,
        "lost, doubled in effect, out of order": len(outcome.violations),
    }
    return "\n".join([*(f"{name:<40} {value:>10}" for name, value in rows.items()), *(f"  {v}" for v in outcome.violations)])


async def run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="lineside-kill-") as folder:
        async with chain(Path(folder), seed=args.seed) as running:
            outcome = await running.run(args.cycles, on_cycle=_tell)
    print(table(outcome))
    return 1 if outcome.violations else 0


def _tell(cycle: int) -> None:
    if cycle % 50 == 0:
        print(f"{cycle:>6} kills", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kill", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cycles", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    return asyncio.run(run(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
