"""The table of figures: what adds up over machines, and what is computed from the sums."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.equipment import Cost, MaterialPrice
from gateway.domain.job_order import MaterialRequirement
from gateway.domain.kpi import COSTS, COUNTS, KPIS, LOSSES, QUANTITIES, SUMMED, TIMES, kpi_line, roll_up, scrap_costs
from gateway.domain.material import material_cost
from gateway.domain.oee import dump_window, load_window
from tests.domain.post import CODES, Post
from tests.domain.stories import Step, Story, steps, units
from tests.domain.test_properties import property_


@property_(story=steps, other=steps, of=units)
def test_a_roll_up_is_the_sum_and_its_oee_that_of_the_sums(story: list[Step], other: list[Step], of: Any) -> None:
    lines = [Story(of).play(s).post.end().window() for s in (story, other)]
    total = roll_up(lines, work_unit="_line", window=lines[0]["window"])
    for name in SUMMED:
        values = [line[name] for line in lines]
        assert total[name] == (None if None in values else sum(values)), name
    if total["useful_s"] is not None and total["planned_s"]:
        assert total["oee"] == pytest.approx(sum(line["useful_s"] for line in lines) / sum(line["planned_s"] for line in lines))
        assert sum(total["losses"].values()) == pytest.approx(total["planned_s"] - total["useful_s"], abs=1e-6)
    assert total["degraded"] == any(line["degraded"] for line in lines)


def test_the_published_roll_up_of_two_machines() -> None:
    """100 planned, 90 run, 80 of 80 good; 300, 150, 135 of 150 good: 0.5375, where the average would say 0.625."""

    def line(planned: float, run: float, made: int, good: int) -> dict[str, Any]:
        zero: dict[str, Any] = dict.fromkeys(SUMMED, 0)
        return zero | {
            "planned_s": planned, "opening_s": planned, "total_s": planned, "run_s": run, "busy_s": run, "net_s": float(made),
            "useful_s": float(good), "produced": Decimal(made), "good": Decimal(good), "losses": None,
        }  # fmt: skip

    total = roll_up([line(100, 90, 80, 80), line(300, 150, 150, 135)], window={"kind": "hour"})
    assert total["oee"] == pytest.approx(0.5375, abs=0.001)
    assert total["availability"] == pytest.approx(0.60, abs=0.0005)
    assert total["effectiveness"] == pytest.approx(0.958333, abs=0.0005)
    assert total["quality_ratio"] == pytest.approx(0.934783, abs=0.0005)


def test_failures_are_own_stops_that_are_not_functional() -> None:
    """A jam (class own) and an unmapped fault count for MTBF; starved and set-up do not."""
    post = Post(state=CODES)
    post.read(0, parts=0, state=0)
    for start, code in ((100, 50), (1000, 51), (2000, 52)):
        post.read(start, state=code)
        post.read(start + 300, state=0)
    post.wait(3000)
    line = post.window("hour", "2026-11-24T06:00:00Z")
    assert (line["failure_count"], line["failure_s"]) == (1, 300)
    assert line["mttr_s"] == 300
    assert line["mtbf_s"] == line["run_s"]
    assert line["losses"]["induced"] == 0, "there was no order: nobody waited"
    assert line["losses"]["no_order"] == 600
    assert line["setup_s"] == 300
    assert line["setup_ratio"] == pytest.approx(300 / (line["run_s"] + 300))


def test_stops_with_an_order_are_own_or_induced() -> None:
    post = Post(state=CODES)
    post.read(0, parts=0, state=0)
    post.order(0, "StoreAndStart", "OF-1")
    post.read(100, state=50)
    post.read(400, state=4)
    post.read(600, state=0)
    post.wait(1000)
    losses = post.window("hour", "2026-11-24T06:00:00Z")["losses"]
    assert (losses["own"], losses["induced"], losses["no_order"]) == (300, 200, 0)


def test_scrap_has_a_price_beside_its_time() -> None:
    post = Post(cost=Cost("EUR", Decimal(90), Decimal("1.50")))
    post.read(0, parts=0, running=True)
    post.order(0, "StoreAndStart", "OF-1")
    post.read(100, parts=10)
    post.fact(100, "DeclareScrap", job_order_id="OF-1", quantity=Decimal(4))
    line = post.window("hour", "2026-11-24T06:00:00Z")
    assert (line["scrap_cost"], line["scrap_piece_cost"], line["scrap_material_cost"]) == (6.0, 6.0, None)
    assert line["loss_cost"] == pytest.approx(90 * (line["planned_s"] - line["useful_s"]) / 3600, abs=1e-4)


SHEET = MaterialRequirement("sheet", Decimal(250), "GRM")
CAP = MaterialRequirement("cap", Decimal(1), "C62")
PRICES = {"sheet": MaterialPrice(Decimal(2), "KGM"), "film": MaterialPrice(Decimal(5), "MTK")}


@pytest.mark.parametrize(
    ("bill", "expected"),
    [
        ([SHEET, CAP], Decimal("0.5")),
        ([SHEET, replace(SHEET, material_id="film", unit="CMK", quantity_per=Decimal(1_000))], Decimal(1)),
        ([CAP], Decimal(0)),
        ([], None),
        ([replace(SHEET, unit="MTR")], None),
        ([SHEET, replace(SHEET, material_id="film", quantity_per=Decimal(0), mode="measured")], None),
    ],
)
def test_what_the_materials_of_a_piece_cost(bill: list[MaterialRequirement], expected: Decimal | None) -> None:
    assert material_cost(bill, PRICES) == expected


def test_a_part_of_scrap_that_has_a_price_and_is_not_known_leaves_the_sum_unknown() -> None:
    both = Cost("EUR", Decimal(90), Decimal("0.5"), PRICES)
    assert scrap_costs(both, Decimal(4), 2.0, priced=True) == {"scrap_cost": 4.0, "scrap_piece_cost": 2.0, "scrap_material_cost": 2.0}
    assert scrap_costs(both, Decimal(4), None, priced=True) == {"scrap_cost": None, "scrap_piece_cost": 2.0, "scrap_material_cost": None}
    assert scrap_costs(replace(both, per_piece=None), Decimal(4), 2.0, priced=True)["scrap_cost"] == 2.0
    assert scrap_costs(None, Decimal(4), None, priced=False) == dict.fromkeys(COSTS[1:])


def test_scrap_of_before_it_had_a_price_is_not_known() -> None:
    """A window in a journal of an earlier version."""
    post = Post(cost=Cost("EUR", Decimal(90), None, PRICES))
    post.read(0, parts=0, running=True)
    row = dump_window(post.tracker.machine.windows.open["hour"])
    assert kpi_line(load_window(row), post.unit)["scrap_material_cost"] == 0
    for name in ("scrap_material", "scrap_unpriced"):
        del row[name]
    assert kpi_line(load_window(row | {"scrap": "3"}), post.unit)["scrap_material_cost"] is None


def test_every_figure_is_declared_once() -> None:
    keys = [*(t.key for t in TIMES), *(k.key for k in KPIS), *COUNTS, *QUANTITIES]
    assert len(keys) == len(set(keys))
    assert all(kpi.formula and kpi.source and kpi.unit in ("1", "s", "1/h") for kpi in KPIS)
    assert {kind for _, kind, _ in LOSSES} == {"availability", "performance", "quality"}
