"""Ledger events as CloudEvents 1.0, and the JSON rules that everything the gateway writes follows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from gateway.domain.events import Event
from gateway.domain.instants import timestamp

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME
_INTEGER_BITS = 63
"""Beyond this orjson has no integer; a float keeps the magnitude."""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        whole = int(value) if value.adjusted() < 19 and value == value.to_integral_value() else None
        return whole if whole is not None and whole.bit_length() <= _INTEGER_BITS else float(value)
    raise TypeError(f"{type(value).__name__} has no place in a message")


def encode(value: Any) -> bytes:
    """JSON bytes: Decimal as a number (whole ones without a fraction), datetime as ISO 8601 UTC with `Z`, NaN and infinity as null.

    Dataclasses and enumerations are written by their fields and values. Raises TypeError (orjson.JSONEncodeError) for anything else.
    """
    return trimmed(orjson.dumps(value, default=_plain, option=_OPTIONS))


def trimmed(written: bytes) -> bytes:
    """A copy in its own size of what orjson wrote. orjson leaves the whole buffer, 4 KiB at least and up to eight times the text, behind
    its bytes (home-assistant/core pull request 181245): who keeps a body, a payload or a snapshot would keep that too."""
    return memoryview(written).tobytes()


def encode_line(value: Any) -> bytes:
    """The same, as one line of a file."""
    return orjson.dumps(value, default=_plain, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE)


def cloud_event(event: Event, *, gateway_id: str, epoch: str, sequence: int, source: str) -> dict[str, Any]:
    """The envelope of one ledger event; `subject` only where there is a job order. To be written with `encode`."""
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{gateway_id}:{epoch}:{sequence}",
        "source": source,
        "type": f"lineside.{event.type}.v1",
        "time": timestamp(event.at),
    }
    if event.job_order_id is not None:
        envelope["subject"] = event.job_order_id
    envelope["epoch"] = epoch
    envelope["sequence"] = sequence
    envelope["datacontenttype"] = "application/json"
    envelope["data"] = event.data()
    return envelope
