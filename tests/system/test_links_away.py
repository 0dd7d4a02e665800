"""Links that go away, for a minute in the long run. The outages run side by side, each on a line of its own, for most of it is waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.line import UNITS, Event, Line, assert_equal_everywhere, eventually, of_type, units_with_late_pieces, whole_line

Outage = Callable[[Path, float], Coroutine[None, None, None]]


async def broker_away(folder: Path, away_s: float) -> None:
    async with whole_line(folder) as line:
        await line.made("press-07", 20)
        await line.kill_broker()
        before = await line.get("/state")
        await asyncio.sleep(away_s)
        away = await line.get("/state")
        assert not away["mes"]["connected"]
        assert away["erp"]["events"] > before["erp"]["events"], "a dead broker must not hold up the ERP"
        assert away["mes"]["events"] == before["mes"]["events"]
        await line.start_broker()
        await eventually(lambda: reconnected(line), 120)
        await assert_equal_everywhere(line, at_least=int(2.5 * away_s))


async def reconnected(line: Line) -> bool:
    state = await line.get("/state")
    return bool(state["mes"]["connections"] == 2 and state["mes"]["events"] == state["erp"]["events"])


async def erp_away(folder: Path, away_s: float) -> None:
    async with whole_line(folder) as line:
        await line.made("press-07", 20)
        await line.post("/servers/erp", {"do": "stop"})
        before = await line.get("/state")
        await asyncio.sleep(away_s)
        away = await line.get("/state")
        assert away["erp"]["events"] == before["erp"]["events"]
        assert away["mes"]["events"] > before["mes"]["events"], "a dead ERP must not hold up the MES"
        await line.post("/erp/faults", {"drop_every": 2})
        await line.post("/servers/erp", {"do": "start"})
        await eventually(lambda: answers_dropped(line, 3), 120)
        await assert_equal_everywhere(line, at_least=int(2.5 * away_s))
        state = await line.get("/state")
        assert state["erp"]["repeats"] > 0, "no answer was lost after booking: this test would prove nothing"


async def answers_dropped(line: Line, count: int) -> bool:
    return bool((await line.get("/state"))["erp"]["requests"]["dropped_replies"] >= count)


async def plcs_away(folder: Path, away_s: float) -> None:
    """Both PLCs restart, then answer nothing for a while on open connections; the machines go on all the time. An outage ends once enough
    was made unseen."""
    async with whole_line(folder) as line:
        await line.made("press-07", 20)
        for plc in ("press_plc", "packer_plc"):
            await line.post(f"/servers/{plc}", {"do": "stop"})
        await both_make_pieces_unseen(line, min(away_s, 8.0))
        for plc in ("press_plc", "packer_plc"):
            await line.post(f"/servers/{plc}", {"do": "start"})
        await eventually(lambda: all_counted(line), 60)
        await line.spoil("blackhole", "press_plc", "packer_plc")
        await both_make_pieces_unseen(line, min(away_s, 8.0))
        await line.spoil("pass", "press_plc", "packer_plc")
        await eventually(lambda: all_counted(line), 60)
        ledger = await assert_equal_everywhere(line, at_least=60)
        assert units_with_late_pieces(ledger) == set(UNITS), "what was made while nobody looked must be flagged"
        for unit in UNITS:
            assert_late_pieces_are_plausible(ledger, unit)


async def both_make_pieces_unseen(line: Line, away_s: float) -> None:
    machines = (await line.get("/state"))["machines"]
    await asyncio.sleep(away_s)
    for unit in UNITS:
        await line.made(unit, machines[unit]["made"]["produced"] + 10)


async def all_counted(line: Line) -> bool:
    """The MES has had pieces since the link came back: within a piece or two of what the machines have made."""
    state = await line.get("/state")
    return all(
        (state["mes"]["made"].get(unit) or {"produced": 0})["produced"] >= state["machines"][unit]["made"]["produced"] - 5 for unit in UNITS
    )


def assert_late_pieces_are_plausible(ledger: list[Event], unit: str) -> None:
    late = [event for event in of_type(ledger, "quantity.counted", unit) if event["data"]["late"]]
    assert sum(event["data"]["produced"] for event in late) >= 10
    for event in late:
        assert event["data"]["since"] < event["time"], "a late piece was made between two times"


OUTAGES: tuple[Outage, ...] = (broker_away, erp_away, plcs_away)


@pytest.fixture(
    scope="module", params=[pytest.param(8.0, id="8s", marks=pytest.mark.slow), pytest.param(60.0, id="60s", marks=pytest.mark.system)]
)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """All outages at once, each in a thread with an event loop of its own."""
    with ThreadPoolExecutor(len(OUTAGES)) as pool:
        yield {
            outage.__name__: pool.submit(asyncio.run, outage(tmp_path_factory.mktemp(outage.__name__), request.param)) for outage in OUTAGES
        }


@pytest.mark.xdist_group("links_away")
@pytest.mark.parametrize("outage", [outage.__name__ for outage in OUTAGES])
def test_everything_is_equal_after(outage: str, running: dict[str, Future[None]]) -> None:
    running[outage].result()
