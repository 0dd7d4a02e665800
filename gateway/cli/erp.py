"""`lineside erp orders`: what an ERP would give the line now, taking nothing."""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.cli.connect import erp_port
from gateway.cli.errors import CommandError
from gateway.cli.exploring import printable
from gateway.cli.run import add_state_dir, default_state_dir
from gateway.clock import SystemClock
from gateway.config import Config, SecretError, load, read_secret
from gateway.config.problems import nearest
from gateway.domain.cloud_event import encode
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.instants import timestamp
from gateway.domain.job_order import Fact, JobOrder
from gateway.outbox.history import History
from gateway.outbox.statedir import StoreError
from gateway.seams import UplinkError
from gateway.uplink.erp.http_trial import HttpProbe
from gateway.uplink.erp.orders import known_revisions
from gateway.uplink.erp.port import ErpPort, Listing
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.settings import HttpSettings, MqttSettings

_FAILED = 1
_BOUND_S = 60.0
"""An ERP that is asked for all its open orders may take longer than one that is asked for news."""


@dataclass(frozen=True)
class Offer:
    """One line of the answer. `wish`: what the ERP wants of it. `problem`: why the line would not take it. `is_news`: the next poll would
    bring it; otherwise the line has it already as it stands."""

    wish: str
    work_unit: str | None
    job_order: JobOrder | None
    key: str | None = None
    problem: str | None = None
    is_news: bool = True


def add_parser(subparsers: Any) -> None:
    """Add `erp` to the command line."""
    parser = subparsers.add_parser(
        "erp",
        help="what an ERP would give the line: lineside erp orders",
        description="Ask the ERP of a configuration and change nothing, neither there nor here. The gateway may run meanwhile.",
        epilog="example: lineside erp orders /etc/lineside/lineside.yaml erp --state-dir /var/lib/lineside",
    )
    actions = parser.add_subparsers(dest="action", metavar="orders", required=True)
    orders = actions.add_parser(
        "orders",
        help="the orders that the next poll would take",
        description="List what the next poll would bring: orders that are new or have changed since the gateway took them last, each with "
        "what the ERP wants of it and why the line would not take it. Nothing is taken, no cursor and no file is moved.",
        epilog="example: lineside erp orders /etc/lineside/lineside.yaml erp --all",
    )
    orders.add_argument("config", type=Path, metavar="CONFIG")
    orders.add_argument("name", metavar="NAME", help="the ERP's name below `uplinks:`")
    orders.add_argument("--all", action="store_true", help="also those that the gateway has taken already")
    orders.add_argument("--json", action="store_true", help="one JSON object a line")
    add_state_dir(orders)
    orders.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises ConfigError; CommandError 1 for an ERP that cannot be asked, 2 for a name that is none."""
    config = load(args.config)
    settings = _settings(config, args.name)
    cursor, note = _cursor(args.state_dir or default_state_dir(), args.name)
    try:
        offers = asyncio.run(_asked(args.name, settings, config, cursor, everything=args.all))
    except SecretError as error:
        raise CommandError(str(error), error.expert, status=_FAILED) from error
    except UplinkError as error:
        remedy = error.remedy.en if error.remedy else "check its address, that it runs, and the network"
        raise CommandError(f"{args.name} gives no orders: {remedy}", str(error), status=_FAILED) from error
    except TimeoutError:
        raise CommandError(
            f"{args.name} gives no orders within {_BOUND_S:g} s; ask its administrator", "timed out", status=_FAILED
        ) from None
    offers = [_judged(offer, config) for offer in offers if args.all or offer.is_news]
    if note:
        print(note, file=sys.stderr)
    for line in _json(offers) if args.json else _lines(offers, args.name):
        print(line)
    return 0


def _settings(config: Config, name: str) -> HttpSettings | BookingSettings:
    if name not in config.uplinks:
        raise CommandError(f"there is no uplink {name}{nearest(name, config.uplinks)}", "not a key of `uplinks`")
    settings = config.uplinks[name]
    if isinstance(settings, MqttSettings):
        raise CommandError(f"{name} is a broker: whoever publishes orders there sends them, none can be listed; name an ERP", "type mqtt")
    return settings


def _cursor(state_dir: Path, uplink: str) -> tuple[str | None, str]:
    """Up to where the gateway has taken the orders, and what to say where that is not known."""
    try:
        with closing(History.open(state_dir)) as history:
            return history.order_cursor(uplink), ""
    except (StoreError, sqlite3.Error):
        return None, f"no journal in {state_dir}: asked as a gateway that has never taken an order; name it with --state-dir"


async def _asked(
    name: str, settings: HttpSettings | BookingSettings, config: Config, cursor: str | None, *, everything: bool
) -> list[Offer]:
    clock = SystemClock()
    async with clock.timeout(_BOUND_S):
        if isinstance(settings, HttpSettings):
            probe = HttpProbe(settings, gateway_id=config.gateway.id, clock=clock, secrets=read_secret)
            schedule = await probe.orders(None if everything else cursor)
            return [_of_command(item) for item in schedule.items]
        known = known_revisions(cursor, settings.type)
        return list(_of_listing(await _listed(erp_port(name, settings, config), known), known))


async def _listed(port: ErpPort, known: dict[str, str]) -> Listing:
    try:
        await port.connect()
        return await port.list_orders(known)
    finally:
        await port.disconnect()


def _of_command(item: Inbound) -> Offer:
    if isinstance(item, Refusal):
        return Offer("?", item.work_unit, None, item.command_id, item.problem.text)
    order = (JobOrder(item.job_order_id) if item.job_order_id else None) if isinstance(item, Fact) else item.job_order
    problem = None if item.work_unit is not None else "it names no work unit"
    return Offer(item.command.value, item.work_unit, order, item.command_id, problem)


def _of_listing(listing: Listing, known: dict[str, str]) -> Iterator[Offer]:
    for plan in listing.plans:
        yield Offer(plan.state.value, plan.work_unit, plan.job_order, plan.key, is_news=known.get(plan.key) != plan.revision)
    for refusal in listing.refusals:
        yield Offer("?", refusal.work_unit, None, refusal.command_id, refusal.problem.text)


def _judged(offer: Offer, config: Config) -> Offer:
    """Whether it is for this gateway at all."""
    if offer.problem is None and offer.work_unit not in config.work_units:
        return replace(offer, problem=f"there is no work unit {offer.work_unit} here{nearest(str(offer.work_unit), config.work_units)}")
    return offer


def _json(offers: Sequence[Offer]) -> Iterator[str]:
    yield from (encode(offer).decode() for offer in offers)


def _lines(offers: Sequence[Offer], name: str) -> Iterator[str]:
    if not offers:
        yield f"{name}: no order that the gateway has not taken"
        return
    rows = [["wish", "work unit", "order", "product", "quantity", "due", "customer", ""], *(_row(offer) for offer in offers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    refused = sum(offer.problem is not None for offer in offers)
    yield f"{name}: {len(offers)} order{'' if len(offers) == 1 else 's'}" + (f", {refused} of them not for this line" if refused else "")


def _row(offer: Offer) -> list[str]:
    order = offer.job_order
    remark = f"NOT TAKEN: {offer.problem}" if offer.problem else "" if offer.is_news else "taken already"
    if order is None:
        return [offer.wish, printable(offer.work_unit or "-"), "-", "-", "-", "-", "-", printable(remark)]
    customer = order.customer
    due = (customer.delivery_to if customer else None) or order.end_time
    cells = [
        offer.wish, offer.work_unit or "-", order.job_order_id, order.product_id or order.work_master_id or "-",
        "-" if order.quantity is None else f"{order.quantity:f} {order.unit}", timestamp(due) if due else "-",
        (customer.name if customer else None) or "-", remark,
    ]  # fmt: skip
    return [printable(cell) for cell in cells]
