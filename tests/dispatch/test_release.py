"""Orders to the machine: written once, read back, told before and after; whatever goes wrong is an alert and no second write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from gateway.domain.equipment import Product, ReleaseRule
from gateway.domain.job import WriteState
from tests.dispatch.machine import Shop

KEY = "release:press-07"
MakeShop = Callable[..., Shop]


@pytest_asyncio.fixture
async def make_shop() -> AsyncIterator[MakeShop]:
    shops: list[Shop] = []

    def make(**rule: Any) -> Shop:
        products, writer = rule.pop("products", ()), rule.pop("writer", None)
        shops.append(Shop(ReleaseRule(**(rule or {"quantity": "target"})), products=products, writer=writer))
        return shops[-1]

    yield make
    for shop in shops:
        failure = None if not shop.task.done() else shop.task.exception()
        await shop.stop()
        assert failure is None


async def test_the_quantity_is_written_once_read_back_and_told_before_and_after(make_shop: MakeShop) -> None:
    shop = make_shop()
    job = await shop.start()
    await shop.clock.advance(1)
    assert shop.plc.writes == [("target", 250)]
    assert shop.told() == [("target", 250, "before", None), ("target", 250, "after", None)]
    assert all(event.job_order_id == "OF-1" for event in shop.events)
    assert job.written is WriteState.WRITTEN
    assert shop.alerts.raised == 0
    assert shop.counted("written") == 1


async def test_nothing_is_written_before_it_is_on_disk_that_it_will_be(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.commit_lets_through.clear()
    job = await shop.start()
    await shop.clock.advance(30)
    assert shop.told() == [("target", 250, "before", None)]
    assert job.written is WriteState.BEGUN
    assert shop.plc.writes == []
    shop.commit_lets_through.set()
    await shop.clock.advance(1)
    assert shop.plc.writes == [("target", 250)]


async def test_a_job_that_ended_while_the_disk_was_full_is_not_written(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.commit_lets_through.clear()
    await shop.start()
    await shop.change("Ended", "Running")
    shop.commit_lets_through.set()
    await shop.clock.advance(1)
    assert shop.plc.writes == []
    assert shop.told()[-1] == ("target", 250, "after", "the job no longer runs")
    assert shop.alerts.standing == {}


async def test_number_and_product_come_before_the_quantity_and_a_product_is_its_recipe(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", product="recipe", job="number", products=[Product("PF-100", recipe=12)])
    await shop.start(product_id="PF-100")
    await shop.clock.advance(1)
    assert shop.plc.writes == [("number", "OF-1"), ("recipe", 12), ("target", 250)]
    await shop.start("OF-2", product_id="PF-200")
    await shop.clock.advance(1)
    assert shop.plc.writes[3:5] == [("number", "OF-2"), ("recipe", "PF-200")]


async def test_set_values_of_the_order_are_written_before_its_quantity(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", properties={"oven_temperature": "oven_set", "mode": "mode_set"})
    await shop.start(properties={"oven_temperature": Decimal("182.5"), "mode": "eco"})
    await shop.clock.advance(1)
    assert shop.plc.writes == [("oven_set", 182.5), ("mode_set", "eco"), ("target", 250)]


@pytest.mark.parametrize("properties", [{}, {"oven_temperature": None}, {"oven_temperature": [1, 2]}])
async def test_an_order_without_its_set_value_is_not_released(make_shop: MakeShop, properties: dict[str, Any]) -> None:
    shop = make_shop(quantity="target", properties={"oven_temperature": "oven_set"})
    job = await shop.start(properties=properties)
    await shop.clock.advance(1)
    assert shop.plc.writes == []
    _, _, remedy, detail = shop.alerts.standing[KEY]
    assert remedy.en == "Complete the order: oven_temperature."
    assert detail == "the order has no oven_temperature"
    assert job.written is WriteState.FAILED


async def test_a_set_value_that_the_tag_cannot_hold_stops_the_release(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", properties={"oven_temperature": "oven_set"})
    shop.plc.refuse["oven_set"] = "oven_set holds 0 to 300, not 900"
    await shop.start(properties={"oven_temperature": 900})
    await shop.clock.advance(1)
    assert shop.plc.writes == []
    assert shop.alerts.standing[KEY][2].en == "Set at the machine: oven_temperature 900, quantity 250."


async def test_what_the_machine_refuses_is_told_and_stands_in_alert_until_somebody_sets_it(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", product="recipe")
    shop.plc.refuse["recipe"] = "BadUserAccessDenied"
    job = await shop.start(product_id="CAPOT")
    await shop.clock.advance(1)
    assert shop.plc.writes == []  # a machine that refused the product gets no quantity either
    assert shop.told()[-1] == ("recipe", "CAPOT", "after", "BadUserAccessDenied")
    severity, text, remedy, detail = shop.alerts.standing[KEY]
    assert severity == "warning"
    assert "OF-1" in text.fr
    assert "OF-1" in text.en
    assert remedy.en == "Set at the machine: product CAPOT, quantity 250."
    assert detail == "BadUserAccessDenied"
    assert job.written is WriteState.FAILED
    assert shop.counted("failed") == 1
    shop.plc.values |= {"recipe": "CAPOT", "target": 250}
    await shop.clock.advance(6)
    assert shop.alerts.standing == {}
    assert job.written is WriteState.WRITTEN
    assert shop.plc.writes == []


async def test_a_value_that_reads_back_wrong_is_an_alert_and_is_not_written_again(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.plc.deaf.add("target")
    await shop.start()
    await shop.clock.advance(120)
    assert shop.plc.writes == [("target", 250)]
    assert shop.told()[-1] == ("target", 250, "after", "target reads 0 instead of 250")
    assert KEY in shop.alerts.standing
    assert shop.alerts.raised == 1
    await shop.change("Ended", "Running")
    assert shop.alerts.standing == {}


async def test_a_plc_that_shows_a_value_a_second_later_is_no_alert(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.plc.deaf.add("target")
    await shop.start()
    await shop.clock.advance(1)
    shop.plc.values["target"] = 250
    await shop.clock.advance(1)
    assert shop.alerts.raised == 0
    assert shop.told()[-1] == ("target", 250, "after", None)


async def test_a_link_that_is_down_is_waited_for(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.plc.up = False
    await shop.start()
    await shop.clock.advance(50)
    shop.plc.up = True
    await shop.clock.advance(2)
    assert shop.plc.writes == [("target", 250)]
    assert shop.alerts.raised == 0


async def test_a_link_that_stays_down_for_a_minute_is_given_up(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.plc.up = False
    job = await shop.start()
    await shop.clock.advance(61)
    assert shop.alerts.standing[KEY][3] == "no link to plc for 60 s"
    shop.plc.up = True
    await shop.clock.advance(60)
    assert shop.plc.writes == []
    assert job.written is WriteState.FAILED
    assert shop.told() == []


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_link_lost_in_the_middle_is_read_when_it_is_back_never_written_again(make_shop: MakeShop, arrived: bool) -> None:
    shop = make_shop()
    shop.plc.lose_after_write, shop.plc.lose_before_write = arrived, not arrived
    job = await shop.start()
    await shop.clock.advance(30)
    assert len(shop.told()) == 1
    shop.plc.up = True
    await shop.clock.advance(3)
    assert len(shop.plc.writes) == arrived
    tag, value, phase, problem = shop.told()[-1]
    assert (tag, value, phase) == ("target", 250, "after")
    assert problem == (None if arrived else "reset; target reads 0 instead of 250")
    assert (KEY in shop.alerts.standing) is not arrived
    assert job.written is (WriteState.WRITTEN if arrived else WriteState.FAILED)


async def test_only_when_stopped_waits_for_the_machine_to_stand(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", only_when_stopped=True)
    shop.standing = False
    await shop.start()
    await shop.clock.advance(500)
    assert shop.plc.writes == []
    shop.standing = True
    await shop.clock.advance(1)
    assert shop.plc.writes == [("target", 250)]


async def test_only_when_stopped_is_given_up_after_ten_minutes(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", only_when_stopped=True)
    shop.standing = False
    await shop.start()
    await shop.clock.advance(601)
    assert shop.alerts.standing[KEY][3] == "the machine did not stand for 600 s"
    shop.standing = True
    await shop.clock.advance(60)
    assert shop.plc.writes == []


async def test_the_next_job_is_written_while_the_first_still_waits(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", only_when_stopped=True)
    shop.standing = False
    await shop.start("OF-1")
    await shop.clock.advance(10)
    await shop.start("OF-2", quantity=Decimal(70))
    shop.standing = True
    await shop.clock.advance(2)
    assert shop.plc.writes == [("target", 70)]
    assert shop.alerts.raised == 0


async def test_after_a_restart_a_written_job_is_left_alone(make_shop: MakeShop) -> None:
    shop = make_shop()
    await shop.start()
    await shop.clock.advance(1)
    shop.plc.values["target"] = 300  # changed at the machine, on purpose
    await shop.restart()
    await shop.clock.advance(60)
    assert shop.plc.writes == [("target", 250)]
    assert shop.alerts.raised == 0


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_write_cut_short_by_a_kill_is_compared_after_the_restart(make_shop: MakeShop, arrived: bool) -> None:
    shop = make_shop()
    shop.commit_lets_through.clear()
    job = await shop.start()
    shop.plc.values["target"] = 250 if arrived else 0
    await shop.stop()
    shop.commit_lets_through.set()
    await shop.restart()
    await shop.clock.advance(1)
    assert shop.plc.writes == []
    problem = None if arrived else "cut short by a restart; target reads 0 instead of 250"
    assert shop.told() == [("target", 250, "before", None), ("target", 250, "after", problem)]
    assert (KEY in shop.alerts.standing) is not arrived
    assert job.written is (WriteState.WRITTEN if arrived else WriteState.FAILED)
    await shop.restart()
    await shop.clock.advance(6)
    assert len(shop.told()) == 2


async def test_a_job_whose_release_died_before_it_began_is_only_compared(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.plc.up = False
    await shop.start()
    await shop.restart()
    await shop.clock.advance(20)
    assert shop.alerts.raised == 0  # the lost link has its own alert
    shop.plc.up = True
    await shop.clock.advance(6)
    assert shop.plc.writes == []
    assert shop.alerts.standing[KEY][3] == "target reads 0 instead of 250"


async def test_a_resumed_job_is_compared_because_another_one_may_have_run(make_shop: MakeShop) -> None:
    shop = make_shop()
    await shop.start()
    await shop.clock.advance(1)
    await shop.change("Interrupted", "Running")
    shop.plc.values["target"] = 70
    await shop.change("Running", "Interrupted")
    await shop.clock.advance(1)
    assert shop.plc.writes == [("target", 250)]
    assert shop.alerts.standing[KEY][2].fr == "Régler à la machine : quantité 250."
    shop.plc.values["target"] = 250
    await shop.clock.advance(6)
    assert shop.alerts.standing == {}


async def test_an_order_without_a_quantity_says_what_to_complete(make_shop: MakeShop) -> None:
    shop = make_shop()
    await shop.start(quantity=None)
    await shop.clock.advance(10)
    assert shop.alerts.standing[KEY][2].en == "Complete the order: quantity."
    assert shop.alerts.standing[KEY][3] == "the order has no quantity"
    assert shop.plc.writes == []


async def test_strobe_and_acceptance(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", strobe="take", accepted="taken")
    shop.plc.on_write = lambda tag, value: shop.plc.values.update(taken=value) if tag == "take" else None
    job = await shop.start()
    await shop.clock.advance(2)
    assert shop.plc.writes == [("target", 250), ("take", True), ("take", False)]
    assert [(tag, phase) for tag, _, phase, _ in shop.told()] == [(t, p) for t in ("target", "take", "take") for p in ("before", "after")]
    assert job.written is WriteState.WRITTEN


async def test_a_strobe_that_nobody_answers_is_taken_back_and_is_an_alert(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", strobe="take", accepted="taken")
    job = await shop.start()
    await shop.clock.advance(60)
    assert shop.plc.writes == [("target", 250), ("take", True), ("take", False)]
    assert shop.alerts.standing[KEY][3] == "taken did not come within 10 s of the strobe"
    assert job.written is WriteState.FAILED


async def test_a_strobe_left_standing_is_taken_back_first_so_that_there_is_an_edge(make_shop: MakeShop) -> None:
    shop = make_shop(quantity="target", strobe="take")
    shop.plc.values["take"] = True
    await shop.start()
    await shop.clock.advance(4)
    assert shop.plc.writes == [("target", 250), ("take", False), ("take", True), ("take", False)]


async def test_two_machines_behind_one_plc_are_written_one_at_a_time(make_shop: MakeShop) -> None:
    first = make_shop(quantity="target", product="recipe", job="number")
    second = make_shop(quantity="target2", product="recipe2", job="number2", writer=first.writer)
    first.plc.values |= {"target2": 0, "recipe2": 0, "number2": ""}
    jobs = await asyncio.gather(*(shop.start(quantity=Decimal(10), product_id="PF-1") for shop in (first, second)))
    for _ in range(20):
        await first.clock.advance(0.1)
        await second.clock.advance(0.1)
    assert [job.written for job in jobs] == [WriteState.WRITTEN] * 2
    assert len(first.plc.writes) == 6
    assert first.plc.at_once == 1
