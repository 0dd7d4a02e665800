"""From the line's totals to what Tryton's books should hold for the order. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from gateway.uplink.erp.port import Totals
from gateway.uplink.erp.tryton.catalogue import Unknown
from gateway.uplink.erp.tryton.moves import Want
from gateway.uplink.erp.tryton.records import Production
from gateway.uplink.erp.tryton.steps import Target
from gateway.uplink.erp.tryton.units import Unit, Units

_ZERO = Decimal(0)


def target(
    production: Production,
    units: Units,
    totals: Totals,
    products: Mapping[str, int],
    lots: Mapping[tuple[str, str], int],
    *,
    is_last: bool,
) -> Target:
    """`is_last`: its good pieces are the production's. Rework is neither good nor scrap yet: it is in none. Raises Unknown."""
    unit, factor = _unit(units, totals.unit)
    good, scrap = (unit.rounded(max(quantity, _ZERO) * factor) for quantity in (totals.good, totals.scrap))
    made = Want(False, production.product, production.product_code, unit, good, production.location, _storage(production))
    wasted = []
    if production.waste is not None:
        name = production.product_code
        wasted = [Want(False, production.product, name, unit, scrap, production.location, production.waste, is_waste=True)]
    elif scrap:
        raise Unknown(f"the warehouse {production.warehouse} has no waste location in Tryton, where {scrap} {unit.symbol} scrap would go")
    seconds = Decimal(totals.run_s + totals.setup_s).quantize(Decimal("0.001"))
    return Target(made if is_last else None, tuple(wasted), _materials(production, units, totals, products, lots), seconds)


def _storage(production: Production) -> int:
    """Where the planner lets the pieces go, else the warehouse's own place for them."""
    planned = (m for m in production.outputs if not m.is_mine and not m.is_waste and m.product == production.product)
    return next((move.to_location for move in planned), production.storage)


def _materials(
    production: Production, units: Units, totals: Totals, products: Mapping[str, int], lots: Mapping[tuple[str, str], int]
) -> tuple[Want, ...]:
    """One for each material and lot, whatever it was used for: scrap has taken its material too."""
    taken: dict[tuple[int, int | None], tuple[str, Unit, Decimal]] = {}
    for consumption in totals.consumption:
        unit, factor = _unit(units, consumption.unit)
        product = products[consumption.material_id]
        key = product, lots.get((consumption.material_id, consumption.lot_id or ""))
        _, first, before = taken.get(key, ("", unit, _ZERO))
        quantity = consumption.quantity * factor
        quantity = quantity if first is unit else units.convert(quantity, unit.id, first)
        taken[key] = consumption.material_id, first, before + quantity
    for move in production.inputs:
        # What is not told any more was booked to another material or lot.
        if move.is_mine and move.is_done:
            taken.setdefault((move.product, move.lot), (f"id-{move.product}", units.get(move.unit), _ZERO))
    return tuple(
        Want(
            True, product, name, unit, unit.rounded(max(quantity, _ZERO)), _picking(production, product), production.location, lot
        )
        for (product, lot), (name, unit, quantity) in taken.items()
    )  # fmt: skip


def _picking(production: Production, product: int) -> int:
    planned = (m for m in production.inputs if not m.is_mine and m.product == product)
    return next((move.from_location for move in planned), production.picking)


def _unit(units: Units, code: str) -> tuple[Unit, Decimal]:
    found = units.of(code)
    if found is None:
        raise Unknown(f"Tryton has no unit of measure for {code}")
    return found
