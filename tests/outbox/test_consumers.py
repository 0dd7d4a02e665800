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


def test_only_rows_older_than_ten_seconds_go_again() -> None:
    timer = ResendTimer()
    assert timer.next_at is None
    timer.handed(10, 0.0)
    timer.handed(20, 6.0)
    assert timer.due_up_to(9.9) is None
    assert timer.due_up_to(10.0) == 10
    assert timer.due_up_to(16.0) == 20
    timer.resent(20, 16.0)
    assert timer.next_at == 36.0
    timer.acknowledged(5)
    assert timer.next_at == 26.0, "a mark that moves shows a consumer that lives"
    timer.acknowledged(20)
    assert timer.next_at is None


def test_a_long_silence_costs_bounded_memory_and_loses_no_row() -> None:
    timer = ResendTimer()
    for number in range(1, 100_001):
        timer.handed(number, number / 1000)
    assert len(timer._stamps) <= 2_001
    assert timer.due_up_to(1000.0) == 100_000


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
