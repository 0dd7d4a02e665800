"""`lineside read`: one reading of a device's tags, with what came over the wire; and what registers mean in every byte order."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from drivers.base import Explorer, Quality, Raw, TagError
from drivers.modbus_settings import ModbusSettings
from gateway import logs
from gateway.cli.errors import CommandError
from gateway.cli.exploring import add_arguments, connected, printable, told
from gateway.config import load_device
from gateway.config.one_device import OneDevice
from gateway.config.problems import nearest

if TYPE_CHECKING:
    from drivers.modbus_probe import ModbusExplorer

_SOME_BAD = 1


def add_parser(subparsers: Any) -> None:
    """Add `read` to the command line."""
    parser = subparsers.add_parser(
        "read",
        help="read a device once: value, quality, source time, raw registers",
        description="Connect, read the named tags (or all) once, and print value, quality, source time and what came over the wire. "
        "Exit code 1 when the link fails or a tag is bad. Modbus: --orders shows a 32-bit or 64-bit value in every byte order and "
        "type, and --registers the same for registers that are no tag yet.",
        epilog="example: lineside read packer.yaml packer_plc parts --orders   or   ... packer_plc --registers holding:100,2",
    )
    add_arguments(parser)
    parser.add_argument("tags", nargs="*", metavar="TAG", help="tags of the device (default: all)")
    parser.add_argument("--orders", action="store_true", help="Modbus: every byte order and type of values of 2 or 4 registers")
    parser.add_argument("--registers", metavar="TABLE:ADDRESS,COUNT", help="Modbus: these registers, whatever the configuration says")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when all that was asked is good, 1 when something is bad or the link failed. Raises ConfigError and CommandError."""
    one = load_device(args.config, args.device)
    settings, known = one.settings, one.tags
    if settings.recorded:
        raise CommandError(f"{args.device} is a recording and has no present value; look into the file of {settings.peer}")
    if (args.orders or args.registers) and not isinstance(settings, ModbusSettings):
        raise CommandError(f"{args.device} has no registers; --orders and --registers are for Modbus devices", f"driver {settings.driver}")
    for tag in args.tags:
        if tag not in known:
            raise CommandError(f"{args.device} has no tag {tag}{nearest(tag, known)}", f"not a key of devices.{args.device}.tags")
    if not known and not args.registers:
        raise CommandError(f"{args.device} has no tags yet; find some with lineside browse {args.config} {args.device}")
    logs.configure(level=logging.CRITICAL)
    return asyncio.run(_read(one, args, args.tags or known))


async def _read(one: OneDevice, args: argparse.Namespace, tags: Sequence[str]) -> int:
    async with connected(one, args.state_dir) as device:
        with told():
            if args.registers:
                return await _print_registers(device, args.registers)  # type: ignore[arg-type]
            found = await device.inspect(tags) if isinstance(device, Explorer) else [Raw(r, "") for r in await device.read(tags)]
            _print_readings(found)
            if args.orders:
                for tag in tags:
                    # Registers that the device does not have are told above.
                    with contextlib.suppress(TagError):
                        await _print_orders_of(device, one.settings, tag)  # type: ignore[arg-type]
    return _SOME_BAD if any(raw.reading.quality is Quality.BAD for raw in found) else 0


def _print_readings(found: Sequence[Raw]) -> None:
    width = max(len(raw.reading.tag) for raw in found)
    for reading, raw in found:
        value = "-" if reading.value is None else printable(str(reading.value))
        made_of = printable("; ".join(part for part in (reading.detail, raw) if part))
        print(f"{reading.tag:<{width}}  {value:<16}  {reading.quality:<9}  {_time(reading.source_time):<24}  {made_of}".rstrip())


def _time(at: datetime | None) -> str:
    return "no source time" if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _print_registers(device: ModbusExplorer, place: str) -> int:
    from drivers.modbus_probe import hexadecimal, parse_range

    table, first, last = parse_range(place)
    words = await device.fetch(table, first, last - first + 1)
    print(f"{table} {first}: {hexadecimal(table, words)}")
    _print_orders(table, words)
    return 0


async def _print_orders_of(device: ModbusExplorer, settings: ModbusSettings, tag: str) -> None:
    point = settings.tags[tag].point(tag)
    words = await device.fetch(point.table, point.address, point.width)
    print(f"\n{tag}: the configuration says {point.type}, {point.order}")
    _print_orders(point.table, words)


def _print_orders(table: str, words: Sequence[int]) -> None:
    from drivers.modbus_probe import every_order

    if table in ("coil", "discrete") or len(words) not in (2, 4):
        print("  byte orders are a question of values of 2 or 4 registers; these are read as they are")
        return
    rows: dict[str, list[str]] = {}
    types = []
    for order, type_, value in every_order(words):
        rows.setdefault(order, []).append(value)
        types.append(type_)
    columns = list(dict.fromkeys(types))
    print("  order " + "".join(f"  {type_:>22}" for type_ in columns))
    for order, values in rows.items():
        print(f"  {order:<6}" + "".join(f"  {value:>22}" for value in values))
