"""The small ERP's plan: orders with routing, material, quality limits, a customer and a delivery window.

Each order comes down as a JobCommand of the published contract. When a machine runs short of orders the plan goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class Item:
    """What one line of the plan makes. `ideal_cycle_time_s` is per piece, at plant speed 1."""

    work_unit: str
    product_id: str
    operation_id: str
    ideal_cycle_time_s: float
    quantities: tuple[int, ...]
    """Of the first orders; the last one repeats."""
    materials: tuple[dict[str, Any], ...]
    characteristics: tuple[dict[str, Any], ...] = ()


PRESS_ITEM = Item(
    work_unit="press-07",
    product_id="CAPOT12",
    operation_id="0020",
    ideal_cycle_time_s=1.2,
    quantities=(130, 150, 400),
    materials=(
        {"material_id": "MP-TOLE-1.5", "quantity_per": 0.35, "unit": "KGM", "mode": "measured"},
        {"material_id": "MP-HUILE", "quantity_per": 0.002, "unit": "LTR", "mode": "backflush"},
    ),
    characteristics=({"characteristic": "bore_diameter", "unit": "MMT", "lower": 11.98, "target": 12, "upper": 12.02},),
)
PACKER_ITEM = Item(
    work_unit="packer-02",
    product_id="CAPOT12-X24",
    operation_id="0030",
    ideal_cycle_time_s=0.5,
    quantities=(360, 500, 1200),
    materials=({"material_id": "EMB-CARTON-24", "quantity_per": 0.041667, "unit": "C62", "mode": "backflush"},),
)

_CUSTOMERS = (
    {"name": "Rhône Automobile", "priority": 90, "requirements": ["bore measured, certificate 3.1"]},
    {"name": "Ateliers du Léman", "priority": 60, "requirements": []},
    {"name": "Nord Machines", "priority": 40, "requirements": ["label in English"]},
)


_URGENT_PRIORITY = 200
_URGENT_QUANTITY = 200
_URGENT_LEAST_S = 40.0
"""However fast the plant is, the urgent order takes so long that whoever it makes late stays late for more than a minute."""


class WorkPlan:
    """Orders for each item, two ahead of what is being made; `speed` is the plant's, it scales times and dates."""

    def __init__(self, now: Callable[[], datetime], *, speed: float = 1.0, items: tuple[Item, ...] = (PRESS_ITEM, PACKER_ITEM)) -> None:
        self._now = now
        self._speed = speed
        self._items = items
        self._numbers = itertools.count(48_213)
        self._rank = dict.fromkeys((item.work_unit for item in items), 0)
        self._due = {item.work_unit: now() for item in items}

    def first_orders(self, count: int = 3) -> Iterator[dict[str, Any]]:
        """The opening plan: `count` orders for each machine."""
        for item in self._items:
            for _ in range(count):
                yield self.next_order(item.work_unit)

    def next_order(self, work_unit: str) -> dict[str, Any]:
        """One more JobCommand (StoreAndStart) for a machine of the plan. Raises KeyError for another one."""
        item = next((i for i in self._items if i.work_unit == work_unit), None)
        if item is None:
            raise KeyError(work_unit)
        rank = self._rank[work_unit]
        self._rank[work_unit] = rank + 1
        quantity = item.quantities[min(rank, len(item.quantities) - 1)]
        ideal_s = round(item.ideal_cycle_time_s / self._speed, 6)
        start = max(self._due[work_unit], self._now())
        end = start + timedelta(seconds=quantity * ideal_s * 1.4)
        self._due[work_unit] = end
        return self._command(item, rank, quantity, ideal_s, start, end)

    def urgent_order(self, work_unit: str) -> dict[str, Any]:
        """A customer of the CRM needs pieces today: one JobCommand that goes before all others. Raises KeyError as `next_order` does."""
        item = next((i for i in self._items if i.work_unit == work_unit), None)
        if item is None:
            raise KeyError(work_unit)
        ideal_s = round(item.ideal_cycle_time_s / self._speed, 6)
        quantity = max(_URGENT_QUANTITY, math.ceil(_URGENT_LEAST_S / ideal_s))
        now = self._now()
        end = now + timedelta(seconds=2 * (quantity + item.quantities[0]) * ideal_s + _URGENT_LEAST_S)
        command = self._command(item, 0, quantity, ideal_s, now, end)
        customer = {"name": "Lémanique SA", "priority": _URGENT_PRIORITY, "delivery_from": _stamp(now), "delivery_to": _stamp(end)}
        command["job_order"]["customer"] = {**customer, "requirements": [], "order_number": "CDE-9001", "order_line": "10"}
        for requirement in command["job_order"]["quality_requirements"]:
            requirement["required_by"] = customer["name"]
        return command

    def _command(self, item: Item, rank: int, quantity: int, ideal_s: float, start: datetime, end: datetime) -> dict[str, Any]:
        number = f"OF-{next(self._numbers)}"
        customer = _CUSTOMERS[rank % len(_CUSTOMERS)]
        required = [{**c, "required_by": customer["name"]} for c in item.characteristics]
        return {
            "command": "StoreAndStart",
            "command_id": f"erp-{number}-{item.operation_id}-1",
            "work_unit": item.work_unit,
            "issued_at": _stamp(self._now()),
            "job_order": {
                "job_order_id": f"{number}-{item.operation_id}",
                "order_id": number,
                "operation_id": item.operation_id,
                "work_master_id": f"{item.product_id}/{item.operation_id}",
                "product_id": item.product_id,
                "lot_id": f"LOT-{number[3:]}",
                "quantity": quantity,
                "unit": "C62",
                "priority": max(90 - 10 * rank, 1),
                "start_time": _stamp(start),
                "end_time": _stamp(end),
                "ideal_cycle_time_s": ideal_s,
                "pieces_per_cycle": 1,
                "material_requirements": list(item.materials),
                "quality_requirements": required,
                "lead_after_s": 0,
                "properties": {"erp_order": number, "erp_operation": item.operation_id},
                "customer": {
                    **customer,
                    # The opening plan runs in its own order; a customer's urgency moves only what comes after it.
                    "priority": max(100 - 10 * rank, 1) if rank < 3 else customer["priority"],
                    "delivery_from": _stamp(start),
                    "delivery_to": _stamp(end + timedelta(seconds=(0.2 if rank == 1 else 1.0) * quantity * ideal_s)),
                    "order_number": f"CDE-{7000 + rank}",
                    "order_line": str(10 * (rank + 1)),
                },
            },
        }


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
