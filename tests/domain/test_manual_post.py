"""A manual post: `state: {from: order}` and what a person declares of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.equipment import Counts, StateFromOrder
from tests.domain.post import Post, at, parts, reason


def manual(**changes: Any) -> Post:
    return Post(state=StateFromOrder(), counts=Counts(), **changes).begin()


def test_it_runs_while_its_order_does() -> None:
    post = manual()
    post.order(200, "StoreAndStart")
    post.order(800, "Stop")
    line = post.end(1000).window()
    assert parts(line) == (600, 0, 400, 0)
    assert post.states() == ["stopped", "running", "stopped"]
    assert post.window("job")["run_s"] == 600


def test_one_order_after_the_other_is_no_stop() -> None:
    post = manual()
    post.order(0, "StoreAndStart", "OF-1")
    post.order(100, "Stop", "OF-1")
    post.order(100, "StoreAndStart", "OF-2")
    post.order(150, "Pause", "OF-2")
    post.order(350, "Resume", "OF-2")
    assert parts(post.end(400).window()) == (200, 0, 200, 0)


def test_a_declaration_wins_over_the_order() -> None:
    post = manual()
    post.order(0, "StoreAndStart")
    assert post.fact(100, "DeclareState", state="setup").accepted
    assert post.fact(300, "DeclareState", state="jam").accepted
    assert post.fact(600, "DeclareState", state="running").accepted
    line = post.end(1000).window()
    assert parts(line) == (500, 200, 300, 0)
    assert post.stop_list() == [("stop", 300, 300, "jam")]


def test_the_next_order_ends_a_declaration_and_the_end_of_one_does_not() -> None:
    post = manual()
    post.order(0, "StoreAndStart", "OF-1")
    post.fact(100, "DeclareState", state="maintenance")
    post.order(200, "Stop", "OF-1")
    assert post.tracker.view().state == "maintenance"
    post.order(300, "StoreAndStart", "OF-2")
    assert post.tracker.view().state == "running"


def test_a_late_declaration_takes_back_what_was_booked() -> None:
    post = manual()
    post.order(0, "StoreAndStart")
    post.fact(4000, "DeclareState", about=3000, state="jam")
    post.fact(5000, "DeclareState", about=4500, state="running")
    post.end(6000)
    assert parts(post.window()) == (4500, 0, 1500, 0)
    assert post.stop_list() == [("stop", 3000, 1500, "jam")]
    first = post.hour(0)
    assert (first["run_s"], first["stop_s"], first["revision"]) == (3000, 600, 2)
    assert first["changed"]["run_s"] == [3600, 3000]
    assert first["changed"]["availability"] == [1, 3000 / 3600]
    assert [(i.kind, (i.from_ - at(0)).total_seconds()) for i in post.tracker.view().intervals] == [
        ("run", 0),
        ("stop", 3000),
        ("run", 4500),
    ]


@pytest.mark.parametrize(
    ("about", "state", "code"),
    [(50, "jam", "time_not_covered"), (500, "asleep", "unknown_state"), (500, None, "missing_field"), (9999, "jam", "time_not_covered")],
)
def test_what_cannot_be_declared_is_refused_and_changes_nothing(about: float, state: str | None, code: str) -> None:
    post = manual()
    post.order(100, "StoreAndStart")
    before = len(post.events)
    answer = post.fact(600, "DeclareState", about=about, state=state)
    assert answer.problem is not None
    assert answer.problem.code == code
    assert [e for e in post.events[before:] if e.type == "state.changed"] == []


def test_a_machine_that_tells_its_state_takes_no_declaration() -> None:
    post = Post()
    post.read(0, running=1, parts=0)
    answer = post.fact(100, "DeclareState", state="setup")
    assert answer.problem is not None
    assert answer.problem.code == "state_is_read"


def test_it_survives_a_restart_without_unknown_time() -> None:
    post = manual(reasons={"jam": reason("jam", "own")})
    post.order(0, "StoreAndStart")
    post.fact(10, "DeclareProduction", good=Decimal(1))
    post.fact(100, "DeclareState", state="jam")
    again = post.restarted()
    again.wait(200)
    assert again.tracker.view().reason == "jam"
    again.fact(300, "DeclareState", state="running")
    line = again.end(400).window()
    assert parts(line) == (200, 0, 200, 0)
    assert line["degraded"] is False
