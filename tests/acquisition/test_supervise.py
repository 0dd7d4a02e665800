"""The link loop on a manual clock: states, back-off, outages told once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from structlog.testing import capture_logs

from drivers.base import Concern
from gateway.domain.events import Text
from gateway.supervise import Backoff, Diagnosis, Link, LinkState, LinkStatus, for_good
from tests.manual_clock import ManualClock


class Gone(Exception):
    pass


def make_link(clock: ManualClock, seen: list[LinkStatus], backoff: Backoff | None = None) -> Link:
    return Link("plc", kind="device", peer="Modbus 10.0.0.1:502", clock=clock, on_status=seen.append, backoff=backoff or steady())


def steady(base: float = 1.0, cap: float = 4.0) -> Backoff:
    return Backoff(base, cap, draw=lambda: 1.0)


def test_backoff_doubles_up_to_its_cap_and_starts_again() -> None:
    backoff = steady()
    assert [backoff.next_delay() for _ in range(4)] == [1.0, 2.0, 4.0, 4.0]
    backoff.reset()
    assert backoff.next_delay() == 1.0


def test_backoff_jitter_is_full() -> None:
    assert Backoff(1.0, 4.0, draw=lambda: 0.25).next_delay() == 0.25
    delays = [Backoff(1.0, 4.0).next_delay() for _ in range(50)]
    assert all(0.0 <= delay <= 1.0 for delay in delays)
    assert len(set(delays)) > 1


async def test_a_link_goes_through_its_states_and_counts_outages() -> None:
    clock, seen = ManualClock(), []
    link = make_link(clock, seen)
    answers = iter([Gone("refused"), None, Gone("reset")])

    async def serve() -> None:
        answer = next(answers)
        if answer is None or str(answer) == "reset":
            link.connected()
            link.good()
            await clock.sleep(10)
            raise Gone("cut")
        raise answer

    task = asyncio.create_task(link.run(serve, (Gone,), lambda error: Diagnosis(str(error), Text("câble", "cable"))))
    await clock.advance(0)
    assert link.status.state is LinkState.DISCONNECTED
    assert link.status.error == "refused"
    assert link.status.remedy == Text("câble", "cable")
    assert link.status.attempt == 1
    assert link.status.next_try_at is not None
    began = link.status.since
    await clock.advance(1)
    assert link.status.state is LinkState.CONNECTED
    assert link.status.since > began
    assert link.status.last_good == clock.now()
    assert (link.status.error, link.status.attempt, link.status.next_try_at) == ("", 0, None)
    await clock.advance(10)
    assert link.status.state is LinkState.DISCONNECTED
    assert link.status.outages == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [status.state for status in seen[:4]] == [
        LinkState.CONNECTING, LinkState.DISCONNECTED, LinkState.CONNECTING, LinkState.CONNECTED,
    ]  # fmt: skip


async def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends() -> None:
    clock = ManualClock()
    link = make_link(clock, [])
    tries = 0

    async def serve() -> None:
        nonlocal tries
        tries += 1
        if tries < 5:
            raise Gone("nobody there")
        link.connected()
        await clock.sleep(1000)

    with capture_logs() as logs:
        task = asyncio.create_task(link.run(serve, (Gone,), lambda error: Diagnosis(str(error))))
        await clock.advance(60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry["event"] for entry in logs] == ["link_lost", "link_back"]
    assert logs[0]["error"] == "nobody there"
    assert logs[1]["outage_s"] == 1 + 2 + 4 + 4
    assert logs[1]["attempts"] == 4


async def test_the_outage_keeps_its_beginning_while_tries_go_on() -> None:
    clock, seen = ManualClock(), []
    link = make_link(clock, seen)
    link.connecting()
    link.lost(Diagnosis("away"))
    began = link.status.since
    await clock.advance(30)
    link.connecting()
    assert link.status.since == began
    link.lost(Diagnosis("still away"))
    assert link.status.since == began
    assert link.status.outages == 1


def test_a_silent_link_is_shown_as_silent_and_one_with_refused_tags_as_degraded() -> None:
    clock, seen = ManualClock(), []
    link = make_link(clock, seen)
    link.connecting()
    link.connected({"bore": "BadNodeIdUnknown"})
    assert link.status.state is LinkState.DEGRADED
    assert link.status.refused_tags == ("bore",)
    assert link.status.refusals == {"bore": "BadNodeIdUnknown"}
    link.connected({"bore": "BadNodeIdUnknown"})
    assert len(seen) == 2, "the same state again is no news"
    link.connected()
    assert link.status.state is LinkState.CONNECTED
    concern = {"clock": Concern("warning", "fr", "en", "à faire", "to do")}
    link.connected(concerns=concern)
    link.lost(Diagnosis("mute", silent=True))
    assert link.status.state is LinkState.SILENT
    assert link.status.concerns == concern, "an outage does not set the PLC's clock right"


def test_a_step_that_is_not_in_the_table_is_a_bug() -> None:
    link = make_link(ManualClock(), [])
    with pytest.raises(ValueError, match="no step from disconnected to connected"):
        link.connected()


async def test_what_is_not_expected_ends_the_loop() -> None:
    clock = ManualClock()
    link = make_link(clock, [])

    async def serve() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await link.run(serve, (Gone,), lambda error: Diagnosis(str(error)))


async def test_a_connection_that_dies_at_once_does_not_earn_a_fast_retry() -> None:
    clock = ManualClock()
    link = make_link(clock, [])
    for expected in (1.0, 2.0, 4.0):
        link.connecting()
        link.connected()
        await clock.advance(0.5)
        assert link.lost(Diagnosis("flaps")) == expected
    link.connecting()
    link.connected()
    await clock.advance(5)
    assert link.lost(Diagnosis("lasted")) == 1.0


def test_the_peer_may_ask_for_a_longer_wait() -> None:
    link = make_link(ManualClock(), [])
    link.connecting()
    assert link.lost(Diagnosis("429", retry_after_s=30.0)) == 30.0


async def _ends(work: Awaitable[None]) -> None:
    await work


async def test_a_part_that_ends_by_itself_is_a_bug_and_one_that_is_cancelled_is_none() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    going_on = asyncio.create_task(for_good(_ends(future), "writer"))
    await asyncio.sleep(0)
    going_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_on
    stray: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stray.cancel()
    for work in (asyncio.sleep(0), stray):
        with pytest.raises(RuntimeError, match="writer has ended by itself"):
            await for_good(_ends(work), "writer")
