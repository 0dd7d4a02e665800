"""People at work in Tryton meanwhile: each act ends in the right job state with an alert, and goes on by itself when it is settled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from gateway.domain.job_order import JobState, Verb
from tests.erp_tryton.link import TrytonLink, shared_server, tryton
from tests.erp_tryton.seed import ADMINISTRATOR, CHECKED_PART, GATEWAY
from tests.uplink.erp.gateway import Gateway
from tests.uplink.erp.line import Disk, Journal, Line, order

pytestmark = pytest.mark.slow


@pytest.fixture
async def link() -> AsyncIterator[TrytonLink]:
    async with tryton() as erp:
        yield erp


@pytest.fixture
async def gateway(link: TrytonLink) -> AsyncIterator[Gateway]:
    running = Gateway(link.uplink, link.clock)
    await running.start()
    yield running
    await running.stop()


async def started(gateway: Gateway, link: TrytonLink, name: str = "OF-1", quantity: int = 100) -> int:
    """Released, running on the line and in Tryton. -> its id there."""
    await link.release(order(name, quantity), "press-07")
    await gateway.until(lambda: gateway.line.state(name) is JobState.RUNNING, f"{name} runs")
    await gateway.settled()
    return link.productions[name]


async def told(gateway: Gateway, key: str) -> str:
    await gateway.until(lambda: key in gateway.alerts.up, f"{key} is told")
    return gateway.alerts.up[key]


async def test_a_running_order_is_cancelled(link: TrytonLink, gateway: Gateway) -> None:
    production = await started(gateway, link)
    gateway.line.make("OF-1", 4)
    await gateway.settled()
    link.planner.press("cancel", production)
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.ABORTED, "the job is aborted")
    await told(gateway, "erp.planner:erp:OF-1")
    # Tryton has cancelled what was booked for it: the pieces are there, and a person has to say where they belong.
    gateway.line.make("OF-1", 1)
    assert "cancelled in Tryton" in await told(gateway, "erp.blocked:erp:OF-1")


async def test_an_order_that_waits_is_cancelled(link: TrytonLink, gateway: Gateway) -> None:
    await started(gateway, link)
    await link.release(order("OF-2"), "press-07")
    await gateway.until(lambda: gateway.line.state("OF-2") is JobState.ALLOWED_TO_START, "it waits")
    await link.cancel("OF-2")
    await gateway.until(lambda: gateway.line.state("OF-2") in (None, JobState.ABORTED), "it is gone")
    assert gateway.line.state("OF-1") is JobState.RUNNING


async def test_the_quantity_of_an_order_that_waits_is_changed(link: TrytonLink, gateway: Gateway) -> None:
    await started(gateway, link)
    await link.release(order("OF-2"), "press-07")
    await gateway.until(lambda: gateway.line.state("OF-2") is JobState.ALLOWED_TO_START, "it waits")
    link.planner.change_quantity(link.productions["OF-2"], 60)
    await gateway.until(lambda: _quantity(gateway.line, "OF-2") == 60, "it is smaller")
    await told(gateway, "erp.planner:erp:OF-2")
    await gateway.until(lambda: gateway.line.state("OF-2") is JobState.ALLOWED_TO_START, "it waits again")


async def test_the_quantity_of_a_running_order_is_changed(link: TrytonLink, gateway: Gateway) -> None:
    production = await started(gateway, link)
    gateway.line.make("OF-1", 7, 1)
    await gateway.settled()
    link.planner.change_quantity(production, 12)
    await gateway.until(lambda: _quantity(gateway.line, "OF-1") == 12, "it is smaller")
    link.planner.press("assign_try", production)
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.RUNNING, "it goes on")
    gateway.line.make("OF-1", 5)
    gateway.line.do(Verb.STOP, "OF-1")
    await gateway.until(lambda: link.planner.state(production) == "done", "it is closed")
    books = link.planner.books(production)
    assert (int(books.good), int(books.scrap), books.dangling) == (12, 1, 0)
    assert books.run_s == pytest.approx(130.0)


async def test_an_order_is_put_back_to_waiting_and_released_again(link: TrytonLink, gateway: Gateway) -> None:
    production = await started(gateway, link)
    gateway.line.make("OF-1", 3)
    await gateway.settled()
    link.planner.press("wait", production)
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.INTERRUPTED, "the job is interrupted")
    await told(gateway, "erp.planner:erp:OF-1")
    gateway.line.make("OF-1", 2)
    assert "put back to waiting" in await told(gateway, "erp.blocked:erp:OF-1")
    assert link.planner.books(production).good == 3
    link.planner.press("assign_try", production)
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.RUNNING, "it goes on")
    await gateway.until(lambda: "erp.blocked:erp:OF-1" not in gateway.alerts.up, "what was owed is booked")
    assert link.planner.books(production).good == 5


async def test_an_order_is_closed_by_hand(link: TrytonLink, gateway: Gateway) -> None:
    production = await started(gateway, link, quantity=10)
    gateway.line.make("OF-1", 3)
    await gateway.settled()
    link.planner.finish_works(production)
    link.planner.press("do", production)
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.ENDED, "the job has ended")
    await told(gateway, "erp.planner:erp:OF-1")
    gateway.line.make("OF-1", 1)
    words = await told(gateway, "erp.blocked:erp:OF-1")
    assert "closed by hand in Tryton with 10" in words
    assert link.planner.books(production).good == 10, "a person's books are not touched"


async def test_a_control_holds_up_the_end_until_a_person_has_passed_it(link: TrytonLink, gateway: Gateway) -> None:
    production = link.planner.release(5, product=CHECKED_PART)
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.RUNNING, "it runs")
    assert gateway.line.job("press-07", "OF-1")[1].quality_requirements[0].characteristic == "bore_diameter"  # type: ignore[index]
    gateway.line.make("OF-1", 5)
    gateway.line.do(Verb.STOP, "OF-1")
    assert "waits for a person" in await told(gateway, "erp.blocked:erp:OF-1")
    assert link.planner.state(production) == "running"
    control = link.planner.seat.search_read("quality.control", [["name", "=", "Alésage"]], ["id"])[0]["id"]
    inspection = link.planner.seat.create(
        "quality.inspection", control=control, origin=f"production,{production}", points={"bore_diameter": 12.001}
    )
    link.planner.seat.call("quality.inspection", "process", [inspection])
    await gateway.until(lambda: link.planner.state(production) == "done", "it closes by itself")
    assert link.planner.books(production).good == 5


async def test_a_measurement_that_fails_holds_up_the_end(link: TrytonLink, gateway: Gateway) -> None:
    production = await started(gateway, link)
    gateway.line.make("OF-1", 5)
    gateway.line.measure("OF-1", Decimal("20.02"))
    gateway.line.measure("OF-1", Decimal("20.21"), passed=False)
    gateway.line.do(Verb.STOP, "OF-1")
    await told(gateway, "erp.blocked:erp:OF-1")
    assert [inspection["state"] for inspection in link.planner.inspections(production)] == ["passed", "failed"]
    failed = link.planner.inspections(production)[1]["id"]
    link.planner.seat.call("quality.inspection", "pass_", [failed])
    await gateway.until(lambda: link.planner.state(production) == "done", "it closes by itself")


async def test_a_sale_comes_down_as_customer_and_the_promise_goes_up_as_one_note(link: TrytonLink, gateway: Gateway) -> None:
    sale, request = link.planner.sell(20, "Transports Dupont", "Sans huile\nÉtiquette FR")
    link.planner.plan_request(request)
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.RUNNING, "it runs")
    found = gateway.line.job("press-07", "OF-1")
    assert found is not None
    customer = found[1].customer
    assert customer is not None
    assert (customer.name, customer.requirements) == ("Transports Dupont", ("Sans huile", "Étiquette FR"))
    assert customer.delivery_to is not None
    assert customer.delivery_to.isoformat() == "2026-12-04T23:00:00+00:00"
    gateway.line.promise("OF-1", "on_time")
    await gateway.settled()
    gateway.line.promise("OF-1", "late")
    await gateway.settled()
    for resource in (f"production,{request}", f"sale.sale,{sale}"):
        notes = link.planner.notes(resource)
        assert len(notes) == 1
        assert "late" in notes[0]


async def test_stock_that_is_short_holds_up_its_order_until_it_has_come(link: TrytonLink, gateway: Gateway) -> None:
    production = await started(gateway, link)
    # There are five tonnes.
    gateway.line.make("OF-1", 20_000)
    words = await told(gateway, "erp.blocked:erp:OF-1")
    assert "not enough in stock" in words
    assert "steel" in words
    books = link.planner.books(production)
    assert (books.good, books.consumed.get("oil")) == (Decimal(20_000), Decimal(20)), "what can be booked is"
    link.planner.find_in_stock("steel", "L1", 10_000.0)
    await gateway.until(lambda: "erp.blocked:erp:OF-1" not in gateway.alerts.up, "it goes on by itself")
    assert link.planner.books(production).consumed["steel"] == Decimal(7000)


async def test_a_lost_journal_takes_nothing_back(link: TrytonLink, gateway: Gateway) -> None:
    production = await started(gateway, link)
    gateway.line.make("OF-1", 6)
    await gateway.settled()
    await gateway.stop()
    gateway.line = Line(Journal(Disk()))
    await gateway.start()
    await gateway.until(lambda: gateway.line.state("OF-1") is JobState.RUNNING, "a new journal takes it again")
    gateway.line.make("OF-1", 1)
    assert "not know" in await told(gateway, "erp.blocked:erp:OF-1")
    assert link.planner.books(production).good == 6


async def test_a_missing_right_is_named(link: TrytonLink) -> None:
    port = link.port()
    await port.connect()
    rights = await port.rights()
    await port.disconnect()
    assert [right for right in rights if not right.is_there] == []
    admin = shared_server().seat(ADMINISTRATOR)
    user = admin.search_read("res.user", [["login", "=", GATEWAY[0]]], ["groups"])[0]
    try:
        admin.call("res.user", "write", [user["id"]], {"groups": [["remove", user["groups"]]]})
        await port.connect()
        missing = {right.name for right in await port.rights() if not right.is_there}
        await port.disconnect()
    finally:
        admin.call("res.user", "write", [user["id"]], {"groups": [["add", user["groups"]]]})
    assert {"write production", "create stock.move", "create quality.inspection", "cancel a stock move that is done"} <= missing
    assert "read production" not in missing


def _quantity(line: Line, name: str) -> Decimal | None:
    found = line.job("press-07", name)
    return found[1].quantity if found is not None else None
