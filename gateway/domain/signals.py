"""Alerts that the core itself finds in the data, in the technician's words; raised once, cleared when over or after a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.domain.events import AlertCleared, AlertRaised, Event, Text
from gateway.domain.instants import SECOND, Instant, moment

SHOWN_FOR = 900 * SECOND
"""A finding that has no end of its own (a reset) stays on the page for a quarter of an hour."""

MOST_TOLD = 100
"""A tag with more unknown codes than that holds no code at all."""


class Signals:
    """The alerts of one work unit that stand, with the instant at which each clears itself (None: by `clear` only)."""

    def __init__(self, work_unit: str, emit: Callable[[Event], None]) -> None:
        self._work_unit = work_unit
        self._emit = emit
        self._standing: dict[str, tuple[Instant | None, str, Text, Text]] = {}
        self._told: set[str] = set()

    def raise_(
        self, key: str, severity: str, text: Text, remedy: Text, at: Instant, *, detail: str = "", until: Instant | None = None
    ) -> None:
        """Nothing when it stands already (a later `until` prolongs it)."""
        known = key in self._standing
        self._standing[key] = (until, severity, text, remedy)
        if not known:
            self._emit(
                AlertRaised(
                    work_unit=self._work_unit, at=moment(at), alert=f"{key}@{self._work_unit}", severity=severity, text=text, remedy=remedy,
                    detail=detail,
                )
            )  # fmt: skip

    def raise_once(self, key: str, severity: str, text: Text, remedy: Text, at: Instant, *, detail: str = "") -> None:
        """One alert per key for good, however often it comes back; of the first `MOST_TOLD` keys: the snapshot carries them all."""
        if key not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(key)
            self.raise_(key, severity, text, remedy, at, detail=detail, until=at + SHOWN_FOR)

    def clear(self, key: str, at: Instant) -> None:
        standing = self._standing.pop(key, None)
        if standing is not None:
            _, severity, text, remedy = standing
            self._emit(
                AlertCleared(
                    work_unit=self._work_unit, at=moment(at), alert=f"{key}@{self._work_unit}", severity=severity, text=text, remedy=remedy
                )
            )

    def deadline(self) -> Instant | None:
        if not self._standing:
            return None
        return min((until for until, *_ in self._standing.values() if until is not None), default=None)

    def fire(self, at: Instant) -> None:
        for key, (until, *_) in list(self._standing.items()):
            if until is not None and until <= at:
                self.clear(key, at)

    def clock_set(self, by: int) -> None:
        """What is shown for a while is shown for as long as it was meant to be."""
        for key, (until, severity, text, remedy) in self._standing.items():
            self._standing[key] = (None if until is None else until + by, severity, text, remedy)

    def standing(self, at: Instant) -> list[AlertRaised]:
        """What stands, as the events that raised it; after a restart the alert board takes them over."""
        return [
            AlertRaised(
                work_unit=self._work_unit, at=moment(at), alert=f"{key}@{self._work_unit}", severity=severity, text=text, remedy=remedy
            )
            for key, (_, severity, text, remedy) in self._standing.items()
        ]

    def dump(self) -> dict[str, Any]:
        return {
            "standing": {
                key: [until, severity, [text.fr, text.en], [remedy.fr, remedy.en]]
                for key, (until, severity, text, remedy) in self._standing.items()
            },
            "told": sorted(self._told),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._standing = {key: (until, severity, Text(*t), Text(*r)) for key, (until, severity, t, r) in state["standing"].items()}
        self._told = set(state["told"])
