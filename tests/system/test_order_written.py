"""The order's quantity reaches the press's PLC once, whatever is killed afterwards."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.outbox.statedir import DATABASE
from tests.system.line import Line, eventually, standing_line

pytestmark = pytest.mark.slow


def written(line: Line) -> list[dict[str, Any]]:
    """The command.written events of the journal, in order."""
    with closing(sqlite3.connect(f"file:{line.state_dir / DATABASE}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT body FROM journal WHERE type = 'command.written' ORDER BY sequence").fetchall()
    return [json.loads(body) for (body,) in rows]


async def test_an_order_is_written_once_though_daemon_and_plc_are_killed(tmp_path: Path) -> None:
    async with standing_line(tmp_path) as line:

        async def told() -> bool:
            return len(written(line)) >= 2

        await eventually(told, 60)
        before, after = written(line)
        assert [event["data"]["phase"] for event in (before, after)] == ["before", "after"]
        assert after["data"]["problem"] is None
        assert before["subject"] == after["subject"]
        for _ in range(2):
            await line.kill_daemon()
            await line.start_daemon()
            await line.ready()
            await eventually(line.counters_are_read, 60)
        await line.post("/servers/press_plc", {"do": "restart"})

        async def back() -> bool:
            _, status = await line.ask_page("/api/status")
            link = next(link for link in status["links"] if link["name"] == "press_plc")
            return bool(link["outages"] == 1 and link["state"] == "connected")

        await eventually(back, 60)
        assert written(line) == [before, after]
        _, status = await line.ask_page("/api/status")
        assert [alert["alert"] for alert in status["alerts"] if alert["severity"] != "info"] == []
        assert await line.stop_daemon() == 0
