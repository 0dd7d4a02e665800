"""What a planner's wish in the ERP asks of the line: a plan, what was taken of it before, and the job's state give the verbs. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import datetime

import orjson

from gateway.domain.cloud_event import encode
from gateway.domain.job_order import Customer, JobCommand, JobOrder, JobState, Verb
from gateway.uplink.erp.port import Plan, PlanState

_WAITING = (JobState.NOT_ALLOWED_TO_START, JobState.ALLOWED_TO_START)
_BEGUN = (JobState.RUNNING, JobState.INTERRUPTED)
_GONE = (PlanState.CANCELLED, PlanState.CLOSED)

_VERBS: dict[tuple[PlanState, JobState | None], Verb] = {
    (PlanState.FORECAST, None): Verb.STORE,
    (PlanState.RELEASED, None): Verb.STORE_AND_START,
    (PlanState.RELEASED, JobState.NOT_ALLOWED_TO_START): Verb.START,
    (PlanState.RELEASED, JobState.INTERRUPTED): Verb.RESUME,
    **{(plan, JobState.ALLOWED_TO_START): Verb.REVOKE_START for plan in (PlanState.FORECAST, PlanState.WITHDRAWN)},
    **{(plan, JobState.RUNNING): Verb.PAUSE for plan in (PlanState.FORECAST, PlanState.WITHDRAWN)},
    **{(plan, job): Verb.CANCEL for plan in _GONE for job in _WAITING},
    **{(PlanState.CANCELLED, job): Verb.ABORT for job in _BEGUN},
    **{(PlanState.CLOSED, job): Verb.STOP for job in _BEGUN},
}
"""What a plan that has come into this state asks of a job in that state; nothing where the pair is missing."""


@dataclass(frozen=True)
class Known:
    """What was taken of a plan: its revision, state and content (`digest`) as last seen. `refused`: why the line does not take it.
    `missing`: in how many whole listings in a row it was not there."""

    job_order_id: str
    work_unit: str
    revision: str
    state: PlanState
    digest: str
    refused: str | None = None
    missing: int = 0


@dataclass(frozen=True)
class Decision:
    """`commands` in order; `act`: what the planner did, for people (None: nothing but a new order, or our own doing).
    `postponed`: the line cannot follow now; the plan is looked at again with the next listing. `refused`: why it never will."""

    commands: tuple[JobCommand, ...] = ()
    act: str | None = None
    detail: str = ""
    postponed: bool = False
    refused: str | None = None


@dataclass(frozen=True)
class Job:
    """What the line knows of the job. `order` None: no longer in its ledger. `is_idle`: nothing else runs on its work unit, so that it
    could go on; `has_room`: the work unit's queue takes one more."""

    state: JobState | None
    order: JobOrder | None = None
    is_idle: bool = True
    has_room: bool = True


@dataclass(frozen=True)
class Asking:
    """Who asks, and when: `uplink` is part of the commands' names."""

    uplink: str
    at: datetime
    lowest_first: bool = False


def digest(order: JobOrder) -> str:
    """The same for the same content."""
    return hashlib.blake2b(encode(order), digest_size=9).hexdigest()


def content(plan: Plan, known: Known) -> str:
    """That of the plan; where the ERP tells nothing but its state, as it was taken."""
    return digest(plan.job_order) if plan.work_unit else known.digest


def decide(plan: Plan, known: Known | None, job: Job, asking: Asking) -> Decision:
    """What to ask of the line so that it does what the plan says. `known` None: the plan is new."""
    if known is None:
        return _new(plan, job, asking) if plan.work_unit else Decision()
    if not plan.work_unit:
        known, plan = replace(known, digest=digest(plan.job_order)), replace(plan, work_unit=known.work_unit)
    if plan.work_unit != known.work_unit:
        return _elsewhere(plan, known, job, asking)
    if job.state in (JobState.ENDED, JobState.ABORTED):
        return _too_late(plan, known, job)
    commands: list[JobCommand] = []
    act, detail = None, ""
    if digest(plan.job_order) != known.digest and job.state is not None and plan.state not in _GONE:
        commands.append(_command(Verb.UPDATE, plan, known, job, asking))
        act, detail = "changed", changes(job.order, plan.job_order)
    verb = _VERBS.get((plan.state, job.state)) if plan.state is not known.state else None
    if verb is Verb.RESUME and known.state not in (PlanState.FORECAST, PlanState.WITHDRAWN):
        # Whoever interrupted it was not the planner.
        verb = None
    if (verb is Verb.RESUME and not job.is_idle) or (verb in (Verb.STORE, Verb.STORE_AND_START) and not job.has_room):
        return Decision(postponed=True)
    if verb is not None:
        commands.append(_command(verb, plan, known, job, asking))
        act = _act(plan.state, known.state) or act
    return Decision(tuple(commands), act, detail)


def vanished(key: str, known: Known, job: Job, asking: Asking) -> Decision:
    """The ERP has it no longer, and does not say why: what has not begun is taken out, what runs is left to people."""
    if job.state not in (*_WAITING, *_BEGUN):
        return Decision()
    if job.state in _BEGUN:
        return Decision(act="vanished_running")
    order = JobOrder(known.job_order_id)
    plan = Plan(key, known.revision, PlanState.CANCELLED, known.work_unit, order)
    return Decision((_command(Verb.CANCEL, plan, known, job, asking),), "vanished")


def _new(plan: Plan, job: Job, asking: Asking) -> Decision:
    verb = _VERBS.get((plan.state, None))
    if verb is None:
        return Decision()
    if not job.has_room:
        return Decision(postponed=True)
    return Decision((_command(verb, plan, None, Job(None), asking),))


def _elsewhere(plan: Plan, known: Known, job: Job, asking: Asking) -> Decision:
    """The planner moved it to another work unit."""
    if job.state in _BEGUN and plan.state not in _GONE:
        return Decision(refused=f"it has begun on {known.work_unit} and cannot be moved to {plan.work_unit}")
    here = replace(plan, state=PlanState.CANCELLED if plan.state not in _GONE else plan.state, work_unit=known.work_unit)
    verb = _VERBS.get((here.state, job.state)) if job.state is not None else None
    commands = [_command(verb, here, known, job, asking)] if verb is not None else []
    if job.state not in (JobState.ENDED, JobState.ABORTED):
        commands += _new(plan, Job(None, None, job.is_idle, True), asking).commands
    return Decision(tuple(commands), "moved", f"{known.work_unit} -> {plan.work_unit}")


def _too_late(plan: Plan, known: Known, job: Job) -> Decision:
    """The line has ended it. That the ERP closes it then is how it should be; anything else concerns people."""
    if plan.state is PlanState.CLOSED:
        return Decision()
    if plan.state is PlanState.CANCELLED:
        return Decision(act="cancelled_late" if job.state is JobState.ENDED else None)
    if digest(plan.job_order) != known.digest:
        return Decision(act="changed_late", detail=changes(job.order, plan.job_order))
    return Decision()


def _act(state: PlanState, before: PlanState) -> str | None:
    """How the change of the plan's state is told."""
    if state is PlanState.RELEASED:
        # From forecast to released is the usual way.
        return "released_again" if before is PlanState.WITHDRAWN else None
    return {
        PlanState.FORECAST: "withdrawn", PlanState.WITHDRAWN: "withdrawn", PlanState.CANCELLED: "cancelled", PlanState.CLOSED: "closed",
    }[state]  # fmt: skip


def _command(verb: Verb, plan: Plan, known: Known | None, job: Job, asking: Asking) -> JobCommand:
    """Its name is made of what it is about, so that the same wish in the same state is the same command, whenever it is asked."""
    order = replace(plan.job_order, job_order_id=known.job_order_id) if known is not None else plan.job_order
    order = replace(order, lowest_first=asking.lowest_first)
    about = [asking.uplink, plan.key, plan.revision, plan.work_unit, plan.state, verb, job.state]
    named = hashlib.blake2b(orjson.dumps(about), digest_size=9).hexdigest()
    if verb not in (Verb.STORE, Verb.STORE_AND_START, Verb.UPDATE):
        order = JobOrder(order.job_order_id)
    return JobCommand(
        verb, f"{asking.uplink}-{verb.value}-{named}"[:128], order, issued_at=asking.at, work_unit=plan.work_unit, given=_given(order)
    )


def _given(order: JobOrder) -> frozenset[str]:
    """The fields that the ERP speaks of; what it leaves at its default may have come from elsewhere."""
    default = JobOrder("")
    return frozenset(f.name for f in fields(JobOrder) if getattr(order, f.name) != getattr(default, f.name))


def changes(before: JobOrder | None, after: JobOrder) -> str:
    """What is new about an order, for the technician: `quantity 100 -> 80`."""
    if before is None:
        return ""
    told = []
    for name in sorted(_given(after) - {"job_order_id", "lowest_first", "properties"}):
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(new, Customer):
            old_to, new_to = (old.delivery_to if old is not None else None), new.delivery_to
            if new_to is not None and old_to != new_to:
                told.append(f"delivery {_shown(old_to)} -> {_shown(new_to)}")
        elif old != new and not isinstance(new, tuple):
            told.append(f"{name} {_shown(old)} -> {_shown(new)}")
        elif old != new:
            told.append(name)
    return ", ".join(told)


def _shown(value: object) -> str:
    return "-" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
