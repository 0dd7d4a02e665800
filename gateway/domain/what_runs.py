"""What runs, as far as a counted piece is concerned: which product, at which ideal time, for which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from gateway.domain.counters import Count, number
from gateway.domain.equipment import IdealTag, WorkUnit
from gateway.domain.findings import CounterFindings
from gateway.domain.instants import Instant
from gateway.domain.job import Job
from gateway.domain.ledger import Ledger
from gateway.domain.machine import MachineTime
from gateway.domain.order_change import OrderChange
from gateway.domain.orders import Orders
from gateway.domain.pieces import Pace, PieceCounters
from gateway.domain.sample import Input
from gateway.domain.state import code_of

_SHORTEST_S, _LONGEST_S = Decimal("0.0001"), Decimal(604_800)
"""Between these lies every machine; beyond them a number is what an uninitialised register holds."""


class WhatRuns:
    """`settle` and `reassign` are the production's: pieces counted so far are booked before anything changes."""

    def __init__(
        self, unit: WorkUnit, machine: MachineTime, orders: Orders, ledger: Ledger, counters: PieceCounters, findings: CounterFindings, *,
        settle: Callable[[], None], reassign: Callable[[Job, Instant, Instant], Decimal],
    ) -> None:  # fmt: skip
        self._unit = unit
        self._machine = machine
        self._orders = orders
        self._ledger = ledger
        self._counters = counters
        self._findings = findings
        self._settle = settle
        self._reassign = reassign
        self._recipes = {code_of(p.recipe): p.product_id for p in unit.products.values() if p.recipe is not None}
        self.change = OrderChange()
        leader = counters.readers.get(counters.leading or "")
        self._order_tag = leader.tag if leader is not None and leader.per_order else None
        if self._order_tag is not None:
            orders.on_start = self._order_started
        self.told = not (unit.product_tag is None and unit.ideal_tag is None and self._order_tag is None)
        """Whether anything is told beside the counters: most machines tell nothing, and each reading asks."""

    def note(self, tag: str, count: Count) -> None:
        """A counter did not just go on."""
        if count.kind == "reset" and tag == self._order_tag:
            self.change.reset(self._machine.now, running=self._machine.job is not None)

    def take(self, inputs: Mapping[str, Input]) -> bool:
        """What says how the counters are to be read, before they are; whether it had news."""
        tag, speed = self._unit.product_tag, self._unit.ideal_tag
        news = tag is not None and tag in inputs and self._take_product(inputs[tag])
        if speed is not None and speed.tag in inputs:
            news |= self._take_ideal(inputs[speed.tag], speed)
        if self.change.overdue(self._machine.now):
            self._give_back()
        return news

    def _take_product(self, held: Input) -> bool:
        product_id = self._orders.product_id if held.bad else self._recipes.get(code_of(held.value))
        if product_id == self._orders.product_id:
            return False
        self._settle()
        self._orders.product_id = product_id
        self._orders.set_ideal()
        return True

    def _take_ideal(self, held: Input, speed: IdealTag) -> bool:
        """The machine's own ideal time, if it is one: none of 0, of a bad reading, of text or of what no machine does."""
        told = None if held.bad else number(held.value)
        seconds = None if told is None or told <= 0 else 60 / Decimal(told) if speed.per_minute else Decimal(told)
        ideal = seconds if seconds is not None and _SHORTEST_S <= seconds <= _LONGEST_S else None
        if not held.bad:
            self._findings.ideal(speed.tag, held.value, self._machine.now, usable=ideal is not None)
        if ideal == self._orders.machine_ideal:
            return False
        self._settle()
        self._orders.machine_ideal = ideal
        self._orders.set_ideal()
        return True

    def paces(self) -> Mapping[str, Pace]:
        """What each product with a counter of its own should take."""
        job = self._ledger.running
        ideals = {product_id: self._orders.ideal_for(job, product_id) for product_id in self._unit.counts.by_product}
        return {product_id: (None if ideal is None else float(ideal), cavities) for product_id, (ideal, cavities) in ideals.items()}

    def owner(self, product_id: str | None) -> Job | None:
        """The running order, if a piece that is counted now is one of its own."""
        job = self._ledger.running
        if job is None or self.change.since is not None:
            return None
        return job if product_id is None or job.order.product_id in (None, product_id) else None

    def _order_started(self, job: Job) -> None:
        waiting = self.change.started(self._counters.leading_raw)
        if waiting is not None:
            self._settle()
            self._reassign(job, waiting, self._machine.now + 1)

    def _give_back(self) -> None:
        """Pieces that waited for a next order that did not come belong to the one that still runs."""
        job, waited = self._ledger.running, self.change.since
        if job is None or waited is None:
            return
        self.change.give_up()
        self._settle()
        self._reassign(job, waited, self._machine.now + 1)
        self._findings.no_next_order(self._order_tag or "", job.job_order_id, self._machine.now)
