"""`Job`: one order in the ledger with all that was made, consumed and found of it, and its row in the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from gateway.domain.job_order import Customer, JobOrder, JobState, MaterialRequirement, QualityRequirement
from gateway.domain.material import MaterialBook
from gateway.domain.promise import Promise, PromiseKeeper, PromiseVerdict
from gateway.domain.quality import QualityBook, QualityVerdict
from gateway.domain.view import JobView


class WriteState(StrEnum):
    """What became of writing an order to its machine (`release:` of the work unit); an order is written once."""

    NONE = "none"
    BEGUN = "begun"
    WRITTEN = "written"
    FAILED = "failed"


_ZERO = Decimal(0)
_FAR = float("inf")


@dataclass(eq=False)
class Job:
    """Mutable, owned by its ledger. Totals in the order's unit; `arrival` counts orders as they come in.

    `removed`: cancelled or cleared; the row stays in the journal, the order is no longer in the ledger.
    """

    order: JobOrder
    state: JobState
    arrival: int
    produced: Decimal = _ZERO
    good: Decimal = _ZERO
    scrap: Decimal = _ZERO
    rework: Decimal = _ZERO
    started_at: datetime | None = None
    paused_at: datetime | None = None
    ended_at: datetime | None = None
    removed: bool = False
    quality_pass: int = 0
    quality_fail: int = 0
    quality: QualityBook = field(default_factory=QualityBook)
    summaries: int = 0
    """How often its results were summed up."""
    materials: MaterialBook = field(default_factory=MaterialBook)
    promise: Promise | None = None
    keeper: PromiseKeeper = field(default_factory=PromiseKeeper)
    told: tuple[Decimal, Decimal, Decimal, Decimal] = (_ZERO, _ZERO, _ZERO, _ZERO)
    """produced, good, scrap, rework of the last `job.progress`."""
    backflushed: Decimal = _ZERO
    """Pieces (good + scrap) whose material is booked."""
    written: WriteState = WriteState.NONE
    _order_row: tuple[JobOrder, dict[str, Any]] | None = field(default=None, init=False, repr=False)

    @property
    def job_order_id(self) -> str:
        return self.order.job_order_id

    @property
    def is_over(self) -> bool:
        return self.state in (JobState.ENDED, JobState.ABORTED)

    @property
    def remaining(self) -> Decimal | None:
        """Good pieces still to make, never negative; None when the order names no quantity."""
        return None if self.order.quantity is None else max(self.order.quantity - self.good, _ZERO)

    @property
    def dispatch_key(self) -> tuple[float, float, float, int]:
        """Sorts a queue, see `dispatch_key`."""
        return dispatch_key(self.order, self.arrival)

    @property
    def order_row(self) -> dict[str, Any]:
        """The order as `dump_job` writes it; an order is frozen and rarely replaced, a job's row is written with every count."""
        if self._order_row is None or self._order_row[0] is not self.order:
            self._order_row = (self.order, _plain(self.order))
        return self._order_row[1]

    def clock_set(self, by: timedelta) -> None:
        """It began, and was interrupted, as long ago as it did."""
        self.started_at = None if self.started_at is None else self.started_at + by
        self.paused_at = None if self.paused_at is None else self.paused_at + by
        self.keeper.clock_set(by // timedelta(microseconds=1))

    def count_result(self, result: QualityVerdict, count: int = 1) -> None:
        """Note one quality result; -1 takes one back."""
        if result is QualityVerdict.PASS:
            self.quality_pass += count
        else:
            self.quality_fail += count

    def view(self) -> JobView:
        """The JobResponse, as page and topics render it."""
        promise = self.promise
        return JobView(
            order=self.order,
            state=self.state.value,
            produced=self.produced,
            good=self.good,
            scrap=self.scrap,
            rework=self.rework,
            started_at=self.started_at,
            ended_at=self.ended_at,
            materials=self.materials.totals(),
            quality_pass=self.quality_pass,
            quality_fail=self.quality_fail,
            eta_likely=promise.eta_likely if promise else None,
            eta_safe=promise.eta_safe if promise else None,
            verdict=promise.verdict.value if promise else PromiseVerdict.UNKNOWN.value,
            basis=promise.basis if promise else "",
        )


def dispatch_key(order: JobOrder, arrival: int) -> tuple[float, float, float, int]:
    """Sorts a queue: the customer's priority, else the order's, then delivery_to, end_time, arrival; none last."""
    customer = order.customer
    priority = customer.priority if customer is not None and customer.priority is not None else order.priority
    due = customer.delivery_to if customer is not None else None
    return (
        _FAR if priority is None else (priority if order.lowest_first else -priority),
        _FAR if due is None else due.timestamp(),
        _FAR if order.end_time is None else order.end_time.timestamp(),
        arrival,
    )


_OWN_FIELDS = tuple(f.name for f in fields(Job) if f.init and f.name not in ("order", "quality", "materials", "keeper"))


def dump_job(job: Job) -> dict[str, Any]:
    """JSON-able: Decimals are strings, times ISO 8601. `load_job` of it gives an equal job."""
    row = {name: _plain(getattr(job, name)) for name in _OWN_FIELDS}
    books = {"materials": job.materials.dump(), "quality": job.quality.dump()}
    return row | books | {"order": job.order_row, "keeper": job.keeper.dump()}


def load_job(row: Mapping[str, Any]) -> Job:
    """Raises KeyError or ValueError for a row that `dump_job` did not write."""
    promise = row["promise"]
    return Job(
        order=_load_order(row["order"]),
        state=JobState(row["state"]),
        arrival=row["arrival"],
        produced=Decimal(row["produced"]),
        good=Decimal(row["good"]),
        scrap=Decimal(row["scrap"]),
        rework=Decimal(row["rework"]),
        started_at=_time(row["started_at"]),
        paused_at=_time(row["paused_at"]),
        ended_at=_time(row["ended_at"]),
        removed=row["removed"],
        quality_pass=row["quality_pass"],
        quality_fail=row["quality_fail"],
        quality=QualityBook.load(row.get("quality", {})),
        summaries=row.get("summaries", 0),
        materials=MaterialBook.load(row["materials"]),
        promise=None if promise is None else _load_promise(promise),
        keeper=PromiseKeeper.load(row["keeper"]),
        told=_four(row["told"]),
        backflushed=Decimal(row["backflushed"]),
        # Rows of journals that were begun before orders were written to machines do not say.
        written=WriteState(row.get("written", WriteState.NONE)),
    )


def _four(row: list[str]) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    produced, good, scrap, rework = map(Decimal, row)
    return produced, good, scrap, rework


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _numbers(value, Decimal, float) if isinstance(value, Mapping) else value


def _numbers(value: Any, kind: type, other: Callable[[Any], Any]) -> Any:
    """What the sender wants echoed, at any depth, with its numbers of one kind as those of the other."""
    if isinstance(value, kind):
        return other(value)
    if isinstance(value, Mapping):
        return {name: _numbers(item, kind, other) for name, item in value.items()}
    return [_numbers(item, kind, other) for item in value] if isinstance(value, list) else value


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _load_promise(row: Mapping[str, Any]) -> Promise:
    return Promise(_time(row["eta_likely"]), _time(row["eta_safe"]), PromiseVerdict(row["verdict"]), row["basis"])


def _load_order(row: Mapping[str, Any]) -> JobOrder:
    customer = row["customer"]
    known = dict(row) | {
        "quantity": _decimal(row["quantity"]),
        "start_time": _time(row["start_time"]),
        "end_time": _time(row["end_time"]),
        "ideal_cycle_time_s": _decimal(row["ideal_cycle_time_s"]),
        "lead_after_s": _decimal(row["lead_after_s"]),
        "material_requirements": tuple(_load_material(item) for item in row["material_requirements"]),
        "quality_requirements": tuple(_load_quality(item) for item in row["quality_requirements"]),
        "customer": None if customer is None else _load_customer(customer),
        "properties": _numbers(row.get("properties", {}), float, lambda number: Decimal(repr(number))),
    }
    return JobOrder(**known)


def _load_material(row: Mapping[str, Any]) -> MaterialRequirement:
    return MaterialRequirement(**(dict(row) | {"quantity_per": Decimal(row["quantity_per"])}))


def _load_quality(row: Mapping[str, Any]) -> QualityRequirement:
    limits = {name: _decimal(row.get(name)) for name in ("lower", "target", "upper", "every_s")}
    return QualityRequirement(**(dict(row) | limits))


def _load_customer(row: Mapping[str, Any]) -> Customer:
    times = {name: _time(row[name]) for name in ("delivery_from", "delivery_to")}
    return Customer(**(dict(row) | times | {"requirements": tuple(row["requirements"])}))
