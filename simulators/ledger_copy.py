"""What a careful consumer keeps of a gateway's ledger: every event once, with proof of order, holes and contradictions.

Used by the simulated MES and ERP alike. Written from the published contract only, so that it can convict the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

PIECE_KEYS = ("produced", "good", "scrap", "rework")


class Taken(StrEnum):
    """What became of one event."""

    NEW = "new"
    REPEAT = "repeat"
    CONFLICT = "conflict"
    """The id was seen before with other content: the gateway contradicts itself."""
    INVALID = "invalid"
    """Not a ledger event of the contract."""


def parse_json(payload: bytes | bytearray | str) -> Any:
    """JSON with exact decimals. Raises ValueError."""
    return json.loads(payload, parse_float=Decimal)


def to_json(value: Any) -> str:
    """JSON text; a Decimal becomes a plain number."""
    return json.dumps(value, default=_number, ensure_ascii=False)


def _number(value: Any) -> int | float:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def short_type(event: Mapping[str, Any]) -> str:
    """`lineside.job.progress.v1` -> `job.progress`."""
    return str(event.get("type", "")).removeprefix("lineside.").removesuffix(".v1")


def unit_of(event: Mapping[str, Any]) -> str | None:
    """The work unit of an event's source, None for an event of the gateway itself."""
    parts = str(event.get("source", "")).strip("/").split("/")
    return None if len(parts) < 5 or "_gateway" in parts else parts[-1]


def pieces() -> dict[str, Decimal]:
    return dict.fromkeys(PIECE_KEYS, Decimal(0))


def add_pieces(total: dict[str, Decimal], data: Mapping[str, Any]) -> None:
    for key in PIECE_KEYS:
        total[key] += Decimal(str(data.get(key) or 0))


@dataclass
class Epoch:
    """One gateway's ledger since its database was made. `high_water`: everything up to it has been seen."""

    first: int
    high_water: int
    highest: int
    seen: set[int] = field(default_factory=set)

    def holes(self) -> list[int]:
        return [n for n in range(self.high_water + 1, self.highest) if n not in self.seen]


class LedgerCopy:
    """An exact copy, in order of arrival. Nothing is ever removed from it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.epochs: dict[str, Epoch] = {}
        self.counts = dict.fromkeys(Taken, 0)
        self.out_of_order: list[str] = []
        self.conflicts: list[str] = []
        self.invalid: list[str] = []
        self._by_id: dict[str, dict[str, Any]] = {}
        self._made: dict[str, dict[str, Decimal]] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self._latest: dict[tuple[str, str, str], int] = {}

    def take(self, event: Any) -> Taken:
        """Keep one event. A repeat changes nothing; a conflict and an invalid one are remembered by their reason."""
        fault = _fault(event)
        if fault is not None:
            self.invalid.append(fault)
            return self._count(Taken.INVALID)
        known = self._by_id.get(event["id"])
        if known is not None:
            if known == event:
                return self._count(Taken.REPEAT)
            self.conflicts.append(event["id"])
            return self._count(Taken.CONFLICT)
        self._by_id[event["id"]] = event
        self.events.append(event)
        self._note_sequence(event)
        self._note_totals(event)
        return self._count(Taken.NEW)

    def made(self) -> dict[str, dict[str, Decimal]]:
        """Pieces per work unit: the sum of all `quantity.counted`."""
        return self._made

    def orders(self) -> dict[str, dict[str, Any]]:
        """Per job order the last totals of `job.progress`, its last state, and the sum of its `quantity.counted`."""
        return self._orders

    def report(self) -> dict[str, Any]:
        """Everything a test wants to know; `clean` is True when the ledger arrived whole, once and in order."""
        holes = {epoch: ledger.holes()[:50] for epoch, ledger in self.epochs.items() if ledger.holes()}
        return {
            "clean": not (holes or self.conflicts or self.invalid or self.out_of_order),
            "events": len(self.events),
            "repeats": self.counts[Taken.REPEAT],
            "conflicts": self.conflicts,
            "invalid": self.invalid,
            "out_of_order": self.out_of_order,
            "holes": holes,
            "epochs": {e: {"first": x.first, "high_water": x.high_water, "highest": x.highest} for e, x in self.epochs.items()},
            "made": self.made(),
            "orders": self.orders(),
        }

    def _count(self, taken: Taken) -> Taken:
        self.counts[taken] += 1
        return taken

    def _note_sequence(self, event: dict[str, Any]) -> None:
        sequence = int(event["sequence"])
        ledger = self.epochs.setdefault(event["epoch"], Epoch(first=sequence, high_water=0, highest=0))
        if sequence < ledger.highest:
            self.out_of_order.append(event["id"])
        ledger.first = min(ledger.first, sequence)
        ledger.highest = max(ledger.highest, sequence)
        ledger.seen.add(sequence)
        while ledger.high_water + 1 in ledger.seen:
            ledger.high_water += 1

    def _note_totals(self, event: dict[str, Any]) -> None:
        subject, kind, unit, data = event.get("subject"), short_type(event), unit_of(event), event["data"]
        if kind not in {"job.progress", "job.changed", "quantity.counted"} or unit is None:
            return
        if kind == "quantity.counted":
            add_pieces(self._made.setdefault(unit, pieces()), data)
        if not subject:
            return
        order = self._orders.setdefault(subject, {"work_unit": unit, "state": None, "target": None, **pieces(), "counted": pieces()})
        if kind == "quantity.counted":
            add_pieces(order["counted"], data)
            return
        # A late arrival (a hole filled by a replay) must not put an older total over a newer one.
        key = (event["epoch"], subject, kind)
        if event["sequence"] < self._latest.get(key, 0):
            return
        self._latest[key] = event["sequence"]
        if kind == "job.progress":
            order.update({key: data[key] for key in PIECE_KEYS if key in data}, target=data.get("target"))
        else:
            order["state"] = data.get("state")


def _fault(event: Any) -> str | None:
    """Why this is no ledger event of the contract, None when it is one."""
    if not isinstance(event, dict):
        return "not a JSON object"
    for key, kind in (("id", str), ("source", str), ("type", str), ("time", str), ("epoch", str), ("sequence", int), ("data", dict)):
        if not isinstance(event.get(key), kind):
            return f"{event.get('id', '?')}: {key} is missing or ill-typed"
    if event.get("specversion") != "1.0":
        return f"{event['id']}: specversion is not 1.0"
    if not str(event["id"]).endswith(f":{event['epoch']}:{event['sequence']}"):
        return f"{event['id']}: the id does not hold epoch and sequence"
    if event["sequence"] < 1:
        return f"{event['id']}: sequences start at 1"
    return None
