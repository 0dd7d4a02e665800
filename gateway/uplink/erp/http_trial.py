"""An ERP over HTTP as a person meets it at commissioning: what it lets this gateway do, and which orders it holds. Nothing is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from drivers.base import Clock
from gateway.domain.events import Text
from gateway.domain.inbound import Inbound
from gateway.seams import UplinkError
from gateway.uplink.base import SecretReader
from gateway.uplink.erp.http_client import HttpClient
from gateway.uplink.erp.http_request import Reply
from gateway.uplink.erp.http_schedule import Schedule, read_schedule
from gateway.uplink.erp.port import Right
from gateway.uplink.erp.posting import Untrusted
from gateway.uplink.messages import NotAMessage
from gateway.uplink.settings import HttpSettings

_ADMINISTRATOR = Text("Prévenir l'administrateur de l'ERP.", "Tell the ERP's administrator.")
_MOST_POLLS = 1000
"""Of an ERP whose cursor moves for ever."""
_GIVES_TOKENS = "a token from the identity provider"
_READS = "GET work-schedule"
_BOOKS = "POST work-performance"


@dataclass(frozen=True)
class HttpTrial:
    """`schedule`: the orders that the ERP holds from its beginning on, None where it gives none. `rights`: what was tried, each with why it
    is missing. `untried`: what cannot be tried without booking something, one sentence each."""

    schedule: Schedule | None
    rights: tuple[Right, ...]
    untried: tuple[str, ...]


class HttpProbe:
    """Asks as the daemon does, on a connection of its own."""

    def __init__(self, settings: HttpSettings, *, gateway_id: str, clock: Clock, secrets: SecretReader) -> None:
        self._settings = settings
        self._gateway_id = gateway_id
        self._client = HttpClient(settings, clock=clock, secrets=secrets)

    async def orders(self, cursor: str | None) -> Schedule:
        """What the daemon would take behind `cursor`, poll after poll until the ERP's cursor rests. Raises UplinkError."""
        items: list[Inbound] = []
        async with self._connected():
            for _ in range(_MOST_POLLS):
                schedule = self._read(await self._poll(cursor))
                items += schedule.items
                if schedule.cursor in (None, cursor):
                    break
                cursor = schedule.cursor
        return Schedule(tuple(items), cursor)

    async def rights(self) -> HttpTrial:
        """Try one after the other. Raises UplinkError when nothing can be asked: no connection, no token, a token that is not known."""
        async with self._connected():
            rights = [Right(_GIVES_TOKENS)] if await self._client.token() else []
            reply = await self._poll(None)
            is_forbidden = reply.status == 403
            rights.append(Right(_READS, "the ERP answers 403, it knows this user and lets it read no orders" if is_forbidden else ""))
            schedule = None if is_forbidden else self._read(reply)
            words, untried = await self._may_post()
            if words or not untried:
                rights.append(Right(_BOOKS, words))
            return HttpTrial(schedule, tuple(rights), (untried,) if untried else ())

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        self._client.open()
        try:
            yield
        finally:
            await self._client.close()

    async def _poll(self, cursor: str | None) -> Reply:
        parameters = {"gateway": self._gateway_id, **({} if cursor is None else {"after": cursor})}
        return await self._client.ask("GET", "work-schedule", params=parameters)

    def _read(self, reply: Reply) -> Schedule:
        if not reply.is_good:
            raise self._client.refusal(reply)
        if reply.status == 204:
            return Schedule((), None)
        try:
            return read_schedule(reply.payload, lowest_first=self._settings.priority_order == "lowest_first")
        except (NotAMessage, Untrusted) as error:
            raise UplinkError(f"the answer to work-schedule cannot be read: {error}", remedy=_ADMINISTRATOR) from error

    async def _may_post(self) -> tuple[str, str]:
        """Why posting is not possible, else what remains unknown.

        OPTIONS changes nothing (RFC 9110, 9.2.1). An ERP that names its methods there or in a 405 says whether anything takes a POST;
        one that answers otherwise has said nothing, many frameworks refuse OPTIONS whatever stands behind it.
        """
        try:
            reply = await self._client.ask("OPTIONS", "work-performance")
        except UplinkError as error:
            # It has just answered a question: a server that hangs up over this method has said no more than one that answers 501.
            return "", f"{_BOOKS} is untried, it would book something (OPTIONS was not answered: {error}); the first events will show it"
        methods = {method.strip().upper() for method in reply.allow.split(",")} - {""}
        if not methods or reply.status in (401, 403):
            return "", f"{_BOOKS} is untried, it would book something (OPTIONS was answered {reply.status}); the first events will show it"
        if "POST" not in methods:
            return f"the ERP takes only {', '.join(sorted(methods))} there", ""
        return "", ""
