"""The differences that are told add up to the totals, whatever the totals did meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uplink.erp.files import booked
from gateway.uplink.erp.files.booked import Booked
from gateway.uplink.erp.port import Consumption, Measurement, Stop, Totals

AT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
_amount = st.integers(0, 50).map(Decimal)
_materials = st.lists(
    st.builds(Consumption, st.sampled_from(["A", "B"]), st.sampled_from([None, "L1", "L2"]), st.sampled_from(["Consumed", "Other"]),
              _amount, st.just("KGM")), max_size=4,
)  # fmt: skip
_totals = st.builds(
    lambda good, scrap, materials, run_s: Totals(AT, good, scrap, Decimal(0), "C62", tuple(materials), run_s=run_s),
    _amount, _amount, _materials, st.floats(0, 1e6),
)  # fmt: skip


@given(st.lists(_totals, max_size=8))
def test_differences_add_up(history: list[Totals]) -> None:
    known = Booked()
    sums = {"good": Decimal(0), "scrap": Decimal(0), "run_s": Decimal(0)}
    materials: dict[tuple[str, str | None, str], Decimal] = {}
    for totals in history:
        confirmation = booked.reported(known, totals)
        if confirmation is not None:
            assert confirmation.booked.number == known.number + 1
            for row in confirmation.rows.get("totals", ()):
                for name in sums:
                    sums[name] += row[name]
            for row in confirmation.rows.get("consumption", ()):
                key = row["material_id"], row["lot_id"], row["use"]
                materials[key] = materials.get(key, Decimal(0)) + row["quantity"]
            known = Booked.model_validate_json(confirmation.booked.model_dump_json())
        assert booked.reported(known, totals) is None, "the same totals again are no news"
    if history:
        last = history[-1]
        assert (sums["good"], sums["scrap"]) == (last.good, last.scrap)
        assert abs(sums["run_s"] - Decimal(last.run_s)) < Decimal("0.001")
        expected: dict[tuple[str, str | None, str], Decimal] = {}
        for each in last.consumption:
            key = each.material_id, each.lot_id, each.use
            expected[key] = expected.get(key, Decimal(0)) + each.quantity
        assert {key: value for key, value in materials.items() if value} == {key: value for key, value in expected.items() if value}


def test_a_year_of_stops_keeps_the_memo_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booked, "_MOST_STOPS", 20)
    known, told = Booked(), []
    for number in range(200):
        recent = tuple(
            Stop(f"s-{each}", AT, AT + timedelta(seconds=each), "jam", induced=False) for each in range(max(0, number - 10), number + 1)
        )
        confirmation = booked.reported(known, Totals(AT, Decimal(1), Decimal(0), Decimal(0), "C62", stops=recent))
        assert confirmation is not None
        told += [row["stop_id"] for row in confirmation.rows["stops"]]
        known = confirmation.booked
    assert told == [f"s-{each}" for each in range(200)]
    assert len(known.model_dump_json()) < 1_500


def test_a_thousand_stops_that_waited_are_told_once() -> None:
    stops = tuple(Stop(f"s-{each}", AT, AT + timedelta(seconds=each), "jam", induced=False) for each in range(1000))
    totals = Totals(AT, Decimal(1), Decimal(0), Decimal(0), "C62", stops=stops)
    first = booked.reported(Booked(), totals)
    assert first is not None
    assert len(first.rows["stops"]) == 1000
    assert booked.reported(first.booked, totals) is None


def test_a_result_is_told_once_and_its_cancelling_once() -> None:
    def result(name: str, *, cancelled: bool = False) -> Measurement:
        return Measurement(name, AT, "bore", Decimal(12), "MMT", None, None, passed=True, lot_id=None, is_cancelled=cancelled)

    first = booked.measured(Booked(), [result("a")])
    assert first is not None
    again = booked.measured(first.booked, [result("a"), result("b")])
    assert again is not None
    assert [row["result_id"] for row in again.rows["quality"]] == ["b"]
    assert booked.measured(again.booked, [result("a"), result("b")]) is None
    cancelled = booked.measured(again.booked, [result("b", cancelled=True)])
    assert cancelled is not None
    assert [(row["result_id"], row["cancelled"]) for row in cancelled.rows["quality"]] == [("b", True)]
