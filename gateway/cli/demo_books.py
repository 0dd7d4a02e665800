"""The demo's proof: pieces at each PLC, in the journal, at the MES and in the ERP, side by side."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.outbox.statedir import DATABASE

KINDS = ("produced", "good", "scrap")
PLACES = ("PLC", "journal", "MES", "ERP")

Pieces = tuple[int, int, int]
"""produced, good, scrap."""


@dataclass(frozen=True)
class Reconciliation:
    """`pieces[place][work_unit]`, and the ledger events each place holds (the PLCs hold none)."""

    pieces: Mapping[str, Mapping[str, Pieces]]
    events: Mapping[str, int]
    complaints: tuple[str, ...]
    """What a consumer has against the ledger itself: an id twice with other content, disorder, a breach of the exchange."""

    def differences(self) -> list[str]:
        """Sentences, empty when everything is equal."""
        found = list(self.complaints)
        for unit, at_plc in self.pieces["PLC"].items():
            for place in PLACES[1:]:
                here = self.pieces[place].get(unit, (0, 0, 0))
                found += [
                    f"{unit}: {there} {kind} at the PLC, {count} in the {place}"
                    for kind, there, count in zip(KINDS, at_plc, here, strict=True)
                    if there != count
                ]
        ledger = self.events["journal"]
        found += [f"{ledger} ledger events in the journal, {count} at the {p}" for p, count in self.events.items() if count != ledger]
        return found

    def table(self) -> list[str]:
        """Lines for the terminal."""
        units = list(self.pieces["PLC"])
        head = f"{'':10}" + "".join(f"{unit:^27}" for unit in units) + "  ledger"
        names = f"{'':10}" + "".join(f"{kind:>9}" for _ in units for kind in KINDS) + "  events"
        rows = [
            f"{place:10}"
            + "".join(f"{count:>9}" for unit in units for count in self.pieces[place].get(unit, (0, 0, 0)))
            + f"{self.events.get(place, '-'):>8}"
            for place in PLACES
        ]
        return [head, names, *rows]


def reconcile(plant: Mapping[str, Any], state_dir: Path) -> Reconciliation:
    """Compare the plant's own account (its `/state`) with the journal on disk. Raises sqlite3.Error while it cannot be read."""
    journal, rows = journal_pieces(state_dir / DATABASE)
    mes, erp = plant["mes"], plant["erp"]
    machines = {unit: _triple(machine["made"]) for unit, machine in plant["machines"].items()}
    complaints = [f"the {name} got event {i} twice with other content" for name, c in (("MES", mes), ("ERP", erp)) for i in c["conflicts"]]
    complaints += [f"the {name} got {what}, no ledger event" for name, c in (("MES", mes), ("ERP", erp)) for what in c["invalid"]]
    complaints += [f"the {name} got event {i} after a later one" for name, c in (("MES", mes), ("ERP", erp)) for i in c["out_of_order"]]
    complaints += [f"the ERP complains: {what}" for what in erp["violations"]]
    return Reconciliation(
        pieces={
            "PLC": machines,
            "journal": journal,
            "MES": {unit: _triple(made) for unit, made in mes["made"].items()},
            "ERP": {unit: _booked(erp, unit) for unit in machines},
        },
        events={"journal": rows, "MES": mes["events"], "ERP": erp["events"]},
        complaints=tuple(complaints[:10]),
    )


def journal_pieces(database: Path) -> tuple[dict[str, Pieces], int]:
    """Pieces per work unit by the journal's own rows, and how many ledger rows it holds. Reads only."""
    sums: dict[str, list[Decimal]] = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=2.0)) as connection:
        connection.execute("BEGIN")
        for unit, body in connection.execute("SELECT work_unit, body FROM journal WHERE type = 'quantity.counted'"):
            data = json.loads(body, parse_float=Decimal)["data"]
            total = sums.setdefault(unit, [Decimal(0)] * len(KINDS))
            for index, kind in enumerate(KINDS):
                total[index] += data[kind]
        (rows,) = connection.execute("SELECT count(*) FROM journal").fetchone()
    return {unit: _triple(dict(zip(KINDS, total, strict=True))) for unit, total in sums.items()}, int(rows)


def _booked(erp: Mapping[str, Any], unit: str) -> Pieces:
    """What the ERP booked: the totals each order reported, and the pieces reported without an order."""
    booked = dict(erp["made"].get(unit, dict.fromkeys(KINDS, 0)))
    for order in erp["orders"].values():
        if order["work_unit"] == unit:
            for kind in KINDS:
                booked[kind] += order[kind] - order["counted"][kind]
    return _triple(booked)


def _triple(made: Mapping[str, Any]) -> Pieces:
    return int(made["produced"]), int(made["good"]), int(made["scrap"])
