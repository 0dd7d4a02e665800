"""Samples that an order wants at intervals: one that is due and not done is an alert, until its result comes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Text
from gateway.domain.inspection import Inspection
from gateway.domain.instants import SECOND, Instant
from gateway.domain.job import Job
from gateway.domain.job_order import JobState, QualityRequirement
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.signals import Signals


class SamplingDue:
    """Counts from the order's start, then from each result: pieces produced, and required time (a break asks for no sample)."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, ledger: Ledger, inspection: Inspection, signals: Signals) -> None:
        self._unit = unit
        self._machine = machine
        self._ledger = ledger
        self._inspection = inspection
        self._signals = signals
        self._last: dict[tuple[str, str], tuple[Decimal, Instant]] = {}
        """(order, characteristic) -> pieces produced and instant at its latest result, or at the first look."""
        self._due: set[str] = set()

    def measured(self, job: Job, characteristic: str) -> None:
        """A result is there: the next one counts from here."""
        self._last[job.job_order_id, characteristic] = job.produced, self._machine.now
        self._clear(characteristic)

    def look(self, job: Job | None) -> None:
        """`job`: the running one; alerts of any other are over."""
        now = self._machine.now
        for key in [key for key in self._last if self._is_over(key[0])]:
            del self._last[key]
        wanted = {r.characteristic: r for r in self._inspection.watched(job) if r.is_sampled} if job is not None else {}
        for characteristic in self._due - wanted.keys():
            self._clear(characteristic)
        for characteristic, requirement in wanted.items():
            assert job is not None
            produced, at = self._last.setdefault((job.job_order_id, characteristic), (Decimal(0), now))
            pieces, passed = job.produced - produced, self._unit.calendar.required(at, now) if now > at else 0
            by_pieces = requirement.every_pieces is not None and pieces >= requirement.every_pieces
            by_time = requirement.every_s is not None and passed >= int(requirement.every_s * SECOND)
            if by_pieces or by_time:
                self._raise(job, requirement, pieces, passed)
            else:
                self._clear(characteristic)

    def clock_set(self, by: int) -> None:
        self._last = {key: (pieces, at + by) for key, (pieces, at) in self._last.items()}

    def _is_over(self, job_order_id: str) -> bool:
        job = self._ledger.get(job_order_id)
        return job is None or job.state in (JobState.ENDED, JobState.ABORTED)

    def _raise(self, job: Job, requirement: QualityRequirement, pieces: Decimal, passed: int) -> None:
        name, characteristic = self._unit.name, requirement.characteristic
        self._due.add(characteristic)
        asked = f" ({requirement.required_by})" if requirement.required_by else ""
        self._signals.raise_(
            f"quality.due:{characteristic}", "warning",
            Text(
                f"{name} : contrôle {characteristic}{asked} à faire sur l'OF {job.job_order_id} : {pieces:f} pièces et "
                f"{passed // (60 * SECOND)} min depuis le dernier.",
                f"{name}: check {characteristic}{asked} is due on order {job.job_order_id}: {pieces:f} pieces and "
                f"{passed // (60 * SECOND)} min since the last one.",
            ),
            Text("Mesurer une pièce et saisir le résultat (RecordQuality).", "Measure a piece and enter the result (RecordQuality)."),
            self._machine.now,
        )  # fmt: skip

    def _clear(self, characteristic: str) -> None:
        if characteristic in self._due:
            self._due.discard(characteristic)
            self._signals.clear(f"quality.due:{characteristic}", self._machine.now)

    def dump(self) -> dict[str, Any]:
        return {"last": [[*key, str(pieces), at] for key, (pieces, at) in self._last.items()], "due": sorted(self._due)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._last = {(job, name): (Decimal(pieces), at) for job, name, pieces, at in state.get("last", ())}
        self._due = set(state.get("due", ()))
