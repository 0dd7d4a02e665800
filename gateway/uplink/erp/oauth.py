"""An access token by OAuth 2.0 client credentials (RFC 6749, 4.4): asked for when it is needed, kept until shortly before it ends.

Neither secret nor token is ever logged or part of an error.
"""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from urllib.parse import quote_plus

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.seams import UplinkError
from gateway.uplink.base import SecretReader
from gateway.uplink.erp.http_request import LOST, Reply, open_session, request
from gateway.uplink.messages import NotAMessage, read_object
from gateway.uplink.settings import OAuth2, Tls
from gateway.uplink.tls_trouble import tls_remedy

_LONGEST_ANSWER = 256 * 1024
_LONGEST_WORDS = 300
_USUAL_LIFE_S = 300.0
"""Of a token whose provider does not say how long it lives (RFC 6749, 5.1 only recommends `expires_in`)."""
_LONGEST_LIFE_S = 86400
_MARGIN_S = 60.0
"""A token is renewed so long before its end, or in the last tenth of a short life: no request should meet the end on its way."""
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750, 2.1: anything else would break out of the header."""

_IN_HEADER, _IN_FORM = "client_secret_basic", "client_secret_post"

_ADDRESS = Text("Vérifier `oauth2: {token_url}` et le réseau.", "Check `oauth2: {token_url}` and the network.")
_NOT_IT = Text(
    "Vérifier `oauth2: {token_url}` : cette adresse ne donne pas de jeton.", "Check `oauth2: {token_url}`: this address gives no token."
)
_CLIENT = Text(
    "Vérifier `client_id`, `client_secret` et `method`, et que le secret n'a pas expiré chez le fournisseur d'identité.",
    "Check `client_id`, `client_secret` and `method`, and that the secret has not expired at the identity provider.",
)
_GRANT = Text(
    "Autoriser à ce client l'échange « client credentials » chez le fournisseur d'identité.",
    'Allow this client the grant "client credentials" at the identity provider.',
)
_SCOPE = Text(
    "Vérifier `oauth2: {scope}` : le fournisseur d'identité n'accorde pas cette portée à ce client.",
    "Check `oauth2: {scope}`: the identity provider does not grant it to this client.",
)
_PROVIDER = Text("Prévenir l'administrateur du fournisseur d'identité.", "Tell the identity provider's administrator.")

# RFC 6749, 5.2.
_BY_ERROR = {"invalid_client": _CLIENT, "invalid_scope": _SCOPE, "unauthorized_client": _GRANT, "unsupported_grant_type": _GRANT}


class TokenSource:
    """The token of one uplink. `tls` is the uplink's own, for a provider that has none of its own in `settings`."""

    def __init__(self, settings: OAuth2, tls: Tls | None, *, clock: Clock, secrets: SecretReader) -> None:
        self._settings = settings
        self._tls = settings.tls or tls
        self._clock = clock
        self._secrets = secrets
        self._methods: tuple[str, ...] = (_IN_HEADER, _IN_FORM) if settings.method is None else (settings.method,)
        """What may still be tried; the one that worked once is kept."""
        self._token: str | None = None
        self._renew_at = 0.0

    async def token(self) -> str:
        """The token to send now. Raises UplinkError, with what to do, when the provider gives none."""
        if self._token is None or self._clock.monotonic() >= self._renew_at:
            asked_at = self._clock.monotonic()
            reply = await self._ask(self._methods[0])
            if reply.status in (400, 401) and len(self._methods) > 1 and _is_unknown(reply):
                other = await self._ask(self._methods[1])
                if other.status == 200:
                    reply, self._methods = other, self._methods[1:]
            self._token, life_s = self._read(reply)
            self._methods = self._methods[:1]
            self._renew_at = asked_at + life_s - min(_MARGIN_S, life_s / 10)
        return self._token

    def refused(self, token: str) -> None:
        """The ERP does not take `token` (any more): the next one is asked for anew."""
        if token == self._token:
            self._token = None

    async def _ask(self, method: str) -> Reply:
        settings = self._settings
        secret = self._secrets(settings.client_secret)
        form = {"grant_type": "client_credentials"}
        headers = {}
        if settings.scope is not None:
            form["scope"] = settings.scope
        if method == _IN_HEADER:
            # Both parts are form-encoded before they are joined: RFC 6749, 2.3.1.
            pair = f"{quote_plus(settings.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": settings.client_id, "client_secret": secret}
        try:
            # A session of its own: another host, perhaps another authority, and a token lasts for minutes at least.
            async with open_session(tls=self._tls, is_tls=settings.address()[2], headers=headers) as session:
                return await request(session, "POST", settings.token_url, now=self._clock.now(), largest=_LONGEST_ANSWER, data=form)
        except LOST as error:
            text = str(error) or type(error).__name__
            raise UplinkError(
                f"no token: {settings.token_url}: {text}", silent=isinstance(error, TimeoutError), remedy=tls_remedy(error) or _ADDRESS
            ) from error

    def _read(self, reply: Reply) -> tuple[str, float]:
        """Token and life in seconds. Raises UplinkError."""
        answer = _answer(reply)
        if reply.status != 200:
            raise self._refusal(reply, answer)
        token, kind = answer.get("access_token"), answer.get("token_type")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise UplinkError(f"no token: {self._settings.token_url} answered 200 without a usable `access_token`", remedy=_NOT_IT)
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise UplinkError(f"no token: {self._settings.token_url} gave a token of another type than Bearer", remedy=_PROVIDER)
        return token, _life_s(answer.get("expires_in"))

    def _refusal(self, reply: Reply, answer: dict[str, object]) -> UplinkError:
        code, description = answer.get("error"), answer.get("error_description")
        words = " ".join(str(part) for part in (reply.status, code, description) if part is not None)
        # A server under test has been seen to say back what it was sent.
        words = words.replace(self._secrets(self._settings.client_secret), "(secret)")
        words = "".join(sign if sign.isprintable() else " " for sign in words)[:_LONGEST_WORDS]
        if reply.status == 429 or reply.status >= 500:
            remedy = _PROVIDER
        elif isinstance(code, str):
            remedy = _BY_ERROR.get(code, _PROVIDER)
        else:
            remedy = _CLIENT if reply.status in (401, 403) else _NOT_IT
        text = f"no token: {self._settings.token_url} answered {words}"
        return UplinkError(text, retry_after_s=reply.retry_after_s, remedy=remedy)


def _answer(reply: Reply) -> dict[str, object]:
    """Its JSON object; empty for anything else."""
    try:
        return read_object(reply.payload, _LONGEST_ANSWER)
    except NotAMessage:
        return {}


def _is_unknown(reply: Reply) -> bool:
    """Whether the provider does not know the client, perhaps because it looked for id and secret elsewhere."""
    code = _answer(reply).get("error")
    return code in ("invalid_client", "invalid_request") or (code is None and reply.status == 401)


def _life_s(value: object) -> float:
    """`expires_in`, which some providers send as text. A life below a second would ask for a token with every request."""
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value <= 0:
        return _USUAL_LIFE_S
    return float(min(max(value, 1), _LONGEST_LIFE_S))
