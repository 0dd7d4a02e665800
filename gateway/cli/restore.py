"""`lineside restore`: a backup becomes the journal again, under an epoch of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gateway.cli.errors import CommandError
from gateway.cli.run import add_state_dir, default_state_dir
from gateway.clock import SystemClock
from gateway.config import load
from gateway.outbox.backup import restore
from gateway.outbox.statedir import StoreError


def add_parser(subparsers: Any) -> None:
    """Add `restore` to the command line."""
    parser = subparsers.add_parser(
        "restore",
        help="put a backup of the journal back; the gateway must be stopped",
        description="Make a backup the journal again. The gateway must be stopped. The journal that is there is moved aside, and a new "
        "epoch begins, so that no key is used twice. What was made since then is counted from the machines' counters and marked late.",
        epilog="example: lineside restore -c /etc/lineside/lineside.yaml --state-dir /var/lib/lineside /mnt/nas/line-pc-07.db",
    )
    parser.add_argument("backup", type=Path, metavar="BACKUP", help="a file made by `lineside backup`")
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="CONFIG")
    add_state_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises ConfigError; CommandError while a gateway runs, for a file that is no sound backup, a folder that cannot be written."""
    config = load(args.config)
    try:
        restored = restore(args.state_dir or default_state_dir(), args.backup, SystemClock().now())
    except StoreError as error:
        french = config.gateway.language == "fr"
        words = (error.problem.fr, error.remedy.fr) if french else (error.problem.en, error.remedy.en)
        raise CommandError(" ".join(words), str(error)) from error
    contents = restored.contents
    latest = "" if contents.latest is None else f", the latest of {contents.latest:%Y-%m-%d %H:%M:%S} UTC"
    print(f"restored: {contents.rows} ledger rows{latest}; new epoch {restored.epoch}")
    if restored.before is not None:
        print(f"the journal that was there is now {restored.before}")
    print("start the gateway: it counts what was made since the backup and marks it late; compare that period with the ERP and the MES")
    return 0
