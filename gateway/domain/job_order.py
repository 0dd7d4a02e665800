"""The nouns of job orders (ISA-95, OPC 10031-4): states, verbs, orders, commands, facts and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import IntFlag, StrEnum
from typing import Any


class JobState(StrEnum):
    NOT_ALLOWED_TO_START = "NotAllowedToStart"
    ALLOWED_TO_START = "AllowedToStart"
    RUNNING = "Running"
    INTERRUPTED = "Interrupted"
    ENDED = "Ended"
    ABORTED = "Aborted"


class Verb(StrEnum):
    STORE = "Store"
    STORE_AND_START = "StoreAndStart"
    START = "Start"
    REVOKE_START = "RevokeStart"
    PAUSE = "Pause"
    RESUME = "Resume"
    STOP = "Stop"
    ABORT = "Abort"
    CANCEL = "Cancel"
    UPDATE = "Update"
    CLEAR = "Clear"


class FactVerb(StrEnum):
    EXPLAIN_STOP = "ExplainStop"
    DECLARE_STATE = "DeclareState"
    DECLARE_PRODUCTION = "DeclareProduction"
    DECLARE_SCRAP = "DeclareScrap"
    DECLARE_REWORK = "DeclareRework"
    LOAD_LOT = "LoadLot"
    UNLOAD_LOT = "UnloadLot"
    DECLARE_CONSUMPTION = "DeclareConsumption"
    START_LOT = "StartLot"
    DECLARE_SERIAL = "DeclareSerial"
    RECORD_QUALITY = "RecordQuality"
    CANCEL_QUALITY = "CancelQuality"
    REASSIGN = "Reassign"


class ReturnStatus(IntFlag):
    """OPC 10031-4 B.2: a bit map, success is exactly 1."""

    SUCCESS = 1
    UNKNOWN_ORDER = 2
    INVALID_COMMAND = 4
    INVALID_STATE = 8
    UNABLE_TO_ACCEPT = 16
    INVALID_REQUEST = 1 << 32


@dataclass(frozen=True)
class MaterialRequirement:
    material_id: str
    quantity_per: Decimal
    unit: str
    mode: str = "backflush"


@dataclass(frozen=True)
class QualityRequirement:
    """`every_pieces`, `every_s`: a sample is due after so many pieces, or so much required time, since the last (None: at no interval).
    `on_fail`: alert, scrap, rework or hold; None: a failed result is told and nothing more."""

    characteristic: str
    unit: str | None = None
    lower: Decimal | None = None
    target: Decimal | None = None
    upper: Decimal | None = None
    required_by: str | None = None
    every_pieces: int | None = None
    every_s: Decimal | None = None
    on_fail: str | None = None

    @property
    def is_sampled(self) -> bool:
        return self.every_pieces is not None or self.every_s is not None


@dataclass(frozen=True)
class Customer:
    name: str | None = None
    priority: int | None = None
    delivery_from: datetime | None = None
    delivery_to: datetime | None = None
    requirements: tuple[str, ...] = ()
    order_number: str | None = None
    order_line: str | None = None


@dataclass(frozen=True)
class JobOrder:
    """One operation of an order on one work unit. Times aware UTC; `quantity` in `unit` (UN/ECE Rec 20).

    Priorities stay as their sender counts them; `lowest_first` says that for it 1 is the most urgent (else the higher number is).
    """

    job_order_id: str
    work_master_id: str | None = None
    product_id: str | None = None
    quantity: Decimal | None = None
    unit: str = "C62"
    priority: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    ideal_cycle_time_s: Decimal | None = None
    pieces_per_cycle: int | None = None
    material_requirements: tuple[MaterialRequirement, ...] = ()
    quality_requirements: tuple[QualityRequirement, ...] = ()
    customer: Customer | None = None
    order_id: str | None = None
    operation_id: str | None = None
    lot_id: str | None = None
    lead_after_s: Decimal | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    lowest_first: bool = False


@dataclass(frozen=True)
class JobCommand:
    """`given`: names of the JobOrder fields that the message really carried (an Update changes only those)."""

    command: Verb
    command_id: str
    job_order: JobOrder
    issued_at: datetime
    work_unit: str | None = None
    expires_at: datetime | None = None
    given: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fact:
    """What people know and the PLC does not; `at` is when it was so (may be late). Unused fields are None."""

    command: FactVerb
    command_id: str
    at: datetime
    work_unit: str | None = None
    job_order_id: str | None = None
    reason: str | None = None
    state: str | None = None
    good: Decimal | None = None
    scrap: Decimal | None = None
    quantity: Decimal | None = None
    unit: str | None = None
    material_id: str | None = None
    lot_id: str | None = None
    characteristic: str | None = None
    value: Decimal | None = None
    from_: datetime | None = None
    to: datetime | None = None
    by: str | None = None
    corrects: str | None = None
    """The command_id of the fact that this one corrects."""
    queued: bool | None = None
    use: str | None = None
    serial: str | None = None
    issued_at: datetime | None = None
    """When it was said; a replay takes it then."""


@dataclass(frozen=True)
class Problem:
    """Why a command was refused: a code of the published schema and a sentence."""

    code: str
    text: str


@dataclass(frozen=True)
class Answer:
    """`state`: the order's state after the command (None for facts and unknown orders)."""

    command_id: str | None
    return_status: int
    state: str | None = None
    problem: Problem | None = None

    @property
    def accepted(self) -> bool:
        return self.return_status == ReturnStatus.SUCCESS
