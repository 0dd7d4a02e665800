"""Which material lots are on a work unit: by their time of loading, one in use, others waiting behind it, first in first out."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.domain.instants import Instant
from gateway.domain.job_order import Problem
from gateway.domain.rec20 import convert

_ZERO = Decimal(0)
_LOADS_KEPT = 8
"""Enough to place a late declaration on the lot of its time; a line loads a few lots of one material a shift."""
_WAITING = 50
"""Lots of one material that wait: more than any magazine holds, so that a sender that repeats itself fills no memory."""


@dataclass
class LoadedLot:
    """A lot put on the machine at `at`; `quantity` in `unit`, None when nobody said how much. `used`, in the same unit, may be more.

    `queued`: it waits behind the lots that are loaded; else it takes the place of all of them. `off`: when it was taken off.
    """

    at: Instant
    lot_id: str
    quantity: Decimal | None = None
    unit: str | None = None
    queued: bool = False
    used: Decimal = _ZERO
    off: Instant | None = None

    def left(self, unit: str) -> Decimal | None:
        """What must still be there, in `unit`, at least 0; None when nobody can know."""
        rest = None if self.quantity is None else convert(self.quantity - self.used, self.unit or unit, unit)
        return None if rest is None else max(rest, _ZERO)

    @property
    def is_used_up(self) -> bool:
        return self.quantity is not None and self.used >= self.quantity


class LotBook:
    """The lots of each material. `revisions` rise whenever another lot of a material may be in use."""

    def __init__(self) -> None:
        self.revisions: Counter[str] = Counter()
        self._loads: dict[str, list[LoadedLot]] = {}

    def load_lot(self, material_id: str, lot: LoadedLot) -> Problem | None:
        """Note a loading, also one that is told late. `lot_already_loaded` when that lot is on the machine at that time."""
        present = self._present(material_id, lot.at)
        if lot.lot_id in ([one.lot_id for one in present] if lot.queued else [self.lot_at(material_id, lot.at)]):
            return Problem("lot_already_loaded", f"lot {lot.lot_id} of {material_id} is already loaded")
        if lot.queued and len(self._in_line(material_id, lot.at)) >= _WAITING:
            return Problem("queue_full", f"{_WAITING} lots of {material_id} wait already")
        loads = self._loads.setdefault(material_id, [])
        insort(loads, lot, key=lambda load: load.at)
        needed = self._in_line(material_id, loads[-1].at)
        first = next((place for place, load in enumerate(loads) if any(load is one for one in needed)), len(loads))
        del loads[: max(min(first, len(loads) - _LOADS_KEPT), 0)]
        self.revisions[material_id] += 1
        return None

    @property
    def revision(self) -> int:
        """Rises with each of `revisions`."""
        return self.revisions.total()

    def none_later(self, at: Instant) -> None:
        """The clock was set back to `at`: what was loaded or taken off is so, also where it seemed to be later than now."""
        for loads in self._loads.values():
            for lot in loads:
                lot.at = min(lot.at, at)
                lot.off = None if lot.off is None else min(lot.off, at)

    def find(self, material_id: str, lot_id: str, at: Instant) -> LoadedLot | None:
        """That lot, where it is on the machine at `at`, in use or waiting."""
        return next((lot for lot in self._present(material_id, at) if lot.lot_id == lot_id), None)

    def unload(self, material_id: str, lot: LoadedLot, at: Instant) -> None:
        """Take a lot off; the next one that waits is in use."""
        lot.off = at
        self.revisions[material_id] += 1

    def lot_at(self, material_id: str, at: Instant) -> str | None:
        """The lot in use at that time."""
        lots = self._in_line(material_id, at)
        return lots[0].lot_id if lots else None

    def take(self, material_id: str, quantity: Decimal, unit: str, at: Instant) -> Iterator[tuple[str | None, Decimal]]:
        """`quantity` in `unit` was consumed: (lot, how much of it), more than one where a lot ends. A correction may be negative."""
        lots = self._in_line(material_id, at)
        for lot in lots[:-1]:
            room = lot.left(unit)
            part = quantity if room is None else min(room, quantity)
            self._use(lot, part, unit)
            if part:
                yield lot.lot_id, part
            quantity -= part
            if quantity <= 0:
                return
            self.revisions[material_id] += 1
        if lots:
            self._use(lots[-1], quantity, unit)
        if quantity:
            yield lots[-1].lot_id if lots else None, quantity

    def take_from(self, material_id: str, lot_id: str, quantity: Decimal, unit: str, at: Instant) -> None:
        """The same of one lot that was named."""
        lot = self.find(material_id, lot_id, at)
        if lot is not None:
            self._use(lot, quantity, unit)

    def left(self, material_id: str, unit: str, at: Instant) -> Decimal | None:
        """What is loaded and not used, in `unit`; None when nothing is loaded or nobody can know."""
        lots = self._in_line(material_id, at)
        rests = [lot.left(unit) for lot in lots]
        return sum((rest for rest in rests if rest is not None), _ZERO) if lots and None not in rests else None

    def in_use(self, at: Instant) -> list[tuple[str, str]]:
        """(material, lot) of everything that is in use."""
        found = ((material_id, self.lot_at(material_id, at)) for material_id in self._loads)
        return [(material_id, lot_id) for material_id, lot_id in found if lot_id is not None]

    @staticmethod
    def _use(lot: LoadedLot, quantity: Decimal, unit: str) -> None:
        lot.unit = lot.unit or unit
        lot.used += convert(quantity, unit, lot.unit) or _ZERO

    def _present(self, material_id: str, at: Instant) -> list[LoadedLot]:
        """Lots on the machine at `at`, in order of loading: nothing that was there before a lot that took its place."""
        loads = [load for load in self._loads.get(material_id, ()) if load.at <= at]
        first = max((place for place, load in enumerate(loads) if not load.queued), default=0)
        return [load for load in loads[first:] if load.off is None or load.off > at]

    def _in_line(self, material_id: str, at: Instant) -> list[LoadedLot]:
        """The lot in use and those that wait behind it; the last one stays in use when all are used up."""
        lots = self._present(material_id, at)
        return [lot for lot in lots if not lot.is_used_up] or lots[-1:]

    def dump(self) -> dict[str, list[list[Any]]]:
        return {
            material_id: [
                [
                    load.at, load.lot_id, None if load.quantity is None else str(load.quantity), load.unit, load.queued, str(load.used),
                    load.off,
                ]
                for load in loads
            ]
            for material_id, loads in self._loads.items()
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Sequence[Sequence[Any]]]) -> LotBook:
        book = cls()
        for material_id, loads in state.items():
            for at, lot_id, quantity, unit, *more in loads:
                # A journal that was begun before lots could wait says nothing of them.
                queued, used, off = more or (False, "0", None)
                lot = LoadedLot(at, lot_id, None if quantity is None else Decimal(quantity), unit, queued, Decimal(used), off)
                book._loads.setdefault(material_id, []).append(lot)
        return book
