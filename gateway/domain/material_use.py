"""What the jobs of a work unit consume: by backflush with each progress, by measurement as the tags say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from gateway.domain.counters import number
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, MaterialConsumed
from gateway.domain.instants import moment
from gateway.domain.job import Job
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.material import Consumption, ConsumptionMode, LotBook, MeasuredConsumption, backflush, consumption_mode
from gateway.domain.sample import Input


class MaterialUse:
    """Books on the lot that was on the machine; consumption without a running job belongs to nobody and is not told."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, ledger: Ledger, emit: Callable[[Event], None]) -> None:
        self._work_unit = unit.name
        self._machine = machine
        self._ledger = ledger
        self._emit = emit
        self.lots = LotBook()
        self._measured = {m.tag: MeasuredConsumption(m) for m in unit.materials}
        self._measured_ids = frozenset(m.material_id for m in unit.materials)

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
        lot = self.lots.lot_at(material.material_id, self._machine.now)
        booking = job.materials.book(material.material_id, step.quantity, material.unit, lot_id=lot, mode=mode)
        self._ledger.touch(job)
        self._tell(job, booking)

    def _tell(self, job: Job, booking: Consumption) -> None:
        self._emit(
            MaterialConsumed(
                work_unit=self._work_unit, at=moment(self._machine.now), job_order_id=job.job_order_id, material_id=booking.material_id,
                lot_id=booking.lot_id, use="Consumed", quantity=booking.quantity, total=booking.total, unit=booking.unit,
                mode=booking.mode.value,
            )
        )  # fmt: skip

    def dump(self) -> dict[str, Any]:
        return {"lots": self.lots.dump(), "measured": {tag: m.dump() for tag, m in self._measured.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        self.lots = LotBook.load(state["lots"])
        for tag, measured in self._measured.items():
            measured.load(state["measured"].get(tag))
