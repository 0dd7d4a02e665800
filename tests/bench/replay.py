"""What a replayed reading costs, and that memory does not grow: a machine of 1 s, read every second, for a month or a year.

    make bench        or        python -m tests.bench.replay [--days 30] [--least 100000] [--only NAME]

Each recording is written first (seeded: stops of 10 s to 10 min, an hour a day that is no shift, rejects) and then replayed by
`lineside replay` in a process of its own, whose output goes nowhere. Quoted is that process's CPU time, start included: wall time
drifts with whatever else the machine does. Beside it stands what Python's csv module alone needs for the same file in the same
minute. `--days 365` is the whole year, 31 million readings; the default is a month, and says so.

Exit 1 when fewer readings a second were replayed than `--least`, when the process held more than 200 MiB, or when it still grew after a
quarter of the run.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from tests.bench.run import ROOT, cpu_seconds, rss_mib

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
DAY_S = 86_400
MOST_MIB = 200.0
GROWTH_MIB = 10.0
"""Caches that fill in their own time; a row kept for each hour or each reading would be more."""
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Kind:
    """`piece_s` seconds a piece, read every second; with `orders` one follows the other."""

    name: str
    piece_s: int
    orders: bool


KINDS = (
    Kind("a piece with each reading", 1, orders=False),
    Kind("the same with orders", 1, orders=True),
    Kind("a piece each minute", 60, orders=False),
)
"""The first is the machine of 1 s that the limit is for."""


@dataclass(frozen=True)
class Figure:
    """What one replay cost. `early_mib`: the most it held in the first quarter of its run; `csv_us` a reading by csv alone."""

    kind: Kind
    readings: int
    cpu_s: float
    csv_us: float
    early_mib: float
    most_mib: float

    @property
    def rate(self) -> float:
        return self.readings / self.cpu_s


def configuration(kind: Kind) -> dict[str, object]:
    """One press with two shifts; JSON, which YAML contains."""
    shifts = [
        {"name": "morning", "days": "mon-sun", "from": "05:00", "to": "13:00", "breaks": [{"from": "09:00", "to": "09:20"}]},
        {"name": "evening", "days": "mon-sun", "from": "13:00", "to": "04:00"},
    ]
    return {
        "gateway": {
            "id": "bench", "enterprise": "bench", "site": "bench", "time_zone": "Europe/Paris", "language": "en", "listen": "127.0.0.1:8080"
        },
        "devices": {
            "plc": {
                "driver": "modbus", "url": "tcp://127.0.0.1:502",
                "tags": {
                    "parts": {"holding": 0, "type": "uint32"}, "rejects": {"holding": 2, "type": "uint16"}, "running": {"discrete": 0},
                },
            }
        },
        "work_units": {
            "press": {
                "area": "hall", "work_center": "line", "device": "plc", "ideal_cycle_time": f"{kind.piece_s}s", "calendar": "two",
                "state": {"from": "bits", "running": "running"}, "counts": {"total": "parts", "reject": "rejects"},
                "dispatch": {"end": "at_quantity", "next": "auto"},
            }
        },
        "calendars": {"two": {"shifts": shifts}},
    }  # fmt: skip


def record(file: IO[str], kind: Kind, days: float) -> int:
    """Write the recording; returns how many readings it has: the counter every second, the rest when it changes."""
    chance = random.Random(7)
    parts = rejects = readings = 0
    running, until = False, 0
    rows: list[str] = ["at,device,tag,value,quality\n"]
    for second in range(int(days * DAY_S)):
        at = (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ")
        if second >= until:
            running = not running
            until = second + (chance.randrange(600, 3600) if running else chance.randrange(10, 600))
            rows.append(f"{at},plc,running,{int(running)},good\n")
        if running and second % kind.piece_s == 0:
            parts += 1
            if chance.random() < 0.01:
                rejects += 1
                rows.append(f"{at},plc,rejects,{rejects % 65_536},good\n")
        rows.append(f"{at},plc,parts,{parts},good\n")
        if len(rows) > 10_000:
            readings += len(rows)
            file.writelines(rows)
            rows.clear()
    file.writelines(rows)
    return readings + len(rows) - 1


def orders(days: float) -> Iterator[dict[str, object]]:
    """One of 40,000 pieces every twelve hours, so that there is always one more waiting."""
    for number in range(int(days * 2) + 1):
        yield {
            "command": "StoreAndStart", "command_id": f"c{number}", "issued_at": (BEGIN + timedelta(hours=12 * number)).isoformat(),
            "job_order": {"job_order_id": f"OF-{number}", "quantity": 40_000, "unit": "C62"},
        }  # fmt: skip


def measure(kind: Kind, days: float, folder: Path) -> Figure:
    config, recording, commands = (folder / name for name in ("bench.yaml", "recording.csv", "orders.jsonl"))
    config.write_text(json.dumps(configuration(kind)))
    with recording.open("w") as file:
        readings = record(file, kind, days)
    commands.write_text("".join(json.dumps(order) + "\n" for order in orders(days)))
    csv_us = bare(recording, readings)
    words = ["replay", str(config), str(recording), *(["--commands", str(commands)] if kind.orders else [])]
    held: list[tuple[float, float]] = []
    with subprocess.Popen([sys.executable, "-m", "gateway", *words], cwd=ROOT, stdout=subprocess.DEVNULL) as child:
        cpu = 0.0
        while child.poll() is None:
            try:
                cpu = cpu_seconds(child.pid)
                held.append((cpu, rss_mib(child.pid)))
            except (OSError, ValueError):
                break  # it has just ended
            time.sleep(LOOK_EVERY_S)
        if child.wait() != 0:
            raise RuntimeError(f"lineside replay ended with {child.returncode}")
    # The first half is the check of the file, the rest the replay itself, of which a quarter may fill what fills.
    early = [mib for at, mib in held if at <= cpu / 4] or [held[0][1]]
    return Figure(kind, readings, cpu, csv_us, max(early), max(mib for _, mib in held))


def bare(recording: Path, readings: int) -> float:
    """Microseconds of CPU time a row that reading the file with csv alone takes."""
    began = time.process_time()
    with recording.open(newline="") as file:
        for _ in csv.reader(file):
            pass
    return (time.process_time() - began) / readings * 1e6


def table(figures: list[Figure], days: float) -> Iterator[str]:
    yield f"replay of {days:g} days of a machine read every second ({'a year' if days >= 365 else 'a part of a year'}), output thrown away"
    yield f"{'recording':<28}{'readings':>12}{'CPU s':>9}{'readings/s':>12}{'us each':>9}{'csv alone':>11}{'MiB early':>11}{'MiB most':>10}"
    for f in figures:
        each = f.cpu_s / f.readings * 1e6
        yield (
            f"{f.kind.name:<28}{f.readings:>12,}{f.cpu_s:>9.1f}{f.rate:>12,.0f}{each:>9.2f}{f.csv_us:>11.2f}{f.early_mib:>11.1f}"
            f"{f.most_mib:>10.1f}"
        )


def failures(figures: list[Figure], least: float) -> Iterator[str]:
    for f in figures:
        if f.kind is KINDS[0] and f.rate < least:
            yield f"{f.kind.name}: {f.rate:,.0f} readings a second, the limit is {least:,.0f}"
        if f.most_mib > MOST_MIB:
            yield f"{f.kind.name}: held {f.most_mib:.0f} MiB, the limit is {MOST_MIB:.0f}"
        if f.most_mib > f.early_mib + GROWTH_MIB:
            yield f"{f.kind.name}: grew from {f.early_mib:.0f} to {f.most_mib:.0f} MiB, so memory depends on the length"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=float, default=30.0, help="length of each recording; 365 is the year")
    parser.add_argument("--least", type=float, default=100_000, help="readings a second of CPU time of the first recording")
    parser.add_argument("--only", choices=[kind.name for kind in KINDS], help="one of the recordings")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lineside-bench-"))
    try:
        figures = [measure(kind, given.days, folder) for kind in KINDS if given.only in (None, kind.name)]
    finally:
        shutil.rmtree(folder)
    print("\n".join(table(figures, given.days)))
    wrong = list(failures(figures, given.least))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
