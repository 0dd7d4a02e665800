"""Journals that a disk, a tool or a hand has damaged: bits turned, cut short, pages zeroed or overwritten, the header gone, the log gone,
cut or turned. From each the gateway must start within 10 s. What is read from it then is word for word what was written; where any of it is
missing a new epoch has begun, so that no key is given twice; what was saved is counted. One in ten is started by the real daemon.

    python -m tests.chaos.corrupt --mutants 30 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from gateway.clock import SystemClock
from gateway.domain.entry import Entry
from gateway.outbox.statedir import DATABASE, StoreError
from gateway.outbox.store import Store
from gateway.outbox.transaction import Batch
from simulators.loopback import free_port
from tests.chaos.lives import Plc, one_machine
from tests.chaos.nursery import Nursery
from tests.outbox.journal import AT

WITHIN_S = 10.0
DAEMON_EVERY = 10
_PAGE = 4096
_LOG = f"{DATABASE}-wal"
_COUNTED_ROWS = 25

Mutate = Callable[[Path, random.Random], None]


def _file(name: str, change: Callable[[bytearray, random.Random], None]) -> Mutate:
    def mutate(folder: Path, pick: random.Random) -> None:
        path = folder / name
        content = bytearray(path.read_bytes())
        if content:
            change(content, pick)
            path.write_bytes(content)

    return mutate


def _bits(content: bytearray, pick: random.Random) -> None:
    for _ in range(pick.randint(1, 30)):
        content[pick.randrange(len(content))] ^= 1 << pick.randrange(8)


def _short(content: bytearray, pick: random.Random) -> None:
    del content[pick.randrange(len(content)) :]


def _zero_pages(content: bytearray, pick: random.Random) -> None:
    for _ in range(pick.randint(1, 10)):
        page = pick.randrange(max(len(content) // _PAGE, 1)) * _PAGE
        content[page : page + _PAGE] = bytes(min(_PAGE, len(content) - page))


def _foreign_pages(content: bytearray, pick: random.Random) -> None:
    for _ in range(pick.randint(1, 6)):
        page = pick.randrange(max(len(content) // _PAGE, 1)) * _PAGE
        content[page : page + _PAGE] = pick.randbytes(min(_PAGE, len(content) - page))


def _header(content: bytearray, pick: random.Random) -> None:
    size = min(pick.choice((16, 100, 512)), len(content))
    content[:size] = pick.randbytes(size)


def _gone(name: str) -> Mutate:
    return lambda folder, pick: (folder / name).unlink(missing_ok=True)


MUTANTS: Mapping[str, Mutate] = {
    "bits turned": _file(DATABASE, _bits),
    "cut short": _file(DATABASE, _short),
    "pages zeroed": _file(DATABASE, _zero_pages),
    "pages overwritten": _file(DATABASE, _foreign_pages),
    "header garbage": _file(DATABASE, _header),
    "emptied": _file(DATABASE, lambda content, pick: content.clear()),
    "log missing": _gone(_LOG),
    "log: bits turned": _file(_LOG, _bits),
    "log: cut short": _file(_LOG, _short),
    "log: header garbage": _file(_LOG, _header),
}


@dataclass
class Outcome:
    """`violations`: one sentence each. `kinds`: by mutant, how many began a new epoch; `rows_before`, `rows_after`: of all of them."""

    mutants: Counter[str] = field(default_factory=Counter)
    new_epochs: Counter[str] = field(default_factory=Counter)
    rows_before: Counter[str] = field(default_factory=Counter)
    rows_after: Counter[str] = field(default_factory=Counter)
    daemons: int = 0
    slowest_s: float = 0.0
    violations: list[str] = field(default_factory=list)


async def make_base(folder: Path, config: Path) -> None:
    """A journal of the real daemon, killed while it was counting, with some thousand rows more and a log beside it."""
    plc, nursery, log = Plc(), Nursery("gateway.__main__:main"), folder.parent / "base.log"
    config.write_text(one_machine("corrupt-pc", plc.port, broker=free_port()))
    await asyncio.gather(plc.start(), nursery.open())
    try:
        plc.making = True
        pid = await nursery.start(log, "run", "-c", str(config), "--state-dir", str(folder))
        async with asyncio.timeout(60):
            while len(_rows(folder)) < _COUNTED_ROWS:
                await asyncio.sleep(0.1)
        await nursery.kill(pid)
    finally:
        await nursery.close()
        await plc.stop()
    store = await Store.open(folder, uplinks=("plant",), clock=SystemClock())
    await store.commit(_more(store, 2_000), AT)
    await store._writer.run(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    for _ in range(20):
        await store.commit(_more(store, 10), AT)
    # As a kill leaves it: copied while it is open.
    shutil.copytree(folder, folder.with_name("killed"))
    await store.close()


def _more(store: Store, count: int) -> Batch:
    entries = []
    for n in range(count):
        id_ = f"corrupt-pc:{store.epoch}:{store.next_sequence + n}"
        body = b'{"id":"%s","data":{"text":"%s"}}' % (id_.encode(), b"x" * 200)
        position = store.last_position + 1 + n
        entries.append(Entry(position, store.epoch, store.next_sequence + n, id_, "press-07", "alert.raised", None, AT, body))
    return Batch(entries=entries)


def _rows(folder: Path) -> dict[str, bytes]:
    if not (folder / DATABASE).exists():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True, timeout=5.0)) as connection:
            return dict(connection.execute("SELECT id, body FROM journal"))
    except sqlite3.OperationalError:
        return {}


class Corrupt:
    """`folder`: for the base and one mutant at a time."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.outcome = Outcome()
        self._folder = folder
        self._config = folder / "corrupt.yaml"
        self._base = folder / "killed"
        self._random = random.Random(seed)
        self._nursery = Nursery("gateway.__main__:main")

    async def run(self, mutants: int, *, on_mutant: Callable[[int], None] = lambda number: None) -> Outcome:
        await make_base(self._folder / "state", self._config)
        (self._base / "ballast").unlink(missing_ok=True)
        kinds: list[str] = []
        await self._nursery.open()
        try:
            for number in range(1, mutants + 1):
                kinds = kinds or self._random.sample(list(MUTANTS), len(MUTANTS))
                await self._one(number, kinds.pop(), by_daemon=number % DAEMON_EVERY == 0)
                on_mutant(number)
        finally:
            await self._nursery.close()
        return self.outcome

    async def _one(self, number: int, kind: str, *, by_daemon: bool) -> None:
        state, where, outcome = self._folder / "mutant", f"mutant {number} ({kind})", self.outcome
        shutil.copytree(self._base, state)
        try:
            before = _rows(self._base)
            MUTANTS[kind](state, self._random)
            if by_daemon:
                outcome.daemons += 1
                await self._daemon(state, where)
            begun = time.monotonic()
            try:
                store = await Store.open(state, uplinks=("plant",), clock=SystemClock())
            except StoreError as error:
                outcome.violations.append(f"{where}: no start: {error}")
                return
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - begun)
            try:
                await self._judge(store, before, kind, where)
            finally:
                await store.close()
        finally:
            shutil.rmtree(state)

    async def _judge(self, store: Store, before: Mapping[str, bytes], kind: str, where: str) -> None:
        outcome = self.outcome
        after = {entry.id: entry.body for entry in await store.entries(0, 1_000_000)}
        kept = {id_: body for id_, body in after.items() if id_ in before}
        is_new = not any(id_.split(":")[1] == store.epoch for id_ in before)
        outcome.mutants[kind] += 1
        outcome.new_epochs[kind] += is_new
        outcome.rows_before[kind] += len(before)
        outcome.rows_after[kind] += len(kept)
        if wrong := [id_ for id_, body in kept.items() if before[id_] != body]:
            outcome.violations.append(f"{where}: {len(wrong)} rows hold something else than what was written: {wrong[:3]}")
        if len(kept) < len(before) and not is_new:
            outcome.violations.append(f"{where}: {len(before) - len(kept)} rows are missing, and the epoch goes on")
        saved = store.salvaged
        if saved is not None and saved.rows.get("journal", 0) != len(after):
            outcome.violations.append(f"{where}: {saved.rows} rows counted as saved, {len(after)} are there")
        await store.commit(_more(store, 3), AT)
        if outcome.slowest_s > WITHIN_S:
            outcome.violations.append(f"{where}: the start took {outcome.slowest_s:.1f} s")

    async def _daemon(self, state: Path, where: str) -> None:
        log, begun = self._folder / "daemon.log", time.monotonic()
        log.unlink(missing_ok=True)
        pid = await self._nursery.start(log, "run", "-c", str(self._config), "--state-dir", str(state))
        while not log.exists() or " started " not in log.read_text():
            if time.monotonic() - begun > WITHIN_S * 3:
                break
            await asyncio.sleep(0.02)
        took = time.monotonic() - begun
        self.outcome.slowest_s = max(self.outcome.slowest_s, took)
        status = await self._nursery.kill(pid)
        if status != -9 or took > WITHIN_S * 3:
            self.outcome.violations.append(f"{where}: the daemon did not start ({status}):\n{log.read_text()[-1500:]}")


def table(outcome: Outcome) -> str:
    """What a run found, for a person."""
    lines = [f"{'damage':<22} {'mutants':>8} {'new epoch':>10} {'rows kept':>10}"]
    for kind, count in outcome.mutants.items():
        share = outcome.rows_after[kind] / max(outcome.rows_before[kind], 1)
        lines.append(f"{kind:<22} {count:>8} {outcome.new_epochs[kind]:>10} {share:>10.1%}")
    lines.append(f"by the real daemon: {outcome.daemons}; slowest start {outcome.slowest_s:.2f} s; violations {len(outcome.violations)}")
    return "\n".join([*lines, *(f"  {violation}" for violation in outcome.violations[:20])])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.corrupt", description=__doc__.split("\n\n")[0])
    parser.add_argument("--mutants", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)

    def tell(number: int) -> None:
        if number % 100 == 0:
            print(f"{number:>6} mutants", flush=True)

    with tempfile.TemporaryDirectory(prefix="lineside-corrupt-") as folder:
        outcome = asyncio.run(Corrupt(Path(folder), seed=args.seed).run(args.mutants, on_mutant=tell))
    print(table(outcome))
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
