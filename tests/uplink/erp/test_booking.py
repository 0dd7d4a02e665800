"""The booking engine on an ERP in memory."""

from __future__ import annotations

from decimal import Decimal

from gateway.domain.job_order import JobState, Verb
from tests.uplink.erp.gateway import Gateway
from tests.uplink.erp.line import order
from tests.uplink.erp.links import StandInLink


async def test_an_order_comes_down_and_its_totals_go_up() -> None:
    link = StandInLink()
    gateway = Gateway(link.uplink, link.clock)
    link.erp.plan(order("OF-1"), "press-07")
    await gateway.start()
    line = gateway.line
    await gateway.until(lambda: line.state("OF-1") is JobState.RUNNING)
    line.make("OF-1", 60, 3)
    stop = line.stop("OF-1")
    line.measure("OF-1", Decimal("20.01"))
    await gateway.settled()
    booked = await link.booked("OF-1")
    assert (booked.good, booked.scrap, booked.is_started, booked.is_closed) == (60, 3, True, False)
    line.make("OF-1", 40)
    line.stop("OF-1", stop_id=stop, revision=2, reason="tool")
    line.do(Verb.STOP, "OF-1")
    await gateway.settled()
    booked = await link.booked("OF-1")
    assert (booked.good, booked.scrap, booked.is_closed, booked.stops) == (100, 3, True, 1)
    assert booked.consumed == {"steel": Decimal("36.05"), "oil": Decimal("0.103")}
    assert booked.results == tuple(line.made["OF-1"].results)
    assert link.erp.of("OF-1").stops[stop].reason == "tool"
    assert not link.erp.violations
    await gateway.stop()
