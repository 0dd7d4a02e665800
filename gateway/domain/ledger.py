"""The job order ledger of one work unit (ISA-95, OPC 10031-4): six states, eleven verbs, at most one running job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from gateway.domain.job import Job
from gateway.domain.job_order import Answer, Customer, JobCommand, JobOrder, JobState, Problem, ReturnStatus, Verb
from gateway.domain.order_rules import request_problems
from gateway.domain.problems import return_status

ENDED_KEPT = 50
"""Ended jobs in memory: those a page shows and a late fact reaches; older ones are rows of the journal."""
MAX_OPEN_ORDERS = 1000
"""Weeks of work for one machine; beyond it something above repeats itself and memory must stay bounded."""

Position = int
"""Place in the order of arrival on this work unit."""


class Guard(StrEnum):
    """What must hold on the work unit besides the order's own state. An interrupted job leaves the unit idle."""

    ANY = ""
    IDLE = "no job runs"
    BUSY = "another job runs"


@dataclass(frozen=True)
class Rule:
    """One row of the transition table. `source` None: not in the ledger; `target` None: taken out of it."""

    source: JobState | None
    verb: Verb
    target: JobState | None
    guard: Guard = Guard.ANY


_WAITING = (JobState.NOT_ALLOWED_TO_START, JobState.ALLOWED_TO_START)
_BEGUN = (JobState.RUNNING, JobState.INTERRUPTED)
_OVER = (JobState.ENDED, JobState.ABORTED)

RULES: tuple[Rule, ...] = (
    Rule(None, Verb.STORE, JobState.NOT_ALLOWED_TO_START),
    *(
        rule
        for source, verb in (
            (None, Verb.STORE_AND_START),
            (JobState.NOT_ALLOWED_TO_START, Verb.START),
            (JobState.ALLOWED_TO_START, Verb.START),
        )
        for rule in (Rule(source, verb, JobState.RUNNING, Guard.IDLE), Rule(source, verb, JobState.ALLOWED_TO_START, Guard.BUSY))
    ),
    Rule(JobState.ALLOWED_TO_START, Verb.REVOKE_START, JobState.NOT_ALLOWED_TO_START),
    Rule(JobState.RUNNING, Verb.PAUSE, JobState.INTERRUPTED),
    Rule(JobState.INTERRUPTED, Verb.RESUME, JobState.RUNNING, Guard.IDLE),
    *(Rule(source, Verb.STOP, JobState.ENDED) for source in _BEGUN),
    *(Rule(source, Verb.ABORT, JobState.ABORTED) for source in (*_WAITING, *_BEGUN)),
    *(Rule(source, Verb.UPDATE, source) for source in (*_WAITING, *_BEGUN)),
    *(Rule(source, Verb.CANCEL, None) for source in _WAITING),
    *(Rule(source, Verb.CLEAR, None) for source in _OVER),
)


def transition_table() -> list[tuple[str, str, str]]:
    """(from, verb with its condition, to) of every transition, the work unit's own dispatch included, for docs and diagrams."""
    rows = [
        (rule.source or "(none)", f"{rule.verb} [{rule.guard}]" if rule.guard else rule.verb.value, rule.target or "(removed)")
        for rule in RULES
    ]
    return [
        *((str(source), verb, str(target)) for source, verb, target in rows),
        (JobState.RUNNING.value, "[end: at_quantity]", JobState.ENDED.value),
        (JobState.ALLOWED_TO_START.value, "[next: auto]", JobState.RUNNING.value),
        (JobState.RUNNING.value, "[on_fail: hold]", JobState.INTERRUPTED.value),
        *((state.value, "[job: its number at the machine]", JobState.RUNNING.value) for state in (*_WAITING, JobState.INTERRUPTED)),
        (JobState.RUNNING.value, "[job: another number at the machine]", JobState.ENDED.value),
    ]


@dataclass(frozen=True)
class Transition:
    """One change of state, for one `job.changed` event. `command_id` None: the work unit's own dispatch did it."""

    job_order_id: str
    previous: JobState | None
    state: JobState
    command_id: str | None


@dataclass(frozen=True)
class LedgerOutcome:
    """The answer, what changed in its order, and the jobs that a Cancel or Clear took out of the ledger."""

    answer: Answer
    transitions: tuple[Transition, ...] = ()
    removed: tuple[Job, ...] = ()


class Ledger:
    """The orders of one work unit.

    `unit`: its name. `dispatch_end`: manual or at_quantity (a running job ends by itself when good >= quantity). `dispatch_next`:
    manual or auto (when a begun job ends, the first released order of the queue starts).

    A cancelled order never ran: its last state is reported as Aborted, and its id is free again. Clear changes no state.
    """

    def __init__(self, unit: str, dispatch_end: str = "manual", dispatch_next: str = "manual") -> None:
        self._unit = unit
        self._ends_at_quantity = dispatch_end == "at_quantity"
        self._starts_next = dispatch_next == "auto"
        self._jobs: dict[str, Job] = {}
        self._by_order: dict[str, dict[str, Job]] = {}
        self._over: list[str] = []
        self._running: Job | None = None
        self._arrivals = 0
        self._touched: dict[str, Job] = {}

    @property
    def running(self) -> Job | None:
        return self._running

    @property
    def interrupted(self) -> tuple[Job, ...]:
        """Paused jobs, the one paused last first."""
        paused = [(job.paused_at, job.arrival, job) for job in self._jobs.values() if job.paused_at is not None]
        return tuple(job for _, _, job in sorted(paused, reverse=True))

    def running_at(self, at: datetime) -> Job | None:
        """The one that ran at that time, as far as the jobs still tell, else the one that runs now."""
        ran = [
            (job.started_at, job.arrival, job)
            for job in self._jobs.values()
            if job.started_at is not None and job.started_at <= at
            and all(end is None or at < end for end in (job.paused_at, job.ended_at))
        ]  # fmt: skip
        return max(ran)[2] if ran else self._running

    def get(self, job_order_id: str) -> Job | None:
        return self._jobs.get(job_order_id)

    @property
    def open_count(self) -> int:
        """Orders that are not over."""
        return len(self._jobs) - len(self._over)

    @property
    def order_ids(self) -> Iterable[str]:
        """Production orders of which there are operations here."""
        return self._by_order.keys()

    def of_order(self, order_id: str) -> Iterable[Job]:
        """The jobs that are operations of one production order."""
        return self._by_order.get(order_id, {}).values()

    def queue(self) -> tuple[Job, ...]:
        """Orders that have not begun: the released ones in dispatch order, then the others likewise."""
        waiting = [job for job in self._jobs.values() if job.state in _WAITING]
        return tuple(sorted(waiting, key=lambda job: (job.state is not JobState.ALLOWED_TO_START, job.dispatch_key)))

    def recent(self, n: int = ENDED_KEPT) -> tuple[Job, ...]:
        """Ended and aborted jobs, latest first."""
        return tuple(self._jobs[job_order_id] for job_order_id in self._over[: -n - 1 : -1])

    def apply(self, command: JobCommand, at: datetime, position: Position | None = None) -> LedgerOutcome:
        """Carry out one command at `at` (aware UTC), or refuse it and change nothing.

        `position`: the place in the order of arrival that a stored order gets, None: the next one.
        """
        job = self._jobs.get(command.job_order.job_order_id)
        rule, problems = self._permit(command, job)
        order = _merged(job.order, command) if job is not None and command.command is Verb.UPDATE else command.job_order
        problems += request_problems(command, order, job)
        if problems or rule is None:
            return LedgerOutcome(_refusal(command, job, problems))
        if job is None:
            job = self._admit(order, position)
            previous = None
        else:
            if rule.verb is Verb.UPDATE:
                self._forget(job)
                job.order = order
                self._know(job)
            previous = job.state
        self.touch(job)
        if rule.target is None:
            return self._remove(job, command)
        transitions = self._enter(job, previous, rule.target, at, command.command_id)
        transitions += self._end_if_made(at)
        if previous in _BEGUN and job.is_over and self._running is None:
            transitions += self._start_next(at)
        return LedgerOutcome(Answer(command.command_id, ReturnStatus.SUCCESS, job.state.value), tuple(transitions))

    def switch_to(self, job_order_id: str, at: datetime) -> tuple[list[Transition], Problem | None]:
        """The machine itself names the order that it works on from now on: end the one before and start this, released or not. Nothing
        when it runs already; an unknown or ended one is refused and changes nothing."""
        job = self._jobs.get(job_order_id)
        if job is None:
            return [], Problem("unknown_order", f"{self._unit} knows no order {job_order_id}")
        if job.is_over:
            return [], Problem("invalid_state", f"{job_order_id} is {job.state}")
        before = self._running
        if job is before:
            return [], None
        transitions = [] if before is None else self._enter(before, before.state, JobState.ENDED, at, None)
        return [*transitions, *self._enter(job, job.state, JobState.RUNNING, at, None), *self._end_if_made(at)], None

    def hold(self, at: datetime) -> list[Transition]:
        """The gateway itself interrupts the running job (a failed check); it goes on by Resume like any other."""
        job = self._running
        return [] if job is None else self._enter(job, job.state, JobState.INTERRUPTED, at, None)

    def _end_if_made(self, at: datetime) -> list[Transition]:
        return self.on_good(self._running.good, at) if self._running is not None else []

    def on_good(self, total: Decimal, at: datetime) -> list[Transition]:
        """The running job now has `total` good pieces: end it where `at_quantity` says so, and start the next where `auto` does."""
        job = self._running
        if job is None or not self._is_enough(total, job):
            return []
        return self._enter(job, job.state, JobState.ENDED, at, None) + self._start_next(at)

    @property
    def is_reached(self) -> bool:
        """The running job has all its pieces and ends by itself."""
        return self._running is not None and self._is_enough(self._running.good, self._running)

    def _is_enough(self, good: Decimal, job: Job) -> bool:
        return self._ends_at_quantity and job.order.quantity is not None and good >= job.order.quantity

    def touch(self, job: Job) -> None:
        """Note that `job` was changed from outside (a booking, a promise), so that its row is written."""
        self._touched[job.job_order_id] = job

    def take_touched(self) -> list[Job]:
        """Jobs whose row must be written, each once; the next call starts anew. Removed jobs come a last time."""
        touched = list(self._touched.values())
        self._touched.clear()
        return touched

    def restore(self, jobs: Iterable[Job]) -> None:
        """Fill an empty ledger with jobs loaded from the journal; removed ones and ended ones beyond the latest are left out.

        Raises ValueError when two of them are running.
        """
        known = sorted((job for job in jobs if not job.removed), key=lambda job: job.arrival)
        running = [job for job in known if job.state is JobState.RUNNING]
        if len(running) > 1:
            raise ValueError(f"two running jobs on {self._unit}: {running[0].job_order_id} and {running[1].job_order_id}")
        for job in known:
            self._know(job)
        self._running = running[0] if running else None
        self._arrivals = max((job.arrival for job in known), default=-1) + 1
        over = [job for job in known if job.is_over]
        over.sort(key=lambda job: job.ended_at.timestamp() if job.ended_at is not None else 0.0)
        self._over = [job.job_order_id for job in over]
        self._forget_oldest()

    def _permit(self, command: JobCommand, job: Job | None) -> tuple[Rule | None, list[Problem]]:
        """The rule that applies now, or why there is none."""
        name, verb = command.job_order.job_order_id, command.command
        if command.work_unit is not None and command.work_unit != self._unit:
            return None, [Problem("wrong_work_unit", f"the command is for {command.work_unit}, this is {self._unit}")]
        state = job.state if job is not None else None
        rules = [rule for rule in RULES if rule.source is state and rule.verb is verb]
        if not rules and job is None:
            return None, [Problem("unknown_order", f"{self._unit} knows no order {name}")]
        if not rules and verb in (Verb.STORE, Verb.STORE_AND_START):
            return None, [Problem("order_exists", f"{self._unit} already has an order {name} ({state})")]
        if not rules:
            return None, [Problem("invalid_state", f"{verb} is not possible: {name} is {state}")]
        guard = Guard.IDLE if self._running is None else Guard.BUSY
        rule = next((rule for rule in rules if rule.guard in (Guard.ANY, guard)), None)
        if rule is None and self._running is not None:
            return None, [Problem("other_order_running", f"{self._running.job_order_id} is running on {self._unit}")]
        if job is None and self.open_count >= MAX_OPEN_ORDERS:
            return None, [Problem("queue_full", f"{self._unit} already holds {MAX_OPEN_ORDERS} open orders")]
        return rule, []

    def _admit(self, order: JobOrder, position: Position | None) -> Job:
        arrival = self._arrivals if position is None else position
        self._arrivals = max(self._arrivals, arrival + 1)
        job = Job(order, JobState.NOT_ALLOWED_TO_START, arrival)
        self._know(job)
        return job

    def _know(self, job: Job) -> None:
        self._jobs[job.job_order_id] = job
        if job.order.order_id is not None:
            self._by_order.setdefault(job.order.order_id, {})[job.job_order_id] = job

    def _forget(self, job: Job) -> None:
        del self._jobs[job.job_order_id]
        if job.order.order_id is not None:
            operations = self._by_order[job.order.order_id]
            del operations[job.job_order_id]
            if not operations:
                del self._by_order[job.order.order_id]

    def _remove(self, job: Job, command: JobCommand) -> LedgerOutcome:
        self._forget(job)
        job.removed = True
        transitions: tuple[Transition, ...] = ()
        if job.is_over:
            self._over.remove(job.job_order_id)
        else:
            transitions = (Transition(job.job_order_id, job.state, JobState.ABORTED, command.command_id),)
            job.state = JobState.ABORTED
        return LedgerOutcome(Answer(command.command_id, ReturnStatus.SUCCESS, job.state.value), transitions, (job,))

    def _enter(self, job: Job, previous: JobState | None, state: JobState, at: datetime, command_id: str | None) -> list[Transition]:
        """Put `job` into `state`; no transition when it already is there."""
        if previous is state:
            return []
        job.state = state
        self.touch(job)
        if state is JobState.RUNNING:
            self._running = job
            job.started_at = job.started_at or at
        elif job is self._running:
            self._running = None
        job.paused_at = at if state is JobState.INTERRUPTED else None
        if state in _OVER:
            job.ended_at = at
            self._over.append(job.job_order_id)
            self._forget_oldest()
        return [Transition(job.job_order_id, previous, state, command_id)]

    def _start_next(self, at: datetime) -> list[Transition]:
        first = next((job for job in self.queue() if job.state is JobState.ALLOWED_TO_START), None)
        if not self._starts_next or first is None:
            return []
        return self._enter(first, first.state, JobState.RUNNING, at, None)

    def _forget_oldest(self) -> None:
        for job_order_id in self._over[:-ENDED_KEPT]:
            self._forget(self._jobs[job_order_id])
        del self._over[:-ENDED_KEPT]


def _refusal(command: JobCommand, job: Job | None, problems: list[Problem]) -> Answer:
    """All that is wrong in the status; the first problem's code, every problem's sentence."""
    status = 0
    for problem in problems:
        status |= return_status(problem.code)
    text = "; ".join(problem.text for problem in problems)
    return Answer(command.command_id, status, job.state.value if job is not None else None, Problem(problems[0].code, text))


def _merged(order: JobOrder, command: JobCommand) -> JobOrder:
    """`order` with the fields that the update really carried. Of a customer only what it says is changed: a new priority keeps the
    delivery window."""
    given = command.given - {"job_order_id"}
    if given & {"priority", "customer"}:
        # How a priority is counted comes with it, whoever sent the order itself.
        given |= {"lowest_first"}
    changes = {f.name: getattr(command.job_order, f.name) for f in fields(JobOrder) if f.name in given}
    customer = changes.get("customer")
    if order.customer is not None and customer is not None:
        default = Customer()
        said = {f.name: getattr(customer, f.name) for f in fields(Customer) if getattr(customer, f.name) != getattr(default, f.name)}
        changes["customer"] = replace(order.customer, **said)
    merged: JobOrder = replace(order, **changes)
    return merged
