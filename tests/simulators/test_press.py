from __future__ import annotations

from itertools import pairwise

import pytest

from simulators.press import COIL_CHANGE_FAULT, NOT_PLANNED, RUNNING, STOPPED, UINT32, Packer, Press, SlowPhase

CALM = SlowPhase(mean_between_s=1e9)


def test_the_same_seed_makes_the_same_strokes_however_time_is_cut() -> None:
    whole, sliced = Press(seed=5), Press(seed=5)
    at_once = whole.advance(600)
    piecewise = [(i * 0.25 + c.offset_s, c.values) for i in range(2400) for c in sliced.advance(0.25)]
    assert [values for _, values in piecewise] == [c.values for c in at_once]
    assert [at for at, _ in piecewise] == pytest.approx([c.offset_s for c in at_once], abs=1e-5)


def test_another_seed_makes_another_day() -> None:
    assert [c.values for c in Press(seed=1).advance(300)] != [c.values for c in Press(seed=2).advance(300)]


def test_an_hour_of_the_press_holds_all_that_an_hour_holds() -> None:
    press = Press(seed=3, total=48_213, rejects=611)
    changes = press.advance(3600)
    totals = [c.values.total for c in changes]
    assert totals == sorted(totals)
    assert press.made.produced == changes[-1].values.total - 48_213
    assert press.made.scrap == changes[-1].values.rejects - 611 > 0
    assert press.made.good == press.made.produced - press.made.scrap
    faults = {c.values.fault for c in changes}
    assert {0, 21, 34} <= faults
    assert any(not c.values.running and c.values.fault == 0 for c in changes), "no micro-stop in an hour"
    assert all(not c.values.running for c in changes if c.values.fault)
    assert 0.6 < press.made.produced * 1.2 / 3600 < 0.98


def test_the_coil_falls_with_each_stroke_and_is_changed_at_its_end() -> None:
    press = Press(seed=3, coil_kg=1.0, kg_per_stroke=0.4, stoppages=(), slow=CALM)
    changes = press.advance(6)
    assert [c.values.coil_kg for c in changes[:1]] == [0.6]
    assert changes[1].values.fault == COIL_CHANGE_FAULT
    assert changes[1].values.coil_kg > 800
    assert press.advance(60)[0].values.running


def test_the_bore_drifts_with_wear_until_the_coil_change() -> None:
    press = Press(seed=3, coil_kg=900.0, stoppages=(), slow=CALM)
    bores = [c.values.bore_mm for c in press.advance(2500 * 1.3) if c.values.total % 20 == 48_213 % 20]
    first, last = bores[:30], bores[-30:]
    assert sum(last) / 30 - sum(first) / 30 > 0.008


def test_a_slow_phase_lengthens_cycles_and_stops_nothing() -> None:
    slow = SlowPhase(mean_between_s=1e-6, shortest_s=1e6, longest_s=1e6, factor=1.5)
    press = Press(seed=3, coil_kg=900.0, stoppages=(), slow=slow)
    changes = press.advance(60)
    assert all(c.values.running for c in changes)
    gaps = [b.offset_s - a.offset_s for a, b in pairwise(changes)]
    assert all(1.2 * 1.5 * 0.98 < gap < 1.2 * 1.5 * 1.07 for gap in gaps)


def test_speed_divides_real_time_only() -> None:
    slow, fast = Press(seed=4), Press(seed=4, speed=5.0)
    assert [c.values for c in fast.advance(100)] == [c.values for c in slow.advance(500)]
    with pytest.raises(ValueError, match="speed"):
        Press(speed=0)


def test_a_halted_machine_makes_nothing_and_goes_on_where_it_was() -> None:
    press = Press(seed=3, halted=True)
    assert press.advance(60) == []
    assert not press.values().running
    press.release()
    assert press.values().running
    assert [c.values for c in press.advance(60)] == [c.values for c in Press(seed=3).advance(60)]


def test_counters_roll_over_like_uint32_and_a_reset_does_not_forget_what_was_made() -> None:
    press = Press(seed=3, total=UINT32 - 2, stoppages=(), slow=CALM)
    totals = [c.values.total for c in press.advance(5)]
    assert totals[:3] == [UINT32 - 1, 0, 1]
    made = press.made
    press.reset_counters()
    assert press.values().total == 0
    assert press.made == made


def test_an_ordered_stop_has_its_length_and_fault() -> None:
    press = Press(seed=3, stoppages=(), slow=CALM)
    press.advance(3)
    press.stop_for(30, fault=99)
    assert press.values().fault == 99
    assert not press.values().running
    first = press.advance(40)[0]
    assert first.offset_s == pytest.approx(30)
    assert first.values.running


def test_the_packer_tells_its_state_by_code() -> None:
    packer = Packer(seed=2)
    changes = packer.advance(3600)
    codes = {c.values.state for c in changes}
    assert {RUNNING, STOPPED} <= codes
    assert any(c.values.jam for c in changes)
    assert all(c.values.state == STOPPED for c in changes if c.values.jam)
    assert packer.made.scrap == 0
    packer.halt()
    assert packer.values().state == NOT_PLANNED
