"""One HTTP request and all of its reply, within bounds of time and size."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from gateway.seams import UplinkError
from gateway.uplink.base import tls_context
from gateway.uplink.settings import Tls

REQUEST_BOUND_S = 10.0
LOST = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""No reply came back. ValueError: what came is no HTTP, or no name server takes the address."""
_LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True)
class Reply:
    """`retry_after_s`: what the server asked for, None where it did not. `allow`: the methods that it names (RFC 9110, 10.2.1)."""

    status: int
    payload: bytes
    retry_after_s: float | None = None
    allow: str = ""

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


def open_session(*, tls: Tls | None, is_tls: bool, headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """A session with one connection and no cookies. Raises UplinkError for TLS files that cannot be used."""
    return aiohttp.ClientSession(
        headers={"Accept": "application/json", "User-Agent": "lineside", **headers},
        timeout=aiohttp.ClientTimeout(total=REQUEST_BOUND_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=1, ssl=tls_context(tls) if is_tls else True),
    )


async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    now: datetime,
    largest: int,
    params: Mapping[str, str] | None = None,
    data: bytes | Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Raises one of LOST when no whole reply came, UplinkError for one above `largest` bytes. Redirects are replies, not followed."""
    async with session.request(method, url, params=params, data=data, headers=headers, allow_redirects=False) as response:
        payload = bytearray()
        async for chunk in response.content.iter_any():
            payload += chunk
            if len(payload) > largest:
                raise UplinkError(f"{method} {url}: the answer is over {largest} bytes")
        wait_s = retry_after_s(response.headers.get("Retry-After"), now)
        return Reply(response.status, bytes(payload), wait_s, response.headers.get("Allow", ""))


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3), at most an hour; None for anything else."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return min(float(text), _LONGEST_WAIT_S)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError, IndexError):
        # The standard library's parser lets all of these through for text that only looks like a date.
        return None
    wait = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(wait, 0.0), _LONGEST_WAIT_S)
