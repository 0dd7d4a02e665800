"""ERP over HTTP: orders by `GET work-schedule`, ledger events by `POST work-performance`.

One request in flight. Every answer is checked before it is believed: a 200 with the wrong content is no success.
"""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any

import aiohttp

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.domain.events import Text
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import JobCommand, Problem
from gateway.domain.problems import return_status
from gateway.metrics import Metrics
from gateway.seams import AlertBoard, Receipt, UplinkError
from gateway.supervise import Backoff
from gateway.uplink.base import BatchHandler, Complaint, SecretReader, tls_context, warn_plain_text
from gateway.uplink.erp.posting import Posting, PostingPlan, Untrusted
from gateway.uplink.messages import MAX_PAYLOAD_BYTES, NotAMessage, command_from, read_object
from gateway.uplink.settings import HttpSettings

REQUEST_BOUND_S = 10.0
_LARGEST_ANSWER = 16 * 1024 * 1024
_AGAIN_S = (0.3, 1.0)
"""A request whose reply was lost is repeated at once: two more tries before the link counts as down."""
_FASTEST_POLL_S = 0.05
"""Even an ERP whose cursor always moves is asked at most 20 times a second."""
_LONGEST_WAIT_S = 3600.0
_LOST = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""No reply came back. ValueError: what came is no HTTP, or no name server takes the address."""
_RETRIED = frozenset({401, 403, 408, 429})
_NOT_THERE = frozenset({404, 405})

_SCHEDULE = "work-schedule"
_PERFORMANCE = "work-performance"
# What can be wrong with an ERP that answers: text, seconds of it before a person is told, seconds without it before it is over.
_COMPLAINTS = {
    _SCHEDULE: (Text("L'ERP ne donne pas d'ordres.", "The ERP gives no orders."), 10.0, 0.0),
    _PERFORMANCE: (Text("L'ERP ne prend pas les comptes rendus.", "The ERP takes no reports."), 10.0, 0.0),
    "orders": (Text("Les ordres de l'ERP sont illisibles.", "The orders of the ERP cannot be read."), 0.0, 60.0),
    "answer": (Text("La réponse de l'ERP n'est pas fiable.", "The ERP's answer cannot be trusted."), 0.0, 60.0),
}
_ADMINISTRATOR = Text("Prévenir l'administrateur de l'ERP.", "Tell the ERP's administrator.")

_ADDRESS = Text("Vérifier l'adresse de l'ERP et le réseau.", "Check the ERP's address and the network.")
_TOKEN = Text("Vérifier le jeton d'accès de cette liaison.", "Check the access token of this uplink.")


@dataclass(frozen=True)
class _Answer:
    status: int
    payload: bytes
    retry_after_s: float | None


class HttpUplink:
    """One ERP (`gateway.seams.Uplink`). Does nothing before `connect`; one object for the life of the process.

    `on_orders` takes the orders of one poll together with their cursor (`dispatch.intake.Intake.handle_batch`), `order_cursor` gives
    the stored one back.
    """

    def __init__(
        self,
        name: str,
        settings: HttpSettings,
        *,
        gateway_id: str,
        clock: Clock,
        metrics: Metrics,
        secrets: SecretReader,
        alerts: AlertBoard,
        on_orders: BatchHandler,
        order_cursor: Callable[[str], Awaitable[str | None]],
    ) -> None:
        self.name = name
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._gateway_id = gateway_id
        self._clock = clock
        self._metrics = metrics
        self._secrets = secrets
        self._alerts = alerts
        self._on_orders = on_orders
        self._order_cursor = order_cursor
        self._cursor: str | None = None
        self._plan = PostingPlan()
        self._early: _Answer | None = None
        """To the unanswered batch, when `connect` had to ask with it."""
        self._serves: dict[str, bool] = {}
        """Per path, whether the ERP did its work when it was asked last: one that gives no orders may still take events."""
        self._session: aiohttp.ClientSession | None = None
        self._one_at_a_time = asyncio.Lock()
        self._complaints = {
            what: Complaint(alerts, clock, f"uplink.{what}:{name}", text, _ADMINISTRATOR, patience_s=patience, calm_s=calm)
            for what, (text, patience, calm) in _COMPLAINTS.items()
        }
        self._heard: Callable[[], None] = lambda: None

    @property
    def peer(self) -> str:
        """`ERP erp.acme.lan:443`."""
        host, port, _ = self._settings.address()
        return f"ERP {host}:{port}"

    # -- the seam

    async def connect(self) -> None:
        """Open a session and ask once. Raises UplinkError when nobody answers, or when neither orders nor events were served."""
        if self._settings.plain_text():
            warn_plain_text(self._alerts, self.name, self.peer)
        self._open_session()
        self._cursor = await self._order_cursor(self.name)
        try:
            answer = await self._ask("GET", _SCHEDULE, params=self._poll_parameters())
            if not self._is_served(_SCHEDULE, answer) and self._serves.get(_PERFORMANCE) is False:
                self._early = await self._post(self._plan.next(())) if self._plan.unanswered else None
                if self._early is None or not self._is_served(_PERFORMANCE, self._early):
                    raise _later(self._early or answer)
        except BaseException:
            await self.close()
            raise

    async def try_once(self) -> str:
        """Ask for orders once and take none, as `lineside check --connect` does. Returns what came. Raises UplinkError."""
        self._open_session()
        try:
            answer = await self._ask("GET", _SCHEDULE, params=self._poll_parameters())
            if not 200 <= answer.status < 300:
                raise _later(answer)
            items = self._read_schedule(answer.payload)[0] if answer.status != 204 else ()
        except (NotAMessage, Untrusted) as error:
            raise UplinkError(f"the answer to {_SCHEDULE} cannot be read: {error}", remedy=_ADMINISTRATOR) from error
        finally:
            await self.close()
        return f"{_SCHEDULE} was answered {answer.status} with {len(items)} order{'' if len(items) == 1 else 's'}"

    def _open_session(self) -> None:
        tls = self._settings.address()[2]
        headers = {"Accept": "application/json", "User-Agent": "lineside"}
        if self._settings.token is not None:
            headers["Authorization"] = f"Bearer {self._secrets(self._settings.token)}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=REQUEST_BOUND_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=1, ssl=tls_context(self._settings.tls) if tls else True),
        )

    async def serve(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        backoff = Backoff(self._settings.interval, max(60.0, self._settings.interval))
        while True:
            answer = await self._ask("GET", _SCHEDULE, params=self._poll_parameters())
            if self._is_served(_SCHEDULE, answer):
                backoff.reset()
                pause = _FASTEST_POLL_S if await self._take_schedule(answer) else self._settings.interval
            elif self._serves.get(_PERFORMANCE) is False:
                raise _later(answer)
            else:
                pause = max(answer.retry_after_s or backoff.next_delay(), self._settings.interval)
            await self._clock.sleep(pause)

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        """POST rows in sequence order until the ERP has said something about some of them. Raises UplinkError."""
        while True:
            posting = self._plan.next(batch)
            early, self._early = self._early, None
            answer = early or await self._post(posting)
            if not self._is_served(_PERFORMANCE, answer):
                if self._serves.get(_SCHEDULE) is False:
                    raise _later(answer)
                return Receipt(retry_after_s=answer.retry_after_s or 0.0)
            receipt = self._judge(posting, answer)
            if receipt is not None:
                return receipt

    async def _post(self, posting: Posting) -> _Answer:
        headers = {"Idempotency-Key": posting.key, "Content-Type": "application/json"}
        return await self._ask("POST", _PERFORMANCE, data=posting.body, headers=headers)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- events up

    def _is_served(self, path: str, answer: _Answer) -> bool:
        """Whether the ERP did its work, well or with a refusal that concerns the rows; otherwise it is asked again later."""
        status = answer.status
        served = 200 <= status < 300
        if path == _PERFORMANCE and 400 <= status <= 422 and status not in _RETRIED:
            # 404 without names: a wrong address or an ERP half started, parking row after row would empty the ledger into refusals.
            served = status not in _NOT_THERE or b'"rejected"' in answer.payload
        self._serves[path] = served
        if served:
            self._complaints[path].good()
            self._heard()
        else:
            self._complaints[path].bad(f"{path} was answered {status}")
        return served

    def _judge(self, posting: Posting, answer: _Answer) -> Receipt | None:
        """None: ask again with a smaller batch."""
        if 200 <= answer.status < 300:
            try:
                verdict = self._plan.acknowledged(posting, answer.payload)
            except Untrusted as error:
                # It stays unanswered and goes out again as it is: nothing of such an answer may retire a row.
                self._complaints["answer"].bad(f"{posting.key}: {error}")
                return Receipt(retry_after_s=0.0)
            self._complaints["answer"].good()
            if not verdict.accepted:
                return Receipt(retry_after_s=_AGAIN_S[-1])
            return Receipt(accepted=verdict.accepted)
        verdict = self._plan.refused(posting, answer.status, answer.payload)
        return Receipt(parked=dict(verdict.parked)) if verdict.parked else None

    # -- orders down

    def _poll_parameters(self) -> dict[str, str]:
        parameters = {"gateway": self._gateway_id}
        if self._cursor is not None:
            parameters["after"] = self._cursor
        return parameters

    async def _take_schedule(self, answer: _Answer) -> bool:
        """Hand the orders of one poll over. True: the cursor moved, there may be more."""
        if answer.status == 204:
            return False
        try:
            items, cursor = self._read_schedule(answer.payload)
        except (NotAMessage, Untrusted) as error:
            self._metrics.commands.labels(self.name, "unreadable").inc()
            self._complaints["orders"].bad(str(error))
            return False
        self._complaints["orders"].good()
        moved = cursor is not None and cursor != self._cursor
        if items or moved:
            await self._on_orders(items, uplink=self.name, cursor=cursor if moved else None)
        if moved:
            self._cursor = cursor
        return moved

    def _read_schedule(self, payload: bytes) -> tuple[list[Inbound], str | None]:
        found = read_object(payload, _LARGEST_ANSWER)
        commands, cursor = found.get("commands"), found.get("cursor")
        if not isinstance(commands, list) or not (cursor is None or isinstance(cursor, str)):
            raise Untrusted("needs `commands` (a list) and `cursor` (text)")
        if len(payload) > MAX_PAYLOAD_BYTES:
            return [self._read_large(command) for command in commands], cursor
        return [self._read_command(command) for command in commands], cursor

    def _read_large(self, command: Any) -> Inbound:
        # Only a long answer can hold a command that is too large; each is measured as it would stand alone.
        if len(str(command)) > MAX_PAYLOAD_BYTES:
            return _refusal("too_large", f"the command has more than {MAX_PAYLOAD_BYTES} bytes")
        return self._read_command(command)

    def _read_command(self, command: Any) -> Inbound:
        if not isinstance(command, dict):
            return _refusal("not_json", "the command is not a JSON object")
        inbound = command_from(command, retained=False, topic_work_unit=None)
        if self._settings.priority_order == "lowest_first" and isinstance(inbound, JobCommand):
            return replace(inbound, job_order=replace(inbound.job_order, lowest_first=True))
        return inbound

    # -- one request

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        """One request, repeated as it is while its reply gets lost. Raises UplinkError after three tries."""
        async with self._one_at_a_time:
            # The tries of one request follow each other: another in between could meet every good moment of an ERP that has bad ones.
            for pause in _AGAIN_S:
                try:
                    return await self._request(method, path, params, data, headers)
                except _LOST:
                    await self._clock.sleep(pause)
            try:
                return await self._request(method, path, params, data, headers)
            except _LOST as error:
                text = str(error) or type(error).__name__
                raise UplinkError(f"{method} {path}: {text}", silent=isinstance(error, TimeoutError), remedy=_ADDRESS) from error

    async def _request(
        self, method: str, path: str, params: Mapping[str, str] | None, data: bytes | None, headers: Mapping[str, str] | None
    ) -> _Answer:
        session = self._session
        if session is None:
            raise UplinkError("not connected")
        async with session.request(
            method, f"{self._url}/{path}", params=params, data=data, headers=headers, allow_redirects=False
        ) as response:
            payload = bytearray()
            async for chunk in response.content.iter_any():
                payload += chunk
                if len(payload) > _LARGEST_ANSWER:
                    raise UplinkError(f"{method} {path}: the answer is over {_LARGEST_ANSWER} bytes")
            return _Answer(response.status, bytes(payload), self._retry_after(response.headers.get("Retry-After")))

    def _retry_after(self, text: str | None) -> float | None:
        """Seconds or an HTTP date (RFC 9110)."""
        if text is None:
            return None
        if text.strip().isascii() and text.strip().isdigit():
            return min(float(text), _LONGEST_WAIT_S)
        try:
            at = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        wait = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - self._clock.now()).total_seconds()
        return min(max(wait, 0.0), _LONGEST_WAIT_S)


def _later(answer: _Answer) -> UplinkError:
    remedy = _TOKEN if answer.status in (401, 403) else None
    return UplinkError(f"the ERP answered {answer.status}", retry_after_s=answer.retry_after_s, remedy=remedy)


def _refusal(code: str, text: str) -> Refusal:
    return Refusal(None, None, return_status(code), Problem(code, text))
