"""Material consumption of a job: by backflush, measured, or declared by a person, booked on the lot that is in use.

All quantities are Decimal, so that the sum of the deltas equals the total at every point, to the last digit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from gateway.domain.equipment import MaterialPrice, MeasuredMaterial
from gateway.domain.instants import Instant
from gateway.domain.job_order import MaterialRequirement
from gateway.domain.material_lots import LotBook
from gateway.domain.rec20 import convert
from gateway.domain.view import MaterialTotal

_ZERO = Decimal(0)
_ROLLOVER_EDGE = Decimal("0.1")
"""A counter rolled over when it was in the last and is now in the first tenth of its span, the same edge as for pieces."""


class ConsumptionMode(StrEnum):
    BACKFLUSH = "backflush"
    MEASURED = "measured"
    DECLARED = "declared"


@dataclass(frozen=True)
class Consumption:
    """One booking: `quantity` more of `material_id`, in `unit` (Rec 20), now `total` for the job over all its lots."""

    material_id: str
    quantity: Decimal
    total: Decimal
    unit: str
    lot_id: str | None
    mode: ConsumptionMode


class MaterialBook:
    """What one job has consumed, by material, lot and mode."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str | None, str, ConsumptionMode], Decimal] = {}

    def book(self, material_id: str, quantity: Decimal, unit: str, *, lot_id: str | None, mode: ConsumptionMode) -> Consumption:
        """Add `quantity` (negative: a correction)."""
        key = (material_id, lot_id, unit, mode)
        self._lines[key] = self._lines.get(key, _ZERO) + quantity
        return Consumption(material_id, quantity, self.total(material_id, unit), unit, lot_id, mode)

    def total(self, material_id: str, unit: str) -> Decimal:
        """Over all lots and modes."""
        return sum((q for (material, _, of_unit, _), q in self._lines.items() if (material, of_unit) == (material_id, unit)), _ZERO)

    def of_lot(self, material_id: str, lot_id: str | None, unit: str) -> Decimal:
        """Of one lot, over all modes."""
        wanted = (material_id, lot_id, unit)
        return sum((q for (material, lot, of_unit, _), q in self._lines.items() if (material, lot, of_unit) == wanted), _ZERO)

    def totals(self) -> tuple[MaterialTotal, ...]:
        """One row for each material, lot and mode, in the order of their first booking."""
        return tuple(MaterialTotal(material, lot, q, unit, mode.value) for (material, lot, unit, mode), q in self._lines.items())

    def dump(self) -> list[dict[str, Any]]:
        return [
            {"material_id": material, "lot_id": lot, "unit": unit, "mode": mode.value, "quantity": str(quantity)}
            for (material, lot, unit, mode), quantity in self._lines.items()
        ]

    @classmethod
    def load(cls, rows: Iterable[Mapping[str, Any]]) -> MaterialBook:
        book = cls()
        for row in rows:
            key = (row["material_id"], row["lot_id"], row["unit"], ConsumptionMode(row["mode"]))
            book._lines[key] = Decimal(row["quantity"])
        return book


def consumption_mode(material_id: str, requirements: Iterable[MaterialRequirement], measured: Collection[str]) -> ConsumptionMode | None:
    """How a job books `material_id`; `measured` names the materials that the work unit has a tag for. None: not at all.

    The order's own word wins, so that nothing is booked twice. A requirement to measure where there is no tag is booked by
    backflush, and the event says so: an estimate that is marked serves the store better than no consumption at all.
    """
    requirement = next((r for r in requirements if r.material_id == material_id), None)
    if requirement is None:
        return ConsumptionMode.MEASURED if material_id in measured else None
    if requirement.mode == ConsumptionMode.MEASURED and material_id in measured:
        return ConsumptionMode.MEASURED
    return ConsumptionMode.BACKFLUSH


def backflush(
    requirements: Sequence[MaterialRequirement],
    pieces: Decimal,
    book: MaterialBook,
    lots: LotBook,
    at: Instant,
    *,
    measured: Collection[str] = frozenset(),
) -> list[Consumption]:
    """Book `quantity_per` * `pieces` of every required material that is not measured; `pieces`: the delta of good + scrap."""
    if not pieces:
        return []
    return [
        book.book(r.material_id, quantity, r.unit, lot_id=lot_id, mode=ConsumptionMode.BACKFLUSH)
        for r in requirements
        if r.quantity_per and consumption_mode(r.material_id, requirements, measured) is ConsumptionMode.BACKFLUSH
        for lot_id, quantity in lots.take(r.material_id, r.quantity_per * pieces, r.unit, at)
    ]


def material_cost(requirements: Sequence[MaterialRequirement], prices: Mapping[str, MaterialPrice]) -> Decimal | None:
    """Of one piece, by the bill of its order: what it takes of each material that has a price.

    None where nobody can know: there is no bill, it does not say how much a piece takes of a priced material, or says it in a unit that
    the price's cannot be converted to.
    """
    if not requirements:
        return None
    total = _ZERO
    for required in requirements:
        price = prices.get(required.material_id)
        if price is not None:
            quantity = convert(required.quantity_per, required.unit, price.unit)
            if not quantity:
                return None
            total += quantity * price.per_unit
    return total


class Step(StrEnum):
    """What a reading of a measured material turned out to be."""

    BASELINE = "baseline"
    CONSUMED = "consumed"
    REFILL = "refill"
    RESET = "reset"
    ROLLOVER = "rollover"


@dataclass(frozen=True)
class Measured:
    """`quantity` >= 0 consumed since the reading before."""

    quantity: Decimal
    step: Step


class MeasuredConsumption:
    """Turns a weight or counter into consumption. The first value ever is a baseline.

    Falling (a coil's weight): what it loses is consumed; a rise beyond the deadband is a new coil, never a negative consumption.
    Rising (a counter): what it gains is consumed; a decrease is a rollover where `span` allows it, else a reset whose new value is
    the delta. Changes within the deadband of the last booked level are noise: they are not booked until they add up.
    """

    def __init__(self, material: MeasuredMaterial) -> None:
        self.material = material
        self._level: Decimal | None = None
        self._last: Decimal | None = None

    def observe(self, value: Decimal) -> Measured | None:
        """`value` in the material's unit, good or uncertain; None when there is nothing to book or to tell."""
        level, last, self._last = self._level, self._last, value
        if level is None or last is None:
            self._level = value
            return Measured(_ZERO, Step.BASELINE)
        consumed = level - value if self.material.direction == "falling" else value - level
        if consumed > 0:
            if consumed < self.material.deadband:
                return None
            self._level = value
            return Measured(consumed, Step.CONSUMED)
        if -consumed <= self.material.deadband:
            return None
        self._level = value
        return self._refilled(level, last) if self.material.direction == "falling" else self._restarted(level, value)

    @staticmethod
    def _refilled(level: Decimal, last: Decimal) -> Measured:
        # What the old coil lost within the deadband was really used: it can no longer add up, so it is booked now.
        return Measured(max(level - last, _ZERO), Step.REFILL)

    def _restarted(self, level: Decimal, value: Decimal) -> Measured:
        span = self.material.span
        if span is not None:
            floor = -span / 2 if self.material.signed else _ZERO
            edge = span * _ROLLOVER_EDGE
            if level - floor > span - edge and value - floor < edge:
                return Measured(value - level + span, Step.ROLLOVER)
        return Measured(max(value, _ZERO), Step.RESET)

    @property
    def level(self) -> Decimal | None:
        """The latest reading, None before the first."""
        return self._last

    def dump(self) -> list[str] | None:
        return None if self._level is None or self._last is None else [str(self._level), str(self._last)]

    def load(self, state: Sequence[str] | None) -> None:
        self._level, self._last = (Decimal(state[0]), Decimal(state[1])) if state else (None, None)
