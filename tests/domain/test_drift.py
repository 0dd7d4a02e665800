"""Charts that find a drift: how soon, and how seldom for nothing."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

import pytest

from gateway.domain.drift import RELEARN, WARM_UP, WARM_UP_EVENTS, Chart, Shift
from gateway.domain.drift_watch import PRODUCTS_KEPT, DriftWatch
from gateway.domain.events import AlertCleared, AlertRaised, Event
from gateway.domain.instants import SECOND, instant
from gateway.domain.signals import Signals
from tests.domain.post import Post, unit

T0 = instant(datetime(2026, 11, 24, 6, 0, tzinfo=UTC))
USUAL_S, JITTER = 1.2, 0.03


def cycles(chart: Chart, draw: random.Random, count: int, *, slower: float = 1.0, start: int = 0) -> tuple[int, Shift] | None:
    """Feed `count` cycles; (how many it took, the first finding), None when nothing was found."""
    for n in range(count):
        found = chart.observe(T0 + (start + n) * SECOND, draw.gauss(USUAL_S * slower, USUAL_S * JITTER))
        if found is not None:
            return n + 1, found
    return None


def test_a_slow_down_of_five_per_cent_is_reported_within_sixty_cycles() -> None:
    """200 seeded runs with 3 % jitter: reported in time in 95 % of them, and nothing before the slow-down."""
    in_time = before = 0
    for seed in range(200):
        chart, draw = Chart("cycle"), random.Random(seed)
        before += cycles(chart, draw, WARM_UP + 50) is not None
        found = cycles(chart, draw, 60, slower=1.05, start=WARM_UP + 50)
        in_time += found is not None
        if found is not None:
            assert found[1].level == pytest.approx(USUAL_S * 1.05, rel=0.04)
            assert found[1].usual == pytest.approx(USUAL_S, rel=0.02)
    assert in_time >= 190
    assert before == 0


@pytest.mark.slow
def test_at_most_one_false_alarm_in_ten_thousand_cycles() -> None:
    """Forty machines, ten thousand cycles each after the warm-up."""
    alarms = sum(cycles(Chart("cycle"), random.Random(1000 + seed), WARM_UP + 10_000) is not None for seed in range(40))
    assert alarms <= 40
    assert alarms / 40 <= 0.1, "far under one in ten thousand is what the charts are built for"


@pytest.mark.parametrize(("odd", "found"), [(3, False), (12, True)])
def test_a_few_odd_cycles_are_no_drift(odd: int, found: bool) -> None:
    chart, draw = Chart("cycle"), random.Random(7)
    assert cycles(chart, draw, WARM_UP + 50) is None
    assert (cycles(chart, draw, odd, slower=2.0) is not None) is found


def test_the_shift_begins_where_the_figure_left_its_level() -> None:
    chart, draw = Chart("cycle"), random.Random(3)
    assert cycles(chart, draw, 300) is None
    found = cycles(chart, draw, 60, slower=1.05, start=300)
    assert found is not None
    assert abs(found[1].since - (T0 + 300 * SECOND)) <= 15 * SECOND


def test_back_to_usual_is_told_once() -> None:
    chart, draw = Chart("cycle"), random.Random(4)
    cycles(chart, draw, WARM_UP)
    assert cycles(chart, draw, 100, slower=1.1) is not None
    assert cycles(chart, draw, 200, slower=1.1) is None, "it stands, and is not told again"
    back = cycles(chart, draw, 100)
    assert back is not None
    assert back[1].level is None
    assert cycles(chart, draw, 500) is None


def test_a_shift_that_stays_becomes_the_usual() -> None:
    chart, draw = Chart("cycle"), random.Random(5)
    cycles(chart, draw, WARM_UP)
    assert cycles(chart, draw, 100, slower=1.1) is not None
    accepted = cycles(chart, draw, RELEARN + 10, slower=1.1)
    assert accepted is not None
    assert accepted[1].level is None
    assert cycles(chart, draw, WARM_UP + 500, slower=1.1) is None
    assert chart.reference is not None
    assert chart.reference.level == pytest.approx(USUAL_S * 1.1, rel=0.02)


def test_micro_stops_that_come_three_times_as_often() -> None:
    reported = early = 0
    for seed in range(50):
        chart, draw = Chart("events"), random.Random(seed)
        early += any(chart.observe(T0 + n, 1.0, draw.expovariate(1 / 600)) for n in range(WARM_UP_EVENTS + 100))
        reported += any(chart.observe(T0 + n, 1.0, draw.expovariate(1 / 200)) for n in range(100))
    assert early <= 1
    assert reported >= 48


def test_a_reject_rate_that_triples() -> None:
    reported = early = 0
    for seed in range(20):
        chart, draw = Chart("share"), random.Random(seed)
        early += any(chart.observe(T0 + n, draw.random() < 0.01) for n in range(4000))
        reported += any(chart.observe(T0 + n, draw.random() < 0.03) for n in range(4000))
    assert early <= 1
    assert reported >= 19


def test_a_characteristic_that_wanders_either_way() -> None:
    for model, shift in (("mean_up", 0.015), ("mean_down", -0.015)):
        chart, draw = Chart(model), random.Random(9)  # type: ignore[arg-type]
        assert not any(chart.observe(T0 + n, draw.gauss(12.0, 0.01)) for n in range(1000))
        assert not any(chart.observe(T0 + n, draw.gauss(12.0 - shift, 0.01)) for n in range(100)), "the other way is the other chart's"
        assert any(chart.observe(T0 + n, draw.gauss(12.0 + shift, 0.01)) for n in range(100))


def polled(watch: DriftWatch, draw: random.Random, cycle_s: float, cycles: int, start_s: float, poll_s: float = 1.0) -> float:
    """A machine whose counter is read every `poll_s`, as the tracker feeds its gaps; the time of the last piece read."""
    made, due, last, read = 0, start_s + cycle_s, start_s, start_s
    while made < cycles:
        read += poll_s
        pieces = 0
        while due <= read:
            due += draw.gauss(cycle_s, cycle_s * JITTER)
            pieces += 1
        if pieces:
            watch.cycle(T0 + round((read + draw.uniform(0, 0.02)) * SECOND), round((read - last) * SECOND), pieces)
            made, last = made + pieces, read
    return last


@pytest.mark.parametrize("cycle_s", [0.06, 0.2, 0.45, 0.9, 1.02, 1.12, 1.9, 10.0])
def test_a_slow_down_is_seen_through_a_poll_of_one_second(cycle_s: float) -> None:
    """Whatever cycle and poll have to do with each other: within 400 cycles, and nothing before."""
    for seed in range(5):
        told, draw = Told(read_every_s=1.0), random.Random(seed)
        end = polled(told.watch, draw, cycle_s, 4000, 0)
        assert told.events == []
        if seed % 2:
            again = Told(read_every_s=1.0)
            again.watch.load(json.loads(json.dumps(told.watch.dump())))
            told = again
        polled(told.watch, draw, cycle_s * 1.05, 400, end)
        assert [type(event) for event in told.events] == [AlertRaised]


def test_cycles_with_a_time_of_their_own_are_not_joined() -> None:
    told, draw = Told(read_every_s=1.0), random.Random(5)
    at = 0.0
    for n in range(260):
        cycle_s = draw.gauss(USUAL_S * (1.05 if n >= 200 else 1.0), USUAL_S * JITTER)
        at += cycle_s
        told.watch.cycle(T0 + round(at * SECOND), round(cycle_s * SECOND), 1)
    assert [type(event) for event in told.events] == [AlertRaised], "within sixty cycles, whatever the interval of the configuration"


class Told:
    """A watch, and what it raised and cleared."""

    def __init__(self, read_every_s: float | None = None) -> None:
        self.events: list[Event] = []
        self.watch = DriftWatch(Signals("press", self.events.append), "Europe/Paris", read_every_s)

    def run(self, count: int, cycle_s: float, *, start: int = 0, seed: int = 1) -> None:
        draw = random.Random(seed)
        for n in range(count):
            self.watch.cycle(T0 + (start + n) * SECOND, round(draw.gauss(cycle_s, cycle_s * JITTER) * SECOND), 1)


def test_the_alert_says_since_when_how_much_and_what_to_look_at() -> None:
    told = Told()
    told.run(400, 1.2)
    told.run(60, 1.26, start=400)
    (raised,) = told.events
    assert isinstance(raised, AlertRaised)
    assert raised.alert == "drift.cycle_time@press"
    assert raised.text.en.startswith("Cycle time: 1.2")
    assert "since 2026-11-24 07:06, usually 1.199 s (+4.7 %)." in raised.text.en, "in the plant's own time"
    assert "depuis le 24/11 à 07:06" in raised.text.fr
    assert "1,2" in raised.text.fr
    assert "lubrication" in raised.remedy.en
    told.run(100, 1.2, start=500, seed=2)
    assert isinstance(told.events[-1], AlertCleared)


def test_another_product_is_no_drift() -> None:
    told = Told()
    told.watch.product("PF-100", T0)
    told.run(300, 1.2)
    told.watch.product("PF-200", T0 + 300 * SECOND)
    told.run(300, 2.4, start=300)
    told.watch.product("PF-100", T0 + 600 * SECOND)
    told.run(100, 1.2, start=600, seed=2)
    assert told.events == []
    told.run(100, 1.3, start=700, seed=3)
    assert len(told.events) == 1, "what PF-100 usually takes was remembered"
    told.watch.product("PF-200", T0 + 800 * SECOND)
    assert isinstance(told.events[-1], AlertCleared)


def test_a_shift_that_still_lasts_when_the_product_comes_back_is_told_again() -> None:
    told = Told()
    told.watch.product("PF-100", T0)
    told.run(300, 1.2)
    told.run(100, 1.3, start=300, seed=2)
    told.watch.product("PF-200", T0 + 400 * SECOND)
    told.run(50, 2.4, start=400)
    told.watch.product("PF-100", T0 + 86_400 * SECOND)
    told.run(100, 1.3, start=86_400, seed=3)
    assert [type(event) for event in told.events] == [AlertRaised, AlertCleared, AlertRaised]
    assert isinstance(told.events[-1], AlertRaised)
    assert "since 2026-11-25 07:00" in told.events[-1].text.en, "not since the day before"


def test_a_shift_right_after_the_warm_up_has_a_date() -> None:
    told = Told()
    told.run(WARM_UP, 1.2)
    told.run(60, 1.3, start=WARM_UP, seed=2)
    (raised,) = told.events
    assert isinstance(raised, AlertRaised)
    assert "since 2026-11-24 07:01" in raised.text.en


def test_micro_stops_that_have_ceased_clear_their_alert() -> None:
    told, draw = Told(), random.Random(12)

    def micro_stops(count: int, mean_s: float) -> None:
        for n in range(count):
            told.watch.cycle(T0 + n, round(draw.expovariate(1 / mean_s) * SECOND) + 1, 100)
            told.watch.micro_stop(T0 + n)

    micro_stops(WARM_UP_EVENTS + 20, 600)
    micro_stops(60, 100)
    assert [type(event) for event in told.events] == [AlertRaised]
    for n in range(1200):
        told.watch.cycle(T0 + n, 10 * SECOND, 100)
    assert [type(event) for event in told.events][1:] == [AlertCleared], "after three hours without any"


def test_the_charts_survive_a_restart_and_stay_few() -> None:
    told, again = Told(), Told()
    for n in range(PRODUCTS_KEPT + 3):
        told.watch.product(f"P{n}", T0)
        told.run(20, 1.0 + n)
    state = json.loads(json.dumps(told.watch.dump()))
    assert len(state["charts"]) == PRODUCTS_KEPT
    again.watch.load(state)
    assert again.watch.dump() == told.watch.dump()


def test_micro_stops_rejects_and_values_have_charts_of_their_own() -> None:
    told, draw = Told(), random.Random(11)
    for n in range(120):
        told.watch.cycle(T0 + n, round(draw.expovariate(1 / 300) * SECOND) + 1, 100)
        told.watch.micro_stop(T0 + n)
        told.watch.pieces(T0 + n, 100, int(draw.random() < 0.5))
        told.watch.value(T0 + n, "bore", draw.gauss(12.0, 0.01))
    names = set(told.watch.dump()["charts"][""])
    assert names == {"cycle_time", "micro_stops", "rejects", "bore.up", "bore.down"}
    for n in range(200):
        told.watch.value(T0 + n, "bore", draw.gauss(12.03, 0.01))
    assert [e.alert for e in told.events if isinstance(e, AlertRaised) and "bore" in e.alert] == ["drift.bore.up@press"]


def produce(post: Post, draw: random.Random, cycle_s: float, count: int, start: float, first: int) -> float:
    for n in range(count):
        start += draw.gauss(cycle_s, cycle_s * JITTER)
        post.read(start, parts=first + n + 1, running=True)
    return start


def test_a_machine_that_slows_down_raises_its_alert_also_over_a_restart() -> None:
    draw = random.Random(6)
    post = Post(unit())
    post.read(0, parts=0, running=True)
    at = produce(post, draw, 10.0, 300, 0, 0)
    post = post.restarted(lost=False)
    produce(post, draw, 10.5, 60, at, 300)
    raised = [data for data in post.data("alert.raised") if data["alert"].startswith("drift.")]
    assert [data["alert"] for data in raised] == ["drift.cycle_time@press"]
    assert raised[0]["severity"] == "warning"


def test_a_change_of_product_is_no_drift_of_the_machine() -> None:
    draw = random.Random(8)
    post = Post(unit())
    post.read(0, parts=0, running=True)
    post.order(0, "StoreAndStart", "OF-1", product_id="PF-100")
    at = produce(post, draw, 10.0, 300, 0, 0)
    post.order(at, "Stop", "OF-1")
    post.order(at, "StoreAndStart", "OF-2", product_id="PF-200")
    produce(post, draw, 12.0, 300, at, 300)
    assert [data for data in post.data("alert.raised") if data["alert"].startswith("drift.")] == []
