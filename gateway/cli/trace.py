"""`lineside trace`: where a lot, a serial number or an order comes from and where it went; the gateway may run or not."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from gateway.cli.errors import CommandError
from gateway.cli.run import add_state_dir, default_state_dir
from gateway.config import Config, load
from gateway.domain.cloud_event import encode
from gateway.domain.events import Text
from gateway.domain.trace import Trace, trace_body
from gateway.outbox.lots import LotHistory
from gateway.outbox.statedir import StoreError
from gateway.status.trace_words import trace_lines

_UNKNOWN = 1


def add_parser(subparsers: Any) -> None:
    """Add `trace` to the command line."""
    parser = subparsers.add_parser(
        "trace",
        help="where a lot, a serial number or an order comes from and where it went",
        description="Print what the journal knows of a produced lot, a material lot, a serial number or an order: order and customer, "
        "material lots, quantities, quality results, stops, and the lots it went into. The gateway may run meanwhile.",
        epilog="example: lineside trace LOT-20261124-01 -c /etc/lineside/lineside.yaml --state-dir /var/lib/lineside",
    )
    parser.add_argument("lot", metavar="LOT", help="a produced lot, a material lot, a serial number, a job order or an order")
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="CONFIG")
    add_state_dir(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object with everything")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises ConfigError; CommandError 1 for a lot that nobody knows, 2 for a journal that cannot be read."""
    config = load(args.config)
    try:
        with closing(LotHistory.open(args.state_dir or default_state_dir())) as history, history.unchanging():
            trace = history.trace(args.lot)
    except StoreError as error:
        raise CommandError(f"{_said(error.problem, config)} {_said(error.remedy, config)}", str(error)) from error
    except sqlite3.Error as error:
        raise CommandError("the journal cannot be read; look at the disk, then start the command again", str(error)) from error
    if not trace.found_as:
        unknown = Text(
            f"Aucun lot, numéro de série ou OF {args.lot} n'est connu : vérifier son nom (majuscules comprises).",
            f"No lot, serial number or order {args.lot} is known: check its name (capitals count).",
        )
        raise CommandError(_said(unknown, config), status=_UNKNOWN)
    if args.json:
        sys.stdout.buffer.write(encode(trace_body(trace)) + b"\n")
    else:
        print("\n".join(_lines(trace, config)))
    return 0


def _lines(trace: Trace, config: Config) -> Iterator[str]:
    yield from trace_lines(trace, config.gateway.language, config.gateway.time_zone)


def _said(text: Text, config: Config) -> str:
    return text.fr if config.gateway.language == "fr" else text.en
