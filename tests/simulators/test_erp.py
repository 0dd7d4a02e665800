from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from simulators.erp import Books, Erp, ErpFaults
from simulators.work_plan import WorkPlan
from tests.simulators.test_ledger_copy import counted, event

AUTH = {"Authorization": "Bearer secret"}
NOW = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)


@pytest.fixture
async def erp() -> AsyncIterator[Erp]:
    erp = Erp(Books(WorkPlan(lambda: NOW, speed=5.0)), "secret")
    await erp.start()
    yield erp
    await erp.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(http: aiohttp.ClientSession, erp: Erp, events: list[dict[str, Any]], key: str | None = None) -> tuple[int, Any]:
    headers = {**AUTH, "Idempotency-Key": key or events[-1]["id"]}
    async with http.post(f"{erp.url}/work-performance", json={"events": events}, headers=headers) as response:
        return response.status, await response.json()


async def get(http: aiohttp.ClientSession, url: str, headers: dict[str, str] = AUTH) -> tuple[int, Any]:
    async with http.get(url, headers=headers) as response:
        return response.status, await response.json()


async def test_orders_come_once_and_then_from_the_cursor_on(erp: Erp, http: aiohttp.ClientSession) -> None:
    status, first = await get(http, f"{erp.url}/work-schedule?gateway=gw")
    assert status == 200
    assert [c["work_unit"] for c in first["commands"]] == ["press-07"] * 3 + ["packer-02"] * 3
    order = first["commands"][0]["job_order"]
    assert order["ideal_cycle_time_s"] == 0.24
    assert {"order_id", "operation_id", "work_master_id", "material_requirements", "quality_requirements", "customer"} <= set(order)
    assert {"priority", "delivery_from", "delivery_to"} <= set(order["customer"])
    _, again = await get(http, f"{erp.url}/work-schedule?gateway=gw&after={first['cursor']}")
    assert again == {"commands": [], "cursor": first["cursor"]}
    assert (await get(http, f"{erp.url}/work-schedule?gateway=gw&after=c99"))[0] == 400
    assert (await get(http, f"{erp.url}/work-schedule"))[0] == 400


async def test_a_token_is_required(erp: Erp, http: aiohttp.ClientSession) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert (await get(http, f"{erp.url}/work-schedule?gateway=gw", headers))[0] == 401
    assert erp.requests["unauthorized"] == 2


async def test_events_are_booked_once_by_id(erp: Erp, http: aiohttp.ClientSession) -> None:
    batch = [counted(1, 2, 2, 0), counted(2, 3, 2, 1)]
    assert await post(http, erp, batch) == (200, {"acknowledged": 2, "epoch": "e1"})
    assert await post(http, erp, batch) == (200, {"acknowledged": 2, "epoch": "e1"})
    report = erp.report()
    assert report["made"]["press-07"] == {"produced": 5, "good": 4, "scrap": 1, "rework": 0}
    assert (report["events"], report["repeats"], report["requests"]["repeated_keys"]) == (2, 2, 1)
    assert report["clean"]
    assert report["violations"] == []


async def test_the_answer_is_lost_after_booking(erp: Erp, http: aiohttp.ClientSession) -> None:
    erp.faults = ErpFaults(drop_every=2)
    assert (await post(http, erp, [event(1)]))[0] == 200
    with pytest.raises(aiohttp.ClientError):
        await post(http, erp, [event(2)])
    assert [e["sequence"] for e in erp.books.copy.events] == [1, 2]
    assert (await post(http, erp, [event(2)]))[0] == 200
    assert erp.report()["repeats"] == 1


async def test_status_faults_book_nothing_and_carry_retry_after(erp: Erp, http: aiohttp.ClientSession) -> None:
    erp.faults = ErpFaults(status=429, retry_after_s=7)
    headers = {**AUTH, "Idempotency-Key": "gw:e1:1"}
    async with http.post(f"{erp.url}/work-performance", json={"events": [event(1)]}, headers=headers) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
    assert (await get(http, f"{erp.url}/work-schedule?gateway=gw"))[0] == 429
    assert erp.books.copy.events == []


async def test_a_refused_event_refuses_its_batch_and_is_named(erp: Erp, http: aiohttp.ClientSession) -> None:
    erp.faults = ErpFaults(refuse_types=("quality.result",))
    batch = [event(1), event(2, "quality.result")]
    assert await post(http, erp, batch) == (422, {"rejected": [{"id": "gw:e1:2", "reason": "the period is closed"}]})
    assert erp.books.copy.events == []
    assert (await post(http, erp, batch[:1]))[0] == 200
    erp.faults = ErpFaults(refuse_ids=("gw:e1:2",), name_refused=False)
    status, answer = await post(http, erp, batch[1:])
    assert status == 422
    assert "rejected" not in answer


async def test_half_an_acknowledgement(erp: Erp, http: aiohttp.ClientSession) -> None:
    erp.faults = ErpFaults(acknowledge_half=True)
    batch = [event(n) for n in (1, 2, 3, 4)]
    assert (await post(http, erp, batch))[1]["acknowledged"] == 2
    erp.faults = ErpFaults()
    assert (await post(http, erp, batch[2:], key="gw:e1:4;1"))[1]["acknowledged"] == 4
    assert erp.report()["violations"] == []
    assert erp.report()["clean"]


async def test_breaches_of_the_exchange_are_noted(erp: Erp, http: aiohttp.ClientSession) -> None:
    await post(http, erp, [event(1)], key="something")
    await post(http, erp, [event(3), event(2)])
    await post(http, erp, [event(5)])
    await post(http, erp, [event(4), event(5)])
    async with http.post(f"{erp.url}/work-performance", data=b"nonsense", headers=AUTH) as response:
        assert response.status == 400
    violations = erp.report()["violations"]
    assert [v for v in violations if "not the last event" in v]
    assert [v for v in violations if "sequence order" in v]
    assert [v for v in violations if "another body" in v]
    assert [v for v in violations if "events" in v]


async def test_an_order_made_in_full_is_finished_and_the_plan_goes_on(erp: Erp, http: aiohttp.ClientSession) -> None:
    command = erp.books.commands[0]
    order, quantity = command["job_order"]["job_order_id"], command["job_order"]["quantity"]
    short = {"produced": quantity, "good": quantity - 1, "scrap": 1, "rework": 0, "target": quantity, "final": False}
    await post(http, erp, [event(1, "job.progress", order, **short), event(2, "job.changed", order, state="Running")])
    assert erp.report()["finished"] == []
    full = {**short, "produced": quantity + 1, "good": quantity, "final": True}
    await post(http, erp, [event(3, "job.progress", order, **full), event(4, "job.changed", order, state="Ended")])
    assert erp.report()["finished"] == [order]
    _, more = await get(http, f"{erp.url}/work-schedule?gateway=gw&after=c6")
    assert [c["work_unit"] for c in more["commands"]] == ["press-07"]


async def test_away_and_back_on_the_same_port_with_its_books(erp: Erp, http: aiohttp.ClientSession) -> None:
    await post(http, erp, [event(1)])
    await erp.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(http, erp, [event(2)])
    await erp.start()
    assert (await post(http, erp, [event(2)]))[0] == 200
    assert erp.report()["events"] == 2


async def test_the_control_routes_break_and_feed_it(erp: Erp, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{erp.url}/control/faults", json={"status": 503}) as response:
        assert response.status == 200
    assert (await get(http, f"{erp.url}/work-schedule?gateway=gw"))[0] == 503
    async with http.post(f"{erp.url}/control/faults", json={"statuss": 503}) as response:
        assert response.status == 400
    async with http.post(f"{erp.url}/control/faults", json={}) as response:
        assert response.status == 200
    async with http.post(f"{erp.url}/control/orders", json={"work_unit": "press-07", "job_order": {"job_order_id": "X"}}) as response:
        assert (await response.json()) == {"cursor": "c7"}
    assert (await get(http, f"{erp.url}/control/report"))[1]["commands"] == 7


async def test_an_urgent_order_goes_before_all_of_the_plan() -> None:
    at = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
    for speed in (1.0, 20.0):
        books = Books(WorkPlan(lambda: at, speed=speed))
        urgent = books.order_urgently("press-07")["job_order"]
        assert books.commands[-1]["job_order"] is urgent
        assert urgent["customer"]["priority"] > max(c["job_order"]["customer"]["priority"] for c in books.commands[:-1])
        assert urgent["job_order_id"] not in {c["job_order"]["job_order_id"] for c in books.commands[:-1]}
        assert urgent["quantity"] * urgent["ideal_cycle_time_s"] >= 40
    with pytest.raises(KeyError):
        books.order_urgently("saw-01")
    with pytest.raises(KeyError):
        Books(None).order_urgently("press-07")


async def test_slow_answers_come_late_and_are_booked_first(erp: Erp, http: aiohttp.ClientSession) -> None:
    erp.faults = ErpFaults(delay_s=0.4)
    task = asyncio.create_task(post(http, erp, [event(1)]))
    while not erp.books.copy.events:
        await asyncio.sleep(0.01)
    assert not task.done()
    assert (await task)[0] == 200
