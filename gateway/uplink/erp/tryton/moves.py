"""From what an order should have come to, to the next calls that bring Tryton's stock moves there. Pure.

Every difference goes through a move of our own that is born with quantity 0: one made twice, because its answer was lost, moves nothing.
Its quantity is then *set*, compare-and-set on its stamp, and `do` books it: set twice or done twice changes nothing either. What is booked
too much is cancelled and booked again. So any call may be repeated, and after each round Tryton is read again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gateway.uplink.erp.tryton.records import Move, Production
from gateway.uplink.erp.tryton.rpc import Call, button
from gateway.uplink.erp.tryton.units import Unit, Units

_ZERO = Decimal(0)


@dataclass(frozen=True)
class Want:
    """One product (and lot) that should have gone into the production (`is_input`) or come out of it, to stock or to waste."""

    is_input: bool
    product: int
    name: str
    unit: Unit
    quantity: Decimal
    from_location: int
    to_location: int
    lot: int | None = None
    is_waste: bool = False

    def is_about(self, move: Move) -> bool:
        return (move.product, move.is_waste, move.lot) == (self.product, self.is_waste, self.lot)


@dataclass
class Batch:
    """The next calls, in the order in which they are safe: what is free of each other goes in one call."""

    cancelled: list[int] = field(default_factory=list)
    unassigned: list[int] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    written: list[tuple[Move, dict[str, Any]]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    is_assigning: bool = False
    short: list[str] = field(default_factory=list)
    """Materials that wait for stock."""

    def calls(self, production: Production) -> list[Call]:
        calls = []
        if self.cancelled:
            calls.append(button("stock.move", "cancel", *self.cancelled))
        if self.unassigned:
            calls.append(button("stock.move", "draft", *self.unassigned))
        if self.created:
            calls.append(Call("stock.move", "create", (self.created,)))
        if self.deleted:
            calls.append(Call("stock.move", "delete", (self.deleted,)))
        if self.written:
            pairs: list[Any] = []
            for move, values in self.written:
                pairs += [[move.id], values]
            calls.append(Call("stock.move", "write", pairs, {f"stock.move,{move.id}": move.stamp for move, _ in self.written}))
        if self.is_assigning:
            calls.append(button("production", "assign_try", production.id))
        if self.done:
            calls.append(button("stock.move", "do", *self.done))
        return calls


@dataclass(frozen=True)
class Booking:
    """What stays the same while one order is booked. `mine`: the moves that count as this order's own, None: all that are the user's.
    `has_tried_stock`: Tryton was asked to assign since this booking began."""

    production: Production
    units: Units
    day: dt.date
    mine: frozenset[int] | None
    has_tried_stock: bool

    def own(self, want: Want) -> list[Move]:
        moves = self.production.inputs if want.is_input else self.production.outputs
        return [m for m in moves if m.is_mine and want.is_about(m) and (self.mine is None or m.id in self.mine)]

    def total(self, moves: Iterable[Move], unit: Unit) -> Decimal:
        return sum((self.units.convert(move.quantity, move.unit, unit) for move in moves), _ZERO)

    def booked(self, want: Want) -> Decimal:
        """What our own done moves have come to."""
        return self.total((m for m in self.own(want) if m.is_done), want.unit)


def settle(booking: Booking, want: Want, batch: Batch) -> None:
    """Add to `batch` what brings `want` one step nearer; nothing when it is there."""
    own = booking.own(want)
    open_moves = [m for m in own if m.is_open]
    open_ = open_moves[0] if open_moves else None
    batch.deleted += [m.id for m in open_moves[1:] if m.state == "draft" and not m.quantity]
    gap = want.quantity - booking.booked(want)
    if gap < 0:
        batch.cancelled.append(_to_cancel([m for m in own if m.is_done and m.quantity], -gap, booking, want).id)
        return
    if open_ is None:
        if gap:
            batch.created.append(_empty(booking.production, want))
    elif (open_.quantity, open_.unit) != (gap, want.unit.id) or (gap and open_.day != booking.day):
        if open_.state == "assigned":
            batch.unassigned.append(open_.id)
        elif gap or open_.quantity:
            batch.written.append((open_, {"quantity": float(gap), "unit": want.unit.id, "effective_date": booking.day}))
            # Where stock is short, `do` refuses all of them; what is read then shows which to do alone.
            batch.done += [open_.id] if gap else []
            batch.is_assigning = batch.is_assigning or bool(gap and want.is_input)
    elif gap:
        _book(booking, want, open_, batch)


def _book(booking: Booking, want: Want, move: Move, batch: Batch) -> None:
    """Its quantity is right: stock has to be assigned to what comes out of it."""
    if move.state == "assigned" or not want.is_input:
        batch.done.append(move.id)
    elif booking.has_tried_stock:
        batch.short.append(f"{want.quantity - booking.booked(want)} {want.unit.symbol} {want.name}")
    else:
        batch.is_assigning = True


def _to_cancel(done: Sequence[Move], too_much: Decimal, booking: Booking, want: Want) -> Move:
    """The smallest move that holds all of it, else the largest: few moves, little to book again."""
    by_size = sorted(done, key=lambda move: booking.units.convert(move.quantity, move.unit, want.unit))
    return next((m for m in by_size if booking.units.convert(m.quantity, m.unit, want.unit) >= too_much), by_size[-1])


def _empty(production: Production, want: Want) -> dict[str, Any]:
    values: dict[str, Any] = {
        "production_input" if want.is_input else "production_output": production.id,
        "product": want.product,
        "quantity": 0.0,
        "unit": want.unit.id,
        "from_location": want.from_location,
        "to_location": want.to_location,
        "company": production.company,
    }
    if want.lot is not None:
        values["lot"] = want.lot
    if not want.is_input and not want.is_waste:
        # What comes out of a production has a price; Tryton computes it when the production is done.
        values |= {"currency": production.currency, "unit_price": _ZERO}
    return values


def leave_planned(booking: Booking, product: int, unit: Unit, quantity: Decimal, batch: Batch) -> None:
    """What the planner's own output moves may still bring: written together with ours, so that at each moment both make up the plan."""
    planned = [m for m in booking.production.outputs if not m.is_mine and m.is_open and not m.is_waste and m.product == product]
    left = max(quantity, _ZERO)
    for index, move in enumerate(planned):
        is_last = index == len(planned) - 1
        keeps = left if is_last else min(left, booking.units.convert(move.quantity, move.unit, unit))
        left -= keeps
        if booking.units.convert(move.quantity, move.unit, unit) != keeps:
            if move.state == "assigned":
                batch.unassigned.append(move.id)
            else:
                batch.written.append((move, {"quantity": float(keeps), "unit": unit.id}))
