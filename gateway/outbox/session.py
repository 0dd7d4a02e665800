"""One SQLite connection that lives in a thread of its own, so that the loop never waits for a disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiosqlite

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
"""Only a backup or a person with sqlite3 can hold the write lock; the gateway has one writer."""


def open_writer(path: Path) -> sqlite3.Connection:
    """The one writing connection, in autocommit mode: transactions are spelt out. Raises sqlite3.Error.

    It may be made in one thread and handed to another, which then is the only one that uses it.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
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


class _Connection(aiosqlite.Connection):
    """aiosqlite's connection and thread, with one hand-over for a whole function instead of one for each statement."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect, iter_chunk_size=64)
        # A connection that nobody closed must not keep a process from ending: what it had not committed was promised to nobody.
        self._thread.daemon = True

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._execute(lambda: work(self._conn))  # type: ignore[no-untyped-call]
        return result


class Session:
    """Runs functions on one connection, in the order in which they are handed in; the connection is opened by the first of them.

    One hand-over per function, however many statements it has: that is what makes a commit cheap.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the connection's thread. Raises what it raises, and sqlite3.Error when the connection cannot be opened.

        A caller that is cancelled leaves the work running to its end: who must know the outcome shields this call.
        """
        connection = self._connection or await self._open()
        return await connection.call(work)

    async def _open(self) -> _Connection:
        async with self._opening:
            if self._connection is None:
                connection = _Connection(self._connect)
                await connection
                self._connection = connection
            return self._connection

    async def close(self) -> None:
        """Let what was handed in end, close the connection, end its thread; a later `run` opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
