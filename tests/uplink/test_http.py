"""ERP over HTTP against a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web

from gateway.domain.entry import Entry
from gateway.domain.job_order import JobCommand
from gateway.seams import Receipt, UplinkError
from gateway.uplink.erp.http import HttpUplink
from gateway.uplink.erp.http_request import retry_after_s
from tests.uplink.brokers import until
from tests.uplink.conftest import Cursors, LeapingClock, http_uplink
from tests.uplink.doubles import EPOCH, GATEWAY, Alerts, Ledger, entry
from tests.uplink.erp.http_link import FastClock
from tests.uplink.erp_server import Erp

pytestmark = pytest.mark.slow


def order(number: int, **fields: object) -> dict[str, object]:
    return {
        "command": "Store",
        "command_id": f"c-{number}",
        "work_unit": "press-07",
        "issued_at": "2026-11-25T06:00:00Z",
        "job_order": {"job_order_id": f"OF-{number}", **fields},
    }


def rows(first: int, last: int) -> list[Entry]:
    return [entry(number) for number in range(first, last + 1)]


def id_(sequence: int) -> str:
    return f"{GATEWAY}:{EPOCH}:{sequence}"


@asynccontextmanager
async def connected(uplink: HttpUplink) -> AsyncIterator[HttpUplink]:
    await uplink.connect()
    try:
        yield uplink
    finally:
        await uplink.close()


async def hand_over(uplink: HttpUplink, batch: list[Entry]) -> dict[int, str]:
    """Deliver until each row is done, as the forwarder does. Returns the parked ones."""
    left, parked = list(batch), dict[int, str]()
    for _ in range(100):
        if not left:
            return parked
        receipt = await uplink.deliver(left)
        parked.update(receipt.parked)
        left = [row for row in left if row.position not in receipt.accepted and row.position not in receipt.parked]
    raise AssertionError("rows are left")


async def test_orders_come_with_their_cursor_and_at_once_while_it_moves(erp: Erp) -> None:
    erp.orders = [order(number) for number in range(5)]
    ledger = Ledger()
    uplink = http_uplink(erp.url, ledger=ledger, interval=30.0)
    async with connected(uplink):
        heard: list[None] = []
        task = asyncio.create_task(uplink.serve(lambda: heard.append(None)))
        await until(lambda: len(ledger.taken) == 5 and len(erp.polls) >= 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert ledger.cursors == ["2", "4", "5"]
    assert [inbound.command_id for inbound, _ in ledger.taken] == ["c-0", "c-1", "c-2", "c-3", "c-4"]
    assert erp.polls[0] == {"gateway": GATEWAY}
    assert erp.polls[-1] == {"gateway": GATEWAY, "after": "5"}
    assert heard


async def test_polling_goes_on_behind_the_stored_cursor(erp: Erp) -> None:
    async with connected(http_uplink(erp.url, cursors=Cursors(erp="42"))):
        assert erp.polls == [{"gateway": GATEWAY, "after": "42"}]


async def test_an_erp_that_counts_the_other_way_says_so_and_keeps_its_numbers(erp: Erp) -> None:
    erp.orders = [order(1, priority=1, customer={"name": "A", "priority": 3})]
    ledger = Ledger()
    uplink = http_uplink(erp.url, ledger=ledger, priority_order="lowest_first")
    async with connected(uplink):
        task = asyncio.create_task(uplink.serve(lambda: None))
        await until(lambda: bool(ledger.taken))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    command = ledger.taken[0][0]
    assert isinstance(command, JobCommand)
    assert command.job_order.lowest_first
    assert command.job_order.priority == 1
    assert command.job_order.customer is not None
    assert command.job_order.customer.priority == 3


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"commands": 3}',
        b'{"commands": [], "cursor": 7}',
        b'{"commands": [], "cursor": NaN}',
        b'{"commands": [], "cursor": "%s"}' % (b"x" * 2001),
    ],
    ids=["html", "list", "no commands", "number", "not a number", "long"],
)
async def test_a_schedule_that_cannot_be_read_is_told_and_polling_goes_on(erp: Erp, body: bytes) -> None:
    alerts, ledger = Alerts(), Ledger()
    erp.orders = [order(1)]
    erp.fault = lambda method, count: web.Response(body=body) if method == "GET" and count <= 3 else None
    uplink = http_uplink(erp.url, alerts=alerts, ledger=ledger)
    async with connected(uplink):
        task = asyncio.create_task(uplink.serve(lambda: None))
        await until(lambda: bool(ledger.taken))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert alerts.told == ["+uplink.orders:erp"]


async def test_events_are_booked_under_the_id_of_the_last(erp: Erp) -> None:
    async with connected(http_uplink(erp.url)) as uplink:
        receipt = await uplink.deliver(rows(1, 250))
        assert receipt.accepted == set(range(1, 201))
        receipt = await uplink.deliver(rows(201, 250))
        assert receipt.accepted == set(range(201, 251))
    assert erp.sequences == list(range(1, 251))
    assert [key for key, _ in erp.posts] == [id_(200), id_(250)]


async def test_a_post_without_an_answer_is_repeated_byte_for_byte(erp: Erp) -> None:
    erp.fault = lambda method, count: "drop" if method == "POST" and len(erp.posts) < 3 else None
    async with connected(http_uplink(erp.url)) as uplink:
        receipt = await uplink.deliver(rows(1, 10))
    assert receipt.accepted == set(range(1, 11))
    assert len(erp.posts) == 3
    assert len(set(erp.posts)) == 1
    assert erp.sequences == list(range(1, 11))


async def test_an_unanswered_post_goes_first_after_the_link_is_back_even_when_there_are_more_rows(erp: Erp) -> None:
    erp.fault = lambda method, count: "drop" if method == "POST" else None
    uplink = http_uplink(erp.url)
    async with connected(uplink):
        with pytest.raises(UplinkError):
            await uplink.deliver(rows(1, 10))
    erp.fault = lambda method, count: None
    async with connected(uplink):
        receipt = await uplink.deliver(rows(1, 50))
        assert receipt.accepted == set(range(1, 11))
    assert len(set(erp.posts)) == 1


async def test_a_gateway_killed_before_the_answer_repeats_the_post_byte_for_byte(erp: Erp) -> None:
    erp.fault = lambda method, count: "drop" if method == "POST" else None
    cursors = Cursors()
    async with connected(http_uplink(erp.url, cursors=cursors)) as uplink:
        with pytest.raises(UplinkError):
            await uplink.deliver(rows(1, 10))
    erp.fault = lambda method, count: None
    async with connected(http_uplink(erp.url, cursors=cursors)) as uplink:
        assert (await uplink.deliver(rows(1, 50))).accepted == set(range(1, 11))
        assert (await uplink.deliver(rows(11, 50))).accepted == set(range(11, 51))
    assert len(set(erp.posts)) == 2
    assert erp.sequences == list(range(1, 51))


async def test_what_a_killed_gateway_was_partly_acknowledged_is_a_new_batch_after_its_start(erp: Erp) -> None:
    erp.most = 7
    cursors = Cursors()
    async with connected(http_uplink(erp.url, cursors=cursors)) as uplink:
        assert len((await uplink.deliver(rows(1, 20))).accepted) == 7
    async with connected(http_uplink(erp.url, cursors=cursors)) as uplink:
        assert (await uplink.deliver(rows(8, 20))).accepted == set(range(8, 15))
    assert [key for key, _ in erp.posts] == [id_(20), f"{id_(20)};1"]


async def test_a_start_behind_everything_that_was_posted_begins_anew(erp: Erp) -> None:
    cursors = Cursors()
    async with connected(http_uplink(erp.url, cursors=cursors)) as uplink:
        await uplink.deliver(rows(1, 5))
    async with connected(http_uplink(erp.url, cursors=cursors)) as uplink:
        await uplink.deliver(rows(6, 9))
    assert [key for key, _ in erp.posts] == [id_(5), id_(9)]


@pytest.mark.parametrize("kept", ["{", "[]", '{"key": 7}', '{"positions": [1]}', f'{{"key": "{id_(2)}", "positions": [2, 2]}}'])
async def test_a_damaged_note_of_the_last_post_is_passed_over(erp: Erp, kept: str) -> None:
    async with connected(http_uplink(erp.url, cursors=Cursors(**{"erp/posting": kept}))) as uplink:
        assert (await uplink.deliver(rows(1, 5))).accepted == set(range(1, 6))


async def test_a_full_disk_holds_no_report_up(erp: Erp) -> None:
    cursors = Cursors()
    cursors.is_full = True
    async with connected(http_uplink(erp.url, cursors=cursors, clock=FastClock())) as uplink:
        assert (await uplink.deliver(rows(1, 5))).accepted == set(range(1, 6))


async def test_every_second_reply_dropped_books_everything_once(erp: Erp) -> None:
    erp.fault = lambda method, count: "drop" if count % 2 else None
    uplink = http_uplink(erp.url, interval=0.02)
    left = rows(1, 600)
    connections = 0
    while left:
        connections += 1
        async with connected(uplink):
            polling = asyncio.create_task(uplink.serve(lambda: None))
            try:
                while left:
                    receipt = await uplink.deliver(left[:200])
                    left = [row for row in left if row.position not in receipt.accepted]
            finally:
                polling.cancel()
                await asyncio.gather(polling, return_exceptions=True)
    assert connections == 1, "a lost reply is no lost link"
    assert erp.sequences == list(range(1, 601))
    assert erp.most_in_flight == 1


async def test_after_a_partial_acknowledgement_the_rest_is_a_new_batch(erp: Erp) -> None:
    erp.most = 4
    async with connected(http_uplink(erp.url)) as uplink:
        assert await hand_over(uplink, rows(1, 10)) == {}
        await hand_over(uplink, rows(11, 12))
    assert [key for key, _ in erp.posts] == [id_(10), f"{id_(10)};1", f"{id_(10)};2", id_(12)]
    assert erp.sequences == list(range(1, 13))


async def test_named_rows_are_parked_and_the_others_go_on(erp: Erp) -> None:
    erp.poison = {3, 7}
    async with connected(http_uplink(erp.url)) as uplink:
        assert await hand_over(uplink, rows(1, 10)) == {3: "no such product", 7: "no such product"}
    assert erp.sequences == [1, 2, 4, 5, 6, 8, 9, 10]
    assert [key for key, _ in erp.posts] == [id_(10), f"{id_(10)};1"]


async def test_without_names_the_batch_is_halved_until_the_culprit_stands_alone(erp: Erp) -> None:
    erp.poison, erp.names_poison = {3, 90}, False
    async with connected(http_uplink(erp.url)) as uplink:
        parked = await hand_over(uplink, rows(1, 100))
        assert set(parked) == {3, 90}
        assert all(reason.startswith("HTTP 422: ") for reason in parked.values())
        assert len(erp.posts) < 40
        before = len(erp.posts)
        await hand_over(uplink, rows(101, 300))
        assert len(erp.posts) == before + 1, "after the culprit the batches are whole again"
    assert erp.sequences == [n for n in range(1, 301) if n not in (3, 90)]
    keys = [key for key, _ in erp.posts]
    assert len(set(keys)) == len(keys), "no key is used for two batches"


@pytest.mark.parametrize(("status", "header", "wait"), [(429, "7", 7.0), (503, "3", 3.0), (500, None, 0.0), (408, "1", 1.0)])
async def test_a_busy_erp_is_asked_again_later(erp: Erp, status: int, header: str | None, wait: float) -> None:
    alerts, clock = Alerts(), LeapingClock()
    headers = {"Retry-After": header} if header else None
    erp.fault = lambda method, count: web.Response(status=status, headers=headers) if method == "POST" and len(erp.posts) < 3 else None
    async with connected(http_uplink(erp.url, alerts=alerts, clock=clock)) as uplink:
        assert await uplink.deliver(rows(1, 3)) == Receipt(retry_after_s=wait)
        assert not alerts.up, "a moment of it is nobody's business"
        clock.ahead_s += 10
        await uplink.deliver(rows(1, 3))
        assert list(alerts.up) == ["uplink.work-performance:erp"]
        assert (await uplink.deliver(rows(1, 3))).accepted == {1, 2, 3}
        assert not alerts.up
    assert len(set(erp.posts)) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_an_erp_that_serves_nothing_is_a_lost_link(erp: Erp, status: int) -> None:
    erp.fault = lambda method, count: web.Response(status=status, headers={"Retry-After": "2"})
    uplink = http_uplink(erp.url)
    await uplink.connect()
    with pytest.raises(UplinkError) as caught:
        await uplink.deliver(rows(1, 3))
    assert caught.value.retry_after_s == 2.0
    await uplink.close()
    with pytest.raises(UplinkError):
        await uplink.connect()
    erp.fault = lambda method, count: web.Response(status=500) if method == "GET" else None
    async with connected(uplink):
        assert (await uplink.deliver(rows(1, 3))).accepted == {1, 2, 3}, "events flow although there are no orders"


async def test_retry_after_may_be_a_date() -> None:
    now = datetime(2026, 11, 25, 5, 59, 30, tzinfo=UTC)
    assert retry_after_s("Wed, 25 Nov 2026 06:00:00 GMT", now) == 30.0
    assert retry_after_s("Wed, 25 Nov 2026 05:00:00 GMT", now) == 0.0
    for text in ("soon", "", "Wed, 25 Nov 99999999999 06:02:00 GMT", "Wed, 25 Nov 2026 06:02:00 +99999999999999", "²"):
        assert retry_after_s(text, now) is None
    assert retry_after_s(str(10**9), now) == 3600.0


@pytest.mark.parametrize(
    "answer",
    [
        {"acknowledged": 99},
        {"acknowledged": "3"},
        {"acknowledged": True},
        {},
        {"acknowledged": 3, "epoch": "other"},
        {"acknowledged": None},
    ],
)
async def test_an_answer_that_cannot_be_trusted_retires_nothing(erp: Erp, answer: dict[str, object]) -> None:
    alerts, clock = Alerts(), LeapingClock()
    erp.fault = lambda method, count: web.json_response(answer) if method == "POST" and len(erp.posts) == 1 else None
    async with connected(http_uplink(erp.url, alerts=alerts, clock=clock)) as uplink:
        assert await uplink.deliver(rows(1, 3)) == Receipt(retry_after_s=0.0)
        assert "uplink.answer:erp" in alerts.up
        assert (await uplink.deliver(rows(1, 3))).accepted == {1, 2, 3}
        assert len(set(erp.posts)) == 1
        clock.ahead_s += 60
        await uplink.deliver(rows(4, 5))
        assert not alerts.up


async def test_a_wrong_address_parks_nothing(erp: Erp) -> None:
    uplink = http_uplink(erp.url.replace("lineside", "elsewhere"))
    async with connected(uplink):
        with pytest.raises(UplinkError):
            await uplink.deliver(rows(1, 3))


async def test_an_absent_erp_is_an_error_within_a_few_seconds(erp: Erp) -> None:
    await erp.stop()
    began = time.monotonic()
    uplink = http_uplink(erp.url)
    with pytest.raises(UplinkError):
        await uplink.connect()
    assert time.monotonic() - began < 15.0
    await uplink.close()
