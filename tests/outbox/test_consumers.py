"""Marks and the timer of re-sends, as pure bookkeeping."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.outbox.consumers import Consumers, ResendTimer
from gateway.outbox.handover import Handover


def test_the_slowest_consumer_decides() -> None:
    consumers = Consumers(("a", "b"))
    assert consumers.acknowledge("a", 9)
    assert consumers.retired == 0
    assert consumers.acknowledge("b", 4)
    assert not consumers.acknowledge("b", 3)
    assert consumers.retired == 4
    assert "c" not in consumers
    assert not Consumers(())


def _spans(timer: ResendTimer, now: float) -> list[tuple[int, int]]:
    due = timer.due(now)
    timer.resent(due, now)
    return [(stamp.after + 1, stamp.position) for stamp in due]


def test_each_row_goes_again_ten_seconds_after_its_own_acknowledgement_then_doubling() -> None:
    timer = ResendTimer()
    assert timer.next_at() is None
    timer.handed(10, 0.0)
    timer.handed(20, 6.0)
    assert _spans(timer, 9.9) == []
    assert _spans(timer, 10.0) == [(1, 10)]
    assert timer.next_at() == 16.0, "a row that came later does not wait for the second round of the first"
    assert _spans(timer, 16.0) == [(11, 20)]
    assert timer.next_at() == 30.0
    assert _spans(timer, 30.0) == [(1, 10)]
    assert _spans(timer, 36.0) == [(11, 20)]
    for again in (70.0, 150.0, 310.0, 610.0, 910.0):
        assert timer.next_at() == again
        assert _spans(timer, again) == [(1, 10)]
        _spans(timer, again + 6.0)
    timer.acknowledged(10, 40.0)
    assert timer.next_at() == 1216.0
    timer.acknowledged(20, 41.0)
    assert timer.next_at() is None


def test_a_thousand_rows_at_a_time_and_the_next_as_they_are_acknowledged() -> None:
    timer = ResendTimer(500)
    timer.handed(900, 0.0)
    timer.handed(2_700, 0.0)
    assert _spans(timer, 10.0) == [(501, 900), (901, 1_500)]
    assert timer.next_at() == 30.0
    timer.acknowledged(1_200, 11.0)
    assert _spans(timer, 12.0) == [], "the consumer is at work"
    assert timer.next_at() == 13.0
    assert _spans(timer, 13.0) == [(1_501, 2_200)]
    timer.acknowledged(2_200, 14.0)
    assert _spans(timer, 14.0) == [(2_201, 2_700)], "no more than a round is open: nothing holds it back"


def test_a_consumer_that_works_off_a_long_backlog_gets_nothing_twice() -> None:
    timer, sent_again = ResendTimer(), 0
    for second in range(49):
        # It is handed rows three times as fast as it works.
        timer.handed(min(3_000 * (second + 1), 50_000), float(second))
        timer.acknowledged(1_000 * second, float(second))
        sent_again += len(_spans(timer, float(second)))
    assert sent_again == 0


def test_a_long_silence_costs_bounded_memory_and_loses_no_row() -> None:
    timer = ResendTimer()
    for number in range(1, 100_001):
        timer.handed(number, number / 1000)
    assert len(timer._stamps) <= 2_001
    done = 0
    while due := timer.due(1000.0):
        assert due[0].after == done
        done = due[-1].position
        timer.resent(due, 1000.0)
        timer.acknowledged(done, 0.0)
    assert done == 100_000


@given(st.permutations(range(1, 30)), st.sets(st.integers(1, 29)))
def test_the_handover_mark_is_the_last_row_before_the_first_open_one(order: list[int], apart: set[int]) -> None:
    handover = Handover(0, apart)
    known = set(apart)
    for position in order:
        handover.take_all([position])
        known.add(position)
        expected = next(n for n in range(30) if n + 1 not in known)
        assert handover.position == expected
        assert handover.wants(expected + 1)
        assert not any(handover.wants(n) for n in known)
