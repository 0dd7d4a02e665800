"""`lineside backup`: a copy of the journal, the gateway may run meanwhile."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gateway.cli.errors import CommandError
from gateway.cli.run import add_state_dir, default_state_dir
from gateway.clock import SystemClock
from gateway.config import load
from gateway.outbox.backup import backup
from gateway.outbox.statedir import StoreError


def add_parser(subparsers: Any) -> None:
    """Add `backup` to the command line."""
    parser = subparsers.add_parser(
        "backup",
        help="copy the journal while the gateway runs",
        description="Copy the journal to a new file: the state of one moment, checked and on the disk when the command ends. The gateway "
        "may run meanwhile. Never copy journal.db itself: what is in its log would be missing.",
        epilog="example: lineside backup -c /etc/lineside/lineside.yaml --state-dir /var/lib/lineside /mnt/nas/line-pc-07.db",
    )
    parser.add_argument(
        "target", type=Path, metavar="TARGET", help="a new file, or a folder: the file is then named after gateway and time"
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="CONFIG")
    add_state_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises ConfigError; CommandError for a journal that cannot be copied, a target that exists or cannot be written."""
    config = load(args.config)
    target = args.target
    if target.is_dir():
        target = target / f"{config.gateway.id}-{SystemClock().now():%Y%m%dT%H%M%SZ}.db"
    try:
        contents = backup(args.state_dir or default_state_dir(), target)
    except StoreError as error:
        french = config.gateway.language == "fr"
        words = (error.problem.fr, error.remedy.fr) if french else (error.problem.en, error.remedy.en)
        raise CommandError(" ".join(words), str(error)) from error
    latest = "" if contents.latest is None else f", the latest of {contents.latest:%Y-%m-%d %H:%M:%S} UTC"
    print(f"{target}: {contents.rows} ledger rows{latest}")
    return 0
