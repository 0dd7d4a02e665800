"""Two machines, one order: the second one's promise follows the first, and pieces from nowhere are an alert."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from gateway.app.routing import Routing
from gateway.domain.events import Event, Text
from gateway.domain.job import Job
from tests.domain.post import Post, at


class Board:
    def __init__(self) -> None:
        self.standing: dict[str, tuple[str, str]] = {}

    def raise_(self, key: str, severity: str, text: Text, remedy: Text, *, work_unit: str | None = None, detail: str = "") -> None:
        assert key not in self.standing
        assert remedy.fr
        self.standing[key] = (text.en, detail)

    def clear(self, key: str) -> None:
        del self.standing[key]


class Shop:
    def __init__(self) -> None:
        self.board = Board()
        self.saw, self.press = Post(name="saw"), Post(name="press")
        self.routing = Routing({"saw": self.saw.tracker, "press": self.press.tracker}, self.board)
        self.seen = {"saw": 0, "press": 0}

    def listen(self) -> None:
        for name, post in (("saw", self.saw), ("press", self.press)):
            new: list[Event] = post.events[self.seen[name] :]
            self.seen[name] = len(post.events)
            for event in new:
                self.routing.on_event(event)

    def begin(self, **second: Any) -> None:
        for post, number in ((self.saw, "10"), (self.press, "20")):
            post.read(0, running=1, parts=0)
            fields = {"quantity": Decimal(100), "order_id": "OF-7", "operation_id": number, "end_time": at(10 * 3600)}
            post.order(0, "StoreAndStart", f"OF-7-{number}", **(fields | (second if number == "20" else {})))
        self.listen()

    def make(self, post: Post, count: int, start: int) -> None:
        for number in range(1, count + 1):
            post.read(start + number, parts=number)
        post.wait(start + count + 60)
        self.listen()


def job(post: Post, name: str) -> Job:
    found = post.tracker.production.ledger.get(name)
    assert found is not None
    return found


def test_the_second_operation_starts_after_the_first_and_the_first_ones_verdict_needs_a_lead_time() -> None:
    shop = Shop()
    shop.begin()
    shop.saw.wait(60)
    shop.press.wait(60)
    first, second = job(shop.saw, "OF-7-10").promise, job(shop.press, "OF-7-20").promise
    assert first is not None
    assert second is not None
    assert first.eta_likely is not None
    assert second.eta_likely is not None
    assert first.verdict == "unknown"
    assert "lead_after_s" in first.basis
    assert second.eta_likely >= first.eta_likely + timedelta(seconds=1250 - 60), "its own work, at ideal time x 1.25, comes after it"
    assert "OF-7-10 on saw" in second.basis


def test_more_pieces_than_were_handed_over_are_an_alert_until_it_is_right_again() -> None:
    shop = Shop()
    shop.begin()
    shop.make(shop.press, 3, 10)
    key = "routing.ahead:OF-7-20@press"
    assert shop.board.standing == {
        key: ("press: OF-7-20 counts 3 pieces, the operation before handed over only 0.", "3 too many"),
    }
    assert job(shop.press, "OF-7-20").produced == 3, "told, not refused"
    again = Board()
    Routing({"saw": shop.saw.tracker, "press": shop.press.tracker}, again).judge_all()
    assert list(again.standing) == [key], "a restart knows it too"
    shop.make(shop.saw, 3, 100)
    assert shop.board.standing == {}


def test_the_alert_ends_with_its_job() -> None:
    shop = Shop()
    shop.begin()
    shop.make(shop.press, 3, 10)
    shop.press.order(200, "Stop", "OF-7-20")
    shop.listen()
    assert shop.board.standing == {}


def test_an_update_moves_a_job_to_another_order() -> None:
    shop = Shop()
    shop.begin()
    shop.press.order(10, "Update", "OF-7-20", order_id="OF-8")
    assert shop.routing.route("press", job(shop.press, "OF-7-20")).handed_over is None
    shop.press.order(20, "Stop", "OF-7-20")
    shop.press.order(20, "Clear", "OF-7-20")
    assert list(shop.press.tracker.production.ledger.order_ids) == []
