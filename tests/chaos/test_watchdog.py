"""The same as `make watchdog`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.hung import KINDS
from tests.chaos.watchdog import run, table


@pytest.mark.system
@pytest.mark.alone
async def test_a_hang_is_seen_and_a_busy_machine_is_none(tmp_path: Path) -> None:
    outcome = await run(tmp_path, 5)
    assert outcome.violations == [], "\n".join(table(outcome))
    assert {kind: len(stopped) for kind, stopped in outcome.stopped_s.items()} == dict.fromkeys(KINDS, 5)
