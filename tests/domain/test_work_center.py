"""A line's windows from those of its machines: summed, or of the machine that speaks for it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.equipment import Cost, MaterialPrice
from gateway.domain.events import Event, WindowClosed
from gateway.domain.job_order import MaterialRequirement
from gateway.domain.work_center import LineRule, WorkCenter
from tests.domain.post import T0, Post, unit

HOUR = "2026-11-24T06:00:00Z"


TIME = Cost("EUR", Decimal(60))
SCRAP = Cost("EUR", Decimal(60), Decimal("0.5"), {"sheet": MaterialPrice(Decimal(4), "KGM")})
BILL = (MaterialRequirement("sheet", Decimal("0.5"), "KGM"),)


def machine(name: str, pieces: int, scrap: int = 0, ideal: int = 10, cost: Cost = TIME) -> Post:
    """An hour of a machine that ran all the time; some more so that its window closes."""
    post = Post(replace(unit(ideal_cycle_time_s=Decimal(ideal), cost=cost), name=name))
    post.read(0, parts=0, running=True)
    post.order(0, "StoreAndStart", f"OF-{name}", material_requirements=BILL)
    for n in range(1, pieces + 1):
        post.read(n * 3000 / pieces, parts=n, running=True)
    if scrap:
        post.fact(3100, "DeclareScrap", job_order_id=f"OF-{name}", quantity=Decimal(scrap))
    post.wait(4000)
    return post


def closed(post: Post, kind: str = "hour") -> list[WindowClosed]:
    return [e for e in post.events if isinstance(e, WindowClosed) and e.line["window"]["kind"] == kind]


def center(*posts: Post, rule: LineRule | None = None) -> WorkCenter:
    return WorkCenter("line", {post.unit.name: post.unit for post in posts}, rule or LineRule())


def fed(of: WorkCenter, *posts: Post) -> list[Event]:
    return [told for post in posts for event in closed(post) for told in of.closed(event)]


def test_the_line_is_told_once_when_its_last_machine_has_closed() -> None:
    a, b = machine("a", 100), machine("b", 200, 20)
    of = center(a, b)
    (told,) = fed(of, a, b)
    assert (told.work_unit, of.path) == ("line/_line", "/acme/lyon/hall/line/_line")
    line = told.data()
    assert (line["work_unit"], line["work_center"], line["window"]["name"], line["revision"]) == ("_line", "line", HOUR, 1)
    assert (line["produced"], line["good"], line["scrap"]) == (300, 280, 20)
    assert line["planned_s"] == 7200
    assert line["oee"] == pytest.approx(2800 / 7200)


def test_a_late_reject_revises_the_line_too() -> None:
    a, b = machine("a", 100), machine("b", 200)
    of = center(a, b)
    fed(of, a, b)
    a.fact(4100, "DeclareScrap", about=3000, job_order_id="OF-a", quantity=Decimal(5))
    revised = closed(a)[-1]
    (told,) = of.closed(revised)
    assert (told.data()["revision"], told.data()["scrap"], told.data()["produced"]) == (2, 5, 300)


def test_a_restart_between_two_machines_loses_nothing() -> None:
    a, b = machine("a", 100), machine("b", 200)
    of, again = center(a, b), center(a, b)
    assert fed(of, a) == []
    assert of.dirty
    again.restore(of.snapshot().records)
    assert not of.dirty
    (told,) = fed(again, b)
    assert told.data()["produced"] == 300


def test_the_bottleneck_speaks_for_the_line() -> None:
    a, b = machine("a", 100), machine("b", 200)
    of = center(a, b, rule=LineRule(kpi_from="b"))
    (told,) = fed(of, a, b)
    assert (told.data()["produced"], told.data()["work_unit"]) == (200, "_line")


def test_times_of_one_machine_and_pieces_of_others() -> None:
    """The press (20 s a piece) gives the times, the packer at the end the good pieces, and both scrap."""
    press, packer = machine("press", 150, 10, ideal=20), machine("packer", 140, 5, ideal=2)
    of = center(press, packer, rule=LineRule(time_from="press", good_from="packer"))
    (told,) = fed(of, press, packer)
    line = told.data()
    assert (line["good"], line["scrap"], line["produced"]) == (135, 15, 150)
    assert line["planned_s"] == 3600
    assert line["net_s"] == 150 * 20
    assert line["oee"] == pytest.approx(135 * 20 / 3600)
    assert line["loss_cost"] == pytest.approx(60 * (3600 - 2700) / 3600)
    assert sum(line["losses"].values()) == pytest.approx(3600 - 2700)
    assert line["losses"]["scrap"] == 15 * 20
    assert line["scrap_cost"] is None


def test_the_scrap_of_a_line_costs_what_all_its_machines_scrapped() -> None:
    """0.50 EUR each, and the materials as the orders of each machine say."""
    press, packer = machine("press", 150, 10, cost=SCRAP), machine("packer", 140, 5, cost=SCRAP)
    of = center(press, packer, rule=LineRule(time_from="press", good_from="packer"))
    (told,) = fed(of, press, packer)
    line = told.data()
    assert (line["scrap_piece_cost"], line["scrap_material_cost"], line["scrap_cost"]) == (7.5, 30.0, 37.5)
    without_prices = machine("packer", 140, 5, cost=Cost("EUR", Decimal(60), Decimal("0.5")))
    for judged in ("press", "packer"):
        (told,) = fed(center(press, without_prices, rule=LineRule(time_from=judged, good_from="packer")), press, without_prices)
        assert [told.data()[name] for name in ("scrap_piece_cost", "scrap_cost")] == [7.5, None], "a part nobody knows is not left out"
    (summed,) = fed(center(press, packer), press, packer)
    assert [summed.data()[name] for name in ("scrap_piece_cost", "scrap_material_cost", "scrap_cost")] == [7.5, 30.0, 37.5]


def test_an_hour_without_a_piece_of_the_ideal_machine_is_judged_by_its_usual_ideal_time() -> None:
    a, b, idle = machine("a", 100), machine("b", 200, 20), machine("idle", 0, ideal=12)
    (told,) = fed(center(a, b, idle, rule=LineRule(time_from="a", ideal_from="idle", good_from="b")), a, b, idle)
    line = told.data()
    assert (line["net_s"], line["useful_s"], line["oee"]) == (200 * 12, 180 * 12, 0.6)
    assert sum(line["losses"].values()) == pytest.approx(line["planned_s"] - line["useful_s"])


def test_open_windows_add_up_only_over_the_same_hours() -> None:
    a, b = Post(replace(unit(), name="a")), Post(replace(unit(), name="b"))
    for post in (a, b):
        post.read(0, parts=0, running=True)
        post.wait(1000)
    of = center(a, b)

    def windows(*posts: Post) -> dict[str, Any]:
        return {post.unit.name: post.tracker.view().windows for post in posts}

    assert of.open_lines(windows(a, b))["hour"]["work_center"] == "line"
    assert set(of.open_lines(windows(a, b))) == {"hour"}
    assert of.open_lines(windows(a)) == {}
    b.wait(4000)
    assert of.open_lines(windows(a, b)) == {}, "one is in the next hour"


def test_windows_that_nobody_revises_any_more_are_forgotten() -> None:
    a = machine("a", 10)
    of = center(a)
    (event,) = closed(a)
    of.closed(event)
    later = replace(
        event, at=T0.replace(day=30), line=event.line | {"window": event.line["window"] | {"from": "x", "to": "2026-11-30T07:00:00Z"}}
    )
    of.closed(later)
    assert len(of.snapshot().records) == 1
