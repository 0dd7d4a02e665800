"""`lineside reason`: a person's reason for a stop, given to the running gateway as the fact ExplainStop over its broker."""

from __future__ import annotations

import argparse
import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.cli.errors import CommandError
from gateway.clock import SystemClock
from gateway.config import Config, SecretError, load, read_secret
from gateway.config.problems import nearest
from gateway.seams import UplinkError
from gateway.uplink.settings import MqttSettings

_REFUSED = 1


def add_parser(subparsers: Any) -> None:
    """Add `reason` to the command line."""
    parser = subparsers.add_parser(
        "reason",
        help="give the reason of a stop, through the broker",
        description="Give a reason of the configuration to a stop of a work unit: the one that goes on, or the one that held --at in the "
        "last 48 hours. It explains the whole stop. The running gateway is reached through the broker of its own configuration.",
        epilog="example: lineside reason press-07 coil_change -c /etc/lineside/lineside.yaml --at 2026-11-24T09:40+01:00",
    )
    parser.add_argument("unit", nargs="?", metavar="UNIT", help="the work unit")
    parser.add_argument("reason", nargs="?", metavar="REASON", help="a name of `reasons:`")
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="CONFIG")
    parser.add_argument("--at", metavar="TIME", help="an instant of the stop, ISO 8601 with offset (default: now)")
    parser.add_argument("--by", metavar="NAME", help="who says so")
    parser.add_argument("--list", action="store_true", help="print the reasons that there are, and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises CommandError with status 1 when the gateway refuses or does not answer, 2 for a wrong argument."""
    config = load(args.config)
    if args.list:
        for line in listed(config):
            print(line)
        return 0
    if args.unit is None or args.reason is None:
        raise CommandError("a work unit and a reason are needed; see the reasons with --list", "UNIT and REASON are missing")
    _known(args.unit, config.work_units, "work unit", "work_units")
    _known(args.reason, config.work_units[args.unit].reasons, "reason", "reasons")
    name, broker = _broker(config)
    fact = {
        "command": "ExplainStop", "command_id": f"reason-{uuid.uuid4()}", "at": _at(args.at).isoformat(), "reason": args.reason,
        **({"by": args.by} if args.by else {}),
    }  # fmt: skip
    answer = asyncio.run(_send(config, name, broker, args.unit, fact))
    problem = answer.get("problem")
    if isinstance(problem, dict):
        raise CommandError(f"{args.unit}: {problem.get('text')}; check --at and the reason", str(problem.get("code")), status=_REFUSED)
    print(f"{args.unit}: the stop at {fact['at']} is {args.reason}")
    return 0


def listed(config: Config) -> Iterator[str]:
    """The reasons that a stop can be given; they are the same on every work unit."""
    unit = next(iter(config.work_units.values()))
    width = max((len(code) for code in unit.reasons), default=0)
    for code, reason in unit.reasons.items():
        text = reason.text.fr if config.gateway.language == "fr" else reason.text.en
        yield f"{code:<{width}}  {reason.reason_class:<10}  {text}"
    if not unit.reasons:
        yield "the configuration has no reasons; add them under `reasons:`"


def _known(name: str, known: Any, what: str, section: str) -> None:
    if name not in known:
        raise CommandError(f"there is no {what} {name}{nearest(name, list(known))}", f"not a key of `{section}`")


def _broker(config: Config) -> tuple[str, MqttSettings]:
    for name, uplink in config.uplinks.items():
        if isinstance(uplink, MqttSettings):
            return name, uplink
    raise CommandError(
        "this configuration has no broker, and a reason reaches the gateway through one; add an uplink of type mqtt, or let the ERP or MES "
        "send ExplainStop",
        "no uplink of type mqtt",
    )


def _at(text: str | None) -> datetime:
    if text is None:
        return SystemClock().now()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise CommandError("--at is no time; write it with its offset, for example 2026-11-24T09:40+01:00", f"given {text!r}")
    return at.astimezone(UTC)


async def _send(config: Config, name: str, broker: MqttSettings, unit: str, fact: dict[str, Any]) -> dict[str, Any]:
    """The gateway's answer, over the first address that is reached."""
    # Only now: what is wrong with the arguments is told without waiting for the protocol stacks to load.
    from gateway.app.parts import make_topics
    from gateway.uplink.fact_sender import NoAnswerError, send_fact
    from gateway.uplink.trial import log_in

    topics, clock, trouble = make_topics(config, broker.root), SystemClock(), ""
    for address in broker.addresses():
        try:
            connection = await log_in(
                broker, address, client_id=f"{config.gateway.id}-{name}-{fact['command_id'][-12:]}", clock=clock, secrets=read_secret
            )
        except SecretError as error:
            raise CommandError(str(error), error.expert) from None
        except UplinkError as error:
            trouble = str(error)
            continue
        try:
            command, response = (topics.full(topics.unit(unit, leaf)) for leaf in ("command", "response"))
            return await send_fact(connection, command, response, fact, clock=clock)
        except NoAnswerError as error:
            raise CommandError(
                "the broker has the reason, and no gateway answers; check that lineside runs with this configuration", str(error),
                status=_REFUSED,
            ) from None  # fmt: skip
        except UplinkError as error:
            trouble = str(error)
        finally:
            await connection.close()
    raise CommandError(
        f"the broker of `{name}` cannot be used; check that it runs, the network and the user's rights", trouble, status=_REFUSED
    )
