"""Genealogy: which material lots, results and serial numbers went into which produced lot, and for which order it was made.

A produced lot of one order on one work unit is one row of the journal, always the whole of it: written again it is the same row. Pieces
of an order without any lot make a row too, under the order's own number, so that every complaint that names something finds its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gateway.domain.events import Quantity
from gateway.domain.instants import Instant, moment, timestamp
from gateway.domain.job import Job
from gateway.domain.job_order import Customer, JobOrder
from gateway.domain.material import Consumption
from gateway.domain.material_lots import LotBook
from gateway.domain.quality import QualityBook

ZERO = Decimal(0)
LOADED = "loaded"
"""`mode` of a material lot that was on the machine and of which no consumption is booked: the order says nothing of this material."""
_ROWS = 400
"""Lots in memory, those that late facts reach; older ones are rows of the journal. A line makes some tens of them a day."""


@dataclass(eq=False)
class MaterialLink:
    """What a produced lot took of one material lot (`lot_id` None: nobody said which), between its first and its last booking."""

    material_id: str
    lot_id: str | None
    unit: str | None
    mode: str
    first: Instant
    last: Instant
    quantity: Decimal = ZERO

    @property
    def key(self) -> tuple[str, str | None, str | None, str]:
        return self.material_id, self.lot_id, self.unit, self.mode


@dataclass(eq=False)
class LotRow:
    """A produced lot, as far as one order on this work unit made it. `first` and `last` are the instants of its pieces and bookings."""

    product_lot_id: str | None
    job_order_id: str | None
    first: Instant
    last: Instant
    produced: Decimal = ZERO
    good: Decimal = ZERO
    scrap: Decimal = ZERO
    rework: Decimal = ZERO
    serials: int = 0
    order: Mapping[str, Any] = field(default_factory=dict)
    """What was ordered and by whom, as it stood when the lot was made: the order itself is forgotten sooner."""
    links: dict[tuple[str, str | None, str | None, str], MaterialLink] = field(default_factory=dict)
    quality: QualityBook = field(default_factory=QualityBook)
    loads_seen: int = -1
    closed: bool = False
    """Its order is over, or it is the oldest of too many: it is kept by its own time."""
    source: JobOrder | None = None

    @property
    def key(self) -> str:
        """Of its row in the journal. A lot that goes on after it was forgotten is another row; a line feed can be part of no id."""
        return f"{self.job_order_id or ''}\n{self.product_lot_id or ''}\n{self.first}"

    @property
    def is_closed(self) -> bool:
        return self.closed or self.job_order_id is None

    @property
    def names(self) -> list[tuple[str, str]]:
        """(name, role) of everything by which this row is found."""
        found = [(self.product_lot_id, "product_lot"), (self.job_order_id, "job_order"), (self.order.get("order_id"), "order")]
        found += [(lot, "material_lot") for lot in dict.fromkeys(link.lot_id for link in self.links.values())]
        return [(name, role) for name, role in found if name is not None]

    def dump(self) -> dict[str, Any]:
        """JSON-able; `load_lot` of it gives an equal row. Times in words beside the instants, for whoever reads it in ten years."""
        return {
            "product_lot_id": self.product_lot_id, "job_order_id": self.job_order_id, "first": self.first, "last": self.last,
            "from": timestamp(moment(self.first)), "to": timestamp(moment(self.last)), "produced": str(self.produced),
            "good": str(self.good), "scrap": str(self.scrap), "rework": str(self.rework), "serials": self.serials, "order": self.order,
            "materials": [
                [link.material_id, link.lot_id, link.unit, link.mode, link.first, link.last, str(link.quantity)]
                for link in self.links.values()
            ],
            "quality": self.quality.dump(),
        }  # fmt: skip


def load_lot(row: Mapping[str, Any]) -> LotRow:
    """Raises KeyError or ValueError for a row that `LotRow.dump` did not write."""
    links = [
        MaterialLink(material_id, lot_id, unit, mode, first, last, Decimal(quantity))
        for material_id, lot_id, unit, mode, first, last, quantity in row["materials"]
    ]
    return LotRow(
        row["product_lot_id"], row["job_order_id"], row["first"], row["last"], Decimal(row["produced"]), Decimal(row["good"]),
        Decimal(row["scrap"]), Decimal(row["rework"]), row["serials"], row["order"], {link.key: link for link in links},
        QualityBook.load(row["quality"]),
    )  # fmt: skip


@dataclass(frozen=True)
class Serial:
    """One piece with a name of its own: made at `at`, of these material lots (material, lot)."""

    serial: str
    at: Instant
    job_order_id: str | None
    product_lot_id: str | None
    materials: tuple[tuple[str, str], ...]
    by: str | None = None

    @property
    def key(self) -> str:
        """Of its row in the journal; told twice for one moment it is one row."""
        return f"{self.serial}\n{self.at}"

    @property
    def names(self) -> list[tuple[str, str]]:
        """(name, role) of everything by which this piece is found."""
        return [(self.serial, "serial"), *((lot_id, "material_lot") for _, lot_id in self.materials)]

    def dump(self) -> dict[str, Any]:
        return {
            "serial": self.serial, "at": timestamp(moment(self.at)), "job_order_id": self.job_order_id,
            "product_lot_id": self.product_lot_id, "materials": [list(pair) for pair in self.materials], "by": self.by,
        }  # fmt: skip


class Genealogy:
    """Of one work unit. `now` gives the present instant, `lots` says which material lots are on the machine."""

    def __init__(self, now: Callable[[], Instant], lots: Callable[[], LotBook]) -> None:
        self._now = now
        self._lots = lots
        self._started: tuple[str, str | None] | None = None
        self.tagged: str | None = None
        """The lot number at the machine, None where it shows none."""
        self._rows: dict[tuple[str | None, str | None], LotRow] = {}
        self._changed: dict[str, LotRow] = {}
        self._serials: list[Serial] = []

    # --- which lot is made -----------------------------------------------------------------------------------------

    def lot_of(self, job: Job | None) -> str | None:
        """The produced lot of a piece made now: what was said last for this order, by a person or by the tag, else the order's own."""
        job_id = job.job_order_id if job is not None else None
        if self._started is not None and self._started[1] == job_id:
            return self._started[0]
        return self.tagged or (job.order.lot_id if job is not None else None)

    def lot_at(self, job: Job, at: Instant) -> str | None:
        """The produced lot that the job made at an earlier instant; the present one where nothing is known of that time."""
        held = [row for row in self._rows.values() if row.job_order_id == job.job_order_id and row.first <= at <= row.last]
        return held[-1].product_lot_id if held else self.lot_of(job)

    def knows(self, job: Job | None, product_lot_id: str) -> bool:
        """The order (None: none) makes this lot, or made it not long ago."""
        return (job.job_order_id if job is not None else None, product_lot_id) in self._rows or self.lot_of(job) == product_lot_id

    def start(self, product_lot_id: str, job: Job | None) -> bool:
        """A new lot from now on, until the next one or another order; False when it is being made already."""
        if self.lot_of(job) == product_lot_id:
            return False
        self._started = product_lot_id, job.job_order_id if job is not None else None
        self._row(job, product_lot_id)
        return True

    def begin(self, job: Job | None) -> None:
        """The present lot is being made, also before its first piece: what the machine does from now on is its own."""
        product_lot = self.lot_of(job)
        key = job.job_order_id if job is not None else None, product_lot
        if key != (None, None) and key not in self._rows:
            self._row(job, product_lot)

    def tag_says(self, product_lot_id: str | None) -> None:
        """The lot number at the machine changed. One that goes away leaves the order's own lot."""
        self.tagged, self._started = product_lot_id, None

    # --- what becomes of it ----------------------------------------------------------------------------------------

    def counted(
        self, job: Job | None, product_lot_id: str | None, produced: Quantity, scrap: Quantity, rework: Quantity, at: Instant | None = None
    ) -> None:
        """Pieces of the lot, or marks on earlier ones (`produced` 0); a correction may be negative."""
        if job is None and product_lot_id is None:
            return
        row = self._row(job, product_lot_id)
        row.produced += produced
        row.good += produced - scrap - rework
        row.scrap += scrap
        row.rework += rework
        if produced > 0:
            row.last = max(row.last, self._now() if at is None else at)

    def consumed(self, job: Job, product_lot_id: str | None, booking: Consumption) -> None:
        row = self._row(job, product_lot_id)
        self._link(row, booking.material_id, booking.lot_id, booking.unit, booking.mode.value).quantity += booking.quantity

    def quality_of(self, job: Job | None, product_lot_id: str | None) -> QualityBook | None:
        """Where a result of the lot is noted; None where there is neither order nor lot."""
        return None if job is None and product_lot_id is None else self._row(job, product_lot_id).quality

    def declare_serial(self, serial: str, job: Job | None, product_lot_id: str | None, at: Instant, by: str | None) -> None:
        """A piece with its own number, and the material lots that were on the machine when it was made."""
        self._row(job, product_lot_id).serials += 1
        job_id = job.job_order_id if job is not None else None
        self._serials.append(Serial(serial, at, job_id, product_lot_id, tuple(self._lots().in_use(at)), by))

    def end(self, job: Job) -> None:
        """The order is over: its rows are kept from now on by their own time."""
        for row in self._rows.values():
            if row.job_order_id == job.job_order_id:
                row.closed = True
                self._changed[row.key] = row

    def _row(self, job: Job | None, product_lot_id: str | None) -> LotRow:
        key = (job.job_order_id if job is not None else None, product_lot_id)
        row = self._rows.pop(key, None) or LotRow(product_lot_id, key[0], self._now(), self._now())
        self._rows[key] = row
        if len(self._rows) > _ROWS:
            self._forget(next(iter(self._rows)))
        if job is not None and row.source is not job.order:
            row.source, row.order = job.order, _ordered(job)
        row.closed = row.closed or (job is not None and job.is_over)
        self._changed[row.key] = row
        lots = self._lots()
        if row.loads_seen != lots.revision and (job is None or not job.is_over):
            row.loads_seen = lots.revision
            for material_id, lot_id in lots.in_use(self._now()):
                if not any((link.material_id, link.lot_id) == (material_id, lot_id) for link in row.links.values()):
                    self._link(row, material_id, lot_id, None, LOADED)
        return row

    def _forget(self, key: tuple[str | None, str | None]) -> None:
        row = self._rows.pop(key)
        row.closed = True
        self._changed[row.key] = row

    def _link(self, row: LotRow, material_id: str, lot_id: str | None, unit: str | None, mode: str) -> MaterialLink:
        now = self._now()
        link = MaterialLink(material_id, lot_id, unit, mode, now, now)
        if mode != LOADED:
            # What is booked says more than that it stood there.
            row.links.pop((material_id, lot_id, None, LOADED), None)
        link = row.links.setdefault(link.key, link)
        link.last = row.last = max(row.last, now)
        return link

    # --- memory ----------------------------------------------------------------------------------------------------

    def take_changed(self) -> list[LotRow]:
        """Rows that must be written, each once; the next call starts anew."""
        changed = list(self._changed.values())
        self._changed.clear()
        return changed

    def take_serials(self) -> list[Serial]:
        serials, self._serials = self._serials, []
        return serials

    def dump(self) -> dict[str, Any]:
        return {"started": list(self._started) if self._started else None, "tagged": self.tagged}

    def load(self, state: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
        started = state.get("started")
        self._started = (started[0], started[1]) if started else None
        self.tagged = state.get("tagged")
        for row in sorted((load_lot(row) for row in rows), key=lambda row: row.first):
            self._rows[row.job_order_id, row.product_lot_id] = row


def _ordered(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {}
    order, customer = job.order, job.order.customer or Customer()
    return {
        "order_id": order.order_id, "operation_id": order.operation_id, "product_id": order.product_id,
        "work_master_id": order.work_master_id, "unit": order.unit, "quantity": None if order.quantity is None else str(order.quantity),
        "customer": customer.name, "order_number": customer.order_number, "order_line": customer.order_line,
        "requirements": list(customer.requirements),
    }  # fmt: skip
