"""Wire messages: what is taken, and the code and sentence for what is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.inbound import Refusal
from gateway.domain.job_order import Answer, Fact, FactVerb, JobCommand, Problem, ReturnStatus, Verb
from gateway.domain.problems import PROBLEMS
from gateway.uplink.messages import AckMessage, ReplayMessage, answer_payload, parse_command, parse_control

FULL: dict[str, Any] = {
    "command": "StoreAndStart",
    "command_id": "c-1",
    "work_unit": "press-07",
    "job_order": {
        "job_order_id": "OF-2026-004512/0020",
        "work_master_id": "CAPOT12/0020",
        "product_id": "PF-100",
        "quantity": 20000,
        "unit": "C62",
        "priority": 50,
        "start_time": "2026-11-24T05:00:00Z",
        "end_time": "2026-11-24T14:00:00+01:00",
        "ideal_cycle_time_s": 1.2,
        "pieces_per_cycle": 2,
        "material_requirements": [
            {"material_id": "MP-TOLE-1.5", "quantity_per": 0.16, "unit": "KGM", "mode": "backflush"},
            {"material_id": "COIL", "mode": "measured"},
        ],
        "quality_requirements": [
            {"characteristic": "bore", "unit": "MMT", "lower": 11.98, "target": 12, "upper": 12.02, "required_by": "X"},
        ],
        "customer": {
            "name": "Renault", "priority": 9, "delivery_from": "2026-11-25T06:00:00Z", "delivery_to": "2026-11-25T12:00:00Z",
            "requirements": ["PPAP 3"], "order_number": "SO-1", "order_line": "10",
        },
        "order_id": "OF-2026-004512", "operation_id": "0020", "lot_id": "LOT-1", "lead_after_s": 3600,
        "properties": {"colour": "rouge", "n": 1.5},
    },
    "issued_at": "2026-11-24T04:00:00Z",
    "expires_at": None,
}  # fmt: skip

LEAST: dict[str, Any] = {
    "command": "Start",
    "command_id": "c-1",
    "issued_at": "2026-11-24T04:00:00Z",
    "job_order": {"job_order_id": "OF-1"},
}


def parse(message: object, **options: Any) -> Any:
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return parse_command(payload, **{"retained": False, "topic_work_unit": "press-07", **options})


def changed(*path: str | int, to: object) -> dict[str, Any]:
    """FULL with one field changed."""
    message: dict[str, Any] = json.loads(json.dumps(FULL))
    place: Any = message
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return message


def test_every_field_of_a_command_arrives() -> None:
    command = parse(FULL)
    assert isinstance(command, JobCommand)
    order = command.job_order
    assert command.command is Verb.STORE_AND_START
    assert command.given == set(FULL["job_order"])
    assert order.quantity == Decimal(20000)
    assert order.ideal_cycle_time_s == Decimal("1.2")
    assert order.end_time == datetime(2026, 11, 24, 13, tzinfo=UTC)
    assert [(m.material_id, m.quantity_per, m.unit, m.mode) for m in order.material_requirements] == [
        ("MP-TOLE-1.5", Decimal("0.16"), "KGM", "backflush"),
        ("COIL", Decimal(0), "C62", "measured"),
    ]
    assert order.quality_requirements[0].upper == Decimal("12.02")
    assert order.customer is not None
    assert order.customer.requirements == ("PPAP 3",)
    assert order.customer.delivery_to == datetime(2026, 11, 25, 12, tzinfo=UTC)
    assert order.properties == {"colour": "rouge", "n": Decimal("1.5")}
    assert order.lead_after_s == 3600


def test_only_four_fields_are_required() -> None:
    command = parse(LEAST)
    assert isinstance(command, JobCommand)
    assert command.work_unit is None
    assert command.given == {"job_order_id"}
    for name in LEAST:
        refusal = parse({key: value for key, value in LEAST.items() if key != name})
        assert isinstance(refusal, Refusal)
        assert refusal.problem.code == "missing_field"
        assert name in refusal.problem.text
        assert refusal.command_id == (None if name == "command_id" else "c-1")


@pytest.mark.parametrize(
    ("message", "code", "named"),
    [
        (changed("colour", to=1), "unknown_field", "colour"),
        (changed("job_order", "colour", to=1), "unknown_field", "job_order.colour"),
        (changed("command", to="Fly"), "invalid_command", "Fly"),
        (changed("command", to=3), "invalid_command", "command"),
        (changed("job_order", "job_order_id", to="x" * 129), "invalid_field", "job_order_id"),
        (changed("job_order", "job_order_id", to=""), "invalid_field", "job_order_id"),
        (changed("job_order", "job_order_id", to="OF\x07"), "invalid_field", "job_order_id"),
        (changed("job_order", "job_order_id", to=12), "invalid_field", "job_order_id"),
        (changed("job_order", "quantity", to=-1), "quantity_invalid", "job_order.quantity"),
        (changed("job_order", "quantity", to=0), "quantity_invalid", "job_order.quantity"),
        (changed("job_order", "quantity", to="12"), "quantity_invalid", "job_order.quantity"),
        (changed("job_order", "quantity", to=True), "quantity_invalid", "job_order.quantity"),
        (changed("job_order", "quantity", to=1e30), "quantity_invalid", "job_order.quantity"),
        (changed("job_order", "quantity", to=1e-20), "quantity_invalid", "job_order.quantity"),
        (changed("job_order", "pieces_per_cycle", to=0), "invalid_field", "pieces_per_cycle"),
        (changed("job_order", "pieces_per_cycle", to=1.5), "invalid_field", "pieces_per_cycle"),
        (changed("job_order", "priority", to="high"), "invalid_field", "priority"),
        (changed("job_order", "start_time", to="2026-11-24T05:00:00"), "invalid_field", "start_time"),
        (changed("job_order", "start_time", to="2026-11-24"), "invalid_field", "start_time"),
        (changed("job_order", "start_time", to=1764000000), "invalid_field", "start_time"),
        (changed("job_order", "start_time", to="0001-01-01T00:00:00+23:00"), "invalid_field", "start_time"),
        (changed("job_order", "start_time", to="2027-01-01T00:00:00Z"), "window_invalid", "start_time"),
        (changed("job_order", "quality_requirements", 0, "lower", to=13), "limits_invalid", "quality_requirements.0"),
        (changed("job_order", "quality_requirements", 0, "target", to=12.5), "limits_invalid", "target"),
        (changed("job_order", "material_requirements", 0, "mode", to="guess"), "invalid_field", "material_requirements.0.mode"),
        (changed("job_order", "material_requirements", 0, "quantity_per", to=None), "missing_field", "quantity_per"),
        (changed("job_order", "material_requirements", to={}), "invalid_field", "material_requirements"),
        (changed("job_order", "customer", "delivery_from", to="2027-01-01T00:00:00Z"), "window_invalid", "customer"),
        (changed("job_order", "properties", to=[1]), "invalid_field", "properties"),
        (changed("work_unit", to="press 07"), "invalid_field", "work_unit"),
        (changed("job_order", to=None), "invalid_field", "job_order"),
    ],
)
def test_a_wrong_field_is_named(message: dict[str, Any], code: str, named: str) -> None:
    refusal = parse(message)
    assert isinstance(refusal, Refusal)
    assert refusal.problem.code == code
    assert named in refusal.problem.text
    assert refusal.command_id == "c-1"
    assert refusal.work_unit == "press-07"
    assert refusal.return_status == (ReturnStatus.INVALID_COMMAND if code == "invalid_command" else ReturnStatus.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[1]", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": Infinity}', "not_json"),
        (b'{"a": 1, "a": 2}', "not_json"),
        (b'{"a": ' + b"9" * 100 + b"}", "not_json"),
        (b'{"a": "\\ud800"}', "not_json"),
        (b"[" * 200_000, "not_json"),
        (b" " * (256 * 1024 + 1), "too_large"),
    ],
)
def test_what_is_no_json_object_has_no_command_id(payload: bytes, code: str) -> None:
    refusal = parse(payload)
    assert isinstance(refusal, Refusal)
    assert refusal.problem.code == code
    assert refusal.command_id is None


def test_the_limit_is_256_kib() -> None:
    filler = json.dumps(FULL).encode()
    assert isinstance(parse(filler + b" " * (256 * 1024 - len(filler))), JobCommand)


def test_retained_is_refused_with_its_command_id() -> None:
    refusal = parse(FULL, retained=True)
    assert (refusal.problem.code, refusal.command_id) == ("retained", "c-1")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"command": "ExplainStop", "reason": "coil_change", "by": "Marie"}, {"reason": "coil_change", "by": "Marie"}),
        ({"command": "DeclareState", "state": "setup"}, {"state": "setup"}),
        ({"command": "DeclareProduction", "job_order_id": "OF-1", "good": 10, "scrap": -2}, {"good": 10, "scrap": -2}),
        ({"command": "DeclareScrap", "job_order_id": "OF-1", "quantity": -3, "reason": "burr"}, {"quantity": -3}),
        ({"command": "DeclareRework", "job_order_id": "OF-1", "quantity": 3}, {"quantity": 3, "reason": None}),
        ({"command": "LoadLot", "material_id": "M", "lot_id": "L", "quantity": 500.5, "unit": "KGM"}, {"quantity": Decimal("500.5")}),
        ({"command": "RecordQuality", "characteristic": "bore", "value": 12.01, "lot_id": "L"}, {"value": Decimal("12.01")}),
        (
            {"command": "Reassign", "from": "2026-11-24T04:00:00Z", "to": "2026-11-24T05:00:00Z", "job_order_id": "OF-1"},
            {"from_": datetime(2026, 11, 24, 4, tzinfo=UTC), "to": datetime(2026, 11, 24, 5, tzinfo=UTC)},
        ),
    ],
)
def test_facts(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    message = {"command_id": "f-1", "at": "2026-11-24T05:30:00+01:00", **fields}
    fact = parse(message, kind="fact")
    assert isinstance(fact, Fact), fact
    assert fact.command is FactVerb(fields["command"])
    assert fact.at == datetime(2026, 11, 24, 4, 30, tzinfo=UTC)
    assert {name: getattr(fact, name) for name in expected} == expected
    refusal = parse({**message, "colour": 1})
    assert refusal.problem.code == "unknown_field"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"command": "ExplainStop"}, "missing_field"),
        ({"command": "ExplainStop", "reason": "x", "job_order_id": "OF-1"}, "unknown_field"),
        ({"command": "DeclareProduction", "job_order_id": "OF-1"}, "missing_field"),
        ({"command": "DeclareScrap", "job_order_id": "OF-1", "quantity": "3"}, "quantity_invalid"),
        ({"command": "LoadLot", "material_id": "M", "lot_id": "L", "quantity": -1}, "quantity_invalid"),
        ({"command": "Reassign", "from_": "2026-11-24T04:00:00Z", "to": "2026-11-24T05:00:00Z"}, "missing_field"),
        ({"command": "Reassign", "from": "2026-11-24T05:00:00Z", "to": "2026-11-24T05:00:00Z"}, "window_invalid"),
    ],
)
def test_facts_that_are_refused(fields: dict[str, Any], code: str) -> None:
    refusal = parse({"command_id": "f-1", "at": "2026-11-24T05:30:00Z", **fields})
    assert isinstance(refusal, Refusal)
    assert refusal.problem.code == code


def test_each_kind_has_its_topic() -> None:
    assert parse(LEAST, kind="fact").problem.code == "invalid_command"
    fact = {"command": "ExplainStop", "command_id": "f", "at": "2026-11-24T05:30:00Z", "reason": "x"}
    assert parse(fact, kind="job").problem.code == "invalid_command"
    assert isinstance(parse(fact), Fact)


def test_control_messages() -> None:
    assert parse_control(b'{"consumer": "mes", "epoch": "e", "sequence": 3}', AckMessage, retained=False) == AckMessage(
        consumer="mes", epoch="e", sequence=3
    )
    assert parse_control(b'{"epoch": "e", "from_sequence": 1}', ReplayMessage, retained=False) == ReplayMessage(epoch="e", from_sequence=1)
    for payload in (b"x", b"{}", b'{"epoch": "e", "from_sequence": 0}', b'{"epoch": "e", "from_sequence": 1.0}', b'{"epoch": "e"}'):
        assert isinstance(parse_control(payload, ReplayMessage, retained=False), Problem)
    assert isinstance(parse_control(b'{"epoch": "e", "from_sequence": 1}', ReplayMessage, retained=True), Problem)


def test_answers() -> None:
    assert json.loads(answer_payload(Answer("c-1", 1, state="Running"))) == {
        "command_id": "c-1", "return_status": 1, "accepted": True, "state": "Running", "problem": None,
    }  # fmt: skip
    refused = json.loads(answer_payload(Answer(None, 1 << 32, problem=Problem("not_json", "no"))))
    assert refused["return_status"] == 4294967296
    assert refused["accepted"] is False
    assert refused["problem"] == {"code": "not_json", "text": "no"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*FULL, *FULL["job_order"], "x"]), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*FULL, "at", "reason", "from", "to"]), values), st.sampled_from([*Verb, *FactVerb, "x"]), st.booleans()
)
def test_any_json_is_a_command_a_fact_or_a_refusal_of_the_table(fields: dict[str, Any], verb: str, retained: bool) -> None:
    found = parse({**fields, "command": verb}, retained=retained)
    if isinstance(found, Refusal):
        assert found.problem.code in PROBLEMS
        assert found.return_status == PROBLEMS[found.problem.code].return_status
        answer_payload(Answer(found.command_id, found.return_status, problem=found.problem))
    else:
        assert isinstance(found, JobCommand | Fact)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(payload: bytes) -> None:
    assert isinstance(parse(payload), Refusal)
