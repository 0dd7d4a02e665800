"""What a tag's settings say of its values, whatever the protocol."""

from __future__ import annotations

import math
import re

from drivers.base import Concern, Value
from drivers.settings import COUNTER_TYPES, TagSettings

_NUMBER = re.compile(r"[-+]?(\d{1,19})(\.\d*)?([eE][-+]?\d{1,2})?")
_BITS = {"1": True, "TRUE": True, "ON": True, "YES": True, "0": False, "FALSE": False, "OFF": False, "NO": False}


def outside(value: Value, valid: tuple[float, float]) -> str:
    """What is wrong with a number that is not from `valid[0]` to `valid[1]` (both included, in the tag's unit); empty: nothing.

    Truth and text have no range.
    """
    if value is None or isinstance(value, bool | str) or valid[0] <= value <= valid[1]:
        return ""
    return f"{value} is outside {valid[0]:g} to {valid[1]:g}"


def carried(number: int | float) -> int | float | None:
    """As a message carries it: an integer of 64 bits, beyond them the float nearest to it; None: beyond any float."""
    if isinstance(number, int):
        if -(1 << 63) <= number < 1 << 64:
            return number
        try:
            number = float(number)
        except OverflowError:
            return None
    return number if math.isfinite(number) else None


def fits(number: int, kind: str) -> bool:
    """Whether an integer of this type can hold it."""
    bits, signed = COUNTER_TYPES[kind]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return low <= number <= high


def from_text(text: str, tag: TagSettings, kind: str | None) -> tuple[Value, str]:
    """What a text means to a tag of this type (None: a number or text); None and why, where it cannot be."""
    value = _of_kind(text, kind)
    if tag.invert and value is not None:
        value = None if isinstance(value, str) else not value
    if value is None:
        return None, f"{text[:40]!r} is not {kind or 'a bit'}"
    wrong = "" if tag.valid is None else outside(value, tag.valid)
    return (None, wrong) if wrong else (value, "")


def _of_kind(text: str, kind: str | None) -> Value:
    if kind == "bool":
        return _BITS.get(text.upper())
    number = _NUMBER.fullmatch(text)
    if number is None or kind == "string":
        return text if kind in (None, "string") else None
    if number[2] or number[3] or kind in ("float32", "float64"):
        return None if kind in COUNTER_TYPES else float(text)
    return carried(int(text)) if kind is None or fits(int(text), kind) else None


class InvalidValues:
    """Which tags hold no value of late: one thing to tell the technician until all have been right for HOLD_S.

    A value that comes and goes shall not come and go as an alert.
    """

    HOLD_S = 60.0

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._first: dict[str, str] = {}
        self._concern: Concern | None = None

    def note(self, tag: str, detail: str, now: float) -> None:
        """`now`: monotonic seconds."""
        if tag not in self._last:
            self._first[tag] = detail
            self._concern = None
        self._last[tag] = now

    def concern(self, now: float) -> Concern | None:
        """What stands at monotonic `now`; None: nothing."""
        if not self._last:
            return None
        for tag in [tag for tag, last in self._last.items() if now - last >= self.HOLD_S]:
            del self._last[tag], self._first[tag]
            self._concern = None
        if self._concern is None and self._last:
            tags = sorted(self._last)
            named = ", ".join(tags[:5]) + ("…" if len(tags) > 5 else "")
            self._concern = Concern(
                "warning",
                f"L'automate donne pour {named} des valeurs impossibles ; elles ne sont pas utilisées.",
                f"The PLC gives impossible values for {named}; they are not used.",
                "Vérifier le capteur, puis `type`, `order`, `scale` et `valid` de ces tags.",
                "Check the sensor, then `type`, `order`, `scale` and `valid` of these tags.",
                "; ".join(f"{tag}: {self._first[tag]}" for tag in tags[:20]),
            )
        return self._concern
