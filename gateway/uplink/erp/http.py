"""ERP over HTTP: orders by `GET work-schedule`, ledger events by `POST work-performance`.

One request in flight. Every answer is checked before it is believed: a 200 with the wrong content is no success.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.domain.events import Text
from gateway.metrics import Metrics
from gateway.seams import AlertBoard, Receipt
from gateway.supervise import Backoff
from gateway.uplink.base import BatchHandler, Complaint, SecretReader, warn_dry_run, warn_plain_text
from gateway.uplink.erp.http_client import HttpClient
from gateway.uplink.erp.http_request import Reply
from gateway.uplink.erp.http_schedule import Schedule, read_schedule
from gateway.uplink.erp.posting import Posting, PostingPlan, Untrusted
from gateway.uplink.erp.posting_memory import PostingMemory
from gateway.uplink.messages import NotAMessage
from gateway.uplink.settings import HttpSettings

_FASTEST_POLL_S = 0.05
"""Even an ERP whose cursor always moves is asked at most 20 times a second."""
_NOTHING_S = 1.0
"""An ERP that took nothing of a batch is asked again after so long."""
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
        postings: PostingMemory,
    ) -> None:
        self.name = name
        self._settings = settings
        self._gateway_id = gateway_id
        self._clock = clock
        self._metrics = metrics
        self._client = HttpClient(settings, clock=clock, secrets=secrets)
        self._alerts = alerts
        self._on_orders = on_orders
        self._order_cursor = order_cursor
        self._cursor: str | None = None
        self._plan = PostingPlan()
        self._postings = postings
        self._early: Reply | None = None
        """To the unanswered batch, when `connect` had to ask with it."""
        self._serves: dict[str, bool] = {}
        """Per path, whether the ERP did its work when it was asked last: one that gives no orders may still take events."""
        self._logged = 0
        """Of a dry run: the last row that was."""
        self._complaints = {
            what: Complaint(alerts, clock, f"uplink.{what}:{name}", text, _ADMINISTRATOR, patience_s=patience, calm_s=calm)
            for what, (text, patience, calm) in _COMPLAINTS.items()
        }
        self._heard: Callable[[], None] = lambda: None
        self._log = structlog.get_logger("lineside.erp").bind(uplink=name)

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
        if self._settings.dry_run:
            warn_dry_run(self._alerts, self.name, self.peer)
        self._client.open()
        self._cursor = await self._order_cursor(self.name)
        try:
            answer = await self._client.ask("GET", _SCHEDULE, params=self._poll_parameters())
            if not self._is_served(_SCHEDULE, answer) and self._serves.get(_PERFORMANCE) is False:
                self._early = await self._post(self._plan.next(())) if self._plan.unanswered else None
                if self._early is None or not self._is_served(_PERFORMANCE, self._early):
                    raise self._client.refusal(self._early or answer)
        except BaseException:
            await self.close()
            raise

    async def serve(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        backoff = Backoff(self._settings.interval, max(60.0, self._settings.interval))
        while True:
            answer = await self._client.ask("GET", _SCHEDULE, params=self._poll_parameters())
            if self._is_served(_SCHEDULE, answer):
                backoff.reset()
                pause = _FASTEST_POLL_S if await self._take_schedule(answer) else self._settings.interval
            elif self._serves.get(_PERFORMANCE) is False:
                raise self._client.refusal(answer)
            else:
                pause = max(answer.retry_after_s or backoff.next_delay(), self._settings.interval)
            await self._clock.sleep(pause)

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        """POST rows in sequence order until the ERP has said something about some of them. Raises UplinkError."""
        if self._settings.dry_run:
            return self._withhold(batch)
        await self._postings.recall(self._plan, batch)
        while True:
            posting = self._plan.next(batch)
            early, self._early = self._early, None
            answer = early or await self._post(posting)
            if not self._is_served(_PERFORMANCE, answer):
                if self._serves.get(_SCHEDULE) is False:
                    raise self._client.refusal(answer)
                return Receipt(retry_after_s=answer.retry_after_s or 0.0)
            receipt = self._judge(posting, answer)
            if receipt is not None:
                return receipt

    async def _post(self, posting: Posting) -> Reply:
        await self._postings.note(posting)
        headers = {"Idempotency-Key": posting.key, "Content-Type": "application/json"}
        return await self._client.ask("POST", _PERFORMANCE, data=posting.body, headers=headers)

    def _withhold(self, batch: Sequence[Entry]) -> Receipt:
        """Log what would go out, cut as it would be; on a new connection the same rows come again and are not told twice."""
        rows = [entry for entry in batch if entry.position > self._logged]
        while rows:
            posting = PostingPlan().next(rows)
            self._log.info("posting_withheld", key=posting.key, events=len(posting.entries), bytes=len(posting.body))
            for entry in posting.entries:
                self._log.info("event_withheld", id=entry.id, body=entry.body.decode())
            self._logged = posting.last.position
            rows = rows[len(posting.entries) :]
        return Receipt(withheld=True)

    async def close(self) -> None:
        await self._client.close()

    # -- events up

    def _is_served(self, path: str, answer: Reply) -> bool:
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

    def _judge(self, posting: Posting, answer: Reply) -> Receipt | None:
        """None: ask again with a smaller batch."""
        if answer.is_good:
            try:
                verdict = self._plan.acknowledged(posting, answer.payload)
            except Untrusted as error:
                # It stays unanswered and goes out again as it is: nothing of such an answer may retire a row.
                self._complaints["answer"].bad(f"{posting.key}: {error}")
                return Receipt(retry_after_s=0.0)
            self._complaints["answer"].good()
            if not verdict.accepted:
                return Receipt(retry_after_s=_NOTHING_S)
            return Receipt(accepted=verdict.accepted)
        verdict = self._plan.refused(posting, answer.status, answer.payload)
        return Receipt(parked=dict(verdict.parked)) if verdict.parked else None

    # -- orders down

    def _poll_parameters(self) -> dict[str, str]:
        parameters = {"gateway": self._gateway_id}
        if self._cursor is not None:
            parameters["after"] = self._cursor
        return parameters

    async def _take_schedule(self, answer: Reply) -> bool:
        """Hand the orders of one poll over. True: the cursor moved, there may be more."""
        if answer.status == 204:
            return False
        try:
            schedule = self._read(answer)
        except (NotAMessage, Untrusted) as error:
            self._metrics.commands.labels(self.name, "unreadable").inc()
            self._complaints["orders"].bad(str(error))
            return False
        self._complaints["orders"].good()
        cursor = schedule.cursor
        moved = cursor is not None and cursor != self._cursor
        if schedule.items or moved:
            await self._on_orders(schedule.items, uplink=self.name, cursor=cursor if moved else None)
        if moved:
            self._cursor = cursor
        return moved

    def _read(self, answer: Reply) -> Schedule:
        return read_schedule(answer.payload, lowest_first=self._settings.priority_order == "lowest_first")
