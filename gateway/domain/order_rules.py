"""What makes an order impossible whatever the ledger holds: quantities, limits and times that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from gateway.domain.job import Job
from gateway.domain.job_order import JobCommand, JobOrder, Problem, Verb
from gateway.domain.material import ConsumptionMode
from gateway.domain.quality import limits_problem


def request_problems(command: JobCommand, order: JobOrder, job: Job | None) -> list[Problem]:
    """Problems of the order that `command` brings; `order` is what would stand in the ledger, `job` what stands there now.

    Only verbs that carry an order are looked at. A delivery window is judged by `issued_at`: an order that was right when it was
    sent and only travelled slowly is late, not wrong.
    """
    if command.command not in (Verb.STORE, Verb.STORE_AND_START, Verb.UPDATE):
        return []
    problems = [*_figure_problems(order), *_time_problems(command, order)]
    if job is not None and command.command is Verb.UPDATE:
        problems += _update_problems(command, order, job)
    return problems


def _figure_problems(order: JobOrder) -> Iterator[Problem]:
    if order.quantity is not None and not _positive(order.quantity):
        yield Problem("quantity_invalid", f"quantity must be above 0, not {order.quantity}")
    for name in ("ideal_cycle_time_s", "pieces_per_cycle"):
        value = getattr(order, name)
        if value is not None and not _positive(Decimal(value)):
            yield Problem("invalid_field", f"{name} must be above 0, not {value}")
    if order.lead_after_s is not None and not (order.lead_after_s.is_finite() and order.lead_after_s >= 0):
        yield Problem("invalid_field", f"lead_after_s must not be negative, not {order.lead_after_s}")
    for material in order.material_requirements:
        if not (material.quantity_per.is_finite() and material.quantity_per >= 0):
            yield Problem("quantity_invalid", f"quantity_per of {material.material_id} must not be negative, not {material.quantity_per}")
        if material.mode not in (ConsumptionMode.BACKFLUSH, ConsumptionMode.MEASURED):
            yield Problem("invalid_field", f"mode of {material.material_id} must be backflush or measured, not {material.mode}")
    for requirement in order.quality_requirements:
        problem = limits_problem(requirement)
        if problem is not None:
            yield problem


def _time_problems(command: JobCommand, order: JobOrder) -> Iterator[Problem]:
    customer = order.customer
    if order.start_time is not None and order.end_time is not None and order.start_time > order.end_time:
        yield Problem("window_invalid", "start_time is after end_time")
    if customer is None or customer.delivery_to is None:
        return
    if customer.delivery_from is not None and customer.delivery_from > customer.delivery_to:
        yield Problem("window_invalid", "delivery_from is after delivery_to")
    brings_window = command.command is not Verb.UPDATE or (
        "customer" in command.given and command.job_order.customer is not None and command.job_order.customer.delivery_to is not None
    )
    if brings_window and customer.delivery_to < command.issued_at:
        yield Problem("window_in_past", f"delivery_to {customer.delivery_to.isoformat()} was past when the command was issued")


def _update_problems(command: JobCommand, order: JobOrder, job: Job) -> Iterator[Problem]:
    if "quantity" in command.given and order.quantity is not None and _positive(order.quantity) and order.quantity < job.good:
        yield Problem("quantity_below_made", f"quantity {order.quantity} is below the {job.good} already made")
    if order.unit != job.order.unit and job.produced:
        yield Problem("unknown_unit", f"pieces were already made in {job.order.unit}, the unit cannot become {order.unit}")


def _positive(value: Decimal) -> bool:
    return value.is_finite() and value > 0
