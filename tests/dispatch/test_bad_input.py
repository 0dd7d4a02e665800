"""Bad input: every way to be refused gets its own answer, is counted, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from gateway.dispatch.intake import Intake
from gateway.domain.equipment import Counts, MeasuredCharacteristic, MeasuredMaterial, StateFromOrder
from gateway.domain.events import CommandAnswered
from gateway.domain.job import dump_job
from gateway.domain.job_order import JobCommand, JobOrder, QualityRequirement, Verb
from gateway.domain.ledger import MAX_OPEN_ORDERS
from gateway.domain.problems import PROBLEMS
from gateway.metrics import Metrics
from gateway.uplink.messages import MAX_PAYLOAD_BYTES, parse_command
from tests.dispatch.test_ledger_rebuilt import Journal
from tests.domain.post import Post, at, unit
from tests.manual_clock import ManualClock

NOW_S = 7200
NOW = at(NOW_S)
Message = dict[str, Any]


def stamp(seconds: float) -> str:
    return at(seconds).isoformat()


def job(command: str = "Store", **order: Any) -> Message:
    order = {"job_order_id": "OF-9"} | order
    return {"command": command, "command_id": "bad-1", "issued_at": stamp(NOW_S), "job_order": order}


def fact(command: str, **fields: Any) -> Message:
    return {"command": command, "command_id": "bad-1", "at": stamp(NOW_S)} | fields


def requirement(**limits: Any) -> list[Message]:
    return [{"characteristic": "bore", **limits}]


CUSTOMER = {"name": "Dupont"}

BAD: dict[str, tuple[str, Any]] = {
    # what is sent -> the code of its answer
    "a verb on an order that nobody sent": ("unknown_order", job("Start")),
    "a fact about an order that nobody sent": ("unknown_order", fact("DeclareScrap", job_order_id="OF-9", quantity=1)),
    "a verb that does not exist": ("invalid_command", job("Fly")),
    "a fact on the topic of orders": ("invalid_command", fact("ExplainStop", reason="jam")),
    "a pause of an order that waits": ("invalid_state", job("Pause", job_order_id="OF-2")),
    "a fact about an order that has not begun": ("invalid_state", fact("DeclareProduction", job_order_id="OF-2", good=1)),
    "the same order twice": ("order_exists", job("Store", job_order_id="OF-1")),
    "a resume while another runs": ("other_order_running", job("Resume", job_order_id="OF-3")),
    "fewer pieces than are made": ("quantity_below_made", job("Update", job_order_id="OF-1", quantity=2)),
    "a delivery window in the past": ("window_in_past", job(customer={**CUSTOMER, "delivery_to": stamp(0)})),
    "a delivery window the wrong way round": (
        "window_invalid", job(customer={**CUSTOMER, "delivery_from": stamp(99_000), "delivery_to": stamp(90_000)}),
    ),
    "an end before the start": ("window_invalid", job(start_time=stamp(9000), end_time=stamp(8000))),
    "a reason for a stop that was none": ("no_stop_at", fact("ExplainStop", reason="jam", at=stamp(100))),
    "a reason nobody defined": ("unknown_reason", fact("ExplainStop", reason="full_moon")),
    "a lot loaded twice": ("lot_already_loaded", fact("LoadLot", material_id="M", lot_id="L-1")),
    "a lot that is not on the machine": ("unknown_lot", fact("UnloadLot", material_id="M", lot_id="L-9")),
    "a material that nobody needs": ("unknown_material", fact("LoadLot", material_id="SAND", lot_id="L-2")),
    "a lot in a unit that cannot be converted": ("unknown_unit", fact("LoadLot", material_id="M", lot_id="L-2", quantity=5, unit="MTR")),
    "a result that nobody recorded": ("no_result", fact("CancelQuality", characteristic="colour")),
    "a correction of a fact that never was": ("unknown_command", fact("DeclareScrap", quantity=1, corrects="never")),
    "a state of a machine that tells it itself": ("state_is_read", fact("DeclareState", state="running")),
    "a characteristic that nobody asks for": ("unknown_characteristic", fact("RecordQuality", characteristic="colour", value=1)),
    "a correction below zero": ("total_negative", fact("DeclareScrap", job_order_id="OF-1", quantity=-1)),
    "a fact of tomorrow": ("time_not_covered", fact("DeclareScrap", quantity=1, at=stamp(90_000))),
    "a fact of last month": ("time_not_covered", fact("DeclareScrap", quantity=1, at=stamp(-30 * 86_400))),
    "a time in which nothing was made": ("time_not_covered", fact("Reassign", **{"from": stamp(-10), "to": stamp(-5)})),
    "a time the wrong way round": ("window_invalid", fact("Reassign", **{"from": stamp(50), "to": stamp(5)})),
    "an order for another work unit": ("wrong_work_unit", {**job(), "work_unit": "packer"}),
    "an order that came too late": ("expired", {**job(), "expires_at": stamp(NOW_S - 1)}),
    "a message that is no JSON": ("not_json", b"{quantity: 5"),
    "a message that is no object": ("not_json", b"[1, 2]"),
    "a quantity that JSON does not know": ("not_json", b'{"command": "Store", "command_id": "bad-1", "quantity": NaN}'),
    "a message beyond all measure": ("too_large", b"{" + b" " * MAX_PAYLOAD_BYTES + b"}"),
    "a field that does not exist": ("unknown_field", job(colour="red")),
    "an order without its number": ("missing_field", {**job(), "job_order": {}}),
    "a time that is none": ("invalid_field", {**job(), "issued_at": "yesterday"}),
    "a time without its offset": ("invalid_field", {**job(), "issued_at": "2026-11-24T06:00:00"}),
    "a quantity that is no number": ("quantity_invalid", job(quantity="5")),
    "a negative quantity": ("quantity_invalid", job(quantity=-5)),
    "a production of nothing": ("quantity_invalid", fact("DeclareProduction", good=0)),
    "limits the wrong way round": ("limits_invalid", job(quality_requirements=requirement(lower=3, upper=1))),
    "a target outside its limits": ("limits_invalid", job(quality_requirements=requirement(target=5, upper=4))),
    "another unit than that of what is made": ("unknown_unit", job("Update", job_order_id="OF-1", unit="KGM")),
}  # fmt: skip


class Desk:
    """A press with OF-1 running (5 pieces), OF-2 waiting, OF-3 interrupted and a lot on it; nothing else is ever to be seen here."""

    def __init__(self) -> None:
        materials = (MeasuredMaterial("M", "coil", "KGM"),)
        quality = (MeasuredCharacteristic("gauge", QualityRequirement("bore", "MMT", Decimal(1), None, Decimal(3))),)
        post = Post(unit(materials=materials, quality=quality))
        post.read(0, running=1, parts=0, coil=100, gauge=2)
        post.order(10, "StoreAndStart", "OF-3")
        post.order(20, "Pause", "OF-3")
        post.order(30, "StoreAndStart", "OF-1", quantity=Decimal(100))
        post.order(40, "Store", "OF-2")
        post.fact(50, "LoadLot", material_id="M", lot_id="L-1")
        for number in range(1, 6):
            post.read(50 + 10 * number, parts=number)
        for second in range(120, NOW_S, 60):
            post.read(second, parts=5 + second // 60)
        post.wait(NOW_S)
        self.post = post
        self.journal = Journal(post)
        self.clock = ManualClock(NOW)
        self.metrics = Metrics()
        targets = {"press": post.tracker}
        self.intake = Intake(targets, self.journal, known_answer=self.journal.known_answer, clock=self.clock, metrics=self.metrics)

    def picture(self) -> Any:
        ledger = self.post.tracker.production.ledger
        jobs = [ledger.get(f"OF-{number}") for number in range(1, 10)]
        events = [event for event in self.post.events if not isinstance(event, CommandAnswered)]
        return [dump_job(known) for known in jobs if known is not None], events, self.post.tracker.lines()

    def send(self, message: Any, *, retained: bool = False, topic: str | None = "press", kind: str | None = None) -> tuple[str, int]:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        inbound = parse_command(payload, retained=retained, topic_work_unit=topic, kind=kind)
        handled = self.intake.handle(inbound, uplink="mes", work_unit=topic, received_at=self.clock.now())
        answer = asyncio.run(handled)
        assert answer.problem is not None
        assert answer.problem.text
        code = answer.problem.code
        assert not answer.accepted
        counted = self.metrics.registry.get_sample_value("lineside_commands_total", {"uplink": "mes", "outcome": code})
        assert counted == 1.0
        return code, answer.return_status


@pytest.fixture
def desk() -> Desk:
    return Desk()


def kind_of(message: Any) -> str | None:
    """Orders and facts have topics of their own; here each goes where it belongs, but for the one that says otherwise."""
    return "job" if message == BAD["a fact on the topic of orders"][1] else None


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_answered_counted_and_changes_nothing(desk: Desk, what: str) -> None:
    expected, message = BAD[what]
    before = desk.picture()
    code, status = desk.send(message, kind=kind_of(message))
    assert code == expected
    assert status & PROBLEMS[code].return_status
    assert desk.picture() == before
    answered = [event for event in desk.post.events if isinstance(event, CommandAnswered)]
    if isinstance(message, bytes):
        assert answered == [], "nobody could look this answer up"
    else:
        [event] = answered
        assert event.problem is not None
        assert (event.command_id, event.problem["code"]) == ("bad-1", code)


def test_a_retained_command_and_one_without_an_address(desk: Desk) -> None:
    before = desk.picture()
    assert desk.send(job(), retained=True)[0] == "retained"
    assert desk.send(job(), topic=None)[0] == "missing_field"
    assert desk.send({**job(), "work_unit": "press-99", "command_id": "bad-2"}, topic=None)[0] == "unknown_work_unit"
    assert desk.picture() == before


def test_a_declaration_when_nothing_runs(desk: Desk) -> None:
    desk.post.order(NOW_S, "Stop", "OF-1")
    assert desk.send(fact("DeclareScrap", quantity=1))[0] == "no_order"


def test_a_state_that_does_not_exist_declared_at_a_manual_post(desk: Desk) -> None:
    desk.post.tracker = Post(unit(state=StateFromOrder(), counts=Counts())).begin(0).tracker
    desk.intake = Intake(
        {"press": desk.post.tracker}, desk.journal, known_answer=desk.journal.known_answer, clock=desk.clock, metrics=desk.metrics
    )
    assert desk.send(fact("DeclareState", state="flying"))[0] == "unknown_state"


def test_a_queue_that_is_full(desk: Desk) -> None:
    for number in range(MAX_OPEN_ORDERS - 3):
        order = JobOrder(f"many-{number}")
        assert desk.post.tracker.production.ledger.apply(JobCommand(Verb.STORE, f"m{number}", order, NOW), NOW).answer.accepted
    assert desk.send(job())[0] == "queue_full"


def test_every_problem_of_the_published_table_is_provoked() -> None:
    alone = {"retained", "missing_field", "unknown_work_unit", "no_order", "queue_full", "unknown_state"}
    assert {code for code, _ in BAD.values()} | alone == set(PROBLEMS)
