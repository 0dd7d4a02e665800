"""`lineside check`: every mistake of a configuration, a one-screen summary of a right one, and with --connect each link once."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import logging
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drivers
import gateway
from drivers.opcua_settings import OpcUaSettings
from gateway import logs
from gateway.cli.run import default_state_dir
from gateway.config import Config, check_secrets, load
from gateway.config.cautions import unit_cautions
from gateway.config.schema import AnyDeviceSettings, AnyUplinkSettings, written_duration
from gateway.domain.equipment import StateFromBits, StateFromCodes, StateFromCounts, StateFromOrder, StateFromPackML, WorkUnit
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.kinds import peer_of
from gateway.uplink.settings import HttpSettings, is_loopback

_LINK_FAILED = 1
_STATE_FROM = {
    StateFromBits: "bits", StateFromCodes: "codes", StateFromCounts: "counts", StateFromOrder: "order", StateFromPackML: "packml",
}  # fmt: skip


def add_parser(subparsers: Any) -> None:
    """Add `check` to the command line."""
    parser = subparsers.add_parser(
        "check",
        help="validate a configuration; with --connect also try every link once",
        description="Validate a configuration without connecting to anything. Exit code 0, or 2 with every mistake: file, line, field, "
        "value, remedy. With --connect also try each device and uplink once; exit code 1 when one fails.",
        epilog="example: lineside check /etc/lineside/lineside.yaml --connect",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("--connect", action="store_true", help="connect to every device and read all its tags, log in to every uplink")
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="with --connect: where certificates are (default: $STATE_DIRECTORY, else ./state)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when all is well, 1 when a link fails. Raises ConfigError."""
    config = load(args.config)
    check_secrets(config)
    for line in summary(config):
        print(line)
    notes = list(cautions(config))
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    for index, note in enumerate(notes):
        label = "notes     " if index == 0 else " " * 10
        print(textwrap.fill(note, width, initial_indent=f"{label}- ", subsequent_indent=" " * 12))
    if not args.connect:
        return 0
    # What a link says goes into its own line below, not into a log between the lines.
    logs.configure(level=logging.CRITICAL)
    # Only now: a configuration alone is checked without waiting for the protocol stacks to load.
    from gateway.cli.connect import try_links

    failed = 0
    for trial in asyncio.run(try_links(config, args.state_dir or default_state_dir())):
        print(trial)
        failed += not trial.works
    return _LINK_FAILED if failed else 0


def summary(config: Config) -> Iterator[str]:
    """Who, what and where in a few lines."""
    files = f"{len(config.files)} file{'s' if len(config.files) > 1 else ''}"
    yield f"{config.path}: no mistakes ({files}, digest {config.digest[:12]})"
    site = config.gateway
    yield f"gateway   {site.id}: {site.enterprise}/{site.site}, {site.time_zone}, page http://{site.listen}/"
    for label, (name, device) in _labelled("devices", config.devices):
        yield f"{label}{name}: {device.peer}, {_tag_count(device)}, every {written_duration(device.interval)}"
    for label, (name, unit) in _labelled("units", config.work_units):
        yield f"{label}{name}: {unit.area}/{unit.work_center}, {_unit(unit)}"
    for label, (name, uplink) in _labelled("uplinks", config.uplinks):
        yield f"{label}{name}: {_uplink(uplink)}"


def _labelled(label: str, named: Any) -> Iterator[tuple[str, tuple[str, Any]]]:
    for index, item in enumerate(named.items()):
        yield (f"{label:<10}" if index == 0 else " " * 10), item


def _tag_count(device: AnyDeviceSettings) -> str:
    count = len(device.tags)
    return f"{count} tag{'s' if count != 1 else ''}" if count else "the tags of its recording"


def _unit(unit: WorkUnit) -> str:
    counted = [name for name in ("total", "good", "reject", "rework", "cycles") if getattr(unit.counts, name) is not None]
    counted = [f"total of {', '.join(unit.counts.by_product)}", *counted] if unit.counts.by_product else counted
    ideal = "no ideal time" if unit.ideal_cycle_time_s is None else f"ideal {float(unit.ideal_cycle_time_s):g} s"
    if unit.ideal_tag is not None:
        ideal = f"ideal time from {unit.ideal_tag.tag}, else {ideal}"
    counts = f"counts {', '.join(counted)}" if counted else "production is declared by hand"
    return f"state from {_STATE_FROM.get(type(unit.state), 'machinery')}, {counts}, {ideal}"


def _uplink(uplink: AnyUplinkSettings) -> str:
    if isinstance(uplink, HttpSettings | BookingSettings):
        return f"{peer_of(uplink)}, orders every {written_duration(uplink.interval)}"
    others = f" and {len(uplink.urls) - 1} more" if len(uplink.urls) > 1 else ""
    waits = f", rows wait for {', '.join(uplink.consumers)}" if uplink.consumers else ""
    return f"{peer_of(uplink)}{others}, {uplink.root}{waits}"


def cautions(config: Config) -> Iterator[str]:
    """What is allowed and still deserves a look."""
    for name, unit in config.work_units.items():
        yield from (f"{name}: {caution}" for caution in unit_cautions(unit, has_orders=bool(config.uplinks)))
    if "time_zone" not in config.gateway.model_fields_set:
        yield "gateway: no time_zone: shifts, hours and the page are in UTC"
    used = {config.resolve(unit, reference)[0] for unit, references in config.unit_tags.items() for reference in references}
    for name, device in config.devices.items():
        if name not in used:
            yield f"{name}: no work unit uses this device; its tags go to the bulk topic only"
        if isinstance(device, OpcUaSettings) and device.security.insecure:
            yield f"{name}: no security on this OPC UA link; a permanent alert says so"
        elif isinstance(device, OpcUaSettings) and device.security.server_certificate is None:
            yield f"{name}: no server_certificate: the PLC is believed once somebody trusts its certificate (lineside pki list)"
    if not config.uplinks:
        yield "no uplinks: everything stays on this machine and on its page"
    for name, uplink in config.uplinks.items():
        if uplink.plain_text():
            yield f"{name}: secrets and data cross the network in plain text; a permanent alert says so"
        if isinstance(uplink, HttpSettings) and not uplink.has_proof():
            yield f"{name}: no token: the ERP is asked without one"
        if isinstance(uplink, HttpSettings | BookingSettings) and uplink.dry_run:
            yield f"{name}: dry_run: nothing is sent to the ERP, the service's log says what would be"
    if not is_loopback(config.gateway.address[0]):
        yield f"the page at {config.gateway.listen} is open to the network; it is read-only"
    yield from foreign_drivers()


def foreign_drivers() -> Iterator[str]:
    """Whether another distribution owns a top-level `drivers` package: two owners overwrite each other silently."""
    owners = {name for name in importlib.metadata.packages_distributions().get("drivers", []) if name != "lineside"}
    if owners:
        yield (
            f"{', '.join(sorted(owners))} also installs a package called drivers and may overwrite ours; "
            "give lineside a virtual environment of its own"
        )
    home = Path(str(gateway.__file__)).parents[1]
    found = Path(str(drivers.__file__)).parents[1]
    if found != home:
        yield f"the drivers in use come from {found}, not from {home}; give lineside a virtual environment of its own"
