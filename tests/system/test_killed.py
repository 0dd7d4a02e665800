from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.system.line import assert_equal_everywhere, whole_line

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
        state = await assert_equal_everywhere(line, at_least=60)
        assert state["mes"]["connections"] == 1
