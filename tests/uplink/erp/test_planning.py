"""What planners do in the ERP while the line works: each act ends in the right job state, told once, and never in a loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.domain.job_order import JobState, Verb
from gateway.uplink.erp.port import PlanState
from gateway.uplink.erp.told import ACTS_SHOWN_S
from tests.uplink.erp.gateway import Gateway
from tests.uplink.erp.line import order
from tests.uplink.erp.links import StandInLink


class Plant:
    """A gateway on the ERP in memory."""

    def __init__(self) -> None:
        self.link = StandInLink()
        self.erp = self.link.erp
        self.gateway = Gateway(self.link.uplink, self.link.clock)
        self.line = self.gateway.line

    async def polled(self, times: int = 4) -> None:
        """The ERP has been asked for orders, and what it said was done."""
        for _ in range(times):
            assert self.gateway.forwarder is not None
            self.gateway.forwarder.notify()
            await self.link.clock.advance(1.1)

    async def running(self, name: str = "OF-1", *, state: PlanState = PlanState.RELEASED) -> str:
        key = self.erp.plan(order(name), "press-07", state)
        await self.polled(2)
        return key

    @property
    def told(self) -> set[str]:
        return set(self.gateway.alerts.up)


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    made = Plant()
    await made.gateway.start()
    yield made
    await made.gateway.stop()
    assert made.erp.violations == []


async def test_a_forecast_is_stored_and_starts_when_it_is_released(plant: Plant) -> None:
    key = await plant.running(state=PlanState.FORECAST)
    assert plant.line.state("OF-1") is JobState.NOT_ALLOWED_TO_START
    plant.erp.change(key, PlanState.RELEASED)
    await plant.polled()
    assert plant.line.state("OF-1") is JobState.RUNNING
    assert plant.told == set()


async def test_an_order_released_while_another_runs_waits_in_the_queue(plant: Plant) -> None:
    await plant.running()
    await plant.running("OF-2")
    assert plant.line.state("OF-2") is JobState.ALLOWED_TO_START


@pytest.mark.parametrize(
    ("began", "act", "ends"),
    [
        (True, PlanState.CANCELLED, JobState.ABORTED),
        (True, PlanState.CLOSED, JobState.ENDED),
        (True, PlanState.WITHDRAWN, JobState.INTERRUPTED),
        (True, PlanState.FORECAST, JobState.INTERRUPTED),
        (False, PlanState.CANCELLED, None),
        (False, PlanState.CLOSED, None),
        (False, PlanState.WITHDRAWN, JobState.NOT_ALLOWED_TO_START),
        (False, PlanState.FORECAST, JobState.NOT_ALLOWED_TO_START),
    ],
)
async def test_a_planner_acts(plant: Plant, began: bool, act: PlanState, ends: JobState | None) -> None:
    if not began:
        await plant.running("OF-0")
    key = await plant.running()
    assert plant.line.state("OF-1") is (JobState.RUNNING if began else JobState.ALLOWED_TO_START)
    plant.erp.change(key, act)
    await plant.polled()
    assert plant.line.state("OF-1") is ends
    assert "erp.planner:erp:OF-1" in plant.told
    commands, rows = len(plant.line.commands), len(plant.line.journal.rows)
    await plant.polled(8)
    assert len(plant.line.commands) == commands
    assert len(plant.line.journal.rows) == rows


async def test_an_act_is_news_for_a_while(plant: Plant) -> None:
    key = await plant.running()
    plant.erp.change(key, PlanState.WITHDRAWN)
    await plant.polled()
    assert "erp.planner:erp:OF-1" in plant.told
    await plant.link.clock.advance(ACTS_SHOWN_S)
    await plant.polled(2)
    assert "erp.planner:erp:OF-1" not in plant.told


async def test_withdrawn_and_released_again_goes_on(plant: Plant) -> None:
    key = await plant.running()
    plant.line.make("OF-1", 5)
    plant.erp.change(key, PlanState.WITHDRAWN)
    await plant.polled()
    # Meanwhile another order runs: this one cannot go on, and is not asked to until the machine is free.
    await plant.running("OF-2")
    plant.erp.change(key, PlanState.RELEASED)
    await plant.polled(10)
    assert plant.line.state("OF-1") is JobState.INTERRUPTED
    assert plant.line.refused == []
    plant.line.do(Verb.STOP, "OF-2")
    await plant.polled()
    assert plant.line.state("OF-1") is JobState.RUNNING
    await plant.gateway.settled()
    assert (await plant.link.booked("OF-1")).good == 5


async def test_an_order_that_an_operator_interrupted_is_not_resumed_by_a_new_date(plant: Plant) -> None:
    key = await plant.running()
    plant.line.do(Verb.PAUSE, "OF-1")
    plant.erp.change(key, job_order=order("OF-1", 120))
    await plant.polled()
    assert plant.line.state("OF-1") is JobState.INTERRUPTED


async def test_a_new_quantity_is_taken_and_told(plant: Plant) -> None:
    key = await plant.running()
    plant.erp.change(key, job_order=order("OF-1", 80))
    await plant.polled()
    found = plant.line.job("press-07", "OF-1")
    assert found is not None
    assert found[1].quantity == 80
    assert "erp.planner:erp:OF-1" in plant.told


async def test_a_quantity_below_what_is_made_is_impossible_and_asked_once(plant: Plant) -> None:
    key = await plant.running()
    plant.line.refuse_updates = "quantity 5 is below the 7 already made"
    plant.erp.change(key, job_order=order("OF-1", 5))
    await plant.polled(10)
    assert len(plant.line.refused) == 1
    assert "erp.planner:erp:OF-1" in plant.told
    # The next change is another question.
    plant.line.refuse_updates = None
    plant.erp.change(key, job_order=order("OF-1", 50))
    await plant.polled()
    found = plant.line.job("press-07", "OF-1")
    assert found is not None
    assert found[1].quantity == 50


async def test_an_order_for_a_foreign_work_unit_is_refused_once_until_it_changes(plant: Plant) -> None:
    key = plant.erp.plan(order("OF-9"), "press-99")
    await plant.polled(10)
    assert len(plant.line.refused) == 1
    assert plant.told == {"erp.order:erp:OF-9"}
    plant.erp.productions[key].work_unit = "press-08"
    plant.erp.change(key)
    await plant.polled()
    assert plant.line.state("OF-9") is JobState.RUNNING
    assert plant.told == set()


async def test_a_refused_order_that_leaves_the_list_is_told_no_more(plant: Plant) -> None:
    key = plant.erp.plan(order("OF-9"), "press-99")
    await plant.polled()
    del plant.erp.productions[key]
    await plant.polled(5)
    assert plant.told == set()


async def test_one_short_listing_cancels_nothing(plant: Plant) -> None:
    await plant.running("OF-0")
    key = await plant.running()
    gone = plant.erp.productions.pop(key)
    await plant.polled(1)
    plant.erp.productions[key] = gone
    await plant.polled(5)
    assert plant.line.state("OF-1") is JobState.ALLOWED_TO_START
    assert plant.told == set()


async def test_an_order_that_vanishes_is_taken_out_unless_it_runs(plant: Plant) -> None:
    running = await plant.running("OF-0")
    waiting = await plant.running()
    del plant.erp.productions[running], plant.erp.productions[waiting]
    await plant.polled(6)
    assert plant.line.state("OF-1") is None
    assert plant.line.state("OF-0") is JobState.RUNNING
    assert plant.told >= {"erp.planner:erp:OF-0", "erp.planner:erp:OF-1"}


async def test_what_vanished_while_it_ran_is_taken_up_again(plant: Plant) -> None:
    key = await plant.running()
    gone = plant.erp.productions.pop(key)
    await plant.polled(6)
    plant.erp.productions[key] = gone
    await plant.polled()
    assert plant.line.refused == []
    plant.erp.change(key, PlanState.WITHDRAWN)
    await plant.polled()
    assert plant.line.state("OF-1") is JobState.INTERRUPTED


async def test_an_order_moved_to_another_machine_before_it_began(plant: Plant) -> None:
    await plant.running("OF-0")
    key = await plant.running()
    plant.erp.productions[key].work_unit = "press-08"
    plant.erp.change(key)
    await plant.polled()
    assert plant.line.job("press-07", "OF-1") is None
    assert plant.line.state("OF-1") is JobState.RUNNING
    plant.line.make("OF-1", 4)
    await plant.gateway.settled()
    assert (await plant.link.booked("OF-1")).good == 4


async def test_an_order_moved_after_it_began_stays_and_is_told(plant: Plant) -> None:
    key = await plant.running()
    plant.erp.productions[key].work_unit = "press-08"
    plant.erp.change(key)
    await plant.polled(10)
    assert plant.line.unit_of("OF-1") == "press-07"
    assert plant.line.state("OF-1") is JobState.RUNNING
    assert "erp.planner:erp:OF-1" in plant.told


async def test_a_cancelled_order_that_comes_back_is_taken_again(plant: Plant) -> None:
    await plant.running("OF-0")
    key = await plant.running()
    plant.erp.change(key, PlanState.CANCELLED)
    await plant.polled()
    assert plant.line.state("OF-1") is None
    plant.erp.productions[key].closed_at = None
    plant.erp.change(key, PlanState.RELEASED)
    await plant.polled()
    assert plant.line.state("OF-1") is JobState.ALLOWED_TO_START


async def test_a_closed_order_that_is_opened_again_is_not_made_twice(plant: Plant) -> None:
    key = await plant.running()
    plant.line.make("OF-1", 100)
    plant.line.do(Verb.STOP, "OF-1")
    await plant.gateway.settled()
    await plant.polled()
    assert (await plant.link.booked("OF-1")).is_closed
    commands = len(plant.line.commands)
    plant.erp.productions[key].closed_at = None
    plant.erp.change(key, PlanState.RELEASED)
    await plant.polled(10)
    assert len(plant.line.commands) == commands
    assert "erp.order:erp:OF-1" in plant.told


async def test_an_order_given_up_on_the_line_is_booked_and_left_open(plant: Plant) -> None:
    await plant.running()
    plant.line.make("OF-1", 7)
    plant.line.do(Verb.ABORT, "OF-1")
    await plant.gateway.settled()
    booked = await plant.link.booked("OF-1")
    assert (booked.good, booked.is_closed) == (7, False)
    assert "erp.aborted:erp:OF-1" in plant.told


async def test_two_orders_of_one_name_are_told_apart(plant: Plant) -> None:
    await plant.running()
    plant.erp.plan(order("OF-1"), "press-08")
    await plant.polled(5)
    assert plant.line.job("press-08", "OF-1") is None
    assert "erp.order:erp:OF-1" in plant.told


async def test_a_renamed_order_stays_the_same_job(plant: Plant) -> None:
    key = await plant.running()
    plant.erp.change(key, job_order=replace(order("OF-1-001"), quantity=Decimal(90)))
    await plant.polled()
    found = plant.line.job("press-07", "OF-1")
    assert found is not None
    assert found[1].quantity == 90
    assert plant.line.state("OF-1-001") is None


async def test_orders_survive_a_kill_without_being_taken_twice(plant: Plant) -> None:
    key = await plant.running()
    await plant.gateway.kill()
    await plant.polled(5)
    assert [c.command for c in plant.line.commands] == [Verb.STORE_AND_START]
    plant.erp.change(key, PlanState.WITHDRAWN)
    await plant.gateway.kill()
    await plant.polled(5)
    assert plant.line.state("OF-1") is JobState.INTERRUPTED


async def test_a_closed_order_frees_its_name_once_it_is_booked(plant: Plant) -> None:
    await plant.running()
    plant.line.do(Verb.STOP, "OF-1")
    await plant.gateway.settled()
    await plant.polled()
    plant.line.forget("OF-1")
    plant.erp.plan(order("OF-1"), "press-08")
    await plant.polled()
    assert plant.line.job("press-08", "OF-1") is not None
    plant.line.make("OF-1", 3)
    await plant.gateway.settled()
    assert [p.total("good") for p in plant.erp.productions.values()] == [0, 3]
