"""What a tracker hands to the journal in the transaction of its events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Record:
    """One keyed row of a work unit's memory that changed: kind is window, stop, job or interval; `body` JSON."""

    kind: str
    key: str
    at: datetime
    body: bytes


@dataclass(frozen=True)
class Snapshot:
    """Everything `observe` needs to go on: the hot `state` (JSON, small, replaced each time) and the rows that changed."""

    work_unit: str
    version: int
    state: bytes
    records: tuple[Record, ...] = ()
