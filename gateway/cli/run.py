"""`lineside run`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from gateway.cli.errors import CommandError
from gateway.config import check_secrets, load


def add_parser(subparsers: Any) -> None:
    """Add `run` to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="the daemon: machines in, journal, brokers and ERP out",
        description="Run the gateway until SIGTERM or Ctrl-C. Exit code 0 after SIGTERM, 2 for a wrong configuration, 1 for a bug.",
        epilog="example: lineside run -c /etc/lineside/lineside.yaml --state-dir /var/lib/lineside",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="CONFIG")
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="journal and own certificates (default: $STATE_DIRECTORY of systemd, else ./state)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The daemon's exit status. Raises ConfigError or CommandError before anything is started."""
    config = load(args.config)
    check_secrets(config)
    state_dir = args.state_dir or default_state_dir()
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"the state directory {state_dir} cannot be made; choose another with --state-dir or correct its rights",
            f"{error.strerror}: {error.filename}",
        ) from None
    # Only now: a wrong configuration is told without waiting for the protocol stacks to load.
    from gateway.app import StartError, run_daemon

    try:
        return asyncio.run(run_daemon(config, state_dir=state_dir))
    except StartError as error:
        raise CommandError(str(error), error.detail, status=1) from error


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    """`--state-dir` of a command that looks into a gateway's state; `default_state_dir` is what is meant without it."""
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="default: $STATE_DIRECTORY of systemd, else ./state")


def default_state_dir() -> Path:
    """`$STATE_DIRECTORY` (systemd gives several separated by colons: the first), else `state` beside the caller."""
    return Path(os.environ.get("STATE_DIRECTORY", "").split(":")[0] or "state")
