"""An event loop that does as much as a daemon at work, and nothing that could be slow: how late it is says how busy the machine is.

    python -m tests.chaos.idle
prints {"probes": N, "late": N} (late: by more than 50 ms) for each line on standard input, counted since the line before
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

PROBE_S = 0.1
LATE_S = 0.05
BUSY_S = 0.01
"""Of each turn: who takes a tenth of a processor is not served like one who sleeps."""


class Probes:
    def __init__(self) -> None:
        self.probes = self.late = 0

    async def run(self) -> None:
        due = time.monotonic() + PROBE_S
        while True:
            await asyncio.sleep(due - time.monotonic())
            now = time.monotonic()
            while due <= now:
                self.probes += 1
                self.late += now - due > LATE_S
                due += PROBE_S
            busy = time.process_time() + BUSY_S
            while time.process_time() < busy:
                pass


async def main() -> None:
    probes = Probes()
    running = asyncio.create_task(probes.run())
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while await stdin.readline():
        print(json.dumps({"probes": probes.probes, "late": probes.late}), flush=True)
        probes.probes = probes.late = 0
    running.cancel()


if __name__ == "__main__":
    asyncio.run(main())
