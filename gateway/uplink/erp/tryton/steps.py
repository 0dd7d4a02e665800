"""What to call next so that a production in Tryton comes to stand as the line's order does: start, totals, close. Pure.

Each function looks at the production as it was just read and gives the next calls, or the outcome when there is nothing left to call.
Tryton's own rules are followed here (seen on 8.2.1): `run` books the inputs at their planned quantities, so these are set to 0 before;
`do` books what outputs are left, and refuses while a work is not finished.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from gateway.uplink.erp.port import BOOKED, Outcome, Standing
from gateway.uplink.erp.tryton.moves import Batch, Booking, Want, leave_planned, settle
from gateway.uplink.erp.tryton.records import Cycle, Production, Work
from gateway.uplink.erp.tryton.rpc import Call, Seconds, button

Next = list[Call] | Outcome
Step = Callable[[Production], Next]

_SAME_S = Decimal("0.001")
_FORGIVEN_S = Decimal(1)
"""A finished work takes no more time; so much less or more of it concerns nobody."""


def blocked(words: str) -> Outcome:
    return Outcome(Standing.BLOCKED, words)


@dataclass(frozen=True)
class Target:
    """What an order should have come to. `good`: pieces to stock, None where this order is not the production's last operation.
    `materials`: into the production. `seconds` of the work centre's time."""

    good: Want | None
    others: tuple[Want, ...]
    materials: tuple[Want, ...]
    seconds: Decimal


def run(production: Production, work: Work | None, day: dt.date) -> Next:
    """Into the state running, with a cycle on the work. Inputs of 0 need no stock: it can always be assigned."""
    state, named = production.state, production.named
    if state in ("request", "draft"):
        return blocked(f"production {named} was put back to draft in Tryton")
    if state == "cancelled":
        return blocked(f"production {named} is cancelled in Tryton")
    if state == "done":
        return BOOKED
    if production.is_put_back:
        return blocked(f"production {named} was put back to waiting in Tryton; it goes on when it is assigned there")
    begun = _begin_work(work)
    if state == "running":
        return begun
    planned = [move.id for move in production.inputs if move.is_open and move.quantity]
    if state == "assigned" and planned:
        # By a planner, with the planned quantities.
        clear = Call("production", "write", ([production.id], {"effective_start_date": None}))
        return [*([clear] if production.started else ()), button("production", "wait", production.id)]
    calls = []
    if planned:
        values = {"inputs": [["write", planned, {"quantity": 0.0}]]}
        calls.append(Call("production", "write", ([production.id], values), _stamp(production)))
    if state == "waiting":
        calls.append(button("production", "assign_try", production.id))
    if not production.started:
        # Not before it is assigned: one that waits with this date has run before.
        calls.append(Call("production", "write", ([production.id], {"effective_start_date": day})))
    calls.append(button("production", "run", production.id))
    return calls if isinstance(begun, Outcome) else [*calls, *begun]


def _stamp(production: Production) -> dict[str, str]:
    return {f"production,{production.id}": production.stamp}


def _begin_work(work: Work | None) -> Next:
    if work is None:
        return BOOKED
    mine = [cycle for cycle in work.cycles if cycle.is_mine and cycle.state != "cancelled"]
    if not mine:
        return [button("production.work", "start", work.id)]
    first, *surplus = mine
    if first.state == "draft":
        return [button("production.work.cycle", "run", first.id)]
    idle = [cycle.id for cycle in surplus if cycle.state in ("draft", "running")]
    return [button("production.work.cycle", "cancel", *idle)] if idle else BOOKED


def totals(booking: Booking, work: Work | None, target: Target, *, is_last: bool = False) -> Next:
    """Quantities and times as `target` says. `is_last`: the order is over, nothing more of the plan will come."""
    production = booking.production
    if production.state not in ("running", "done"):
        if production.state in ("waiting", "assigned") and not production.is_put_back:
            return run(production, work, booking.day)
        return _in_no_state_for_it(booking, work, target)
    if production.state == "done" and _closed_by_hand(booking, target):
        return _by_hand(booking, target)
    batch = Batch()
    is_over = is_last or production.state == "done"
    wants = [*target.others, *(w for material in target.materials for w in _material(booking, material, is_over))]
    if target.good is not None:
        wants.append(target.good)
        leave_planned(booking, production.product, target.good.unit, _rest(booking, target.good, is_over), batch)
    for want in wants:
        settle(booking, want, batch)
    calls = batch.calls(production) + _times(production, work, target.seconds)
    if calls:
        return calls
    if batch.short:
        return blocked(f"Tryton has not enough in stock for production {production.named}: {', '.join(batch.short)}")
    return _late_times(production, work, target.seconds)


def close(booking: Booking, work: Work | None, target: Target, *, is_ours: bool) -> Next:
    """Totals first, then the work, then the production when that was the last of its works. `is_ours`: the last operation is the line's."""
    production = booking.production
    booked = totals(booking, work, target, is_last=True)
    if booked != BOOKED or production.state == "done":
        return booked
    calls: list[Call] = []
    if work is not None:
        running = [cycle.id for cycle in _mine(work) if cycle.state == "running"]
        if not running and work.bare:
            return [button("production.work", "start", work.bare[0])]
        calls += [button("production.work.cycle", "do", *running)] if running else []
        if work.bare:
            return calls
    others = [w for w in production.works if work is None or w.id != work.id]
    if not is_ours or not all(w.is_finished for w in others):
        return calls or BOOKED
    if empty := [m.id for m in (*production.inputs, *production.outputs) if m.is_mine and m.state == "draft" and not m.quantity]:
        calls.append(Call("stock.move", "delete", (empty,)))
    batch = Batch()
    if target.good is None:
        leave_planned(booking, production.product, booking.units.get(production.unit), Decimal(0), batch)
    calls += batch.calls(production)
    if production.ended != booking.day:
        calls.append(Call("production", "write", ([production.id], {"effective_date": booking.day})))
    return [*calls, button("production", "do", production.id)]


def _rest(booking: Booking, good: Want, is_over: bool) -> Decimal:
    """What of the plan is still to come to stock."""
    if is_over:
        return Decimal(0)
    production = booking.production
    return booking.units.convert(production.quantity, production.unit, good.unit) - good.quantity


def _material(booking: Booking, want: Want, is_over: bool) -> Sequence[Want]:
    """What a person's `run` has booked at planned quantities counts too; what that was too much goes back at the end."""
    inputs = [m for m in booking.production.inputs if not m.is_mine and m.is_done and want.is_about(m)]
    foreign = booking.total(inputs, want.unit)
    taken = replace(want, quantity=max(want.quantity - foreign, Decimal(0)))
    if not is_over or not foreign:
        return [taken]
    back = replace(
        want,
        is_input=False,
        quantity=max(foreign - want.quantity, Decimal(0)),
        from_location=want.to_location,
        to_location=want.from_location,
    )
    return [taken, back]


# --- times ---------------------------------------------------------------------------------------------------------------


def _mine(work: Work) -> list[Cycle]:
    return [cycle for cycle in work.cycles if cycle.is_mine]


def _done_s(work: Work) -> Decimal:
    return sum((cycle.seconds or Decimal(0) for cycle in _mine(work) if cycle.state == "done"), Decimal(0))


def _times(production: Production, work: Work | None, seconds: Decimal) -> list[Call]:
    """One cycle of our own runs as long as the order does; its duration is set, and done at the end."""
    if work is None or production.state == "done":
        return []
    gap = seconds - _done_s(work)
    running = [cycle for cycle in _mine(work) if cycle.state in ("draft", "running")]
    if not running:
        return [button("production.work", "start", work.id)] if gap >= _SAME_S else []
    first, *surplus = running
    calls = [button("production.work.cycle", "cancel", *(cycle.id for cycle in surplus))] if surplus else []
    if first.state == "draft":
        return [*calls, button("production.work.cycle", "run", first.id)]
    if first.seconds is None or abs(first.seconds - max(gap, Decimal(0))) >= _SAME_S:
        stamp = {f"production.work.cycle,{first.id}": first.stamp}
        values = {"duration": Seconds(max(gap, Decimal(0)))}
        calls.append(Call("production.work.cycle", "write", ([first.id], values), stamp))
    return calls


def _late_times(production: Production, work: Work | None, seconds: Decimal) -> Outcome:
    if work is None or production.state != "done" or abs(seconds - _done_s(work)) < _FORGIVEN_S:
        return BOOKED
    return blocked(f"production {production.named} is done in Tryton with {_done_s(work)} s of work, the line has {seconds} s")


# --- what a person did ---------------------------------------------------------------------------------------------------


def booked_before(production: Production, work: Work | None) -> str | None:
    """For an order that was never booked as far as its journal knows: bookings of our user were made for a journal that is lost, and its
    totals would be taken back. Of several operations each has a cycle of its own; the moves alone may be another operation's."""
    if not any(move.is_mine and move.is_done and move.quantity for move in (*production.inputs, *production.outputs)):
        return None
    if len(production.works) > 1 and work is not None and not any(cycle.state != "cancelled" for cycle in _mine(work)):
        return None
    return (
        f"Tryton holds bookings of this gateway for production {production.named} that its journal does not know (a new or lost state "
        "folder): close the production by hand in Tryton, or cancel these stock moves there"
    )


def _is_booked(booking: Booking, target: Target) -> bool:
    """Every quantity stands in Tryton as it should, whatever its state."""
    wants = [*target.others, *(w for material in target.materials for w in _material(booking, material, False))]
    wants += [target.good] if target.good is not None else []
    return all(booking.booked(want) == want.quantity for want in wants)


def _in_no_state_for_it(booking: Booking, work: Work | None, target: Target) -> Outcome:
    production = booking.production
    is_timed = work is None or abs(target.seconds - sum((c.seconds or Decimal(0) for c in _mine(work)), Decimal(0))) < _FORGIVEN_S
    if _is_booked(booking, target) and is_timed:
        return BOOKED
    words = run(production, work, booking.day)
    told = f"; the line has made {_told(target)} for it" if target.good is not None else ""
    return blocked((words.words if isinstance(words, Outcome) else production.state) + told)


def _closed_by_hand(booking: Booking, target: Target) -> bool:
    """Its planned outputs were booked by somebody else, or it was done before the line began with it."""
    production = booking.production
    return target.good is not None and any(
        m.is_done and m.quantity and not m.is_mine and not m.is_waste and m.product == production.product for m in production.outputs
    )


def _by_hand(booking: Booking, target: Target) -> Outcome:
    good = target.good
    if good is None:
        return BOOKED
    outputs = [m for m in booking.production.outputs if m.is_done and not m.is_waste and m.product == booking.production.product]
    stands = booking.total(outputs, good.unit)
    if booking.booked(good) == good.quantity or stands == good.quantity:
        return BOOKED
    held = f"{stands} {good.unit.symbol} good"
    return blocked(f"production {booking.production.named} was closed by hand in Tryton with {held}; the line has made {_told(target)}")


def _told(target: Target) -> str:
    wants = [("good", target.good), *(("scrap", want) for want in target.others)]
    return ", ".join(f"{want.quantity} {want.unit.symbol} {name}" for name, want in wants if want is not None) or "nothing"
