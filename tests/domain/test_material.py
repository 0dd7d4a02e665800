"""Consumption: exact to the last digit, by backflush or measured, on the lot of its time."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.equipment import MeasuredMaterial
from gateway.domain.job_order import MaterialRequirement
from gateway.domain.material import (
    ConsumptionMode,
    MaterialBook,
    Measured,
    MeasuredConsumption,
    Step,
    backflush,
    consumption_mode,
)
from gateway.domain.material_lots import LoadedLot, LotBook

SHEET = MaterialRequirement("MP-TOLE-1.5", Decimal("0.8035"), "KGM")
OIL = MaterialRequirement("OIL", Decimal("0.002"), "LTR")
COIL = MeasuredMaterial("MP-TOLE-1.5", "coil_kg", "KGM", "falling", Decimal("0.5"))


def readings(material: MeasuredMaterial, *values: str) -> list[tuple[Decimal, str] | None]:
    measured = MeasuredConsumption(material)
    seen = [measured.observe(Decimal(value)) for value in values]
    return [None if m is None else (m.quantity, m.step.value) for m in seen]


def test_backflush_books_every_material_of_the_order_on_the_lot_loaded_last() -> None:
    book, lots = MaterialBook(), LotBook()
    assert lots.load_lot("MP-TOLE-1.5", LoadedLot(100, "L1")) is None
    first = backflush([SHEET, OIL], Decimal(10), book, lots, 150)
    assert [(c.material_id, c.quantity, c.total, c.unit, c.lot_id, c.mode) for c in first] == [
        ("MP-TOLE-1.5", Decimal("8.035"), Decimal("8.035"), "KGM", "L1", "backflush"),
        ("OIL", Decimal("0.02"), Decimal("0.02"), "LTR", None, "backflush"),
    ]
    lots.load_lot("MP-TOLE-1.5", LoadedLot(200, "L2"))
    (second,) = backflush([SHEET], Decimal(2), book, lots, 201)
    assert (second.lot_id, second.quantity, second.total) == ("L2", Decimal("1.607"), Decimal("9.642"))
    assert [(t.lot_id, t.quantity) for t in book.totals() if t.material_id == "MP-TOLE-1.5"] == [
        ("L1", Decimal("8.035")),
        ("L2", Decimal("1.607")),
    ]
    assert backflush([SHEET], Decimal(0), book, lots, 202) == []


@given(
    st.decimals(Decimal("0.0001"), Decimal(100), places=4),
    st.lists(st.integers(-3, 5000), max_size=50),
    st.lists(st.integers(0, 49), max_size=3),
)
def test_the_sum_of_the_deltas_is_the_total_at_every_point(per: Decimal, pieces: list[int], changes: list[int]) -> None:
    requirement = MaterialRequirement("M", per, "KGM")
    book, lots = MaterialBook(), LotBook()
    made = Decimal(0)
    summed = Decimal(0)
    for n, delta in enumerate(pieces):
        if n in changes:
            lots.load_lot("M", LoadedLot(n, f"L{n}"))
        made += delta
        for consumption in backflush([requirement], Decimal(delta), book, lots, n):
            summed += consumption.quantity
            assert consumption.total == summed
        book = MaterialBook.load(json.loads(json.dumps(book.dump())))
        assert book.total("M", "KGM") == per * made
        assert sum(t.quantity for t in book.totals()) == per * made


@pytest.mark.parametrize(
    ("requirements", "measured", "mode"),
    [
        ([], {"M"}, ConsumptionMode.MEASURED),
        ([], set(), None),
        ([MaterialRequirement("M", Decimal(1), "KGM", "measured")], {"M"}, ConsumptionMode.MEASURED),
        ([MaterialRequirement("M", Decimal(1), "KGM", "measured")], set(), ConsumptionMode.BACKFLUSH),
        ([MaterialRequirement("M", Decimal(1), "KGM", "backflush")], {"M"}, ConsumptionMode.BACKFLUSH),
        ([MaterialRequirement("other", Decimal(1), "KGM")], {"M"}, ConsumptionMode.MEASURED),
    ],
)
def test_a_material_is_booked_in_one_way_only(
    requirements: list[MaterialRequirement], measured: set[str], mode: ConsumptionMode | None
) -> None:
    assert consumption_mode("M", requirements, measured) is mode
    flushed = backflush(requirements, Decimal(1), MaterialBook(), LotBook(), 0, measured=measured)
    assert ("M" in {c.material_id for c in flushed}) == (mode is ConsumptionMode.BACKFLUSH)


def test_a_falling_weight_is_consumption_and_a_rise_is_a_new_coil() -> None:
    assert readings(COIL, "812", "811.7", "811.2", "811.4", "810.8", "810.4", "1500", "1499") == [
        (0, "baseline"),
        None,
        (Decimal("0.8"), "consumed"),
        None,  # noise upwards, within the deadband
        None,
        (Decimal("0.8"), "consumed"),
        (0, "refill"),
        (1, "consumed"),
    ]


def test_what_the_old_coil_lost_within_the_deadband_is_booked_at_the_refill() -> None:
    assert readings(COIL, "100", "99.6", "900") == [(0, "baseline"), None, (Decimal("0.4"), "refill")]


def test_a_rising_counter_resets_and_rolls_over() -> None:
    meter = MeasuredMaterial("WATER", "m3", "MTQ", "rising")
    assert readings(meter, "10", "12.5", "0.5", "1") == [
        (0, "baseline"),
        (Decimal("2.5"), "consumed"),
        (Decimal("0.5"), "reset"),
        (Decimal("0.5"), "consumed"),
    ]
    wrapping = MeasuredMaterial("WATER", "m3", "MTQ", "rising", span=Decimal("6553.6"))
    assert readings(wrapping, "6553", "0.4")[1] == (Decimal("1.0"), "rollover")
    assert readings(wrapping, "3000", "0.4")[1] == (Decimal("0.4"), "reset")
    signed = MeasuredMaterial("WATER", "m3", "MTQ", "rising", span=Decimal(65536), signed=True)
    assert readings(signed, "32767", "-32768", "-32760") == [(0, "baseline"), (1, "rollover"), (8, "consumed")]


@given(
    st.lists(st.integers(-20, 40), max_size=60),
    st.integers(0, 59),
    st.sampled_from(["falling", "rising"]),
    st.sampled_from(["0", "0.5", "7"]),
)
def test_measured_consumption_is_never_negative_and_goes_on_from_its_dump(
    steps: list[int], cut: int, direction: str, deadband: str
) -> None:
    material = MeasuredMaterial("M", "t", "KGM", direction, Decimal(deadband))
    through, resumed = MeasuredConsumption(material), MeasuredConsumption(material)
    value = Decimal(1000)
    used = booked = Decimal(0)
    for n, step in enumerate([0, *steps]):
        value += step if direction == "rising" else -step
        if step > 0:
            used += step
        if n == cut:
            state = json.loads(json.dumps(resumed.dump()))
            resumed = MeasuredConsumption(material)
            resumed.load(state)
        result = through.observe(value)
        assert resumed.observe(value) == result
        if result is not None:
            assert result.quantity >= 0
            if direction == "falling" or result.step is not Step.RESET:
                booked += result.quantity
    assert booked <= used


@given(st.lists(st.integers(0, 50), max_size=60))
def test_measured_consumption_misses_at_most_the_deadband(falls: list[int]) -> None:
    measured = MeasuredConsumption(COIL)
    value, booked = Decimal(5000), Decimal(0)
    for fall in [0, *falls]:
        value -= Decimal(fall) / 10
        booked += (measured.observe(value) or Measured(Decimal(0), Step.CONSUMED)).quantity
    assert 0 <= 5000 - value - booked < COIL.deadband


def test_lots_are_ordered_by_time_of_loading_also_when_told_late() -> None:
    lots = LotBook()
    assert lots.lot_at("M", 50) is None
    lots.load_lot("M", LoadedLot(100, "L1"))
    lots.load_lot("M", LoadedLot(300, "L3", Decimal(500), "KGM"))
    assert lots.load_lot("M", LoadedLot(200, "L2")) is None
    assert [lots.lot_at("M", at) for at in (99, 100, 250, 300, 999)] == [None, "L1", "L2", "L3", "L3"]
    assert lots.lot_at("other", 999) is None
    twice = lots.load_lot("M", LoadedLot(400, "L3"))
    assert twice is not None
    assert twice.code == "lot_already_loaded"
    assert lots.load_lot("M", LoadedLot(400, "L1")) is None  # the rest of it comes back
    again = LotBook.load(json.loads(json.dumps(lots.dump())))
    assert again.dump() == lots.dump()
    assert again.in_use(400) == [("M", "L1")]
    for n in range(20):
        lots.load_lot("M", LoadedLot(1000 + n, f"N{n}"))
    assert len(lots.dump()["M"]) == 8
