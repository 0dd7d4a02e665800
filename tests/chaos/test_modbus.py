"""The same as `make chaos-modbus`, shorter."""

from __future__ import annotations

import pytest

from tests.chaos.modbus import failures, run, table
from tests.chaos.modbus_server import KINDS, RTU_KINDS


async def chaos(per_kind: int, writes_per_kind: int, seed: int, layout: str = "tcp") -> None:
    outcome = await run(per_kind, writes_per_kind, seed, layout=layout)
    print(*table(outcome), sep="\n")
    # The suite runs on both cores at once; the command by itself is stricter.
    assert list(failures(outcome, exception_losses=0.5)) == []
    kinds = RTU_KINDS if layout == "rtu+tcp" else KINDS
    assert all(outcome.given[way, kind] == count for way, count in (("read", per_kind), ("write", writes_per_kind)) for kind in kinds)
    assert outcome.values > 100 * per_kind


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "per_kind"), [("tcp", 20), ("rtu+tcp", 20), ("gateway", 8)])
async def test_bad_replies_never_become_a_value_nor_a_second_write(layout: str, per_kind: int) -> None:
    await chaos(per_kind, 4, 1, layout)


@pytest.mark.system
async def test_a_thousand_bad_replies_of_each_kind() -> None:
    await chaos(1000, 50, 2)
