"""What the jobs of a work unit consume: by backflush with each progress, by measurement as the tags say, and as people declare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from gateway.domain.counters import number
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, MaterialConsumed
from gateway.domain.genealogy import Genealogy
from gateway.domain.instants import Instant, instant, moment
from gateway.domain.job import Job
from gateway.domain.job_order import Fact, MaterialRequirement, Problem
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.material import Consumption, ConsumptionMode, MeasuredConsumption, backflush, consumption_mode
from gateway.domain.material_lots import LoadedLot, LotBook
from gateway.domain.rec20 import convert
from gateway.domain.sample import Input

_ZERO = Decimal(0)
CONSUMED = "Consumed"
"""B2MML MaterialUse; a material's own scrap is `Other`, which is all that B2MML has for it."""


class MaterialUse:
    """Books on the lot that is in use; consumption without a running job belongs to nobody and is not told."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, ledger: Ledger, genealogy: Genealogy, emit: Callable[[Event], None]) -> None:
        self._unit = unit
        self._machine = machine
        self._ledger = ledger
        self._genealogy = genealogy
        self._emit = emit
        self.lots = LotBook()
        self._measured = {m.tag: MeasuredConsumption(m) for m in unit.materials}
        self._measured_ids = frozenset(m.material_id for m in unit.materials)

    # --- as it happens ---------------------------------------------------------------------------------------------

    def take(self, inputs: Mapping[str, Input]) -> None:
        """The measurements of one sample."""
        for tag, measured in self._measured.items():
            if tag in inputs:
                self._measure(measured, inputs[tag])

    def backflush(self, job: Job) -> None:
        """Book what the pieces made since the last time took."""
        pieces = job.good + job.scrap - job.backflushed
        job.backflushed += pieces
        requirements = job.order.material_requirements
        for booking in backflush(requirements, pieces, job.materials, self.lots, self._machine.now, measured=self._measured_ids):
            self._tell(job, booking)

    def _measure(self, measured: MeasuredConsumption, held: Input) -> None:
        value = None if held.bad else number(held.value)
        step = None if value is None else measured.observe(Decimal(value))
        job, material = self._ledger.running, measured.material
        if step is None or not step.quantity or job is None:
            return
        mode = consumption_mode(material.material_id, job.order.material_requirements, self._measured_ids)
        if mode is not ConsumptionMode.MEASURED:
            return
        # The order speaks of the material in its own unit: what goes up is booked in that one.
        wanted = self._required(job, material.material_id)
        quantity = None if wanted is None else convert(step.quantity, material.unit, wanted.unit)
        unit = material.unit if quantity is None or wanted is None else wanted.unit
        taken = self.lots.take(material.material_id, step.quantity if quantity is None else quantity, unit, self._machine.now)
        for lot_id, part in taken:
            self._tell(job, job.materials.book(material.material_id, part, unit, lot_id=lot_id, mode=mode))
        self._ledger.touch(job)

    # --- what people say -------------------------------------------------------------------------------------------

    def load_lot(self, fact: Fact, material_id: str, lot_id: str) -> Problem | None:
        """A lot is put on the machine."""
        quantity, unit = fact.quantity, fact.unit
        if quantity is not None and not (quantity.is_finite() and quantity >= 0):
            return Problem("quantity_invalid", f"quantity must not be negative, not {quantity}")
        problem = self._unknown(material_id) or self._misfit(material_id, unit)
        if problem is not None:
            return problem
        unit = (unit or self.unit_of(material_id)) if quantity is not None else unit
        return self.lots.load_lot(material_id, LoadedLot(instant(fact.at), lot_id, quantity, unit, bool(fact.queued)))

    def unload_lot(self, fact: Fact, material_id: str, lot_id: str) -> Problem | None:
        """A lot is taken off; what is left of it, where it is told, corrects what was booked by estimate."""
        at, rest = instant(fact.at), fact.quantity
        lot = self.lots.find(material_id, lot_id, at)
        if lot is None:
            return self._unknown(material_id) or Problem(
                "unknown_lot", f"lot {lot_id} of {material_id} is not loaded at {fact.at.isoformat()}"
            )
        problem = self._misfit(material_id, fact.unit)
        if problem is None and rest is not None:
            unit = lot.unit or fact.unit or self.unit_of(material_id) or "C62"
            left = convert(rest, fact.unit or unit, unit)
            if left is None:
                problem = Problem("unknown_unit", f"lot {lot_id} was loaded in {unit}, {fact.unit} cannot be converted to it")
            elif not left.is_finite() or left < 0 or (lot.quantity is not None and left > lot.quantity):
                problem = Problem("quantity_invalid", f"{rest} cannot be left of a lot of {lot.quantity} {unit}")
            elif lot.quantity is not None:
                self._settle_lot(material_id, lot, lot.quantity - left, unit, fact.by)
        if problem is None:
            self.lots.unload(material_id, lot, at)
        return problem

    def _settle_lot(self, material_id: str, lot: LoadedLot, used: Decimal, unit: str, by: str | None) -> None:
        """The lot really gave `used`: the difference to what was booked goes to the job that took of it last."""
        job = next((job for job in self._jobs() if any(t.lot_id == lot.lot_id for t in job.materials.totals())), None)
        if material_id in self._measured_ids or job is None:
            return
        wanted = self._required(job, material_id)
        booked_in = wanted.unit if wanted is not None else unit
        difference = convert(used - lot.used, unit, booked_in)
        lot.used = used
        if difference is None:
            return
        difference = max(difference, -job.materials.of_lot(material_id, lot.lot_id, booked_in))
        if difference:
            self._book(job, material_id, difference, booked_in, lot.lot_id, by=by)

    def declare(self, fact: Fact, job: Job, material_id: str) -> Problem | None:
        """A consumption that a person weighed or counted; a negative one gives back what was booked."""
        quantity, at = fact.quantity, instant(fact.at)
        if quantity is None or not quantity or not quantity.is_finite():
            return Problem("quantity_invalid", "quantity is 0, missing or no number")
        problem = self._unknown(material_id) or self._misfit(material_id, fact.unit, job)
        if problem is not None:
            return problem
        unit = self.unit_of(material_id, job) or fact.unit
        if unit is None:
            return Problem("missing_field", f"unit: is required, nobody says in what {material_id} is counted")
        booked = convert(quantity, fact.unit or unit, unit)
        assert booked is not None
        total = job.materials.total(material_id, unit)
        if fact.lot_id is not None:
            total = min(total, job.materials.of_lot(material_id, fact.lot_id, unit))
        if booked < 0 and total + booked < 0:
            of_lot = f" of lot {fact.lot_id}" if fact.lot_id is not None else ""
            return Problem("total_negative", f"{job.job_order_id} has consumed {total} {unit}{of_lot}")
        parts: list[tuple[str | None, Decimal]] = [(fact.lot_id, booked)]
        if fact.lot_id is not None:
            self.lots.take_from(material_id, fact.lot_id, booked, unit, at)
        else:
            parts = [*self.lots.take(material_id, booked, unit, at)]
        for lot_id, part in parts:
            self._book(job, material_id, part, unit, lot_id, by=fact.by, use=fact.use or CONSUMED)
        return None

    def _book(
        self, job: Job, material_id: str, quantity: Decimal, unit: str, lot_id: str | None, *, by: str | None, use: str = CONSUMED
    ) -> None:
        booking = job.materials.book(material_id, quantity, unit, lot_id=lot_id, mode=ConsumptionMode.DECLARED)
        self._ledger.touch(job)
        self._tell(job, booking, use=use, by=by)

    def _tell(self, job: Job, booking: Consumption, *, use: str = CONSUMED, by: str | None = None) -> None:
        product_lot = self._genealogy.lot_of(job)
        self._genealogy.consumed(job, product_lot, booking)
        self._emit(
            MaterialConsumed(
                work_unit=self._unit.name, at=moment(self._machine.now), job_order_id=job.job_order_id, material_id=booking.material_id,
                lot_id=booking.lot_id, use=use, quantity=booking.quantity, total=booking.total, unit=booking.unit,
                mode=booking.mode.value, product_lot_id=product_lot, by=by,
            )
        )  # fmt: skip

    # --- what is known ---------------------------------------------------------------------------------------------

    def _jobs(self) -> Iterator[Job]:
        """The running job first, then those that were in work lately, then those to come."""
        running = self._ledger.running
        yield from [running] if running is not None else []
        yield from (*self._ledger.interrupted, *self._ledger.recent(), *self._ledger.queue())

    @staticmethod
    def _required(job: Job, material_id: str) -> MaterialRequirement | None:
        return next((r for r in job.order.material_requirements if r.material_id == material_id), None)

    def unit_of(self, material_id: str, job: Job | None = None) -> str | None:
        """In which unit the material is booked: as the order says, else as its tag; None where neither knows it."""
        found = (self._required(one, material_id) for one in ([job] if job is not None else self._jobs()))
        required = next((r for r in found if r is not None), None)
        measured = next((m.unit for m in self._unit.materials if m.material_id == material_id), None)
        return required.unit if required is not None else measured

    def _unknown(self, material_id: str) -> Problem | None:
        """Where neither the configuration nor any order speaks of materials, every one is taken as it comes."""
        known = dict.fromkeys(m.material_id for m in self._unit.materials)
        known.update(dict.fromkeys(r.material_id for job in self._jobs() for r in job.order.material_requirements))
        if not known or material_id in known:
            return None
        return Problem("unknown_material", f"{self._unit.name} needs no {material_id}; known are {', '.join([*known][:20])}")

    def _misfit(self, material_id: str, unit: str | None, job: Job | None = None) -> Problem | None:
        own = self.unit_of(material_id, job)
        if unit is None or own is None or convert(_ZERO, unit, own) is not None:
            return None
        return Problem("unknown_unit", f"{material_id} is counted in {own}, {unit} cannot be converted to it")

    def loaded(self, material_id: str, unit: str, at: Instant) -> Decimal | None:
        """What is on the machine and not used, in `unit`: by the lots' quantities, else by the weight that falls; None: nobody knows."""
        left = self.lots.left(material_id, unit, at)
        if left is not None:
            return left
        scale = next((m for m in self._measured.values() if m.material.material_id == material_id), None)
        if scale is None or scale.level is None or scale.material.direction != "falling":
            return None
        return convert(scale.level, scale.material.unit, unit)

    # --- memory ----------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {"lots": self.lots.dump(), "measured": {tag: m.dump() for tag, m in self._measured.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        self.lots = LotBook.load(state["lots"])
        for tag, measured in self._measured.items():
            measured.load(state["measured"].get(tag))
