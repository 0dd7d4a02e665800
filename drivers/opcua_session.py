"""One OPC UA session: opened with a fresh asyncua client, everything under a timeout, foreign errors turned into LinkError.

asyncua's own reconnect stays off: after a network hole it can stay "connected" with an empty subscription for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import structlog
from asyncua.client.client import Client
from asyncua.client.ua_session import UaSession
from asyncua.ua import ua_binary
from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.exceptions import InvalidSignature

from drivers import remedies
from drivers.base import Clock, LinkError
from drivers.opcua_pki import application_uri
from drivers.opcua_security import GuardedClient, Secured, Security, User, ends

# The library logs every failed try, with a traceback: here an outage is told once, by whoever keeps the link alive.
logging.getLogger("asyncua.client").setLevel(logging.CRITICAL)

# A killed gateway's session must not occupy one of a small PLC's ten for long.
SESSION_TIMEOUT_S = 30
# The probe of asyncua's supervisor shares this interval as its timeout: at 1 s a slow PLC would be called dead.
_PROBE_S = 5.0
# A small PLC has few request slots.
_CONCURRENT_REQUESTS = 5
# How long a broken session may take to say goodbye.
_FAREWELL_S = 0.3

# What asyncua raises over bytes it cannot make sense of: the peer's fault, not ours.
_GARBLED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, RecursionError, struct.error, InvalidSignature)


class _NoArray:
    """An array of nothing: its elements have no bytes, and asyncua would make the two thousand million that a length of four bytes can
    announce. No server has one to send (OPC 10000-6, 5.2.2.16)."""

    @staticmethod
    def unpack_array(data: object, length: int) -> list[None]:
        if length > 0:
            raise ValueError(f"an array of {length} times nothing")
        return []


def _as_it_came(flat: list[object], dims: list[int]) -> list[object]:
    """A matrix stays the row of elements that came. asyncua would make lists of lists of it and fill them up to what its dimensions
    promise, a million for a message of 48 bytes; `drivers.opcua_arrays` counts instead, and looks whether both agree."""
    return flat


ua_binary.Primitives1.Null = _NoArray  # type: ignore[attr-defined]
ua_binary._reshape = _as_it_came

_NO_SESSION_LEFT = frozenset({StatusCodes.BadTooManySessions, StatusCodes.BadTcpNotEnoughResources})
_USER_REFUSED = ("BadUser", "BadIdentity")
_NOT_ADMITTED = ("BadCertificate", "BadSecurity", "BadNonce", "BadApplicationSignature")


class Session:
    """`open` once, use `services` inside `guard()`, `close` at the end."""

    def __init__(self, url: str, clock: Clock, *, timeout_s: float, peer: str) -> None:
        self._url = url
        self._clock = clock
        self._timeout_s = timeout_s
        self._peer = peer
        self._client: Client | None = None
        self._broken = False
        self.certificates: Mapping[str, datetime] = {}
        """Which certificate ends when, once the server is believed."""

    @property
    def services(self) -> UaSession:
        """Raises LinkError when the session is closed."""
        session: UaSession = self.client.uaclient.session
        return session

    @property
    def client(self) -> Client:
        """Raises LinkError when the session is closed."""
        if self._client is None:
            raise remedies.dropped(self._peer, "session closed")
        return self._client

    async def open(self, security: Security | None, user: User | None) -> None:
        """Connect and activate; `security` None: without any. Raises LinkError."""
        client = GuardedClient(self._url, timeout_s=self._timeout_s, probe_s=_PROBE_S, peer=self._peer, user=user)
        client.name = client.description = "lineside"
        client.application_uri = application_uri(socket.gethostname())
        client.product_uri = "urn:lineside"
        client.session_timeout = SESSION_TIMEOUT_S * 1000
        client.set_max_concurrent_requests(_CONCURRENT_REQUESTS)
        self._client = client
        try:
            secured = None
            if security is not None:
                # Socket, channel, endpoints: three answers, each within the device's own timeout.
                async with self.guard(3 * self._timeout_s, opening=True):
                    secured = await security.prepare(client, self._clock)
                self.certificates = ends(secured, user)
            await self._connect(client, security, secured)
        except BaseException:
            self._broken = True
            await self.close()
            raise

    async def _connect(self, client: GuardedClient, security: Security | None, secured: Secured | None) -> None:
        try:
            # Socket, channel, session, activation: four answers.
            async with self.guard(4 * self._timeout_s, opening=True):
                await client.connect(auto_reconnect=False)
        except LinkError as error:
            if security is None or secured is None or client.opened:
                raise
            # Some servers answer a channel that they do not want with silence: a second look tells that from one that is gone.
            async with self.guard(3 * self._timeout_s, opening=True):
                raise await security.explain(str(error), secured.server) from error

    @contextlib.asynccontextmanager
    async def guard(self, limit_s: float, *, opening: bool = False) -> AsyncIterator[None]:
        """Turns what asyncua and the network raise inside into LinkError; at most `limit_s`."""
        try:
            async with self._clock.timeout(limit_s):
                yield
        except LinkError:
            self._broken = True
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # asyncua gave up a request of its own; nobody asked this task to end.
            self._broken = True
            raise remedies.dropped(self._peer, "the library gave the request up") from error
        except (TimeoutError, OSError, UaError, *_GARBLED) as error:
            self._broken = True
            raise self._explain(error, opening) from error

    def _explain(self, error: Exception, opening: bool) -> LinkError:
        detail = str(error) or type(error).__name__
        if isinstance(error, UaStatusCodeError):
            name = get_name_and_doc(error.code)[0]
            if error.code in _NO_SESSION_LEFT:
                return remedies.too_many_sessions(self._peer, name)
            if name.startswith(_USER_REFUSED):
                return remedies.user_refused(self._peer, name)
            if name.startswith(_NOT_ADMITTED):
                return remedies.not_admitted(self._peer, name)
            return remedies.dropped(self._peer, name)
        if isinstance(error, TimeoutError):
            return remedies.unreachable(self._peer, "timeout") if opening else remedies.unanswered(self._peer, "timeout")
        if isinstance(error, OSError):
            return remedies.unreachable(self._peer, detail) if opening else remedies.dropped(self._peer, detail)
        if isinstance(error, UaError) or opening:
            return remedies.not_admitted(self._peer, detail)
        return remedies.untrustworthy(self._peer, f"{type(error).__name__}: {detail}")

    def distrust(self) -> None:
        """The link is known to be dead: `close` does not wait for a farewell."""
        self._broken = True

    async def close(self) -> None:
        """Close the session with its subscriptions, the channel and the socket; bounded, never raises."""
        client, self._client = self._client, None
        if client is None:
            return
        # asyncua's own probe may have called the link dead already: then its client closes no socket any more.
        link = client.uaclient.protocol
        try:
            async with self._clock.timeout(_FAREWELL_S if self._broken else 2 * self._timeout_s):
                await client.disconnect()
        except (TimeoutError, OSError, UaError, *_GARBLED) as error:
            structlog.get_logger("lineside.opcua").debug("session_not_closed", peer=self._peer, error=str(error))
        finally:
            client.disconnect_socket()
            if link is not None and link.transport is not None:
                link.transport.abort()
