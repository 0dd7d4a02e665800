"""The quantity side of a work unit: pieces, the order they belong to, material, quality and the promise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from gateway.domain.counters import number
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import (
    CounterGap,
    Event,
    JobChanged,
    JobProgress,
    MaterialConsumed,
    PromiseChanged,
    QualityResult,
    QuantityCounted,
    Text,
)
from gateway.domain.instants import SECOND, Instant, moment
from gateway.domain.job import Job, load_job
from gateway.domain.job_order import JobState
from gateway.domain.ledger import Ledger, Transition
from gateway.domain.machine import MachineTime
from gateway.domain.material import Consumption, ConsumptionMode, LotBook, MeasuredConsumption, backflush, consumption_mode
from gateway.domain.oee import Category, Window
from gateway.domain.pieces import Counted, PieceCounters, PieceLots
from gateway.domain.promise import RateLearner, Work, estimate_queue
from gateway.domain.quality import effective_requirement, judge
from gateway.domain.sample import Input
from gateway.domain.signals import SHOWN_FOR, Signals
from gateway.domain.state import code_of
from gateway.domain.view import LastQuality
from gateway.domain.windows import add_pieces, mark_pieces

ZERO = Decimal(0)
PROGRESS_EVERY = 10 * SECOND
"""Progress and consumption are told at once, then at most this often while pieces come; the end of a job tells the rest."""
PROMISE_EVERY = 30 * SECOND
_LEARNERS = 20
"""Products whose rate is remembered; the snapshot carries them all."""
_ORPHANS = 20_000
"""Readings with pieces but no order that a `Reassign` can still reach."""


class Production:
    """Reads `machine.now` as the present instant; the tracker moves it."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, signals: Signals, emit: Callable[[Event], None]) -> None:
        self.unit = unit
        self.machine = machine
        self.signals = signals
        self._emit = emit
        self.ledger = Ledger(unit.name, unit.dispatch.end, unit.dispatch.next)
        self.counters = PieceCounters(unit.counts)
        self.lots = PieceLots()
        self.material_lots = LotBook()
        self.measured = {m.tag: MeasuredConsumption(m) for m in unit.materials}
        self.product_id: str | None = None
        self.last_quality: dict[str, LastQuality] = {}
        self._measured_ids = frozenset(m.material_id for m in unit.materials)
        self._recipes = {code_of(p.recipe): p.product_id for p in unit.products.values() if p.recipe is not None}
        self._limits = {q.tag: q.limits for q in unit.quality}
        self._learners: dict[str, RateLearner] = {}
        self.orphans: list[tuple[Instant, Decimal]] = []
        self.new_orphans: list[tuple[Instant, Decimal]] = []
        self._untold: set[str] = set()
        self._told_at: Instant = 0
        self._promise_at: Instant = 0
        self._read_at: Instant = 0
        self.set_ideal()

    # --- what runs ------------------------------------------------------------------------------------------------

    @property
    def running_product(self) -> str | None:
        job = self.ledger.running
        return job.order.product_id if job is not None and job.order.product_id else self.product_id

    def ideal_for(self, job: Job | None) -> tuple[Decimal | None, int]:
        """(seconds per piece, pieces per cycle): the order's, else the product's, else the unit's."""
        order = job.order if job is not None else None
        product_id = order.product_id if order is not None and order.product_id else self.product_id
        product = self.unit.products.get(product_id) if product_id else None
        ideal = (order.ideal_cycle_time_s if order else None) or (product.ideal_cycle_time_s if product else None)
        cavities = (order.pieces_per_cycle if order else None) or (product.pieces_per_cycle if product else None)
        return ideal or self.unit.ideal_cycle_time_s, cavities or self.unit.pieces_per_cycle

    def set_ideal(self) -> None:
        ideal, cavities = self.ideal_for(self.ledger.running)
        self.machine.set_ideal(None if ideal is None else float(ideal), cavities)

    # --- time passes ----------------------------------------------------------------------------------------------

    def deadline(self) -> Instant | None:
        due = [self._told_at + PROGRESS_EVERY] if self._untold else []
        if self.ledger.running is not None:
            due.append(self._promise_at + PROMISE_EVERY)
        return min(due, default=None)

    def fire(self) -> None:
        now = self.machine.now
        if self._untold and now >= self._told_at + PROGRESS_EVERY:
            self._tell_progress()
        if self.ledger.running is not None and now >= self._promise_at + PROMISE_EVERY:
            self.promise()

    # --- readings -------------------------------------------------------------------------------------------------

    def take(self, inputs: Mapping[str, Input]) -> None:
        """The inputs of one sample, counters first, then measurements."""
        tag = self.unit.product_tag
        if tag is not None and tag in inputs and not inputs[tag].bad:
            self.product_id = self._recipes.get(code_of(inputs[tag].value))
            self.set_ideal()
        ideal, cavities = self.ideal_for(self.ledger.running)
        counted = self.counters.read(inputs, self.machine.now, None if ideal is None else float(ideal), cavities)
        if counted is not None:
            self._count(counted)
        if not self.counters.tags.isdisjoint(inputs) and any(inputs[t].bad for t in self.counters.tags if t in inputs):
            self.machine.gap_unjudged()
            if self.machine.by_gap:
                self.machine.lose()
        for measured_tag, measured in self.measured.items():
            if measured_tag in inputs:
                self._measure(measured, inputs[measured_tag])
        for quality_tag, limits in self._limits.items():
            if quality_tag in inputs:
                self._check(quality_tag, limits.characteristic, inputs[quality_tag])

    def _count(self, counted: Counted) -> None:
        now, job = self.machine.now, self.ledger.running
        for tag, gap in counted.gaps:
            self._tell_gap(tag, gap.kind, gap.previous, gap.since, undone=gap.undone)
        # A glitch, its confirmation or a reset leaves open what was made in between, so that gap is not judged.
        bad_gap = any(gap.kind in ("glitch", "level", "reset") or gap.undone for _, gap in counted.gaps)
        while_stopped = counted.produced > 0 and self.machine.stand is not None and self.machine.stand.start < self._read_at
        if counted.seen:
            self.machine.piece(int(counted.produced), judge=not (counted.late or bad_gap or counted.baseline))
            self._read_at = now
        elif bad_gap:
            self.machine.gap_unjudged()
        if counted.produced or counted.scrap or counted.rework:
            self.book(counted.produced, counted.scrap, counted.rework, job, counter=counted.counter, late=counted.late,
                      since=counted.since, while_stopped=while_stopped)  # fmt: skip

    def book(
        self, produced: Decimal, scrap: Decimal, rework: Decimal, job: Job | None, *, counter: Decimal | None = None, late: bool = False,
        since: Instant | None = None, while_stopped: bool = False,
    ) -> None:  # fmt: skip
        """New pieces of `job` (all good at first), then marks on the latest pieces not yet rejected."""
        when = self.machine.now
        ideal, _ = self.ideal_for(job)
        job_id = job.job_order_id if job else None
        if produced:
            windows = self.machine.windows.at(when, job_id)
            add_pieces(windows, produced, ideal, late=late, ordered=job is not None)
            self.machine.windows.changed(windows)
            self.lots.add(tuple(w.key for w in windows), job_id, ideal, produced)
            if job is None:
                self.new_orphans.append((when, produced))
                self.orphans.append((when, produced))
                del self.orphans[:-_ORPHANS]
        marked: dict[str | None, dict[str, Decimal]] = {}
        for what, quantity in (("scrap", scrap), ("rework", rework)):
            for lot_job, taken in self._mark(what, quantity).items():
                marked.setdefault(lot_job, {})[what] = taken
        mine = marked.pop(job_id, {})
        if produced or mine:
            self._tell_quantity(job_id, produced, mine, counter=counter, late=late, since=since, while_stopped=while_stopped)
        for lot_job, other in marked.items():
            self._tell_quantity(lot_job, ZERO, other, counter=counter, late=late, since=since)
        self._at_quantity()

    def _mark(self, what: str, quantity: Decimal, job: str | None = None, prefer: Collection[str] = ()) -> dict[str | None, Decimal]:
        """Scrap or rework marks by job; what finds no good piece to mark is told and dropped: good never falls below 0."""
        found: dict[str | None, Decimal] = {}
        if quantity > 0:
            marks = self.lots.mark(quantity, job, prefer=prefer)
        else:
            marks = self.lots.unmark(-quantity, job, prefer=prefer) if quantity else []
        for mark in marks:
            windows = self.machine.windows.by_key(mark.lot.windows)
            mark_pieces(windows, mark.quantity, what, mark.lot.ideal_s)
            self.machine.windows.changed(windows)
            found[mark.lot.job] = found.get(mark.lot.job, ZERO) + mark.quantity
        missing = abs(quantity) - sum((abs(q) for q in found.values()), ZERO)
        if missing > 0:
            self._disagree(missing)
        return found

    def _disagree(self, missing: Decimal) -> None:
        now = self.machine.now
        self.signals.raise_(
            "counter.disagree", "warning",
            Text(f"{missing} rebuts de plus que de pièces produites : les compteurs se contredisent.",
                 f"{missing} more rejects than pieces made: the counters disagree."),
            Text("Contrôler les compteurs de pièces et de rebuts.", "Check the piece and reject counters."),
            now, until=now + SHOWN_FOR,
        )  # fmt: skip

    def mark(self, what: str, quantity: Decimal, job: Job, at: Instant) -> None:
        """A person's declaration of scrap or rework made around `at`; negative corrects an earlier one."""
        windows = {w.key for w in self.machine.windows.at(at, job.job_order_id)}
        for lot_job, taken in self._mark(what, quantity, job.job_order_id, windows).items():
            self._tell_quantity(lot_job, ZERO, {what: taken})
        self._at_quantity()

    def declare(self, job: Job, good: Decimal, scrap: Decimal, at: Instant) -> None:
        """Pieces that a person counted; negative quantities take back an earlier declaration."""
        windows = self.machine.windows.at(at, job.job_order_id)
        ideal, _ = self.ideal_for(job)
        add_pieces(windows, good + scrap, ideal, late=False, ordered=True)
        mark_pieces(windows, scrap, "scrap", ideal)
        self.machine.windows.changed(windows)
        if good > 0:
            self.lots.add(tuple(w.key for w in windows), job.job_order_id, ideal, good)
        elif good < 0:
            self.lots.mark(-good, job.job_order_id, prefer={w.key for w in windows})
        self._tell_quantity(job.job_order_id, good + scrap, {"scrap": scrap})
        self._at_quantity()

    def reassign(self, job: Job, start: Instant, end: Instant) -> Decimal:
        """Pieces counted against no order in [start, end) become the job's; returns how many (0: none are remembered)."""
        moved = sum((quantity for at, quantity in self.orphans if start <= at < end), ZERO)
        if not moved:
            return ZERO
        self.orphans = [(at, quantity) for at, quantity in self.orphans if not start <= at < end]
        good = ZERO
        own = self.machine.windows.job(job.job_order_id)
        for mark in self.lots.mark(moved, orphans=True):
            good += mark.quantity
            for window in self.machine.windows.by_key(mark.lot.windows):
                window.without_order -= mark.quantity
            keys = mark.lot.windows + ((own.key,) if own is not None else ())
            self.lots.add(keys, job.job_order_id, mark.lot.ideal_s, mark.quantity)
        if own is not None:
            ideal, _ = self.ideal_for(job)
            add_pieces([own], moved, ideal, late=False, ordered=True)
            mark_pieces([own], moved - good, "scrap", ideal)
            self.machine.windows.changed([own])
        job.produced += moved
        job.good += good
        job.scrap += moved - good
        self.ledger.touch(job)
        self._untold.add(job.job_order_id)
        self._tell_progress()
        self._at_quantity()
        return moved

    def _tell_quantity(
        self, job_id: str | None, produced: Decimal, marked: Mapping[str, Decimal], *, counter: Decimal | None = None, late: bool = False,
        since: Instant | None = None, while_stopped: bool = False,
    ) -> None:  # fmt: skip
        scrap, rework = marked.get("scrap", ZERO), marked.get("rework", ZERO)
        good = produced - scrap - rework
        self._emit(
            QuantityCounted(
                work_unit=self.unit.name, at=moment(self.machine.now), job_order_id=job_id, produced=produced, good=good, scrap=scrap,
                rework=rework, counter=counter, late=late, since=None if since is None else moment(since), while_stopped=while_stopped,
            )
        )  # fmt: skip
        job = self.ledger.get(job_id) if job_id else None
        if job is None:
            return
        job.produced += produced
        job.good += good
        job.scrap += scrap
        job.rework += rework
        self.ledger.touch(job)
        if job is self.ledger.running:
            self._learner(job).observe(self.machine.now, good)
        self._untold.add(job.job_order_id)
        if job.is_over or self.machine.now >= self._told_at + PROGRESS_EVERY:
            self._tell_progress()

    def _tell_gap(self, tag: str, kind: str | None, previous: Any, since: Instant | None, *, undone: bool) -> None:
        now = self.machine.now
        reader = next(r for r in self.counters.readers.values() if r.tag == tag)
        value = reader.suspect if kind == "glitch" else reader.raw
        if kind is not None:
            self._emit(
                CounterGap(
                    work_unit=self.unit.name, at=moment(now), job_order_id=self.machine.job, kind=kind, tag=tag,
                    previous=None if previous is None else Decimal(previous), value=None if value is None else Decimal(value),
                    gap_s=None if since is None else (now - since) / SECOND,
                )
            )  # fmt: skip
        if kind == "glitch":
            jump = Decimal(value or 0) - Decimal(previous or 0)
            self.signals.raise_(
                f"counter.glitch:{tag}", "warning",
                Text(f"Saut du compteur {tag} de {jump:+}, non compté.", f"Counter {tag} jumped by {jump:+}, not counted."),
                Text("Contrôler le compteur et son câblage.", "Check the counter and its wiring."), now, detail=f"{previous} -> {value}",
            )  # fmt: skip
        elif kind == "level" or undone:
            self.signals.clear(f"counter.glitch:{tag}", now)
        elif kind == "reset":
            self.signals.raise_(
                f"counter.reset:{tag}", "info",
                Text(f"Compteur {tag} remis à zéro.", f"Counter {tag} was reset."),
                Text("Le signaler si ce n'était pas prévu.", "Report it if it was not planned."), now,
                detail=f"{previous} -> {value}", until=now + SHOWN_FOR,
            )  # fmt: skip

    # --- orders ---------------------------------------------------------------------------------------------------

    def _at_quantity(self) -> None:
        job = self.ledger.running
        if job is not None:
            self.moved(self.ledger.on_good(job.good, moment(self.machine.now)))

    def moved(self, transitions: Iterable[Transition], problem: str | None = None) -> None:
        """Job orders changed state: their windows begin and end, and everybody is told."""
        now = self.machine.now
        for step in transitions:
            job = self.ledger.get(step.job_order_id)
            if step.previous is JobState.RUNNING:
                self.machine.set_job(None)
                if job is not None:
                    self._learner(job).suspend()
            if step.state is JobState.RUNNING:
                self.machine.set_job(step.job_order_id)
                self.machine.windows.start_job(step.job_order_id, now)
            self.set_ideal()
            over = step.state in (JobState.ENDED, JobState.ABORTED)
            if over and job is not None:
                if job.started_at is not None:
                    self._untold.add(step.job_order_id)
                    self._tell_progress()
                self.machine.windows.end_job(step.job_order_id, now)
            self._emit(
                JobChanged(
                    work_unit=self.unit.name, at=moment(now), job_order_id=step.job_order_id, state=step.state.value,
                    previous=step.previous.value if step.previous else None, command_id=step.command_id, problem=problem,
                )
            )  # fmt: skip
            if step.state is JobState.RUNNING and job is not None:
                self._learner(job).observe(now, ZERO)
        self.promise()

    def _tell_progress(self) -> None:
        """`job.progress` with cumulative totals and the delta, and the material that goes with it."""
        now = self.machine.now
        self.machine.settle(now)
        untold, self._untold = sorted(self._untold), set()
        self._told_at = now
        pending = {w.name: w for w in self.machine.pending_windows() if w.kind == "job"}
        for job_id in untold:
            job = self.ledger.get(job_id)
            if job is not None:
                self._consume(job)
                self._progress(job, pending.get(job_id) or self.machine.windows.job(job_id))
        self.promise()

    def _progress(self, job: Job, window: Window | None) -> None:
        now, order = self.machine.now, job.order
        totals = (job.produced, job.good, job.scrap, job.rework)
        names = ("produced", "good", "scrap", "rework")
        delta = {name: total - told for name, total, told in zip(names, totals, job.told, strict=True)}
        job.told = totals
        self.ledger.touch(job)
        spent = window.required if window is not None else dict.fromkeys(Category, 0)
        run = spent[Category.RUN] + (spent[Category.MICRO] if self.unit.oee.micro_stop_bucket == "performance" else 0)
        shift = self.unit.calendar.shift_at(now)
        self._emit(
            JobProgress(
                work_unit=self.unit.name, at=moment(now), job_order_id=job.job_order_id, produced=job.produced, good=job.good,
                scrap=job.scrap, rework=job.rework, target=order.quantity, unit=order.unit, delta=delta, run_s=run / SECOND,
                setup_s=spent[Category.SETUP] / SECOND, stop_s=spent[Category.STOP] / SECOND, shift=shift.name if shift else None,
                shift_date=shift.day.isoformat() if shift else None, final=job.is_over, properties=dict(order.properties),
                order_id=order.order_id, operation_id=order.operation_id, lot_id=order.lot_id,
            )
        )  # fmt: skip

    # --- material and quality -------------------------------------------------------------------------------------

    def _consume(self, job: Job) -> None:
        pieces = job.good + job.scrap - job.backflushed
        job.backflushed += pieces
        bookings = backflush(
            job.order.material_requirements, pieces, job.materials, self.material_lots, self.machine.now, measured=self._measured_ids
        )
        for booking in bookings:
            self._tell_consumption(job, booking)

    def _measure(self, measured: MeasuredConsumption, held: Input) -> None:
        value = None if held.bad else number(held.value)
        step = None if value is None else measured.observe(Decimal(value))
        job, material = self.ledger.running, measured.material
        if step is None or not step.quantity or job is None:
            return
        mode = consumption_mode(material.material_id, job.order.material_requirements, self._measured_ids)
        if mode is not ConsumptionMode.MEASURED:
            return
        lot = self.material_lots.lot_at(material.material_id, self.machine.now)
        booking = job.materials.book(material.material_id, step.quantity, material.unit, lot_id=lot, mode=mode)
        self.ledger.touch(job)
        self._tell_consumption(job, booking)

    def _tell_consumption(self, job: Job, booking: Consumption) -> None:
        self._emit(
            MaterialConsumed(
                work_unit=self.unit.name, at=moment(self.machine.now), job_order_id=job.job_order_id, material_id=booking.material_id,
                lot_id=booking.lot_id, use="Consumed", quantity=booking.quantity, total=booking.total, unit=booking.unit,
                mode=booking.mode.value,
            )
        )  # fmt: skip

    def _check(self, tag: str, characteristic: str, held: Input) -> None:
        """A new value of a measured characteristic; an unchanged one is no new measurement."""
        value = None if held.bad else number(held.value)
        last = self.last_quality.get(tag)
        if value is None or (last is not None and last.value == Decimal(value)):
            return
        self.judge(characteristic, Decimal(value), self.ledger.running, tag=tag)

    def judge(self, characteristic: str, value: Decimal, job: Job | None, *, tag: str | None = None, lot_id: str | None = None) -> bool:
        """Judge one value by the order's limits, else the unit's own; False when nobody asked for this characteristic."""
        own = next((q.limits for q in self.unit.quality if q.limits.characteristic == characteristic), None)
        limits = effective_requirement(characteristic, own, order=job.order.quality_requirements if job else ())
        if limits is None:
            return False
        result = judge(limits, value)
        if job is not None:
            job.count_result(result)
            self.ledger.touch(job)
        at = moment(self.machine.now)
        self.last_quality[tag or characteristic] = LastQuality(characteristic, value, at, result.value, replace(limits))
        self._emit(
            QualityResult(
                work_unit=self.unit.name, at=at, job_order_id=job.job_order_id if job else None, characteristic=characteristic,
                value=value, unit=limits.unit, lower=limits.lower, target=limits.target, upper=limits.upper, result=result.value,
                required_by=limits.required_by, lot_id=lot_id or (job.order.lot_id if job else None),
            )
        )  # fmt: skip
        return True

    # --- the promise ----------------------------------------------------------------------------------------------

    def _learner(self, job: Job) -> RateLearner:
        key = job.order.product_id or job.job_order_id
        if key not in self._learners:
            if len(self._learners) >= _LEARNERS:
                del self._learners[next(iter(self._learners))]
            self._learners[key] = RateLearner(self.unit.calendar)
        return self._learners[key]

    def _work(self, job: Job) -> Work:
        ideal, _ = self.ideal_for(job)
        key = job.order.product_id or job.job_order_id
        known = self._learners.get(key)
        return Work(job.order, job.remaining, known.rate if known else None, None if ideal is None else float(ideal))

    def promise(self) -> None:
        """Estimate the running job and the released queue behind it; a change of verdict that lasts is told."""
        now = self.machine.now
        self._promise_at = now
        running = self.ledger.running
        jobs = ([running] if running else []) + [j for j in self.ledger.queue() if j.state is JobState.ALLOWED_TO_START]
        if running is not None:
            self._learner(running).observe(now, ZERO)
        promises = estimate_queue(now, [self._work(j) for j in jobs], self.unit.calendar)
        for job, promise in zip(jobs, promises, strict=True):
            changed = job.promise != promise
            job.promise = promise
            previous = job.keeper.update(promise, now)
            if changed or previous is not None:
                self.ledger.touch(job)
            if previous is not None:
                self._emit(
                    PromiseChanged(
                        work_unit=self.unit.name, at=moment(now), job_order_id=job.job_order_id, eta_likely=promise.eta_likely,
                        eta_safe=promise.eta_safe, verdict=promise.verdict.value, previous=previous.value, basis=promise.basis,
                    )
                )  # fmt: skip

    # --- memory ---------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {
            "counters": self.counters.dump(), "lots": self.lots.dump(), "material_lots": self.material_lots.dump(),
            "measured": {tag: m.dump() for tag, m in self.measured.items()}, "product_id": self.product_id,
            "learners": {key: learner.dump() for key, learner in self._learners.items()}, "untold": sorted(self._untold),
            "told_at": self._told_at, "promise_at": self._promise_at, "read_at": self._read_at,
        }  # fmt: skip

    def load(self, state: dict[str, Any], jobs: Iterable[dict[str, Any]], orphans: Iterable[dict[str, Any]]) -> None:
        self.orphans = sorted((row["at"], Decimal(row["quantity"])) for row in orphans)
        self.ledger.restore(load_job(row) for row in jobs)
        self.counters.load(state["counters"])
        self.lots.load(state["lots"])
        self.material_lots = LotBook.load(state["material_lots"])
        for tag, measured in self.measured.items():
            if tag in state["measured"]:
                measured.load(state["measured"][tag])
        self.product_id = state["product_id"]
        for key, learned in state["learners"].items():
            self._learners[key] = RateLearner(self.unit.calendar)
            self._learners[key].load(learned)
        self._untold = set(state["untold"])
        self._told_at, self._promise_at, self._read_at = state["told_at"], state["promise_at"], state["read_at"]
        self.set_ideal()
