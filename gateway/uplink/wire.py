"""The wire model of an ISA-95 JobOrder and of all it carries."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic import model_validator as after_model
from pydantic_core import PydanticCustomError

from drivers.settings import Duration
from gateway.domain.job_order import Customer, JobOrder, MaterialRequirement, QualityRequirement
from gateway.domain.quality import OnFail
from gateway.uplink.fields import Id, Line, Moment, NotNegative, Number, Positive, Priority, Properties, UnitCode

Items = Field(default=(), max_length=500, strict=False)


def _in_order(model: BaseModel, *names: str, code: str) -> None:
    given = [(name, getattr(model, name)) for name in names if getattr(model, name) is not None]
    for (low_name, low), (high_name, high) in itertools.pairwise(given):
        if low > high:
            raise PydanticCustomError(code, f"`{low_name}` is above `{high_name}`")


class Wire(BaseModel):
    """Strict: no unknown key, no conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MaterialRequirementMessage(Wire):
    """`quantity_per` piece; a measured material needs none, a back-flushed one does."""

    material_id: Id
    quantity_per: NotNegative | None = None
    unit: UnitCode | None = None
    mode: Literal["backflush", "measured"] = "backflush"

    @after_model(mode="after")
    def _backflush_needs_a_quantity(self) -> Self:
        if self.mode == "backflush" and self.quantity_per is None:
            raise PydanticCustomError("missing", "`quantity_per` is required when the material is back-flushed")
        return self

    def noun(self) -> MaterialRequirement:
        return MaterialRequirement(self.material_id, self.quantity_per or Decimal(0), self.unit or "C62", self.mode)


class SamplingMessage(Wire):
    """A sample is due after so many pieces produced, or so much required time (`30min`), since the last; what comes first counts."""

    every_pieces: Annotated[int, Field(ge=1, le=10**9)] | None = None
    every: Annotated[Duration, Field(gt=0)] | None = None

    @after_model(mode="after")
    def _something(self) -> Self:
        if self.every_pieces is None and self.every is None:
            raise PydanticCustomError("missing", "`every_pieces` or `every` is required")
        return self


class QualityRequirementMessage(Wire):
    characteristic: Id
    unit: UnitCode | None = None
    lower: Number | None = None
    target: Number | None = None
    upper: Number | None = None
    required_by: Id | None = None
    sampling: SamplingMessage | None = None
    on_fail: Annotated[OnFail, Field(strict=False)] | None = None

    @after_model(mode="after")
    def _limits(self) -> Self:
        _in_order(self, "lower", "target", "upper", code="limits_invalid")
        return self

    def noun(self) -> QualityRequirement:
        sampling = self.sampling or SamplingMessage.model_construct()
        every_s = None if sampling.every is None else Decimal(str(sampling.every))
        return QualityRequirement(
            self.characteristic, self.unit, self.lower, self.target, self.upper, self.required_by, sampling.every_pieces, every_s,
            self.on_fail,
        )  # fmt: skip


class CustomerMessage(Wire):
    """For whom the order is made; it leads the dispatch list and the promise."""

    name: Line | None = None
    priority: Priority | None = None
    delivery_from: Moment | None = None
    delivery_to: Moment | None = None
    requirements: tuple[Line, ...] | None = Items
    order_number: Id | None = None
    order_line: Id | None = None

    @after_model(mode="after")
    def _window(self) -> Self:
        _in_order(self, "delivery_from", "delivery_to", code="window_invalid")
        return self

    def noun(self) -> Customer:
        return Customer(
            name=self.name,
            priority=self.priority,
            delivery_from=self.delivery_from,
            delivery_to=self.delivery_to,
            requirements=self.requirements or (),
            order_number=self.order_number,
            order_line=self.order_line,
        )


class JobOrderMessage(Wire):
    """An ISA-95 JobOrder; only its id is required. null is the same as absent, but an Update with null clears the field."""

    job_order_id: Id
    work_master_id: Id | None = None
    product_id: Id | None = None
    quantity: Positive | None = None
    unit: UnitCode | None = None
    priority: Priority | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None
    ideal_cycle_time_s: Positive | None = None
    pieces_per_cycle: Annotated[int, Field(ge=1, le=10**6)] | None = None
    material_requirements: tuple[MaterialRequirementMessage, ...] | None = Items
    quality_requirements: tuple[QualityRequirementMessage, ...] | None = Items
    customer: CustomerMessage | None = None
    order_id: Id | None = None
    operation_id: Id | None = None
    lot_id: Id | None = None
    lead_after_s: NotNegative | None = None
    properties: Properties | None = None

    @after_model(mode="after")
    def _window(self) -> Self:
        _in_order(self, "start_time", "end_time", code="window_invalid")
        return self

    def noun(self) -> JobOrder:
        return JobOrder(
            job_order_id=self.job_order_id,
            work_master_id=self.work_master_id,
            product_id=self.product_id,
            quantity=self.quantity,
            unit=self.unit or "C62",
            priority=self.priority,
            start_time=self.start_time,
            end_time=self.end_time,
            ideal_cycle_time_s=self.ideal_cycle_time_s,
            pieces_per_cycle=self.pieces_per_cycle,
            material_requirements=tuple(row.noun() for row in self.material_requirements or ()),
            quality_requirements=tuple(row.noun() for row in self.quality_requirements or ()),
            customer=self.customer.noun() if self.customer else None,
            order_id=self.order_id,
            operation_id=self.operation_id,
            lot_id=self.lot_id,
            lead_after_s=self.lead_after_s,
            properties=self.properties or {},
        )
