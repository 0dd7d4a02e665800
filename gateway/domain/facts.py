"""What people and other systems know and the PLC does not: each fact is carried out whole or refused with a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from gateway.domain.equipment import STATE_NAMES
from gateway.domain.instants import SECOND, Instant, instant, moment
from gateway.domain.job import Job
from gateway.domain.job_order import Answer, Fact, FactVerb, JobState, Problem, ReturnStatus
from gateway.domain.machine import MachineTime
from gateway.domain.machine_by_order import MachineByOrder
from gateway.domain.orders import ZERO
from gateway.domain.problems import return_status
from gateway.domain.production import Production
from gateway.domain.windows import KEEP

AHEAD = 5 * SECOND
"""A fact of so little later than now is one of now, told by somebody whose clock is fast."""
_NOT_BEGUN = (JobState.NOT_ALLOWED_TO_START, JobState.ALLOWED_TO_START)


class Facts:
    """Applies facts to one work unit; `machine.now` is the present instant."""

    def __init__(self, machine: MachineTime, production: Production) -> None:
        self._machine = machine
        self._production = production
        self._handlers: Mapping[FactVerb, Callable[[Fact], Problem | None]] = {
            FactVerb.EXPLAIN_STOP: self._explain_stop,
            FactVerb.DECLARE_STATE: self._declare_state,
            FactVerb.DECLARE_PRODUCTION: self._declare_production,
            FactVerb.DECLARE_SCRAP: lambda fact: self._declare_mark(fact, "scrap"),
            FactVerb.DECLARE_REWORK: lambda fact: self._declare_mark(fact, "rework"),
            FactVerb.LOAD_LOT: self._load_lot,
            FactVerb.UNLOAD_LOT: self._unload_lot,
            FactVerb.DECLARE_CONSUMPTION: self._declare_consumption,
            FactVerb.START_LOT: self._start_lot,
            FactVerb.DECLARE_SERIAL: self._declare_serial,
            FactVerb.RECORD_QUALITY: self._record_quality,
            FactVerb.CANCEL_QUALITY: self._cancel_quality,
            FactVerb.REASSIGN: self._reassign,
        }

    def apply(self, fact: Fact) -> Answer:
        ahead = instant(fact.at) - self._machine.now
        if 0 < ahead <= AHEAD:
            fact = replace(fact, at=moment(self._machine.now))
        problem = self._out_of_reach(fact.at) or self._handlers[fact.command](fact)
        if problem is None:
            return Answer(fact.command_id, ReturnStatus.SUCCESS)
        return Answer(fact.command_id, return_status(problem.code), None, problem)

    def _out_of_reach(self, at: datetime) -> Problem | None:
        age = self._machine.now - instant(at)
        if age < 0:
            return Problem("time_not_covered", f"at {at.isoformat()} is in the future")
        if age > KEEP:
            return Problem("time_not_covered", f"at {at.isoformat()} is more than 48 h ago")
        return None

    def _job(self, fact: Fact) -> Job | Problem:
        """The begun job that the fact names; without a name the one that ran when it was so."""
        if fact.job_order_id is None:
            running = self._production.ledger.running_at(fact.at)
            return running or Problem("no_order", f"no order is running on {self._machine.unit.name} and the fact names none")
        job = self._production.ledger.get(fact.job_order_id)
        if job is None:
            return Problem("unknown_order", f"{self._machine.unit.name} knows no order {fact.job_order_id}")
        if job.state in _NOT_BEGUN:
            return Problem("invalid_state", f"{fact.job_order_id} has not begun ({job.state})")
        return job

    def _explain_stop(self, fact: Fact) -> Problem | None:
        if fact.reason is None or fact.reason not in self._machine.unit.reasons:
            known = ", ".join(self._machine.unit.reasons) or "none"
            return Problem("unknown_reason", f"{fact.reason} is not one of the reasons of the configuration: {known}")
        self._machine.settle(self._machine.now)
        stop = self._machine.stop_at(instant(fact.at))
        if stop is None:
            return Problem("no_stop_at", f"no stop was going on at {fact.at.isoformat()}")
        if stop.reason != fact.reason:
            self._machine.explain(stop, fact.reason)
        return None

    def _declare_state(self, fact: Fact) -> Problem | None:
        machine, state = self._machine, fact.state
        if not isinstance(machine, MachineByOrder):
            return Problem("state_is_read", f"{machine.unit.name} tells its state itself; a reason goes by ExplainStop")
        if state is None:
            return Problem("missing_field", "state is required")
        if state not in STATE_NAMES and state not in machine.unit.reasons:
            known = ", ".join((*STATE_NAMES, *machine.unit.reasons))
            return Problem("unknown_state", f"{state} is neither a state nor a reason of the configuration: {known}")
        since = machine.declarable_from
        if instant(fact.at) < since:
            return Problem("time_not_covered", f"the state before {moment(since).isoformat()} stands; at must not be earlier")
        machine.declare(state, instant(fact.at))
        return None

    def _declare_production(self, fact: Fact) -> Problem | None:
        job = self._job(fact)
        if isinstance(job, Problem):
            return job
        good, scrap = fact.good or ZERO, fact.scrap or ZERO
        if not good and not scrap:
            return Problem("quantity_invalid", "good and scrap are both 0 or missing")
        if job.good + good < 0 or job.scrap + scrap < 0:
            return Problem("total_negative", f"{job.job_order_id} has {job.good} good and {job.scrap} scrap")
        self._production.declare(job, good, scrap, instant(fact.at))
        return None

    def _declare_mark(self, fact: Fact, what: str) -> Problem | None:
        job = self._job(fact)
        if isinstance(job, Problem):
            return job
        quantity = fact.quantity or ZERO
        if not quantity:
            return Problem("quantity_invalid", "quantity is 0 or missing")
        already = job.scrap if what == "scrap" else job.rework
        if job.good - quantity < 0 or already + quantity < 0:
            return Problem("total_negative", f"{job.job_order_id} has {job.good} good and {already} {what}")
        self._production.mark(what, quantity, job, instant(fact.at), fact.reason)
        return None

    def _load_lot(self, fact: Fact) -> Problem | None:
        if fact.material_id is None or fact.lot_id is None:
            return Problem("missing_field", "material_id and lot_id are required")
        self._production.close_books()
        return self._material_changed(self._production.material.load_lot(fact, fact.material_id, fact.lot_id))

    def _unload_lot(self, fact: Fact) -> Problem | None:
        if fact.material_id is None or fact.lot_id is None:
            return Problem("missing_field", "material_id and lot_id are required")
        self._production.close_books()
        return self._material_changed(self._production.material.unload_lot(fact, fact.material_id, fact.lot_id))

    def _declare_consumption(self, fact: Fact) -> Problem | None:
        if fact.material_id is None:
            return Problem("missing_field", "material_id is required")
        job = self._job(fact)
        if isinstance(job, Problem):
            return job
        return self._material_changed(self._production.material.declare(fact, job, fact.material_id))

    def _material_changed(self, problem: Problem | None) -> Problem | None:
        if problem is None:
            self._production.shortage.look(self._production.ledger.running)
        return problem

    def _named_or_running(self, fact: Fact) -> Job | Problem | None:
        """The begun job that the fact names, else the one that ran when it was so, which there may be none of."""
        return self._production.ledger.running_at(fact.at) if fact.job_order_id is None else self._job(fact)

    def _start_lot(self, fact: Fact) -> Problem | None:
        if fact.lot_id is None:
            return Problem("missing_field", "lot_id is required")
        production, job = self._production, self._production.ledger.running
        if production.genealogy.lot_of(job) == fact.lot_id:
            return Problem("lot_already_loaded", f"lot {fact.lot_id} is being made already")
        production.close_books()
        production.genealogy.start(fact.lot_id, job)
        return None

    def _declare_serial(self, fact: Fact) -> Problem | None:
        if fact.serial is None:
            return Problem("missing_field", "serial is required")
        job = self._named_or_running(fact)
        if isinstance(job, Problem):
            return job
        genealogy, at = self._production.genealogy, instant(fact.at)
        if fact.lot_id is not None and not genealogy.knows(job, fact.lot_id):
            whose = "without an order" if job is None else f"of {job.job_order_id}"
            return Problem("unknown_lot", f"{self._machine.unit.name} made no lot {fact.lot_id} {whose} of late")
        lot = fact.lot_id or (genealogy.lot_of(None) if job is None else genealogy.lot_at(job, at))
        if job is None and lot is None:
            return Problem("no_order", f"no order is running on {self._machine.unit.name}, and neither order nor lot is named")
        genealogy.declare_serial(fact.serial, job, lot, at, fact.by)
        return None

    def _record_quality(self, fact: Fact) -> Problem | None:
        if fact.characteristic is None or fact.value is None:
            return Problem("missing_field", "characteristic and value are required")
        job = self._named_or_running(fact)
        if isinstance(job, Problem):
            return job
        if not self._production.inspection.record(fact, fact.characteristic, fact.value, job):
            return Problem("unknown_characteristic", f"nobody asks for {fact.characteristic} on {self._machine.unit.name}")
        self._production.act_on_results()
        return None

    def _cancel_quality(self, fact: Fact) -> Problem | None:
        if fact.corrects is None and fact.characteristic is None:
            return Problem("missing_field", "corrects or characteristic is required")
        return self._production.inspection.cancel(fact)

    def _reassign(self, fact: Fact) -> Problem | None:
        job = self._job(fact)
        if isinstance(job, Problem):
            return job
        span = _span(fact)
        if isinstance(span, Problem):
            return span
        if not self._production.reassign(job, *span):
            return Problem("time_not_covered", "no pieces without an order are remembered in that time")
        return None


def _span(fact: Fact) -> tuple[Instant, Instant] | Problem:
    if fact.from_ is None or fact.to is None:
        return Problem("missing_field", "from and to are required")
    if fact.from_ >= fact.to:
        return Problem("window_invalid", f"from {fact.from_.isoformat()} is not before to {fact.to.isoformat()}")
    return instant(fact.from_), instant(fact.to)
