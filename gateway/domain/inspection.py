"""Quality results of a work unit: each new value of a measured characteristic, judged by the order's limits or the unit's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway.domain.counters import number
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, QualityResult
from gateway.domain.instants import moment
from gateway.domain.job import Job
from gateway.domain.job_order import QualityRequirement
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.quality import effective_requirement, judge
from gateway.domain.sample import Input
from gateway.domain.view import LastQuality


class Inspection:
    def __init__(self, unit: WorkUnit, machine: MachineTime, ledger: Ledger, emit: Callable[[Event], None]) -> None:
        self._unit = unit
        self._machine = machine
        self._ledger = ledger
        self._emit = emit
        self.last: dict[str, LastQuality] = {}
        """By tag, or by characteristic where a person measured it."""

    def take(self, inputs: Mapping[str, Input]) -> None:
        """The measurements of one sample; an unchanged value is no new measurement."""
        for measured in self._unit.quality:
            held = inputs.get(measured.tag)
            value = None if held is None or held.bad else number(held.value)
            last = self.last.get(measured.tag)
            if value is not None and (last is None or last.value != Decimal(value)):
                self.judge(measured.limits.characteristic, Decimal(value), self._ledger.running, tag=measured.tag)

    def judge(self, characteristic: str, value: Decimal, job: Job | None, *, tag: str | None = None, lot_id: str | None = None) -> bool:
        """Judge one value; False when neither the order nor the unit asks for this characteristic."""
        own = next((q.limits for q in self._unit.quality if q.limits.characteristic == characteristic), None)
        limits = effective_requirement(characteristic, own, order=job.order.quality_requirements if job else ())
        if limits is None:
            return False
        result = judge(limits, value)
        self._machine.drift.value(self._machine.now, characteristic, float(value))
        if job is not None:
            job.count_result(result)
            self._ledger.touch(job)
        at = moment(self._machine.now)
        self.last[tag or characteristic] = LastQuality(characteristic, value, at, result.value, limits)
        self._emit(
            QualityResult(
                work_unit=self._unit.name, at=at, job_order_id=job.job_order_id if job else None, characteristic=characteristic,
                value=value, unit=limits.unit, lower=limits.lower, target=limits.target, upper=limits.upper, result=result.value,
                required_by=limits.required_by, lot_id=lot_id or (job.order.lot_id if job else None),
            )
        )  # fmt: skip
        return True

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
