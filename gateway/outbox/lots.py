"""Where lots come from and where they went: the genealogy in the journal, asked by any name that it knows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.domain.genealogy import LotRow, load_lot
from gateway.domain.trace import States, Trace, TracedLot, TracedSerial
from gateway.outbox.history import History

NAMED = (
    "SELECT n.role, n.work_unit, n.kind, r.body FROM lot_names n JOIN records r USING (work_unit, kind, key) WHERE n.name = ?"
    " ORDER BY n.role, n.work_unit, n.kind, n.key LIMIT ?"
)
_MOST = 500
"""Rows of one answer: what a material lot of a whole week can have gone into."""
_DEPTH = 8
"""Operations in a row on one gateway: a lot made of a lot made of a lot."""
_STOPS = 20


class LotHistory(History):
    """Reads like its parent, beside a running daemon too."""

    def trace(self, name: str) -> Trace:
        """Everything about a produced lot, a material lot, a serial number or an order; `found_as` is empty where nobody knows it."""
        rows = self._named(name)
        made = [(unit, row) for role, unit, row in rows if isinstance(row, LotRow) and role != "material_lot"]
        used = [(unit, row) for role, unit, row in rows if isinstance(row, LotRow) and role == "material_lot"]
        serials = tuple(TracedSerial(unit, row) for _, unit, row in rows if isinstance(row, dict))
        roles = tuple(dict.fromkeys(role if isinstance(row, LotRow) or role == "serial" else "material_lot" for role, _, row in rows))
        for serial in serials:
            # A piece is what its lot is; its own lots are in its own row.
            if serial.body["serial"] == name:
                made += self._of_piece(serial)
        before = self._follow((link.lot_id for _, row in made for link in row.links.values()), "product_lot", made)
        after = self._follow((row.product_lot_id for _, row in [*made, *used]), "material_lot", [*made, *used])
        limited = len(rows) >= _MOST
        return Trace(
            name, roles, tuple(self._traced(made)), tuple(self._traced(used)), tuple(self._traced(before)), tuple(self._traced(after)),
            serials, limited,
        )  # fmt: skip

    def _named(self, name: str) -> list[tuple[str, str, LotRow | dict[str, Any]]]:
        found = []
        for role, unit, kind, body in self._connection.execute(NAMED, (name, _MOST)):
            row = json.loads(body)
            found.append((role, unit, load_lot(row) if kind == "lot" else row))
        return found

    def _of_piece(self, serial: TracedSerial) -> list[tuple[str, LotRow]]:
        named = serial.body["product_lot_id"] or serial.body["job_order_id"]
        wanted = serial.body["job_order_id"], serial.body["product_lot_id"]
        rows = [(unit, row) for _, unit, row in self._named(named) if isinstance(row, LotRow)] if named else []
        mine = {(unit, row.key): row for unit, row in rows if unit == serial.work_unit and (row.job_order_id, row.product_lot_id) == wanted}
        return [(unit, row) for (unit, _), row in mine.items()]

    def _follow(self, names: Iterable[str | None], role: str, known: Sequence[tuple[str, LotRow]]) -> list[tuple[str, LotRow]]:
        """Rows in which these lots have `role`, and so on from them: upwards where they were produced, downwards where they were used."""
        seen = {(unit, row.key) for unit, row in known}
        found: list[tuple[str, LotRow]] = []
        asked: set[str] = set()
        for _ in range(_DEPTH):
            wanted = {name for name in names if name is not None} - asked
            asked |= wanted
            step = [
                (unit, row)
                for name in sorted(wanted)
                for as_, unit, row in self._named(name)
                if as_ == role and isinstance(row, LotRow) and (unit, row.key) not in seen
            ]
            seen |= {(unit, row.key) for unit, row in step}
            found += step
            if not step or len(found) >= _MOST:
                break
            lots = [link.lot_id for _, row in step for link in row.links.values()]
            names = lots if role == "product_lot" else [row.product_lot_id for _, row in step]
        return found[:_MOST]

    def _traced(self, rows: Iterable[tuple[str, LotRow]]) -> Iterable[TracedLot]:
        for unit, row in rows:
            stops = [stop for stop in self.stops(unit, row.first, row.last) if stop.decided]
            longest = sorted(stops, key=lambda stop: (stop.end or row.last) - stop.start, reverse=True)[:_STOPS]
            spent: dict[str, int] = {}
            for stretch in self.stretches(unit, row.first, row.last):
                spent[stretch.kind] = spent.get(stretch.kind, 0) + stretch.end - stretch.start
            yield TracedLot(unit, row, States(spent, tuple(sorted(longest, key=lambda stop: stop.start)), len(stops)))
