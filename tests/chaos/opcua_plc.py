"""A machine and its PLC's OPC UA server, a process that can be frozen, killed and reprogrammed while the machine goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.loopback import free_port
from tests.peers import peer
from tests.system.line import die_with_parent

SERVERS = ("asyncua", "node-opcua")

PIECE_S = 0.1
_START_LIMIT_S = 60.0
_ANSWER_LIMIT_S = 20.0


@dataclass(frozen=True)
class Held:
    """What the server holds for its clients."""

    sessions: int
    subscriptions: int
    channels: int


class Plc:
    """`total`: pieces the machine made, whatever its server shows."""

    def __init__(self, server: str, folder: Path) -> None:
        self.server = server
        self.port = free_port()
        self.total = 1000
        self.making = False
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when the server listens."""
        if self.server == "asyncua":
            command = [sys.executable, "-m", "tests.chaos.opcua_server", str(self.port), str(self.total)]
        else:
            command = peer("opcua_server.js", str(self.port), str(self._folder / "pki"), str(self.total))
        with (self._folder / "plc.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, preexec_fn=die_with_parent
            )
        await self._answer(_START_LIMIT_S)
        self._tell(total=self.total)

    async def make_pieces(self) -> None:
        """Until cancelled; `making` halts and releases the machine."""
        while True:
            await asyncio.sleep(PIECE_S)
            if self.making:
                self.total += 1
                self._tell(total=self.total)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL: connections end with the process, sessions and subscriptions are forgotten."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def program(self, *, there: bool) -> None:
        """A program download: the nodes vanish, and come back as new nodes of the same name."""
        self._tell(program=there)

    async def held(self) -> Held:
        self._tell(ask="held")
        return Held(**await self._answer(_ANSWER_LIMIT_S))

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _tell(self, **order: Any) -> None:
        if self._process is not None and self._process.stdin is not None:
            # A server that was just killed reads no more; the next one is told the total when it starts.
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _answer(self, limit_s: float) -> dict[str, int]:
        """The next line of JSON; node-opcua prints remarks of its own between them."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(limit_s):
            while line := await self._process.stdout.readline():
                if line.startswith(b"{"):
                    found: dict[str, int] = json.loads(line)
                    return found
        raise RuntimeError(f"the {self.server} server ended by itself:\n{(self._folder / 'plc.log').read_text()[-2000:]}")
