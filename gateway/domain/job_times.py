"""Which job ran when: time is booked late, and belongs to the job of its own moment."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.domain.instants import Instant


class JobTimes:
    """None: no order was running."""

    def __init__(self) -> None:
        self._changes: list[tuple[Instant, str | None]] = [(0, None)]

    @property
    def present(self) -> str | None:
        return self._changes[-1][1]

    def change(self, at: Instant, job: str | None, *, forget_before: Instant) -> None:
        """From `at` on `job` runs."""
        last = len(self._changes) - 1
        self._changes = [c for i, c in enumerate(self._changes) if i == last or self._changes[i + 1][0] > forget_before]
        self._changes.append((at, job))

    def forget(self) -> None:
        """All that was booked is booked: from now on only the present job is known, whatever the clock says."""
        self._changes = [(0, self.present)]

    def cut(self, start: Instant, end: Instant) -> list[tuple[Instant, Instant, str | None]]:
        """[start, end) cut where the running job changed."""
        cuts = []
        for index, (since, job) in enumerate(self._changes):
            until = self._changes[index + 1][0] if index + 1 < len(self._changes) else end
            low, high = max(start, since), min(end, until)
            if high > low:
                cuts.append((low, high, job))
        return cuts

    def dump(self) -> list[tuple[Instant, str | None]]:
        return self._changes

    def load(self, rows: Iterable[tuple[Instant, str | None]]) -> None:
        self._changes = [(since, job) for since, job in rows]
