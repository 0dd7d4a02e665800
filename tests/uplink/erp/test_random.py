"""Planners, operators, a bad server and kills, all at random: nothing crashes, nothing loops, and the books are right in the end."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.domain.job_order import JobState, Verb
from gateway.uplink.erp.port import PlanState
from tests.uplink.erp.conformance import Fault
from tests.uplink.erp.gateway import Gateway
from tests.uplink.erp.line import UNITS, order
from tests.uplink.erp.links import StandInLink

STEPS = 60
_BEGUN = (JobState.RUNNING, JobState.INTERRUPTED)


class Shop:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.link = StandInLink()
        self.erp = self.link.erp
        self.gateway = Gateway(self.link.uplink, self.link.clock)
        self.line = self.gateway.line
        self.changes = 0
        self.ended_by_planner: set[str] = set()
        self.deleted: dict[str, object] = {}

    async def step(self) -> None:
        act = self.chance.choice((self.plan, self.replan, self.replan, self.operate, self.produce, self.produce, self.disturb))
        act()
        for _ in range(self.chance.randrange(4)):
            await self.gateway.some_steps(self.chance)
        if self.chance.random() < 0.1:
            await self.gateway.kill()

    def plan(self) -> None:
        self.changes += 1
        name = f"OF-{len(self.erp.productions) + 1}"
        self.erp.plan(order(name), self.chance.choice(UNITS), self.chance.choice((PlanState.FORECAST, PlanState.RELEASED)))

    def replan(self) -> None:
        """What a planner does to any order that he has not ended."""
        open_ones = [p for p in self.erp.productions.values() if p.closed_at is None]
        if not open_ones:
            return
        self.changes += 1
        production = self.chance.choice(open_ones)
        what = self.chance.random()
        if what < 0.5:
            state = self.chance.choice((PlanState.FORECAST, PlanState.RELEASED, PlanState.WITHDRAWN))
            self.erp.change(production.key, state)
        elif what < 0.65:
            self.erp.change(production.key, self.chance.choice((PlanState.CANCELLED, PlanState.CLOSED)))
            self.ended_by_planner.add(production.job_order.job_order_id)
        elif what < 0.8:
            changed = replace(production.job_order, quantity=Decimal(self.chance.randrange(1, 500)))
            self.erp.change(production.key, job_order=changed)
        else:
            production.work_unit = self.chance.choice((*UNITS, "press-99"))
            self.erp.change(production.key)

    def operate(self) -> None:
        known = [p.job_order.job_order_id for p in self.erp.productions.values() if self.line.state(p.job_order.job_order_id)]
        if known:
            self.changes += 1
            verb = self.chance.choice((Verb.START, Verb.PAUSE, Verb.RESUME, Verb.STOP, Verb.ABORT, Verb.CANCEL, Verb.REVOKE_START))
            self.line.do(verb, self.chance.choice(known))

    def produce(self) -> None:
        running = [p.job_order.job_order_id for p in self.erp.productions.values()]
        running = [name for name in running if self.line.state(name) is JobState.RUNNING]
        if not running:
            return
        name = self.chance.choice(running)
        self.line.make(name, self.chance.randrange(4), self.chance.randrange(2))
        if self.chance.random() < 0.2:
            self.line.stop(name)
        if self.chance.random() < 0.2:
            self.line.measure(name, Decimal(20))

    def disturb(self) -> None:
        self.erp.fault = self.chance.choice((None, *Fault))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
async def test_a_day_in_which_everything_happens(seed: int) -> None:
    shop = Shop(seed)
    await shop.gateway.start()
    for _ in range(STEPS):
        await shop.step()
    shop.erp.fault = None
    await shop.gateway.until(lambda: shop.gateway.is_tried, "what can be booked is booked")
    for production in shop.erp.productions.values():
        name = production.job_order.job_order_id
        made = shop.line.made.get(name)
        if made is None or name in shop.ended_by_planner:
            continue
        await shop.gateway.until(
            lambda name=name, made=made: (shop.erp.booked(name).good, shop.erp.booked(name).scrap) == (made.good, made.scrap),  # type: ignore[misc]
            f"{name} booked as made",
        )
        assert (production.closed_at is not None) is (shop.line.state(name) is JobState.ENDED)
    # Nothing goes round in a loop: each happening led to a few commands, and when nothing happens nothing is asked.
    for _ in range(10):
        await shop.gateway.moment()
    asked = len(shop.line.commands) + len(shop.line.refused)
    assert asked <= 4 * shop.changes
    for _ in range(30):
        await shop.gateway.moment()
    assert len(shop.line.commands) + len(shop.line.refused) == asked
    await shop.gateway.stop()
