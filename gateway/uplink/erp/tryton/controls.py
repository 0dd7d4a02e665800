"""Tryton's quality: which controls a production has to pass, and inspections made of the line's measurements.

An inspection carries the ids of its measurements in `reference`, which is how it is found again. Tryton judges it by its own tolerances;
one that fails, or that needs a point the line does not measure, waits for a person, and so does the end of its production.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.uplink.erp.port import Measurement
from gateway.uplink.erp.tryton.rpc import Call, button

CONTROL_FIELDS = (
    "name", "operations", "product", "product_category", "points.name", "points.type_", "points.tolerance_lower", "points.tolerance_upper",
)  # fmt: skip
INSPECTION_FIELDS = ("reference", "state", "control", "points", "create_uid", "_timestamp")
_OPERATIONS = frozenset({"production:run", "production:do"})


@dataclass(frozen=True)
class Point:
    """One characteristic of a control. `is_measured`: a number and not a yes or no."""

    name: str
    is_measured: bool
    is_whole: bool
    is_exact: bool
    lower: Decimal | None
    upper: Decimal | None

    def value(self, measured: Decimal) -> Any:
        """As Tryton keeps it."""
        if not self.is_measured:
            return bool(measured)
        return int(measured) if self.is_whole else measured if self.is_exact else float(measured)


@dataclass(frozen=True)
class Control:
    """`product`, `category`: what it is limited to, None: to nothing."""

    id: int
    name: str
    product: int | None
    category: int | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Inspection:
    """One of our own, with the ids of the measurements that it was made of."""

    id: int
    state: str
    control: int
    ids: tuple[str, ...]
    points: Mapping[str, Any]


def read_controls(records: Sequence[Mapping[str, Any]]) -> list[Control]:
    """Those that a production can be held to."""
    return [
        Control(r["id"], r["name"], r["product"], r["product_category"], tuple(_point(point) for point in r["points."]))
        for r in records
        if _OPERATIONS & set(r["operations"] or ())
    ]


def _point(record: Mapping[str, Any]) -> Point:
    lower, upper = record["tolerance_lower"], record["tolerance_upper"]
    return Point(
        name=record["name"],
        is_measured=record["type_"] != "boolean",
        is_whole=record["type_"] == "integer",
        is_exact=record["type_"] == "numeric",
        lower=None if lower is None else Decimal(lower),
        upper=None if upper is None else Decimal(upper),
    )


def read_inspections(records: Sequence[Mapping[str, Any]], user_id: int) -> list[Inspection]:
    return [
        Inspection(r["id"], r["state"], r["control"], tuple((r["reference"] or "").split()), r["points"] or {})
        for r in records
        if r["create_uid"] == user_id
    ]


def next_calls(
    production: int, company: int, controls: Sequence[Control], held: Sequence[Inspection], results: Sequence[Measurement]
) -> list[Call]:
    """What brings the inspections nearer to `results`; nothing when they are there."""
    by_id = {control.id: control for control in controls}
    known = {id_ for inspection in held for id_ in inspection.ids}
    cancelled = {result.id for result in results if result.is_cancelled}
    calls = list(_withdrawals(held, cancelled))
    new = [result for result in results if not result.is_cancelled]
    created = []
    for control in controls:
        for group in _groups(control, [r for r in new if r.id not in known]):
            values: dict[str, Any] = {point.name: None for point in control.points}
            values |= {point.name: point.value(group[point.name].value) for point in control.points if point.name in group}
            created.append(
                {
                    "control": control.id,
                    "origin": f"production,{production}",
                    "company": company,
                    "reference": " ".join(sorted(result.id for result in group.values())),
                    "points": values,
                    "processed_at": max(result.at for result in group.values()),
                }
            )
    if created:
        calls.append(Call("quality.inspection", "create", (created,)))
    seen: set[tuple[str, ...]] = set()
    wanted = {result.id for result in new}
    for inspection in sorted(held, key=lambda inspection: inspection.id):
        if inspection.state != "pending" or cancelled & set(inspection.ids) or not wanted & set(inspection.ids):
            continue
        if inspection.ids in seen:
            calls.append(Call("quality.inspection", "delete", ([inspection.id],)))
        elif inspection.control in by_id and all(inspection.points.get(p.name) is not None for p in by_id[inspection.control].points):
            calls.append(button("quality.inspection", "process", inspection.id))
        seen.add(inspection.ids)
    return calls


def _withdrawals(held: Sequence[Inspection], cancelled: set[str]) -> Iterator[Call]:
    """What was measured wrongly is no inspection: it is set pending again and taken out."""
    for inspection in held:
        if not cancelled & set(inspection.ids):
            continue
        if inspection.state != "pending":
            yield button("quality.inspection", "pending", inspection.id)
        yield Call("quality.inspection", "delete", ([inspection.id],))


def _groups(control: Control, results: Sequence[Measurement]) -> list[dict[str, Measurement]]:
    """The results of one control's points, taken together in the order in which they came: each inspection has a point once."""
    names = {point.name for point in control.points}
    groups: list[dict[str, Measurement]] = []
    for result in (r for r in results if r.characteristic in names):
        group = next((g for g in groups if result.characteristic not in g), None)
        if group is None:
            groups.append(group := {})
        group[result.characteristic] = result
    return groups
