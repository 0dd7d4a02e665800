"""Where a journal begins to count anew, so that no key is ever given twice."""

from __future__ import annotations

import secrets
import sqlite3

from gateway.domain.instants import Instant


def begin_epoch(connection: sqlite3.Connection, origin: str, now: Instant) -> str:
    """Add an epoch whose first row is the journal's next one; -> its name. `origin`: see the schema."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
    epoch = secrets.token_hex(5)
    connection.execute("INSERT INTO epochs (epoch, base, since, origin) VALUES (?, ?, ?, ?)", (epoch, row[0] if row else 0, now, origin))
    return epoch
