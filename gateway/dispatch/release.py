"""Orders down to the machine: what the job that begins is, written to its PLC once, read back, and told before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from drivers.base import Clock, Quality, Value
from gateway.dispatch.writing import LINK_WAIT_S, DeviceWriter, difference
from gateway.domain.equipment import Product, ReleaseRule
from gateway.domain.events import CommandWritten, Event, JobChanged, Text
from gateway.domain.job import WriteState
from gateway.domain.job_order import JobOrder, JobState
from gateway.metrics import Metrics
from gateway.seams import AlertBoard

STANDSTILL_WAIT_S = 600.0
"""How long `only_when: stopped` waits for the machine to stand; by then somebody must decide."""
ACCEPT_S = 10.0
"""How long the PLC may take to answer the strobe."""
STROBE_S = 1.0
"""How long the strobe stands where the PLC does not answer it: several cycles of any PLC."""
LOOK_S = 0.25
COMPARE_S = 5.0
"""How often a machine that has other values than its order is looked at again: somebody may set them by hand."""

_WORDS = {"quantity": Text("quantité", "quantity"), "product": Text("produit", "product"), "job": Text("OF", "order")}


@dataclass(frozen=True)
class Setpoint:
    """One tag of `release:`. `what`: quantity, product, job, property (its `name`), strobe, accepted; `reference` as configured."""

    what: str
    reference: str
    device: str
    tag: str
    name: str = ""

    @property
    def word(self) -> Text:
        return _WORDS.get(self.what) or Text(self.name, self.name)


@dataclass(frozen=True)
class ReleasePlan:
    """What a work unit's machine is told, with every tag resolved. `values` in the order in which they are written."""

    work_unit: str
    values: tuple[Setpoint, ...]
    only_when_stopped: bool = False
    strobe: Setpoint | None = None
    accepted: Setpoint | None = None

    @property
    def devices(self) -> frozenset[str]:
        found = (*self.values, self.strobe, self.accepted)
        return frozenset(setpoint.device for setpoint in found if setpoint is not None)


class RunningJob(Protocol):
    """`gateway.domain.job.Job`, as far as it is read here."""

    written: WriteState

    @property
    def order(self) -> JobOrder: ...


class UnitOrders(Protocol):
    """A work unit's tracker, as its machine's side of the orders sees it."""

    def running(self) -> RunningJob | None:
        """The job that runs now."""

    def stands(self) -> bool:
        """The machine certainly stands: False while it runs or its state is unknown."""

    def mark(self, job_order_id: str, state: WriteState) -> None:
        """Keep with the job what became of writing it, in the transaction of the events recorded in the same step."""


class Journal(Protocol):
    """Where events become durable (`gateway.app.line.LineJournal`)."""

    def record(self, events: Sequence[Event]) -> None: ...

    async def committed(self) -> None: ...


class Release:
    """One work unit's orders on their way to its machine.

    An order is written at most once, when it enters Running while this process watches: that a write was begun is on disk before its
    first byte leaves. Everything else only reads: after a restart (unless the order was written in full), and when an interrupted order
    is resumed, the tags are compared with the order, and a difference is an alert until somebody has set the machine or the job ends.
    """

    def __init__(
        self,
        plan: ReleasePlan,
        products: Mapping[str, Product],
        orders: UnitOrders,
        writers: Mapping[str, DeviceWriter],
        journal: Journal,
        alerts: AlertBoard,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._plan = plan
        self._products = products
        self._orders = orders
        self._writers = writers
        self._journal = journal
        self._alerts = alerts
        self._clock = clock
        self._written = metrics.orders_written
        self._key = f"release:{plan.work_unit}"
        self._alerted: str | None = None
        self._entered: str | None = None
        self._doubted: str | None = None
        """The job whose values on the machine are still to be compared."""
        self._changed = asyncio.Event()

    @property
    def work_unit(self) -> str:
        return self._plan.work_unit

    def on_event(self, event: Event) -> None:
        """Told of every event that is recorded, in the loop."""
        if isinstance(event, JobChanged) and event.work_unit == self._plan.work_unit:
            if event.state == JobState.RUNNING:
                self._entered = event.job_order_id
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled; a write that is cut short is told by the comparison after the restart."""
        while True:
            self._changed.clear()
            await self._serve()
            await self._changed.wait()

    async def _serve(self) -> None:
        job = self._orders.running()
        if self._alerted is not None and (job is None or job.order.job_order_id != self._alerted):
            self._clear()
        if job is None:
            return
        job_id = job.order.job_order_id
        entered, self._entered = self._entered == job_id, None
        if entered and job.written is WriteState.NONE:
            await self._release(job.order)
        elif entered or job.written is not WriteState.WRITTEN:
            self._doubted = job_id
        if self._doubted == job_id:
            await self._compare(job_id)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _release(self, order: JobOrder) -> None:
        missing = [setpoint for setpoint in self._plan.values if self._value(setpoint, order) is None]
        if missing:
            problem: str | None = f"the order has no {', '.join(setpoint.word.en for setpoint in missing)}"
        else:
            problem = await self._until_ready(order)
        if not self._runs(order.job_order_id):
            return
        for setpoint in self._plan.values if problem is None else ():
            problem = await self._write(order, setpoint, self._value(setpoint, order))
            if problem is not None:
                break
        if problem is None and self._plan.strobe is not None:
            problem = await self._handshake(order, self._plan.strobe)
        # Without an await since the last event: the mark is in its transaction.
        self._orders.mark(order.job_order_id, WriteState.FAILED if problem else WriteState.WRITTEN)
        self._written.labels(self._plan.work_unit, "failed" if problem else "written").inc()
        if problem is None:
            self._clear()
        else:
            self._raise(order, problem)
            self._doubted = order.job_order_id

    async def _until_ready(self, order: JobOrder) -> str | None:
        """Wait for the link, and for the machine to stand where it must. Returns why it will not be; None also when the job is over."""
        now = self._clock.monotonic()
        link_until, stand_until = now + LINK_WAIT_S, now + STANDSTILL_WAIT_S
        while self._runs(order.job_order_id):
            hindrance = self._hindrance()
            if hindrance is None:
                return None
            now = self._clock.monotonic()
            if self._down():
                if now >= link_until:
                    return f"{hindrance} for {LINK_WAIT_S:g} s"
            elif now >= stand_until:
                return f"{hindrance} for {STANDSTILL_WAIT_S:g} s"
            else:
                link_until = now + LINK_WAIT_S
            await self._clock.sleep(LOOK_S)
        return None

    def _down(self) -> list[str]:
        return sorted(device for device in self._plan.devices if not self._writers[device].is_up)

    def _hindrance(self) -> str | None:
        down = self._down()
        if down:
            return f"no link to {', '.join(down)}"
        return "the machine did not stand" if self._plan.only_when_stopped and not self._orders.stands() else None

    async def _write(self, order: JobOrder, setpoint: Setpoint, value: Value, *, check: bool = True) -> str | None:
        self._record(order, setpoint, value, "before", None)
        self._orders.mark(order.job_order_id, WriteState.BEGUN)
        await self._journal.committed()
        problem = None
        if setpoint == self._plan.values[0]:
            # A commit may take long (a full disk): what allowed the release must still hold. Once begun it is carried to its end.
            problem = self._hindrance() if self._runs(order.job_order_id) else "the job no longer runs"
        if problem is None:
            problem = await self._writers[setpoint.device].write(setpoint.tag, value, check=check)
        self._record(order, setpoint, value, "after", problem)
        return problem

    async def _handshake(self, order: JobOrder, strobe: Setpoint) -> str | None:
        """Raise the strobe, wait for the PLC's answer, take it back."""
        accepted = self._plan.accepted
        if await self._is_up(strobe):
            # Left by a gateway that was stopped in between: the PLC needs an edge.
            await self._write(order, strobe, False, check=False)
            await self._clock.sleep(STROBE_S)
        if accepted is not None and await self._is_up(accepted):
            return f"{accepted.reference} stands already before the strobe"
        problem = await self._write(order, strobe, True, check=False)
        if problem is None and accepted is None:
            await self._clock.sleep(STROBE_S)
        elif problem is None and accepted is not None:
            problem = await self._until_accepted(accepted)
        lowered = await self._write(order, strobe, False, check=False)
        return problem or lowered

    async def _until_accepted(self, accepted: Setpoint) -> str | None:
        until = self._clock.monotonic() + ACCEPT_S
        while not await self._is_up(accepted):
            if self._clock.monotonic() >= until:
                return f"{accepted.reference} did not come within {ACCEPT_S:g} s of the strobe"
            await self._clock.sleep(LOOK_S)
        return None

    async def _is_up(self, setpoint: Setpoint) -> bool:
        reading = await self._writers[setpoint.device].read(setpoint.tag)
        return reading is not None and reading.quality is not Quality.BAD and bool(reading.value)

    # --- comparing ----------------------------------------------------------------------------------------------------

    async def _compare(self, job_id: str) -> None:
        """Read until the machine has what the order says or orders change; a difference is told once."""
        while (order := self._running_order(job_id)) is not None:
            found = await self._differences(order)
            if found is not None and self._runs(job_id):
                problems = [problem for problem in found.values() if problem is not None]
                if not problems and self._plan.strobe is not None and not self._was_written():
                    # The values stand in the machine, but only an answered strobe makes it use them.
                    problems = [f"whether the PLC took the values at {self._plan.strobe.reference} is not known"]
                self._settle_begun(order, found)
                self._orders.mark(job_id, WriteState.FAILED if problems else WriteState.WRITTEN)
                if not problems:
                    self._clear()
                    return
                if self._alerted is None:
                    self._raise(order, "; ".join(problems))
            try:
                async with self._clock.timeout(COMPARE_S):
                    await self._changed.wait()
                return
            except TimeoutError:
                continue

    async def _differences(self, order: JobOrder) -> dict[Setpoint, str | None] | None:
        """Setpoint -> how the machine differs; None while it cannot be asked."""
        found: dict[Setpoint, str | None] = {}
        for setpoint in self._plan.values:
            value = self._value(setpoint, order)
            reading = await self._writers[setpoint.device].read(setpoint.tag)
            if reading is None:
                return None
            if value is not None:
                found[setpoint] = difference(value, reading)
        # An order that says nothing of a value can never be seen on the machine.
        return found if len(found) == len(self._plan.values) else None

    def _was_written(self) -> bool:
        job = self._orders.running()
        return job is not None and job.written is WriteState.WRITTEN

    def _settle_begun(self, order: JobOrder, found: Mapping[Setpoint, str | None]) -> None:
        """A write that a stop of the gateway cut short has no event after it yet: this is what became of it."""
        job = self._orders.running()
        if job is None or job.written is not WriteState.BEGUN:
            return
        for setpoint, problem in found.items():
            self._record(order, setpoint, self._value(setpoint, order), "after", problem and f"cut short by a restart; {problem}")
        self._orders.mark(order.job_order_id, WriteState.FAILED)

    # --- words --------------------------------------------------------------------------------------------------------

    def _running_order(self, job_id: str) -> JobOrder | None:
        job = self._orders.running()
        return job.order if job is not None and job.order.job_order_id == job_id else None

    def _runs(self, job_id: str) -> bool:
        return self._running_order(job_id) is not None

    def _value(self, setpoint: Setpoint, order: JobOrder) -> Value:
        """What the order says for a tag; None: nothing."""
        if setpoint.what == "quantity":
            return None if order.quantity is None else _number(order.quantity)
        if setpoint.what == "product":
            product = self._products.get(order.product_id or "")
            return product.recipe if product is not None and product.recipe is not None else order.product_id
        if setpoint.what == "property":
            return _written(order.properties.get(setpoint.name))
        return order.job_order_id

    def _record(self, order: JobOrder, setpoint: Setpoint, value: Value, phase: str, problem: str | None) -> None:
        self._journal.record(
            [
                CommandWritten(
                    work_unit=self._plan.work_unit, at=self._clock.now(), job_order_id=order.job_order_id, tag=setpoint.reference,
                    value=value, phase=phase, problem=problem,
                )
            ]
        )  # fmt: skip

    def _raise(self, order: JobOrder, problem: str) -> None:
        unit, job = self._plan.work_unit, order.job_order_id
        wanted = [(setpoint.word, self._value(setpoint, order)) for setpoint in self._plan.values]
        missing = [word for word, value in wanted if value is None]
        if missing:
            remedy = Text(
                f"Compléter l’ordre : {', '.join(w.fr for w in missing)}.", f"Complete the order: {', '.join(w.en for w in missing)}."
            )
        else:
            fr, en = (", ".join(f"{getattr(word, language)} {value}" for word, value in wanted) for language in ("fr", "en"))
            remedy = Text(f"Régler à la machine : {fr}.", f"Set at the machine: {en}.")
        text = Text(f"{unit} : machine non réglée pour {job}.", f"{unit}: the machine is not set for {job}.")
        self._alerted = job
        self._alerts.raise_(self._key, "warning", text, remedy, work_unit=unit, detail=problem)

    def _clear(self) -> None:
        self._alerted = self._doubted = None
        self._alerts.clear(self._key)


def _number(quantity: Decimal) -> Value:
    return int(quantity) if quantity == quantity.to_integral_value() else float(quantity)


def _written(value: Any) -> Value:
    """A property of an order as a tag takes it; None for what is no single value (a list, an object)."""
    if isinstance(value, Decimal):
        return _number(value)
    return value if isinstance(value, bool | int | float | str) else None


def make_plan(work_unit: str, rule: ReleaseRule, resolve: Callable[[str], tuple[str, str]]) -> ReleasePlan:
    """`resolve` gives device and tag of a reference."""
    properties = [Setpoint("property", reference, *resolve(reference), name) for name, reference in rule.properties.items()]
    # The quantity last: a machine that begins at it then already knows what and for whom.
    references = {name: getattr(rule, name) for name in ("job", "product", "quantity", "strobe", "accepted")}
    found = {what: Setpoint(what, reference, *resolve(reference)) for what, reference in references.items() if reference is not None}
    named = [found[what] for what in ("job", "product") if what in found]
    values = (*named, *properties, *([found["quantity"]] if "quantity" in found else []))
    return ReleasePlan(work_unit, tuple(values), rule.only_when_stopped, found.get("strobe"), found.get("accepted"))
