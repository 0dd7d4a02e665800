"""What the press made is what the ERP's books hold, on every link of `LINKS`, whatever happens; and the control that must fail."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from gateway.domain.job_order import JobState, Verb
from tests.uplink.erp.conformance import ErpUnderTest, Fault
from tests.uplink.erp.gateway import Gateway
from tests.uplink.erp.line import order
from tests.uplink.erp.links import LINKS, naive


def _marks(name: str, fault: Fault | None = None) -> list[pytest.MarkDecorator]:
    if fault in LINKS[name].rare:
        return [pytest.mark.system]
    # `make check` sees a well ERP and one that loses replies; `make test` the others too.
    return [pytest.mark.slow] if LINKS[name].is_slow or fault not in (None, Fault.DROPPED) else []


links = pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in LINKS])
with_planner = pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in LINKS if LINKS[name].has_planner])
misbehaving = pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(name, fault, marks=_marks(name, fault), id=f"{name}-{'well' if fault is None else fault.name.lower()}")
        for name in LINKS
        for fault in (None, *sorted(LINKS[name].faults))
    ],
)


@asynccontextmanager
async def _gateway(link: ErpUnderTest) -> AsyncIterator[Gateway]:
    gateway = Gateway(link.uplink, link.clock)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


async def _released(gateway: Gateway, link: ErpUnderTest, job_order_id: str, work_unit: str) -> None:
    await link.release(order(job_order_id), work_unit)
    await gateway.until(lambda: gateway.line.state(job_order_id) is JobState.RUNNING, f"{job_order_id} running")


async def _same_books(gateway: Gateway, link: ErpUnderTest, *names: str) -> None:
    """The press's own counters and the ERP's books, order by order."""
    await gateway.settled()
    line = gateway.line
    for name in names:
        made, booked, state = line.made[name], await link.booked(name), line.state(name)
        assert (booked.good, booked.scrap) == (made.good, made.scrap), name
        if booked.consumed is not None:
            assert {m: q for m, q in booked.consumed.items() if q} == {m: q for m, q in made.consumed.items() if q}, name
        if booked.run_s is not None:
            assert booked.run_s == pytest.approx(made.run_s, abs=1.0), name
        if booked.stops is not None:
            assert booked.stops == len(made.stops), name
        if booked.results is not None:
            assert booked.results == tuple(sorted(made.results)), name
        if booked.is_started is not None:
            assert booked.is_started, name
        if booked.is_closed is not None:
            assert booked.is_closed is (state is JobState.ENDED), name
        if booked.times is not None:
            # Under the time at which it was so, not at which it was posted: a day of backlog keeps its dates.
            told = {row.at for row in line.journal.rows}
            assert set(booked.times) <= told, name
    assert await link.violations() == []


async def _two_orders(gateway: Gateway, link: ErpUnderTest, *, between: Callable[[], object] = lambda: None) -> None:
    """A morning of two machines: interleaved pieces, a stop, results, good that becomes scrap, material given back, one order's end."""
    line = gateway.line
    await _released(gateway, link, "OF-1", "press-07")
    await _released(gateway, link, "OF-2", "press-08")
    for good, scrap in ((10, 0), (5, 1), (7, 0)):
        line.make("OF-1", good, scrap)
        between()
        line.make("OF-2", good + 1, scrap)
        await gateway.moment()
        between()
    line.stop("OF-1")
    line.measure("OF-1", Decimal("20.02"))
    line.measure("OF-2", Decimal("20.21"), passed=False)
    await gateway.settled()
    line.scrap_later("OF-1", 4)
    line.give_back("OF-2", "steel", Decimal("0.5"))
    between()
    await gateway.moment()
    line.make("OF-1", 3)
    line.do(Verb.STOP, "OF-1")
    line.make("OF-2", 2)


@misbehaving
async def test_books_what_was_made(name: str, fault: Fault | None) -> None:
    async with LINKS[name].make() as erp, _gateway(erp) as gateway:
        await erp.misbehave(fault)
        await _two_orders(gateway, erp)
        await _same_books(gateway, erp, "OF-1", "OF-2")


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(name, seed, marks=pytest.mark.slow if seed or LINKS[name].is_slow else [])
        for name in LINKS
        for seed in range(1 if LINKS[name].is_slow else 3)
    ],
)
async def test_killed_at_any_moment(name: str, seed: int) -> None:
    chance = random.Random(seed)
    async with LINKS[name].make() as erp, _gateway(erp) as gateway:
        await erp.misbehave(Fault.DROPPED if Fault.DROPPED in erp.faults else None)
        line = gateway.line
        await _released(gateway, erp, "OF-1", "press-07")
        await _released(gateway, erp, "OF-2", "press-08")
        for step in range(LINKS[name].kills):
            running = [name for name in ("OF-1", "OF-2") if line.state(name) is JobState.RUNNING]
            line.make(chance.choice(running), chance.randrange(5), chance.randrange(2))
            if step == LINKS[name].kills // 2:
                line.do(Verb.STOP, "OF-1")
            elif step == 5:
                line.measure("OF-1", Decimal("20.02"))
            for _ in range(chance.randrange(12)):
                await gateway.some_steps(chance)
            await gateway.kill()
        await _same_books(gateway, erp, "OF-1", "OF-2")


@links
async def test_late_scrap_is_moved_in_the_books(name: str) -> None:
    async with LINKS[name].make() as erp, _gateway(erp) as gateway:
        await _released(gateway, erp, "OF-1", "press-07")
        gateway.line.make("OF-1", 20)
        await gateway.settled()
        assert (await erp.booked("OF-1")).good == 20
        gateway.line.scrap_later("OF-1", 8)
        await _same_books(gateway, erp, "OF-1")


@links
async def test_a_day_of_backlog_keeps_its_times(name: str) -> None:
    async with LINKS[name].make() as erp, _gateway(erp) as gateway:
        await _released(gateway, erp, "OF-1", "press-07")
        await gateway.stop()
        for _ in range(50):
            gateway.line.make("OF-1", 1)
            gateway.line.pass_(1000)
        gateway.line.do(Verb.STOP, "OF-1")
        await gateway.start()
        await _same_books(gateway, erp, "OF-1")


@with_planner
async def test_a_blocked_order_holds_up_no_other(name: str) -> None:
    async with LINKS[name].make() as erp, _gateway(erp) as gateway:
        await _released(gateway, erp, "OF-1", "press-07")
        await _released(gateway, erp, "OF-2", "press-08")
        await erp.refuse("OF-1", "the period is closed")
        gateway.line.make("OF-1", 5)
        gateway.line.make("OF-2", 6)
        gateway.line.do(Verb.STOP, "OF-2")
        await gateway.until(lambda: "erp.blocked:erp:OF-1" in gateway.alerts.up, "somebody is told")
        assert "the period is closed" in gateway.alerts.up["erp.blocked:erp:OF-1"]
        await gateway.until(lambda: gateway.is_tried, "the other order is booked")
        assert (await erp.booked("OF-2")).is_closed is not False
        assert (await erp.booked("OF-1")).good == 0
        # A person settles it in the ERP; nobody has to do anything here.
        await erp.refuse("OF-1", None)
        await gateway.until(lambda: "erp.blocked:erp:OF-1" not in gateway.alerts.up, "it goes on by itself")
        await _same_books(gateway, erp, "OF-1", "OF-2")


@with_planner
async def test_a_planner_cancels(name: str) -> None:
    async with LINKS[name].make() as erp, _gateway(erp) as gateway:
        await _released(gateway, erp, "OF-1", "press-07")
        await erp.cancel("OF-1")
        await gateway.until(lambda: gateway.line.state("OF-1") is JobState.ABORTED, "the job is aborted")
        await gateway.until(lambda: "erp.planner:erp:OF-1" in gateway.alerts.up, "somebody is told")


@pytest.mark.parametrize(
    "fault", [Fault.DROPPED, *(pytest.param(fault, marks=pytest.mark.slow) for fault in (Fault.HALF, Fault.MEANINGLESS))]
)
async def test_a_naive_adapter_fails(fault: Fault) -> None:
    """The control: deltas, no read-back. A suite that it passes proves nothing."""
    async with naive() as erp, _gateway(erp) as gateway:
        await _two_orders(gateway, erp)
        await _same_books(gateway, erp, "OF-1", "OF-2")
    async with naive() as erp, _gateway(erp) as gateway:
        await erp.misbehave(fault)
        with pytest.raises(AssertionError, match=r"OF-|never came"):  # noqa: PT012
            await _two_orders(gateway, erp)
            await _same_books(gateway, erp, "OF-1", "OF-2")


async def test_a_naive_adapter_fails_when_it_is_killed() -> None:
    async with naive() as erp, _gateway(erp) as gateway:
        await _released(gateway, erp, "OF-1", "press-07")
        gateway.line.make("OF-1", 5)
        await gateway.settled()
        await gateway.kill()
        gateway.line.make("OF-1", 1)
        with pytest.raises(AssertionError, match="OF-1"):
            await _same_books(gateway, erp, "OF-1")
