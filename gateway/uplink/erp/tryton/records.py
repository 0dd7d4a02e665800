"""A production of Tryton as the adapter sees it: what it is to become, what was moved and worked for it so far, and by whom."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_MOVE = ("state", "quantity", "unit", "product", "from_location", "to_location.type", "create_uid", "effective_date", "_timestamp")
_WORK = ("state", "sequence", "work_center.name", "operation", "operation.rec_name")
_CYCLE = ("state", "duration", "create_uid", "_timestamp")
_PLACES = ("storage_location", "production_picking_location", "production_output_location", "waste_locations", "rec_name")


def production_fields(*, lots: bool, works: bool) -> list[str]:
    """What is read of a production before each booking, in one call. `lots`, `works`: whether those modules are there."""
    fields = ["number", "state", "quantity", "unit", "product", "product.code", "effective_start_date", "effective_date", "_timestamp"]
    fields += ["location", "company", "company.currency", *(f"warehouse.{name}" for name in _PLACES)]
    fields += [f"{side}.{name}" for side in ("inputs", "outputs") for name in (*_MOVE, *(("lot",) if lots else ()))]
    if works:
        fields += [*(f"works.{name}" for name in _WORK), *(f"works.cycles.{name}" for name in _CYCLE)]
    return fields


@dataclass(frozen=True)
class Move:
    """A stock move into the production (input) or out of it. `is_mine`: this gateway's user made it."""

    id: int
    stamp: str
    state: str
    quantity: Decimal
    unit: int
    product: int
    lot: int | None
    from_location: int
    to_location: int
    is_waste: bool
    is_mine: bool
    day: dt.date | None

    @property
    def is_open(self) -> bool:
        return self.state in ("staging", "draft", "assigned")

    @property
    def is_done(self) -> bool:
        return self.state == "done"


@dataclass(frozen=True)
class Cycle:
    """Time of a work centre on a work. `seconds` None: not told yet."""

    id: int
    stamp: str
    state: str
    seconds: Decimal | None
    is_mine: bool


@dataclass(frozen=True)
class Work:
    """One operation of the production. Setting a production to wait again makes its works anew and keeps those that were begun: works of
    the same operation and place in the routing are one. `id`: the newest; `bare`: those without time; `is_finished`: all of them."""

    id: int
    is_finished: bool
    work_center: str | None
    operation: str
    cycles: tuple[Cycle, ...]
    bare: tuple[int, ...]


@dataclass(frozen=True)
class Production:
    """`number` is None before it was first set to wait. `works` in the order of the routing."""

    id: int
    stamp: str
    number: str | None
    state: str
    quantity: Decimal
    unit: int
    product: int
    product_code: str
    started: dt.date | None
    ended: dt.date | None
    location: int
    company: int
    currency: int
    warehouse: str
    picking: int
    storage: int
    waste: int | None
    inputs: tuple[Move, ...]
    outputs: tuple[Move, ...]
    works: tuple[Work, ...]

    @property
    def named(self) -> str:
        return self.number or f"({self.id})"

    @property
    def is_put_back(self) -> bool:
        """It ran before, and somebody set it to wait again."""
        touched = any(move.is_done for move in (*self.inputs, *self.outputs)) or any(work.cycles for work in self.works)
        return self.state == "waiting" and self.started is not None and touched


def read_production(record: Mapping[str, Any], user_id: int) -> Production:
    """From a record with `production_fields`."""
    places = record["warehouse."]
    waste = places["waste_locations"]
    return Production(
        id=record["id"],
        stamp=record["_timestamp"],
        number=record["number"],
        state=record["state"],
        quantity=_number(record["quantity"]),
        unit=record["unit"],
        product=record["product"],
        product_code=record["product."]["code"] or "",
        started=record["effective_start_date"],
        ended=record["effective_date"],
        location=record["location"],
        company=record["company"],
        currency=record["company."]["currency"],
        warehouse=places["rec_name"],
        picking=places["production_picking_location"] or places["storage_location"],
        storage=places["production_output_location"] or places["storage_location"],
        waste=min(waste) if waste else None,
        inputs=_moves(record["inputs."], user_id),
        outputs=_moves(record["outputs."], user_id),
        works=tuple(_work(works, user_id) for works in works_of(record)),
    )


def _moves(records: Sequence[Mapping[str, Any]], user_id: int) -> tuple[Move, ...]:
    moves = [
        Move(
            id=r["id"],
            stamp=r["_timestamp"],
            state=r["state"],
            quantity=_number(r["quantity"]),
            unit=r["unit"],
            product=r["product"],
            lot=r.get("lot"),
            from_location=r["from_location"],
            to_location=r["to_location."]["id"],
            is_waste=r["to_location."]["type"] == "lost_found",
            is_mine=r["create_uid"] == user_id,
            day=r["effective_date"],
        )
        for r in records
    ]
    return tuple(sorted(moves, key=lambda move: move.id))


def works_of(record: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The works of a record in the order of the routing, those of one operation together, the oldest first."""
    together: dict[Any, list[Mapping[str, Any]]] = {}
    for work in sorted(record.get("works.", ()), key=lambda work: (work["sequence"] is None, work["sequence"] or 0, work["id"])):
        together.setdefault((work["sequence"], work["operation"]), []).append(work)
    return list(together.values())


def _work(records: Sequence[Mapping[str, Any]], user_id: int) -> Work:
    newest = records[-1]
    center = newest.get("work_center.")
    cycles = [
        Cycle(r["id"], r["_timestamp"], r["state"], r["duration"], r["create_uid"] == user_id)
        for work in records
        for r in sorted(work.get("cycles.", ()), key=lambda r: int(r["id"]))
    ]
    return Work(
        id=newest["id"],
        is_finished=all(work["state"] in ("finished", "done") for work in records),
        work_center=center["name"] if center else None,
        operation=newest["operation."]["rec_name"],
        cycles=tuple(cycles),
        bare=tuple(work["id"] for work in records if all(c["state"] == "cancelled" for c in work.get("cycles.", ()))),
    )


def _number(value: Any) -> Decimal:
    return Decimal(value or 0)
