"""Facts that come late: scrap, production, lots, reassigned pieces; and what they do to windows that were closed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.domain.equipment import Counter, Counts, MeasuredCharacteristic, MeasuredMaterial
from gateway.domain.job_order import Customer, JobOrder, MaterialRequirement, QualityRequirement
from tests.domain.post import Post, at

D = Decimal


def a_day(**changes: object) -> Post:
    """OF-1 makes 10 pieces in the first hour and 10 in the second, then 10 without an order."""
    post = Post(**changes)
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", "OF-1")
    post.read(3000, parts=10)
    post.read(6600, parts=20)
    post.order(6700, "Stop")
    post.read(6900, parts=30)
    post.wait(7300)
    return post


def total(post: Post, order: str = "OF-1") -> tuple[Decimal, ...]:
    job = post.tracker.production.ledger.get(order)
    assert job is not None
    return job.produced, job.good, job.scrap, job.rework


def test_scrap_is_booked_where_the_piece_was_made() -> None:
    post = a_day()
    before = post.hour(0)["revision"]
    assert post.fact(7400, "DeclareScrap", 3000, job_order_id="OF-1", quantity=D(4), reason="scratch").accepted
    assert total(post) == (20, 16, 4, 0)
    assert [(post.hour(n)["scrap"], post.hour(n)["produced"]) for n in (0, 1)] == [(4, 10), (0, 20)]
    assert post.data("quantity.counted")[-1]["reason"] == "scratch"
    assert post.hour(0)["revision"] == before + 1
    assert post.window("job", "OF-1")["scrap"] == 4
    assert post.counted()["produced"] == 30, "produced never changes"


def test_a_negative_quantity_corrects_where_it_was_marked() -> None:
    post = a_day()
    post.fact(7400, "DeclareScrap", 3000, job_order_id="OF-1", quantity=D(4))
    post.fact(7500, "DeclareRework", 3000, job_order_id="OF-1", quantity=D(2))
    assert post.fact(7600, "DeclareScrap", 6600, job_order_id="OF-1", quantity=D(-3)).accepted
    assert total(post) == (20, 17, 1, 2)
    assert [(post.hour(n)["scrap"], post.hour(n)["rework"], post.hour(n)["good"]) for n in (0, 1)] == [(1, 2, 7), (0, 0, 20)]


@pytest.mark.parametrize(
    ("verb", "fields", "code"),
    [
        ("DeclareScrap", {"quantity": D(21)}, "total_negative"),
        ("DeclareScrap", {"quantity": D(-1)}, "total_negative"),
        ("DeclareScrap", {"quantity": D(0)}, "quantity_invalid"),
        ("DeclareRework", {"job_order_id": "OF-9", "quantity": D(1)}, "unknown_order"),
        ("DeclareProduction", {"good": D(-21)}, "total_negative"),
        ("DeclareProduction", {}, "quantity_invalid"),
        ("Reassign", {"from_": at(0), "to": at(10)}, "time_not_covered"),
        ("Reassign", {"from_": at(10), "to": at(0)}, "window_invalid"),
        ("Reassign", {"from_": at(10)}, "missing_field"),
        ("RecordQuality", {"characteristic": "colour", "value": D(1)}, "unknown_characteristic"),
    ],
)
def test_a_refused_fact_changes_nothing(verb: str, fields: dict[str, object], code: str) -> None:
    post = a_day()
    before, told = post.windows(), len(post.events)
    answer = post.fact(7400, verb, 7000, **({"job_order_id": "OF-1"} | fields))
    assert answer.problem is not None
    assert answer.problem.code == code
    assert len(post.events) == told
    assert [(w["good"], w["revision"]) for w in post.windows()] == [(w["good"], w["revision"]) for w in before]


def test_declared_production_and_its_correction() -> None:
    post = a_day()
    assert post.fact(7400, "DeclareProduction", 3000, job_order_id="OF-1", good=D(5), scrap=D(1)).accepted
    assert (total(post), post.hour(0)["produced"], post.hour(0)["scrap"]) == ((26, 25, 1, 0), 16, 1)
    assert post.fact(7500, "DeclareProduction", 6600, job_order_id="OF-1", good=D(-5), scrap=D(-1)).accepted
    assert total(post) == (20, 20, 0, 0)
    assert post.counted()["produced"] == 30
    for window in post.windows():
        assert window["produced"] == window["good"] + window["scrap"] + window["rework"]
        assert min(window["good"], window["scrap"]) >= 0
    job = post.window("job", "OF-1")
    assert (job["produced"], job["scrap"]) == (20, 0)


def test_reassign_gives_pieces_without_an_order_to_a_job_once() -> None:
    post = Post(counts=Counts(total=Counter("parts"), reject=Counter("reject")))
    post.read(0, running=1, parts=0, reject=0)
    post.read(100, parts=10)
    post.read(200, parts=20, reject=3)
    post.read(300, parts=30)
    post.order(400, "StoreAndStart", "OF-1")
    post.read(500, parts=40)
    assert post.window()["produced"] == 40
    assert post.tracker.view().without_order == 30
    assert post.fact(600, "Reassign", 600, from_=at(150), to=at(300)).accepted
    assert total(post) == (20, 20, 0, 0), "which of the hour's pieces were rejected is not remembered: good ones go first"
    assert post.tracker.view().without_order == 20
    assert post.window("job", "OF-1")["produced"] == 20
    pair = post.data("quantity.counted", reassigned=True)
    assert [(d["produced"], d["good"], d["scrap"]) for d in pair] == [(-10, -10, 0), (10, 10, 0)]
    assert post.counted()["produced"] == 40
    again = post.restarted()
    for one in (post, again):
        answer = one.fact(700, "Reassign", 700, from_=at(150), to=at(300))
        assert answer.problem is not None, "they are the job's already"
        assert one.fact(800, "Reassign", 800, from_=at(0), to=at(301)).accepted
        assert total(one) == (40, 37, 3, 0)


def test_lots_count_from_their_own_time_also_when_told_late() -> None:
    material = MeasuredMaterial("coil", "coil", "KGM")
    post = Post(materials=(material,))
    post.read(0, running=1, parts=0, coil=100)
    order = JobOrder("OF-1", material_requirements=(MaterialRequirement("bolt", D(4), "C62"),))
    post.order(0, "StoreAndStart", order)
    assert post.fact(10, "LoadLot", material_id="coil", lot_id="L1", quantity=D(100), unit="KGM").accepted
    assert post.fact(10, "LoadLot", material_id="bolt", lot_id="B1").accepted
    post.read(100, parts=5, coil=95.5)
    assert post.fact(200, "LoadLot", 50, material_id="coil", lot_id="L2").accepted
    post.read(300, parts=6, coil=94.5)
    post.read(310, parts=7, coil=80)
    post.order(320, "Stop")
    used = [(d["material_id"], d["lot_id"], d["quantity"], d["total"], d["mode"]) for d in post.data("material.consumed")]
    assert [u for u in used if u[0] == "coil"] == [
        ("coil", "L1", D("4.5"), D("4.5"), "measured"), ("coil", "L2", D("1.0"), D("5.5"), "measured"),
        ("coil", "L2", D("14.5"), D("20.0"), "measured"),
    ]  # fmt: skip
    assert [u for u in used if u[0] == "bolt"][-1][3] == 28
    assert post.fact(330, "LoadLot", material_id="coil", lot_id="L2").problem is not None


def test_quality_by_tag_and_by_hand() -> None:
    own = MeasuredCharacteristic("bore", QualityRequirement("bore_diameter", "MMT", D("11.98"), D(12), D("12.02")))
    post = Post(quality=(own,))
    post.read(0, running=1, parts=0, bore=12.01)
    post.read(10, parts=1, bore=12.01)
    asked = QualityRequirement("bore_diameter", None, D("11.99"), D(12), D("12.005"), "Dupont")
    post.order(20, "StoreAndStart", JobOrder("OF-1", quality_requirements=(asked,), lot_id="P-1"))
    post.read(30, bore=12.015)
    assert post.fact(40, "RecordQuality", characteristic="bore_diameter", value=D("12.001"), lot_id="P-2").accepted
    results = [(d["value"], d["result"], d["upper"], d["unit"], d["required_by"], d["lot_id"]) for d in post.data("quality.result")]
    assert results == [
        (D("12.01"), "Pass", D("12.02"), "MMT", None, None), (D("12.015"), "Fail", D("12.005"), "MMT", "Dupont", "P-1"),
        (D("12.001"), "Pass", D("12.005"), "MMT", "Dupont", "P-2"),
    ]  # fmt: skip
    again = post.restarted()
    again.read(60, bore=12.015)
    assert len(again.data("quality.result")) == 3, "the same value after a restart is no new measurement"
    assert [q.value for q in again.tracker.view().quality] == [q.value for q in post.tracker.view().quality]


def test_what_late_truth_changed_in_a_closed_window_is_told() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.read(600, running=1, parts=60)
    post.order(700, "StoreAndStart", "OF-1")
    post.read(1000, running=0)
    post.read(1300, running=1)
    post.read(3700, running=1)
    assert (post.hour(0)["revision"], post.hour(0)["without_order"]) == (1, 60)
    assert post.fact(3800, "Reassign", job_order_id="OF-1", from_=at(0), to=at(700)).accepted
    assert (post.hour(0)["revision"], post.hour(0)["changed"]) == (2, {"without_order": [60, 0]})
    assert post.fact(3900, "ExplainStop", 1100, reason="no_parts").accepted
    assert (post.hour(0)["revision"], post.hour(0)["changed"]) == (3, {"losses.own": [300, 0], "losses.induced": [0, 300]})


def test_an_interrupted_job_has_no_date_and_stays_in_sight() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    for order in ("OF-1", "OF-2"):
        post.order(0, "StoreAndStart", order, quantity=D(50), end_time=at(20_000))
    assert post.data("promise.changed", verdict="on_time")
    post.order(100, "Pause", "OF-1")
    view = post.tracker.view()
    assert view.job is not None
    assert (view.job.state, view.job.eta_likely, view.job.verdict) == ("Interrupted", None, "unknown")
    post.order(110, "Start", "OF-2")
    view = post.tracker.view()
    assert [(j.order.job_order_id, j.state) for j in view.queue] == [("OF-1", "Interrupted")]
    post.wait(400)
    assert [e.job_order_id for e in post.events if e.type == "promise.changed" and e.data()["verdict"] == "unknown"] == ["OF-1"]


def test_an_order_that_is_due_at_no_time_is_promised_its_dates() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", "OF-1", quantity=D(500))
    post.order(0, "StoreAndStart", "OF-2", quantity=D(100))
    first = post.data("promise.changed")
    assert [(d["verdict"], d["previous"]) for d in first] == [("unknown", "unknown")] * 2
    assert first[1]["eta_likely"] > first[0]["eta_likely"]
    post.wait(300)
    assert len(post.data("promise.changed")) == 2, "nothing moved by more than it was uncertain"
    post.order(310, "StoreAndStart", "OF-3", quantity=D(2000), customer=Customer(priority=9))
    post.wait(420)
    told = [(e.job_order_id, e.data()) for e in post.events if e.type == "promise.changed"][2:]
    assert [job for job, _ in told] == ["OF-3", "OF-2"]
    assert "overtaken by OF-3" in told[1][1]["basis"]
    assert told[1][1]["eta_likely"] > first[1]["eta_safe"]
    post.order(430, "Update", "OF-2", quantity=D(100), end_time=at(400_000))
    post.wait(600)
    assert post.data("promise.changed")[-1]["verdict"] == "on_time"


def test_an_order_s_execution_time_is_from_its_start_to_its_end() -> None:
    """ISO 22400-2: AOET has the time inside in which the order was interrupted; allocation is AUBT / AOET, throughput PQ / AOET."""
    post = Post()
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", "OF-1", quantity=D(50))
    post.read(100, parts=10, running=0)
    post.order(200, "Pause", "OF-1")
    post.wait(500)
    open_ = post.window("job", "OF-1")
    assert (open_["total_s"], open_["execution_s"], open_["allocation_ratio"]) == (200, 500, 0.4)
    post.order(700, "Resume", "OF-1")
    post.read(800, running=1)
    post.read(900, parts=20)
    post.order(1000, "Stop", "OF-1")
    post.wait(2000)
    line = post.window("job", "OF-1")
    assert (line["total_s"], line["busy_s"], line["execution_s"]) == (500, 500, 1000)
    assert (line["allocation_ratio"], line["throughput_per_h"]) == (0.5, 72)
    assert post.hour(0)["execution_s"] == post.hour(0)["total_s"]


def test_a_waiting_order_becomes_late_while_nothing_runs() -> None:
    post = Post()
    post.read(0, running=0, parts=0)
    post.order(0, "StoreAndStart", "OF-1", quantity=D(10), end_time=at(600))
    post.order(10, "Pause", "OF-1")
    post.order(20, "Store", "OF-2", quantity=D(10), end_time=at(600))
    post.order(30, "StoreAndStart", "OF-3", quantity=D(10), end_time=at(900))
    post.order(40, "Stop", "OF-3")
    post.order(50, "Resume", "OF-1")
    post.order(60, "Start", "OF-2")
    post.order(70, "Pause", "OF-1")
    post.wait(1200)
    verdicts = [d["verdict"] for e in post.events if e.type == "promise.changed" and e.job_order_id == "OF-2" for d in [e.data()]]
    assert verdicts[-1] == "late"


@pytest.mark.parametrize(("ahead", "accepted"), [(4, True), (6, False)])
def test_a_clock_that_is_a_little_fast_loses_no_fact(ahead: int, accepted: bool) -> None:
    post = a_day()
    assert post.fact(7400, "DeclareScrap", 7400 + ahead, job_order_id="OF-1", quantity=D(1)).accepted is accepted


def test_a_measurement_told_late_carries_its_own_time() -> None:
    post = a_day(quality=(MeasuredCharacteristic("gauge", QualityRequirement("bore", "MMT", D(11), D(12), D(13))),))
    assert post.fact(7400, "RecordQuality", 3000, characteristic="bore", value=D(12), job_order_id="OF-1").accepted
    assert post.data("quality.result")[-1]["measured_at"] == at(3000)


def test_a_fact_that_names_no_order_is_of_the_one_that_ran_when_it_was_so() -> None:
    limits = (MeasuredCharacteristic("gauge", QualityRequirement("bore", "MMT", D(11), D(12), D(13))),)
    post = a_day(quality=limits)
    post.order(7300, "StoreAndStart", "OF-2")
    post.order(7350, "Pause", "OF-2")
    post.order(7360, "StoreAndStart", "OF-3")
    post.order(7380, "Stop", "OF-3")
    post.order(7390, "Resume", "OF-2")
    for when, order in ((3000, "OF-1"), (6800, "OF-2"), (7330, "OF-2"), (7370, "OF-3"), (7395, "OF-2")):
        assert post.fact(7400, "RecordQuality", when, characteristic="bore", value=D(12)).accepted
        assert [event.job_order_id for event in post.events if event.type == "quality.result"][-1] == order, when


def test_a_serial_number_belongs_to_a_lot_that_was_made() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    post.order(0, "StoreAndStart", JobOrder("OF-1", lot_id="LOT-1"))
    post.read(100, parts=5)
    refused = post.fact(110, "DeclareSerial", serial="SN-1", lot_id="LOT-9")
    assert (refused.problem and refused.problem.code) == "unknown_lot"
    assert post.fact(110, "DeclareSerial", serial="SN-1", lot_id="LOT-1").accepted
