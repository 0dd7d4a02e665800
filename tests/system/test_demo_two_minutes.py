"""What the README promises of the demo, at its full length."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


async def test_two_minutes_at_five_times_the_speed_end_equal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--speed", "5", "--for", "120", "--state-dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    async with asyncio.timeout(240):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert "Equal: every piece" in output
    assert re.search(r"Orders finished in the ERP: OF-\d+", output)
