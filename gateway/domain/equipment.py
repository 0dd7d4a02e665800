"""What a work unit is: the frozen facts the core needs of the configuration (ISA-95 WorkUnit)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from gateway.domain.calendar import Calendar, always
from gateway.domain.events import Text
from gateway.domain.job_order import QualityRequirement

STATE_NAMES = ("running", "stopped", "setup", "maintenance", "break", "not_planned", "starved", "blocked", "unknown")
REASON_CLASSES = ("own", "failure", "functional", "induced", "setup", "planned")
"""`failure` and `functional` split `own` (NF E60-182: pannes, arrêts d'exploitation)."""
FAILURE_CLASSES = ("own", "failure")
"""What counts for MTBF: a site that does not split its own stops has no functional ones."""


@dataclass(frozen=True)
class Signal:
    """A tag used as a state bit; `invert` swaps its sense."""

    tag: str
    invert: bool = False


FaultSource = str | tuple[Signal, ...]
"""A tag with a fault number or text, or bits by rank: the first of them that is up is the fault, its tag's name the code."""


@dataclass(frozen=True)
class StateFromBits:
    running: Signal
    fault: FaultSource | None = None
    setup: Signal | None = None
    starved: Signal | None = None
    blocked: Signal | None = None
    planned: Signal | None = None


@dataclass(frozen=True)
class StateFromCodes:
    """`codes` maps the tag's value to one of STATE_NAMES or to a stop reason."""

    tag: str
    codes: Mapping[int | str, str]
    fault: FaultSource | None = None


@dataclass(frozen=True)
class StateFromCounts:
    """The gap between pieces alone."""


@dataclass(frozen=True)
class StateFromOrder:
    """A manual post: it runs while its order does, unless a person declares otherwise (`DeclareState`)."""


@dataclass(frozen=True)
class StateFromPackML:
    """`state` is a raw state number, or the outermost of OPC 30050's three nested state machines; `machine_state` and `execute_state`
    are the inner two, read while the one outside says only Cleared or Running."""

    state: str
    mode: str | None = None
    machine_state: str | None = None
    execute_state: str | None = None


@dataclass(frozen=True)
class StateFromMachinery:
    state: str
    mode: str | None = None


StateSource = StateFromBits | StateFromCodes | StateFromCounts | StateFromOrder | StateFromPackML | StateFromMachinery


@dataclass(frozen=True)
class Counter:
    """A cumulative counter tag. `bits` (16, 32, 64) and `signed` come from the tag's type; None: a decrease is a reset.

    `per_order`: the PLC resets it for each order. `delay_pieces`, of a reject station downstream: so many pieces leave the machine
    between a piece and its reject.
    """

    tag: str
    bits: int | None = None
    signed: bool = False
    per_order: bool = False
    delay_pieces: int = 0


@dataclass(frozen=True)
class Counts:
    """Which counters the unit has; `cycles` counts cycles, the others pieces. None at all: a manual post.

    `by_product` instead of `total`: a counter for each product, whatever runs.
    """

    total: Counter | None = None
    by_product: Mapping[str, Counter] = field(default_factory=dict)
    good: Counter | None = None
    reject: Counter | None = None
    rework: Counter | None = None
    cycles: Counter | None = None


@dataclass(frozen=True)
class IdealTag:
    """The machine tells its own ideal time. `per_minute`: as a speed in pieces a minute (PackML MachDesignSpeed), else in seconds a
    piece."""

    tag: str
    per_minute: bool = True


@dataclass(frozen=True)
class CycleRules:
    """Thresholds of DOMAIN cycles; defaults are the published ones."""

    slow_tolerance: float = 0.10
    micro_factor: float = 1.7
    micro_min_s: float = 2.0
    stop_threshold_s: float = 120.0
    ignore_under_s: float = 0.0
    min_run_s: float = 0.0


@dataclass(frozen=True)
class OeeRules:
    micro_stop_bucket: str = "performance"
    """performance or availability."""
    no_order_bucket: str = "down"
    """down or unloaded."""


@dataclass(frozen=True)
class Reason:
    """A stop reason; `faults`: the fault codes of this work unit that mean it."""

    code: str
    reason_class: str
    text: Text
    faults: frozenset[int | str] = frozenset()


@dataclass(frozen=True)
class Product:
    product_id: str
    recipe: int | str | None = None
    pieces_per_cycle: int | None = None
    ideal_cycle_time_s: Decimal | None = None
    """For this work unit."""
    quality: tuple[QualityRequirement, ...] = ()


@dataclass(frozen=True)
class MeasuredMaterial:
    """Consumption by a weight or counter tag. direction: falling (a coil's weight) or rising (a counter).

    `span`: how much a rising counter holds before it rolls over, in `unit` (2^bits times the tag's scale); None: a decrease is a
    reset. `signed`: it rolls from span/2 to -span/2.
    """

    material_id: str
    tag: str
    unit: str
    direction: str = "falling"
    deadband: Decimal = Decimal(0)
    span: Decimal | None = None
    signed: bool = False


@dataclass(frozen=True)
class MeasuredCharacteristic:
    """A quality measurement by tag, with the unit's own limits (an order's override them)."""

    tag: str
    limits: QualityRequirement


@dataclass(frozen=True)
class Dispatch:
    end: str = "manual"
    """manual or at_quantity."""
    next: str = "manual"
    """manual or auto."""
    changeover_s: float = 0.0
    """Required time between two orders of different products."""


@dataclass(frozen=True)
class ReleaseRule:
    """Which tags the running order is written to; references as configured, None: not written.

    `only_when_stopped`: not while the unit runs. `strobe` is set for a moment once all values stand, so that the PLC takes them;
    `accepted` is the PLC's answer to it.
    """

    quantity: str | None = None
    product: str | None = None
    job: str | None = None
    only_when_stopped: bool = False
    strobe: str | None = None
    accepted: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    """A property of the order -> the tag that takes its value."""


@dataclass(frozen=True)
class MaterialPrice:
    """What one `unit` (UN/ECE Rec 20) of a material costs."""

    per_unit: Decimal
    unit: str


@dataclass(frozen=True)
class Cost:
    """Of lost time, and of a scrapped piece: a sum of its own, and the materials of its order's bill."""

    currency: str
    per_hour: Decimal
    per_piece: Decimal | None = None
    materials: Mapping[str, MaterialPrice] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkUnit:
    """One machine or post, under enterprise / site / area / work centre."""

    name: str
    enterprise: str
    site: str
    area: str
    work_center: str
    state: StateSource
    counts: Counts = Counts()
    ideal_cycle_time_s: Decimal | None = None
    """Per piece (tCR, PRI)."""
    ideal_tag: IdealTag | None = None
    """What the machine says of it wins over `ideal_cycle_time_s`."""
    pieces_per_cycle: int = 1
    product_tag: str | None = None
    product_lot_tag: str | None = None
    """The number of the produced lot at the machine; it wins over the order's."""
    job_tag: str | None = None
    """The order number at the machine: a change of it starts that order and ends the one before."""
    cycles: CycleRules = CycleRules()
    oee: OeeRules = OeeRules()
    materials: tuple[MeasuredMaterial, ...] = ()
    quality: tuple[MeasuredCharacteristic, ...] = ()
    dispatch: Dispatch = Dispatch()
    release: ReleaseRule | None = None
    """None: nothing is ever written to the machine."""
    cost: Cost | None = None
    calendar: Calendar = field(default_factory=always)
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    products: Mapping[str, Product] = field(default_factory=dict)
    time_zone: str = "UTC"
    read_every_s: float | None = None
    """How often the device of the counter that makes pieces is read or sampled; None: each count comes by itself."""

    @property
    def path(self) -> str:
        """`/enterprise/site/area/work_center/work_unit`: the CloudEvents source."""
        return f"/{self.enterprise}/{self.site}/{self.area}/{self.work_center}/{self.name}"
