from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.system.line import assert_equal_everywhere, whole_line

pytestmark = pytest.mark.slow


async def test_the_broker_is_killed_and_away_for_a_minute(tmp_path: Path) -> None:
    async with whole_line(tmp_path) as line:
        await asyncio.sleep(5)
        assert line.broker is not None
        line.broker.kill()
        await line.broker.wait()
        before = (await line.get("/state"))["erp"]["events"]
        await asyncio.sleep(60)
        away = await line.get("/state")
        assert not away["mes"]["connected"]
        assert away["erp"]["events"] > before, "a dead broker must not hold up the ERP"
        await line.start_broker()
        await asyncio.sleep(5)
        state = await assert_equal_everywhere(line, at_least=100)
        assert state["mes"]["connections"] == 2


async def test_the_erp_is_away_for_a_minute_and_then_loses_every_second_answer(tmp_path: Path) -> None:
    async with whole_line(tmp_path) as line:
        await line.post("/erp/faults", {"drop_every": 2})
        await asyncio.sleep(10)
        await line.post("/servers/erp", {"do": "stop"})
        before = await line.get("/state")
        assert before["erp"]["requests"]["dropped_replies"] > 0
        await asyncio.sleep(60)
        away = await line.get("/state")
        assert away["erp"]["events"] == before["erp"]["events"]
        assert away["mes"]["events"] > before["mes"]["events"], "a dead ERP must not hold up the MES"
        await line.post("/servers/erp", {"do": "start"})
        await asyncio.sleep(5)
        state = await assert_equal_everywhere(line, at_least=100)
        assert state["erp"]["repeats"] > 0, "no answer was lost: this test would prove nothing"
        assert state["erp"]["violations"] == []


async def test_both_plcs_go_away_and_come_back_while_the_machines_go_on(tmp_path: Path) -> None:
    async with whole_line(tmp_path) as line:
        await asyncio.sleep(5)
        for plc in ("press_plc", "packer_plc"):
            await line.post(f"/servers/{plc}", {"do": "stop"})
        before = (await line.get("/state"))["machines"]
        await asyncio.sleep(8)
        after = (await line.get("/state"))["machines"]
        assert all(after[unit]["made"]["produced"] > before[unit]["made"]["produced"] for unit in before)
        for plc in ("press_plc", "packer_plc"):
            await line.post(f"/servers/{plc}", {"do": "start"})
        await asyncio.sleep(8)
        await line.post("/faults/packer_plc", {"kind": "blackhole"})
        await line.post("/faults/press_plc", {"kind": "blackhole"})
        await asyncio.sleep(8)
        await line.post("/faults/packer_plc", {"kind": "pass"})
        await line.post("/faults/press_plc", {"kind": "pass"})
        await asyncio.sleep(8)
        await assert_equal_everywhere(line, at_least=50)
        events = (await line.get("/mes/events"))["events"]
        late = {e["source"].rsplit("/", 1)[-1] for e in events if "quantity.counted" in e["type"] and e["data"]["late"]}
        assert late == {"press-07", "packer-02"}, "what was made while nobody looked must be flagged"
