"""What a tag's settings say of its values, whatever the protocol."""

from __future__ import annotations

from drivers.base import Value


def outside(value: Value, valid: tuple[float, float]) -> str:
    """What is wrong with a number that is not from `valid[0]` to `valid[1]` (both included, in the tag's unit); empty: nothing.

    Truth and text have no range.
    """
    if value is None or isinstance(value, bool | str) or valid[0] <= value <= valid[1]:
        return ""
    return f"{value} is outside {valid[0]:g} to {valid[1]:g}"
