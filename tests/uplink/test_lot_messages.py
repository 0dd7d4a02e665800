"""Facts about lots, material and results, and sampling in an order, as they come down the wire."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from gateway.domain.inbound import Refusal
from gateway.domain.job_order import Fact, FactVerb, JobCommand
from gateway.uplink.messages import parse_command

AT = "2026-11-24T06:00:00Z"


def parsed(**message: Any) -> Any:
    return parse_command(json.dumps(message).encode(), retained=False, topic_work_unit="press-07")


def fact(command: str, **fields: Any) -> Any:
    return parsed(command=command, command_id="f1", at=AT, **fields)


def order(**requirement: Any) -> Any:
    job = {"job_order_id": "OF-1", "quality_requirements": [{"characteristic": "bore", **requirement}]}
    return parsed(command="Store", command_id="c1", issued_at=AT, job_order=job)


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("LoadLot", {"material_id": "M", "lot_id": "L1", "quantity": 5.5, "unit": "TNE", "queued": True}),
        ("UnloadLot", {"material_id": "M", "lot_id": "L1", "quantity": 0, "unit": "KGM"}),
        ("DeclareConsumption", {"material_id": "M", "quantity": -2.5, "unit": "GRM", "lot_id": "L1", "use": "Other"}),
        ("StartLot", {"lot_id": "LOT-2"}),
        ("DeclareSerial", {"serial": "SN-1", "lot_id": "LOT-2", "job_order_id": "OF-1"}),
        ("RecordQuality", {"characteristic": "bore", "value": 12.01, "serial": "SN-1", "job_order_id": "OF-1"}),
        ("CancelQuality", {"characteristic": "bore"}),
        ("CancelQuality", {}),
    ],
)
def test_each_fact_arrives_as_it_was_sent(command: str, fields: dict[str, Any]) -> None:
    found = fact(command, **fields, by="Ana", corrects="f0")
    assert isinstance(found, Fact)
    assert (found.command, found.by, found.corrects) == (FactVerb(command), "Ana", "f0")
    for name, value in fields.items():
        held = getattr(found, name)
        assert held == (Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value)


@pytest.mark.parametrize(
    ("command", "fields", "code"),
    [
        ("LoadLot", {"material_id": "M", "lot_id": "L1", "quantity": -1}, "quantity_invalid"),
        ("LoadLot", {"material_id": "M", "lot_id": "L1", "quantity": "5"}, "quantity_invalid"),
        ("LoadLot", {"material_id": "M", "lot_id": "L1", "queued": "yes"}, "invalid_field"),
        ("UnloadLot", {"material_id": "M", "lot_id": "L1", "quantity": -1}, "quantity_invalid"),
        ("UnloadLot", {"lot_id": "L1"}, "missing_field"),
        ("DeclareConsumption", {"material_id": "M"}, "missing_field"),
        ("DeclareConsumption", {"material_id": "M", "quantity": 1, "use": "Eaten"}, "invalid_field"),
        ("StartLot", {"lot_id": ""}, "invalid_field"),
        ("DeclareSerial", {}, "missing_field"),
        ("CancelQuality", {}, "missing_field"),
        ("CancelQuality", {"value": 3}, "unknown_field"),
    ],
)
def test_a_wrong_fact_is_refused_by_its_field(command: str, fields: dict[str, Any], code: str) -> None:
    found = fact(command, **fields)
    assert isinstance(found, Refusal)
    assert (found.problem.code, found.command_id) == (code, "f1")


def test_sampling_and_what_a_failed_result_does_come_with_the_order() -> None:
    found = order(lower=1, upper=3, sampling={"every_pieces": 100, "every": "30min"}, on_fail="hold", required_by="Dupont")
    assert isinstance(found, JobCommand)
    (requirement,) = found.job_order.quality_requirements
    assert (requirement.every_pieces, requirement.every_s, requirement.on_fail) == (100, Decimal(1800), "hold")


@pytest.mark.parametrize(
    "requirement",
    [
        {"sampling": {}}, {"sampling": {"every_pieces": 0}}, {"sampling": {"every": "0min"}}, {"sampling": {"every": 30}},
        {"sampling": {"every": "often"}}, {"sampling": 100}, {"on_fail": "explode"}, {"sampling": {"every_piece": 1}},
    ],
)  # fmt: skip
def test_sampling_that_says_nothing_is_refused(requirement: dict[str, Any]) -> None:
    found = order(**requirement)
    assert isinstance(found, Refusal)
    assert found.problem.code in ("invalid_field", "missing_field", "unknown_field")
    assert "quality_requirements" in found.problem.text
