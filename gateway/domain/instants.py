"""Time inside the core: whole microseconds since 1970-01-01 UTC, so that parts sum exactly to their window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

Instant = int
"""Microseconds since the epoch, UTC."""

SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant(at: datetime) -> Instant:
    """Aware datetime -> Instant."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: Instant) -> datetime:
    """Instant -> aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=at)


def timestamp(at: datetime) -> str:
    """ISO 8601 UTC with `Z`, with a fraction only where there is one."""
    text = at.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0')}Z" if "." in text else f"{text}Z"


def seconds(duration: int) -> float:
    """Microseconds -> seconds."""
    return duration / SECOND
