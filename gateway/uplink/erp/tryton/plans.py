"""Productions of Tryton as plans for the line: one job order per operation on a work centre that is a machine of ours."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from gateway.domain.cloud_event import encode
from gateway.domain.inbound import Refusal
from gateway.domain.job_order import Customer, JobOrder, MaterialRequirement, Problem, QualityRequirement
from gateway.domain.problems import return_status
from gateway.uplink.erp.port import Plan, PlanState
from gateway.uplink.erp.tryton.controls import Control
from gateway.uplink.erp.tryton.records import works_of
from gateway.uplink.erp.tryton.units import Units

_DIGITS = 9
_LONGEST_WISH = 1000
OPEN = ("waiting", "assigned", "running")
_HEAD = ("number", "reference", "state", "quantity", "unit", "product.code", "planned_date", "planned_start_date", "effective_start_date")
_BILL = ("rec_name", "outputs.product", "outputs.quantity", "outputs.unit", "inputs.product.code", "inputs.quantity", "inputs.unit")
_SALE = ("number", "reference", "shipping_date", "comment", "party.name")
SALE_LINE_FIELDS = ("sequence", "description", "sale", *(f"sale.{name}" for name in _SALE))


def plan_fields(*, works: bool, origins: bool) -> list[str]:
    """What is read of each production to make its plans, in one call."""
    fields = [*_HEAD, "inputs.state", *(f"bom.{name}" for name in _BILL), *(("origin",) if origins else ())]
    if works:
        fields += ["work_center.name", "works.state", "works.sequence", "works.operation", "works.operation.name", "works.work_center.name"]
    return fields


@dataclass(frozen=True)
class Context:
    """What the plans of one look at Tryton are made with. `units_of`: name of a work centre -> our work unit; `lines`: records of the sale
    lines that productions were made for, by id; `controls`: product id -> its quality controls."""

    units_of: Mapping[str, str]
    units: Units
    time_zone: ZoneInfo
    lines: Mapping[int, Mapping[str, Any]]
    controls: Mapping[int, Sequence[Control]]


@dataclass(frozen=True)
class Operation:
    """`key`: `7/2` is the second operation of the production with id 7, `7` one without a routing."""

    key: str
    index: int
    name: str | None
    work_center: str | None
    has_begun: bool


def operations(record: Mapping[str, Any]) -> Iterator[Operation]:
    """What of a production is worked somewhere."""
    works = works_of(record)
    if not works:
        center = record.get("work_center.")
        yield Operation(str(record["id"]), 1, None, center["name"] if center else None, False)
    for index, parts in enumerate(works, 1):
        center = parts[-1].get("work_center.")
        begun = any(part["state"] not in ("request", "draft") for part in parts)
        yield Operation(f"{record['id']}/{index}", index, parts[-1]["operation."]["name"], center["name"] if center else None, begun)


def plans(record: Mapping[str, Any], known: Mapping[str, str], context: Context) -> Iterator[Plan | Refusal]:
    """Those of one production. What is open no more is told of orders that the line holds only."""
    found = list(operations(record))
    for operation in found:
        work_unit = context.units_of.get(operation.work_center or "")
        state = _state(record, operation, is_known=operation.key in known)
        if work_unit is None or (state is not PlanState.RELEASED and operation.key not in known):
            continue
        order = _order(record, operation, len(found), context)
        if isinstance(order, str):
            words = f"production {record['number'] or record['id']} {order}"
            yield Refusal(None, work_unit, return_status("missing_field"), Problem("missing_field", words))
            continue
        digest = hashlib.blake2b(encode([order, state, work_unit]), digest_size=12).hexdigest()
        yield Plan(operation.key, digest, state, work_unit, order)
    # Put back to draft, a production has no works; the line still holds the orders of those that it had.
    listed = {operation.key for operation in found}
    for key in [key for key in known if key.split("/")[0] == str(record["id"]) and key not in listed]:
        yield from _without_work(record, key)


def _without_work(record: Mapping[str, Any], key: str) -> Iterator[Plan]:
    """Its work unit and content are as the line holds them."""
    state = {"done": PlanState.CLOSED, "request": PlanState.WITHDRAWN, "draft": PlanState.WITHDRAWN}.get(
        record["state"], PlanState.CANCELLED
    )
    yield Plan(key, f"without work: {state}", state, "", JobOrder(_number(record, key)))


def _state(record: Mapping[str, Any], operation: Operation, *, is_known: bool) -> PlanState:
    state = record["state"]
    if state in ("assigned", "running"):
        return PlanState.RELEASED
    if state == "waiting":
        ran = record["effective_start_date"] is not None and (
            operation.has_begun or any(move["state"] == "done" for move in record.get("inputs.", ()))
        )
        return PlanState.WITHDRAWN if ran and is_known else PlanState.RELEASED
    return {"done": PlanState.CLOSED, "cancelled": PlanState.CANCELLED}.get(state, PlanState.WITHDRAWN)


def _number(record: Mapping[str, Any], key: str) -> str:
    """`12`, and `12-2` for the second operation: its first name stays whatever operations are added later."""
    _, _, index = key.partition("/")
    number = record["number"] or f"id-{record['id']}"
    return number if index in ("", "1") else f"{number}-{index}"


def _order(record: Mapping[str, Any], operation: Operation, count: int, context: Context) -> JobOrder | str:
    """The content of a plan, or why it cannot be made."""
    product, quantity = record["product."], record["quantity"]
    if not product or not quantity:
        return "has no product or no quantity; complete it in Tryton"
    bill = record.get("bom.")
    return JobOrder(
        job_order_id=_number(record, operation.key),
        work_master_id=bill["rec_name"] if bill else None,
        product_id=product["code"] or f"id-{product['id']}",
        quantity=Decimal(quantity),
        unit=context.units.code(record["unit"]),
        start_time=_begin(record["planned_start_date"], context.time_zone),
        end_time=_end(record["planned_date"], context.time_zone),
        material_requirements=_materials(bill, product["id"], record["unit"], context.units) if bill and operation.index == 1 else (),
        quality_requirements=_quality(context.controls.get(product["id"], ())) if operation.index == count else (),
        customer=_customer(record, context),
        order_id=record["number"],
        operation_id=operation.name,
        properties={"reference": record["reference"]} if record["reference"] else {},
    )


def _begin(day: dt.date | None, zone: ZoneInfo) -> dt.datetime | None:
    return None if day is None else dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)


def _end(day: dt.date | None, zone: ZoneInfo) -> dt.datetime | None:
    """A day that is promised is promised until it ends."""
    return None if day is None else _begin(day + dt.timedelta(days=1), zone)


def _materials(bill: Mapping[str, Any], product: int, unit: int, units: Units) -> tuple[MaterialRequirement, ...]:
    """Of the bill and not of the planned moves: these are set to 0 when the order starts."""
    made = sum(
        (
            units.convert(Decimal(output["quantity"]), output["unit"], units.get(unit))
            for output in bill["outputs."]
            if output["product"] == product
        ),
        Decimal(0),
    )
    if not made:
        return ()
    return tuple(
        MaterialRequirement(
            _product(line["product."]), round(Decimal(line["quantity"]) / made, _DIGITS).normalize(), units.code(line["unit"])
        )
        for line in sorted(bill["inputs."], key=lambda line: int(line["id"]))
        if line["product."] and line["quantity"]
    )


def _product(record: Mapping[str, Any]) -> str:
    return record["code"] or f"id-{record['id']}"


def _quality(controls: Sequence[Control]) -> tuple[QualityRequirement, ...]:
    points = {point.name: point for control in controls for point in control.points if point.is_measured}
    return tuple(QualityRequirement(name, lower=point.lower, upper=point.upper) for name, point in sorted(points.items()))


def sale_line_of(record: Mapping[str, Any]) -> int | None:
    """The sale line that a production was made for."""
    model, _, number = (record.get("origin") or "").partition(",")
    return int(number) if model == "sale.line" and number.isdigit() else None


def _customer(record: Mapping[str, Any], context: Context) -> Customer | None:
    line = context.lines.get(sale_line_of(record) or 0)
    if line is None:
        return None
    sale = line["sale."]
    told = [text for field in (line["description"], sale["comment"]) for text in (field or "").splitlines()]
    wishes = ["".join(letter for letter in text if letter.isprintable()).strip()[:_LONGEST_WISH] for text in told]
    return Customer(
        name=sale["party."]["name"] if sale["party."] else None,
        delivery_to=_end(sale["shipping_date"], context.time_zone),
        requirements=tuple(filter(None, wishes)),
        order_number=sale["number"] or sale["reference"],
        order_line=str(line["sequence"] or line["id"]),
    )
