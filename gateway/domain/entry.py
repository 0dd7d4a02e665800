"""`Entry`: one ledger row of the journal, as the recorder writes it and an uplink delivers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """`body` is the complete CloudEvent as JSON bytes, stored once, sent as it is.

    `position` orders the rows of one database and never has a hole; `sequence` starts at 1 in each `epoch` and rises by
    exactly 1; `id` is `<gateway>:<epoch>:<sequence>`. `at` is aware UTC, the event's own time.
    """

    position: int
    epoch: str
    sequence: int
    id: str
    work_unit: str | None
    type: str
    job_order_id: str | None
    at: datetime
    body: bytes
