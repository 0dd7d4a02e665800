"""From counter readings to produced, good, scrap and rework; and which pieces a later reject marks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from gateway.domain.counters import Count, CounterReader, Number, number
from gateway.domain.equipment import Counts
from gateway.domain.events import Quantity
from gateway.domain.instants import Instant
from gateway.domain.oee import Window
from gateway.domain.sample import Input

ZERO = Decimal(0)
Pace = tuple[float | None, int]
"""Seconds per piece (None: nobody knows) and pieces per cycle."""
_LOTS = 200


@dataclass(frozen=True)
class Counted:
    """What the counters of one sample say together, in pieces; `counter` is the raw value of the leading counter.

    `late`: pieces (or, where none were made, marks) from a time when nobody was looking, `since` then.
    """

    produced: Decimal
    scrap: Decimal
    rework: Decimal
    counter: Number | None
    late: bool
    since: Instant | None
    gaps: tuple[tuple[str, Count], ...]
    """Tag and count of every reading that is worth an event: reset, rollover, glitch, level, undone."""
    seen: bool
    """A counter that makes produced pieces was read good and accepted (also without a delta)."""
    baseline: bool
    """The leading counter's first reading."""
    lost: bool
    """The leading counter was read, and bad or no number: nobody knows what is being made."""
    by_product: tuple[tuple[str, Decimal, Number | None], ...] = ()
    """Where each product has a counter: which, its pieces, its raw value; only those that made any."""


class PieceCounters:
    """All counters of one unit: total (or good, or cycles), reject, rework."""

    def __init__(self, counts: Counts) -> None:
        self._products = {f"total/{product_id}": product_id for product_id in counts.by_product}
        wanted = {f"total/{product_id}": counter for product_id, counter in counts.by_product.items()} | {
            "total": counts.total, "cycles": counts.cycles, "good": counts.good, "reject": counts.reject, "rework": counts.rework
        }  # fmt: skip
        self.readers = {role: CounterReader(counter) for role, counter in wanted.items() if counter is not None}
        self.leading = next((role for role in ("total", "cycles", "good") if role in self.readers), None)
        """The counter that says how many pieces were made; None where each product has its own, or nobody counts."""
        self._leads = (self.leading,) if self.leading else tuple(self._products)
        self._leader = self.readers[self.leading] if self.leading is not None else None
        self._followers = [reader for role, reader in self.readers.items() if role != self.leading]
        self._makers = ("good", "reject", "rework") if self.leading == "good" else ("total", "cycles", *self._products)
        self.moved = False
        """Whether the last sample changed an accepted raw value."""

    def usual(self, inputs: Mapping[str, Input], at: Instant, seconds_per_piece: float | None, pieces_per_cycle: int) -> int | None:
        """The pieces of a sample in which the leading counter went on as it should and all others stood still (0: it did too).

        None: there is more to be said of it, and `read` must.
        """
        leader = self._leader
        if leader is None:
            return self._still(inputs, at)
        held = inputs.get(leader.tag)
        if held is None or held.bad:
            return None
        weight = pieces_per_cycle if self.leading == "cycles" else 1
        made = leader.usual(held.value, at, seconds_per_piece, pieces_per_cycle, weight)
        if made is None:
            return None
        followers = [reader for reader in self._followers if reader.tag in inputs] if self._followers else ()
        for reader in followers:
            other = inputs[reader.tag]
            if other.bad or reader.usual(other.value, at, seconds_per_piece, pieces_per_cycle) != 0:
                return None
        for reader in followers:
            reader.at = at
        if made:
            leader.raw = held.value  # type: ignore[assignment]  # `usual` has seen that it is a number
        leader.at = at
        self.moved = made > 0
        return made * weight

    def _still(self, inputs: Mapping[str, Input], at: Instant) -> int | None:
        """0 when every counter of the sample shows what it showed before."""
        read = [(reader, held) for reader in self._followers if (held := inputs.get(reader.tag)) is not None]
        if not read or any(held.bad or reader.usual(held.value, at, None, 1) != 0 for reader, held in read):
            return None
        for reader, _ in read:
            reader.at = at
        self.moved = False
        return 0

    def read(
        self, inputs: Mapping[str, Input], at: Instant, seconds_per_piece: float | None, pieces_per_cycle: int,
        paces: Mapping[str, Pace] = MappingProxyType({}),
    ) -> Counted | None:  # fmt: skip
        """None when the sample has no counter at all. `paces`: of each product that has a counter of its own."""
        before = [reader.raw for reader in self.readers.values()]
        counted = self._read(inputs, at, (seconds_per_piece, pieces_per_cycle), paces)
        self.moved = [reader.raw for reader in self.readers.values()] != before
        return counted

    def _read(self, inputs: Mapping[str, Input], at: Instant, pace: Pace, paces: Mapping[str, Pace]) -> Counted | None:
        counts: dict[str, Count] = {}
        pieces_per_cycle = pace[1]
        lost: set[str] = set()
        for role, reader in self.readers.items():
            held = inputs.get(reader.tag)
            if held is None:
                continue
            value = None if held.bad else number(held.value)
            if value is None:
                reader.lose()
                lost.add(role)
                continue
            weight = pieces_per_cycle if role == "cycles" else 1
            count = reader.read(value, at, *paces.get(self._products.get(role, ""), pace), weight)
            counts[role] = count
            if count.kind == "reset" and self._takes_others(role, counts):
                # A total that starts anew takes the unit's other counters with it (one reset button).
                for other, follower in self.readers.items():
                    if other not in counts:
                        follower.rebase()
        return self._together(counts, pieces_per_cycle, lost=not lost.isdisjoint(self._leads)) if counts or lost else None

    def _takes_others(self, role: str, counts: Mapping[str, Count]) -> bool:
        """Of counters by product all must start anew together: one alone is a change of that product."""
        if role not in self._products:
            return role in ("total", "cycles")
        return all(other in counts and counts[other].kind == "reset" for other in self._products)

    def _together(self, counts: Mapping[str, Count], pieces_per_cycle: int, *, lost: bool) -> Counted:
        def delta(role: str) -> Decimal:
            count = counts.get(role)
            return ZERO if count is None or count.delta is None else Decimal(count.delta)

        scrap, rework = delta("reject"), delta("rework")
        if self.leading == "good":
            produced = delta("good") + scrap + rework
        elif self.leading == "cycles":
            produced = delta("cycles") * pieces_per_cycle
        else:
            produced = delta("total") + sum(map(delta, self._products), ZERO)
        makers = [counts[role] for role in self._makers if role in counts]
        leads = [counts[role] for role in self._leads if role in counts]
        baseline = bool(leads) and all(lead.baseline for lead in leads)
        late = [c for c in (makers if produced else counts.values()) if c.late and c.delta]
        return Counted(
            produced=produced,
            scrap=scrap,
            rework=rework,
            counter=None if self.leading_raw is None else Decimal(self.leading_raw),
            late=bool(late),
            since=min((c.since for c in late if c.since is not None), default=None),
            gaps=tuple((self.readers[role].tag, c) for role, c in counts.items() if c.kind or c.undone),
            seen=any(c.delta is not None for c in makers) or baseline,
            baseline=baseline,
            lost=lost,
            by_product=tuple((name, delta(role), self.readers[role].raw) for role, name in self._products.items() if delta(role)),
        )

    @property
    def leading_raw(self) -> Number | None:
        return None if self._leader is None else self._leader.raw

    def lose(self) -> None:
        for reader in self.readers.values():
            reader.lose()

    def clock_set(self, by: int) -> None:
        """As much time has passed since the last readings as had before the clock was set."""
        for reader in self.readers.values():
            reader.at = None if reader.at is None else reader.at + by
            reader.suspect_at = None if reader.suspect_at is None else reader.suspect_at + by

    def dump(self) -> dict[str, Any]:
        return {role: reader.dump() for role, reader in self.readers.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        for role, reader in self.readers.items():
            if role in state:
                reader.load(state[role])


@dataclass(eq=False, slots=True)
class Fresh:
    """Good pieces that are counted and told, and not yet in the windows in which they were made: all of one order and ideal time.

    `until`: these are the windows of the present until then.
    """

    windows: list[Window]
    job: str | None
    ideal_s: Decimal | None
    until: Instant
    product_lot: str | None = None
    material: Decimal | None = None
    pieces: int = 0
    last: Instant = 0
    """When the latest of them was made."""


@dataclass(eq=False, slots=True)
class Orphan:
    """Pieces counted at one instant against no order; 0 when they were given to one later."""

    at: Instant
    pieces: Quantity


Origin = tuple[str | None, str | None]
"""Whose pieces: the order's, and of which produced lot; None: of none."""


@dataclass(eq=False)
class Lot:
    """Pieces of one order, product and set of windows that a later reject, declaration or correction can still reach."""

    windows: tuple[str, ...]
    job: str | None
    ideal_s: Decimal | None
    good: Decimal = ZERO
    scrap: Decimal = ZERO
    rework: Decimal = ZERO
    product_lot: str | None = None
    material: Decimal | None = None
    """What that of one piece costs; None: nobody knows."""

    @property
    def origin(self) -> Origin:
        return self.job, self.product_lot


@dataclass(frozen=True)
class Mark:
    """`quantity` pieces of `lot` changed; negative: a mark was taken back."""

    lot: Lot
    quantity: Decimal


class PieceLots:
    """A reject marks the pieces of the same reading, else the latest not yet rejected."""

    def __init__(self) -> None:
        self._lots: list[Lot] = []

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Keys of windows, before and now."""
        for lot in self._lots:
            lot.windows = tuple(renamed.get(key, key) for key in lot.windows)

    def add(self, windows: tuple[str, ...], origin: Origin, ideal_s: Decimal | None, material: Decimal | None, good: Quantity) -> None:
        last = self._lots[-1] if self._lots else None
        if last is None or (last.windows, last.origin, last.ideal_s, last.material) != (windows, origin, ideal_s, material):
            last = Lot(windows, origin[0], ideal_s, product_lot=origin[1], material=material)
            self._lots.append(last)
            del self._lots[:-_LOTS]
        last.good += good

    def mark_behind(self, what: str, quantity: Decimal, delay: int) -> list[Mark]:
        """Good pieces become `what`, the latest of those that `delay` more were made after; of a machine that has not made so many since
        anybody counted, the oldest."""
        marks: list[Mark] = []
        passing = Decimal(delay)
        for lot in reversed(self._lots):
            made = lot.good + lot.scrap + lot.rework
            passed = min(made, passing)
            passing -= passed
            marks += self._take("good", min(quantity - sum((m.quantity for m in marks), ZERO), made - passed), [lot])
        rest = quantity - sum((mark.quantity for mark in marks), ZERO)
        marks += self._take("good", rest, self._lots) if rest else []
        for mark in marks:
            setattr(mark.lot, what, getattr(mark.lot, what) + mark.quantity)
        return marks

    def mark(self, what: str, quantity: Decimal, job: str | None = None, *, prefer: Collection[str] = ()) -> list[Mark]:
        """Good pieces of the latest lots (of `job` alone when given) become `what`; a negative quantity makes such pieces good again.

        Lots made in the windows `prefer` come first; what is not there is not marked.
        """
        source, target = ("good", what) if quantity > 0 else (what, "good")
        marks = self._take(source, abs(quantity), self._latest(job, prefer))
        for mark in marks:
            setattr(mark.lot, target, getattr(mark.lot, target) + mark.quantity)
        return marks if quantity > 0 else [Mark(mark.lot, -mark.quantity) for mark in marks]

    def withdraw(self, what: str, quantity: Decimal, job: str, *, prefer: Collection[str]) -> list[Mark]:
        """`quantity` pieces that are `what` (good or scrap) were never made."""
        return self._take(what, quantity, self._latest(job, prefer))

    def hand_over(self, quantity: Decimal, job: str, window: str | None, *, prefer: Collection[str]) -> list[Lot]:
        """`quantity` pieces without an order become the job's (and belong to its `window` too): the lots they make.

        They keep their place among the others, so that later rejects still find the latest pieces first.
        """
        moved: list[Lot] = []
        for lot in [one for one in self._latest(None, prefer) if one.job is None]:
            windows = (*lot.windows, window) if window is not None else lot.windows
            share = Lot(windows, job, lot.ideal_s, product_lot=lot.product_lot, material=lot.material)
            for what in ("good", "scrap", "rework"):
                taken = min(getattr(lot, what), quantity)
                quantity -= taken
                setattr(lot, what, getattr(lot, what) - taken)
                setattr(share, what, taken)
            if share.good or share.scrap or share.rework:
                self._lots.insert(self._lots.index(lot) + 1, share)
                moved.append(share)
        return moved

    def _latest(self, job: str | None, prefer: Collection[str]) -> list[Lot]:
        chosen = [lot for lot in reversed(self._lots) if job in (None, lot.job)]
        if prefer:
            chosen.sort(key=lambda lot: -sum(window in prefer for window in lot.windows))
        return chosen

    @staticmethod
    def _take(what: str, quantity: Decimal, lots: Iterable[Lot]) -> list[Mark]:
        marks: list[Mark] = []
        for lot in lots:
            taken = min(getattr(lot, what), quantity)
            if taken > 0:
                setattr(lot, what, getattr(lot, what) - taken)
                quantity -= taken
                marks.append(Mark(lot, taken))
            if quantity <= 0:
                break
        return marks

    def dump(self) -> list[list[Any]]:
        return [
            [
                list(lot.windows), lot.job, None if lot.ideal_s is None else str(lot.ideal_s), str(lot.good), str(lot.scrap),
                str(lot.rework), lot.product_lot, None if lot.material is None else str(lot.material),
            ]
            for lot in self._lots
        ]  # fmt: skip

    def load(self, state: list[list[Any]]) -> None:
        # A journal that was begun before lots were traced names no produced lot, one before scrap had a price no material.
        self._lots = []
        for windows, job, ideal, good, scrap, rework, *later in state:
            made = (Decimal(good), Decimal(scrap), Decimal(rework))
            product_lot, material = (*later, None, None)[:2]
            self._lots.append(Lot(tuple(windows), job, _decimal(ideal), *made, product_lot=product_lot, material=_decimal(material)))


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
