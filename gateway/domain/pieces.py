"""From counter readings to produced, good, scrap and rework; and which pieces a later reject marks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.domain.counters import Count, CounterReader, Number, number
from gateway.domain.equipment import Counts
from gateway.domain.instants import Instant
from gateway.domain.sample import Input

ZERO = Decimal(0)
_LOTS = 200


@dataclass(frozen=True)
class Counted:
    """What the counters of one sample say together, in pieces; `counter` is the raw value of the leading counter."""

    produced: Decimal
    scrap: Decimal
    rework: Decimal
    counter: Decimal | None
    late: bool
    since: Instant | None
    gaps: tuple[tuple[str, Count], ...]
    """Tag and count of every reading that is worth an event: reset, rollover, glitch, level, undone."""
    seen: bool
    """A counter that makes produced pieces was read good and accepted (also without a delta)."""
    baseline: bool
    """The leading counter's first reading."""


class PieceCounters:
    """All counters of one unit: total (or good, or cycles), reject, rework."""

    def __init__(self, counts: Counts) -> None:
        wanted = {"total": counts.total, "cycles": counts.cycles, "good": counts.good, "reject": counts.reject, "rework": counts.rework}
        self.readers = {role: CounterReader(counter) for role, counter in wanted.items() if counter is not None}
        self.tags = frozenset(r.tag for r in self.readers.values())
        self.leading = next((role for role in ("total", "cycles", "good") if role in self.readers), None)

    def read(self, inputs: Mapping[str, Input], at: Instant, seconds_per_piece: float | None, pieces_per_cycle: int) -> Counted | None:
        """None when the sample has no counter at all."""
        counts: dict[str, Count] = {}
        for role, reader in self.readers.items():
            held = inputs.get(reader.tag)
            if held is None:
                continue
            value = None if held.bad else number(held.value)
            if value is None:
                reader.lose()
                continue
            weight = pieces_per_cycle if role == "cycles" else 1
            count = reader.read(value, at, seconds_per_piece, pieces_per_cycle, weight)
            counts[role] = count
            if role in ("total", "cycles") and count.kind == "reset":
                # A total that starts anew takes the unit's other counters with it (one reset button).
                for other, follower in self.readers.items():
                    if other != role:
                        follower.rebase()
        return self._together(counts, pieces_per_cycle) if counts else None

    def _together(self, counts: Mapping[str, Count], pieces_per_cycle: int) -> Counted:
        def delta(role: str) -> Decimal:
            count = counts.get(role)
            return ZERO if count is None or count.delta is None else Decimal(count.delta)

        scrap, rework = delta("reject"), delta("rework")
        if self.leading == "good":
            produced = delta("good") + scrap + rework
        elif self.leading == "cycles":
            produced = delta("cycles") * pieces_per_cycle
        else:
            produced = delta("total")
        if self.leading != "good" and "good" in counts and "reject" not in self.readers:
            scrap = max(ZERO, produced - delta("good") - rework)
        lead = counts.get(self.leading) if self.leading else None
        late = [c for c in counts.values() if c.late and c.delta]
        return Counted(
            produced=produced,
            scrap=scrap,
            rework=rework,
            counter=self.raw(self.leading),
            late=bool(late),
            since=min((c.since for c in late if c.since is not None), default=None),
            gaps=tuple((self.readers[role].tag, c) for role, c in counts.items() if c.kind or c.undone),
            seen=lead is not None and (lead.delta is not None or lead.baseline),
            baseline=lead is not None and lead.baseline,
        )

    def raw(self, role: str | None) -> Decimal | None:
        reader = self.readers.get(role) if role else None
        return None if reader is None or reader.raw is None else Decimal(reader.raw)

    def raws(self) -> list[Number | None]:
        """The accepted raw values, in the order of the readers."""
        return [reader.raw for reader in self.readers.values()]

    def lose(self) -> None:
        for reader in self.readers.values():
            reader.lose()

    def dump(self) -> dict[str, Any]:
        return {role: reader.dump() for role, reader in self.readers.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        for role, reader in self.readers.items():
            if role in state:
                reader.load(state[role])


@dataclass
class Lot:
    """Good pieces of one order, product and set of windows that a later reject can still mark."""

    windows: tuple[str, ...]
    job: str | None
    ideal_s: Decimal | None
    good: Decimal


@dataclass(frozen=True)
class Mark:
    lot: Lot
    quantity: Decimal


class PieceLots:
    """A reject marks the pieces of the same reading, else the latest not yet rejected."""

    def __init__(self) -> None:
        self._lots: list[Lot] = []

    def add(self, windows: tuple[str, ...], job: str | None, ideal_s: Decimal | None, good: Decimal) -> None:
        last = self._lots[-1] if self._lots else None
        if last is not None and (last.windows, last.job, last.ideal_s) == (windows, job, ideal_s):
            last.good += good
        else:
            self._lots.append(Lot(windows, job, ideal_s, good))
            del self._lots[:-_LOTS]

    def mark(self, quantity: Decimal, job: str | None = None, *, prefer: Collection[str] = (), orphans: bool = False) -> list[Mark]:
        """Take `quantity` good pieces from the latest lots (of `job` alone when given, of none with `orphans`).

        Lots made in one of the windows `prefer` come first; what is not there is not marked.
        """
        marks: list[Mark] = []
        chosen = [lot for lot in reversed(self._lots) if (lot.job is None if orphans else job in (None, lot.job))]
        if prefer:
            chosen.sort(key=lambda lot: -sum(window in prefer for window in lot.windows))
        for lot in chosen:
            if quantity <= 0:
                break
            taken = min(lot.good, quantity)
            if taken > 0:
                lot.good -= taken
                quantity -= taken
                marks.append(Mark(lot, taken))
        return marks

    def unmark(self, quantity: Decimal, job: str | None, *, prefer: Collection[str] = ()) -> list[Mark]:
        """Make `quantity` marked pieces of the job's latest lot (made in one of `prefer` first) good again: a correction."""
        chosen = [lot for lot in reversed(self._lots) if job in (None, lot.job)]
        chosen.sort(key=lambda lot: -sum(window in prefer for window in lot.windows))
        if not chosen:
            return []
        chosen[0].good += quantity
        return [Mark(chosen[0], -quantity)]

    def dump(self) -> list[list[Any]]:
        return [[list(lot.windows), lot.job, None if lot.ideal_s is None else str(lot.ideal_s), str(lot.good)] for lot in self._lots]

    def load(self, state: list[list[Any]]) -> None:
        self._lots = [Lot(tuple(w), j, None if c is None else Decimal(c), Decimal(g)) for w, j, c, g in state]
