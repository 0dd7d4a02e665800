"""Runs a parser on many inputs and tells where it fell: an error that it does not declare, 100 ms of CPU time, memory."""

from __future__ import annotations

import gc
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import FrameType

from tests.fuzz.mutate import LARGEST, Mutator

SLOWEST_S = 0.1
"""CPU time of one call, so that a busy machine fails nobody."""
MOST_MIB = 64.0
"""By which one call may raise the process's peak, and a whole run what it holds."""
_HANGS_S = 5.0
_TRIES = 3
"""The quickest of so many calls counts: in one of them the garbage collector may have had its turn."""
_PAGE_MIB = resource.getpagesize() / 2**20
_RESETS_PEAK = b"5"
"""What sets VmHWM back to what is held now (proc_pid_clear_refs(5))."""

Call = Callable[[bytes], None]


@dataclass(frozen=True)
class Parser:
    """`call` (given by `opened`, which may make files in the folder and a server) takes one input. It catches the errors that the parser
    declares, and only those. `largest`: bytes of an input; a parser's time is asked for what comes at a time, not for whole disks."""

    name: str
    seeds: Sequence[bytes]
    opened: Callable[[Path], AbstractContextManager[Call]]
    words: Sequence[bytes] = ()
    is_json: bool = False
    largest: int = LARGEST

    def mutator(self) -> Mutator:
        return Mutator(self.name, self.seeds, self.words, is_json=self.is_json, largest=self.largest)


def simple(call: Call) -> Callable[[Path], AbstractContextManager[Call]]:
    """For a parser that needs neither files nor a server."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Call]:
        yield call

    return opened


@dataclass(frozen=True)
class Finding:
    """`what`: error, slow, memory. `place`: the innermost line of the error, by which findings are the same."""

    what: str
    place: str
    words: str
    number: int
    data: bytes

    @property
    def digest(self) -> str:
        return sha256(self.data).hexdigest()[:12]


@dataclass
class Run:
    """What a run came to; `findings` has one for each place."""

    parser: str
    inputs: int = 0
    slowest_s: float = 0.0
    grown_mib: float = 0.0
    cpu_s: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)


class _Hangs(BaseException):
    """Raised in the middle of a call that takes seconds."""


def run(parser: Parser, numbers: Iterable[int], seed: int, folder: Path) -> Run:
    mutator = parser.mutator()
    return run_inputs(parser, ((number, mutator.input(seed, number)) for number in numbers), folder)


def run_inputs(parser: Parser, inputs: Iterable[tuple[int, bytes]], folder: Path) -> Run:
    done = Run(parser.name)
    begun, held = time.process_time(), 0.0
    with parser.opened(folder) as call, _interrupting(), _peaks() as peak_mib:
        for number, data in inputs:
            found = _one(call, number, data, done, peak_mib)
            if found is not None:
                done.findings.setdefault(f"{found.what} {found.place}", found)
            done.inputs += 1
            if done.inputs == 500:
                # By now whatever is kept for all inputs (tables, compiled patterns) is there.
                held = _held_mib()
    done.cpu_s = time.process_time() - begun
    if held:
        done.grown_mib = _held_mib() - held
        if done.grown_mib > MOST_MIB:
            done.findings["memory"] = Finding("memory", "", f"{done.grown_mib:.0f} MiB more after {done.inputs} inputs", -1, b"")
    return done


def _one(call: Call, number: int, data: bytes, done: Run, peak_mib: Callable[[bool], float]) -> Finding | None:
    quickest = float("inf")
    for _ in range(_TRIES):
        peak = peak_mib(True)
        signal.setitimer(signal.ITIMER_VIRTUAL, _HANGS_S)
        begun = time.thread_time()
        try:
            call(data)
        except _Hangs as hang:
            return Finding("slow", _place(hang), f"no end within {_HANGS_S:g} s", number, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            return Finding("error", _place(error), f"{type(error).__name__}: {str(error)[:200]}", number, data)
        finally:
            took = time.thread_time() - begun
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        grown = peak_mib(False) - peak
        if grown > MOST_MIB:
            return Finding("memory", "", f"{grown:.0f} MiB for {len(data)} bytes", number, data)
        quickest = min(quickest, took)
        if quickest <= SLOWEST_S:
            break
    done.slowest_s = max(done.slowest_s, quickest)
    return Finding("slow", "", f"{quickest * 1000:.0f} ms for {len(data)} bytes", number, data) if quickest > SLOWEST_S else None


@contextmanager
def _interrupting() -> Iterator[None]:
    """The timer of the process's own CPU time ends a call that would not end."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _peaks() -> Iterator[Callable[[bool], float]]:
    """Gives what tells the process's peak in MiB; with True, after the peak was set back to what is held now.

    getrusage has the peak of the whole life, and of the parent at the start of this program: what was once held would hide a call's.
    """
    with open("/proc/self/clear_refs", "wb", buffering=0) as reset, open("/proc/self/status", "rb", buffering=0) as status:

        def peak_mib(from_now: bool) -> float:
            if from_now:
                reset.write(_RESETS_PEAK)
            words = os.pread(status.fileno(), 8192, 0)
            return int(words.partition(b"VmHWM:")[2].split(None, 1)[0]) / 1024

        yield peak_mib


def _place(error: BaseException) -> str:
    """The innermost line of our own code, with that where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/site-packages/" not in frame.filename and "/tests/fuzz/" not in frame.filename]
    shown = dict.fromkeys(f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}" for frame in (*own[-1:], *frames[-1:]))
    return f"{type(error).__name__} at {', '.join(shown)}"


def _held_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MIB
