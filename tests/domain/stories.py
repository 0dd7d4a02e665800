"""Random days of a work unit for property tests: a list of small steps, how to play it on a `Post`, how often a property is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import time
from decimal import Decimal
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.calendar import Calendar
from gateway.domain.equipment import (
    Cost,
    Counter,
    Counts,
    CycleRules,
    Dispatch,
    MaterialPrice,
    OeeRules,
    Product,
    StateFromCounts,
    WorkUnit,
)
from gateway.domain.job_order import MaterialRequirement
from gateway.domain.shift_rules import Break, ShiftRule
from tests.domain.post import CODES, Post, at, unit
from tests.effort import efforts

Check = Callable[..., None]
Step = tuple[int, tuple[Any, ...]]
"""Seconds since the step before, and what happens."""

SHIFTS = Calendar(
    "Europe/Paris",
    [
        ShiftRule("early", frozenset(range(1, 8)), time(5), time(13), (Break(time(7, 30), time(7, 50)),)),
        ShiftRule("late", frozenset(range(1, 8)), time(13), time(21), (Break(time(17), time(17, 30)),)),
    ],
)
PRODUCTS = {
    "A": Product("A", recipe=1, ideal_cycle_time_s=Decimal(8)),
    "B": Product("B", recipe=2, ideal_cycle_time_s=Decimal(15), pieces_per_cycle=2),
}
COST = Cost("EUR", Decimal(90), Decimal("0.5"), {"sheet": MaterialPrice(Decimal(2), "KGM"), "film": MaterialPrice(Decimal("0.3"), "MTK")})
_SHEET = MaterialRequirement("sheet", Decimal(250), "GRM")
BILLS = {"OF-1": (_SHEET,), "OF-2": (_SHEET, MaterialRequirement("film", Decimal("0.4"), "MTK")), "OF-3": ()}
COUNTS = [
    Counts(total=Counter("parts", 16), reject=Counter("reject"), rework=Counter("rework")),
    Counts(total=Counter("parts", 16, per_order=True), reject=Counter("reject", delay_pieces=7), rework=Counter("rework")),
    Counts(by_product={"A": Counter("parts", 16)}, reject=Counter("reject"), rework=Counter("rework")),
]

DELAYS = st.one_of(st.integers(1, 30), st.integers(1, 30), st.integers(1, 200), st.integers(1, 2000))
STATES = st.sampled_from([0, 0, 0, 1, 2, 4, 6, 8, 50, 51, 52, 53, 99])
_ORDERS = ("OF-1", "OF-2", "OF-3")
_VERBS = ("Store", "StoreAndStart", "StoreAndStart", "Start", "Pause", "Resume", "Stop", "Abort", "Cancel", "Clear")
_FACTS = ("ExplainStop", "DeclareScrap", "DeclareRework", "DeclareProduction", "Reassign")
_REASONS = ("jam", "coil_change", "meeting")
ORDERS = st.sampled_from(_ORDERS)
MADE = st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 1))
READ = st.tuples(st.just("read"), MADE, st.one_of(st.none(), STATES), st.sampled_from([None, None, None, 1, 2, 3]))
VERBS = st.sampled_from(_VERBS)
ORDER = st.tuples(st.just("order"), VERBS, ORDERS, st.sampled_from([None, 3, 20]))
FACTS = st.sampled_from(_FACTS)
FACT = st.tuples(st.just("fact"), FACTS, ORDERS, st.integers(-3, 6), st.integers(0, 4000), st.sampled_from(_REASONS))
WAIT = st.tuples(st.just("wait"))
LOST = st.tuples(st.just("lost"))


def _drawn(random: Random) -> Step:
    """One step of a long story, with the shares of a line at work: it mostly runs, stops are short or long, orders come and go."""
    kind = random.choices(("read", "order", "fact", "wait", "lost"), (70, 10, 8, 9, 3))[0]
    delay = random.choice((random.randint(1, 30), random.randint(1, 30), random.randint(1, 200), random.randint(1, 2000)))
    if kind == "read":
        made = (random.choice((0, 0, 1, 1, 2, 5)), random.choice((0, 0, 0, 1, 2)), random.choice((0, 0, 0, 0, 1)))
        state = random.choice((None, None, 0, 0, 0, 1, 1, 2, 4, 6, 8, 50, 51, 52, 53, 99))
        return delay, ("read", made, state, random.choice((None, None, None, 1, 2, 3)))
    if kind == "order":
        return delay, ("order", random.choice(_VERBS), random.choice(_ORDERS), random.choice((None, 3, 20)))
    if kind == "fact":
        why = random.choice(_REASONS)
        return delay, ("fact", random.choice(_FACTS), random.choice(_ORDERS), random.randint(-3, 6), random.randint(0, 4000), why)
    return delay, (kind,)


def _long(seed: int, length: int) -> list[Step]:
    """A shorter one of the same seed is its beginning, so that a failure can be cut down."""
    random = Random(seed)
    begin: list[Step] = [(1, ("read", (0, 0, 0), 0, 1)), (1, ("order", "StoreAndStart", "OF-1", None))]
    return begin + [_drawn(random) for _ in range(length)]


def _reads(seed: int, length: int) -> list[Step]:
    return [(random.randint(5, 200), _drawn_read(random)) for random in (Random(seed),) for _ in range(length)]


def _drawn_read(random: Random) -> tuple[Any, ...]:
    while True:
        step = _drawn(random)[1]
        if step[0] == "read":
            return step


SEEDS = st.integers(0, 2**32 - 1)
LONG = st.integers(0, 20).map(lambda fewer: 30 - fewer)
"""Drawn from the far end: small numbers are drawn more often."""
steps: st.SearchStrategy[list[Step]] = st.one_of(
    st.lists(st.tuples(DELAYS, st.one_of(READ, READ, READ, READ, ORDER, FACT, WAIT, LOST)), min_size=1, max_size=100),
    st.builds(_long, SEEDS, LONG),
)
"""Short stories of anything, which shrink well but seldom come to a stop at all, and about as many long ones."""
counting: st.SearchStrategy[list[Step]] = st.one_of(
    st.lists(st.tuples(st.integers(5, 200), READ), min_size=1, max_size=40), st.builds(_reads, SEEDS, LONG)
)
units: st.SearchStrategy[WorkUnit] = st.builds(
    lambda by_gap, counts, cycles, oee, dispatch, calendar: unit(
        state=StateFromCounts() if by_gap else CODES, counts=counts,
        cycles=cycles, oee=oee, dispatch=dispatch, product_tag="recipe", products=PRODUCTS, calendar=calendar, time_zone="Europe/Paris",
        cost=COST,
    ),
    st.booleans(),
    st.sampled_from(COUNTS),
    st.sampled_from([CycleRules(), CycleRules(ignore_under_s=20), CycleRules(min_run_s=40), CycleRules(ignore_under_s=15, min_run_s=150)]),
    st.sampled_from([OeeRules(), OeeRules("availability"), OeeRules(no_order_bucket="unloaded")]),
    st.sampled_from([Dispatch(), Dispatch("at_quantity", "auto")]),
    st.sampled_from([unit().calendar, SHIFTS]),
)  # fmt: skip


class Story:
    """Plays steps on a post; the counters go round in 16 bits."""

    def __init__(self, of: WorkUnit) -> None:
        self.post = Post(of)
        self.now = 0
        self._made = [65_500, 0, 0]
        self.post.begin(0)

    def play(self, story: list[Step], before: Callable[[Story, int], None] | None = None) -> Story:
        """`before` is called ahead of each step, with the time up to which nothing happens."""
        for delay, step in story:
            if before is not None:
                before(self, self.now + delay)
            self.now += delay
            getattr(self, f"_{step[0]}")(*step[1:])
        return self

    def tags(self, made: tuple[int, int, int], state: int | None, recipe: int | None) -> dict[str, Any]:
        total, reject, rework = made
        self._made = [self._made[0] + total, self._made[1] + min(reject, total), self._made[2] + min(rework, max(total - reject, 0))]
        found: dict[str, Any] = {"parts": self._made[0] % 65_536, "reject": self._made[1], "rework": self._made[2]}
        return found | ({} if state is None else {"state": state}) | ({} if recipe is None else {"recipe": recipe})

    @property
    def really_made(self) -> int:
        return self._made[0]

    def _read(self, made: tuple[int, int, int], state: int | None, recipe: int | None) -> None:
        self.post.read(self.now, **self.tags(made, state, recipe))

    def _lost(self) -> None:
        self.post.read(self.now, parts=None, state=None, reject=None)

    def _wait(self) -> None:
        self.post.wait(self.now)

    def _order(self, verb: str, order: str, quantity: int | None) -> None:
        self.post.order(
            self.now, verb, order, quantity=None if quantity is None else Decimal(quantity), product_id="A" if order == "OF-3" else None,
            material_requirements=BILLS[order],
        )  # fmt: skip

    def _fact(self, verb: str, order: str, quantity: int, ago: int, why: str) -> None:
        about = max(self.now - ago, 0)
        fields: dict[str, Any] = {
            "ExplainStop": {"reason": why},
            "DeclareScrap": {"quantity": Decimal(quantity)},
            "DeclareRework": {"quantity": Decimal(quantity)},
            "DeclareProduction": {"good": Decimal(quantity), "scrap": Decimal(quantity // 2)},
            "Reassign": {"from_": at(about), "to": at(self.now)},
        }[verb]
        self.post.fact(self.now, verb, about, job_order_id=order, **fields)


def other_bucket(of: WorkUnit) -> WorkUnit:
    bucket = "availability" if of.oee.micro_stop_bucket == "performance" else "performance"
    changed: WorkUnit = replace(of, oee=replace(of.oee, micro_stop_bucket=bucket))
    return changed


def property_(**strategies: Any) -> Callable[[Check], Check]:
    """The same check on 20, 200 and 2,000 random days."""

    def wrap(check: Check) -> Check:
        def run(examples: int) -> Check:
            profile = settings(max_examples=examples, suppress_health_check=list(HealthCheck))
            return profile(given(**strategies)(check))

        @efforts("run", run(20), run(200), run(2000))
        def test(run: Check) -> None:
            run()

        test.__doc__ = check.__doc__
        return test

    return wrap
