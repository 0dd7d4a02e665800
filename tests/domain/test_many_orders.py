"""A whole plan that comes down at once: weeks of orders in one answer of the ERP."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.domain.orders import MANY
from tests.domain.post import Post


def test_a_plan_of_many_orders_is_estimated_once_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    estimated: list[int] = []
    promise = post.tracker.production.orders.promise
    monkeypatch.setattr(post.tracker.production.orders, "promise", lambda: estimated.append(1) or promise())
    for number in range(300):
        assert post.order(1, "StoreAndStart", f"OF-{number}", quantity=Decimal(10)).accepted
    assert len(estimated) == MANY
    last = post.tracker.production.ledger.get("OF-299")
    assert last is not None
    assert last.promise is None
    post.wait(2)
    assert len(estimated) == MANY + 1
    assert last.promise is not None
    assert last.promise.eta_likely is not None
    for second in range(3, 30):
        post.read(second, parts=second)
    assert post.data("job.progress")
    assert len(estimated) == MANY + 1, "pieces alone do not date every order anew"
    post.wait(40)
    assert len(estimated) == MANY + 2
