"""The port between the ledger and an ERP: plans come down, totals go up, and the adapter's own guard decides what is still to be posted.

No ERP offers an idempotency key for production postings, so nothing here is a delta: an adapter is told what is true, reads what the ERP
holds, posts the difference, reads back and says how it stands. Called twice with the same totals it posts once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from gateway.domain.inbound import Refusal
from gateway.domain.job_order import JobOrder


class PlanState(StrEnum):
    """What the ERP wants of an order. WITHDRAWN: it was released and a planner took it back; it may come again."""

    FORECAST = "forecast"
    RELEASED = "released"
    WITHDRAWN = "withdrawn"
    CANCELLED = "cancelled"
    CLOSED = "closed"


@dataclass(frozen=True)
class Plan:
    """One order at one work unit, as the ERP has it now. `key`: the ERP's own lasting identity of it (numbers get changed, ids do not);
    `revision` differs whenever anything that the line must know has changed. `work_unit` may be empty for one that was taken before: then
    nothing but its state is told."""

    key: str
    revision: str
    state: PlanState
    work_unit: str
    job_order: JobOrder
    note: str = ""
    """The adapter's own words about the order, a JSON object (under 4 kB) or empty: kept with it and given back as `ErpOrder.note`. What a
    later plan leaves out stays as it was, as the fields of the order do."""


@dataclass(frozen=True)
class Listing:
    """What one look at the ERP's orders brought.

    `is_complete`: every order that is not listed is open no more; otherwise the plans are news only and silence says nothing.
    `refusals`: what could not be read, to be counted and told. `source`: the adapter's own, given back to `taken`.
    """

    plans: Sequence[Plan]
    is_complete: bool
    refusals: Sequence[Refusal] = ()
    source: object = None


class Standing(StrEnum):
    """BOOKED: the ERP holds it, read back. RETRY: nothing is known or it was busy, ask again. BLOCKED: a person is needed, in the ERP or
    here. REFUSED: the ERP will never take it.

    What waits holds up its own order only: without a start no totals are told, without totals and results no end; the rest goes on."""

    BOOKED = "booked"
    RETRY = "retry"
    BLOCKED = "blocked"
    REFUSED = "refused"


@dataclass(frozen=True)
class Outcome:
    """`words`: the ERP's own, kept as they are. `retry_after_s`: the ERP is busy as a whole, nothing is posted before; None: the gateway's
    own back-off, for this order alone."""

    standing: Standing
    words: str = ""
    retry_after_s: float | None = None


BOOKED = Outcome(Standing.BOOKED)


@dataclass(frozen=True)
class Consumption:
    """All that one order has taken of one material (and lot, where known) so far. `use`: Consumed, or Other for scrap (B2MML)."""

    material_id: str
    lot_id: str | None
    use: str
    quantity: Decimal
    unit: str


@dataclass(frozen=True)
class Stop:
    """A stop of the machine while the order ran; the same `stop_id` again replaces it. Times aware UTC."""

    stop_id: str
    start: datetime
    end: datetime
    reason: str | None
    induced: bool


@dataclass(frozen=True)
class Totals:
    """All that an order has come to; `at` (aware UTC) is when it was so: the time of the last event in it, and the time to post under.

    `good`, `scrap` and `rework` in `unit` (UN/ECE Rec 20); times in seconds. Later totals may be lower: good becomes scrap.
    `stops` without micro-stops; one that is missing was booked long ago or turned out to be a micro-stop.
    """

    at: datetime
    good: Decimal
    scrap: Decimal
    rework: Decimal
    unit: str
    consumption: tuple[Consumption, ...] = ()
    run_s: float = 0.0
    setup_s: float = 0.0
    stop_s: float = 0.0
    stops: tuple[Stop, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """One result of quality. `id` is that of its ledger event: an adapter keeps it where it can find it again. `is_cancelled`: it no
    longer counts."""

    id: str
    at: datetime
    characteristic: str
    value: Decimal
    unit: str | None
    lower: Decimal | None
    upper: Decimal | None
    passed: bool
    lot_id: str | None
    is_cancelled: bool = False


@dataclass(frozen=True)
class PromisedDate:
    """`verdict`: on_time, at_risk, late, unknown. Times aware UTC."""

    at: datetime
    eta_likely: datetime | None
    eta_safe: datetime | None
    verdict: str
    basis: str


@dataclass
class ErpOrder:
    """An order of the ERP that the line holds. `memo` is what the adapter last asked to keep of it, over restarts too; `note` is that of
    the plan as it was taken last. `job_order_id` is the one that the key came with first, whatever the ERP calls it now. `is_forgotten`:
    the journal was damaged or restored and may know less than was told; an adapter that cannot ask its ERP what it holds must post nothing
    more."""

    key: str
    job_order_id: str
    work_unit: str
    memo: str | None
    keep: Callable[[str], Awaitable[None]] = field(repr=False)
    note: str = ""
    is_forgotten: bool = False

    async def remember(self, memo: str) -> None:
        """Keep `memo`; it is on disk when this returns."""
        await self.keep(memo)
        self.memo = memo


@dataclass(frozen=True)
class Right:
    """One thing the ERP's user must be allowed to do. `words`: why it is missing, empty when it is there."""

    name: str
    words: str = ""

    @property
    def is_there(self) -> bool:
        return not self.words


class ErpPort(Protocol):
    """One ERP. Calls come one at a time. Anything about the link (no answer, logged out for good) raises `UplinkError`; what concerns one
    order is an `Outcome`. Every posting may have reached the ERP although no answer came: the next call must find that out. A call may be
    cancelled at any await, and is after a minute."""

    @property
    def peer(self) -> str:
        """`Tryton erp.acme.lan:8000`, for the technician."""

    async def connect(self) -> None:
        """Raises UplinkError within ten seconds; leaves nothing open when it does."""

    async def disconnect(self) -> None:
        """Never raises."""

    async def list_orders(self, known: Mapping[str, str]) -> Listing:
        """Orders of this gateway's work units. `known`: key -> revision of those the line holds; one of them that is open no more is
        listed all the same, with the state it is in now, if the ERP can still tell."""

    async def taken(self, listing: Listing, answers: Mapping[str, str | None]) -> None:
        """The orders of `listing` are in the ledger, on disk; called after every listing. `answers`: key -> why the line does not take it,
        None where it does; one that is missing is not decided yet and has to be listed again."""

    async def start(self, order: ErpOrder, at: datetime) -> Outcome:
        """The line began with it at `at`."""

    async def report_totals(self, order: ErpOrder, totals: Totals) -> Outcome: ...

    async def quality(self, order: ErpOrder, results: Sequence[Measurement]) -> Outcome: ...

    async def close(self, order: ErpOrder, totals: Totals) -> Outcome:
        """The line has finished it (short, exact or over); `totals` are booked first."""

    async def push_promise(self, order: ErpOrder, promise: PromisedDate) -> Outcome: ...

    async def rights(self) -> Sequence[Right]:
        """Try one by one, without changing anything, what the user must be allowed to do."""
