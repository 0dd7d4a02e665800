"""The connection to one ERP over HTTP: one request in flight, repeated as it is while its reply gets lost, with the token that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.seams import UplinkError
from gateway.uplink.base import SecretReader
from gateway.uplink.erp.http_request import LOST, Reply, open_session, request
from gateway.uplink.erp.oauth import TokenSource
from gateway.uplink.settings import HttpSettings
from gateway.uplink.tls_trouble import tls_remedy

_LARGEST_ANSWER = 16 * 1024 * 1024
_AGAIN_S = (0.3, 1.0)
"""A request whose reply was lost is repeated at once: two more tries before the link counts as down."""

_ADDRESS = Text("Vérifier l'adresse de l'ERP et le réseau.", "Check the ERP's address and the network.")
_TOKEN = Text("Vérifier le jeton d'accès de cette liaison.", "Check the access token of this uplink.")
_CLIENT = Text(
    "L'ERP refuse le jeton que donne le fournisseur d'identité : vérifier `oauth2: {scope}` et les droits de ce client dans l'ERP.",
    "The ERP refuses the identity provider's token: check `oauth2: {scope}` and the rights of this client in the ERP.",
)


class HttpClient:
    """Does nothing before `open`; may be opened again after `close`."""

    def __init__(self, settings: HttpSettings, *, clock: Clock, secrets: SecretReader) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._clock = clock
        self._secrets = secrets
        self._tokens = None if settings.oauth2 is None else TokenSource(settings.oauth2, settings.tls, clock=clock, secrets=secrets)
        self._session: aiohttp.ClientSession | None = None
        self._one_at_a_time = asyncio.Lock()

    def open(self) -> None:
        """Raises UplinkError when token or TLS files cannot be read."""
        headers = {}
        if self._settings.token is not None:
            headers["Authorization"] = f"Bearer {self._secrets(self._settings.token)}"
        self._session = open_session(tls=self._settings.tls, is_tls=self._settings.address()[2], headers=headers)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def token(self) -> bool:
        """Have a token ready. False: this ERP is asked without one from an identity provider. Raises UplinkError."""
        if self._tokens is None:
            return False
        await self._tokens.token()
        return True

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; after a 401 once more with a new token. Raises UplinkError after three tries without a reply."""
        async with self._one_at_a_time:
            # The tries of one request follow each other: another in between could meet every good moment of an ERP that has bad ones.
            if self._tokens is None:
                return await self._tried(method, path, params, data, headers or {})
            token = await self._tokens.token()
            reply = await self._tried(method, path, params, data, {**(headers or {}), "Authorization": f"Bearer {token}"})
            if reply.status != 401:
                return reply
            self._tokens.refused(token)
            token = await self._tokens.token()
            reply = await self._tried(method, path, params, data, {**(headers or {}), "Authorization": f"Bearer {token}"})
            if reply.status == 401:
                # It may have been its last hour, or the ERP's keys changed: the next request does not count on it.
                self._tokens.refused(token)
            return reply

    def refusal(self, reply: Reply) -> UplinkError:
        """What an answer means that is neither success nor about single rows."""
        remedy = (_TOKEN if self._tokens is None else _CLIENT) if reply.status in (401, 403) else None
        return UplinkError(f"the ERP answered {reply.status}", retry_after_s=reply.retry_after_s, remedy=remedy)

    async def _tried(
        self, method: str, path: str, params: Mapping[str, str] | None, data: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        remedy: Text | None = None
        for pause in (*_AGAIN_S, None):
            try:
                return await self._once(method, path, params, data, headers)
            except LOST as error:
                # A peer that hangs up over our certificate says so in some tries only: its reset may overtake its word.
                remedy = remedy or tls_remedy(error)
                if pause is None:
                    text = str(error) or type(error).__name__
                    silent = isinstance(error, TimeoutError)
                    raise UplinkError(f"{method} {path}: {text}", silent=silent, remedy=remedy or _ADDRESS) from error
                await self._clock.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _once(
        self, method: str, path: str, params: Mapping[str, str] | None, data: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        if self._session is None:
            raise UplinkError("not connected")
        return await request(
            self._session, method, f"{self._url}/{path}", now=self._clock.now(), largest=_LARGEST_ANSWER, params=params, data=data,
            headers=headers,
        )  # fmt: skip
