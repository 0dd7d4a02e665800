"""Replays: one at a time, a storm of requests is one more, and new rows have their turn."""

from __future__ import annotations

from gateway.outbox.replay import MOST_REQUESTS, SPACING_S, TURN_S, UNHURRIED, Replay
from tests.outbox.test_forwarder import CONSUMERS, rig, rows
from tests.uplink.doubles import EPOCH


def test_what_lies_before_the_running_one_is_part_of_it() -> None:
    replay = Replay()
    assert replay.goes_on(0) is None
    assert replay.ask(10, 0)
    assert replay.goes_on(0) == 10
    replay.moved(50)
    assert replay.ask(60, 1)
    assert replay.goes_on(100) == 50
    replay.ended(100)
    assert replay.goes_on(200) is None


def test_a_passed_row_asked_for_again_follows_once_with_a_turn_for_new_rows_before() -> None:
    replay = Replay()
    replay.ask(10, 0)
    replay.goes_on(0)
    replay.moved(50)
    for n in range(5):
        replay.ask(20 + n, 1)
    assert replay.goes_on(20) == 50, "the running one goes on to its end"
    replay.ended(30)
    assert replay.next_at == 30 + TURN_S
    assert replay.goes_on(30) is None
    assert replay.goes_on(30 + TURN_S) == 20
    replay.ended(31.5)
    assert replay.next_at is None


def test_an_earlier_beginning_takes_the_place_of_the_running_one_but_not_all_the_time() -> None:
    replay = Replay()
    for n in range(UNHURRIED + 1):
        replay.ask(100 - n, 0)
    replay.goes_on(0)
    replay.ask(90, 1)
    assert replay.goes_on(1) == 100 - UNHURRIED
    assert replay.goes_on(SPACING_S) == 90


def test_a_consumer_that_looks_for_its_place_is_not_kept_waiting() -> None:
    replay = Replay()
    for n in range(UNHURRIED):
        assert replay.ask(10 * n, 2 * n)
        assert replay.goes_on(2 * n) == 10 * n
        replay.ended(2 * n + 0.5)


def test_more_requests_a_minute_than_are_taken() -> None:
    replay = Replay()
    assert [replay.ask(0, 0) for _ in range(MOST_REQUESTS + 1)] == [True] * MOST_REQUESTS + [False]
    assert replay.ask(0, 61)


async def test_a_storm_of_requests_does_not_keep_new_rows_away() -> None:
    async with rig(rows(*range(1, 601)), consumers=CONSUMERS) as r:
        refused = 0
        for n in range(601, 661):
            for _ in range(3):
                refused += r.forwarder.replay(EPOCH, 1) is not None
            await r.append(*rows(n))
            await r.clock.advance(1)
        assert r.peer.got.index(660) < len(r.peer.got)
        assert set(range(601, 661)) <= set(r.peer.got)
        assert refused > 100
        assert len(r.peer.got) < 12 * 660, "a storm of a minute is a handful of replays"
        await r.clock.advance(30)
        first = [n for k, n in enumerate(r.peer.got) if n not in r.peer.got[:k]]
        assert first == sorted(first)
