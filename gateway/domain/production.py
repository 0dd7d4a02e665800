"""The quantity side of a work unit: pieces counted and declared, where they belong, and what becomes of them later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from gateway.domain.counters import Number
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, Quantity, QuantityCounted
from gateway.domain.findings import CounterFindings
from gateway.domain.genealogy import Genealogy
from gateway.domain.inspection import Inspection
from gateway.domain.instants import Instant, moment
from gateway.domain.job import Job, load_job
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.material_use import MaterialUse
from gateway.domain.orders import ZERO, Orders
from gateway.domain.pieces import Counted, Fresh, Mark, Origin, Orphan, PieceCounters, PieceLots
from gateway.domain.quality_actions import QualityActions
from gateway.domain.sample import Input, number_of
from gateway.domain.sampling_due import SamplingDue
from gateway.domain.shortage import Shortage
from gateway.domain.signals import Signals
from gateway.domain.what_runs import WhatRuns
from gateway.domain.windows import add_pieces, mark_pieces, price_scrap

_ORPHANS = 20_000
"""Readings with pieces but no order that a `Reassign` can still reach."""
_Marked = dict[Origin, dict[str, Decimal]]
"""Whose pieces -> scrap, rework."""


class Production:
    """Reads `machine.now` as the present instant; the tracker moves it."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, signals: Signals, emit: Callable[[Event], None]) -> None:
        self._unit = unit
        self._machine = machine
        self._emit = emit
        self.ledger = Ledger(unit.name, unit.dispatch.end, unit.dispatch.next)
        self.genealogy = Genealogy(lambda: machine.now, lambda: self.material.lots)
        self.material = MaterialUse(unit, machine, self.ledger, self.genealogy, emit)
        self.orders = Orders(unit, machine, self.ledger, self.material, emit)
        self.inspection = Inspection(unit, machine, self.ledger, self.genealogy, self.orders.product_of, emit)
        self.shortage = Shortage(unit, machine, self.material, signals)
        self.sampling = SamplingDue(unit, machine, self.ledger, self.inspection, signals)
        self.actions = QualityActions(machine, self.ledger, self.orders, signals, self.mark)
        self.orders.on_over, self.orders.on_dated = self._job_over, self._job_dated
        self.inspection.measured = self._measured
        self.counters = PieceCounters(unit.counts)
        self._rejects_counted = unit.counts.reject is not None
        delayed = {"scrap": unit.counts.reject, "rework": unit.counts.rework}
        self._delays = {what: counter.delay_pieces for what, counter in delayed.items() if counter is not None}
        self._findings = CounterFindings(unit.name, signals, emit)
        self._runs = WhatRuns(
            unit, machine, self.orders, self.ledger, self.counters, self._findings, settle=self.settle, reassign=self.reassign
        )
        self._lots = PieceLots()
        self._fresh: Fresh | None = None
        self._orphans: deque[Orphan] = deque(maxlen=_ORPHANS)
        self._changed_orphans: list[Orphan] = []
        self._read_at: Instant = 0

    # --- readings -------------------------------------------------------------------------------------------------

    def take(self, inputs: Mapping[str, Input]) -> bool:
        """The inputs of one sample, counters first, then measurements; whether product or counters had news."""
        news = self._runs.told and self._runs.take(inputs)
        now, orders = self._machine.now, self.orders
        made = self.counters.usual(inputs, now, orders.ideal_s, orders.cavities)
        if made is not None:
            self._go_on(made)
            news |= made > 0
        else:
            counted = self.counters.read(inputs, now, orders.ideal_s, orders.cavities, self._runs.paces())
            if counted is not None:
                self.settle()
                self._count(counted)
                news = True
        if self._unit.product_lot_tag is not None and self._unit.product_lot_tag in inputs:
            news |= self._take_product_lot(inputs[self._unit.product_lot_tag])
        self.material.take(inputs)
        self.inspection.take(inputs)
        self.act_on_results()
        return news

    def _take_product_lot(self, held: Input) -> bool:
        """After the counters: what they count was made before the new number was seen."""
        if held.bad:
            return False
        number = number_of(held.value) or None
        if number == self.genealogy.tagged:
            return False
        self.close_books()
        self.genealogy.tag_says(number)
        self.genealogy.begin(self.ledger.running)
        return True

    def close_books(self) -> None:
        """What was made so far belongs to the lots so far: before another lot of product or material is in use."""
        self.settle()
        if self.ledger.running is not None:
            self.material.backflush(self.ledger.running)

    def _go_on(self, made: int) -> None:
        """The usual sample: `made` good pieces of what is running. They wait in `_fresh` until somebody looks at windows or lots."""
        machine = self._machine
        job = self.ledger.running if self._runs.change.since is None else None
        now, still_since = machine.now, machine.still_since() if made else None
        while_stopped = still_since is not None and still_since < self._read_at
        machine.piece(made, judge=True)
        self._read_at = now
        if not made:
            return
        if self._rejects_counted:
            machine.drift.pieces(now, made, 0)
        fresh = self._fresh
        if fresh is None or now >= fresh.until:
            self.settle()
            windows, until = machine.windows.present(now, job.job_order_id if job else None)
            lot = self.genealogy.lot_of(job)
            material = self.orders.material_cost(job)
            fresh = self._fresh = Fresh(windows, job.job_order_id if job else None, self.orders.ideal, until, lot, material)
        fresh.pieces += made
        fresh.last = now
        if job is None:
            self._remember_orphan(now, made)
        self._emit(
            QuantityCounted(
                work_unit=self._unit.name, at=moment(now), job_order_id=fresh.job, produced=made, good=made, scrap=0, rework=0,
                counter=self.counters.leading_raw, late=False, while_stopped=while_stopped, product_lot_id=fresh.product_lot,
            )
        )  # fmt: skip
        if job is not None:
            self.orders.add(job, made, made, ZERO, ZERO)
            if self.ledger.is_reached:
                self.settle()
                self.orders.at_quantity()

    def settle(self) -> None:
        """Fresh pieces go to their windows and lot: before anybody looks at these, and before order, product or windows change."""
        self._machine.made.settle()
        fresh, self._fresh = self._fresh, None
        if fresh is not None and fresh.pieces:
            add_pieces(fresh.windows, Decimal(fresh.pieces), fresh.ideal_s, late=False, ordered=fresh.job is not None)
            keys, origin = tuple(w.key for w in fresh.windows), (fresh.job, fresh.product_lot)
            self._lots.add(keys, origin, fresh.ideal_s, fresh.material, fresh.pieces)
            job = self.ledger.get(fresh.job) if fresh.job is not None else None
            self.genealogy.counted(job, fresh.product_lot, fresh.pieces, 0, 0, fresh.last)

    def _count(self, counted: Counted) -> None:
        machine = self._machine
        now, still_since = machine.now, machine.still_since()
        for tag, count in counted.gaps:
            reader = next(r for r in self.counters.readers.values() if r.tag == tag)
            shown = reader.suspect if count.kind == "glitch" else reader.raw
            self._findings.gap(tag, count, shown, now, machine.job, expected=reader.per_order)
            self._runs.note(tag, count)
        if counted.by_product:
            self.orders.count_by_product([(product_id, pieces) for product_id, pieces, _ in counted.by_product])
        # A glitch, its confirmation or a reset leaves open what was made in between, so that gap is not judged.
        bad_gap = any(count.kind in ("glitch", "level", "reset") or count.undone for _, count in counted.gaps)
        while_stopped = counted.produced > 0 and still_since is not None and still_since < self._read_at
        if counted.seen:
            machine.piece(int(counted.produced), judge=not (counted.late or bad_gap or counted.baseline))
            self._read_at = now
        elif bad_gap or counted.lost:
            machine.gap_unjudged()
        if counted.lost and machine.by_gap:
            machine.lose()
        if self._rejects_counted and (counted.produced or counted.scrap) and not counted.late:
            machine.drift.pieces(now, int(counted.produced), int(counted.scrap))
        if counted.produced or counted.scrap or counted.rework:
            self._book(counted, while_stopped=while_stopped)

    def _book(self, counted: Counted, *, while_stopped: bool) -> None:
        """New pieces (all good at first), then marks on the pieces that rejects and rework belong to."""
        shares = [
            (self._runs.owner(product_id), product_id, pieces, raw)
            for product_id, pieces, raw in counted.by_product or ((None, counted.produced, counted.counter),)
        ]
        origins: list[Origin] = [(job.job_order_id if job else None, self.genealogy.lot_of(job)) for job, *_ in shares]
        for origin, (job, product_id, pieces, _) in zip(origins, shares, strict=True):
            if pieces:
                self._make(origin, job, pieces, self._machine.now, late=counted.late, product_id=product_id)
        marked = self._mark_all(counted)
        for origin, (_, product_id, pieces, raw) in zip(origins, shares, strict=True):
            mine = marked.pop(origin, {})
            if pieces or mine:
                self._tell(origin, pieces, mine, counted=counted, counter=raw, product_id=product_id, while_stopped=while_stopped)
        for other, marks in marked.items():
            self._tell(other, ZERO, marks, counted=counted, counter=counted.counter)
        self.orders.at_quantity()

    def _make(self, origin: Origin, job: Job | None, produced: Decimal, at: Instant, *, late: bool, product_id: str | None = None) -> None:
        windows = self._machine.windows.at(at, origin[0])
        ideal, _ = self.orders.ideal_for(job, product_id)
        add_pieces(windows, produced, ideal, late=late, ordered=job is not None)
        self._machine.windows.changed(windows)
        self._lots.add(tuple(w.key for w in windows), origin, ideal, self.orders.material_cost(job), produced)
        if job is None:
            self._remember_orphan(at, produced)

    def _remember_orphan(self, at: Instant, pieces: Quantity) -> None:
        """At the present instant."""
        last = self._orphans[-1] if self._orphans else None
        if last is not None and last.at == at:
            last.pieces += pieces
        else:
            last = Orphan(at, pieces)
            self._orphans.append(last)
        self._changed_orphans.append(last)

    # --- results and orders that are over --------------------------------------------------------------------------

    def act_on_results(self) -> None:
        """On failed results that nobody acted on yet."""
        if self.inspection.failed:
            failed, self.inspection.failed = self.inspection.failed, []
            self.settle()
            self.actions.act(failed)

    def _measured(self, job: Job, characteristic: str, passed: bool) -> None:
        self.sampling.measured(job, characteristic)
        if passed:
            self.actions.passed(characteristic)

    def _job_over(self, job: Job) -> None:
        self.inspection.summarize(job)
        self.genealogy.end(job)

    def _job_dated(self, running: Job | None) -> None:
        self.genealogy.begin(running)
        self.shortage.look(running)
        self.sampling.look(running)
        self.actions.look(running)

    # --- what becomes of pieces later -----------------------------------------------------------------------------

    def _mark_all(self, counted: Counted) -> _Marked:
        marked: _Marked = {}
        for what, quantity in (("scrap", counted.scrap), ("rework", counted.rework)):
            found = self._mark(what, self._marks_of(what, quantity)) if quantity else {}
            for origin, taken in found.items():
                marked.setdefault(origin, {})[what] = taken
            missing = quantity - sum(found.values(), ZERO)
            if missing > 0:
                # Good never falls below 0.
                self._findings.disagree(missing, self._machine.now)
        return marked

    def _marks_of(self, what: str, quantity: Decimal) -> list[Mark]:
        delay = self._delays.get(what, 0)
        return self._lots.mark_behind(what, quantity, delay) if delay else self._lots.mark(what, quantity)

    def _mark(self, what: str, marks: Iterable[Mark]) -> dict[Origin, Decimal]:
        """The marked quantities by order and lot, booked to the windows in which the pieces were made."""
        found: dict[Origin, Decimal] = {}
        for mark in marks:
            windows = self._machine.windows.by_key(mark.lot.windows)
            mark_pieces(windows, mark.quantity, what, mark.lot.ideal_s, mark.lot.material)
            self._machine.windows.changed(windows)
            found[mark.lot.origin] = found.get(mark.lot.origin, ZERO) + mark.quantity
        return found

    def _windows_at(self, at: Instant, job: Job) -> set[str]:
        return {w.key for w in self._machine.windows.at(at, job.job_order_id) if w.kind != "job"}

    def mark(self, what: str, quantity: Decimal, job: Job, at: Instant, reason: str | None = None) -> None:
        """A person's declaration of scrap or rework made around `at`; negative corrects an earlier one."""
        found = self._mark(what, self._lots.mark(what, quantity, job.job_order_id, prefer=self._windows_at(at, job)))
        rest = quantity - sum(found.values(), ZERO)
        if rest:
            # Pieces so old that only their order is remembered.
            own = self._own_window(job)
            mark_pieces(own, rest, what, self.orders.ideal_for(job)[0], self.orders.material_cost(job))
            self._machine.windows.changed(own)
            oldest: Origin = job.job_order_id, self.genealogy.lot_at(job, at)
            found[oldest] = found.get(oldest, ZERO) + rest
        for origin, marked in found.items():
            self._tell(origin, ZERO, {what: marked}, reason=reason)
        self.orders.at_quantity()

    def declare(self, job: Job, good: Decimal, scrap: Decimal, at: Instant) -> None:
        """Pieces that a person counted; negative quantities take back an earlier declaration."""
        origin = job.job_order_id, self.genealogy.lot_at(job, at)
        told: dict[Origin, dict[str, Decimal]] = {origin: {"good": ZERO, "scrap": ZERO}}
        for what, quantity in (("good", good), ("scrap", scrap)):
            if quantity > 0:
                self._make(origin, job, quantity, at, late=False)
                if what == "scrap":
                    self._mark(what, self._lots.mark(what, quantity, job.job_order_id, prefer=self._windows_at(at, job)))
                told[origin][what] += quantity
            elif quantity < 0:
                for other, taken in self._take_back(job, what, -quantity, at).items():
                    told.setdefault(other, {"good": ZERO, "scrap": ZERO})[what] -= taken
        for whose, made in told.items():
            if made["good"] or made["scrap"]:
                self._tell(whose, made["good"] + made["scrap"], {"scrap": made["scrap"]})
        self.orders.at_quantity()

    def _take_back(self, job: Job, what: str, quantity: Decimal, at: Instant) -> dict[Origin, Decimal]:
        """How many pieces were never made, by the lot that they were counted in."""
        marks = self._lots.withdraw(what, quantity, job.job_order_id, prefer=self._windows_at(at, job))
        undone = [(self._machine.windows.by_key(m.lot.windows), m.quantity, m.lot.ideal_s, m.lot.material) for m in marks]
        found: dict[Origin, Decimal] = {}
        for mark in marks:
            found[mark.lot.origin] = found.get(mark.lot.origin, ZERO) + mark.quantity
        rest = quantity - sum(found.values(), ZERO)
        if rest:
            undone.append((self._own_window(job), rest, self.orders.ideal_for(job)[0], self.orders.material_cost(job)))
            oldest: Origin = job.job_order_id, self.genealogy.lot_at(job, at)
            found[oldest] = found.get(oldest, ZERO) + rest
        for windows, taken, ideal, material in undone:
            if what == "scrap":
                mark_pieces(windows, -taken, what, ideal, material)
            add_pieces(windows, -taken, ideal, late=False, ordered=True)
            self._machine.windows.changed(windows)
        return found

    def _own_window(self, job: Job) -> list[Any]:
        own = self._machine.windows.job(job.job_order_id)
        return [] if own is None else [own]

    def reassign(self, job: Job, start: Instant, end: Instant) -> Decimal:
        """Pieces counted against no order in [start, end) become the job's; returns how many (0: none are remembered)."""
        chosen = [orphan for orphan in self._orphans if start <= orphan.at < end]
        moved = ZERO + sum(orphan.pieces for orphan in chosen)
        if not moved:
            return ZERO
        for orphan in chosen:
            orphan.pieces = 0
        self._changed_orphans += chosen
        prefer = {w.key for orphan in chosen for w in self._machine.windows.at(orphan.at, None)}
        own, material = self._machine.windows.job(job.job_order_id), self.orders.material_cost(job)
        made: dict[str | None, dict[str, Decimal]] = {}
        for lot in self._lots.hand_over(moved, job.job_order_id, own.key if own else None, prefer=prefer):
            whole = lot.good + lot.scrap + lot.rework
            totals = made.setdefault(lot.product_lot, {"produced": ZERO, "scrap": ZERO, "rework": ZERO})
            for what, quantity in (("produced", whole), ("scrap", lot.scrap), ("rework", lot.rework)):
                totals[what] += quantity
            for window in self._machine.windows.by_key(lot.windows):
                if window is own:
                    add_pieces([own], whole, lot.ideal_s, late=False, ordered=True)
                    mark_pieces([own], lot.scrap, "scrap", lot.ideal_s, material)
                    mark_pieces([own], lot.rework, "rework", lot.ideal_s, material)
                else:
                    window.without_order -= whole
                    price_scrap(window, -lot.scrap, lot.material)
                    price_scrap(window, lot.scrap, material)
                self._machine.windows.changed([window])
            lot.material = material
            if lot.product_lot is None:
                lot.product_lot = self.genealogy.lot_at(job, start)
        # Pieces so old that nobody knows which were rejected are good, as they were counted.
        forgotten = moved - sum((totals["produced"] for totals in made.values()), ZERO)
        if forgotten:
            made.setdefault(None, {"produced": ZERO, "scrap": ZERO, "rework": ZERO})["produced"] += forgotten
        for product_lot, totals in made.items():
            produced, marked = totals["produced"], {what: totals[what] for what in ("scrap", "rework")}
            self._tell((None, product_lot), -produced, {what: -quantity for what, quantity in marked.items()}, reassigned=True)
            self._tell((job.job_order_id, product_lot or self.genealogy.lot_at(job, start)), produced, marked, reassigned=True)
        self.orders.at_quantity()
        return moved

    def _tell(
        self, origin: Origin, produced: Decimal, marked: Mapping[str, Decimal], *, counted: Counted | None = None,
        counter: Number | None = None, product_id: str | None = None, while_stopped: bool = False, reassigned: bool = False,
        reason: str | None = None,
    ) -> None:  # fmt: skip
        scrap, rework = marked.get("scrap", ZERO), marked.get("rework", ZERO)
        good = produced - scrap - rework
        since = counted.since if counted else None
        job_id, product_lot = origin
        self._emit(
            QuantityCounted(
                work_unit=self._unit.name, at=moment(self._machine.now), job_order_id=job_id, produced=produced, good=good, scrap=scrap,
                rework=rework, counter=counter, late=counted is not None and counted.late,
                since=None if since is None else moment(since), while_stopped=while_stopped, reassigned=reassigned,
                product_lot_id=product_lot, product_id=product_id, reason=reason,
            )
        )  # fmt: skip
        job = self.ledger.get(job_id) if job_id else None
        self.genealogy.counted(job, product_lot, produced, scrap, rework)
        if job is not None:
            self.orders.add(job, produced, good, scrap, rework)

    def clock_set(self, by: int, renamed: Mapping[str, str]) -> None:
        """The clock was set and `machine.now` with it: what counts from an instant of the past counts on. `renamed`: keys of windows."""
        self._read_at += by
        self._lots.rename(renamed)
        self.counters.clock_set(by)
        self.orders.clock_set(by)
        self.sampling.clock_set(by)
        self._runs.change.clock_set(by)
        self.material.lots.none_later(self._machine.now)

    # --- memory ---------------------------------------------------------------------------------------------------

    def take_changed_orphans(self) -> Collection[Orphan]:
        """Instants with pieces without an order that are new or were reassigned (0 left) since the call before."""
        changed = {orphan.at: orphan for orphan in self._changed_orphans}
        self._changed_orphans.clear()
        return [changed[at] for at in sorted(changed)]

    def forget_changed(self) -> None:
        """Nobody will ask which records changed up to now."""
        self._changed_orphans.clear()
        self.ledger.take_touched()
        self.genealogy.take_changed()
        self.genealogy.take_serials()

    def dump(self) -> dict[str, Any]:
        return {
            "counters": self.counters.dump(), "lots": self._lots.dump(), "material": self.material.dump(),
            "inspection": self.inspection.dump(), "orders": self.orders.dump(), "read_at": self._read_at,
            "genealogy": self.genealogy.dump(), "results": self.inspection.dump_results(), "shortage": self.shortage.dump(),
            "sampling": self.sampling.dump(), "actions": self.actions.dump(),
            "order_change": self._runs.change.dump(),
        }  # fmt: skip

    def load(
        self, state: dict[str, Any], jobs: Iterable[dict[str, Any]], orphans: Iterable[dict[str, Any]], lots: Iterable[dict[str, Any]] = ()
    ) -> None:
        self._orphans.extend(Orphan(row["at"], Decimal(row["quantity"])) for row in sorted(orphans, key=lambda row: int(row["at"])))
        self.ledger.restore(load_job(row) for row in jobs)
        self.counters.load(state["counters"])
        self._lots.load(state["lots"])
        self.genealogy.load(state.get("genealogy", {}), lots)
        self.material.load(state["material"])
        self.inspection.load(state["inspection"])
        # A journal that was begun before these were watched says nothing of them.
        self.inspection.load_results(state.get("results", []))
        self.shortage.load(state.get("shortage", {}))
        self.sampling.load(state.get("sampling", {}))
        self.actions.load(state.get("actions", {}))
        self._read_at = state["read_at"]
        self._runs.change.load(state.get("order_change", [None, False]))
        self.orders.load(state["orders"])
