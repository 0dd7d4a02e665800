"""What a tracker hands to the journal in the transaction of its events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Record:
    """One keyed row of a work unit's memory that changed: kind is window, stop, job, interval, lot ...; `body` JSON.

    `names`: (name, role) of what this row is found by in years to come: lots, serial numbers, orders.
    """

    kind: str
    key: str
    at: datetime
    body: bytes
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Everything `observe` needs to go on: the hot `state` (JSON, small, replaced each time) and the rows that changed."""

    work_unit: str
    version: int
    state: bytes
    records: tuple[Record, ...] = ()
