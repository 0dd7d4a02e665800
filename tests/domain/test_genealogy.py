"""Genealogy agrees with the orders whatever happens: lots of one order sum to its totals, and what they took to its consumption."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain import genealogy
from gateway.domain.equipment import Counter, Counts
from gateway.domain.job_order import JobOrder, MaterialRequirement, QualityRequirement
from tests.domain.post import Post, unit

D = Decimal
ORDERS = ("OF-1", "OF-2")


class Line:
    """A press with good and reject counters whose order, lots and time go where the drawn steps say."""

    def __init__(self) -> None:
        self.post = Post(unit(counts=Counts(total=Counter("parts"), reject=Counter("rejects")), product_lot_tag="lot"))
        self.second, self.parts, self.rejects, self.lots = 0, 0, 0, 0
        self.rows: dict[str, dict[str, Any]] = {}
        self.post.read(0, running=1, parts=0, rejects=0, lot="")
        for order_id in ORDERS:
            self.post.order(
                0, "Store",
                JobOrder(
                    order_id, lot_id=None if order_id == "OF-2" else "LOT",
                    material_requirements=(MaterialRequirement("bolt", D("0.25"), "KGM"),),
                    quality_requirements=(QualityRequirement("bore", upper=D(2)),),
                ),
            )  # fmt: skip

    def step(self, what: str, size: int) -> None:
        self.second += 5 + size
        post, order = self.post, ORDERS[size % 2]
        act: dict[str, Callable[[], Any]] = {
            "make": lambda: self._read(parts=size),
            "reject": lambda: self._read(parts=size, rejects=size % 3),
            "start": lambda: post.order(self.second, "Start", order),
            "stop": lambda: post.order(self.second, "Pause" if size % 3 else "Stop", order),
            "resume": lambda: post.order(self.second, "Resume", order),
            "lot": lambda: post.fact(self.second, "StartLot", lot_id=f"L-{size}"),
            "tag": lambda: post.read(self.second, lot="" if size % 3 == 0 else f"T-{size % 4}"),
            "load": lambda: self._load(size),
            "scrap": lambda: post.fact(self.second, "DeclareScrap", max(self.second - 60, 0), job_order_id=order, quantity=D(size - 4)),
            "made": lambda: post.fact(self.second, "DeclareProduction", job_order_id=order, good=D(size - 3), scrap=D(size % 2)),
            "take": lambda: post.fact(self.second, "DeclareConsumption", material_id="bolt", job_order_id=order, quantity=D(size - 2)),
            "check": lambda: post.fact(self.second, "RecordQuality", characteristic="bore", job_order_id=order, value=D(size)),
            "uncheck": lambda: post.fact(self.second, "CancelQuality", characteristic="bore"),
            "wait": lambda: post.wait(self.second),
            "restart": self._restart,
        }
        act[what]()
        self._keep()

    def _read(self, parts: int, rejects: int = 0) -> None:
        self.parts += parts
        self.rejects += rejects
        self.post.read(self.second, parts=self.parts, rejects=self.rejects)

    def _load(self, size: int) -> None:
        self.lots += 1
        self.post.fact(
            self.second, "LoadLot", material_id="bolt", lot_id=f"B-{self.lots}", quantity=D(size) / 4, unit="KGM", queued=size % 2 == 0
        )

    def _restart(self) -> None:
        self.post = self.post.restarted()
        self.post.read(self.second + 1, running=1, parts=self.parts, rejects=self.rejects)
        self.second += 1

    def _keep(self) -> None:
        """The rows as the journal has them."""
        self.post.saved()
        self.rows.update({row.key: json.loads(row.body) for row in self.post.rows.values() if row.kind == "lot"})

    def check(self) -> None:
        ledger = self.post.tracker.production.ledger
        for order_id in ORDERS:
            job = ledger.get(order_id)
            assert job is not None
            mine = [genealogy.load_lot(row) for row in self.rows.values() if row["job_order_id"] == order_id]
            for what in ("produced", "good", "scrap", "rework"):
                assert sum(getattr(row, what) for row in mine) == getattr(job, what), (order_id, what)
            taken: dict[str | None, Decimal] = {}
            for link in (link for row in mine for link in row.links.values() if link.mode != genealogy.LOADED):
                taken[link.lot_id] = taken.get(link.lot_id, D(0)) + link.quantity
            booked: dict[str | None, Decimal] = {}
            for total in job.materials.totals():
                booked[total.lot_id] = booked.get(total.lot_id, D(0)) + total.quantity
            assert taken == booked
            results = [tally for row in mine for _, tally in row.quality.items()]
            assert (sum(t.passed for t in results), sum(t.failed for t in results)) == (job.quality_pass, job.quality_fail)


STEPS = (
    "make", "make", "make", "reject", "start", "stop", "resume", "lot", "tag", "load", "scrap", "made", "take", "check", "uncheck", "wait",
    "restart",
)  # fmt: skip


def play(steps: list[tuple[str, int]]) -> Line:
    line = Line()
    line.step("start", 0)
    for what, size in steps:
        line.step(what, size)
        line.check()
    return line


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), min_size=15, max_size=25))
def test_lots_sum_to_their_order(steps: list[tuple[str, int]]) -> None:
    play(steps)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), min_size=30, max_size=60))
def test_lots_sum_to_their_order_for_longer(steps: list[tuple[str, int]]) -> None:
    play(steps)


def test_a_lot_that_is_forgotten_and_comes_back_is_another_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genealogy, "_ROWS", 3)
    line = play([step for n in range(1, 8) for step in (("lot", n), ("make", 2))])
    line.step("lot", 1)
    line.step("make", 9)
    line.check()
    assert len([row for row in line.rows.values() if row["product_lot_id"] == "L-1"]) == 2
