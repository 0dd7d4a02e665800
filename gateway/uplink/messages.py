"""The wire messages that come down, checked field by field, and the answers that go up.

One place says what a JobCommand, a fact, an acknowledgement and a replay request look like: the parser, the published JSON Schema
and the AsyncAPI document are all made from these models. Names are ISA-95's and OPC 10031-4's.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self, TypeVar

import orjson
from pydantic import ConfigDict, Field, ValidationError
from pydantic import model_validator as after_model
from pydantic_core import PydanticCustomError

from drivers.settings import NAME_PATTERN
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import (
    Answer,
    Fact,
    FactVerb,
    JobCommand,
    Problem,
    Verb,
)
from gateway.domain.problems import return_status
from gateway.uplink.fields import MAX_ORDER_ID, Id, Line, Moment, NotNegative, Number, UnitCode, UnitName
from gateway.uplink.wire import CustomerMessage as CustomerMessage
from gateway.uplink.wire import JobOrderMessage as JobOrderMessage
from gateway.uplink.wire import Wire

MAX_PAYLOAD_BYTES = 256 * 1024


class JobCommandMessage(Wire):
    """A verb of OPC 10031-4 on one order. `work_unit` may be left to the MQTT topic."""

    command: Annotated[Verb, Field(strict=False)]
    command_id: Id
    work_unit: UnitName | None = None
    job_order: JobOrderMessage
    issued_at: Moment
    expires_at: Moment | None = None

    def noun(self) -> JobCommand:
        return JobCommand(
            command=self.command,
            command_id=self.command_id,
            job_order=self.job_order.noun(),
            issued_at=self.issued_at,
            work_unit=self.work_unit,
            expires_at=self.expires_at,
            given=frozenset(self.job_order.model_fields_set),
        )


class FactMessage(Wire):
    """What every facts command has; `at` is when it was so, `issued_at` when it was said (a replay takes it then), `by` who says it,
    `corrects` the command_id of a fact that it corrects."""

    command_id: Id
    at: Moment
    issued_at: Moment | None = None
    work_unit: UnitName | None = None
    by: Line | None = None
    corrects: Id | None = None

    def noun(self) -> Fact:
        fields = {name.rstrip("_") + ("_" if name == "from_" else ""): getattr(self, name) for name in type(self).model_fields}
        fields["command"] = FactVerb(fields["command"])
        return Fact(**fields)


class ExplainStop(FactMessage):
    """The reason of the stop that holds `at`."""

    command: Literal["ExplainStop"]
    reason: Id


class DeclareState(FactMessage):
    """The state of a manual post from `at` on: a state of the configuration's words, or a stop reason."""

    command: Literal["DeclareState"]
    state: Id


class DeclareProduction(FactMessage):
    """Pieces made; a negative quantity corrects an earlier declaration."""

    command: Literal["DeclareProduction"]
    job_order_id: Id | None = None
    good: Number | None = None
    scrap: Number | None = None

    @after_model(mode="after")
    def _something(self) -> Self:
        if self.good is None and self.scrap is None:
            raise PydanticCustomError("missing", "`good` or `scrap` is required")
        return self


class DeclareScrap(FactMessage):
    """Good pieces that turned out to be scrap; a negative quantity corrects an earlier one."""

    command: Literal["DeclareScrap"]
    job_order_id: Id | None = None
    quantity: Number
    reason: Id | None = None


class DeclareRework(FactMessage):
    """Pieces to be reworked; a negative quantity corrects an earlier one."""

    command: Literal["DeclareRework"]
    job_order_id: Id | None = None
    quantity: Number
    reason: Id | None = None


class LoadLot(FactMessage):
    """A lot of material at the machine: consumption from `at` on is booked on it. `queued`: it waits behind those that are loaded, and
    is used when their quantities are used up."""

    command: Literal["LoadLot"]
    material_id: Id
    lot_id: Id
    quantity: NotNegative | None = None
    unit: UnitCode | None = None
    queued: bool | None = None


class UnloadLot(FactMessage):
    """A lot is taken off; `quantity` is what is left of it and corrects what was booked by estimate."""

    command: Literal["UnloadLot"]
    material_id: Id
    lot_id: Id
    quantity: NotNegative | None = None
    unit: UnitCode | None = None


class DeclareConsumption(FactMessage):
    """Material that a person weighed or counted; a negative quantity gives back what was booked. `use` Other: the material was scrap."""

    command: Literal["DeclareConsumption"]
    material_id: Id
    quantity: Number
    unit: UnitCode | None = None
    lot_id: Id | None = None
    job_order_id: Id | None = None
    use: Literal["Consumed", "Other"] | None = None


class StartLot(FactMessage):
    """A new produced lot: pieces from now on are of it, until the next one or another order."""

    command: Literal["StartLot"]
    lot_id: Id


class DeclareSerial(FactMessage):
    """A piece with a number of its own, made at `at`."""

    command: Literal["DeclareSerial"]
    serial: Id
    lot_id: Id | None = None
    job_order_id: Id | None = None


class RecordQuality(FactMessage):
    """One measurement of a characteristic: of a piece (`serial`), of a lot (`lot_id`), else of a sample of what is made."""

    command: Literal["RecordQuality"]
    characteristic: Id
    value: Number
    lot_id: Id | None = None
    serial: Id | None = None
    job_order_id: Id | None = None


class CancelQuality(FactMessage):
    """A result that does not count: the one that the fact `corrects` brought, else the latest of `characteristic` up to `at`."""

    command: Literal["CancelQuality"]
    characteristic: Id | None = None

    @after_model(mode="after")
    def _something(self) -> Self:
        if self.corrects is None and self.characteristic is None:
            raise PydanticCustomError("missing", "`corrects` or `characteristic` is required")
        return self


class Reassign(FactMessage):
    """What was made in [from, to) without an order belongs to this one; null: to the running one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_alias=True, validate_by_name=False)

    command: Literal["Reassign"]
    from_: Moment = Field(alias="from")
    to: Moment
    job_order_id: Id | None = None

    @after_model(mode="after")
    def _window(self) -> Self:
        if self.from_ >= self.to:
            raise PydanticCustomError("window_invalid", "`from` is not before `to`")
        return self


FACTS: dict[FactVerb, type[FactMessage]] = {
    FactVerb.EXPLAIN_STOP: ExplainStop,
    FactVerb.DECLARE_STATE: DeclareState,
    FactVerb.DECLARE_PRODUCTION: DeclareProduction,
    FactVerb.DECLARE_SCRAP: DeclareScrap,
    FactVerb.DECLARE_REWORK: DeclareRework,
    FactVerb.LOAD_LOT: LoadLot,
    FactVerb.UNLOAD_LOT: UnloadLot,
    FactVerb.DECLARE_CONSUMPTION: DeclareConsumption,
    FactVerb.START_LOT: StartLot,
    FactVerb.DECLARE_SERIAL: DeclareSerial,
    FactVerb.RECORD_QUALITY: RecordQuality,
    FactVerb.CANCEL_QUALITY: CancelQuality,
    FactVerb.REASSIGN: Reassign,
}


class AckMessage(Wire):
    """A high-water mark: all rows of the epoch up to `sequence` are the consumer's."""

    consumer: UnitName
    epoch: Id
    sequence: Annotated[int, Field(ge=1)]


class ReplayMessage(Wire):
    """Send again everything still in the journal from there."""

    epoch: Id
    from_sequence: Annotated[int, Field(ge=1)]


Control = TypeVar("Control", AckMessage, ReplayMessage)


class NotAMessage(ValueError):
    """The bytes are no message: `code` of the problem table and a sentence."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(code, text)


_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}
_OWN_CODES = ("quantity_invalid", "limits_invalid", "window_invalid")
# Two bounds of the parser itself: a number of a million digits or an exponent of 10**9 would cost memory and time, not meaning.
_LONGEST_NUMBER = 60


def _json_number(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("holds a number of more than 60 characters")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("holds a number with an exponent beyond all measure") from None


def _json_integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("holds a number of more than 60 characters")
    return int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"holds {text}, which JSON does not know")


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("names a field twice")
    return found


def read_object(payload: bytes, limit: int = MAX_PAYLOAD_BYTES) -> dict[str, Any]:
    """The JSON object in `payload`, numbers as int and Decimal. Raises NotAMessage (too_large, not_json)."""
    if len(payload) > limit:
        raise NotAMessage("too_large", f"the message has {len(payload)} bytes, at most {limit} are read")
    try:
        found = json.loads(
            payload.decode(),
            parse_float=_json_number,
            parse_int=_json_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_one_of_each,
        )
        if b"\\u" in payload:
            # Half a surrogate pair is good JSON and no text: what holds one could never be written again.
            json.dumps(found, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError) as error:
        raise NotAMessage("not_json", f"the message is not JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise NotAMessage("not_json", "the message is not a JSON object")
    return found


def _problem(error: ValidationError) -> Problem:
    """The first fault as code and sentence, the field named by its path."""
    fault = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(step)[:64] for step in fault["loc"]) or "the message"
    kind = fault["type"]
    code = _CODES.get(kind) or (kind if kind in _OWN_CODES else "invalid_field")
    if kind == "extra_forbidden":
        text = f"{path}: there is no such field"
    elif kind == "missing" and fault["msg"] == "Field required":
        text = f"{path}: is required"
    else:
        text = f"{path}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"
    return Problem(code, text[:500])


def parse_control(payload: bytes, model: type[Control], *, retained: bool) -> Control | Problem:
    """An acknowledgement or a replay request; a retained one is refused, it would act again at each connection."""
    if retained:
        return Problem("retained", "the message is retained; it must be published without retain")
    try:
        return model.model_validate(read_object(payload))
    except NotAMessage as error:
        return error.problem
    except ValidationError as error:
        return _problem(error)


def command_from(found: dict[str, Any], *, retained: bool, topic_work_unit: str | None, kind: str | None = None) -> Inbound:
    """A JSON object that has been read already -> command, fact, or why it is neither.

    `kind`: job or fact where the way in takes only one of them (each has its own topic, and brokers grant rights by topic).
    """
    command_id = found.get("command_id")
    if not (isinstance(command_id, str) and 0 < len(command_id) <= MAX_ORDER_ID and command_id.isprintable()):
        command_id = None
    work_unit = found.get("work_unit")
    if topic_work_unit is None and isinstance(work_unit, str) and re.fullmatch(NAME_PATTERN, work_unit):
        topic_work_unit = work_unit

    def refuse(problem: Problem) -> Refusal:
        return Refusal(command_id, topic_work_unit, return_status(problem.code), problem)

    if retained:
        return refuse(Problem("retained", "the command is retained; it must be published without retain"))
    verb = found.get("command")
    if verb is None:
        return refuse(Problem("missing_field", "command: is required"))
    is_job = isinstance(verb, str) and verb in Verb._value2member_map_
    is_fact = isinstance(verb, str) and verb in FactVerb._value2member_map_
    if not is_job and not is_fact:
        return refuse(Problem("invalid_command", f"command: there is no {str(verb)[:64]!r}"))
    if kind is not None and (kind == "job") != is_job:
        place = "job/command" if is_job else "command"
        return refuse(Problem("invalid_command", f"command: {verb} belongs on the topic .../{place}"))
    try:
        model = JobCommandMessage if is_job else FACTS[FactVerb(verb)]
        message: JobCommand | Fact = model.model_validate(found).noun()
    except ValidationError as error:
        return refuse(_problem(error))
    return message


def parse_command(payload: bytes, *, retained: bool, topic_work_unit: str | None, kind: str | None = None) -> Inbound:
    """A message from above -> JobCommand, Fact or Refusal (code and a sentence that names the field). Never raises.

    A message without `work_unit` keeps None: who knows the topic's unit hands it on beside the message.
    """
    try:
        found = read_object(payload)
    except NotAMessage as error:
        return Refusal(None, topic_work_unit, return_status(error.problem.code), error.problem)
    return command_from(found, retained=retained, topic_work_unit=topic_work_unit, kind=kind)


def answer_payload(answer: Answer) -> bytes:
    """The answer as it goes up: `{"command_id", "return_status", "accepted", "state", "problem": {"code", "text"} | null}`."""
    problem = answer.problem
    return orjson.dumps(
        {
            "command_id": answer.command_id,
            "return_status": int(answer.return_status),
            "accepted": answer.accepted,
            "state": answer.state,
            "problem": {"code": problem.code, "text": problem.text} if problem else None,
        }
    )
