"""One SQLite connection that lives in a thread of its own, so that the loop never waits for a disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
"""Only a backup or a person with sqlite3 can hold the write lock; the gateway has one writer."""


def open_writer(path: Path) -> sqlite3.Connection:
    """The one writing connection, in autocommit mode: transactions are spelt out. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    try:
        if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            # Only before the first page is written: what retention frees can be given back to the file system.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL does not sync the log at a commit: acknowledged rows are lost with the power.
        connection.execute("PRAGMA synchronous = FULL")
        # mmap_size stays 0: an I/O error under a memory map is a SIGBUS.
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)


class Session:
    """Runs functions on one connection, in the order in which they are handed in; the connection is opened by the first of them.

    One hand-over per function, however many statements it has: that is what makes a commit cheap.
    """

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the connection's thread. Raises what it raises, and sqlite3.Error when the connection cannot be opened.

        A caller that is cancelled leaves the work running to its end: who must know the outcome shields this call.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, work)

    async def detached(self, work: Callable[[], T]) -> T:
        """Run `work` in the same thread without a connection, as what makes one does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def reopen(self) -> None:
        """Close the connection; the next work opens a new one."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)

    async def close(self) -> None:
        """Let what was handed in end, close the connection, end the thread."""
        await self.reopen()
        self._thread.shutdown(wait=False)

    def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._connect()
        return work(self._connection)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
