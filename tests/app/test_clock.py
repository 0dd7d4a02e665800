from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.clock import SETTLED_S, SystemClock

KNOWN = datetime(2026, 11, 25, 6, tzinfo=UTC)
BOOT = datetime(1970, 1, 1, 0, 0, 9, tzinfo=UTC)


class Machine:
    def __init__(self, wall: datetime) -> None:
        self.wall, self.steady = wall, 100.0

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.steady)

    def wait(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds


def settle(machine: Machine, clock: SystemClock) -> None:
    """A clock that was set counts once it was read so for a moment."""
    clock.now()
    machine.wait(SETTLED_S + 0.1)


def test_a_clock_that_is_right_is_told_as_it_is() -> None:
    machine = Machine(KNOWN)
    clock = machine.clock()
    assert clock.now() == KNOWN
    assert not clock.is_unset
    assert SystemClock().now().tzinfo is UTC
    assert not SystemClock().is_unset


def test_a_machine_that_starts_in_1970_goes_on_from_what_was_known_until_its_clock_is_set() -> None:
    machine = Machine(BOOT)
    clock = machine.clock()
    assert clock.is_unset
    clock.hold(KNOWN)
    machine.wait(30)
    assert clock.now() == KNOWN + timedelta(seconds=30)
    assert clock.is_unset
    machine.wall = KNOWN + timedelta(hours=9)
    settle(machine, clock)
    assert clock.now() == machine.wall
    assert not clock.is_unset


def test_who_sets_the_clock_before_what_was_known_is_believed() -> None:
    machine = Machine(BOOT)
    clock = machine.clock()
    clock.hold(KNOWN)
    machine.wait(30)
    machine.wall = KNOWN - timedelta(days=20)
    settle(machine, clock)
    assert clock.now() == machine.wall
    machine.wait(1)
    assert clock.now() == machine.wall
    assert not clock.is_unset


def test_a_clock_that_had_been_ahead_and_is_right_now_is_believed_once_it_is_set_by_two_seconds() -> None:
    machine = Machine(KNOWN - timedelta(days=100))
    clock = machine.clock()
    clock.hold(KNOWN)
    machine.wait(3600)
    assert clock.now() == KNOWN + timedelta(hours=1)
    machine.wall += timedelta(seconds=2)
    settle(machine, clock)
    assert clock.now() == machine.wall
    assert not clock.is_unset


def test_one_reading_in_between_is_no_clock_that_was_set() -> None:
    machine = Machine(BOOT)
    clock = machine.clock()
    clock.hold(KNOWN)
    stands, machine.wall = machine.wall, KNOWN + timedelta(hours=9)
    assert clock.now() == KNOWN
    machine.wall = stands
    machine.wait(5)
    assert clock.now() == KNOWN + timedelta(seconds=5)
    assert clock.is_unset
