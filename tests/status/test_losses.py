"""The cascade adds up, the Pareto is ordered, the charts stay inside their frame."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.view import Interval, MicroStop, StopReason
from gateway.status import charts
from gateway.status.basis_words import basis_words
from gateway.status.charts import promise, strip, trend
from gateway.status.formats import Formats
from gateway.status.losses import cascade, largest_remainder, losses, pareto
from gateway.status.notices import due
from gateway.status.screens import SHORTEST_FRAME, framed
from tests.status.fake_board import END, NOW, START, at, cycles, job, kpi, null_kpi, press

FR = Formats("fr", "Europe/Paris")


def test_the_cascade_of_a_shift_adds_up() -> None:
    steps = cascade(losses(kpi(), 2.4))
    minutes = {step.symbol: step.minutes for step in steps}
    assert minutes == {"tT": 312, "tO": 312, "tR": 292, "tF": 238, "tN": 214, "tU": 211}
    for before, step in pairwise(steps):
        assert before.minutes is not None
        assert step.minutes == before.minutes - sum(lost.minutes for lost in step.lost)
    lost = {item.word: item.minutes for step in steps for item in step.lost}
    assert lost["lost.stop"] == 29
    assert lost["lost.setup"] == 17
    assert lost["lost.unknown"] == 8  # 18 min unseen less 262 pieces of 2.4 s


def test_lost_is_required_less_useful() -> None:
    of = losses(kpi(), 2.4)
    assert of.lost_s == pytest.approx(292 * 60 * (1 - 0.723))
    parts = of.stop_s + of.setup_s + of.unknown_s + of.micro_s + of.slow_s + of.scrap_s
    assert parts == pytest.approx(of.lost_s, abs=30)


def test_micro_stops_of_the_availability_bucket_are_lost_before_running() -> None:
    of = losses(kpi(run_s=214 * 60.0), 2.4)
    assert of.micro_outside
    assert "lost.micro" in [lost.word for lost in cascade(of)[3].lost]


def test_without_an_ideal_time_net_and_useful_are_not_said() -> None:
    steps = cascade(losses(kpi(effectiveness=None, oee=None), None))
    assert [step.minutes for step in steps[4:]] == [None, None]
    assert steps[3].minutes is not None
    assert losses(kpi(oee=None), None).lost_s is None


def test_a_pace_above_the_ideal_is_an_overrun() -> None:
    of = losses(kpi(effectiveness=1.2, oee=1.2 * 228 / 292, late=Decimal(0), quality_ratio=1.0), 2.4)
    steps = cascade(of)
    assert of.over_s > 0
    assert steps[4].over > 0
    assert steps[4].minutes == round(1.2 * 228)


def test_no_time_gives_no_cascade() -> None:
    assert cascade(losses(null_kpi(), None)) == ()


@given(st.lists(st.floats(0, 600), min_size=1, max_size=9))
def test_rounded_parts_sum_to_the_rounded_whole(parts: list[float]) -> None:
    whole = round(sum(parts))
    rounded = largest_remainder(parts, whole)
    assert sum(rounded) == whole
    assert all(abs(number - part) <= 1 for number, part in zip(rounded, parts, strict=True))


def test_the_pareto_has_seven_rows_and_the_others() -> None:
    many = [StopReason(f"r{n}", "stop", 60.0 * (n + 1), n + 1, False, False) for n in range(10)]
    rows = pareto([*many, StopReason(None, "micro_stop", 9999.0, 40, False, False)])
    assert len(rows) == 8
    assert rows[0].key == "micro_stop"
    assert rows[0].letter == ""
    assert [row.letter for row in rows[1:7]] == ["A", "B", "C", "D", "E", "F"]
    assert rows[-1].key is None
    assert rows[-1].cumulated == 1.0
    assert pareto([]) == ()


def test_only_the_stop_that_goes_on_is_coloured() -> None:
    band = strip(press(), NOW, FR, {"overload": "B"}, alarmed=True, lost_at=None)
    assert [box.css for box in band.boxes] == ["setup", "indp", "unk", "off", "past", "stop"]
    assert band.boxes[-1].letter == "B"
    assert band.runs.startswith("M35.4 50h")
    calm = strip(press(), NOW, FR, {}, alarmed=False, lost_at=None)
    assert calm.boxes[-1].css == "past"


def test_a_lost_link_is_unknown_from_its_loss_on() -> None:
    lost_at = NOW - timedelta(minutes=3)
    band = strip(press(), NOW, FR, {}, alarmed=False, lost_at=lost_at)
    assert [box.css for box in band.boxes[-2:]] == ["past", "unk"]


def test_time_before_the_first_reading_is_unknown() -> None:
    band = strip(press(intervals=(Interval(at(60), None, "run"),)), NOW, FR, {}, alarmed=False, lost_at=None)
    assert [(box.css, box.x) for box in band.boxes] == [("unk", 0.0)]
    nothing = strip(press(intervals=()), NOW, FR, {}, alarmed=False, lost_at=None)
    assert nothing.boxes[0].width == pytest.approx(nothing.now)


def test_ticks_are_full_hours_of_the_site_over_a_clock_change() -> None:
    start = datetime(2026, 3, 28, 21, 0, tzinfo=UTC)  # 22:00 in Paris, the night that loses an hour
    view = press(shift_from=start, shift_to=start + timedelta(hours=7), intervals=())
    band = strip(view, start + timedelta(hours=1), FR, {}, alarmed=False, lost_at=None)
    assert [tick.label for tick in band.ticks] == ["22:00", "23:00", "00:00", "01:00", "03:00", "04:00", "05:00", "06:00"]


def test_a_day_of_short_stops_stays_small() -> None:
    """600 stops and 2,000 micro-stops must not grow the page beyond its budget."""
    step = (NOW - START) / 1200
    stretches = tuple(Interval(START + n * step, START + (n + 1) * step, "run" if n % 2 else "stop") for n in range(1200))
    ticks = tuple(MicroStop(START + n * (NOW - START) / 2000, 3.0, False) for n in range(2000))
    band = strip(press(intervals=stretches, micro_stops=ticks), NOW, FR, {}, alarmed=False, lost_at=None)
    assert len(band.boxes) <= 400
    assert len(band.micro) <= 500 * 8


@given(st.lists(st.tuples(st.floats(0, 480), st.sampled_from(["run", "stop", "setup", "planned", "no_order", "unknown"])), max_size=40))
@example([(479.0, "unknown")])
def test_boxes_stay_inside(cuts: list[tuple[float, str]]) -> None:
    edges = sorted(cuts)
    intervals = tuple(
        Interval(at(minute), at(edges[n + 1][0]) if n + 1 < len(edges) else None, kind) for n, (minute, kind) in enumerate(edges)
    )
    band = strip(press(intervals=intervals), END, FR, {}, alarmed=True, lost_at=None)
    assert all(0 <= box.x <= 100 and 0 < box.width <= 100.01 and charts.TOP <= box.y < charts.BASE for box in band.boxes)


def test_the_trend_has_gaps_and_dots() -> None:
    found = trend(press(), NOW, FR, 0.1)
    assert found is not None
    assert len(found.lines) == len(found.bands) >= 4
    assert len(found.dots) == 1  # twelve cycles only
    assert [mark.label for mark in found.marks] == ["2,2", "2,4", "2,6", "2,8", "3,0"]
    assert found.slow_s == pytest.approx(2.64)
    assert found.slower is not None
    assert found.slower > 1.05
    assert {box.css for box in found.gaps} == {"nodata", "soft"}
    assert all(re.fullmatch(r"[\d. ,]+", path) for path in found.lines)


def test_a_trend_out_of_range_is_marked() -> None:
    slow = replace(cycles()[0], p50=9.0)
    found = trend(press(cycles_5min=(slow,)), NOW, FR, 0.1)
    assert found is not None
    assert found.dots[0][2]
    assert trend(press(cycles_5min=()), NOW, FR, 0.1) is None


def test_the_promise_turns_amber_past_the_window() -> None:
    view = job()
    found = promise(view, due(view), NOW, FR)
    assert found is not None
    assert found.window is not None
    assert found.late is not None
    assert found.bar[1] == found.window[1] == found.late[0]
    calm = job(eta_safe=at(455))
    on_time = promise(calm, due(calm), NOW, FR)
    assert on_time is not None
    assert on_time.late is None
    assert promise(job(eta_likely=None, eta_safe=None), None, NOW, FR) is None


def test_a_promise_of_days_names_days() -> None:
    far = job(eta_likely=at(5000), eta_safe=at(6000))
    found = promise(far, due(far), NOW, FR)
    assert found is not None
    assert all(re.fullmatch(r"\d\d/\d\d", tick.label) for tick in found.ticks)


@pytest.mark.parametrize(
    ("basis", "french"),
    [
        ("1,084 good/h observed over 4.9 h; break at 11:00 included", "1\u202f084 bonnes/h observées en 4,9 h ; compris : pause de 11:00"),
        ("no quantity ordered", "aucune quantité commandée"),
        (
            "after OF-1; quantity reached; 2 x break and 3.5 h without shift included",
            "après OF-1 ; quantité atteinte ; compris : 2 pauses et 3,5 h sans poste",
        ),
        ("OF-2 before it has no end date", "OF-2, avant lui, n’a pas de fin connue"),
        ("a phrase of tomorrow", "a phrase of tomorrow"),
    ],
)
def test_the_basis_is_told_in_french(basis: str, french: str) -> None:
    assert basis_words(basis, "fr") == french
    assert basis_words(basis, "en") == basis


def test_without_a_shift_the_charts_begin_with_what_was_seen() -> None:
    lately = press(
        windows={"hour": kpi("hour")},
        shift_from=NOW - timedelta(hours=8),
        shift_to=NOW,
        intervals=(Interval(NOW - timedelta(minutes=9), None, "run"),),
    )
    assert framed(lately, NOW).shift_from == NOW - timedelta(minutes=9)
    band = strip(framed(lately, NOW), NOW, FR, {}, alarmed=False, lost_at=None)
    assert [tick.label for tick in band.ticks][:3] == ["10:03", "10:05", "10:06"]
    assert framed(press(), NOW) == press()
    assert framed(replace(lately, intervals=(Interval(NOW, None, "run"),)), NOW).shift_from == NOW - SHORTEST_FRAME
