"""What a work unit's configuration leaves out that somebody may miss later: told by `lineside check`, and by the daemon when it starts."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.domain.equipment import StateFromOrder, WorkUnit


def unit_cautions(unit: WorkUnit, *, has_orders: bool) -> Iterator[str]:
    """One sentence each. `has_orders`: there is an uplink that can bring some."""
    if unit.ideal_cycle_time_s is None and unit.ideal_tag is None and not any(p.ideal_cycle_time_s for p in unit.products.values()):
        yield (
            "no ideal_cycle_time: while no order brings one, performance and OEE are unknown and the rule against impossible counts is off"
        )
    if not has_orders and unit.oee.no_order_bucket == "unloaded":
        yield "no_order_bucket is unloaded and no uplink brings orders: every stop is outside required time, availability is always 100 %"
    if not has_orders and isinstance(unit.state, StateFromOrder):
        yield "its state comes from its orders and no uplink brings any: it never runs"
