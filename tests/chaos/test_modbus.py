"""The same as `make chaos-modbus`, shorter."""

from __future__ import annotations

import pytest

from tests.chaos.modbus import failures, run, table
from tests.chaos.modbus_server import KINDS, RTU_KINDS


async def chaos(per_kind: int, writes_per_kind: int, seed: int, *, rtu: bool = False) -> None:
    outcome = await run(per_kind, writes_per_kind, seed, rtu=rtu)
    print(*table(outcome), sep="\n")
    assert list(failures(outcome)) == []
    assert all(
        outcome.given[way, kind] == count
        for way, count in (("read", per_kind), ("write", writes_per_kind))
        for kind in (RTU_KINDS if rtu else KINDS)
    )
    assert outcome.values > 100 * per_kind


@pytest.mark.slow
async def test_bad_replies_never_become_a_value_nor_a_second_write() -> None:
    await chaos(20, 4, seed=1)


@pytest.mark.slow
async def test_nor_do_they_with_serial_framing() -> None:
    await chaos(20, 4, seed=3, rtu=True)


@pytest.mark.system
async def test_a_thousand_bad_replies_of_each_kind() -> None:
    await chaos(1000, 50, seed=2)
