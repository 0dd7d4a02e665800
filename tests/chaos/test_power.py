"""The short run of `make power`: it mounts a file system, so it needs root."""

from __future__ import annotations

import pytest

from tests.chaos.power import failures, run, table


@pytest.mark.system
async def test_a_hundred_power_cuts_lose_no_durable_row_and_the_control_does() -> None:
    full, control = await run(100, seed=1)
    assert failures(full, control) == [], table(full, control)
    assert full.told > 1_000
