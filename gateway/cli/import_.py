"""`lineside import`: tags of another gateway's export as a device of a configuration, with a report of what could not be mapped."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from pathlib import Path
from typing import Any

from gateway.cli.errors import CommandError
from gateway.cli.importers import Imported, as_yaml, devices_of, kepware, neuron
from gateway.cli.tag_list import write_csv

_NOTHING = 1


def add_parser(subparsers: Any) -> None:
    """Add `import` to the command line."""
    parser = subparsers.add_parser(
        "import",
        help="tags from a Kepware or Neuron export",
        description="Read the tags that another gateway exported and print them as a device of a configuration, or with --csv as a list "
        "for `tags_csv:`. What could not be mapped is told on standard error, each with its reason. Kepware: the CSV of Export CSV. "
        "Neuron, NeuronEX: a template or tag list of its API (JSON), or its Excel tag list saved as CSV. Exit code 1 when no tag is left.",
        epilog="example: lineside import kepware packer.csv --device packer_plc > packer.yaml",
    )
    parser.add_argument("format", choices=("kepware", "neuron"), metavar="kepware|neuron")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--device", metavar="NAME", help="name of the device (default: the file's)")
    parser.add_argument(
        "--order", choices=("ABCD", "CDAB", "BADC", "DCBA"), default="ABCD", help="Kepware: byte order of wide values (default ABCD)"
    )
    parser.add_argument("--csv", action="store_true", help="print a list for `tags_csv:` instead of a device section")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when there are tags, 1 when none could be mapped. Raises CommandError for a file that cannot be read."""
    imported = read(args.format, _text(args.file), str(args.file), args.order)
    devices = devices_of(imported)
    name = args.device or re.sub(r"[^A-Za-z0-9_-]+", "_", args.file.stem).strip("_")[:60] or "device"
    if args.csv and len(devices) > 1:
        units = ", ".join(f"{device.driver} unit {device.unit_id}" for device in devices)
        raise CommandError(f"the tags are of several devices ({units}), a list is of one; leave --csv out")
    if args.csv and devices:
        write_csv(sys.stdout, list(devices[0].tags), list(devices[0].tags.values()))
    elif devices:
        print(as_yaml(name, devices), end="")
    _report(imported, sum(len(device.tags) for device in devices))
    return 0 if devices else _NOTHING


def read(kind: str, text: str, file: str, order: str = "ABCD") -> Imported:
    """The tags of an export (`kind`: kepware or neuron). Raises CommandError for a file that is none."""
    try:
        return kepware.read(text, file, order) if kind == "kepware" else neuron.read(text, file)
    except csv.Error as error:
        raise CommandError(
            f"{file} has a line that is no CSV; export it again, and look for a quote that is not closed", str(error)
        ) from None


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if raw.startswith(b"PK"):
            raise CommandError(f"{path} is an Excel file; save its sheet as CSV (UTF-8) and import that", "zip archive")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{path} cannot be read; check its name and its rights", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text; save it as CSV UTF-8", f"{error.reason} at byte {error.start}") from None


def _report(imported: Imported, mapped: int) -> None:
    print(f"{mapped} tag{'' if mapped == 1 else 's'} taken over, {len(imported.left_out)} left out", file=sys.stderr)
    for place, name, reason in imported.left_out:
        print(f"left out  {place}: {name or '(no name)'}: {reason}", file=sys.stderr)
    for note in imported.notes:
        print(f"note      {note}", file=sys.stderr)
