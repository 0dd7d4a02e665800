"""docs/flows.md describes the messages that the code really has: nothing is missing from the page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from gateway.domain.events import EVENT_TYPES, JobProgress, MaterialConsumed, QualityResult
from gateway.domain.job_order import FactVerb, JobState, ReturnStatus, Verb
from gateway.uplink.messages import FACTS, FactMessage
from gateway.uplink.wire import CustomerMessage, JobOrderMessage

PAGE = (Path(__file__).parents[2] / "docs/flows.md").read_text()
PROOF = Path(__file__).parents[1] / "system/test_flows.py"
OWN = {"work_unit", "at", "job_order_id", "type"}


def missing(words: set[str]) -> set[str]:
    return {word for word in words if word not in PAGE}


def test_every_event_type_is_described() -> None:
    assert missing({f"`{event.type}`" for event in EVENT_TYPES}) == set()


def test_every_field_of_an_order_is_mapped() -> None:
    nested = {"material_requirements", "quality_requirements", "customer"}
    assert missing({f"`{name}`" for name in JobOrderMessage.model_fields if name not in nested}) == set()
    assert missing({f"`{name}`" for name in CustomerMessage.model_fields}) == set()
    assert missing(nested) == set()


def test_every_field_that_an_erp_books_is_mapped() -> None:
    for event in (JobProgress, MaterialConsumed, QualityResult):
        assert missing({f"`{name}`" for name in event.__annotations__ if name not in OWN}) == set(), event.type


def test_every_verb_state_and_fact_is_named() -> None:
    assert missing({verb.value for verb in Verb} | {state.value for state in JobState} | {fact.value for fact in FactVerb}) == set()
    assert missing({str(int(status)) for status in ReturnStatus}) == set()
    for fact in FACTS.values():
        own = set(fact.model_fields) - set(FactMessage.model_fields) - {"command"}
        assert missing({f"`{name.rstrip('_')}`" for name in own}) == set(), fact.__name__


def test_every_flow_has_its_test() -> None:
    table = PAGE[PAGE.index("| flow |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) >= 10
    named = {re.findall(r"`(\w+)` \|$", row)[0] for row in table}
    assert len(named) == len(table)
    written = {item.name for item in ast.parse(PROOF.read_text()).body if isinstance(item, ast.AsyncFunctionDef)}
    assert named <= written


def test_the_example_consumer_stays_small() -> None:
    example = Path(__file__).parents[2] / "docs/example-consumer/consumer.py"
    code = [line for line in example.read_text().splitlines() if line.strip() and not line.startswith(("import ", "from "))]
    assert len(code) <= 60
