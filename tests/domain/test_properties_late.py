"""Late truth: facts that come after their windows were closed, in any order, with restarts in between, end in the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st

from gateway.domain.equipment import Counter, Counts, OeeRules
from tests.domain.post import Line, Post, at, unit
from tests.domain.stories import BILLS, COST, property_

Fact = tuple[str, int, dict[str, Any]]
"""Verb, when it was so, and its fields."""

HOURS = 3
OF = unit(counts=Counts(total=Counter("parts"), reject=Counter("reject")), oee=OeeRules("availability"), cost=COST)
STOPS = (20, 50)
"""Minutes of the hour at which a stop of five minutes begins."""


def day() -> Post:
    """Hour by hour: 15 pieces of OF-<hour>, 15 without an order; two stops that nobody has explained."""
    post = Post(OF)
    post.read(0, running=1, parts=0, reject=0)
    parts = 0
    for hour in range(HOURS):
        start = hour * 3600
        post.order(start + 1, "StoreAndStart", f"OF-{hour}", material_requirements=BILLS[f"OF-{hour + 1}"])
        for minute in range(2, 60, 2):
            if minute == 30:
                post.order(start + 1799, "Stop", f"OF-{hour}")
            stopped = any(stop <= minute < stop + 5 for stop in STOPS)
            parts += 0 if stopped else 1
            post.read(start + minute * 60, running=int(not stopped), parts=parts, reject=0)
    post.read(HOURS * 3600 + 30, running=1, parts=parts)
    post.wait(HOURS * 3600 + 600)
    return post


@cache
def the_day() -> Post:
    """Told once: each example goes on from its memory."""
    return day()


def scrap(verb: str) -> st.SearchStrategy[Fact]:
    return st.builds(
        lambda hour, quantity: (verb, hour * 3600 + 1700, {"job_order_id": f"OF-{hour}", "quantity": Decimal(quantity)}),
        st.integers(0, HOURS - 1),
        st.integers(1, 2),
    )


PRODUCTION = st.builds(
    lambda hour, good, bad: (
        "DeclareProduction",
        hour * 3600 + 1700,
        {"job_order_id": f"OF-{hour}", "good": Decimal(good), "scrap": Decimal(bad)},
    ),
    st.integers(0, HOURS - 1),
    st.integers(0, 4),
    st.integers(1, 2),
)
EXPLAINED = st.tuples(st.integers(0, HOURS - 1), st.sampled_from(STOPS), st.sampled_from(["jam", "no_parts", "coil_change", "meeting"]))
REASSIGNED = st.integers(0, HOURS - 1)


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    """Facts that do not contradict each other: never more scrap than pieces, one reason a stop, each piece given away once."""
    found: list[Fact] = []
    found += draw(st.lists(st.one_of(scrap("DeclareScrap"), scrap("DeclareRework")), max_size=4))
    found += draw(st.lists(PRODUCTION, max_size=3))
    explained = draw(st.lists(EXPLAINED, max_size=5, unique_by=lambda one: one[:2]))
    found += [("ExplainStop", hour * 3600 + minute * 60 + 60, {"reason": why}) for hour, minute, why in explained]
    for hour in draw(st.lists(REASSIGNED, max_size=2, unique=True)):
        span = {"from_": at(hour * 3600 + 1801), "to": at(hour * 3600 + 3600)}
        found.append(("Reassign", hour * 3600 + 3600, {"job_order_id": f"OF-{hour}", **span}))
    return found


def after(order: Sequence[Fact], restarts: frozenset[int] = frozenset()) -> Post:
    post = the_day().restarted(lost=False)
    now = HOURS * 3600 + 700
    for index, (verb, about, fields) in enumerate(order):
        if index in restarts:
            post = post.restarted(lost=False)
        now += 7
        answer = post.fact(now, verb, about, **fields)
        assert answer.accepted, (verb, about, fields, answer)
    return post.end(now + 60)


def essence(post: Post) -> list[Line]:
    """Every closed window and job without its number of revisions, which tells how often it was told."""
    kept = [line for line in post.windows() if line["window"]["to"] is not None and line["window"]["kind"] != "range"]
    return [{name: value for name, value in line.items() if name not in ("revision", "changed")} for line in kept]


def stops(post: Post) -> list[Any]:
    return [(stop["from"], stop["to"], stop["reason"], stop["class"], stop["reason_class"]) for stop in post.stops()]


def assert_the_last_told_is_the_truth(post: Post) -> None:
    """Revisions of a window rise one by one: who keeps the highest knows what the gateway knows."""
    last: dict[Any, Line] = {}
    for line in post.data("window.closed"):
        key = (line["window"]["kind"], line["window"]["from"], line["window"]["name"])
        assert line["revision"] == (last[key]["revision"] + 1 if key in last else 1), key
        last[key] = line
    for line in post.tracker.lines():
        key = (line["window"]["kind"], line["window"]["from"], line["window"]["name"])
        if line["closed"]:
            assert {n: v for n, v in last[key].items() if n != "changed"} == {n: v for n, v in line.items() if n != "changed"}


@property_(told=facts(), data=st.data())
def test_revisions_converge_whatever_the_order_of_late_facts(told: list[Fact], data: st.DataObject) -> None:
    order = data.draw(st.permutations(told))
    restarts = data.draw(st.frozensets(st.integers(0, max(len(told) - 1, 0)), max_size=2))
    one, other = after(told), after(order, restarts)
    assert essence(one) == essence(other)
    assert stops(one) == stops(other)
    assert_the_last_told_is_the_truth(other)
    declared = sum((fields["good"] + fields["scrap"] for verb, _, fields in told if verb == "DeclareProduction"), Decimal(0))
    assert one.counted()["produced"] == other.counted()["produced"] == the_day().counted()["produced"] + declared, (
        "produced never changes but by what was declared"
    )
