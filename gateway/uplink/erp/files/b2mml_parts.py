"""The elements of B2MML V7 that the line reads, with the enumerations and numbers that the public schema lets pass unchecked."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.uplink.erp.files.b2mml_tree import Tree
from gateway.uplink.erp.port import PlanState

_LARGEST = Decimal(10) ** 15

# What the two lists of states of the schema (RequestState, JobOrderDispatchStatus) mean for the line. `Other` means nothing.
_STATES: dict[str, PlanState] = {
    "Forecast": PlanState.FORECAST, "Waiting": PlanState.FORECAST, "Pending": PlanState.FORECAST,
    "Released": PlanState.RELEASED, "Dispatched": PlanState.RELEASED, "Ready": PlanState.RELEASED, "Running": PlanState.RELEASED,
    "Held": PlanState.WITHDRAWN, "Suspended": PlanState.WITHDRAWN,
    "Cancelled": PlanState.CANCELLED, "Aborted": PlanState.CANCELLED,
    "Completed": PlanState.CLOSED, "Closed": PlanState.CLOSED,
}  # fmt: skip
_COMMANDS: dict[str, PlanState | None] = {
    "Start": None, "Restart": None, "Resume": None, "Reset": None,
    "Hold": PlanState.WITHDRAWN, "Pause": PlanState.WITHDRAWN, "Stop": PlanState.CLOSED, "Abort": PlanState.CANCELLED,
}  # fmt: skip

PRODUCED = {"Produced", "Material Produced", "Yield Produced"}
CONSUMED = {"Consumed", "Consumable", "Material Consumed"}
_MaterialUse = Literal[
    "Consumable", "Consumed", "Produced", "By-product Produced", "Co-product Produced", "Yield Produced", "Material Consumed",
    "Material Produced", "Destructive Sample", "Returned Sample", "Retained Sample", "Inventoried", "Other",
]  # fmt: skip


def one(value: Any) -> str | None:
    """The first of an element's occurrences; an empty one is absent. Raises ValueError where elements are instead of text."""
    first = value[0] if isinstance(value, list) and value else value
    if first in ("", {}, [], None):
        return None
    if not isinstance(first, str):
        raise ValueError("text, without elements in it")
    return first


def leaf(tree: Tree, name: str) -> str | None:
    """The text of the first element `name` below `tree`; None where there is none."""
    return next(iter(texts(tree.get(name, []))), None)


def texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str) and each]


def _state(value: Any) -> PlanState | None:
    said = one(value)
    if said is None:
        return None
    if said not in _STATES:
        raise ValueError(f"one of {', '.join(_STATES)}")
    return _STATES[said]


def _command(value: Any) -> PlanState | None:
    said = one(value)
    if said is None:
        return None
    if said not in _COMMANDS:
        raise ValueError(f"one of {', '.join(_COMMANDS)}")
    return _COMMANDS[said]


_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?")


def number(said: str) -> Decimal:
    """Any way in which XML and JSON write a number, within what a machine makes: an exponent of a million would be no number but a trap.
    Raises ValueError."""
    if not _NUMBER.fullmatch(said):
        raise ValueError("a number")
    found = Decimal(said)
    if abs(found) > _LARGEST or 0 < abs(found) < 1 / _LARGEST:
        raise ValueError("a number between 1e-15 and 1e15")
    return found


def whole(said: str) -> int:
    """Raises ValueError."""
    found = number(said)
    if found != int(found):
        raise ValueError("a whole number")
    return int(found)


def _priority(value: Any) -> int | None:
    said = one(value)
    return None if said is None else whole(said)


def _decimal(value: Any) -> Decimal | None:
    said = one(value)
    return None if said is None else number(said)


One = Annotated[str | None, BeforeValidator(one)]
Many = Annotated[list[str], BeforeValidator(texts)]
State = Annotated[PlanState | None, BeforeValidator(_state)]


class Part(BaseModel):
    """An element of the schema; what is not named here is of no use to the line."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Quantity(Part):
    number: Annotated[Decimal | None, BeforeValidator(_decimal)] = Field(None, alias="QuantityString")
    unit: One = Field(None, alias="UnitOfMeasure")


class Material(Part):
    definitions: Many = Field([], alias="MaterialDefinitionID")
    lots: Many = Field([], alias="MaterialLotID")
    use: Annotated[_MaterialUse | None, BeforeValidator(one)] = Field(None, alias="MaterialUse")
    quantities: list[Quantity] = Field([], alias="Quantity")

    def amount(self) -> Quantity | None:
        return next((quantity for quantity in self.quantities if quantity.number is not None), None)


class Work(Part):
    """What JobOrder, SegmentRequirement and the requests above them have."""

    id: One = Field(None, alias="ID")
    state: State = Field(None, alias="DispatchStatus")
    request_state: State = Field(None, alias="RequestState")
    segment_state: State = Field(None, alias="SegmentState")
    command: Annotated[PlanState | None, BeforeValidator(_command)] = Field(None, alias="Command")
    priority: Annotated[int | None, BeforeValidator(_priority)] = Field(None, alias="Priority")
    start: One = Field(None, alias="StartTime")
    end: One = Field(None, alias="EndTime")
    earliest: One = Field(None, alias="EarliestStartTime")
    latest: One = Field(None, alias="LatestEndTime")
    master: One = Field(None, alias="WorkMasterID")
    definition: One = Field(None, alias="OperationsDefinitionID")
    rule: One = Field(None, alias="ProductProductionRuleID")

    def said_state(self) -> PlanState | None:
        return self.command or self.state or self.segment_state or self.request_state
