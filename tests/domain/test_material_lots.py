"""Lots on the machine: by time of loading, waiting behind each other, taken off with a rest; and what runs out before its order is done."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.domain.equipment import MeasuredMaterial
from gateway.domain.job_order import JobOrder, MaterialRequirement
from gateway.domain.rec20 import FACTORS, convert
from tests.domain.post import Post

D = Decimal
BOLTS = MaterialRequirement("bolt", D(4), "C62")
SHEET = MaterialRequirement("sheet", D(500), "GRM")


def running(*requirements: MaterialRequirement, **order: object) -> Post:
    """OF-1 runs on the press, 10 s a piece."""
    post = Post()
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", JobOrder("OF-1", material_requirements=requirements, **order))  # type: ignore[arg-type]
    return post


def used(post: Post, material: str = "bolt") -> list[tuple[str | None, Decimal, str]]:
    return [(d["lot_id"], d["quantity"], d["mode"]) for d in post.data("material.consumed", material_id=material)]


def make(post: Post, seconds: float, parts: int) -> None:
    post.read(seconds, parts=parts)
    post.wait(seconds + 15)


# --- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "unit", "wanted", "result"),
    [
        ("1.5", "TNE", "KGM", "1500"),
        ("250", "GRM", "KGM", "0.25"),
        ("2", "LBR", "KGM", "0.90718474"),
        ("3", "MTR", "MMT", "3000"),
        ("1", "INH", "MMT", "25.4"),
        ("1", "MTQ", "LTR", "1000"),
        ("2", "MIL", "C62", "2000"),
        ("7", "XBX", "XBX", "7"),
        ("7", "KGM", "MTR", None),
        ("7", "KGM", "XBX", None),
    ],
)
def test_units_convert_within_what_they_measure(quantity: str, unit: str, wanted: str, result: str | None) -> None:
    assert convert(D(quantity), unit, wanted) == (None if result is None else D(result))


def test_a_conversion_there_and_back_is_the_same() -> None:
    assert all(factor > 0 for _, factor in FACTORS.values())
    for code, (measures, factor) in FACTORS.items():
        base = next(other for other, (also, size) in FACTORS.items() if also == measures and size == 1)
        there = convert(D(12), code, base)
        assert there == D(12) * factor
        assert abs((convert(there, base, code) or D(0)) - D(12)) < D("1e-20")


# --- lots ------------------------------------------------------------------------------------------------------------


def test_lots_that_wait_are_used_first_in_first_out_and_a_booking_is_split() -> None:
    post = running(BOLTS)
    assert post.fact(1, "LoadLot", material_id="bolt", lot_id="B1", quantity=D(10), unit="C62").accepted
    assert post.fact(2, "LoadLot", material_id="bolt", lot_id="B2", quantity=D("0.1"), unit="CEN", queued=True).accepted
    assert post.fact(3, "LoadLot", material_id="bolt", lot_id="B3", queued=True).accepted
    make(post, 20, 2)
    make(post, 60, 6)
    assert used(post) == [
        ("B1", D(8), "backflush"), ("B1", D(2), "backflush"), ("B2", D(10), "backflush"), ("B3", D(4), "backflush"),
    ]  # fmt: skip
    assert sum(q for _, q, _ in used(post)) == 24
    again = post.restarted()
    for one in (post, again):
        one.read(100, parts=7)
        one.wait(120)
        assert used(one)[-1] == ("B3", D(4), "backflush")


def test_lots_that_are_used_up_wait_no_longer_and_fill_no_memory() -> None:
    post = running(BOLTS)
    for number in range(120):
        second = 100 * number
        assert post.fact(second + 1, "LoadLot", material_id="bolt", lot_id=f"B{number}", quantity=D(40), queued=True).accepted, number
        make(post, second + 80, 10 * (number + 1))
    assert {lot: sum(q for one, q, _ in used(post) if one == lot) for lot, _, _ in used(post)} == {f"B{n}": 40 for n in range(120)}
    assert len(post.tracker.production.material.dump()["lots"]["bolt"]) < 12
    answers = [post.fact(12_000 + n, "LoadLot", material_id="bolt", lot_id=f"C{n}", quantity=D(40), queued=True) for n in range(60)]
    assert [answer.accepted for answer in answers].count(False) == 10
    assert answers[-1].problem is not None
    assert answers[-1].problem.code == "queue_full"


def test_a_consumption_is_declared_in_a_unit_of_its_own_order() -> None:
    post = running(SHEET)
    post.order(5, "StoreAndStart", JobOrder("OF-2", material_requirements=(MaterialRequirement("sheet", D(2), "MTR"),)))
    post.order(10, "Stop")
    post.order(11, "Start", "OF-2")
    wrong = post.fact(20, "DeclareConsumption", material_id="sheet", quantity=D(1), unit="MTR", job_order_id="OF-1")
    assert wrong.problem is not None
    assert wrong.problem.code == "unknown_unit"
    assert post.fact(21, "DeclareConsumption", material_id="sheet", quantity=D(1), unit="KGM", job_order_id="OF-1").accepted
    assert post.data("material.consumed")[-1]["quantity"] == 1000


def test_a_load_takes_the_place_of_all_that_were_there() -> None:
    post = running(BOLTS)
    for second, lot, queued in ((1, "B1", False), (2, "B2", True), (3, "B3", False)):
        assert post.fact(second, "LoadLot", material_id="bolt", lot_id=lot, quantity=D(100), queued=queued).accepted
    make(post, 20, 1)
    assert used(post) == [("B3", D(4), "backflush")]


def test_pieces_made_before_a_load_are_of_the_lot_before() -> None:
    post = running(BOLTS)
    post.fact(1, "LoadLot", material_id="bolt", lot_id="B1")
    post.read(12, parts=1)
    post.read(14, parts=2)
    post.fact(15, "LoadLot", material_id="bolt", lot_id="B2")
    make(post, 30, 3)
    assert [(lot, sum(q for one, q, _ in used(post) if one == lot)) for lot in ("B1", "B2")] == [("B1", 8), ("B2", 4)]


def test_what_is_left_of_a_lot_corrects_the_estimate() -> None:
    post = running(BOLTS)
    post.fact(1, "LoadLot", material_id="bolt", lot_id="B1", quantity=D(100))
    make(post, 100, 20)
    assert post.fact(120, "UnloadLot", material_id="bolt", lot_id="B1", quantity=D(25), by="Ana").accepted
    assert used(post)[-1] == ("B1", D(-5), "declared")
    assert post.data("material.consumed")[-1]["total"] == 75
    assert post.data("material.consumed")[-1]["by"] == "Ana"
    make(post, 140, 21)
    assert used(post)[-1] == (None, D(4), "backflush"), "nothing is loaded any more"


def test_a_declared_consumption_and_what_comes_back() -> None:
    post = running(SHEET)
    post.fact(1, "LoadLot", material_id="sheet", lot_id="S1", quantity=D(2), unit="TNE")
    make(post, 20, 2)
    assert post.fact(40, "DeclareConsumption", material_id="sheet", quantity=D("1.5"), unit="KGM", use="Other", by="Ana").accepted
    last = post.data("material.consumed")[-1]
    assert (last["quantity"], last["unit"], last["total"], last["use"], last["mode"]) == (1500, "GRM", 2500, "Other", "declared")
    assert post.fact(50, "DeclareConsumption", material_id="sheet", quantity=D(-1), unit="KGM", lot_id="S1").accepted
    assert post.data("material.consumed")[-1]["total"] == 1500


def test_a_measured_material_is_booked_in_the_orders_unit() -> None:
    post = Post(materials=(MeasuredMaterial("sheet", "coil", "KGM"),))
    post.read(0, running=1, parts=0, coil=1000)
    post.order(0, "StoreAndStart", JobOrder("OF-1", material_requirements=(MaterialRequirement("sheet", D(500), "GRM", "measured"),)))
    post.read(20, parts=2, coil=999.5)
    last = post.data("material.consumed")[-1]
    assert (last["quantity"], last["unit"], last["mode"]) == (500, "GRM", "measured")


@pytest.mark.parametrize(
    ("verb", "fields", "code"),
    [
        ("LoadLot", {"material_id": "bolt", "lot_id": "B1"}, "lot_already_loaded"),
        ("LoadLot", {"material_id": "bolt", "lot_id": "B1", "queued": True}, "lot_already_loaded"),
        ("LoadLot", {"material_id": "gold", "lot_id": "G1"}, "unknown_material"),
        ("LoadLot", {"material_id": "bolt", "lot_id": "B2", "quantity": D(5), "unit": "KGM"}, "unknown_unit"),
        ("LoadLot", {"material_id": "bolt", "lot_id": "B2", "quantity": D(-5)}, "quantity_invalid"),
        ("LoadLot", {"material_id": "bolt", "lot_id": "B2", "quantity": D("NaN")}, "quantity_invalid"),
        ("LoadLot", {"material_id": "bolt"}, "missing_field"),
        ("UnloadLot", {"material_id": "bolt", "lot_id": "B9"}, "unknown_lot"),
        ("UnloadLot", {"material_id": "gold", "lot_id": "B1"}, "unknown_material"),
        ("UnloadLot", {"material_id": "bolt", "lot_id": "B1", "quantity": D(101)}, "quantity_invalid"),
        ("UnloadLot", {"material_id": "bolt", "lot_id": "B1", "quantity": D(1), "unit": "MTR"}, "unknown_unit"),
        ("DeclareConsumption", {"material_id": "gold", "quantity": D(1)}, "unknown_material"),
        ("DeclareConsumption", {"material_id": "bolt", "quantity": D(0)}, "quantity_invalid"),
        ("DeclareConsumption", {"material_id": "bolt", "quantity": D("Infinity")}, "quantity_invalid"),
        ("DeclareConsumption", {"material_id": "bolt", "quantity": D(-81)}, "total_negative"),
        ("DeclareConsumption", {"material_id": "bolt", "quantity": D(-1), "lot_id": "B9"}, "total_negative"),
        ("DeclareConsumption", {"material_id": "bolt", "quantity": D(1), "unit": "LTR"}, "unknown_unit"),
        ("DeclareConsumption", {"material_id": "bolt", "quantity": D(1), "job_order_id": "OF-9"}, "unknown_order"),
    ],
)
def test_a_wrong_fact_about_material_changes_nothing(verb: str, fields: dict[str, object], code: str) -> None:
    post = running(BOLTS)
    post.fact(1, "LoadLot", material_id="bolt", lot_id="B1", quantity=D(100))
    make(post, 100, 20)
    told, before = len(post.events), post.tracker.production.material.dump()
    answer = post.fact(120, verb, **fields)
    assert answer.problem is not None
    assert answer.problem.code == code
    assert (len(post.events), post.tracker.production.material.dump()) == (told, before)


# --- shortage --------------------------------------------------------------------------------------------------------


def shortages(post: Post) -> list[str]:
    return [e.alert + ("" if e.type == "alert.raised" else " over") for e in post.events if getattr(e, "alert", "").startswith("material")]


def test_material_that_runs_out_before_the_order_is_told_with_its_time_and_cleared_by_a_load() -> None:
    post = running(BOLTS, quantity=D(1000))
    post.fact(1, "LoadLot", material_id="bolt", lot_id="B1", quantity=D(2000))
    make(post, 20, 2)
    assert shortages(post) == ["material.short:bolt@press"]
    (raised,) = post.data("alert.raised", alert="material.short:bolt@press")
    # 1,992 of 3,992 bolts are there: half of what the order will take, which is 998 pieces at 12.5 s (10 s at 80 %) from 06:00:20.
    assert "runs out about 07:44" in raised["text"].en
    assert "B1" in raised["text"].fr
    make(post, 100, 10)
    assert len(shortages(post)) == 1, "the same time is no news"
    post.fact(120, "LoadLot", material_id="bolt", lot_id="B2", quantity=D(2100), queued=True)
    assert shortages(post)[-1] == "material.short:bolt@press over"
    make(post, 200, 18)
    assert len(shortages(post)) == 2


def test_a_load_of_another_material_tells_no_shortage_anew() -> None:
    post = running(BOLTS, MaterialRequirement("nut", D(1), "C62"), quantity=D(1000))
    post.fact(1, "LoadLot", material_id="bolt", lot_id="B1", quantity=D(2000))
    post.fact(2, "LoadLot", material_id="nut", lot_id="N1")
    make(post, 20, 2)
    assert shortages(post) == ["material.short:bolt@press"]


def test_material_that_lasts_or_of_which_nobody_knows_how_much_there_is_raises_nothing() -> None:
    for quantity in (None, D(4000)):
        post = running(BOLTS, quantity=D(1000))
        post.fact(1, "LoadLot", material_id="bolt", lot_id="B1", quantity=quantity)
        make(post, 20, 2)
        assert shortages(post) == []


def test_a_shortage_ends_with_its_order_and_survives_a_restart() -> None:
    post = running(BOLTS, quantity=D(1000))
    post.fact(1, "LoadLot", material_id="bolt", lot_id="B1", quantity=D(2000))
    make(post, 20, 2)
    again = post.restarted()
    again.read(40, running=1, parts=4)
    again.wait(60)
    assert len(shortages(again)) == 1
    again.order(70, "Stop")
    assert shortages(again)[-1] == "material.short:bolt@press over"


def test_a_falling_weight_is_what_is_loaded_where_no_lot_says_how_much() -> None:
    post = Post(materials=(MeasuredMaterial("sheet", "coil", "KGM"),))
    post.read(0, running=1, parts=0, coil=100)
    requirement = MaterialRequirement("sheet", D(1), "KGM", "measured")
    post.order(0, "StoreAndStart", JobOrder("OF-1", quantity=D(1000), material_requirements=(requirement,)))
    post.read(20, parts=2, coil=98)
    post.wait(40)
    assert shortages(post) == ["material.short:sheet@press"]
    post.read(60, parts=2, coil=2000)
    post.wait(120)
    assert shortages(post)[-1].endswith("over")
