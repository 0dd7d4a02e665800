"""Report by exception: which readings say something new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drivers.base import Reading


class ChangeFilter:
    """Passes the readings whose quality changed, or whose value moved by at least the tag's deadband since the last one passed.

    `bands`: tag -> deadband in the tag's unit; without one every change of value passes. It starts empty: the first reading passes.
    """

    def __init__(self, bands: Mapping[str, float]) -> None:
        self._bands = {tag: band for tag, band in bands.items() if band > 0}
        self._last: dict[str, Reading] = {}

    def changed(self, readings: Iterable[Reading]) -> list[Reading]:
        passed: list[Reading] = []
        last = self._last
        for reading in readings:
            known = last.get(reading.tag)
            # The usual case first: most polls bring the very same small number or bit.
            if (
                known is not None
                and known.quality is reading.quality
                and ((known.value is reading.value and known.detail == reading.detail) or not self._moved(known, reading))
            ):
                continue
            last[reading.tag] = reading
            passed.append(reading)
        return passed

    def differs(self, reading: Reading) -> bool:
        """Whether it would pass; nothing is remembered."""
        known = self._last.get(reading.tag)
        return known is None or known.quality is not reading.quality or self._moved(known, reading)

    def _moved(self, known: Reading, reading: Reading) -> bool:
        old, new = known.value, reading.value
        if old is None or new is None:
            return known.detail != reading.detail
        # True == 1 in Python: a tag that turns from number to bit did change.
        if old == new and type(old) is type(new):
            return False
        band = self._bands.get(reading.tag)
        if band is None or isinstance(old, str | bool) or isinstance(new, str | bool):
            return True
        return abs(new - old) >= band
