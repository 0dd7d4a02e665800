"""The promise as a note on the production and on its sale: planned dates cannot be written any more once an order is released.

One note for each production, known again by how it begins. Tryton lets nobody change a note: the new one comes, then the old one goes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from gateway.uplink.erp.port import PromisedDate
from gateway.uplink.erp.tryton.rpc import Call

_VERDICTS = {
    "on_time": "à l'heure / on time",
    "at_risk": "à risque / at risk",
    "late": "en retard / late",
    "unknown": "inconnu / unknown",
}


def message(number: str, promise: PromisedDate, zone: ZoneInfo) -> str:
    """For people of either language, in the company's time."""

    def told(at: dt.datetime | None) -> str:
        return "?" if at is None else at.astimezone(zone).strftime("%Y-%m-%d %H:%M")

    verdict = _VERDICTS.get(promise.verdict, promise.verdict)
    return f"{_beginning(number)} {told(promise.eta_likely)}, au plus tard / at the latest {told(promise.eta_safe)} : {verdict}"


def _beginning(number: str) -> str:
    return f"lineside {number}, fin prévue / expected end"


def next_calls(resources: Sequence[str], notes: Sequence[Mapping[str, Any]], number: str, wanted: str) -> list[Call]:
    """`notes`: our user's own on `resources` (`production,7`). Nothing when each resource has the note and no other of this order."""
    calls = []
    for resource in resources:
        mine = [note for note in notes if note["resource"] == resource and (note["message"] or "").startswith(_beginning(number))]
        mine.sort(key=lambda note: int(note["id"]))
        kept = next((note for note in mine if note["message"] == wanted), None)
        if kept is None:
            calls.append(Call("ir.note", "create", ([{"resource": resource, "message": wanted}],)))
        elif old := [note["id"] for note in mine if note is not kept]:
            calls.append(Call("ir.note", "delete", (old,)))
    return calls
