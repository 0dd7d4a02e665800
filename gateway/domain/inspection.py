"""Quality results of a work unit: each measurement judged by the limits in force, samples that are due, and the summary of an order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway.domain.counters import number
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, QualityCancelled, QualityResult, QualitySummary
from gateway.domain.genealogy import Genealogy
from gateway.domain.instants import Instant, instant, moment
from gateway.domain.job import Job
from gateway.domain.job_order import Fact, Problem, QualityRequirement
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.quality import QualityVerdict, effective_requirement, judge
from gateway.domain.sample import Input
from gateway.domain.view import LastQuality

_REMEMBERED = 50
"""Results that can still be cancelled; the snapshot carries them all."""


@dataclass(frozen=True)
class Result:
    """One result that was told: `command_id` of the fact that brought it, None where a tag did."""

    command_id: str | None
    at: Instant
    characteristic: str
    value: Decimal
    verdict: str
    job: str | None
    product_lot: str | None


@dataclass(frozen=True)
class Failed:
    """A result outside its limits, for whoever acts on it."""

    job: Job
    limits: QualityRequirement
    value: Decimal
    at: Instant


class Inspection:
    """`product_of(job)` says which product is made; its requirements stand behind the order's."""

    def __init__(
        self, unit: WorkUnit, machine: MachineTime, ledger: Ledger, genealogy: Genealogy, product_of: Callable[[Job | None], str | None],
        emit: Callable[[Event], None],
    ) -> None:  # fmt: skip
        self._unit = unit
        self._machine = machine
        self._ledger = ledger
        self._genealogy = genealogy
        self._product_of = product_of
        self._emit = emit
        self.last: dict[str, LastQuality] = {}
        """By tag, or by characteristic where a person measured it."""
        self.failed: list[Failed] = []
        """Results outside their limits on which nobody acted yet."""
        self.measured: Callable[[Job, str, bool], None] = lambda job, characteristic, passed: None
        """Told of each result of an order."""
        self._results: deque[Result] = deque(maxlen=_REMEMBERED)

    # --- measurements ----------------------------------------------------------------------------------------------

    def take(self, inputs: Mapping[str, Input]) -> None:
        """The measurements of one sample; an unchanged value is no new measurement."""
        for measured in self._unit.quality:
            held = inputs.get(measured.tag)
            value = None if held is None or held.bad else number(held.value)
            last = self.last.get(measured.tag)
            if value is not None and (last is None or last.value != Decimal(value)):
                self._judge(measured.limits.characteristic, Decimal(value), self._ledger.running, self._machine.now, key=measured.tag)

    def record(self, fact: Fact, characteristic: str, value: Decimal, job: Job | None) -> bool:
        """A measurement that a person or another system made; False when nobody asks for this characteristic."""
        return self._judge(characteristic, value, job, instant(fact.at), key=characteristic, fact=fact)

    def limits(self, characteristic: str, job: Job | None) -> QualityRequirement | None:
        """What a value is judged by now: the order's requirement, else the product's, else the work unit's own."""
        own = next((q.limits for q in self._unit.quality if q.limits.characteristic == characteristic), None)
        order = job.order.quality_requirements if job is not None else ()
        return effective_requirement(characteristic, own, product=self._of_product(job), order=order)

    def asked(self, job: Job) -> list[QualityRequirement]:
        """What order and product ask for, each characteristic once and as it is judged."""
        names = dict.fromkeys(r.characteristic for r in (*job.order.quality_requirements, *self._of_product(job)))
        found = (self.limits(name, job) for name in names)
        return [limits for limits in found if limits is not None]

    def watched(self, job: Job) -> list[QualityRequirement]:
        """`asked`, and what the work unit itself measures: all that may have to be sampled."""
        own = [q.limits for q in self._unit.quality]
        asked = self.asked(job)
        return [*asked, *(one for one in own if all(one.characteristic != r.characteristic for r in asked))]

    def _of_product(self, job: Job | None) -> tuple[QualityRequirement, ...]:
        product = self._unit.products.get(self._product_of(job) or "")
        return product.quality if product is not None else ()

    def _judge(self, characteristic: str, value: Decimal, job: Job | None, at: Instant, *, key: str, fact: Fact | None = None) -> bool:
        limits = self.limits(characteristic, job)
        if limits is None:
            return False
        verdict, now = judge(limits, value), self._machine.now
        self._machine.drift.value(now, characteristic, float(value))
        lot_id = fact.lot_id if fact is not None else None
        product_lot = self._product_lot(job, at, lot_id)
        book = self._genealogy.quality_of(job, product_lot)
        if book is not None:
            book.add(limits, value, verdict, at)
        self._results.append(
            Result(fact.command_id if fact is not None else None, at, characteristic, value, verdict.value,
                   job.job_order_id if job is not None else None, product_lot)
        )  # fmt: skip
        self.last[key] = LastQuality(characteristic, value, moment(at), verdict.value, limits)
        self._emit(
            QualityResult(
                work_unit=self._unit.name, at=moment(now), job_order_id=job.job_order_id if job else None, characteristic=characteristic,
                value=value, unit=limits.unit, lower=limits.lower, target=limits.target, upper=limits.upper, result=verdict.value,
                required_by=limits.required_by, lot_id=lot_id or (job.order.lot_id if job else None), product_lot_id=product_lot,
                serial=fact.serial if fact is not None else None, by=fact.by if fact is not None else None, measured_at=moment(at),
            )
        )  # fmt: skip
        if job is not None:
            job.count_result(verdict)
            job.quality.add(limits, value, verdict, at)
            self._ledger.touch(job)
            self.measured(job, characteristic, verdict is QualityVerdict.PASS)
            if verdict is QualityVerdict.FAIL and limits.on_fail is not None:
                self.failed.append(Failed(job, limits, value, at))
            if job.is_over:
                self.summarize(job)
        return True

    def _product_lot(self, job: Job | None, at: Instant, named: str | None) -> str | None:
        """The lot that the result is of: the produced one that is named, else the one that was made at that time."""
        if named is not None and self._genealogy.knows(job, named):
            return named
        return self._genealogy.lot_of(None) if job is None else self._genealogy.lot_at(job, at)

    # --- what is taken back ----------------------------------------------------------------------------------------

    def cancel(self, fact: Fact) -> Problem | None:
        """Take one result back: the one that the corrected fact brought, else the latest of the characteristic up to `at`."""
        at = instant(fact.at)
        found = next((r for r in reversed(self._results) if self._is_meant(r, fact, at)), None)
        if found is None:
            what = f"of the fact {fact.corrects}" if fact.corrects is not None else f"of {fact.characteristic} up to {fact.at.isoformat()}"
            return Problem("no_result", f"{self._unit.name} remembers no result {what} among its latest {_REMEMBERED}")
        self._results.remove(found)
        job = self._ledger.get(found.job) if found.job is not None else None
        verdict = QualityVerdict(found.verdict)
        of_lot = self._genealogy.quality_of(job, found.product_lot)
        if of_lot is not None:
            same_lot = [r.value for r in self._results if _same(r, found) and r.product_lot == found.product_lot]
            of_lot.cancel(found.characteristic, found.value, verdict, found.at, same_lot)
        self._emit(
            QualityCancelled(
                work_unit=self._unit.name, at=moment(self._machine.now), job_order_id=found.job, characteristic=found.characteristic,
                value=found.value, result=found.verdict, measured_at=moment(found.at), product_lot_id=found.product_lot, by=fact.by,
            )
        )  # fmt: skip
        if job is not None:
            job.count_result(verdict, -1)
            job.quality.cancel(
                found.characteristic, found.value, verdict, found.at, [r.value for r in self._results if _same(r, found)]
            )  # fmt: skip
            self._ledger.touch(job)
            if job.is_over:
                self.summarize(job)
        return None

    @staticmethod
    def _is_meant(result: Result, fact: Fact, at: Instant) -> bool:
        if fact.corrects is not None:
            return result.command_id == fact.corrects and fact.characteristic in (None, result.characteristic)
        return result.characteristic == fact.characteristic and result.at <= at

    # --- the order's end -------------------------------------------------------------------------------------------

    def summarize(self, job: Job) -> None:
        """All results of an order that is over; nothing where nobody asked for any and none was measured."""
        asked = self.asked(job)
        if job.started_at is None or not (asked or job.quality):
            return
        job.summaries += 1
        self._ledger.touch(job)
        tallies = {name: tally.summary() for name, tally in job.quality.items() if tally.count}
        order = job.order
        self._emit(
            QualitySummary(
                work_unit=self._unit.name, at=moment(self._machine.now), job_order_id=job.job_order_id, revision=job.summaries,
                passed=job.quality_pass, failed=job.quality_fail, characteristics=tallies,
                not_checked=tuple(r.characteristic for r in asked if r.characteristic not in tallies),
                customer=order.customer.name if order.customer is not None else None, order_id=order.order_id, lot_id=order.lot_id,
            )
        )  # fmt: skip

    # --- memory ----------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """JSON-able: a value that is still the same after a restart must not be judged again."""
        return {
            key: [
                one.characteristic, str(one.value), one.at.isoformat(), one.result, one.limits.unit, one.limits.required_by,
                *(None if limit is None else str(limit) for limit in (one.limits.lower, one.limits.target, one.limits.upper)),
            ]
            for key, one in self.last.items()
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        self.last = {}
        for key, (characteristic, value, at, result, unit, required_by, *limits) in state.items():
            lower, target, upper = (None if limit is None else Decimal(limit) for limit in limits)
            asked = QualityRequirement(characteristic, unit, lower, target, upper, required_by)
            self.last[key] = LastQuality(characteristic, Decimal(value), datetime.fromisoformat(at), result, asked)

    def dump_results(self) -> list[list[Any]]:
        return [[r.command_id, r.at, r.characteristic, str(r.value), r.verdict, r.job, r.product_lot] for r in self._results]

    def load_results(self, rows: list[list[Any]]) -> None:
        self._results.extend(
            Result(command_id, at, characteristic, Decimal(value), *rest) for command_id, at, characteristic, value, *rest in rows
        )


def _same(one: Result, other: Result) -> bool:
    return (one.job, one.characteristic) == (other.job, other.characteristic)
