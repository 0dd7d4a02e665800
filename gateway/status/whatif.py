"""What the server asks of the plan, and the bodies of `/api/whatif` and of `/api/availability?product=&quantity=`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from gateway.domain.calendar import Calendar
from gateway.domain.promise import Promise, Work, due_of
from gateway.domain.whatif import Answer, Plan, Question, Queue, Slot
from gateway.status.board import Board
from gateway.status.payloads import Payload, availability_payload


class Planner(Protocol):
    """The queues of the running gateway, each a copy that another thread may search."""

    def queue(self, work_unit: str) -> Queue:
        """As it stands now. Raises KeyError for an unknown unit."""
        ...

    def new_order(self, work_unit: str, product_id: str, quantity: Decimal) -> tuple[Work, bool]:
        """The work of an order nobody has placed yet, and whether the unit is known to make the product."""
        ...

    def calendar(self, text: str) -> Calendar:
        """From JSON shaped as one entry of `calendars:`. Raises ValueError with the sentence that says what is wrong."""
        ...


@dataclass(frozen=True)
class Offer:
    """What one unit can promise for an order that nobody has placed yet."""

    promise: Promise
    made_here: bool
    """The product is configured, was made or is ordered here; else the date rests on the unit's ideal time alone."""


def whatif_payload(work_unit: str, queue: Queue, question: Question, answer: Answer) -> Payload:
    """Jobs in the order asked for, each before and after; then what the usual rules and the exact search would gain."""
    ranks = {slot.order.job_order_id: rank for rank, slot in enumerate(answer.before.slots)}
    before = {slot.order.job_order_id: slot for slot in answer.before.slots}
    plans = (answer.base, *answer.others)
    return {
        "at": queue.now, "work_unit": work_unit,
        "question": {
            "first": question.first, "priority": dict(question.priorities or {}), "calendar": question.calendar is not None
        },
        "jobs": [
            {
                "job_order_id": slot.order.job_order_id, "product_id": slot.order.product_id, "due": due_of(slot.order),
                "running": slot.order.job_order_id not in queue.waiting_ids,
                "before": {"rank": ranks[slot.order.job_order_id], **_slot_payload(before[slot.order.job_order_id])},
                "after": {"rank": rank, **_slot_payload(slot)},
            }
            for rank, slot in enumerate(answer.after.slots)
        ],
        "becomes_late": [slot.order.job_order_id for slot in answer.becomes_late],
        "late_s": {"before": answer.before.late_s, "after": answer.after.late_s},
        "late_count": {"before": answer.before.late_count, "after": answer.after.late_count},
        "plans": [_plan_payload(plan, answer.base) for plan in plans], "best": answer.best.rule,
        "exact": any(plan.rule == "least_late" for plan in answer.others),
    }  # fmt: skip


def _slot_payload(slot: Slot) -> Payload:
    promise = slot.promise
    return {
        "eta_likely": promise.eta_likely, "eta_safe": promise.eta_safe, "verdict": promise.verdict.value, "late_s": slot.late_s,
        "basis": promise.basis,
    }  # fmt: skip


def _plan_payload(plan: Plan, base: Plan) -> Payload:
    return {
        "rule": plan.rule, "jobs": [slot.order.job_order_id for slot in plan.slots], "late_s": plan.late_s,
        "late_count": plan.late_count, "gain_s": base.late_s - plan.late_s,
    }  # fmt: skip


def offers_payload(board: Board, product_id: str, quantity: Decimal, offers: Mapping[str, Offer]) -> Payload:
    """`/api/availability` with what each unit can promise for so many pieces of the product, behind all that is there."""
    return {
        "at": board.at, "product_id": product_id, "quantity": quantity, "earliest": _earliest(offers),
        "units": [{**availability_payload(unit.view), "offer": _offer_payload(offers[unit.view.work_unit])} for unit in board.units],
    }  # fmt: skip


def _offer_payload(offer: Offer) -> Payload:
    promise = offer.promise
    return {
        "eta_likely": promise.eta_likely, "eta_safe": promise.eta_safe, "basis": promise.basis, "made_here": offer.made_here
    }  # fmt: skip


def _earliest(offers: Mapping[str, Offer]) -> str | None:
    """Of the units that are known to make the product; None when none of them can say."""
    dated = [(offer.promise.eta_likely, name) for name, offer in offers.items() if offer.made_here and offer.promise.eta_likely is not None]
    return min(dated)[1] if dated else None


def units_with(queues: Mapping[str, Queue], jobs: Sequence[str]) -> list[str]:
    """Units where all these jobs wait."""
    return [name for name, queue in queues.items() if all(job in queue.waiting_ids for job in jobs)]
