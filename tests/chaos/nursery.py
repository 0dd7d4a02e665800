"""Processes that are started and killed thousands of times: forked from one that has loaded the libraries, so that a start costs its own
work and not the second of importing. Each is a process of its own with a session of its own; a SIGKILL takes it as it takes any other.

    python -m tests.chaos.nursery gateway.__main__:main

then, a JSON list a line: `["start", LOG, ARGUMENT...]` (answer: its process id), `["kill", PID]`, `["term", PID]` (answer: how it ended).
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.system.line import die_with_parent

PRELOADED = ("gateway.cli.run", "gateway.app", "gateway.outbox.store", "pymodbus.client", "paho.mqtt.client", "aiohttp")


class Nursery:
    """The rig's side. `main`: `module:function`, called with the list of arguments; its answer is the exit status.

    `environment`: beside that of the rig. `preload`: modules to load beside the usual ones.
    """

    def __init__(self, main: str, *, environment: Mapping[str, str] | None = None, preload: Sequence[str] = ()) -> None:
        self._main = main
        self._environment = {**os.environ, **(environment or {})}
        self._preload = preload
        self._process: asyncio.subprocess.Process | None = None

    async def open(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.nursery", self._main, *self._preload,
            env=self._environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent,
        )  # fmt: skip
        assert await self._answer() == "ready"

    async def start(self, log: Path, *arguments: str) -> int:
        """Its process id."""
        return int(await self._ask("start", str(log), *arguments))

    async def kill(self, pid: int) -> int:
        """SIGKILL, and wait for its end; what `Popen.returncode` would say: -9, or its own exit status when it had ended before."""
        return int(await self._ask("kill", pid))

    async def term(self, pid: int) -> int:
        """SIGTERM, and wait for its end; as `kill`."""
        return int(await self._ask("term", pid))

    async def close(self) -> None:
        """Whatever still runs is killed with it."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()

    async def _ask(self, *words: Any) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the nursery has ended")
        return line.decode().strip()


def serve(main: Callable[[list[str]], int]) -> None:
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        order, *words = json.loads(line)
        if order == "start":
            print(_fork(main, *words), flush=True)
        else:
            (pid,) = words
            os.kill(pid, signal.SIGKILL if order == "kill" else signal.SIGTERM)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


def _fork(main: Callable[[list[str]], int], log: str, *arguments: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        die_with_parent()
        nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        for wanted, given in ((0, nothing), (1, output), (2, output)):
            os.dup2(given, wanted)
        status = main(list(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise AssertionError


if __name__ == "__main__":
    for name in (*PRELOADED, *sys.argv[2:]):
        importlib.import_module(name)
    module, _, function = sys.argv[1].partition(":")
    serve(getattr(importlib.import_module(module), function))
