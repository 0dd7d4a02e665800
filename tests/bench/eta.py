"""How well promised dates hold: seeded runs of two orders with stops, breaks and shifts, the dates asked for on the way.

    python -m tests.bench.eta [--runs 300]

An order of 1,500 pieces at 12 s (6 h with its stops) runs from a random minute of a week with two shifts, a break, closed nights and a
closed weekend; behind it waits one of 600 pieces of another product, 10 min of change-over away. Stops come at random every 40 min and
last about 5 min, with long ones among them; every fiftieth piece is scrap. Dates are asked for at the beginning, at a tenth and at half of
the first order; errors are shares of the required time that was really still needed.

Exit 1 when the safe date at half of the order holds in less than 90 % of the runs, or the likely one's median error is 10 % or more.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from statistics import median

from gateway.domain.calendar import Calendar
from gateway.domain.instants import SECOND, Instant, instant
from gateway.domain.job_order import JobOrder
from gateway.domain.promise import Promise, RateLearner, Work, estimate_queue
from gateway.domain.shift_rules import Break, ShiftRule

QUANTITY, BEHIND = 1500, 600
CYCLE_S = 12.0
CHANGEOVER_S = 600.0
HELD, ERROR = 0.90, 0.10
_DAYS = frozenset(range(1, 6))
_MONDAY = instant(datetime(2026, 11, 23, 4, 0, tzinfo=UTC))
ASKED = {"at the beginning": 0, "at a tenth": QUANTITY // 10, "at half": QUANTITY // 2}


@dataclass(frozen=True)
class Asked:
    """One date that was given. `error`: of the likely one, a share of the required time still needed; `held`: the safe one did."""

    error: float
    held: bool


@dataclass
class _Machine:
    """Makes pieces through the calendar; its stops go on from one order to the next."""

    rng: random.Random
    calendar: Calendar
    at: Instant
    to_stop_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.to_stop_s = self.rng.expovariate(1 / 2400)

    def go(self, required_s: float) -> None:
        reached = self.calendar.after_required(self.at, round(required_s * SECOND))
        assert reached is not None
        self.at = reached

    def piece(self) -> bool:
        """One cycle later; whether the piece is good."""
        gap_s = CYCLE_S * self.rng.gauss(1, 0.03)
        self.to_stop_s -= gap_s
        if self.to_stop_s < 0:
            gap_s += self.rng.lognormvariate(5.4, 0.8)
            self.to_stop_s = self.rng.expovariate(1 / 2400)
        self.go(gap_s)
        return self.rng.random() > 0.02


def calendar() -> Calendar:
    return Calendar(
        "Europe/Paris",
        [ShiftRule("morning", _DAYS, time(5), time(13), (Break(time(9), time(9, 20)),)), ShiftRule("evening", _DAYS, time(13), time(21))],
    )


def seeded_run(seed: int) -> dict[tuple[str, str], Asked]:
    """(when asked, which order) -> what became of the date."""
    rng = random.Random(seed)
    machine = _Machine(rng, calendar(), _MONDAY + rng.randrange(7 * 86_400) * SECOND)
    learner = RateLearner(machine.calendar)
    learner.observe(machine.at, Decimal(0))
    given: dict[str, tuple[Instant, list[Promise]]] = {}
    good = 0
    while good < QUANTITY:
        for when, pieces in ASKED.items():
            if when not in given and good >= pieces:
                running = Work(JobOrder("A", product_id="A"), Decimal(QUANTITY - good), learner.rate, CYCLE_S)
                waiting = Work(JobOrder("B", product_id="B"), Decimal(BEHIND), None, CYCLE_S)
                promises = estimate_queue(machine.at, [running, waiting], machine.calendar, changeover_s=CHANGEOVER_S)
                given[when] = (machine.at, promises)
        made = machine.piece()
        good += made
        learner.observe(machine.at, Decimal(int(made)))
    ends = [machine.at]
    machine.go(rng.uniform(0.5, 1.5) * CHANGEOVER_S)
    good = 0
    while good < BEHIND:
        good += machine.piece()
    ends.append(machine.at)
    return {
        (when, which): _judged(machine.calendar, at, promise, end)
        for when, (at, promises) in given.items()
        for which, promise, end in zip(("running", "waiting"), promises, ends, strict=True)
    }


def _judged(of: Calendar, at: Instant, promise: Promise, end: Instant) -> Asked:
    assert promise.eta_likely is not None
    assert promise.eta_safe is not None
    return Asked(abs(of.required(at, instant(promise.eta_likely)) / of.required(at, end) - 1), instant(promise.eta_safe) >= end)


def runs(count: int) -> dict[tuple[str, str], list[Asked]]:
    found: dict[tuple[str, str], list[Asked]] = {}
    for seed in range(count):
        for key, asked in seeded_run(seed).items():
            found.setdefault(key, []).append(asked)
    return found


def held(asked: Sequence[Asked]) -> float:
    return sum(one.held for one in asked) / len(asked)


def error(asked: Sequence[Asked]) -> float:
    return median(one.error for one in asked)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.eta", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=300)
    count = parser.parse_args(argv).runs
    found = runs(count)
    print(f"{count} runs: asked for, of which order, safe date held, likely date's median error")
    for (when, which), asked in found.items():
        print(f"  {when:17} {which:8} {held(asked):6.1%} {error(asked):7.1%}")
    half = found["at half", "running"]
    good = held(half) >= HELD and error(half) < ERROR
    print(f"{'holds' if good else 'DOES NOT HOLD'}: at half of the order, safe date in {HELD:.0%} or more, median error under {ERROR:.0%}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
