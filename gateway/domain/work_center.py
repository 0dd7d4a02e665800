"""The KPI windows of a whole line (ISA-95 work centre): of the machine that speaks for it, or of its machines together.

A window of the line closes when that of every machine it needs has closed, and is told again, with a higher revision, when one of them
is. Jobs belong to machines: a line has job windows only where one machine speaks for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.cloud_event import encode
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event, WindowClosed
from gateway.domain.kpi import QUANTITIES, SUMMED, Line, combine, has_priced_materials, roll_up
from gateway.domain.snapshot import Record, Snapshot
from gateway.domain.windows import KEEP

VERSION = 1
LINE = "_line"
"""Stands for the work unit in topics and sources: `area/work_center/_line`."""


@dataclass(frozen=True)
class LineRule:
    """Whose figures are the line's. All empty: the sum of its work units.

    `kpi_from`: one machine's, whole. `time_from`, `ideal_from`, `good_from`, `scrap_from`: times of the first, ideal time per piece of the
    second, good and reworked pieces of the third, scrap of all of the last (empty: of every machine of the line).
    """

    kpi_from: str | None = None
    time_from: str | None = None
    ideal_from: str | None = None
    good_from: str | None = None
    scrap_from: tuple[str, ...] = ()


@dataclass
class _Group:
    """One window of the line: the latest closed line of each machine, and how often the line's own was told."""

    until: datetime
    members: dict[str, Line] = field(default_factory=dict)
    revision: int = 0


class WorkCenter:
    """`units`: the machines of the line, by name, in the order of the configuration."""

    def __init__(self, name: str, units: Mapping[str, WorkUnit], rule: LineRule) -> None:
        self.name = name
        self.units = units
        self._rule = rule
        self._groups: dict[str, _Group] = {}
        self._changed: set[str] = set()
        first = next(iter(units.values()))
        self.path = f"{first.path.rsplit('/', 1)[0]}/{LINE}"
        """CloudEvents `source`."""
        self.key = f"{name}/{LINE}"
        """What stands for the work unit in the journal."""
        rule_units = (rule.time_from, rule.ideal_from or rule.time_from, rule.good_from or rule.time_from, *rule.scrap_from)
        if rule.kpi_from is not None:
            self._needed = {rule.kpi_from}
        elif rule.time_from is not None and rule.scrap_from:
            self._needed = {unit for unit in rule_units if unit is not None}
        else:
            self._needed = set(units)

    @property
    def dirty(self) -> bool:
        return bool(self._changed)

    def line(self, lines: Mapping[str, Line], **head: Any) -> dict[str, Any] | None:
        """The line's figures from those of its machines for the same window; None while one that is needed has none."""
        if not self._needed <= set(lines):
            return None
        rule = self._rule
        head = {"work_unit": LINE, "work_center": self.name, **head}
        if rule.kpi_from is not None:
            return {**lines[rule.kpi_from], **head}
        if rule.time_from is None:
            return roll_up([lines[unit] for unit in self.units], **head)
        scrapping = rule.scrap_from or tuple(self.units)
        return combine(
            time=lines[rule.time_from],
            ideal=lines[rule.ideal_from or rule.time_from],
            good=lines[rule.good_from or rule.time_from],
            scrap=[lines[unit] for unit in scrapping],
            cost=self.units[rule.time_from].cost,
            priced=any(has_priced_materials(self.units[unit]) for unit in scrapping),
            usual_s=self.units[rule.ideal_from or rule.time_from].ideal_cycle_time_s,
            **head,
        )

    def open_lines(self, windows: Mapping[str, Mapping[str, Line]]) -> dict[str, dict[str, Any]]:
        """Kind -> the line's open window. `windows`: machine -> kind -> its open window; only windows of the same times add up."""
        found: dict[str, dict[str, Any]] = {}
        for kind in ("hour", "shift", "job"):
            lines = {unit: of[kind] for unit, of in windows.items() if kind in of and unit in self._needed}
            spans = {(line["window"]["name"], line["window"]["from"]) for line in lines.values()}
            if len(spans) == 1 and (kind != "job" or self._rule.kpi_from is not None):
                head = next(iter(lines.values()))
                line = self.line(lines, window=head["window"], revision=head["revision"], closed=False)
                if line is not None:
                    found[kind] = line
        return found

    def closed(self, event: WindowClosed) -> list[Event]:
        """A machine's window has closed, or was revised; the event of the line's own, where it is complete."""
        window, unit = event.line["window"], event.work_unit
        if unit not in self._needed or (window["kind"] == "job" and self._rule.kpi_from is None):
            return []
        self._forget(event.at)
        key = f"{window['kind']}:{window['from']}:{window['name']}"
        group = self._groups.setdefault(key, _Group(datetime.fromisoformat(window["to"])))
        group.members[unit] = event.line
        self._changed.add(key)
        line = self.line(group.members, window=window, revision=group.revision + 1, closed=True)
        if line is None:
            return []
        group.revision += 1
        return [WindowClosed(work_unit=self.key, at=event.at, job_order_id=event.job_order_id, line=line)]

    def _forget(self, at: datetime) -> None:
        """Windows that no machine revises any more."""
        since = at - timedelta(microseconds=KEEP)
        for key in [key for key, group in self._groups.items() if group.until < since]:
            del self._groups[key]
            self._changed.discard(key)

    # --- memory ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The windows that changed since the snapshot before."""
        rows = [
            Record("window", key, self._groups[key].until, encode({"revision": group.revision, "members": group.members}))
            for key in sorted(self._changed)
            if (group := self._groups[key])
        ]
        self._changed.clear()
        return Snapshot(self.key, VERSION, b"{}", tuple(rows))

    def restore(self, records: Iterable[Record]) -> None:
        """Go on from the rows of the last 48 hours."""
        for record in records:
            body = json.loads(record.body)
            self._groups[record.key] = _Group(record.at, _members(body), body["revision"])

    def told(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The closed line of one row of the journal, as it was told last; None where it never was complete."""
        members = _members(body)
        window = next(iter(members.values()))["window"]
        return self.line(members, window=window, revision=body["revision"], closed=True)


def _members(body: Mapping[str, Any]) -> dict[str, Line]:
    # Rows of earlier versions do not have all of these.
    told = {unit: dict.fromkeys(SUMMED) | dict.fromkeys(QUANTITIES, 0) | line for unit, line in body["members"].items()}
    return {unit: line | {name: Decimal(str(line[name])) for name in QUANTITIES} for unit, line in told.items()}
