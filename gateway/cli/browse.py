"""`lineside browse`: the variables of an OPC UA server, or the registers that answer in a Modbus device."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from drivers import DRIVERS
from drivers.base import Explorer, Found
from drivers.modbus_settings import ModbusSettings
from gateway import logs
from gateway.cli.errors import CommandError
from gateway.cli.exploring import Progress, add_arguments, connected, printable, told
from gateway.cli.tag_list import tag_names, write_csv
from gateway.config import load_device
from gateway.config.one_device import OneDevice


def add_parser(subparsers: Any) -> None:
    """Add `browse` to the command line."""
    parser = subparsers.add_parser(
        "browse",
        help="list an OPC UA server's variables, a Modbus device's registers, or an MTConnect agent's data items",
        description="List what a device has, with present values; nothing is written. OPC UA: the variables below Objects, or below "
        "PATH: browse names (Press/Counters) or a node id. Modbus: the registers and bits that answer, of addresses 0 to 999 of each "
        "table, or of PATH: a table or a range (holding:400-499). MTConnect: the data items, or those that begin with PATH. "
        "With --csv tags are printed that a configuration takes.",
        epilog="example: lineside browse press.yaml press_plc Press/Counters --csv > press.csv   (then write `tags_csv: press.csv`)",
    )
    add_arguments(parser)
    parser.add_argument("path", nargs="?", default="", metavar="PATH")
    parser.add_argument("--csv", action="store_true", help="print tags for `tags_csv:` instead of a list for people")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when the whole way was gone, 1 when the link failed. Raises ConfigError and CommandError."""
    found = load_device(args.config, args.device)
    logs.configure(level=logging.CRITICAL)
    asyncio.run(_browse(found, args))
    return 0


async def _browse(one: OneDevice, args: argparse.Namespace) -> None:
    settings = one.settings
    progress = Progress()
    if settings.recorded:
        raise CommandError(f"{args.device} is a recording, which lists its own tags; look into the file of {settings.peer}")
    if DRIVERS[settings.driver].explorer is None:
        raise CommandError(
            f"a device of driver {settings.driver} cannot be browsed; write its tags from the maker's list", "the driver has no explorer"
        )
    async with connected(one, args.state_dir) as device:
        assert isinstance(device, Explorer)
        with told():
            batches = device.browse(args.path, progress)
            found = await (_collect(batches) if args.csv else _print_list(batches, progress))
    progress.clear()
    if args.csv:
        _print_csv(found)
    else:
        print(f"{len(found)} value{'' if len(found) == 1 else 's'}", file=sys.stderr)
    if isinstance(settings, ModbusSettings):
        from drivers.modbus_probe import ranges_of

        nothing = "nothing; name another range or table, and check unit_id"
        print(f"what answers: {', '.join(ranges_of(found)) or nothing}", file=sys.stderr)


async def _collect(batches: AsyncIterator[Sequence[Found]]) -> list[Found]:
    return [one async for batch in batches for one in batch]


async def _print_list(batches: AsyncIterator[Sequence[Found]], progress: Progress) -> list[Found]:
    listed: list[Found] = []
    async for batch in batches:
        progress.clear()
        for one in batch:
            shown = one.value if not one.remark else f"{one.value} ({one.remark})".lstrip()
            line = f"{one.path:<40}  {one.data_type:<11} {one.access:<2}  {shown:<24}  {one.tag.get('node', '')}"
            print(printable(line).rstrip())
        sys.stdout.flush()
        listed += batch
    return listed


def _print_csv(found: Sequence[Found]) -> None:
    tags = [one for one in found if one.tag]
    write_csv(sys.stdout, tag_names([one.path for one in tags]), [one.tag for one in tags])
    print(f"{len(tags)} tags", file=sys.stderr)
    left_out = [one for one in found if not one.tag]
    for remark, count in Counter(one.remark for one in left_out).most_common():
        first = next(one.path for one in left_out if one.remark == remark)
        print(printable(f"{count} left out: {remark} ({first}{' and others' if count > 1 else ''})"), file=sys.stderr)
