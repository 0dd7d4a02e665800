from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.system.line import UNITS, Event, assert_equal_everywhere, of_type, units_with_late_pieces, whole_line

pytestmark = pytest.mark.slow

KILLS = 20


async def test_killed_twenty_times_at_random_moments_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    moments = random.Random(20_261_125)
    async with whole_line(tmp_path) as line:
        for _ in range(KILLS):
            # From the middle of a start to well within counting; a start takes about two seconds.
            await asyncio.sleep(moments.uniform(0.3, 4.5))
            await line.kill_daemon()
            await line.start_daemon()
        await line.ready()
        assert line.starts == KILLS + 1
        ledger = await assert_equal_everywhere(line, at_least=60)
        assert (await line.get("/state"))["mes"]["connections"] == 1
    assert units_with_late_pieces(ledger) == set(UNITS), "what was made while nobody looked must be flagged"
    orders_go_on_over_kills(ledger)


def orders_go_on_over_kills(ledger: list[Event]) -> None:
    """Each order is taken once, started once, ended at most once; its totals only rise, and are the sum of its pieces."""
    orders = {event["subject"] for event in of_type(ledger, "job.changed")}
    worked = {event["subject"] for event in of_type(ledger, "job.progress")}
    assert {event["source"].rsplit("/", 1)[-1] for event in of_type(ledger, "job.progress")} == set(UNITS)
    for order in orders:
        states = [event["data"]["state"] for event in of_type(ledger, "job.changed") if event["subject"] == order]
        assert states in (["AllowedToStart", "Running", "Ended"][: len(states)], ["Running", "Ended"][: len(states)]), (order, states)
    for order in worked:
        totals = [event["data"]["produced"] for event in of_type(ledger, "job.progress") if event["subject"] == order]
        assert totals == sorted(totals), f"{order} went backwards"
        pieces = sum(event["data"]["produced"] for event in of_type(ledger, "quantity.counted") if event["subject"] == order)
        assert pieces == totals[-1], f"{order}: {pieces} pieces counted, {totals[-1]} reported"
