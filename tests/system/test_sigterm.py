from __future__ import annotations

import asyncio
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.system.line import BASE, GATEWAY, Line, assert_equal_everywhere, eventually, whole_line
from tests.uplink.brokers import Listener, until

pytestmark = pytest.mark.slow

STATUS = f"{BASE}/{GATEWAY}/status"
ROUNDS = 3
BOUND_S = 5.0


async def test_sigterm_from_the_birth_message_on_ends_with_0_in_time(tmp_path: Path) -> None:
    moments = random.Random(20_261_125)
    async with whole_line(tmp_path) as line:
        with closing(Listener(line.broker_port, STATUS)) as listener:
            await until(lambda: births(listener) == 1)
            for number in range(ROUNDS):
                if line.starts == number:
                    await line.start_daemon()
                    await until(lambda number=number: births(listener) == number + 1, 30)
                # At once in every third round, else anywhere in the first moments of work.
                await asyncio.sleep(moments.uniform(0, 2) if number % 3 else 0)
                await stops_in_time(line)
                await until(lambda: not listener.on(STATUS)[-1]["online"])
            # With every peer gone dark, and everybody sure of it.
            await line.start_daemon()
            await until(lambda: births(listener) == ROUNDS + 1, 30)
            await line.ready()
            await eventually(line.counters_are_read, 30)
            await line.spoil("blackhole")
            await eventually(lambda: links_are_down(line), 40)
            await stops_in_time(line)
            await line.spoil("pass")
        await line.start_daemon()
        await line.ready()
        await assert_equal_everywhere(line, at_least=30)


def births(listener: Listener) -> int:
    return sum(status["online"] for status in listener.on(STATUS))


async def stops_in_time(line: Line) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    code = await line.stop_daemon()
    took = loop.time() - began
    assert code == 0, line.log("gateway")
    assert took <= BOUND_S, f"{took:.2f} s\n{line.log('gateway')}"


async def links_are_down(line: Line) -> bool:
    _, status = await line.ask_page("/api/status")
    links: list[dict[str, Any]] = status["links"]
    # An ERP may take half a minute to answer a report, so its silence shows late.
    return not any(link["state"] in ("connected", "degraded") for link in links if link["name"] != "erp")
