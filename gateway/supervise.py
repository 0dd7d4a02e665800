"""What a link is doing, and the loop that keeps one alive (STUB: nouns only)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.domain.events import Text


class LinkState(StrEnum):
    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DEGRADED = "degraded"
    SILENT = "silent"


@dataclass(frozen=True)
class LinkStatus:
    """One link as page, health topic and metrics show it. Times aware UTC; `next_try_at` while waiting to retry."""

    name: str
    kind: str
    """device or uplink."""
    peer: str
    """Protocol and address for the technician: `OPC UA 192.168.10.21:4840`."""
    state: LinkState
    since: datetime
    last_good: datetime | None = None
    error: str = ""
    remedy: Text | None = None
    attempt: int = 0
    next_try_at: datetime | None = None
    outages: int = 0
    refused_tags: tuple[str, ...] = ()
