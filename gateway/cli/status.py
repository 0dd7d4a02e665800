"""`lineside status`: the running gateway in a terminal, from its own `/api/status`."""

from __future__ import annotations

import argparse
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from gateway.cli.errors import CommandError

DEFAULT_URL = "http://127.0.0.1:8080"
_TIMEOUT_S = 5.0
_NOT_REACHED = 1
_LONGEST = 100_000
"""Bytes of a refusal that are read."""


def add_parser(subparsers: Any) -> None:
    """Add `status` to the command line."""
    parser = subparsers.add_parser(
        "status",
        help="the running gateway in a terminal",
        description="Print what the running gateway says of its machines, links and journal.",
        epilog="example: lineside status http://127.0.0.1:8080",
    )
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, metavar="URL", help=f"address of its page (default {DEFAULT_URL})")
    parser.add_argument("--json", action="store_true", help="print the JSON as it came")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises CommandError with status 1 when no gateway answers there."""
    body = fetch(args.url)
    if args.json:
        print(json.dumps(body, indent=2, ensure_ascii=False))
        return 0
    for line in summary(body):
        print(line)
    return 0


def fetch(url: str, path: str = "/api/status") -> dict[str, Any]:
    """The answer of the gateway at `url`. Raises CommandError, with its own sentence (status 2) where it refuses the question."""
    base = url if "://" in url else f"http://{url}"
    address = f"{base.rstrip('/')}{path}"
    try:
        # No proxy of the environment: the gateway is on this machine or this network.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(address, headers={"Accept": "application/json"}), timeout=_TIMEOUT_S) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as error:
        if (sentence := _refusal(error)) is not None:
            raise CommandError(sentence, f"HTTP {error.code} {error.reason}") from None
        raise CommandError(
            f"{base} answers, but not as a gateway; check the address", f"HTTP {error.code} {error.reason}", status=_NOT_REACHED
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(
            f"no gateway answers at {base}; is it running, and is this its address?", str(error), status=_NOT_REACHED
        ) from None
    except ValueError as error:
        raise CommandError(f"{base} does not answer as a gateway; check the address", str(error), status=_NOT_REACHED) from None
    if not isinstance(body, dict):
        raise CommandError(f"{base} does not answer as a gateway; check the address", "not a JSON object", status=_NOT_REACHED)
    return body


def _refusal(error: urllib.error.HTTPError) -> str | None:
    """What a gateway says of a question that it does not answer; None from anybody else."""
    try:
        said = json.loads(error.read(_LONGEST))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return str(said["error"]) if isinstance(said, dict) and "error" in said else None


def summary(body: Mapping[str, Any]) -> Iterator[str]:
    """Worst first: alerts, then machines, links, and what waits to leave."""
    now = _moment(body.get("at"))
    gateway = _map(body.get("gateway"))
    where = f"{gateway.get('enterprise', '?')}/{gateway.get('site', '?')}"
    yield f"{gateway.get('id', '?')}  {where}  lineside {gateway.get('version', '?')}  {body.get('at', '')}"
    alerts = [alert for alert in body.get("alerts", []) if isinstance(alert, dict)]
    language = gateway.get("language", "en")
    for alert in alerts:
        yield f"! {alert.get('severity', '')}: {_said(alert.get('text'), language)} {_said(alert.get('remedy'), language)}".rstrip()
    if not alerts:
        yield "no alerts"
    for unit in body.get("units", []):
        yield from _unit(unit, now)
    for link in body.get("links", []):
        error = f"  {link['error']}" if link.get("error") else ""
        since = f"since {_age(link.get('since'), now)}"
        yield f"link  {link.get('name', '?'):<16} {link.get('state', '?'):<13} {link.get('peer', '')}  {since}{error}"
    for uplink in body.get("uplinks", []):
        parked = f", {uplink['parked']} parked" if uplink.get("parked") else ""
        yield f"out   {uplink.get('name', '?'):<16} {uplink.get('rows', '?')} rows waiting{parked}"
    journal = _map(body.get("journal"))
    if journal:
        hours = journal.get("hours_left")
        left = "" if hours is None else f", room for {hours:.0f} h at the present rate"
        used = f"{_megabytes(journal.get('bytes'))} of {_megabytes(journal.get('cap_bytes'))}"
        yield f"disk  {journal.get('disk', '?')}, journal {used}{left}"


def _unit(unit: Mapping[str, Any], now: datetime | None) -> Iterator[str]:
    why = unit.get("reason") or (f"fault {unit['fault']}" if unit.get("fault") is not None else "")
    state = f"{unit.get('state', '?')}{f' ({why})' if why else ''}"
    kpi = _map(unit.get("kpi"))
    window = _map(kpi.get("shift") or kpi.get("hour"))
    figures = f"OEE {_share(window.get('oee'))}  made {_number(window.get('produced'))}  good {_number(window.get('good'))}"
    yield f"unit  {unit.get('work_unit', '?'):<16} {state} for {_age(unit.get('since'), now)}  {figures}"
    job = _map(unit.get("job"))
    if job:
        eta = f", ready {job['eta_likely']} ({job.get('verdict', '?')})" if job.get("eta_likely") else ""
        yield f"      {job.get('job_order_id', '?')}: {_number(job.get('good'))} of {_number(job.get('target'))}{eta}"


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _said(text: Any, language: str) -> str:
    return str(_map(text).get(language) or _map(text).get("en") or "") if isinstance(text, dict) else str(text or "")


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _age(since: Any, now: datetime | None) -> str:
    start = _moment(since)
    if start is None or now is None:
        return "?"
    seconds = max(0, int((now - start).total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"


def _share(value: Any) -> str:
    return f"{value * 100:.1f}%" if isinstance(value, int | float) else "–"


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}".rstrip("0")


def _megabytes(value: Any) -> str:
    return f"{value / 1e6:.0f} MB" if isinstance(value, int | float) else "?"
