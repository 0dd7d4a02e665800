"""Time inside the core: whole microseconds since 1970-01-01 UTC, so that parts sum exactly to their window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

Instant = int
"""Microseconds since the epoch, UTC."""

SECOND = 1_000_000
_ISO = orjson.OPT_UTC_Z
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_ZONE = 64
"""Characters; the longest name of the IANA database has 32. zoneinfo goes one call deeper for each part of a name."""


def instant(at: datetime) -> Instant:
    """Aware datetime -> Instant."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: Instant) -> datetime:
    """Instant -> aware UTC datetime."""
    # Seconds and the rest apart: timedelta takes three times as long for one large number.
    return _EPOCH + timedelta(0, at // SECOND, at % SECOND)


def timestamp(at: datetime) -> str:
    """ISO 8601 UTC with `Z`, with a fraction only where there is one."""
    # orjson writes a time five times as fast as isoformat.
    text = orjson.dumps(at if at.tzinfo is UTC else at.astimezone(UTC), option=_ISO)[1:-1].decode()
    return text if not at.microsecond else f"{text[:-1].rstrip('0')}Z"


def known_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name that somebody wrote. Raises ValueError for whatever is none."""
    if len(name) > _LONGEST_ZONE:
        raise ValueError(f"a time zone of {len(name)} characters")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError) as error:
        # OSError: the name of a folder of zones, such as Europe.
        raise ValueError(f"no time zone {name}") from error


def seconds(duration: int) -> float:
    """Microseconds -> seconds."""
    return duration / SECOND
