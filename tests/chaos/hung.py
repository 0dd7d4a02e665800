"""The daemon with one part that hangs for good as soon as it gets SIGUSR1: the event loop, the journal's writer, or a poller.

`main` takes the kind, the address of NOTIFY_SOCKET, then the daemon's own arguments.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import drivers.modbus
from gateway.__main__ import main as lineside
from gateway.outbox.store import Store

KINDS = ("loop", "writer", "poller")
_FOR_GOOD_S = 3600.0


def main(arguments: list[str]) -> int:
    kind, address, *rest = arguments
    os.environ["NOTIFY_SOCKET"] = address
    hung = _Hung(kind)
    signal.signal(signal.SIGUSR1, lambda *_: hung.begin())
    return lineside(rest)


class _Hung:
    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._hangs = False
        if kind == "writer":
            commit = Store.commit
            Store.commit = self._behind(commit, deaf=False)  # type: ignore[method-assign]
        elif kind == "poller":
            read = drivers.modbus.ModbusDriver.read
            drivers.modbus.ModbusDriver.read = self._behind(read, deaf=True)  # type: ignore[method-assign]

    def begin(self) -> None:
        if self._kind == "loop":
            time.sleep(_FOR_GOOD_S)
        self._hangs = True

    def _behind(self, work: Any, *, deaf: bool) -> Any:
        """`deaf`: cancelling it does not help either, so that no time-out ends it."""

        async def gate(*args: Any, **options: Any) -> Any:
            while self._hangs:
                try:
                    await asyncio.sleep(_FOR_GOOD_S)
                except asyncio.CancelledError:
                    if not deaf:
                        raise
            return await work(*args, **options)

        return gate
