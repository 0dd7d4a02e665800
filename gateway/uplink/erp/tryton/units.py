"""Tryton's units of measure and the codes of UN/ECE Recommendation 20, and how much of one is how much of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import Any

from gateway.domain import rec20

_SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        "C62": "u", "KGM": "kg", "GRM": "g", "LBR": "lb", "ONZ": "oz", "SEC": "s", "MIN": "min", "HUR": "h", "DAY": "d",
        "MTR": "m", "KMT": "km", "CMT": "cm", "MMT": "mm", "FOT": "ft", "YRD": "yd", "INH": "in",
        "MTQ": "m³", "LTR": "l", "CMQ": "cm³", "INQ": "in³", "GLL": "gal", "MTK": "m²", "CMK": "cm²", "INK": "in²", "FTK": "ft²",
    }
)  # fmt: skip
"""Recommendation 20 -> the symbol of the unit that Tryton's module `product` brings (its unit.xml, seen on 8.2.0)."""
_CODES: Mapping[str, str] = MappingProxyType({symbol: code for code, symbol in _SYMBOLS.items()})

FIELDS = ("symbol", "category", "factor", "digits")


@dataclass(frozen=True)
class Unit:
    """`factor`: how much of its category's base one is; `digits`: decimals that a quantity of it may have."""

    id: int
    symbol: str
    category: int
    factor: Decimal
    digits: int

    def rounded(self, quantity: Decimal) -> Decimal:
        return quantity.quantize(Decimal(1).scaleb(-self.digits), ROUND_HALF_EVEN)


class Units:
    """Those of one data base, from its records of product.uom."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        units = [Unit(r["id"], r["symbol"], r["category"], Decimal(r["factor"]), int(r["digits"])) for r in records]
        self._by_id = {unit.id: unit for unit in units}
        self._by_symbol = {unit.symbol: unit for unit in units}

    def of(self, code: str) -> tuple[Unit, Decimal] | None:
        """The unit to post a quantity of `code` in, and what to multiply it by; None: Tryton has nothing of the kind. A code that is
        not in the table may be the symbol itself."""
        unit = self._by_symbol.get(_SYMBOLS.get(code, code))
        if unit is not None:
            return unit, Decimal(1)
        for other, symbol in _SYMBOLS.items():
            factor = rec20.factor(code, other)
            if factor is not None and symbol in self._by_symbol:
                return self._by_symbol[symbol], factor
        return None

    def code(self, unit_id: int) -> str:
        """Recommendation 20 where it is known, else the symbol."""
        symbol = self._by_id[unit_id].symbol
        return _CODES.get(symbol, symbol)

    def get(self, unit_id: int) -> Unit:
        return self._by_id[unit_id]

    def convert(self, quantity: Decimal, unit_id: int, wanted: Unit) -> Decimal:
        """A quantity of one of the same category, in `wanted` and rounded to its digits."""
        if unit_id == wanted.id:
            return quantity
        return wanted.rounded(quantity * self._by_id[unit_id].factor / wanted.factor)
