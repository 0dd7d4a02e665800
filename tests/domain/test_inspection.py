"""Samples that are due, failed results that act, results that are taken back, and the summary of an order."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.domain.equipment import MeasuredCharacteristic, Product
from gateway.domain.job_order import Customer, JobOrder, QualityRequirement
from tests.domain.post import Post

D = Decimal


def bore(**changes: object) -> QualityRequirement:
    fields = {"characteristic": "bore", "unit": "MMT", "lower": D("11.98"), "target": D(12), "upper": D("12.02")} | changes
    return QualityRequirement(**fields)  # type: ignore[arg-type]


def running(*requirements: QualityRequirement, **changes: object) -> Post:
    post = Post(**changes)
    post.read(0, running=1, parts=0)
    order = JobOrder("OF-1", product_id="PF-1", quality_requirements=requirements, customer=Customer("Dupont"), lot_id="LOT-1")
    post.order(0, "StoreAndStart", order)
    return post


def alerts(post: Post, kind: str) -> list[str]:
    return [e.type for e in post.events if getattr(e, "alert", "").startswith(kind)]


def test_a_sample_is_due_after_so_many_pieces_and_its_result_clears_the_alert() -> None:
    post = running(bore(every_pieces=10))
    post.read(100, parts=9)
    post.wait(130)
    assert alerts(post, "quality.due") == []
    post.read(140, parts=10)
    post.wait(170)
    assert alerts(post, "quality.due:bore") == ["alert.raised"]
    again = post.restarted()
    for one in (post, again):
        assert one.fact(180, "RecordQuality", characteristic="bore", value=D(12)).accepted
        assert alerts(one, "quality.due:bore") == ["alert.raised", "alert.cleared"]
    post.read(200, parts=19)
    post.wait(230)
    assert len(alerts(post, "quality.due")) == 2
    post.read(240, parts=20)
    post.wait(270)
    assert len(alerts(post, "quality.due")) == 3
    post.order(280, "Stop")
    assert alerts(post, "quality.due")[-1] == "alert.cleared"


def test_a_sample_is_due_after_so_much_time() -> None:
    post = running(bore(every_s=D(600)))
    post.wait(590)
    assert alerts(post, "quality.due") == []
    post.wait(660)
    assert alerts(post, "quality.due") == ["alert.raised"]


def test_a_product_asks_too_and_the_customers_limits_keep_its_sampling() -> None:
    product = Product("PF-1", quality=(bore(every_pieces=5, on_fail="scrap"),))
    post = running(bore(lower=D("11.99"), required_by="Dupont"), products={"PF-1": product})
    post.read(100, parts=5)
    post.wait(130)
    assert alerts(post, "quality.due") == ["alert.raised"]
    post.fact(140, "RecordQuality", characteristic="bore", value=D("11.985"))
    (result,) = post.data("quality.result")
    assert (result["result"], result["lower"], result["required_by"]) == ("Fail", D("11.99"), "Dupont")
    assert post.counted()["scrap"] == 1, "what a failed result does is the product's word"
    bare = Post(products={"PF-1": product})
    bare.read(0, running=1, parts=0)
    bare.order(0, "StoreAndStart", JobOrder("OF-1", product_id="PF-1"))
    assert bare.fact(10, "RecordQuality", characteristic="bore", value=D(12)).accepted


@pytest.mark.parametrize("what", ["scrap", "rework"])
def test_a_failed_piece_is_marked_once_whatever_failed_on_it(what: str) -> None:
    own = (
        MeasuredCharacteristic("gauge", bore(on_fail=what)),
        MeasuredCharacteristic("burr", QualityRequirement("burr", "MMT", upper=D(1), on_fail=what)),
    )
    post = running(quality=own)
    post.read(20, parts=2)
    post.read(30, parts=3, gauge=12.5, burr=2)
    assert [d["result"] for d in post.data("quality.result")] == ["Fail", "Fail"]
    assert post.counted()[what] == 1
    post.read(40, parts=4, gauge=12.5, burr=2)
    assert post.counted()[what] == 1, "an unchanged value is no new measurement"


def test_a_failed_result_holds_the_order_until_it_is_resumed() -> None:
    post = running(bore(on_fail="hold"))
    post.read(20, parts=2)
    post.fact(30, "RecordQuality", characteristic="bore", value=D("12.5"))
    changed = post.data("job.changed")[-1]
    assert (changed["state"], changed["previous"]) == ("Interrupted", "Running")
    assert "bore 12.5" in changed["problem"]
    assert alerts(post, "quality.hold:OF-1") == ["alert.raised"]
    again = post.restarted()
    for one in (post, again):
        assert one.order(60, "Resume").accepted
        assert alerts(one, "quality.hold:OF-1") == ["alert.raised", "alert.cleared"]
        assert alerts(one, "quality.failed:bore") == ["alert.raised"]
        one.fact(70, "RecordQuality", characteristic="bore", value=D(12))
        assert alerts(one, "quality.failed:bore") == ["alert.raised", "alert.cleared"]


def test_a_failed_result_alone_does_nothing_but_tell() -> None:
    post = running(bore())
    post.read(20, parts=2)
    post.fact(30, "RecordQuality", characteristic="bore", value=D("12.5"), by="Ana", serial="SN-7")
    (result,) = post.data("quality.result")
    assert (result["result"], result["by"], result["serial"], result["product_lot_id"]) == ("Fail", "Ana", "SN-7", "LOT-1")
    assert alerts(post, "quality") == []
    assert post.counted()["scrap"] == 0


def test_the_summary_of_an_order_and_a_result_that_is_taken_back() -> None:
    post = running(bore(required_by="Dupont"), QualityRequirement("colour"))
    for second, value in ((10, "12"), (20, "12.01"), (30, "12.5")):
        post.fact(second, "RecordQuality", characteristic="bore", value=D(value))
    post.order(40, "Stop")
    (summary,) = post.data("quality.summary")
    told = summary["characteristics"]["bore"]
    assert (summary["passed"], summary["failed"], summary["revision"], summary["customer"]) == (2, 1, 1, "Dupont")
    assert (told["pass"], told["fail"], told["min"], told["max"], told["required_by"]) == (2, 1, D(12), D("12.5"), "Dupont")
    assert told["mean"] == D("36.51") / 3
    assert summary["not_checked"] == ("colour",)
    again = post.restarted()
    for one in (post, again):
        wrong = one._commands  # the latest fact is that of 12.5, the order's Stop came after it
        assert one.fact(50, "CancelQuality", corrects=f"f{wrong - 1}").accepted
        (cancelled,) = one.data("quality.cancelled")
        assert (cancelled["value"], cancelled["result"]) == (D("12.5"), "Fail")
        last = one.data("quality.summary")[-1]
        assert (last["revision"], last["failed"], last["characteristics"]["bore"]["max"]) == (2, 0, D("12.01"))
        answer = one.fact(60, "CancelQuality", corrects=f"f{wrong - 1}")
        assert answer.problem is not None
        assert answer.problem.code == "no_result"
        assert one.fact(70, "CancelQuality", characteristic="bore").accepted
        assert one.data("quality.summary")[-1]["passed"] == 1


def test_an_order_without_checks_has_no_summary() -> None:
    post = running()
    post.order(40, "Stop")
    assert post.data("quality.summary") == []
