"""`counts:` and `ideal_cycle_time:` of a work unit: what its counters mean, and how long a piece should take."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from drivers.settings import FieldError, Name
from gateway.config.section import Ideal, Section, TagRef


class CounterSettings(Section):
    """A cumulative counter; `total: tag` is short for `total: {tag: tag}`."""

    tag: TagRef
    resets: Literal["per_order"] | None = Field(
        default=None, description="per_order: the PLC resets it for each order; no alert, and pieces after it belong to the next order."
    )


class RejectSettings(CounterSettings):
    delay_pieces: int = Field(
        default=0, ge=0, le=100_000, description="Pieces that leave the machine between a piece and its reject at a station downstream."
    )


def _with_tag(value: Any) -> Any:
    return {"tag": value} if isinstance(value, str) else value


def _total_kind(value: Any) -> str:
    by_product = isinstance(value, dict) and "tag" not in value
    return "by_product" if by_product else "counter"


CounterRef = Annotated[CounterSettings, BeforeValidator(_with_tag, json_schema_input_type=TagRef | CounterSettings)]
RejectRef = Annotated[RejectSettings, BeforeValidator(_with_tag, json_schema_input_type=TagRef | RejectSettings)]
ByProduct = Annotated[dict[Name, TagRef], Field(min_length=1)]
TotalRef = Annotated[
    Annotated[CounterSettings, Tag("counter")] | Annotated[ByProduct, Tag("by_product")],
    Discriminator(_total_kind),
    BeforeValidator(_with_tag, json_schema_input_type=TagRef | CounterSettings | ByProduct),
]


class CountsSettings(Section):
    """Cumulative counters of pieces; `cycles` counts machine cycles. None at all: a manual post that declares its production."""

    total: TotalRef | None = Field(default=None, description="A counter, or one for each product: {PF-100: a, PF-200: b}.")
    good: CounterRef | None = None
    reject: RejectRef | None = None
    rework: RejectRef | None = None
    cycles: CounterRef | None = None

    @model_validator(mode="after")
    def _one_total(self) -> Self:
        if self.cycles and (self.total or self.good):
            raise FieldError("cycles and total or good both count the output; keep one of them", "cycles")
        if self.total and self.good:
            raise FieldError("total and good both count the output; keep total with reject, or good with reject", "good")
        if (self.reject or self.rework) and not (self.total or self.good or self.cycles):
            raise FieldError("rejects alone do not say what was made; add total, good or cycles", "reject" if self.reject else "rework")
        for name in ("reject", "rework"):
            station = getattr(self, name)
            if station is not None and station.delay_pieces and self.good:
                text = (
                    "good counts what has passed the reject station already; count the machine's output with total, or remove delay_pieces"
                )
                raise FieldError(text, name, "delay_pieces")
        return self

    def counters(self) -> dict[str, CounterSettings]:
        """Those that the unit has, by their key; the ones by product apart."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: counter for name, counter in named.items() if isinstance(counter, CounterSettings)}

    def by_product(self) -> dict[str, str]:
        """Product -> the tag of its own counter."""
        return self.total if isinstance(self.total, dict) else {}


class IdealTagSettings(Section):
    """The machine tells its own ideal time, for example PackML's MachDesignSpeed."""

    tag: TagRef
    gives: Literal["pieces_per_minute", "seconds_per_piece"] = Field(default="pieces_per_minute", description="What the tag's number is.")
    default: Ideal | None = Field(default=None, description="Per piece, while the tag is 0, bad or no number.")


def _ideal_kind(value: Any) -> str:
    return "machine" if isinstance(value, dict | IdealTagSettings) else "written"


IdealRef = Annotated[
    Annotated[Ideal, Tag("written")] | Annotated[IdealTagSettings, Tag("machine")],
    Discriminator(_ideal_kind),
]
