"""Material that runs out before its order is done, told as an alert with the time at which it does."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Text
from gateway.domain.instants import SECOND, Instant, instant
from gateway.domain.job import Job
from gateway.domain.job_order import MaterialRequirement
from gateway.domain.machine import MachineTime
from gateway.domain.material_use import MaterialUse
from gateway.domain.signals import Signals

_MOVED = 600 * SECOND
"""A time that moved by less, or by less than a fifth of what is left until then, is the same time to whoever brings the next lot."""
_ENOUGH = Decimal(20)
"""Pieces before what each took, or how many were scrapped, is worth counting with."""


class Shortage:
    """Looks at the running job whenever its dates are estimated: need and time are those of the same estimate."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, material: MaterialUse, signals: Signals) -> None:
        self._unit = unit
        self._machine = machine
        self._material = material
        self._signals = signals
        self._told: dict[str, tuple[Instant, int]] = {}
        """Material -> when it runs out, as told, and the revision of its loads it was told for."""

    def look(self, job: Job | None) -> None:
        """Raise, renew and clear the alerts; `job`: the running one."""
        now, short = self._machine.now, {}
        for requirement in job.order.material_requirements if job is not None else ():
            found = self._short(job, requirement) if job is not None else None
            if found is not None:
                short[requirement.material_id] = found
        for material_id in [material for material in self._told if material not in short]:
            del self._told[material_id]
            self._signals.clear(f"material.short:{material_id}", now)
        for material_id, (runs_out, left, need, unit) in short.items():
            told = self._told.get(material_id)
            if told is not None and told[1] == self._material.lots.revisions[material_id] and not _has_moved(told[0], runs_out, now):
                continue
            self._told[material_id] = runs_out, self._material.lots.revisions[material_id]
            self._signals.clear(f"material.short:{material_id}", now)
            self._raise(material_id, runs_out, f"{_shown(left)} {unit}", f"{_shown(need)} {unit}", job)

    def _short(self, job: Job, requirement: MaterialRequirement) -> tuple[Instant, Decimal, Decimal, str] | None:
        """When it runs out, what is loaded, what is needed, in which unit; None where it lasts or nobody can know."""
        unit, pieces = requirement.unit, job.good + job.scrap
        left = self._material.loaded(requirement.material_id, unit, self._machine.now)
        per = requirement.quantity_per
        if not per and pieces >= _ENOUGH:
            per = job.materials.total(requirement.material_id, unit) / pieces
        promise = job.promise
        if left is None or per <= 0 or not job.remaining or promise is None or promise.eta_likely is None:
            return None
        if requirement.quantity_per and requirement.mode != "measured":
            left = max(left - per * (pieces - job.backflushed), Decimal(0))
        scrapped = pieces / job.good if job.good >= _ENOUGH else Decimal(1)
        need = per * job.remaining * scrapped
        if left >= need:
            return None
        now, calendar = self._machine.now, self._unit.calendar
        required = calendar.required(now, instant(promise.eta_likely))
        runs_out = calendar.after_required(now, int(required * left / need))
        return None if runs_out is None else (runs_out, left, need, unit)

    def _raise(self, material_id: str, runs_out: Instant, left: str, need: str, job: Job | None) -> None:
        name, now = self._unit.name, self._machine.now
        at, today = self._unit.calendar.local(runs_out), self._unit.calendar.local(now)
        when = f"{at:%H:%M}" if at.date() == today.date() else f"{at:%d/%m %H:%M}"
        lot = self._material.lots.lot_at(material_id, now)
        of_lot = f" (lot {lot})" if lot is not None else ""
        order = job.job_order_id if job is not None else ""
        self._signals.raise_(
            f"material.short:{material_id}", "warning",
            Text(
                f"{name} : {material_id}{of_lot} manquera vers {when}, avant la fin de l'OF {order} : il reste {left}, il en faut {need}.",
                f"{name}: {material_id}{of_lot} runs out about {when}, before order {order} is done: {left} left, {need} needed.",
            ),
            Text("Préparer le lot suivant, le charger, le déclarer (LoadLot).", "Prepare the next lot, load it, declare it (LoadLot)."),
            now,
        )  # fmt: skip

    def dump(self) -> dict[str, Any]:
        return {material_id: list(told) for material_id, told in self._told.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        # Revisions begin anew with each process; loads that were made before are those that were told of.
        self._told = {material_id: (at, self._material.lots.revisions[material_id]) for material_id, (at, _) in state.items()}


def _has_moved(told: Instant, runs_out: Instant, now: Instant) -> bool:
    moved = abs(runs_out - told)
    return moved > _MOVED and moved * 5 > told - now


def _shown(quantity: Decimal) -> str:
    text = f"{round(quantity, 3):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
