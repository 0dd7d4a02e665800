"""Power cut off, thousands of times: the journal on an ext4 of its own (a file on a loop device), which is shut down without flushing
anything, so that only what was synchronised is there after the next mount. A disk that lies about that is not shown.

The writer is the daemon's own recorder and store; it tells outside that file system which row it was told to be durable. After each cut
an independent connection looks: every such row is there with its content, no hole, the snapshot is the last row's, integrity_check says ok,
the epoch is the same. The control runs the same with synchronous=NORMAL, which must lose rows: a rig that shows no loss proves nothing.
Needs root (mount). Exit 1 when a row was lost or damaged, or when the control lost none.

    python -m tests.chaos.power --cycles 100 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from gateway.clock import SystemClock
from gateway.domain.entry import Entry
from gateway.domain.events import QuantityCounted
from gateway.domain.snapshot import Record, Snapshot
from gateway.metrics import Metrics
from gateway.outbox import recorder as recorder_module
from gateway.outbox.ballast import Ballast
from gateway.outbox.recorder import Recorder
from gateway.outbox.settings import JournalSettings
from gateway.outbox.statedir import DATABASE
from gateway.outbox.store import Store
from tests.chaos.nursery import Nursery

UNIT = "press-07"
_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_MIB = 64
_FRESH_EVERY = 25
"""Cycles on one file system: a fresh one shows that the files' own names survive too."""
_WRITE_S = 0.25
_FIRST_ROW_S = 30.0
CONTROL_SHARE = 10
_CONTROL_LEAST = 8


# --- the writer: a process of its own -----------------------------------------------------------------------------------


def writer(arguments: list[str]) -> int:
    """STATE_DIR TOLD SYNCHRONOUS: record without end; TOLD holds the sequence of the last row told to be durable."""
    asyncio.run(_write(Path(arguments[0]), Path(arguments[1]), arguments[2]))
    return 0


async def _write(state_dir: Path, told: Path, synchronous: str) -> None:
    recorder_module.PRUNE_S = 0.1
    clock = SystemClock()
    settings = JournalSettings(retention=2.0)
    store = await Store.open(state_dir, uplinks=("plant",), clock=clock, settings=settings)
    await store._writer.run(lambda connection: connection.execute(f"PRAGMA synchronous = {synchronous}"))
    handle = os.open(told, os.O_WRONLY | os.O_CREAT)
    count = store.next_sequence - 1

    def durable(entries: Sequence[Entry]) -> None:
        if entries:
            os.pwrite(handle, struct.pack("q", entries[-1].sequence), 0)
            recorder.advance("plant", max(entries[-1].position - 50, 0))

    def snapshots() -> tuple[Snapshot, ...]:
        return (Snapshot(UNIT, 1, str(count).encode(), (Record("interval", f"{count:016}", clock.now(), b"{}"),)),)

    recorder = Recorder(
        store, gateway_id="power-pc", source_of=lambda unit: f"/acme/lyon/hall/line-1/{unit}", clock=clock, metrics=Metrics(),
        snapshots=snapshots, after_commit=durable, ballast=Ballast(state_dir),
    )  # fmt: skip
    task = asyncio.create_task(recorder.run())
    pick = random.Random(os.getpid())
    while not task.done():
        for _ in range(pick.randint(1, 60)):
            count += 1
            recorder.record([_event(count)])
        await asyncio.wait([task, asyncio.ensure_future(recorder.committed())], return_when=asyncio.FIRST_COMPLETED)
    await task


def _event(number: int) -> QuantityCounted:
    one, none = Decimal(number), Decimal(0)
    return QuantityCounted(
        work_unit=UNIT, at=datetime(2026, 11, 29, tzinfo=UTC), job_order_id=None, produced=one, good=one, scrap=none, rework=none,
        counter=one, late=False,
    )  # fmt: skip


# --- the rig ------------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """`lost`: rows told to be durable and not there, by cycle in which any was; `faults`: one sentence each."""

    cycles: int = 0
    told: int = 0
    lost: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class FileSystem:
    """An ext4 in a file, mounted at `mount`."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.mount = folder / "disk"
        self.mount.mkdir()

    def make(self) -> None:
        self.unmount()
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as image:
            image.truncate(_MIB << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.remount()

    def remount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.mount))

    def cut(self) -> None:
        """From this moment on nothing reaches the disk, not even what is in its log."""
        handle = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(handle)

    def unmount(self) -> None:
        if self.mount.is_mount():
            _run("umount", str(self.mount))

    def close(self) -> None:
        """Whatever went wrong: nothing stays mounted."""
        if self.mount.is_mount():
            _run("umount", "--lazy", str(self.mount))


def _run(*command: str) -> None:
    program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise RuntimeError(f"{command[0]} is needed")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}; this test mounts a file system and needs root")


async def run_cycles(folder: Path, cycles: int, *, seed: int, synchronous: str = "FULL", on_cycle: Callable[[int], None]) -> Outcome:
    """Cut the power `cycles` times. Raises RuntimeError where nothing can be mounted."""
    outcome, moments = Outcome(), random.Random(seed)
    nursery, disk, begun = Nursery("tests.chaos.power:writer"), FileSystem(folder), time.monotonic()
    log, told = folder / "writer.log", folder / "told"
    await nursery.open()
    try:
        for cycle in range(cycles):
            if cycle % _FRESH_EVERY == 0:
                disk.make()
                told.write_bytes(bytes(8))
            state_dir, before = disk.mount / "state", _told(told)
            pid = await nursery.start(log, str(state_dir), str(told), synchronous)
            if moments.random() < 0.9:
                await _moved(told, before, log)
            await asyncio.sleep(moments.uniform(0.0, _WRITE_S))
            # A synchronisation that is under way at the cut may come back as done; with real power nobody would be there to be told.
            durable = _told(told)
            disk.cut()
            await nursery.kill(pid)
            disk.unmount()
            disk.remount()
            outcome.cycles += 1
            outcome.told += durable - before
            last = _judge(state_dir / DATABASE, durable, outcome, f"cycle {cycle + 1}")
            # The next life goes on from what is there.
            told.write_bytes(struct.pack("q", last))
            on_cycle(cycle + 1)
    finally:
        await nursery.close()
        disk.close()
    outcome.seconds = time.monotonic() - begun
    return outcome


def _told(told: Path) -> int:
    return int(struct.unpack("q", told.read_bytes())[0])


async def _moved(told: Path, before: int, log: Path) -> None:
    deadline = time.monotonic() + _FIRST_ROW_S
    while _told(told) == before:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the writer wrote nothing for {_FIRST_ROW_S:g} s:\n{log.read_text()[-2000:]}")
        await asyncio.sleep(0.005)


def _judge(database: Path, told: int, outcome: Outcome, where: str) -> int:
    """Look at what is left; -> the last sequence there."""
    if not database.exists():
        outcome.lost += [told] if told else []
        return 0
    # On a copy: whoever opens it for writing folds the log in when he closes it, and the next life would find it missing.
    look = database.parent.parent.parent / "look"
    shutil.rmtree(look, ignore_errors=True)
    shutil.copytree(database.parent, look, ignore=shutil.ignore_patterns("ballast"))
    with closing(sqlite3.connect(look / DATABASE)) as connection:
        found = list(_faults(connection))
        # A cut may come before there are tables.
        is_begun = not found and connection.execute("PRAGMA user_version").fetchone()[0] > 0
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone() if is_begun else None
    outcome.faults += [f"{where}: {fault}" for fault in found]
    last = told if found else row[0] if row else 0
    if last < told:
        outcome.lost.append(told - last)
    return last


def _faults(connection: sqlite3.Connection) -> Iterator[str]:
    check = connection.execute("PRAGMA integrity_check").fetchone()[0]
    if check != "ok":
        yield f"integrity_check: {check}"
        return
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        return
    rows = connection.execute("SELECT position, sequence, body FROM journal ORDER BY position").fetchall()
    sequences = [sequence for _, sequence, _ in rows]
    if sequences and sequences != list(range(sequences[0], sequences[0] + len(rows))):
        yield "the journal has a hole"
    for position, sequence, body in rows:
        event = json.loads(body)
        if (event["sequence"], event["data"]["produced"], position) != (sequence, sequence, sequence):
            yield f"row {position} holds something else: {body[:200]!r}"
    state = connection.execute("SELECT state FROM snapshots").fetchone()
    if rows and (state is None or int(state[0]) < sequences[-1]):
        yield f"the snapshot is of {state}, the last row is {sequences[-1]}"
    if (epochs := connection.execute("SELECT count(*) FROM epochs").fetchone()[0]) > 1:
        yield f"{epochs} epochs"


def table(full: Outcome, control: Outcome) -> str:
    """What a run found, for a person."""
    lines = [f"{'':<34} {'FULL':>10} {'NORMAL (control)':>17}"]
    for name, of in (
        ("power cuts", lambda o: o.cycles),
        ("rows told to be durable", lambda o: o.told),
        ("cuts that lost any of them", lambda o: len(o.lost)),
        ("rows lost, most at a cut", lambda o: max(o.lost, default=0)),
        ("rows damaged, integrity errors", lambda o: len(o.faults)),
        ("seconds a cycle", lambda o: f"{o.seconds / max(o.cycles, 1):.2f}"),
    ):
        lines.append(f"{name:<34} {of(full):>10} {of(control):>17}")
    return "\n".join([*lines, *(f"  {fault}" for fault in (*full.faults[:20], *failures(full, control)))])


def failures(full: Outcome, control: Outcome) -> list[str]:
    """Why a run must fail; empty for a good one."""
    found = [f"{sum(full.lost)} durable rows were lost"] if full.lost else []
    found += [f"{len(full.faults)} faults"] if full.faults else []
    return found + ([] if control.lost else ["the control with synchronous=NORMAL lost nothing: the rig shows no loss"])


async def run(cycles: int, seed: int, on_cycle: Callable[[int], None] = lambda cycle: None) -> tuple[Outcome, Outcome]:
    """The cycles with FULL, then the control."""
    outcomes = []
    for synchronous, count in (("FULL", cycles), ("NORMAL", max(cycles // CONTROL_SHARE, _CONTROL_LEAST))):
        with tempfile.TemporaryDirectory(prefix="lineside-power-") as folder:
            outcomes.append(await run_cycles(Path(folder), count, seed=seed, synchronous=synchronous, on_cycle=on_cycle))
    return outcomes[0], outcomes[1]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.power", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)

    def tell(cycle: int) -> None:
        if cycle % 50 == 0:
            print(f"{cycle:>6} cuts", flush=True)

    full, control = asyncio.run(run(args.cycles, args.seed, tell))
    print(table(full, control))
    return 1 if failures(full, control) else 0


if __name__ == "__main__":
    sys.exit(main())
