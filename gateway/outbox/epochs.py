"""Where a journal begins to count anew, so that no key is ever given twice."""

from __future__ import annotations

import secrets
import sqlite3

from gateway.domain.instants import Instant

IN_ORDER = "ORDER BY base, since"
"""Of the table `epochs`: the last is the one that counts. Two begin at one row where all that the first had written was lost."""


def begin_epoch(connection: sqlite3.Connection, origin: str, now: Instant) -> str:
    """Add an epoch whose first row is the journal's next one; -> its name. `origin`: see the schema.

    It comes behind all others by `IN_ORDER`, also where a clock was set back since the latest of them began.
    """
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
    base = row[0] if row else 0
    (latest,) = connection.execute("SELECT max(since) FROM epochs WHERE base >= ?", (base,)).fetchone()
    epoch, since = secrets.token_hex(5), now if latest is None else max(now, latest + 1)
    connection.execute("INSERT INTO epochs (epoch, base, since, origin) VALUES (?, ?, ?, ?)", (epoch, base, since, origin))
    return epoch
