"""Orders from a B2MML message: WorkSchedule with JobOrders, OperationsSchedule, and ProductionSchedule of the versions before V6.

The public schema lets any text pass as a state, a use or a date; what such a value must be is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, localcontext
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from gateway.domain.events import Text
from gateway.uplink.erp.files.b2mml_parts import CONSUMED, PRODUCED, Material, Part, Work, leaf, number, texts, whole
from gateway.uplink.erp.files.b2mml_tree import Tree, trees
from gateway.uplink.erp.files.faults import Fault, Unreadable
from gateway.uplink.erp.files.orders import Draft, Orders, moment
from gateway.uplink.erp.port import PlanState

_Part = TypeVar("_Part", bound=Part)


class B2mmlOrders:
    """Reads one message. `zone`: of times without an offset."""

    def __init__(self, read: Callable[[bytes], tuple[str, Tree]], zone: ZoneInfo) -> None:
        self._read = read
        self._zone = zone

    def read(self, data: bytes) -> Orders:
        """Raises Unreadable when it is no message with orders."""
        name, tree = self._read(data)
        cancels = False
        if "DataArea" in tree:
            # A transaction of ISA-95 part 5: a verb, an application area, and the noun in the data area.
            verb = next((verb for verb in ("Process", "Sync", "Change", "Show", "Cancel") if name.startswith(verb)), None)
            found = [(noun, each) for area in trees(tree, "DataArea") for noun in _NOUNS for each in trees(area, noun)]
            if verb is None or not found:
                raise Unreadable(_no_orders(name))
            cancels = verb == "Cancel"
        elif name in _NOUNS:
            found = [(name, tree)]
        else:
            raise Unreadable(_no_orders(name))
        drafts: list[Draft] = []
        faults: list[Fault] = []
        for noun, each in found:
            for draft in self._of(noun, each, cancels):
                (drafts if isinstance(draft, Draft) else faults).append(draft)  # type: ignore[arg-type]
        if not drafts and not faults:
            raise Unreadable(_no_orders(name))
        return Orders(drafts, faults)

    def _of(self, noun: str, tree: Tree, cancels: bool) -> Iterator[Draft | Fault]:
        if noun in ("WorkSchedule", "WorkRequest", "JobList"):
            requests = list(trees(tree, "WorkRequest")) if noun == "WorkSchedule" else [tree]
            for request in _nested(requests, "WorkRequestChild"):
                for order in trees(request, "JobOrder"):
                    yield self._draft((request, order), None, cancels)
        elif noun == "JobOrder":
            yield self._draft((tree,), None, cancels)
        else:
            requests = (
                [tree]
                if noun in ("OperationsRequest", "ProductionRequest")
                else list(trees(tree, "OperationsRequest", "ProductionRequest"))
            )
            for request in requests:
                for path in _segments((request,)):
                    yield self._draft(path, request, cancels)

    def _draft(self, path: Sequence[Tree], request: Tree | None, cancels: bool) -> Draft | Fault:
        """`path`: from the request down to the order or segment; what the inner one does not say holds from the outer one."""
        order_id = leaf(path[-1], "ID")
        request_id = leaf(request, "ID") if request is not None else None
        where = Text(f"ordre {request_id or order_id or '?'}", f"order {request_id or order_id or '?'}")
        try:
            works = [self._part(Work, each) for each in path]
            materials = self._materials(path)
            fields = self._times(works)
            fields |= _made(materials)
            fields |= self._parameters([each for part in path for each in trees(part, *_PARAMETERS)])
        except _Wrong as wrong:
            return Fault(Text(*wrong.args), where)
        inner = works[-1]
        if request is not None:
            # An operation of a request: both numbers together are the job order, as in an ERP's routing.
            fields |= {"job_order_id": f"{request_id}/{order_id}", "order_id": request_id, "operation_id": order_id}
            if request_id is None or order_id is None:
                text = Text(
                    "il manque un `ID` de la demande ou du segment ; le remplir.", "an `ID` of request or segment is missing; fill it in."
                )
                return Fault(text, where, "missing_field")
        elif inner.id is not None:
            fields["job_order_id"] = inner.id
        outer_to_inner = [work for work in works if work is not None]
        for field, values in (
            ("priority", [work.priority for work in outer_to_inner]),
            ("work_master_id", [work.master or work.definition or work.rule for work in outer_to_inner]),
        ):
            said = [value for value in values if value is not None]
            if said:
                fields[field] = said[-1]
        states = [state for state in (work.said_state() for work in outer_to_inner) if state is not None]
        state = PlanState.CANCELLED if cancels else states[-1] if states else PlanState.RELEASED
        return Draft(where, state, _equipment(path), fields, _PLACES)

    def _part(self, kind: type[_Part], tree: Tree) -> _Part:
        """Raises _Wrong."""
        try:
            return kind.model_validate(tree)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            said = _shown(first.get("input"))
            path = ".".join(str(step) for step in first["loc"] if not isinstance(step, int))
            may_be = first["msg"].removeprefix("Value error, ")[:200]
            raise _Wrong(
                f"{path} « {said} » n'est pas dans B2MML V7 ; le corriger ({may_be}).",
                f"{path} `{said}` is not in B2MML V7; correct it ({may_be}).",
            ) from error

    def _materials(self, path: Sequence[Tree]) -> list[tuple[bool, Material]]:
        """(is produced, material); those of the innermost element that names any."""
        for tree in reversed(path):
            found = []
            for name, produced in (
                ("MaterialRequirement", None),
                ("MaterialProducedRequirement", True),
                ("MaterialConsumedRequirement", False),
            ):
                for each in trees(tree, name):
                    material = self._part(Material, each)
                    if material.use is not None or produced is not None:
                        is_produced = material.use in PRODUCED if produced is None else produced
                        if is_produced or produced is False or material.use in CONSUMED:
                            found.append((is_produced, material))
            if found:
                return found
        return []

    def _times(self, works: Sequence[Work]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for field, names, values in (
            ("start_time", "StartTime", [work.start or work.earliest for work in works]),
            ("end_time", "EndTime", [work.end or work.latest for work in works]),
        ):
            said = [value for value in values if value is not None]
            if said:
                fields[field] = self._moment(names, said[-1])
        return fields

    def _moment(self, name: str, said: str) -> str:
        try:
            return moment(said, self._zone)
        except ValueError:
            raise _Wrong(
                f"{name} « {said[:40]} » n'est pas une date ; l'écrire comme 2026-11-25T06:00:00Z.",
                f"{name} `{said[:40]}` is no date; write it like 2026-11-25T06:00:00Z.",
            ) from None

    def _parameters(self, found: Sequence[Tree]) -> dict[str, Any]:
        """The parameters that the line knows by name; others are echoed back as properties."""
        fields: dict[str, Any] = {}
        customer: dict[str, Any] = {}
        properties: dict[str, str] = {}
        for tree in found:
            name = leaf(tree, "ID")
            values = [leaf(value, "ValueString") for value in trees(tree, "Value")]
            units = [leaf(value, "UnitOfMeasure") for value in trees(tree, "Value")]
            said = next((value for value in values if value is not None), None)
            if name is None:
                continue
            if name == "quality_requirement":
                fields.setdefault("quality_requirements", []).append(self._quality(tree))
            elif said is None:
                continue
            elif name in ("ideal_cycle_time", "lead_after"):
                fields[f"{name}_s"] = _seconds(name, said, next((unit for unit in units if unit), None))
            elif name == "pieces_per_cycle":
                fields[name] = _integer(name, said)
            elif name == "customer_priority":
                customer["priority"] = _integer(name, said)
            elif name in ("delivery_from", "delivery_to"):
                customer[name] = self._moment(name, said)
            elif name in ("customer", "customer_order", "customer_order_line"):
                customer[{"customer": "name", "customer_order": "order_number", "customer_order_line": "order_line"}[name]] = said
            elif name == "customer_requirement":
                customer.setdefault("requirements", []).extend(value for value in values if value is not None)
            else:
                properties[name] = said
        if customer:
            fields["customer"] = customer
        if properties:
            fields["properties"] = properties
        return fields

    def _quality(self, tree: Tree) -> dict[str, Any]:
        """A parameter whose children are the fields of one quality requirement."""
        found: dict[str, Any] = {}
        for child in trees(tree, "ParameterChild", "Parameter"):
            name = leaf(child, "ID")
            said = next((leaf(value, "ValueString") for value in trees(child, "Value")), None)
            if name is not None and said is not None:
                found[name] = _number(name, said) if name in ("lower", "target", "upper") else said
        return found


_NOUNS = (
    "WorkSchedule", "WorkRequest", "JobList", "JobOrder", "OperationsSchedule", "OperationsRequest", "ProductionSchedule",
    "ProductionRequest",
)  # fmt: skip
_PARAMETERS = ("JobOrderParameter", "SegmentParameter", "ProductionParameter")
_PLACES = {
    "job_order_id": "ID", "quantity": "MaterialRequirement.Quantity", "product_id": "MaterialDefinitionID", "unit": "UnitOfMeasure",
    "priority": "Priority", "start_time": "StartTime", "end_time": "EndTime", "work_master_id": "WorkMasterID",
    "material_requirements": "MaterialRequirement", "quality_requirements": "quality_requirement", "lot_id": "MaterialLotID",
}  # fmt: skip


def _shown(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return first[:60] if isinstance(first, str) else "..."


class _Wrong(ValueError):
    """A value that cannot be: the sentence in French and in English."""


def _no_orders(name: str) -> Fault:
    said = f" ({name[:60]})" if name else ""
    known = "WorkSchedule, JobList, OperationsSchedule, ProductionSchedule"
    return Fault(
        Text(f"ce message{said} n'apporte pas d'ordre ; envoyer {known}.", f"this message{said} brings no order; send {known}."),
        code="invalid_command",
    )


def _nested(found: Sequence[Tree], child: str) -> Iterator[Tree]:
    for tree in found:
        yield tree
        yield from _nested(list(trees(tree, child)), child)


def _segments(path: tuple[Tree, ...]) -> Iterator[tuple[Tree, ...]]:
    """Every segment without segments below it: these are the operations."""
    for segment in trees(path[-1], "SegmentRequirement", "SegmentRequirementChild"):
        below = list(_segments((*path, segment)))
        yield from below or [(*path, segment)]


def _equipment(path: Sequence[Tree]) -> str | None:
    """The equipment that the innermost element asks for, else the one of its scope."""
    for tree in reversed(path):
        for requirement in trees(tree, "EquipmentRequirement"):
            found = texts(requirement.get("EquipmentID", []))
            if found:
                return found[0]
    for tree in reversed(path):
        for scope in trees(tree, "HierarchyScope"):
            while below := next(trees(scope, "HierarchyScopeChild", "HierarchyScope"), None):
                scope = below
            found = texts(scope.get("EquipmentID", []))
            if found:
                return found[0]
    return None


def _made(materials: Sequence[tuple[bool, Material]]) -> dict[str, Any]:
    """Product, quantity, unit, lot and bill of materials. Raises _Wrong."""
    fields: dict[str, Any] = {}
    product = next((material for is_produced, material in materials if is_produced), None)
    quantity = product.amount() if product is not None else None
    if product is not None:
        if product.definitions:
            fields["product_id"] = product.definitions[0]
        if product.lots:
            fields["lot_id"] = product.lots[0]
    if quantity is not None and quantity.number is not None:
        fields["quantity"] = quantity.number
        if quantity.unit is not None:
            fields["unit"] = quantity.unit
    rows = []
    for is_produced, material in materials:
        amount = material.amount()
        if is_produced or not material.definitions or amount is None or amount.number is None:
            continue
        if quantity is None or not quantity.number:
            raise _Wrong(
                "il y a des matières mais aucune quantité à produire ; l'ajouter (MaterialUse Produced).",
                "there are materials but no quantity to produce; add it (MaterialUse Produced).",
            )
        with localcontext(prec=60):
            per = (amount.number / quantity.number).quantize(Decimal("1e-12")).normalize()
        rows.append({"material_id": material.definitions[0], "quantity_per": per, "unit": amount.unit or "C62"})
    if rows:
        fields["material_requirements"] = rows
    return fields


_SECONDS = {
    "s": Decimal(1), "SEC": Decimal(1), "ms": Decimal("0.001"), "C26": Decimal("0.001"), "min": Decimal(60), "MIN": Decimal(60),
    "h": Decimal(3600), "HUR": Decimal(3600), "DAY": Decimal(86400),
}  # fmt: skip


def _seconds(name: str, said: str, unit: str | None) -> Decimal:
    factor = _SECONDS.get(unit or "SEC")
    if factor is None:
        raise _Wrong(
            f"{name} : l'unité « {unit} » n'est pas un temps ; écrire SEC, MIN ou HUR.",
            f"{name}: the unit `{unit}` is no time; write SEC, MIN or HUR.",
        )
    return _number(name, said) * factor


def _number(name: str, said: str) -> Decimal:
    try:
        return number(said)
    except ValueError:
        raise _Wrong(
            f"{name} « {said[:40]} » n'est pas un nombre ; le corriger.", f"{name} `{said[:40]}` is no number; correct it."
        ) from None


def _integer(name: str, said: str) -> int:
    try:
        return whole(said)
    except ValueError:
        raise _Wrong(f"{name} doit être un nombre entier ; le corriger.", f"{name} must be a whole number; correct it.") from None
