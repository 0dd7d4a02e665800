"""`lineside report`: a shift, a day or an order from the journal, as text, JSON or CSV; the gateway may run or not."""

from __future__ import annotations

import argparse
import asyncio
import csv
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from gateway.cli.errors import CommandError
from gateway.cli.report_text import lines_of, total_lines
from gateway.cli.run import add_state_dir, default_state_dir
from gateway.config import Config, load
from gateway.domain.cloud_event import encode
from gateway.domain.events import Text
from gateway.domain.instants import instant
from gateway.domain.kpi import COSTS, COUNTS, KPIS, LOSSES, QUANTITIES, TIMES, Line, roll_up
from gateway.domain.report import NoSuchWindow, PastUnreadable, Report
from gateway.domain.tracker import RECORD_KINDS, Tracker
from gateway.domain.windows import KEEP
from gateway.domain.work_center import WorkCenter
from gateway.outbox.archive import Archive
from gateway.outbox.history import History
from gateway.outbox.statedir import StoreError
from gateway.status.formats import Formats
from gateway.status.report import Wording, report_payload

T = TypeVar("T")

_NOTHING = 1
_FIGURES = (*(time.key for time in TIMES), *COUNTS, *QUANTITIES, *(kpi.key for kpi in KPIS), *COSTS)


def add_parser(subparsers: Any) -> None:
    """Add `report` to the command line."""
    parser = subparsers.add_parser(
        "report",
        help="a shift, a day or an order, as text, JSON or CSV",
        description="Print what the journal knows of a shift, a day or an order: orders, times, figures, losses, stops, cycle times. "
        "The gateway may run meanwhile.",
        epilog="example: lineside report -c /etc/lineside/lineside.yaml --state-dir /var/lib/lineside --shift 2026-11-24-morning",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="CONFIG")
    add_state_dir(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--shift", metavar="[DATE-]NAME", help="a shift: `current`, `last`, its name (the latest), or 2026-11-24-NAME (begun that day)"
    )
    what.add_argument("--day", metavar="DATE", help="a local day, with its lines, areas and the site: 2026-11-24")
    what.add_argument("--job", metavar="ID", help="an order, from its start to its end")
    parser.add_argument("--unit", action="append", metavar="UNIT", help="this machine alone; may be given several times (default: all)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object with everything")
    form.add_argument("--csv", action="store_true", help="one row for each machine, line, area and the site; seconds and points")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises ConfigError; CommandError 2 for a wrong argument or a journal that cannot be read, 1 where there is nothing to report."""
    config = load(args.config)
    language = config.gateway.language
    units = _units(args.unit, config)
    day = _date(args.day) if args.day is not None else None
    try:
        with closing(History.open(args.state_dir or default_state_dir())) as history, history.unchanging():
            reports, missing = asyncio.run(_gather(args, config, units, day, history))
    except StoreError as error:
        raise CommandError(f"{_said(error.problem, language)} {_said(error.remedy, language)}", str(error)) from error
    except (PastUnreadable, sqlite3.Error) as error:
        raise CommandError("the journal cannot be read; look at the disk, then start the command again", str(error)) from error
    if not reports:
        raise CommandError(" ".join(dict.fromkeys(_said(text, language) for text in missing)), status=_NOTHING)
    totals = _totals(reports, config) if day is not None and args.unit is None else []
    if args.json:
        sys.stdout.buffer.write(encode(_body(reports, totals)) + b"\n")
    elif args.csv:
        _write_csv(reports, totals)
    else:
        _print(reports, totals, config)
    if args.job is None:
        for text in missing:
            print(_said(text, language), file=sys.stderr)
    return 0


def _said(text: Text, language: str) -> str:
    return text.fr if language == "fr" else text.en


def _units(asked: Sequence[str] | None, config: Config) -> list[str]:
    unknown = [unit for unit in asked or () if unit not in config.work_units]
    if unknown:
        raise CommandError(f"--unit {unknown[0]}: there is no such machine; the configuration has {', '.join(config.work_units)}")
    return list(dict.fromkeys(asked)) if asked else list(config.work_units)


def _date(text: str) -> date:
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise CommandError(f"--day {text}: it is no date; write year, month and day, for example 2026-11-24")


async def _gather(
    args: argparse.Namespace, config: Config, units: Sequence[str], day: date | None, history: History
) -> tuple[list[Report], list[Text]]:
    """The reports of the machines that have one, and what is to be said of the others."""

    async def ask(question: Callable[[History], T]) -> T:
        return question(history)

    archive = Archive(config.work_units, _trackers(config, units, history), ask)
    reports: list[Report] = []
    missing: list[Text] = []
    for unit in units:
        try:
            if day is not None:
                reports.append(await archive.day(unit, day))
            elif args.job is not None:
                reports.append(await archive.job(unit, args.job))
            else:
                reports.append(await archive.shift(unit, args.shift))
        except NoSuchWindow as none:
            missing.append(none.text)
    return reports, missing


def _trackers(config: Config, units: Sequence[str], history: History) -> dict[str, Tracker]:
    """The machines' memory as the journal has it: windows that are still open are in no other place."""
    snapshots, trackers = history.snapshots(), {}
    for name in units:
        snapshot = snapshots.get(name)
        if snapshot is None:
            continue
        tracker = Tracker(config.work_units[name])
        until = Tracker.time_of(snapshot)
        try:
            tracker.restore(snapshot, history.records(name, RECORD_KINDS, instant(until) - KEEP), lost=False)
        except ValueError as error:
            raise CommandError("the journal is of another version of lineside; use the version that wrote it", str(error)) from error
        trackers[name] = tracker
    return trackers


@dataclass(frozen=True)
class Total:
    """The line of several machines together; `scope`: work_center, area or site."""

    scope: str
    name: str
    line: Line


def _totals(reports: Sequence[Report], config: Config) -> list[Total]:
    """A line is judged by its own rule; an area is the sum of its lines, the site that of its areas. Only what is whole is there.

    A line is in the area of its first machine."""
    lines = {report.work_unit: report.line for report in reports}
    window = reports[0].line["window"]
    closed = all(line["closed"] for line in lines.values())

    def head(members: Sequence[Line]) -> dict[str, Any]:
        return {"window": window, "revision": 1 + sum(line["revision"] - 1 for line in members), "closed": closed}

    area_of = {unit.work_center: unit.area for unit in reversed([*config.work_units.values()])}
    centers: dict[str, dict[str, Line]] = {}
    found: list[Total] = []
    for name in dict.fromkeys(unit.work_center for unit in config.work_units.values()):
        units = {unit.name: unit for unit in config.work_units.values() if unit.work_center == name}
        if units.keys() <= lines.keys():
            line = WorkCenter(name, units, config.line_rule(name)).line(lines, **head([lines[unit] for unit in units]))
            if line is not None:
                found.append(Total("work_center", name, line))
                centers.setdefault(area_of[name], {})[name] = line
    areas = [
        Total("area", area, roll_up(list(members.values()), **head(list(members.values()))))
        for area, members in centers.items()
        if len(members) == sum(each == area for each in area_of.values())
    ]
    found += areas
    if len(areas) == len(set(area_of.values())):
        parts = [area.line for area in areas]
        found.append(Total("site", config.gateway.site, roll_up(parts, **head(parts))))
    return found


def _body(reports: Sequence[Report], totals: Sequence[Total]) -> dict[str, Any]:
    body: dict[str, Any] = {"reports": [report_payload(report) for report in reports]}
    for scope, key in (("work_center", "work_centers"), ("area", "areas"), ("site", "sites")):
        lines = [{**total.line, scope: total.name} for total in totals if total.scope == scope]
        if lines:
            body[key] = lines
    return body


def _write_csv(reports: Sequence[Report], totals: Sequence[Total]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    heads = ("scope", "name", "kind", "window", "from", "to", "revision", "closed", "degraded")
    table.writerow([*heads, *_FIGURES, *(f"loss_{name}" for name, _, _ in LOSSES)])
    table.writerows(_csv_row("work_unit", report.work_unit, report.line) for report in reports)
    table.writerows(_csv_row(total.scope, total.name, total.line) for total in totals)


def _csv_row(scope: str, name: str, line: Line) -> list[Any]:
    window, lost = line["window"], line["losses"] or {}
    row = [scope, name, window["kind"], window["name"], window["from"], window["to"], line["revision"], line["closed"], line["degraded"]]
    return [*row, *(line[key] for key in _FIGURES), *(lost.get(name) for name, _, _ in LOSSES)]


def _print(reports: Sequence[Report], totals: Sequence[Total], config: Config) -> None:
    for text in _text(reports, totals, config):
        print(text)


def _text(reports: Sequence[Report], totals: Sequence[Total], config: Config) -> Iterator[str]:
    formats = Formats(config.gateway.language, config.gateway.time_zone)

    def wording(reasons: Mapping[str, Any], currency: str | None) -> Wording:
        return Wording(config.gateway.language, formats, reasons, currency)

    currencies = {unit.cost.currency for unit in config.work_units.values() if unit.cost}
    for report in reports:
        unit = config.work_units[report.work_unit]
        yield from lines_of(report, unit, wording(unit.reasons, unit.cost.currency if unit.cost else None))
    whole = wording({}, currencies.pop() if len(currencies) == 1 else None)
    if totals:
        yield from total_lines([(total.scope, total.name, total.line) for total in totals], whole)
