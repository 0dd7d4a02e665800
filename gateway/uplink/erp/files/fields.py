"""What a CSV column can hold: the fields of an order that comes in, and of each kind of confirmation that goes out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

ORDER_FIELDS = (
    "job_order_id", "order_id", "operation_id", "work_unit", "state", "work_master_id", "product_id", "quantity", "unit", "priority",
    "start_time", "end_time", "ideal_cycle_time_s", "pieces_per_cycle", "lot_id", "lead_after_s",
    "customer", "customer_priority", "delivery_from", "delivery_to", "customer_order", "customer_order_line", "customer_requirement",
    "material_id", "quantity_per", "material_unit", "material_mode",
    "characteristic", "quality_unit", "lower", "target", "upper", "required_by",
)  # fmt: skip
"""Names as in the JobOrder of the published schema; those of a customer, a material and a quality requirement stand beside them."""


def is_order_field(name: str) -> bool:
    """One of them, or `properties.NAME`: what the ERP wants back as it is."""
    return name in ORDER_FIELDS or re.fullmatch(r"properties\.[A-Za-z0-9_-]{1,64}", name) is not None


NUMBERS = frozenset({"quantity", "ideal_cycle_time_s", "lead_after_s", "quantity_per", "lower", "target", "upper"})
INTEGERS = frozenset({"priority", "pieces_per_cycle", "customer_priority"})
MOMENTS = frozenset({"start_time", "end_time", "delivery_from", "delivery_to"})

# Who and when: in every row of every kind.
_EVERY = ("confirmation_id", "gateway", "job_order_id", "order_id", "operation_id", "work_unit", "work_center", "product_id", "at", "date")

CONFIRMATION_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "start": _EVERY,
        "totals": (
            *_EVERY, "unit", "good", "scrap", "rework", "produced", "run_h", "setup_h", "stop_h", "run_s", "setup_s", "stop_s",
            "good_total", "scrap_total", "rework_total", "produced_total", "run_s_total", "setup_s_total", "stop_s_total",
        ),
        "consumption": (*_EVERY, "material_id", "lot_id", "use", "quantity", "quantity_total", "unit"),
        "stops": (*_EVERY, "stop_id", "from", "to", "duration_s", "reason", "induced"),
        "quality": (
            *_EVERY, "result_id", "characteristic", "value", "unit", "lower", "upper", "result", "lot_id", "cancelled",
        ),
        "close": (*_EVERY, "unit", "good_total", "scrap_total", "rework_total", "produced_total"),
        "promise": (*_EVERY, "eta_likely", "eta_safe", "verdict", "basis"),
    }
)  # fmt: skip
"""Kind -> fields. `good`, `scrap`, `quantity`, `run_s`... are what is new since the last confirmation, `..._total` all so far."""
