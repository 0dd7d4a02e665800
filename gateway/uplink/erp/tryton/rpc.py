"""JSON-RPC with a Tryton server: one user's session, and what its answers mean.

Seen on Tryton 8.2.1: an error comes in a 200, a button that wants a person answers 200 with the description of a window, and 401 means that
the session is over. Compare-and-set is `_timestamp` in the context: "model,id" -> the stamp that was read.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.seams import UplinkError
from gateway.uplink.base import SecretReader
from gateway.uplink.erp.http_request import LOST, Reply, open_session, request
from gateway.uplink.erp.tryton.settings import TrytonSettings
from gateway.uplink.tls_trouble import tls_remedy

_LARGEST_ANSWER = 32 * 1024 * 1024
_TRIES = 10
_PAUSE_S = 0.05
"""Between two tries, longer each time: ten of them take two seconds from a server that is not there at all."""

_UNREADABLE = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What odd dates, numbers and depths end in besides text that is no JSON."""

_ADDRESS = Text("Vérifier l'adresse du serveur Tryton et le réseau.", "Check the Tryton server's address and the network.")
_DATABASE = Text(
    "Vérifier `database` : le serveur Tryton n'a pas de base de ce nom, ou n'est pas démarré avec elle (trytond -d).",
    "Check `database`: the Tryton server has none of that name, or was not started with it (trytond -d).",
)
_PASSWORD = Text("Vérifier l'utilisateur et le mot de passe de cette liaison.", "Check the user and password of this uplink.")


class Unanswered(Exception):
    """No whole answer came: whether it was done is unknown."""


class Stale(Exception):
    """Somebody changed the record after it was read; nothing was done."""


class Busy(Exception):
    """The server could not do it now (a lock, a 500); perhaps later."""

    def __init__(self, words: str, retry_after_s: float | None = None) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s


class Declined(Exception):
    """Tryton will not do it as things stand; its own words."""


class _LoggedOut(Exception):
    """The session is over."""


@dataclass(frozen=True)
class Call:
    """One call of a model's method. `stamps`: it is done only while these records are as they were read. `is_button`: a window as the
    answer means that a person is asked, and that nothing was done."""

    model: str
    method: str
    arguments: Sequence[Any]
    stamps: Mapping[str, str] = field(default_factory=dict)
    is_button: bool = False


def button(model: str, method: str, *ids: int) -> Call:
    return Call(model, method, (list(ids),), is_button=True)


class Rpc:
    """Does nothing before `open`; may be opened again after `close`."""

    def __init__(self, settings: TrytonSettings, *, clock: Clock, secrets: SecretReader) -> None:
        self._settings = settings
        self._url = f"{settings.url.rstrip('/')}/{settings.database}/rpc/"
        self._clock = clock
        self._secrets = secrets
        self._session: aiohttp.ClientSession | None = None
        self._authorization: dict[str, str] = {}
        self._count = 0
        self.user_id = 0
        self.context: dict[str, Any] = {}
        """The user's preferences: company, groups, language. It goes with every call."""

    async def open(self) -> None:
        """Log in. Raises UplinkError; leaves nothing open when it does."""
        self._session = open_session(
            tls=self._settings.tls, is_tls=self._settings.address()[2], headers={"Content-Type": "application/json"}
        )
        try:
            await self._log_in()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def log_out(self) -> None:
        """End the session at the server too. Raises what `call` raises."""
        with contextlib.suppress(_LoggedOut):
            await self._post("common.db.logout", [])

    async def read(self, model: str, method: str, *arguments: Any, **context: Any) -> Any:
        """Something that changes nothing, asked again while its answer gets lost. Raises Busy, Declined, UplinkError."""
        return await self._patiently(f"model.{model}.{method}", [*arguments, {**self.context, **context}])

    async def search(self, model: str, domain: Sequence[Any], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Records with these fields, the oldest first. Raises what `read` raises."""
        return as_records(await self.read(model, "search_read", domain, 0, None, [["id", "ASC"]], fields), model, fields)

    async def call(self, call: Call) -> Any:
        """Raises Unanswered, Stale, Busy, Declined, UplinkError."""
        context = {**self.context, "_timestamp": dict(call.stamps)} if call.stamps else self.context
        result = await self._logged_in(f"model.{call.model}.{call.method}", [*call.arguments, context])
        if call.is_button and isinstance(result, dict):
            name = result.get("name") or result.get("wiz_name") or result.get("type")
            raise Declined(f"Tryton opens the window « {name} » and waits for a person")
        return result

    async def _log_in(self) -> None:
        password = self._secrets(self._settings.password)
        try:
            result = await self._patiently("common.db.login", [self._settings.user, {"password": password}, "en"], logged_in=False)
            if not isinstance(result, list) or len(result) < 2 or not isinstance(result[0], int):
                raise UplinkError("the answer to the login cannot be read", remedy=_ADDRESS)
            self.user_id, token = result[0], str(result[1])
            named = f"{self._settings.user}:{self.user_id}:{token}"
            self._authorization = {"Authorization": "Session " + base64.b64encode(named.encode()).decode()}
            preferences = await self._patiently("model.res.user.get_preferences", [True, {}], logged_in=False)
            if not isinstance(preferences, dict):
                raise UplinkError("the user's preferences cannot be read", remedy=_ADDRESS)
            self.context = preferences
        except _LoggedOut as error:
            raise UplinkError(f"Tryton does not let {self._settings.user} in", remedy=_PASSWORD) from error
        except Declined as error:
            raise UplinkError(f"Tryton does not serve the data base {self._settings.database}: {error}", remedy=_DATABASE) from error
        except Busy as error:
            raise UplinkError(f"login: {error}", retry_after_s=error.retry_after_s) from error

    async def _logged_in(self, method: str, parameters: Sequence[Any]) -> Any:
        try:
            return await self._post(method, parameters)
        except _LoggedOut:
            await self._log_in()
        try:
            return await self._post(method, parameters)
        except _LoggedOut as error:
            raise UplinkError(f"Tryton ends the session of {self._settings.user} at once", remedy=_PASSWORD) from error

    async def _patiently(self, method: str, parameters: Sequence[Any], *, logged_in: bool = True) -> Any:
        for tried in range(1, _TRIES + 1):
            try:
                return await (self._logged_in(method, parameters) if logged_in else self._post(method, parameters))
            except Unanswered as error:
                if tried == _TRIES or isinstance(error.__cause__, TimeoutError):
                    raise self.silence(error) from error
                await self._clock.sleep(_PAUSE_S * tried)
        raise AssertionError

    def silence(self, error: Unanswered) -> UplinkError:
        """What it means that answers stay away."""
        return UplinkError(str(error), silent=isinstance(error.__cause__, TimeoutError), remedy=tls_remedy(error) or _ADDRESS)

    async def _post(self, method: str, parameters: Sequence[Any]) -> Any:
        if self._session is None:
            raise UplinkError("not connected")
        self._count += 1
        body = json.dumps({"id": self._count, "method": method, "params": parameters}, default=_to_wire).encode()
        try:
            reply = await request(
                self._session, "POST", self._url, now=self._clock.now(), largest=_LARGEST_ANSWER, data=body, headers=self._authorization
            )
        except LOST as error:
            raise Unanswered(f"{method}: {str(error) or type(error).__name__}") from error
        return self._result(method, reply)

    def _result(self, method: str, reply: Reply) -> Any:
        if reply.status == 401:
            raise _LoggedOut
        if reply.status == 403:
            raise Declined(f"Tryton does not let {self._settings.user} call {method}")
        if reply.status == 429 or reply.status >= 500:
            raise Busy(f"{method} was answered {reply.status}", reply.retry_after_s)
        if reply.status != 200:
            raise UplinkError(f"{method} was answered {reply.status}", remedy=_DATABASE if reply.status == 404 else _ADDRESS)
        try:
            answer = json.loads(reply.payload, parse_float=Decimal, object_hook=_from_wire)
        except _UNREADABLE as error:
            raise Unanswered(f"{method} was answered 200 with something that is no JSON of Tryton's") from error
        if not isinstance(answer, dict) or answer.get("id") != self._count or not ({"result", "error"} & answer.keys()):
            raise Unanswered(f"{method} was answered 200 with something that is no answer to it")
        if "error" in answer:
            raise _failure(answer["error"])
        return answer["result"]


def as_records(found: Any, model: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """What was read, if it is what was asked for: what stands between may answer 200 to anything. Raises UplinkError."""
    plain = {name for name in fields if "." not in name}
    if isinstance(found, list) and all(isinstance(record, dict) and plain <= record.keys() for record in found):
        return found
    raise UplinkError(f"the answer to the search for {model} is no list of such records", remedy=_ADDRESS)


def _failure(error: Any) -> Exception:
    """Tryton sends its own exceptions by name, and any other as its text (a lock of the data base, a bug of a module)."""
    kind, said = (error[0], error[1] if len(error) > 1 else "") if isinstance(error, list) and error else (str(error), "")
    if kind == "ConcurrencyException":
        return Stale(str(said))
    if kind == "UserError" and isinstance(said, list) and said:
        return Declined(" ".join(str(part).strip() for part in said[:2] if part))
    if kind == "UserWarning" and isinstance(said, list) and len(said) > 1:
        return Declined(f"Tryton warns and wants a person's yes: {said[1]}")
    if kind == "RateLimitException":
        return Busy("too many tries to log in")
    return Busy(str(kind))


def _from_wire(value: dict[str, Any]) -> Any:
    kind = value.get("__class__")
    if kind == "date":
        return dt.date(value["year"], value["month"], value["day"])
    if kind == "Decimal":
        return Decimal(value["decimal"])
    if kind == "timedelta":
        return Seconds(value["seconds"])
    return value


class Seconds(Decimal):
    """A span of time, as Tryton's timedelta."""


def _to_wire(value: Any) -> Any:
    if isinstance(value, Seconds):
        return {"__class__": "timedelta", "seconds": float(value)}
    if isinstance(value, Decimal):
        return {"__class__": "Decimal", "decimal": str(value)}
    if isinstance(value, dt.datetime):
        # Tryton keeps times without an offset, in UTC.
        at = value.astimezone(dt.UTC)
        names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
        return {"__class__": "datetime", **{name: getattr(at, name) for name in names}}
    if isinstance(value, dt.date):
        return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
    raise TypeError(f"{type(value).__name__} has no place in a call of Tryton")
