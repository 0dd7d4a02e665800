"""`lineside whatif`: questions to the running gateway's queue, in a terminal; nothing is changed by asking."""

from __future__ import annotations

import argparse
import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gateway.cli.errors import CommandError
from gateway.cli.status import DEFAULT_URL, fetch
from gateway.config import ConfigError, load
from gateway.config.yaml_tree import parse, plain

LONGEST = 8_000
"""Characters of a question; the gateway reads no longer request line."""
_RULES = {
    "present": "as it stands",
    "earliest_due_date": "earliest due date",
    "critical_ratio": "critical ratio",
    "least_late": "exact search",
}


def add_parser(subparsers: Any) -> None:
    """Add `whatif` to the command line."""
    parser = subparsers.add_parser(
        "whatif",
        help="what becomes late if an order goes first, and which order of the queue loses least",
        description="Ask the running gateway what would become of its queue: with one order first, with another priority, under another "
        "calendar; and which order of the queue loses least. Nothing is changed. The dates are the gateway's own.",
        epilog="example: lineside whatif http://127.0.0.1:8080 --first OF-48215-0020",
    )
    parser.add_argument("url", nargs="?", metavar="URL", help=f"address of its page (default {DEFAULT_URL})")
    parser.add_argument("-c", "--config", type=Path, metavar="CONFIG", help="instead of URL: the gateway of this configuration, on this PC")
    parser.add_argument("--unit", metavar="UNIT", help="the machine; needed where the orders named do not tell")
    parser.add_argument("--first", metavar="JOB", help="this order before all others that wait")
    parser.add_argument(
        "--priority", action="append", default=[], metavar="JOB=N", help="another priority, as its sender counts them; several times"
    )
    parser.add_argument("--calendar", type=Path, metavar="FILE", help="YAML with shifts, closed, maintenance: an entry of `calendars:`")
    parser.add_argument("--json", action="store_true", help="print the JSON as it came")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises ConfigError; CommandError 2 for a wrong argument or question, 1 where no gateway answers."""
    body = fetch(_address(args), f"/api/whatif?{urlencode(question(args))}")
    if args.json:
        print(json.dumps(body, indent=2, ensure_ascii=False))
        return 0
    for line in lines_of(body):
        print(line)
    return 0


def _address(args: argparse.Namespace) -> str:
    if args.config is None:
        return args.url or DEFAULT_URL
    if args.url is not None:
        raise CommandError("both URL and --config say where the gateway is; leave one of them out")
    host, port = load(args.config).gateway.address
    if port == 0:
        raise CommandError(f"{args.config} lets the gateway take any free port; give its URL instead")
    bare = host.strip("[]")
    try:
        anywhere = ipaddress.ip_address(bare).is_unspecified
    except ValueError:
        anywhere = False
    return f"http://127.0.0.1:{port}" if anywhere else f"http://{f'[{bare}]' if ':' in bare else bare}:{port}"


def question(args: argparse.Namespace) -> list[tuple[str, str]]:
    """The query of `/api/whatif`."""
    asked = [(name, value) for name, value in (("work_unit", args.unit), ("first", args.first)) if value is not None]
    for text in args.priority:
        job, equals, number = text.rpartition("=")
        if not equals or not job or not number.removeprefix("-").isdecimal():
            raise CommandError(f"--priority {text}: it names no order and number; write JOB=N, for example OF-48213-0020=90")
        asked.append(("priority", f"{job}:{number}"))
    if args.calendar is not None:
        asked.append(("calendar", json.dumps(_calendar(args.calendar), ensure_ascii=False, separators=(",", ":"))))
    if len(urlencode(asked)) > LONGEST:
        raise CommandError(f"{args.calendar} holds too much for a question; leave out what is past")
    return asked


def _calendar(path: Path) -> Any:
    """Its data, for the gateway to judge. Raises CommandError, ConfigError for what is no YAML."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read; check its name and that it is a text file", str(error)) from None
    root, problems = parse(text, str(path))
    if problems:
        raise ConfigError(problems)
    return plain(root)


def lines_of(body: Mapping[str, Any]) -> Iterator[str]:
    """Each order before and after, what becomes late, and the plans with what they gain."""
    jobs, asked = body["jobs"], body["question"]
    changed = bool(asked["first"] or asked["priority"] or asked["calendar"])
    yield f"{body['work_unit']}, {len(jobs)} order{'' if len(jobs) == 1 else 's'}, at {body['at']}"
    yield from _table(
        [["order", "due", "as it stands", *(["then"] if changed else [])]]
        + [
            [
                f"{job['job_order_id']}{' (running)' if job['running'] else ''}", str(job["due"] or "–"), _end(job["before"]),
                *([_end(job["after"])] if changed else []),
            ]
            for job in jobs
        ]
    )  # fmt: skip
    if changed:
        late = ", ".join(body["becomes_late"])
        yield f"would become late: {late}" if late else "no other order would become late"
    yield ""
    yield "which order of the queue loses least:"
    yield from _table(
        [["rule", "late orders", "total lateness", "gain", "order of work"]]
        + [
            [
                f"{_RULES.get(plan['rule'], plan['rule'])}{' *' if plan['rule'] == body['best'] else ''}", str(plan["late_count"]),
                _lasting(plan["late_s"]), _lasting(plan["gain_s"]), ", ".join(plan["jobs"]),
            ]
            for plan in body["plans"]
        ]
    )  # fmt: skip
    yield "* loses least" if body["exact"] else "* loses least of these; no exact search: too many orders wait, or one has no known end"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _end(side: Mapping[str, Any]) -> str:
    how = f"late by {_lasting(side['late_s'])}" if side["late_s"] else side["verdict"]
    return f"{side['eta_likely'] or 'no date'} {how}"


def _lasting(seconds: float) -> str:
    if abs(seconds) < 60:
        return f"{seconds:.0f} s" if seconds else "0"
    sign, minutes = ("-" if seconds < 0 else ""), abs(round(seconds / 60))
    return f"{sign}{minutes // 60} h {minutes % 60:02d}" if minutes >= 60 else f"{sign}{minutes} min"
