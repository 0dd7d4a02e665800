"""Topics, and the places on a connection."""

from __future__ import annotations

import asyncio

import pytest

from gateway.uplink.mqtt_window import Lane, Window
from gateway.uplink.topics import escape
from tests.uplink.conftest import OWN, SITE, UNIT, topics
from tests.uplink.doubles import entry


def test_every_topic_is_where_it_belongs() -> None:
    t = topics()
    assert t.full(t.unit("press-07", "kpi/hour")) == f"{UNIT}/kpi/hour"
    assert t.full(t.gateway("health")) == f"{OWN}/health"
    assert t.device("press_plc") == f"{OWN}/device/press_plc"
    assert t.event(entry(1, type_="job.progress")) == f"{UNIT}/event/job/progress"
    assert t.event(entry(1, work_unit=None, type_="clock.stepped")) == f"{OWN}/event/clock/stepped"
    assert t.inbound()[f"{SITE}/packing/line-3/packer-02/job/command"] == ("job", "packer-02")
    assert t.inbound()[f"{SITE}/packing/line-3/packer-02/command"] == ("fact", "packer-02")
    assert len(t.inbound()) == 6


def test_rows_of_a_unit_that_is_gone_go_where_it_was() -> None:
    assert topics().event(entry(1, work_unit="old-01")) == f"{SITE}/stamping/line-3/old-01/event/quantity/counted"


@pytest.mark.parametrize(
    ("order", "level"),
    [("OF-1", "OF-1"), ("OF-2026-004512/0020", "OF-2026-004512%2F0020"), ("a.b", "a%2Eb"), ("a b+#é", "a%20b%2B%23%C3%A9")],
)
def test_order_ids_are_one_topic_level(order: str, level: str) -> None:
    assert escape(order) == level
    assert topics().full(topics().job("press-07", order)) == f"{UNIT}/job/{level}"


@pytest.mark.parametrize("receive_maximum", [1, 2, 3, 8, 16, 65535])
async def test_a_full_ledger_lane_leaves_a_place_for_live_values(receive_maximum: int) -> None:
    window = Window(receive_maximum)
    limit = min(16, receive_maximum)
    taken = 0

    async def fill() -> None:
        nonlocal taken
        while await window.take(Lane.LEDGER):
            taken += 1

    filling = asyncio.create_task(fill())
    await asyncio.sleep(0)
    assert window.in_flight == taken <= limit
    live = asyncio.create_task(window.take(Lane.LIVE))
    await asyncio.sleep(0)
    if receive_maximum == 1:
        assert not live.done(), "one place for all: the next free one is the live value's"
        window.give(Lane.LEDGER)
    assert await live
    assert window.in_flight <= limit
    window.close()
    await filling
    assert not await window.take(Lane.TELEMETRY)


async def test_a_waiter_that_is_cancelled_takes_no_place_with_it() -> None:
    window = Window(1)
    assert await window.take(Lane.LEDGER)
    first, second = (asyncio.create_task(window.take(Lane.LIVE)) for _ in range(2))
    await asyncio.sleep(0)
    window.give(Lane.LEDGER)
    first.cancel()
    assert await second
    assert window.in_flight == 1
