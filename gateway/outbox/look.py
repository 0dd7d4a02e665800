"""The outbox as a person sees it: what waits for each uplink, what was set apart and why. Read only; the gateway may run or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.domain.instants import moment
from gateway.outbox.session import open_reader
from gateway.outbox.statedir import DATABASE
from gateway.outbox.transaction import DELIVERED

PENDING = "pending"
RETIRED = "delivered"


@dataclass(frozen=True)
class Row:
    """One ledger row at one uplink. `state`: pending, quarantined, parked, delivered; `reason`: the peer's words, where it refused."""

    uplink: str
    id: str
    type: str
    work_unit: str | None
    at: datetime
    state: str
    reason: str


@dataclass(frozen=True)
class Waiting:
    """What one uplink still has to take; `apart`: rows set apart, which wait for a new connection or a person."""

    uplink: str
    rows: int
    bytes: int
    oldest: datetime | None
    apart: int


_ROW = "j.id, j.type, j.work_unit, j.at"


class Outbox:
    """Raises FileNotFoundError where there is no journal, and sqlite3.Error where it cannot be read."""

    def __init__(self, state_dir: Path, uplinks: Sequence[str]) -> None:
        path = state_dir / DATABASE
        if not path.exists():
            raise FileNotFoundError(path)
        self._connection = open_reader(path)
        self.uplinks = tuple(uplinks)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def waiting(self, uplink: str) -> Waiting:
        rows, size, oldest = self._one(
            "SELECT count(*), coalesce(sum(length(body)), 0), min(at) FROM journal WHERE position > ?"
            " AND position NOT IN (SELECT position FROM exceptions WHERE uplink = ?)",
            (self._cursor(uplink), uplink),
        )
        (apart,) = self._one("SELECT count(*) FROM exceptions WHERE uplink = ? AND state != ?", (uplink, DELIVERED))
        return Waiting(uplink, rows, size, None if oldest is None else moment(oldest), apart)

    def apart(self, uplink: str) -> Iterator[Row]:
        """Rows that the peer refused, in journal order."""
        sql = (
            f"SELECT {_ROW}, e.state, e.reason FROM exceptions e JOIN journal j USING (position) WHERE e.uplink = ? AND e.state != ?"
            " ORDER BY position"
        )
        for id_, type_, unit, at, state, reason in self._connection.execute(sql, (uplink, DELIVERED)):
            yield Row(uplink, id_, type_, unit, moment(at), state, reason)

    def pending(self, uplink: str, limit: int) -> Iterator[Row]:
        """The next rows, in journal order."""
        sql = (
            f"SELECT {_ROW} FROM journal j WHERE position > ? AND position NOT IN (SELECT position FROM exceptions WHERE uplink = ?)"
            " ORDER BY position LIMIT ?"
        )
        for id_, type_, unit, at in self._connection.execute(sql, (self._cursor(uplink), uplink, limit)):
            yield Row(uplink, id_, type_, unit, moment(at), PENDING, "")

    def found(self, row_id: str) -> tuple[list[Row], bytes] | None:
        """That row at each uplink, and its message as it is sent; None: the journal has none of this id."""
        row = self._connection.execute(f"SELECT position, {_ROW}, body FROM journal j WHERE id = ?", (row_id,)).fetchone()
        if row is None:
            return None
        position, id_, type_, unit, at, body = row
        rows = []
        for uplink in self.uplinks:
            refused = self._connection.execute(
                "SELECT state, reason FROM exceptions WHERE uplink = ? AND position = ?", (uplink, position)
            ).fetchone()
            state, reason = refused or (PENDING if position > self._cursor(uplink) else RETIRED, "")
            rows.append(Row(uplink, id_, type_, unit, moment(at), state, reason))
        return rows, body

    def bodies(self, uplinks: Sequence[str], *, everything: bool) -> Iterator[bytes]:
        """Messages as they are sent, in journal order: those that one of `uplinks` does not have yet, or all that are still kept."""
        condition, values = "1", []
        if not everything:
            parts = []
            for uplink in uplinks:
                parts.append(
                    "(position > ? AND position NOT IN (SELECT position FROM exceptions WHERE uplink = ? AND state = 'delivered'))"
                    " OR position IN (SELECT position FROM exceptions WHERE uplink = ? AND state != 'delivered')"
                )
                values += [self._cursor(uplink), uplink, uplink]
            condition = " OR ".join(parts) or "0"
        with closing(self._connection.execute(f"SELECT body FROM journal WHERE {condition} ORDER BY position", values)) as cursor:
            for (body,) in cursor:
                yield body

    def _cursor(self, uplink: str) -> int:
        found: int = self._one("SELECT coalesce(max(position), 0) FROM cursors WHERE uplink = ?", (uplink,))[0]
        return found

    def _one(self, sql: str, values: Sequence[object]) -> tuple[int, ...]:
        row: tuple[int, ...] = self._connection.execute(sql, values).fetchone()
        return row
