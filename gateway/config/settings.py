"""What a site writes about its gateway and its machines. Drivers, uplinks and the journal keep their own models beside their code."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from drivers.settings import Duration, FieldError, Name, Share
from gateway.config.counting import CountsSettings, IdealRef
from gateway.config.section import CURRENCY, UNIT_CODE, Code, Ideal, Number, Section, TagRef
from gateway.domain.equipment import STATE_NAMES
from gateway.domain.instants import known_zone

PropertyName = Annotated[str, Field(min_length=1, max_length=128)]
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?")


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError("it is not address:port with a port up to 65535; write for example 127.0.0.1:8080")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not bare or not all(_LABEL.fullmatch(label) for label in bare.split(".")):
            raise ValueError("the address before the port is none; write for example 127.0.0.1:8080") from None
    return value


class GatewaySettings(Section):
    """Who this gateway is. `listen` is where its read-only page is served; port 0 takes any free one."""

    id: Name = Field(description="Name of this gateway in topics and event ids.")
    enterprise: Name = Field(description="First level of every topic (ISA-95 enterprise).")
    site: Name = Field(description="Second level of every topic (ISA-95 site).")
    time_zone: str = Field(default="UTC", description="IANA time zone of the site: shifts and the page's times.", examples=["Europe/Paris"])
    language: Literal["fr", "en"] = Field(default="en", description="Language of the page where the browser does not ask for one.")
    listen: str = Field(default="127.0.0.1:8080", description="Address and port of the page and the API.")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            known_zone(value)
        except ValueError:
            raise ValueError("this time zone is not known; write an IANA name such as Europe/Paris or UTC") from None
        return value

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        return _listen(value)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        host, _, port = self.listen.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)


class SignalSettings(Section):
    """A tag used as a bit; `running: tag` is short for `running: {tag: tag}`."""

    tag: TagRef
    invert: bool = Field(default=False, description="True where the bit is up while the machine does *not* do it.")


def _signal(value: Any) -> Any:
    return {"tag": value} if isinstance(value, str) else value


SignalRef = Annotated[SignalSettings, BeforeValidator(_signal, json_schema_input_type=TagRef | SignalSettings)]


_FAULT_WRONG = "a fault is one tag or a list of bits; write `fault: TAG` or `fault: {bits: [TAG, TAG]}`"


class FaultSettings(Section):
    """Where a fault comes from: a tag with its number or text, or bits; `fault: tag` is short for `fault: {tag: tag}`."""

    tag: TagRef | None = Field(default=None, description="Fault number or text; 0 or empty is no fault.")
    bits: tuple[SignalRef, ...] = Field(
        default=(), description="By rank: the first that is up is the fault, and its tag's name the code that `reasons:` knows."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.tag is None) == (not self.bits):
            raise FieldError(_FAULT_WRONG)
        return self


def _fault(value: Any) -> Any:
    if isinstance(value, list):
        raise FieldError(_FAULT_WRONG)
    return _signal(value)


FaultRef = Annotated[FaultSettings, BeforeValidator(_fault, json_schema_input_type=TagRef | FaultSettings)]


class BitsState(Section):
    """One bit for running, and optionally a fault word or fault bits, and bits for other states."""

    from_: Literal["bits"] = Field(alias="from")
    running: SignalRef
    fault: FaultRef | None = None
    setup: SignalRef | None = None
    starved: SignalRef | None = None
    blocked: SignalRef | None = None
    planned: SignalRef | None = None


class CodesState(Section):
    """A tag whose value is a state; `codes` says which, in the words of this product or as a reason of `reasons:`."""

    from_: Literal["codes"] = Field(alias="from")
    tag: TagRef
    codes: dict[Annotated[str, Field(max_length=128)], str] = Field(
        min_length=1, description=f"Value of the tag -> {', '.join(STATE_NAMES)}, or a stop reason."
    )
    fault: FaultRef | None = Field(default=None, description="What the machine says while stopped.")


class CountsState(Section):
    """The gap between pieces alone: for a machine that says nothing else."""

    from_: Literal["counts"] = Field(alias="from")


class OrderState(Section):
    """A manual post: it runs while its order does, unless a person declares otherwise (DeclareState)."""

    from_: Literal["order"] = Field(alias="from")


class PackMLState(Section):
    """PackML (ISA-TR88.00.02): state 1-17 and mode, by number, name or node id; or the three nested state machines of OPC 30050."""

    from_: Literal["packml"] = Field(alias="from")
    state: TagRef
    machine_state: TagRef | None = Field(default=None, description="The state machine inside, read while `state` says Cleared.")
    execute_state: TagRef | None = Field(default=None, description="The innermost one, read while `machine_state` says Running.")
    mode: TagRef | None = None

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if self.execute_state is not None and self.machine_state is None:
            raise FieldError("execute_state lies inside machine_state and there is none; add machine_state: TAG", "execute_state")
        return self


class MachineryState(Section):
    """OPC 40001-1: MachineryItemState 0-3 and MachineryOperationMode 0-3, by number, name or node id."""

    from_: Literal["machinery"] = Field(alias="from")
    state: TagRef
    mode: TagRef | None = None


StateSettings = Annotated[BitsState | CodesState | CountsState | OrderState | PackMLState | MachineryState, Field(discriminator="from_")]


class ProductTag(Section):
    tag: TagRef


class CycleSettings(Section):
    """Where slow cycles, micro-stops and stops begin."""

    slow_tolerance: Share = Field(default=0.10, description="Up to this much above the ideal time a cycle is normal.")
    micro_factor: float = Field(
        default=1.7, ge=1.0, allow_inf_nan=False, description="Up to this many ideal times a cycle is slow, not stopped."
    )
    micro_min: Duration = Field(default=2.0, description="A shorter gap is never a micro-stop: the floor for fast machines.")
    stop_threshold: Duration = Field(
        default=120.0, gt=0.0, description="An unexplained standstill up to this is a micro-stop, longer a stop."
    )
    ignore_under: Duration = Field(default=0.0, description="Shorter stops are chatter and dropped.")
    min_run: Duration = Field(default=0.0, description="Shorter runs are chatter and dropped.")


class OeeSettings(Section):
    micro_stop_bucket: Literal["performance", "availability"] = Field(default="performance", description="Which factor micro-stops reduce.")
    no_order_bucket: Literal["down", "unloaded"] = Field(
        default="down",
        description="Stopped time without an order: down (ISO 22400, inside required time) or unloaded (NF E60-182, outside).",
    )


class MaterialSettings(Section):
    """A material whose consumption a tag measures; its unit is the tag's `unit`."""

    material_id: str = Field(min_length=1, max_length=128)
    mode: Literal["measured"]
    tag: TagRef
    direction: Literal["falling", "rising"] = Field(default="falling", description="falling: a weight that goes down; rising: a counter.")


class SamplingSettings(Section):
    """When the next sample is due; what comes first counts."""

    every_pieces: int | None = Field(default=None, ge=1, le=10**9, description="After so many pieces produced since the last result.")
    every: Duration | None = Field(default=None, gt=0.0, description="After so much required time since the last result.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.every_pieces is None and self.every is None:
            raise FieldError("it does not say when a sample is due; add every_pieces: 100 or every: 30min")
        return self


class LimitSettings(Section):
    """Limits of a characteristic; those of an order win over a product's, and these over a work unit's own."""

    characteristic: str = Field(min_length=1, max_length=128)
    unit: str | None = Field(default=None, description="UN/ECE Rec 20 code, for example MMT, KGM.")
    lower: Number | None = None
    target: Number | None = None
    upper: Number | None = None
    sampling: SamplingSettings | None = Field(default=None, description="A sample that is due and not done is an alert.")
    on_fail: Literal["alert", "scrap", "rework", "hold"] | None = Field(
        default=None, description="What a failed result does: an alert, the piece is scrap or to be reworked, the order is held."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise FieldError(f"the lower limit is above the upper one ({self.upper}); exchange them", "lower")
        if self.target is not None and not (self.lower is None or self.lower <= self.target):
            raise FieldError(f"the target is below the lower limit ({self.lower}); correct one of them", "target")
        if self.target is not None and not (self.upper is None or self.target <= self.upper):
            raise FieldError(f"the target is above the upper limit ({self.upper}); correct one of them", "target")
        return self


class QualitySettings(LimitSettings):
    """A characteristic that a tag measures, with this unit's own limits; those of an order or product win."""

    tag: TagRef


class ProductQualitySettings(LimitSettings):
    """What is checked on a product, wherever it is made."""

    required_by: str | None = Field(default=None, min_length=1, max_length=128, description="Who asks for it: a customer, a standard.")


class DispatchSettings(Section):
    end: Literal["manual", "at_quantity"] = Field(
        default="manual", description="at_quantity ends a job when its good pieces reach the quantity."
    )
    next: Literal["manual", "auto"] = Field(default="manual", description="auto starts the first of the queue when a job ends.")
    changeover: Duration = Field(default=0.0, description="Time that promised dates add between two orders of different products.")


class JobTagSettings(Section):
    tag: TagRef


class ReleaseSettings(Section):
    """The running order, written to the machine: once when it starts, read back, and told as `command.written`."""

    quantity: TagRef | None = Field(default=None, description="Writable tag that takes the ordered quantity.")
    product: TagRef | None = Field(
        default=None, description="Writable tag that takes the product: its `recipe` of `products:`, else the product's name as text."
    )
    job: TagRef | None = Field(default=None, description="Writable tag that takes the order's number (job_order_id).")
    properties: dict[PropertyName, TagRef] = Field(
        default={}, description="Set values of the order: a name of its `properties` -> the writable tag that takes it."
    )
    only_when: Literal["stopped"] | None = Field(
        default=None, description="stopped: wait until the machine stands, at most 10 minutes; left out, write at once."
    )
    strobe: TagRef | None = Field(default=None, description="Writable bit that tells the PLC to take the values.")
    accepted: TagRef | None = Field(default=None, description="Bit by which the PLC says that it took them, within 10 s of the strobe.")

    @model_validator(mode="after")
    def _something_to_write(self) -> Self:
        if self.quantity is None and self.product is None and self.job is None and not self.properties:
            raise FieldError("it does not say what is written; add for example quantity: TAG")
        if self.accepted is not None and self.strobe is None:
            raise FieldError("accepted answers a strobe and there is none; add strobe: TAG or remove accepted", "accepted")
        return self


class MaterialPriceSettings(Section):
    per_unit: Number = Field(gt=0, description="What one `unit` of the material costs.")
    unit: str = Field(default="C62", pattern=UNIT_CODE, description="UN/ECE Rec 20 code, for example KGM, MTR; C62 is a piece.")


class CostSettings(Section):
    currency: str = Field(pattern=CURRENCY, description="ISO 4217 code.", examples=["EUR"])
    per_hour: Number = Field(gt=0, description="What an hour of required time is worth.")
    per_piece: Number | None = Field(
        default=None, gt=0, description="What a scrapped piece costs by itself, beside the materials that have a price below."
    )
    materials: dict[Annotated[str, Field(min_length=1, max_length=128)], MaterialPriceSettings] = Field(
        default={}, description="Material -> its price: a scrapped piece costs what its order's bill of material says it takes."
    )


class WorkUnitSettings(Section):
    """One machine or manual post."""

    area: Name
    work_center: Name
    device: Name | None = Field(default=None, description="Device of the tags that are named without one.")
    ideal_cycle_time: IdealRef | None = Field(
        default=None, description="Per piece, or the tag that tells it; a running order's own value wins, then the product's."
    )
    pieces_per_cycle: int = Field(default=1, ge=1, le=100_000)
    state: StateSettings
    counts: CountsSettings = CountsSettings()
    product: ProductTag | None = Field(default=None, description="Tag that tells the recipe, where no order says what is made.")
    product_lot: ProductTag | None = Field(
        default=None, description="Tag with the number of the lot that is being produced; it wins over the order's lot_id."
    )
    job: JobTagSettings | None = Field(
        default=None, description="Tag with an order number typed or sent at the machine: it starts that order and ends the one before."
    )
    cycles: CycleSettings = CycleSettings()
    oee: OeeSettings = OeeSettings()
    materials: tuple[MaterialSettings, ...] = ()
    quality: tuple[QualitySettings, ...] = ()
    dispatch: DispatchSettings = DispatchSettings()
    release: ReleaseSettings | None = Field(default=None, description="Order values written to the PLC; off unless given.")
    cost: CostSettings | None = None
    calendar: Name | None = Field(default=None, description="A name of `calendars:`; without it every moment is required time.")

    @field_validator("area")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value == "_gateway":
            raise ValueError("`_gateway` is the level of the gateway's own topics; choose another name")
        return value

    @model_validator(mode="after")
    def _standing_can_be_seen(self) -> Self:
        if self.release is not None and self.release.only_when is not None and isinstance(self.state, CountsState):
            text = "the gap between pieces alone does not say when the machine stands; give the state by bits or codes, or remove only_when"
            raise FieldError(text, "release", "only_when")
        return self


class BothLanguages(Section):
    fr: str | None = Field(default=None, min_length=1)
    en: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.fr is None and self.en is None:
            raise ValueError("there is no text; write {fr: ..., en: ...}")
        return self


class ReasonSettings(Section):
    """A stop reason; `class`: own (the machine's; failure and functional split it), induced (from up- or downstream), setup, planned."""

    class_: Literal["own", "failure", "functional", "induced", "setup", "planned"] = Field(alias="class")
    text: BothLanguages | None = None
    faults: dict[Name, tuple[Code, ...]] = Field(default={}, description="Work unit -> the fault codes that mean this reason.")


class ProductSettings(Section):
    recipe: Code | dict[Name, Code] | None = Field(
        default=None, description="What the `product` tag says while this product runs; a map where work units number differently."
    )
    pieces_per_cycle: int | None = Field(default=None, ge=1, le=100_000)
    ideal_cycle_time: dict[Name, Ideal] = Field(default={}, description="Work unit -> ideal time per piece.")
    quality: tuple[ProductQualitySettings, ...] = Field(default=(), description="Limits of the product; those of an order win.")

    def recipe_on(self, work_unit: str) -> int | str | None:
        """What the product tag of a work unit says while this product runs there."""
        return self.recipe.get(work_unit) if isinstance(self.recipe, dict) else self.recipe


class WorkCenterSettings(Section):
    """Whose figures are the line's: one machine's (`kpi_from`), or one's times and another's pieces (`time_from` and its kin)."""

    kpi_from: Name | None = Field(default=None, description="The work unit that speaks for the line; without it the line sums its units.")
    time_from: Name | None = Field(default=None, description="The work unit whose times are the line's, its bottleneck.")
    ideal_from: Name | None = Field(default=None, description="Whose ideal time per piece is the line's; without it that of time_from.")
    good_from: Name | None = Field(default=None, description="Where good pieces are counted; without it by time_from.")
    scrap_from: tuple[Name, ...] = Field(default=(), description="Whose scrap is the line's; without it that of all its work units.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        parts = [name for name in ("ideal_from", "good_from", "scrap_from") if getattr(self, name)]
        if self.kpi_from is not None and (self.time_from is not None or parts):
            raise FieldError(
                f"kpi_from takes all from one machine; remove it or {(['time_from'] if self.time_from else parts)[0]}", "kpi_from"
            )
        if parts and self.time_from is None:
            raise FieldError(f"{parts[0]} needs a machine whose times count; add time_from: WORK_UNIT", parts[0])
        return self
