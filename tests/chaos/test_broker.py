"""The same as `make chaos` and `make outage`, shorter; the commands have the machine to themselves and are stricter about time."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.supervise import Backoff
from tests.chaos import broker, outage

LATE_S = 10.0


@pytest.mark.slow
async def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    assert (await broker.killed(tmp_path, 2)).failures == []


@pytest.mark.slow
@pytest.mark.parametrize("hangs_up", [False, True])
async def test_every_refusal_is_told_and_the_others_go_on(tmp_path: Path, hangs_up: bool) -> None:
    assert (await broker.denied(tmp_path, 10, hangs_up=hangs_up, late_s=LATE_S)).failures == []


@pytest.mark.slow
async def test_a_poisoned_row_has_five_tries(tmp_path: Path) -> None:
    assert (await broker.poison(tmp_path, 20, late_s=LATE_S)).failures == []


@pytest.mark.slow
async def test_from_one_broker_to_the_other_and_back(tmp_path: Path) -> None:
    assert (await broker.failover(tmp_path, 2)).failures == []


@pytest.mark.slow
@pytest.mark.parametrize(("direction", "type_"), [("up", 1), ("down", 9), ("up", 3), ("down", 4), ("down", 3)])
async def test_a_connection_that_ends_within_a_packet(tmp_path: Path, direction: str, type_: int) -> None:
    assert (await broker.cut(tmp_path, direction, type_, "within")).failures == []


@pytest.mark.slow
async def test_a_short_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outbox.forwarder.Backoff", lambda base_s, cap_s: Backoff(min(base_s, 0.2), min(cap_s, 0.5)))
    monkeypatch.setattr(outage, "LIVE_WATCH_S", 3.0)
    outcome = await outage.run(1_000, tmp_path, idle_s=20.0)
    assert list(outage.failures(outcome, drain_rows_per_s=200.0, live_late_s=LATE_S)) == []


@pytest.mark.system
async def test_everything_a_broker_can_do(tmp_path: Path) -> None:
    outcomes = await broker.run(tmp_path, kills=20, rows=10_000, late_s=LATE_S)
    print(*broker.table(outcomes), sep="\n")
    assert [f"{outcome.name}: {failure}" for outcome in outcomes for failure in outcome.failures] == []


@pytest.mark.system
@pytest.mark.alone
async def test_an_outage_of_fifty_thousand_rows(tmp_path: Path) -> None:
    outcome = await outage.run(50_000, tmp_path)
    print(*outage.table(outcome), sep="\n")
    assert list(outage.failures(outcome, drain_rows_per_s=2_000.0, live_late_s=LATE_S)) == []
