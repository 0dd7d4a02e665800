"""The windows as they look at this moment: what is not decided yet is judged by its length so far."""

from __future__ import annotations

from gateway.domain.machine import CATEGORY_OF_STATE, MachineTime
from gateway.domain.oee import Category, Window
from gateway.domain.standstill import Standstill, StandstillBook, dump_stop, load_stop
from gateway.domain.windows import WindowBook


def pending_windows(machine: MachineTime) -> list[Window]:
    """Copies of the open and closing windows with all time up to `machine.now` booked."""
    return outlook(machine)[0]


def outlook(machine: MachineTime) -> tuple[list[Window], Standstill | None]:
    """`pending_windows`, and the standstill that goes on as it was counted in them."""
    copy = WindowBook(machine.unit.calendar, machine.unit.time_zone)
    copy.open = {k: w.copy() for k, w in machine.windows.open.items()}
    copy.closing = [w.copy() for w in machine.windows.closing]
    for window in copy.open.values():
        window.until = machine.now if window.kind == "job" else None
    stops = StandstillBook(machine.unit, copy)
    now, start, stand = machine.now, machine.settled, machine.stand
    if stand is None and machine.open_gap_from is not None:
        stand = _open_gap(machine, copy)
        start = now
    seen = None
    if stand is not None:
        seen = load_stop(dump_stop(stand))
        machine.extend(seen, now)
        seen.long = seen.long or stops.too_long(seen, now)
        stops.book(seen, now)
    elif start < now:
        for low, high, job in machine.jobs.cut(start, now):
            copy.book(low, high, CATEGORY_OF_STATE[machine.condition.state], job)
    return [*copy.open.values(), *copy.closing], seen


def _open_gap(machine: MachineTime, copy: WindowBook) -> Standstill | None:
    """The gap since the last piece, booked into `copy` as far as it is run or slow; the standstill in it, if there is one."""
    last, cycle, now = machine.open_gap_from, machine.cycle.cycle_us, machine.now
    assert last is not None
    stands = machine.cycle.stands(now - last, 1)
    until = min(now, machine.cycle_end) if stands else now
    for low, high, job in machine.jobs.cut(machine.settled, until):
        copy.book(low, high, Category.RUN, job)
    if stands:
        return Standstill(until, induced=False, booked_until=until)
    if cycle and now - last > machine.cycle.normal_us(cycle):
        copy.book_slow([(last + cycle, now)], machine.job)
    return None
