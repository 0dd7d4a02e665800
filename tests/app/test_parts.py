"""What a restarted daemon finds in the journal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.app.parts import make_centers, make_trackers
from gateway.config import load
from gateway.domain.events import WindowClosed
from gateway.domain.kpi import kpi_line
from gateway.domain.work_center import WorkCenter
from gateway.outbox.store import Store
from tests.app.remembered import play, save, site
from tests.manual_clock import ManualClock


@pytest.mark.parametrize("at", [datetime(1970, 1, 1, 0, 5, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)])
async def test_a_lines_windows_go_on_whatever_the_clock_says_at_the_start(tmp_path: Path, at: datetime) -> None:
    config = load(site(tmp_path))
    press = play(config, "press-07")
    units = {name: config.work_units[name] for name in ("press-07", "packer-02")}
    save(tmp_path / "state", press, play(config, "packer-02"), center=WorkCenter("line-3", units, config.line_rule("line-3")))
    window = press.machine.windows.closed[-1]
    store = await Store.open(tmp_path / "state", uplinks=(), clock=ManualClock(at), settings=config.journal)
    try:
        (line,) = [center for center in await make_centers(config, store, await make_trackers(config, store)) if center.name == "line-3"]
    finally:
        await store.close()
    revised = WindowClosed(work_unit="press-07", at=press.now, job_order_id=None, line=kpi_line(window, press.unit))
    (told,) = line.closed(revised)
    assert told.data()["revision"] > 1, "a line that had forgotten the window would tell it as new, or not at all"
