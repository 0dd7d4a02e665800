"""The latest rows of a table, in memory: who keeps up with the journal never asks the disk for what was written a moment ago."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Tail(Generic[Row]):
    """Rows by their number, which rises by exactly 1. Keeps at least the latest `kept` of them, at most twice as many."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._rows: list[Row] = []
        self._first = 1

    def extend(self, first: int, rows: Sequence[Row]) -> None:
        """`rows` begin with number `first`. A hole before them makes everything earlier be forgotten."""
        if first != self._first + len(self._rows):
            self._rows.clear()
            self._first = first
        self._rows.extend(rows)
        if len(self._rows) > 2 * self._kept:
            dropped = len(self._rows) - self._kept
            del self._rows[:dropped]
            self._first += dropped

    def after(self, number: int, limit: int) -> list[Row] | None:
        """Up to `limit` rows behind `number`, in order; None: not all of them are here."""
        start = number + 1 - self._first
        return None if start < 0 or not self._rows else self._rows[start : start + limit]

    def clear(self) -> None:
        self._rows.clear()
