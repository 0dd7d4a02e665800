"""A journal that is in use is read through now and then, so that damage is found before somebody needs what it took."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from enum import StrEnum
from functools import partial
from pathlib import Path

from drivers.base import Clock
from gateway.outbox.damage import is_damage
from gateway.outbox.exchange import DAMAGED
from gateway.outbox.session import open_reader

FIRST_S = 3600.0
"""After the start, which has looked for damage itself."""
EVERY_S = 86_400.0
LIMIT_S = 300.0
"""One table takes no longer: as long as it is read the log beside the database cannot shrink."""
STEPS = 50_000
"""Of SQLite's machine between two looks at the time."""
_NICE = 19


class Finding(StrEnum):
    """What a check came to. UNFINISHED: the time or the disk did not allow it."""

    SOUND = "sound"
    DAMAGED = "damaged"
    UNFINISHED = "unfinished"


class JournalCheck:
    """Runs `quick_check` on the database at `path` in a thread of the lowest priority, table by table; `told` gets each finding and what
    SQLite said, in the loop. After DAMAGED the next start saves what can be read into a new journal."""

    def __init__(self, path: Path, clock: Clock, told: Callable[[Finding, str], None]) -> None:
        self._path = path
        self._clock = clock
        self._told = told

    async def run(self) -> None:
        """Until cancelled."""
        await self._clock.sleep(FIRST_S)
        while True:
            await self.check()
            await self._clock.sleep(EVERY_S)

    async def check(self) -> None:
        """Once, now."""
        stop = threading.Event()
        # A thread of its own: its priority is not given back.
        pool = ThreadPoolExecutor(1, thread_name_prefix="journal-check")
        try:
            finding, said = await asyncio.get_running_loop().run_in_executor(pool, self._read_through, stop)
        finally:
            # A thread cannot be cancelled: it looks at this and lets go.
            stop.set()
            pool.shutdown(wait=False)
        if finding is Finding.DAMAGED:
            # A disk that takes no mark must not hide what was found.
            with contextlib.suppress(OSError):
                self._path.with_name(DAMAGED).touch()
        self._told(finding, said)

    def _read_through(self, stop: threading.Event) -> tuple[Finding, str]:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            with closing(open_reader(self._path)) as connection:
                tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
                for table in tables:
                    until = self._clock.monotonic() + LIMIT_S
                    connection.set_progress_handler(partial(self._is_over, stop, until), STEPS)
                    answer = connection.execute(f"PRAGMA quick_check('{table}')").fetchone()[0]
                    if answer != "ok":
                        return Finding.DAMAGED, str(answer)
        except sqlite3.DatabaseError as error:
            return (Finding.DAMAGED if is_damage(error) else Finding.UNFINISHED), str(error)
        return Finding.SOUND, ""

    def _is_over(self, stop: threading.Event, until: float) -> bool:
        return stop.is_set() or self._clock.monotonic() > until
