"""How a simulator runs as a process of its own: until SIGTERM, Ctrl-C, or the end of whoever started it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable


def run_until_stopped(serve: Callable[[asyncio.Event], Awaitable[None]], *, with_stdin: bool = False) -> int:
    """Run `serve` and set its event at SIGTERM or SIGINT; `with_stdin`: also when standard input ends. Returns 0."""

    async def run() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        watch = asyncio.create_task(_set_at_end_of_stdin(stopped), name="stdin") if with_stdin else None
        try:
            await serve(stopped)
        finally:
            if watch is not None:
                watch.cancel()

    asyncio.run(run())
    return 0


async def _set_at_end_of_stdin(stopped: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass
    stopped.set()
