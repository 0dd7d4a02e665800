"""How far one uplink's peer has been handed the journal, and which work units wait after a refusal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.domain.entry import Entry

TRIES = 5
TRY_AGAIN_S = 1.0


class Handover:
    """All rows up to `position` are handed over or set apart; beyond it only some, while a work unit waits.

    Positions have no holes, so the mark moves by one as long as the next one is known.
    """

    def __init__(self, position: int, apart: Iterable[int]) -> None:
        self.position = position
        self.apart = set(apart)
        """Rows that the peer refused (parked, quarantined), wherever they stand."""
        self._beyond: set[int] = set()
        self.take_all(())

    def take_all(self, positions: Iterable[int]) -> None:
        """These rows are handed over."""
        self._beyond.update(position for position in positions if position > self.position)
        while (following := self.position + 1) in self._beyond or following in self.apart:
            self._beyond.discard(following)
            self.position = following

    def set_apart(self, position: int) -> None:
        self.apart.add(position)
        self.take_all(())

    def move_up(self, position: int) -> None:
        """All rows up to `position` are done, whatever was handed over."""
        if position > self.position:
            self.position = position
            self._beyond = {beyond for beyond in self._beyond if beyond > position}
            self.take_all(())

    def begin_again(self, position: int) -> None:
        """A new connection: everything beyond `position` is to be handed over once more."""
        self.position = position
        self._beyond.clear()
        self.take_all(())

    def wants(self, position: int) -> bool:
        """Whether that row is still to be handed over."""
        return position > self.position and position not in self._beyond and position not in self.apart


@dataclass
class Hold:
    """A work unit that waits because the peer refused `entry`: tried again at `due` (monotonic seconds)."""

    entry: Entry
    reason: str
    due: float
    tries: int = 1


class Holds:
    """The work units that wait, each for its own refused row; the others go on."""

    def __init__(self) -> None:
        self._by_unit: dict[str | None, Hold] = {}

    @property
    def units(self) -> frozenset[str | None]:
        return frozenset(self._by_unit)

    def hold(self, entry: Entry, reason: str, now: float) -> None:
        """The peer refused `entry`; of several rows of one unit the first counts."""
        present = self._by_unit.get(entry.work_unit)
        if present is None or entry.position < present.entry.position:
            self._by_unit[entry.work_unit] = Hold(entry, reason, now + TRY_AGAIN_S)

    def release(self, work_unit: str | None) -> None:
        self._by_unit.pop(work_unit, None)

    def forget(self, entry: Entry) -> None:
        """That row is not waited for any more."""
        hold = self._by_unit.get(entry.work_unit)
        if hold is not None and hold.entry.position == entry.position:
            self.release(entry.work_unit)

    def refused_again(self, hold: Hold, reason: str, now: float) -> bool:
        """One more try failed. True when it was the last."""
        hold.tries += 1
        hold.reason = reason
        hold.due = now + TRY_AGAIN_S
        return hold.tries >= TRIES

    @property
    def next_at(self) -> float | None:
        return min((hold.due for hold in self._by_unit.values()), default=None)

    def due(self, now: float) -> list[Hold]:
        return sorted((hold for hold in self._by_unit.values() if hold.due <= now), key=lambda hold: hold.entry.position)
