from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
async def test_the_demo_ends_by_itself_with_an_equal_reconciliation_and_an_order_finished(tmp_path: Path) -> None:
    """With the broker that comes along; with mosquitto it is in `test_demo_two_minutes`."""
    command = [sys.executable, "-m", "gateway", "demo", "--speed", "12", "--for", "40", "--broker", "amqtt", "--state-dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    async with asyncio.timeout(150):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "Equal: every piece" in output
    assert re.search(r"Open http://127\.0\.0\.1:\d+/", output)
    assert re.search(r"Orders finished in the ERP: OF-\d+", output)
    assert re.search(r"stopped: (overload|misfeed|coil change)", output), "no fault was told"
    assert still_running(tmp_path) == [], "processes were left behind"


def still_running(folder: Path) -> list[str]:
    """Command lines of living processes that mention the demo's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found
