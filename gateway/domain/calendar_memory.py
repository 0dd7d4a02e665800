"""Which calendar held when: a changed configuration applies from the restart on, and what was booked before stays booked by the old one."""

from __future__ import annotations

from typing import Any

from gateway.domain.calendar import Calendar
from gateway.domain.instants import Instant
from gateway.domain.windows import KEEP


class CalendarMemory:
    """The present calendar of one work unit, and those before it as far back as a window can still be revised."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._present = calendar.definition
        self._past: list[tuple[Instant, dict[str, Any]]] = []
        """(until, definition), the oldest first."""

    def dump(self) -> dict[str, Any]:
        return {"present": self._present, "past": self._past}

    def load(self, state: dict[str, Any], now: Instant) -> bool:
        """Go on from a memory that ends at `now`; whether the calendar has changed since."""
        self._past = [(until, definition) for until, definition in state["past"] if until > now - KEEP]
        changed: bool = state["present"] != self._present
        if changed:
            self._past.append((now, state["present"]))
        before: Calendar | None = None
        for index, (until, definition) in enumerate(self._past):
            older = Calendar.defined(definition)
            if before is not None:
                older.applies_from(self._past[index - 1][0], before)
            before = older
            if index == len(self._past) - 1:
                self._calendar.applies_from(until, older)
        return changed
