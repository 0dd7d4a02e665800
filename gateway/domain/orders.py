"""The order side of a work unit: which job runs, what is told about it, and the dates promised for it and the queue behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, JobChanged, JobProgress, PromiseChanged, Quantity
from gateway.domain.handover import NO_ROUTE, Route
from gateway.domain.instants import SECOND, Instant, moment
from gateway.domain.job import Job
from gateway.domain.job_order import JobOrder, JobState
from gateway.domain.ledger import Ledger, Transition
from gateway.domain.machine import MachineTime
from gateway.domain.material import material_cost
from gateway.domain.material_use import MaterialUse
from gateway.domain.oee import Category, Window
from gateway.domain.outlook import pending_windows
from gateway.domain.promise import Promise, PromiseVerdict, RateLearner, Work, workload
from gateway.domain.whatif import Queue, free_from

ZERO = Decimal(0)
PROGRESS_EVERY = 10 * SECOND
"""Progress and consumption are told at once, then at most this often while pieces come; the end of a job tells the rest."""
PROMISE_EVERY = 30 * SECOND
MANY = 50
"""Open orders beyond which dates are estimated anew every PROMISE_EVERY and within a second of commands, not with each command and each
progress: every date that moves is a row to write."""
_LEARNERS = 20
"""Products whose rate is remembered; the snapshot carries them all."""
_NO_DATE = {
    JobState.INTERRUPTED: Promise(None, None, PromiseVerdict.UNKNOWN, "interrupted: no date before it is resumed"),
    JobState.NOT_ALLOWED_TO_START: Promise(None, None, PromiseVerdict.UNKNOWN, "not released: no date before it is"),
}


class Orders:
    """Reads `machine.now` as the present instant; the tracker moves it."""

    def __init__(self, unit: WorkUnit, machine: MachineTime, ledger: Ledger, material: MaterialUse, emit: Callable[[Event], None]) -> None:
        self._unit = unit
        self._machine = machine
        self._ledger = ledger
        self._material = material
        self._emit = emit
        self.route: Callable[[Job], Route] = lambda job: NO_ROUTE
        """Where an operation stands among the others of its order; whoever knows all work units says it."""
        self.on_over: Callable[[Job], None] = lambda job: None
        """Told of each job that has ended, after its last progress."""
        self.on_dated: Callable[[Job | None], None] = lambda running: None
        """Told of the running job whenever its dates were estimated: at least every PROMISE_EVERY while one runs."""
        self.on_progress: Callable[[Job], None] = lambda job: None
        """Told of each job whose progress was told."""
        self.product_id: str | None = None
        """What the product tag says; an order's own product wins."""
        self.counted: str | None = None
        """The product whose own counter moved last: what the machine makes, whatever is ordered."""
        self._mixed = False
        self.machine_ideal: Decimal | None = None
        """Seconds per piece, as the machine tells it."""
        self._learners: dict[str, RateLearner] = {}
        self._untold: set[str] = set()
        self.ideal: Decimal | None = None
        """Seconds per piece of what runs now, `ideal_s` the same for arithmetic that need not be exact; None where nobody knows."""
        self.ideal_s: float | None = None
        self.ideal_from: str | None = None
        """Who says so: order, product, machine or configuration."""
        self.cavities = 1
        self.on_start: Callable[[Job], None] = lambda job: None
        self._told_at: Instant = 0
        self._promise_at: Instant = 0
        self.free: Instant | None = None
        """When all that runs, waits and is stored here is likely done, as of the last promise; None when nobody can say."""
        self._watched = False
        """Whether there is a date that moves with time, or a verdict that must still show whether it lasts."""
        self.set_ideal()

    # --- what runs ------------------------------------------------------------------------------------------------

    def product_of(self, job: Job | None) -> str | None:
        """What the order says is made, else what the product tag says."""
        ordered = job.order.product_id if job is not None else None
        return ordered or self.product_id

    def ideal_for(self, job: Job | None, product_id: str | None = None) -> tuple[Decimal | None, int]:
        """(seconds per piece, pieces per cycle): the order's, else the product's, else the machine's own, else the unit's.

        `product_id`: what is made, where a counter says so; an order for another product says nothing of it.
        """
        ideal, _, cavities = self._ideal_for(job, product_id)
        return ideal, cavities

    def material_cost(self, job: Job | None) -> Decimal | None:
        """What the materials of one piece cost, by the bill of its order; None where nobody knows."""
        prices = self._unit.cost.materials if self._unit.cost is not None else None
        return material_cost(job.order.material_requirements, prices) if prices and job is not None else None

    def _ideal_for(self, job: Job | None, product_id: str | None) -> tuple[Decimal | None, str | None, int]:
        made = product_id or self.product_of(job)
        order = job.order if job is not None and (product_id is None or job.order.product_id in (None, product_id)) else None
        product = self._unit.products.get(made) if made else None
        ways = (
            ("order", order.ideal_cycle_time_s if order else None),
            ("product", product.ideal_cycle_time_s if product else None),
            ("machine", self.machine_ideal),
            ("configuration", self._unit.ideal_cycle_time_s),
        )
        source, ideal = next(((source, ideal) for source, ideal in ways if ideal), (None, None))
        cavities = (order.pieces_per_cycle if order else None) or (product.pieces_per_cycle if product else None)
        return ideal, source, cavities or self._unit.pieces_per_cycle

    def set_ideal(self) -> None:
        """Order or product changed: the machine is judged by another ideal time from now on."""
        self.ideal, self.ideal_from, self.cavities = self._ideal_for(self._ledger.running, self.counted)
        self.ideal_s = None if self.ideal is None else float(self.ideal)
        self._machine.set_ideal(self.ideal_s, self.cavities)
        # What another product, or the same one at another ideal time, usually takes is learned apart; two digits of that time, since a
        # machine that tells its own may tell it with noise.
        pace = "" if self.ideal_s is None else f"{self.ideal_s:.2g}"
        self._machine.drift.product(f"{self.counted or self.product_of(self._ledger.running) or ''}|{pace}", self._machine.now)

    def count_by_product(self, made: Sequence[tuple[str, Decimal]]) -> None:
        """The products' own counters moved together: the machine is judged by what these pieces should take."""
        latest, mixed = max(made, key=lambda share: share[1])[0], len(made) > 1
        if (latest, mixed) != (self.counted, False) or self._mixed:
            self.counted, self._mixed = latest, mixed
            self.set_ideal()
        due = [(self.ideal_for(self._ledger.running, product_id)[0], pieces) for product_id, pieces in made] if mixed else []
        if due and all(ideal is not None for ideal, _ in due):
            worth = sum((ideal * pieces for ideal, pieces in due if ideal is not None), ZERO)
            self._machine.set_ideal(float(worth / sum(pieces for _, pieces in due)), self.cavities)

    def at_quantity(self) -> None:
        job = self._ledger.running
        if job is not None and self._ledger.is_reached:
            self.moved(self._ledger.on_good(job.good, moment(self._machine.now)))

    def moved(self, transitions: Sequence[Transition], *, problem: str | None = None) -> None:
        """Job orders changed (also without a change of state): windows begin and end, ideal times change, and everybody is told.

        `problem`: why the gateway itself did it, where something is wrong.
        """
        now = self._machine.now
        for step in transitions:
            job = self._ledger.get(step.job_order_id)
            if step.previous is JobState.RUNNING:
                self._machine.set_job(None)
                if job is not None:
                    self._learner(job).suspend()
            if step.state is JobState.RUNNING:
                self._machine.set_job(step.job_order_id)
                self._machine.windows.start_job(step.job_order_id, now)
            if step.state in (JobState.ENDED, JobState.ABORTED) and job is not None:
                if job.started_at is not None:
                    self._untold.add(step.job_order_id)
                    self.tell_progress()
                self._machine.windows.end_job(step.job_order_id, now)
            self._emit(
                JobChanged(
                    work_unit=self._unit.name, at=moment(now), job_order_id=step.job_order_id, state=step.state.value,
                    previous=step.previous.value if step.previous else None, command_id=step.command_id, problem=problem,
                )
            )  # fmt: skip
            if step.state in (JobState.ENDED, JobState.ABORTED) and job is not None:
                self.on_over(job)
            if step.state is JobState.RUNNING and job is not None:
                self._learner(job).observe(now, ZERO)
        self._machine.follow_order()
        self.set_ideal()
        self._promise_soon()
        for job in [self._ledger.get(step.job_order_id) for step in transitions if step.state is JobState.RUNNING]:
            if job is not None and job is self._ledger.running:
                self.on_start(job)

    # --- time passes ----------------------------------------------------------------------------------------------

    def deadline(self) -> Instant | None:
        if not self._untold and not self._watched:
            return None
        told, promised = self._told_at + PROGRESS_EVERY, self._promise_at + PROMISE_EVERY
        if not self._untold:
            return promised
        return min(told, promised) if self._watched else told

    def clock_set(self, by: int) -> None:
        """Jobs that are not over began as long ago as they did, and what is told or estimated at intervals keeps its turn."""
        self._told_at += by
        self._promise_at += by
        for learner in self._learners.values():
            learner.clock_set(by)
        for job in self._open():
            job.clock_set(timedelta(microseconds=by))
            self._ledger.touch(job)

    def fire(self) -> None:
        now = self._machine.now
        if self._untold and now >= self._told_at + PROGRESS_EVERY:
            self.tell_progress()
        if self._watched and now >= self._promise_at + PROMISE_EVERY:
            self.promise()

    # --- progress -------------------------------------------------------------------------------------------------

    def add(self, job: Job, produced: Quantity, good: Quantity, scrap: Quantity, rework: Quantity) -> None:
        """More (or, corrected, fewer) pieces of the job; told soon."""
        job.produced += produced
        job.good += good
        if scrap or rework:
            job.scrap += scrap
            job.rework += rework
        self._ledger.touch(job)
        if job is self._ledger.running:
            self._learner(job).observe(self._machine.now, good)
        self._untold.add(job.job_order_id)
        if job.is_over or self._machine.now >= self._told_at + PROGRESS_EVERY:
            self.tell_progress()

    def tell_progress(self) -> None:
        """`job.progress` with cumulative totals and the delta, and the material that goes with it."""
        machine = self._machine
        machine.settle(machine.now)
        untold, self._untold = sorted(self._untold), set()
        self._told_at = machine.now
        # While a machine runs all its time is booked; of a standstill that is not decided the windows do not know yet.
        pending = {w.name: w for w in pending_windows(machine) if w.kind == "job"} if machine.settled < machine.now else {}
        for job_id in untold:
            job = self._ledger.get(job_id)
            if job is not None:
                self._material.backflush(job)
                self._progress(job, pending.get(job_id) or machine.windows.job(job_id))
        if self._ledger.open_count <= MANY:
            self.promise()

    def _progress(self, job: Job, window: Window | None) -> None:
        now, order, unit = self._machine.now, job.order, self._unit
        totals = (job.produced, job.good, job.scrap, job.rework)
        names = ("produced", "good", "scrap", "rework")
        delta = {name: total - told for name, total, told in zip(names, totals, job.told, strict=True)}
        job.told = totals
        self._ledger.touch(job)
        spent = window.required if window is not None else dict.fromkeys(Category, 0)
        run = spent[Category.RUN] + (spent[Category.MICRO] if unit.oee.micro_stop_bucket == "performance" else 0)
        shift = unit.calendar.shift_at(now)
        self._emit(
            JobProgress(
                work_unit=unit.name, at=moment(now), job_order_id=job.job_order_id, produced=job.produced, good=job.good,
                scrap=job.scrap, rework=job.rework, target=order.quantity, unit=order.unit, delta=delta, run_s=run / SECOND,
                setup_s=spent[Category.SETUP] / SECOND, stop_s=spent[Category.STOP] / SECOND, shift=shift.name if shift else None,
                shift_date=shift.day.isoformat() if shift else None, final=job.is_over, properties=dict(order.properties),
                order_id=order.order_id, operation_id=order.operation_id, lot_id=order.lot_id,
            )
        )  # fmt: skip
        self.on_progress(job)

    # --- the promise ----------------------------------------------------------------------------------------------

    def _learner(self, job: Job) -> RateLearner:
        key = job.order.product_id or job.job_order_id
        # The one used last stands last, so that the one not made for longest is forgotten.
        learner = self._learners.pop(key, None) or RateLearner(self._unit.calendar)
        self._learners[key] = learner
        if len(self._learners) > _LEARNERS:
            del self._learners[next(iter(self._learners))]
        return learner

    def _work(self, job: Job) -> Work:
        ideal, _ = self.ideal_for(job)
        known = self._learners.get(job.order.product_id or job.job_order_id)
        ideal_s = None if ideal is None else float(ideal)
        return Work(job.order, job.remaining, known.rate if known else None, ideal_s, self.route(job), job.arrival)

    def new_order(self, order: JobOrder) -> tuple[Work, bool]:
        """The work of an order that nobody has placed yet, and whether its product was ever made, planned or ordered here."""
        product = order.product_id or ""
        known = self._learners.get(product)
        configured = self._unit.products.get(product)
        ordered = next((job for job in self._open() if job.order.product_id == product), None)
        ideal_s = order.ideal_cycle_time_s or (ordered and ordered.order.ideal_cycle_time_s)
        ideal_s = ideal_s or (configured and configured.ideal_cycle_time_s) or self._unit.ideal_cycle_time_s
        here = known is not None or ordered is not None or (configured is not None and configured.ideal_cycle_time_s is not None)
        return Work(order, order.quantity, known.rate if known else None, None if ideal_s is None else float(ideal_s)), here

    def queue(self) -> Queue:
        """As it stands now. It only reads, and shares nothing that changes with what goes on here but the calendar."""
        running = self._ledger.running
        return Queue(
            self._machine.now, self._work(running) if running else None, [self._work(j) for j in self._released()], self._unit.calendar,
            changeover_s=self._unit.dispatch.changeover_s, later=self._later(),
        )  # fmt: skip

    def _open(self) -> Iterator[Job]:
        running = self._ledger.running
        yield from ([running] if running else [])
        yield from (*self._ledger.queue(), *self._ledger.interrupted)

    def _released(self) -> list[Job]:
        return [job for job in self._ledger.queue() if job.state is JobState.ALLOWED_TO_START]

    def _later(self) -> list[Work]:
        """What is stored or interrupted: no date is promised for it, but it will take its time. What nobody can estimate is left out."""
        works = [self._work(job) for job in (*self._ledger.interrupted, *self._ledger.queue()) if job.state in _NO_DATE]
        return [replace(work, route=NO_ROUTE) for work in works if workload(work)[0] is not None]

    def _promise_soon(self) -> None:
        """At once; with many open orders within a second, so that a whole plan that comes down is estimated once, not once per order."""
        if self._ledger.open_count <= MANY:
            self.promise()
        else:
            self._promise_at = min(self._promise_at, self._machine.now - PROMISE_EVERY + SECOND)
            self._watched = True

    def promise(self) -> None:
        """Estimate the running job and the released queue behind it; a change of verdict that lasts is told."""
        now = self._machine.now
        self._promise_at = now
        running = self._ledger.running
        if running is not None:
            self._learner(running).observe(now, ZERO)
        jobs = ([running] if running else []) + self._released()
        promises = self.queue().promises()
        self.free = free_from(now, promises)
        # A date given earlier does not hold for a job that was taken out of the queue since.
        waiting = [j for j in (*self._ledger.interrupted, *self._ledger.queue()) if j.state in _NO_DATE and j.promise is not None]
        dated = [*zip(jobs, promises[: len(jobs)], strict=True), *((j, _NO_DATE[j.state]) for j in waiting)]
        for job, promise in dated:
            self._give(job, promise, now)
        self._watched = bool(promises) or any(job.keeper.pending for job in waiting)
        self.on_dated(running)

    def _give(self, job: Job, promise: Promise, now: Instant) -> None:
        changed = job.promise != promise
        job.promise = promise
        previous = job.keeper.update(promise, now)
        if changed or previous is not None:
            self._ledger.touch(job)
        if previous is not None:
            self._emit(
                PromiseChanged(
                    work_unit=self._unit.name, at=moment(now), job_order_id=job.job_order_id, eta_likely=promise.eta_likely,
                    eta_safe=promise.eta_safe, verdict=promise.verdict.value, previous=previous.value, basis=promise.basis,
                )
            )  # fmt: skip

    # --- memory ---------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {
            "product_id": self.product_id, "counted": self.counted,
            "machine_ideal": None if self.machine_ideal is None else str(self.machine_ideal),
            "learners": {key: learner.dump() for key, learner in self._learners.items()},
            "untold": sorted(self._untold), "told_at": self._told_at, "promise_at": self._promise_at, "watched": self._watched,
            "free": self.free,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        self.product_id = state["product_id"]
        # Memories of before this version know neither.
        told = state.get("machine_ideal")
        self.counted, self.machine_ideal = state.get("counted"), None if told is None else Decimal(told)
        for key, learned in state["learners"].items():
            self._learners[key] = RateLearner(self._unit.calendar)
            self._learners[key].load(learned)
        self._untold = set(state["untold"])
        self._told_at, self._promise_at, self._watched = state["told_at"], state["promise_at"], state["watched"]
        # Snapshots of gateways before it was remembered do not say.
        self.free = state.get("free")
        self.set_ideal()
