"""Units of measure by their codes of UN/ECE Recommendation 20, and what one is in another.

Codes are those of the recommendation's Annexes II and III, as https://github.com/datasets/unece-units-of-measure republishes them; factors
are the exact definitions (an inch is 25.4 mm, a pound 0.45359237 kg) where the annexes round. Only what is weighed, measured, poured or
counted on a shop floor is here; any other code is a unit of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

_SIZES: dict[str, dict[str, str]] = {
    "mass, in KGM": {
        "MGM": "0.000001", "GRM": "0.001", "HGM": "0.1", "KGM": "1", "DTN": "100", "TNE": "1000", "LBR": "0.45359237",
        "ONZ": "0.028349523125", "STN": "907.18474", "LTN": "1016.0469088",
    },
    "length, in MTR": {
        "4H": "0.000001", "MMT": "0.001", "CMT": "0.01", "DMT": "0.1", "MTR": "1", "KMT": "1000", "INH": "0.0254", "FOT": "0.3048",
        "YRD": "0.9144",
    },
    "area, in MTK": {
        "MMK": "0.000001", "CMK": "0.0001", "DMK": "0.01", "MTK": "1", "INK": "0.00064516", "FTK": "0.09290304",
    },
    "volume, in LTR": {
        "MMQ": "0.000001", "CMQ": "0.001", "MLT": "0.001", "CLT": "0.01", "DLT": "0.1", "DMQ": "1", "LTR": "1", "HLT": "100",
        "MTQ": "1000", "INQ": "0.016387064", "GLL": "3.785411784", "GLI": "4.54609",
    },
    "number, in C62": {
        "C62": "1", "H87": "1", "EA": "1", "NAR": "1", "PR": "2", "DZN": "12", "CEN": "100", "MIL": "1000", "GRO": "144",
    },
    "time, in SEC": {"C26": "0.001", "SEC": "1", "MIN": "60", "HUR": "3600", "DAY": "86400"},
}  # fmt: skip

FACTORS: Mapping[str, tuple[str, Decimal]] = MappingProxyType(
    {code: (quantity, Decimal(size)) for quantity, sizes in _SIZES.items() for code, size in sizes.items()}
)
"""Code -> (what it measures, how much one is of that quantity's unit)."""


def factor(unit: str, wanted: str) -> Decimal | None:
    """How many `wanted` one `unit` is; None where the two measure different things, or one is not known here."""
    if unit == wanted:
        return Decimal(1)
    have, want = FACTORS.get(unit), FACTORS.get(wanted)
    if have is None or want is None or have[0] != want[0]:
        return None
    return have[1] / want[1]


def convert(quantity: Decimal, unit: str, wanted: str) -> Decimal | None:
    """`quantity` of `unit` in `wanted`, without a trailing digit of its own; None where there is no such conversion."""
    if unit == wanted:
        return quantity
    size = factor(unit, wanted)
    return None if size is None else quantity * size
