"""From what a file says of an order to the plan of the port, whatever the format: every value is checked, every fault has its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from gateway.domain.events import Text
from gateway.uplink.erp.files.faults import Fault
from gateway.uplink.erp.port import Plan, PlanState
from gateway.uplink.messages import JobOrderMessage

_LONGEST_NOTE = 4000


@dataclass(frozen=True)
class Draft:
    """One order as a file says it. `fields`: those of the published JobOrder. `places`: field -> where the file says it."""

    where: Text
    state: PlanState
    work_center: str | None
    fields: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Orders:
    """What one file brought: drafts, and what of it cannot be used."""

    drafts: Sequence[Draft]
    faults: Sequence[Fault] = ()


def moment(text: str, zone: ZoneInfo) -> str:
    """An ISO 8601 time with its offset; one without is local time, a date alone its midnight. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).isoformat()


class PlanMaker:
    """Makes plans of drafts. `work_centers`: our work unit -> the ERP's name of it, where they differ."""

    def __init__(self, work_units: Sequence[str], work_centers: Mapping[str, str], *, lowest_first: bool) -> None:
        self._unit_of = {work_centers.get(unit, unit): unit for unit in work_units}
        self._lowest_first = lowest_first

    def plans(self, drafts: Sequence[Draft]) -> tuple[list[tuple[Plan, Text]], list[Fault]]:
        """Plans with the place of each in the file, and what is wrong with the others."""
        plans: dict[str, tuple[Plan, Text]] = {}
        faults: list[Fault] = []
        for draft in drafts:
            made = self._plan(draft)
            if isinstance(made, Fault):
                faults.append(made)
            elif made.key in plans:
                faults.append(
                    Fault(
                        Text(
                            f"l'ordre {made.key} y est deux fois ; n'en laisser qu'un.",
                            f"the order {made.key} is in it twice; leave only one.",
                        ),
                        draft.where,
                    )
                )
            else:
                plans[made.key] = made, draft.where
        return list(plans.values()), faults

    def _plan(self, draft: Draft) -> Plan | Fault:
        unit = self._work_unit(draft)
        if isinstance(unit, Fault):
            return unit
        try:
            message = JobOrderMessage.model_validate(dict(draft.fields))
        except ValidationError as error:
            return _fault(error, draft)
        order = replace(message.noun(), lowest_first=self._lowest_first)
        said = {"product_id": order.product_id, "order_id": order.order_id, "operation_id": order.operation_id}
        note: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        if order.properties:
            note["properties"] = {name: str(value) for name, value in order.properties.items()}
        kept = json.dumps(note, ensure_ascii=False)
        if len(kept.encode()) > _LONGEST_NOTE:
            return Fault(
                Text("l'ordre a plus de 4 ko de propriétés ; en envoyer moins.", "the order has over 4 kB of properties; send fewer."),
                draft.where,
                "too_large",
            )
        return Plan(order.job_order_id, _revision(draft, unit), draft.state, unit, order, note=kept)

    def _work_unit(self, draft: Draft) -> str | Fault:
        known = ", ".join(sorted(self._unit_of))
        if draft.work_center is None:
            if len(self._unit_of) == 1:
                return next(iter(self._unit_of.values()))
            text = Text(f"il manque le poste ; écrire l'un de {known}.", f"the work unit is missing; write one of {known}.")
            return Fault(text, draft.where, "missing_field")
        unit = self._unit_of.get(draft.work_center)
        if unit is not None:
            return unit
        name = draft.work_center[:64]
        text = Text(
            f"le poste « {name} » n'est pas de cette passerelle ; écrire l'un de {known}, ou l'ajouter à `work_centers`.",
            f"the work unit `{name}` is none of this gateway's; write one of {known}, or add it to `work_centers`.",
        )
        return Fault(text, draft.where, "unknown_work_unit")


def _revision(draft: Draft, unit: str) -> str:
    """Differs whenever anything that the line must know has changed."""
    said = json.dumps([unit, draft.state, dict(draft.fields)], default=str, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


_SENTENCES = {
    "missing": Text("est obligatoire ; le remplir.", "is required; fill it in."),
    "quantity_invalid": Text("n'est pas un nombre possible ; le corriger.", "is no possible number; correct it."),
    "window_invalid": Text("finit avant de commencer ; corriger les dates.", "ends before it begins; correct the dates."),
    "limits_invalid": Text("a des limites dans le désordre ; les corriger.", "has limits out of order; correct them."),
    "control_character": Text("contient un caractère de contrôle ; l'enlever.", "holds a control character; remove it."),
    "string_too_long": Text("est trop long ; le raccourcir.", "is too long; shorten it."),
    "moment": Text("n'est pas une date ; la corriger.", "is no date; correct it."),
}
_OTHERWISE = Text("n'est pas accepté ; le corriger.", "is not accepted; correct it.")


def _fault(error: ValidationError, draft: Draft) -> Fault:
    """The first fault of an order, with the column or element that said it."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = [str(step) for step in first["loc"]]
    name = ".".join(path)
    place = next((draft.places[key] for key in (name, path[-1] if path else "", path[0] if path else "") if key in draft.places), name)
    sentence = _SENTENCES.get(first["type"], _OTHERWISE)
    code = "missing_field" if first["type"] == "missing" else "invalid_field"
    detail = "" if sentence is not _OTHERWISE else f" ({first['msg'][:120]})"
    fr, en = (place, place) if place else ("l'ordre", "the order")
    return Fault(Text(f"{fr} {sentence.fr}{detail}", f"{en} {sentence.en}{detail}"), draft.where, code)


def order_note(note: str) -> dict[str, Any]:
    """What `PlanMaker` kept of an order for its confirmations."""
    found = json.loads(note) if note else {}
    return found if isinstance(found, dict) else {}
