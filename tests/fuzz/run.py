"""Tries every parser that reads what others wrote on inputs that are nearly right: `make fuzz INPUTS=10000 SEED=1`.

Each input is checked for an error that the parser does not declare, more than 100 ms of CPU time, and memory. What fell is kept in
`--save` and printed with the command that repeats it; exit 1. A finding that has been mended stays in `tests/fuzz/found`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from tests.fuzz.engine import Finding, Run, run, run_inputs
from tests.fuzz.parsers import PARSERS

_SLICE = 5000
"""Inputs of one job: both cores stay busy to the end."""


def _job(job: tuple[str, int, int, int]) -> Run:
    name, seed, begin, end = job
    warnings.simplefilter("error")
    try:
        with tempfile.TemporaryDirectory(prefix="lineside-fuzz-") as folder:
            return run(PARSERS[name], range(begin, end), seed, Path(folder))
    except Exception as error:  # noqa: BLE001 - an error of the harness itself is told with the rest
        words = "".join(traceback.format_exception(error))
        return Run(name, findings={"harness": Finding("harness", "", words, -1, b"")})


def jobs(names: Iterable[str], inputs: int, seed: int) -> list[tuple[str, int, int, int]]:
    return [(name, seed, begin, min(begin + _SLICE, inputs)) for begin in range(0, inputs, _SLICE) for name in names]


def joined(runs: Iterable[Run]) -> dict[str, Run]:
    """One row a parser."""
    rows: dict[str, Run] = {}
    for one in runs:
        row = rows.setdefault(one.parser, Run(one.parser))
        row.inputs += one.inputs
        row.cpu_s += one.cpu_s
        row.slowest_s = max(row.slowest_s, one.slowest_s)
        row.grown_mib = max(row.grown_mib, one.grown_mib)
        row.findings = one.findings | row.findings
    return rows


def table(rows: Iterable[Run]) -> list[str]:
    lines = [f"{'parser':16} {'inputs':>10} {'a second':>9} {'slowest ms':>11} {'grown MiB':>10} {'findings':>9}"]
    for row in rows:
        rate = row.inputs / max(row.cpu_s, 1e-9)
        lines.append(
            f"{row.parser:16} {row.inputs:10} {rate:9.0f} {row.slowest_s * 1000:11.1f} {row.grown_mib:10.1f} {len(row.findings):9}"
        )
    return lines


def told(finding: Finding, parser: str, seed: int, save: Path) -> str:
    """Keep the input; one line about it."""
    save.mkdir(parents=True, exist_ok=True)
    file = save / f"{parser}-{finding.digest}"
    file.write_bytes(finding.data)
    again = f"python -m tests.fuzz.run --only {parser} --file {file}"
    return f"{parser}: {finding.what}: {finding.place} {finding.words}\n    seed {seed}, number {finding.number}; again: {again}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--inputs", type=int, default=10_000, help="of each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", action="append", choices=sorted(PARSERS), help="this parser; may be repeated")
    parser.add_argument("--file", type=Path, help="one input from a file, for the parser of --only")
    parser.add_argument("--save", type=Path, default=Path(tempfile.gettempdir()) / "lineside-fuzz-found")
    parser.add_argument("--for", dest="seconds", type=float, help="begin no further inputs after so many seconds")
    args = parser.parse_args(words)
    names = args.only or list(PARSERS)
    if args.file is not None:
        with tempfile.TemporaryDirectory(prefix="lineside-fuzz-") as folder:
            runs = (run_inputs(PARSERS[name], [(0, args.file.read_bytes())], Path(folder)) for name in names)
            rows = joined(_telling(runs, args.seed, args.save))
    else:
        rows = joined(_telling(_shared(jobs(names, args.inputs, args.seed), args.workers, args.seconds), args.seed, args.save))
    found = sum(len(row.findings) for row in rows.values())
    print(*table(rows.values()), f"seed {args.seed}: {found} findings", sep="\n")
    return 1 if found else 0


def _telling(runs: Iterable[Run], seed: int, save: Path) -> Iterator[Run]:
    """Each finding at once: a long run may be ended before its table."""
    known: set[tuple[str, str]] = set()
    for one in runs:
        for place, finding in one.findings.items():
            if (one.parser, place) not in known:
                known.add((one.parser, place))
                print(told(finding, one.parser, seed, save), flush=True)
        yield one


def _shared(todo: Iterable[tuple[str, int, int, int]], workers: int, seconds: float | None) -> Iterator[Run]:
    """A fresh process for each job: what one parser holds is not another's, and one that dies is seen."""
    begun = time.monotonic()
    waiting, running = iter(todo), set[Future[Run]]()
    with ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=1) as pool:
        while True:
            if seconds is None or time.monotonic() - begun < seconds:
                running |= {pool.submit(_job, job) for job in islice(waiting, workers - len(running))}
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in ended)


if __name__ == "__main__":
    sys.exit(main())
