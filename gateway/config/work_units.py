"""From checked settings to the frozen nouns of the core."""

from __future__ import annotations

from decimal import Decimal

from gateway.config.calendars import CalendarSettings
from gateway.config.counting import CounterSettings, IdealTagSettings, RejectSettings
from gateway.config.draft import Draft, tags_of
from gateway.config.references import split_reference
from gateway.config.schema import AnyDeviceSettings
from gateway.config.settings import (
    BitsState,
    CodesState,
    CostSettings,
    CountsState,
    FaultSettings,
    GatewaySettings,
    LimitSettings,
    OrderState,
    PackMLState,
    ReleaseSettings,
    SignalSettings,
    WorkUnitSettings,
)
from gateway.domain.equipment import (
    Cost,
    Counter,
    Counts,
    CycleRules,
    Dispatch,
    FaultSource,
    IdealTag,
    MaterialPrice,
    MeasuredCharacteristic,
    MeasuredMaterial,
    OeeRules,
    Product,
    Reason,
    ReleaseRule,
    Signal,
    StateFromBits,
    StateFromCodes,
    StateFromCounts,
    StateFromMachinery,
    StateFromOrder,
    StateFromPackML,
    StateSource,
    WorkUnit,
)
from gateway.domain.events import Text
from gateway.domain.job_order import QualityRequirement
from gateway.domain.state import code_of


def build_work_unit(name: str, draft: Draft, gateway: GatewaySettings) -> WorkUnit:
    """The unit `name` of a draft without problems."""
    unit = draft.work_units[name]
    calendar = draft.calendars[unit.calendar] if unit.calendar is not None else CalendarSettings()
    cycles = unit.cycles
    return WorkUnit(
        name=name,
        enterprise=gateway.enterprise,
        site=gateway.site,
        area=unit.area,
        work_center=unit.work_center,
        state=_state(unit),
        counts=_counts(unit, draft),
        ideal_cycle_time_s=_ideal(unit),
        ideal_tag=_ideal_tag(unit),
        pieces_per_cycle=unit.pieces_per_cycle,
        product_tag=unit.product.tag if unit.product else None,
        product_lot_tag=unit.product_lot.tag if unit.product_lot else None,
        job_tag=unit.job.tag if unit.job else None,
        cycles=CycleRules(
            cycles.slow_tolerance, cycles.micro_factor, cycles.micro_min, cycles.stop_threshold, cycles.ignore_under, cycles.min_run
        ),
        oee=OeeRules(unit.oee.micro_stop_bucket, unit.oee.no_order_bucket),
        materials=_materials(unit, draft),
        quality=_quality(unit, draft),
        dispatch=Dispatch(unit.dispatch.end, unit.dispatch.next, unit.dispatch.changeover),
        release=_release(unit.release),
        cost=_cost(unit.cost),
        calendar=calendar.build(gateway.time_zone),
        reasons=_reasons(name, draft),
        products=_products(name, draft),
        time_zone=gateway.time_zone,
        read_every_s=_read_every(unit, draft),
    )


def _exact(number: float) -> Decimal:
    """A duration or deadband as it was written, without binary noise."""
    return Decimal(str(number))


def _state(unit: WorkUnitSettings) -> StateSource:
    state = unit.state
    if isinstance(state, BitsState):
        optional = {name: _signal(getattr(state, name)) for name in ("setup", "starved", "blocked", "planned")}
        return StateFromBits(Signal(state.running.tag, state.running.invert), _fault(state.fault), **optional)
    if isinstance(state, CodesState):
        codes = {_code(code): word for code, word in state.codes.items()}
        return StateFromCodes(state.tag, codes, _fault(state.fault))
    if isinstance(state, CountsState):
        return StateFromCounts()
    if isinstance(state, OrderState):
        return StateFromOrder()
    if isinstance(state, PackMLState):
        return StateFromPackML(state.state, state.mode, state.machine_state, state.execute_state)
    return StateFromMachinery(state.state, state.mode)


def _fault(fault: FaultSettings | None) -> FaultSource | None:
    if fault is None:
        return None
    return fault.tag or tuple(Signal(bit.tag, bit.invert) for bit in fault.bits)


def _code(written: int | str) -> int | str:
    """A state or fault code as the core compares it: a number is a number, however it is written."""
    code = code_of(written)
    return "" if code is None else code


def _cost(settings: CostSettings | None) -> Cost | None:
    if settings is None:
        return None
    prices = {name: MaterialPrice(price.per_unit, price.unit) for name, price in settings.materials.items()}
    return Cost(settings.currency, settings.per_hour, settings.per_piece, prices)


def _signal(settings: SignalSettings | None) -> Signal | None:
    return None if settings is None else Signal(settings.tag, settings.invert)


def _device_of(reference: str, unit: WorkUnitSettings, draft: Draft) -> tuple[AnyDeviceSettings, str]:
    device, tag = split_reference(reference, unit.device)
    return draft.devices[device or ""], tag


def _counter_type(reference: str, unit: WorkUnitSettings, draft: Draft) -> tuple[int | None, bool]:
    device, tag = _device_of(reference, unit, draft)
    return device.counter_type(tag) or (None, False)


def _ideal(unit: WorkUnitSettings) -> Decimal | None:
    ideal = unit.ideal_cycle_time
    seconds = ideal.default if isinstance(ideal, IdealTagSettings) else ideal
    return None if seconds is None else _exact(seconds)


def _ideal_tag(unit: WorkUnitSettings) -> IdealTag | None:
    ideal = unit.ideal_cycle_time
    return IdealTag(ideal.tag, ideal.gives == "pieces_per_minute") if isinstance(ideal, IdealTagSettings) else None


def _counts(unit: WorkUnitSettings, draft: Draft) -> Counts:
    def counter(settings: CounterSettings) -> Counter:
        delay = settings.delay_pieces if isinstance(settings, RejectSettings) else 0
        return Counter(settings.tag, *_counter_type(settings.tag, unit, draft), settings.resets == "per_order", delay)

    by_product = {product_id: counter(CounterSettings(tag=tag)) for product_id, tag in unit.counts.by_product().items()}
    one = {name: counter(settings) for name, settings in unit.counts.counters().items()}
    return Counts(one.get("total"), by_product, one.get("good"), one.get("reject"), one.get("rework"), one.get("cycles"))


def _read_every(unit: WorkUnitSettings, draft: Draft) -> float | None:
    counters = unit.counts.counters()
    leading = next((counters[name].tag for name in ("total", "cycles", "good") if name in counters), None)
    leading = leading or next(iter(unit.counts.by_product().values()), None)
    return None if leading is None else _device_of(leading, unit, draft)[0].interval


def _materials(unit: WorkUnitSettings, draft: Draft) -> tuple[MeasuredMaterial, ...]:
    found = []
    for material in unit.materials:
        device, tag = _device_of(material.tag, unit, draft)
        settings = tags_of(device).get(tag)
        bits, signed = _counter_type(material.tag, unit, draft)
        found.append(
            MeasuredMaterial(
                material_id=material.material_id,
                tag=material.tag,
                # A recording lists no tags and so no units; pieces are the neutral unit of Rec 20.
                unit=settings.unit if settings and settings.unit else "C62",
                direction=material.direction,
                deadband=_exact(settings.deadband) if settings else Decimal(0),
                span=Decimal(2**bits) if bits and material.direction == "rising" else None,
                signed=signed,
            )
        )
    return tuple(found)


def _quality(unit: WorkUnitSettings, draft: Draft) -> tuple[MeasuredCharacteristic, ...]:
    found = []
    for item in unit.quality:
        device, tag = _device_of(item.tag, unit, draft)
        settings = tags_of(device).get(tag)
        measured_in = item.unit or (settings.unit if settings else None)
        found.append(MeasuredCharacteristic(item.tag, _limits(item, measured_in, None)))
    return tuple(found)


def _limits(item: LimitSettings, unit: str | None, required_by: str | None) -> QualityRequirement:
    sampling = item.sampling
    every_s = None if sampling is None or sampling.every is None else _exact(sampling.every)
    return QualityRequirement(
        item.characteristic, unit, item.lower, item.target, item.upper, required_by, sampling.every_pieces if sampling else None, every_s,
        item.on_fail,
    )  # fmt: skip


def _release(release: ReleaseSettings | None) -> ReleaseRule | None:
    if release is None:
        return None
    return ReleaseRule(
        release.quantity, release.product, release.job, release.only_when == "stopped", release.strobe, release.accepted,
        release.properties,
    )  # fmt: skip


def _reasons(name: str, draft: Draft) -> dict[str, Reason]:
    reasons = {}
    for code, reason in draft.reasons.items():
        fr = (reason.text and (reason.text.fr or reason.text.en)) or code
        en = (reason.text and (reason.text.en or reason.text.fr)) or code
        reasons[code] = Reason(code, reason.class_, Text(fr=fr, en=en), frozenset(_code(fault) for fault in reason.faults.get(name, ())))
    return reasons


def _products(name: str, draft: Draft) -> dict[str, Product]:
    products = {}
    for product_id, product in draft.products.items():
        ideal = product.ideal_cycle_time.get(name)
        products[product_id] = Product(
            product_id, product.recipe_on(name), product.pieces_per_cycle, None if ideal is None else _exact(ideal),
            tuple(_limits(item, item.unit, item.required_by) for item in product.quality),
        )  # fmt: skip
    return products
