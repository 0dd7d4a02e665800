"""Several operations of one order on the work units of one gateway: what an operation has been handed over, and what it waits for.

Operations are job orders with the same `order_id`, in the order of their `operation_id` (10 before 100). The operation before hands over
its good pieces, as many as it says; several jobs of one operation hand over together. Quantities in different units are not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gateway.domain.handover import NO_ROUTE, Route, Wait
from gateway.domain.job import Job
from gateway.domain.job_order import JobState


@dataclass(frozen=True)
class Operation:
    """A job and the work unit that has it."""

    work_unit: str
    job: Job


def route_of(own: Operation, operations: Iterable[Operation]) -> Route:
    """`operations`: those of the job's order on all work units, the job itself among them or not."""
    job = own.job
    place = _place(job)
    if place is None:
        return NO_ROUTE
    # An operation that was cancelled before it began is not part of the way any more.
    others = [(there, o) for o in operations if o.job is not job and not _never_done(o.job) and (there := _place(o.job)) is not None]
    lead_unknown = job.order.lead_after_s is None and any(there > place for there, _ in others)
    nearest = max((there for there, _ in others if there < place), default=None)
    before = [o for there, o in others if there == nearest] if nearest is not None else []
    if not before or any(o.job.order.unit != job.order.unit for o in before):
        return Route(lead_unknown=lead_unknown)
    handed_over = sum((o.job.good for o in before), Decimal(0))
    return Route(handed_over, None if job.produced < handed_over else _wait(own.work_unit, before), lead_unknown)


def _never_done(job: Job) -> bool:
    return job.state is JobState.ABORTED and job.started_at is None


def _wait(work_unit: str, before: Sequence[Operation]) -> Wait | None:
    """For the first of those that may still hand something over; None when all have ended. On one work unit the queue itself says
    which comes first."""
    coming = [o for o in before if not o.job.is_over and o.work_unit != work_unit]
    if not coming:
        return None
    dated = [(o.job.promise.eta_likely, o.job.promise.eta_safe, o) for o in coming if o.job.promise is not None]
    known = [(likely, safe, o) for likely, safe, o in dated if likely is not None and safe is not None]
    if not known:
        return Wait(_name(coming[0]), None, None)
    likely, safe, operation = min(known, key=lambda row: row[0])
    return Wait(_name(operation), likely, safe)


def _name(operation: Operation) -> str:
    return f"{operation.job.job_order_id} on {operation.work_unit}"


def _place(job: Job) -> tuple[tuple[int, int | str], ...] | None:
    """Where an operation stands on the way: numbers by their value, letters by the alphabet; None: it is part of no routing."""
    order = job.order
    if order.order_id is None or order.operation_id is None:
        return None
    parts = re.findall(r"[0-9]+|[^0-9]+", order.operation_id)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)
