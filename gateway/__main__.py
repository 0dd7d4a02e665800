"""The command line `lineside`. Thin: each command is a module of `gateway/cli` with `add_parser(subparsers)` and `run(args) -> int`."""

from __future__ import annotations

import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from gateway.cli.errors import CommandError
from gateway.config.problems import ConfigError

COMMANDS = {
    "run": "the daemon: machines in, journal, brokers and ERP out",
    "demo": "a simulated plant with the gateway and its page, on this machine",
    "check": "validate a configuration; with --connect also try every link once",
    "browse": "list an OPC UA server's variables, or a Modbus device's registers",
    "read": "read a device once: value, quality, source time, raw registers",
    "import": "tags from a Kepware or Neuron export",
    "pki": "certificates: list, show, trust, reject, renew",
    "status": "the running gateway in a terminal",
    "reason": "give the reason of a stop, through the broker",
    "record": "write what the machines say into a file for replay",
    "replay": "run recorded readings through the same domain code",
    "whatif": "what becomes late if an order goes first, and which order of the queue loses least",
    "report": "a shift, a day or an order: text, JSON or CSV",
    "erp": "what an ERP would give the line: lineside erp orders",
    "trace": "where a lot, a serial number or an order comes from and where it went",
    "outbox": "what waits for each uplink: list, show, requeue, drop, export",
    "backup": "copy the journal while the gateway runs",
    "restore": "put a backup of the journal back; the gateway must be stopped",
    "schema": "print a published schema",
}
"""Name -> one line for `lineside --help`; the module has the same name (a keyword with an underscore) and is loaded only when called."""

WRONG_INPUT = 2
STOPPED = 130
"""After Ctrl-C in a command that does not end by it, as shells have it."""


class Parser(argparse.ArgumentParser):
    """Says a wrong command line in the same two sentences as every other error, and takes options between the other arguments too."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        mixed = all(action.nargs not in (argparse.PARSER, argparse.REMAINDER) for action in self._get_positional_actions())
        if self._inside or not mixed:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False

    def error(self, message: str) -> NoReturn:
        expert = " ".join(self.format_usage().split())
        self.exit(WRONG_INPUT, f"{message}; see {self.prog} --help\n    expert: {expert}\n")


def parser(command: str | None) -> argparse.ArgumentParser:
    """The whole command line with the arguments of `command` alone, so that one command never waits for another's libraries."""
    top = Parser(
        prog="lineside",
        description="Edge gateway for shop-floor machines: cycles, stops and OEE on the line PC, orders down and the truth back up.",
        epilog="example: lineside demo (each command has its own --help)",
    )
    top.add_argument("--version", action="version", version=_version())
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, summary in COMMANDS.items():
        if name == command:
            module = f"{name}_" if keyword.iskeyword(name) else name
            importlib.import_module(f"gateway.cli.{module}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary, add_help=False)
    return top


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"lineside {version('lineside')}"
    except PackageNotFoundError:
        return "lineside (from source)"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 a wrong configuration or command line, 130 stopped by Ctrl-C, 1 what went wrong otherwise."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in arguments if not word.startswith("-")), None)
    try:
        args = parser(command).parse_args(arguments)
        status: int = args.run(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        count = len(error.problems)
        print(f"{count} problem{'' if count == 1 else 's'} in the configuration", file=sys.stderr)
        return WRONG_INPUT
    except CommandError as error:
        print(error.sentence, file=sys.stderr)
        if error.expert:
            print(f"    expert: {error.expert}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("stopped before the end", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        # The reader (head, a pager) has gone; without this the interpreter complains once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
