"""The order number at the machine: what it starts, what it ends, and what it leaves alone."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.domain.equipment import Dispatch
from gateway.domain.job_order import JobState
from gateway.domain.job_tag import number_of
from gateway.domain.sample import SampleValue
from tests.domain.post import Post


def post(**changes: object) -> Post:
    made = Post(job_tag="number", **changes)
    made.read(0, running=1, parts=0)
    for name in ("OF-1", "OF-2", "4711"):
        assert made.order(0, "Store", name).accepted
    return made


def state(of: Post, name: str) -> JobState | None:
    job = of.tracker.production.ledger.get(name)
    return job and job.state


def made(of: Post, name: str) -> Decimal | None:
    job = of.tracker.production.ledger.get(name)
    return job and job.produced


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("OF-1", "OF-1"), (" OF-1\0\0", "OF-1"), ("00417", "00417"), (4711, "4711"), (4711.0, "4711"), (0, ""), ("", ""), ("0000", ""),
        (None, ""), (True, ""),
    ],
)  # fmt: skip
def test_a_number_is_read_as_the_ledger_spells_it(value: SampleValue, number: str) -> None:
    assert number_of(value) == number


def test_a_new_number_ends_one_order_and_starts_the_next_and_its_pieces_follow() -> None:
    line = post()
    line.read(10, parts=1)
    line.read(20, number="OF-1", parts=2)
    line.read(30, parts=3)
    line.read(40, number=4711, parts=4)
    line.read(50, parts=5)
    assert (state(line, "OF-1"), state(line, "4711")) == (JobState.ENDED, JobState.RUNNING)
    assert (made(line, "OF-1"), made(line, "4711")) == (2, 1), "the piece that came with the number belongs to the order before"
    assert [d["command_id"] for d in line.data("job.changed", state="Running")] == [None, None]


def test_an_unknown_number_and_an_ended_one_are_alerts_and_change_nothing() -> None:
    line = post()
    line.read(10, number="OF-1")
    line.read(20, number="OF-99")
    line.read(30, number="OF-98")
    raised = line.data("alert.raised", alert="job.number@press")
    assert ["OF-99" in d["text"].en for d in raised] == [True, False]
    assert state(line, "OF-1") is JobState.RUNNING
    line.read(40, number="OF-2")
    assert len(line.data("alert.cleared", alert="job.number@press")) == 2
    line.read(50, number="OF-1")
    assert state(line, "OF-2") is JobState.RUNNING
    assert "already over" in line.data("alert.raised", alert="job.number@press")[-1]["text"].en


def test_only_a_change_of_the_number_acts() -> None:
    line = post()
    line.read(10, number="OF-1")
    line.order(20, "Stop", "OF-1")
    line.order(21, "Start", "OF-2")
    line.read(30, number="OF-1")
    line.read(40, number=None)
    line.read(50, number="OF-1")
    assert state(line, "OF-2") is JobState.RUNNING, "the number still stands there, nobody typed it again"
    line.read(60, number="")
    assert state(line, "OF-2") is JobState.RUNNING, "an empty number ends nothing"
    assert not line.data("alert.raised", alert="job.number@press")


def test_an_interrupted_order_goes_on_and_a_running_one_stays() -> None:
    line = post()
    line.read(10, number="OF-1")
    line.order(20, "Pause", "OF-1")
    line.read(30, number="")
    line.read(40, number="OF-1")
    assert [d["state"] for d in line.data("job.changed", command_id=None)] == ["Running", "Running"]
    line.read(50, number="")
    line.read(60, number="OF-1")
    assert state(line, "OF-1") is JobState.RUNNING
    assert len(line.data("job.changed", command_id=None)) == 2


def test_a_number_typed_while_the_gateway_was_away_acts_once() -> None:
    line = post()
    line.read(10, number="OF-1")
    again = line.restarted().restarted()
    again.read(100, running=1, number="OF-1", parts=5)
    assert state(again, "OF-1") is JobState.RUNNING
    third = again.restarted()
    third.read(200, running=1, number="OF-2", parts=9)
    assert (state(third, "OF-1"), state(third, "OF-2")) == (JobState.ENDED, JobState.RUNNING)
    assert made(third, "OF-1") == 9, "the counter's pieces were made before the number was seen"


def test_an_order_that_has_its_quantity_ends_at_once() -> None:
    line = post(dispatch=Dispatch(end="at_quantity", next="auto"))
    line.order(1, "Update", "OF-1", quantity=Decimal(2))
    line.read(10, number="OF-1")
    line.read(20, parts=2)
    assert state(line, "OF-1") is JobState.ENDED
