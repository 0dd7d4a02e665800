"""What the README promises of the demo, at its full length: equal counts, and an urgent order that makes another one late."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.test_demo import still_running

pytestmark = pytest.mark.system


async def test_two_minutes_at_five_times_the_speed_end_equal_and_say_who_was_overtaken(tmp_path: Path) -> None:
    demo = ["demo", "--speed", "5", "--for", "120", "--broker", "mosquitto", "--state-dir", str(tmp_path)]
    command = [sys.executable, "-m", "gateway", *demo]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    assert process.stdout is not None
    lines: list[str] = []
    shown: dict[str, Any] | None = None
    async with asyncio.timeout(240):
        while line := (await process.stdout.readline()).decode():
            lines.append(line)
            late = re.search(r"order (\S+) will be late .*: (\S+) came later and goes first", line)
            if late is not None and shown is None:
                shown = await _elsewhere(tmp_path, "".join(lines), late[1])
                assert shown["urgent"] == late[2]
        await process.wait()
    output = "".join(lines)
    assert process.returncode == 0, output
    assert "Equal: every piece" in output
    assert re.search(r"Orders finished in the ERP: OF-\d+", output)
    assert re.search(r"stopped: (overload|misfeed|coil change)", output), "no fault was told"
    assert still_running(tmp_path) == [], "processes were left behind"
    assert shown is not None, output
    assert f"overtaken by {shown['urgent']}" in shown["page"]
    assert [event["data"]["verdict"] for event in shown["erp"]][-1] == "late"
    assert shown["erp"][-1]["data"]["basis"].startswith(f"overtaken by {shown['urgent']}")
    late = next(job for job in shown["whatif"]["jobs"] if job["job_order_id"] == shown["order"])
    assert late["before"]["late_s"] > 0
    assert [plan["rule"] for plan in shown["whatif"]["plans"]] == ["present", "earliest_due_date", "critical_ratio", "least_late"]


async def _elsewhere(folder: Path, output: str, order: str) -> dict[str, Any]:
    """What page and ERP know of the late order while the demo runs; the sentence itself came from the MES."""
    page = re.search(r"Open (http://\S+)/", output)
    urgent = re.search(r"the ERP sends order (\S+),", output)
    assert page is not None
    assert urgent is not None, "the urgent order was told before it made anybody late"
    control = json.loads((folder / "plant.json").read_text("utf-8"))["control"]
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{control}/erp/events") as answer:
                events = (await answer.json())["events"]
            told = [e for e in events if e["type"] == "lineside.promise.changed.v1" and e.get("subject") == order]
            if told and told[-1]["data"]["verdict"] == "late":
                break
            await asyncio.sleep(0.5)
        async with http.get(f"{page[1]}/api/whatif?work_unit=press-07") as answer:
            whatif = await answer.json()
        async with http.get(f"{page[1]}/orders?lang=en") as answer:
            return {"urgent": urgent[1], "order": order, "erp": told, "page": await answer.text(), "whatif": whatif}
