"""`lineside record`: what the machines say from now on, from the running gateway into a file that `lineside replay` reads."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, Any

from drivers.settings import parse_duration
from gateway.cli.errors import CommandError
from gateway.cli.status import DEFAULT_URL

_SILENT_S = 20.0
"""The gateway writes an empty line every few seconds; without one it is gone."""


def add_parser(subparsers: Any) -> None:
    """Add `record` to the command line."""
    parser = subparsers.add_parser(
        "record",
        help="write what the machines say into a file for replay",
        description="Write what the machines say from now on into a recording (CSV: at,device,tag,value,quality): first the present value "
        "of every tag, then each change. Asks the running gateway, so no machine is asked twice. Ctrl-C ends it.",
        epilog="example: lineside record --for 10min --device press_plc fault.csv   then: lineside replay CONFIG fault.csv",
    )
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, metavar="URL", help=f"address of the gateway's page (default {DEFAULT_URL})")
    parser.add_argument("file", type=Path, metavar="FILE.csv")
    parser.add_argument("--for", dest="length", metavar="TIME", help="end by itself after this time, for example 90s, 10min, 2h")
    parser.add_argument("--device", metavar="NAME", help="this device alone (default: all)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0. Raises CommandError: 2 for a wrong argument or a file that cannot be made, 1 when no gateway answers there."""
    base = (args.url if "://" in args.url else f"http://{args.url}").rstrip("/")
    query = {} if args.device is None else {"device": args.device}
    if args.length is not None:
        try:
            query["seconds"] = str(parse_duration(args.length))
        except ValueError as error:
            raise CommandError(f"--for {args.length!r}: {error}", "example: --for 10min") from None
    # No proxy of the environment: the gateway is on this machine or this network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base}/api/readings?{urllib.parse.urlencode(query)}", timeout=_SILENT_S) as answer:
            if answer.headers.get_content_type() != "text/csv":
                raise CommandError(
                    f"{base} does not answer as a gateway; check the address", answer.headers["Content-Type"] or "", status=1
                )
            with _new(args.file) as file:
                print(f"recording from {base} into {args.file}; Ctrl-C ends it", file=sys.stderr)
                rows = _save(answer, file)
    except urllib.error.HTTPError as error:
        raise _refused(base, error) from None
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"no gateway answers at {base}; is it running, and is this its address?", str(error), status=1) from None
    print(f"{rows} readings in {args.file}; next: lineside replay CONFIG {args.file}", file=sys.stderr)
    return 0


def _new(path: Path) -> IO[bytes]:
    try:
        return path.open("xb")
    except FileExistsError:
        raise CommandError(f"{path} exists; give another name, or remove it", "a recording is never overwritten") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}; check folder and rights", str(error)) from None


def _save(answer: http.client.HTTPResponse, file: IO[bytes]) -> int:
    """Whole lines only, so that the file can be replayed whenever it ends; returns how many readings. Ctrl-C is a good end."""
    lines = 0
    with contextlib.suppress(KeyboardInterrupt):
        for line in answer:
            if line == b"\n":
                # A sign of life; a good moment to have everything on disk.
                file.flush()
            elif line.endswith(b"\n"):
                file.write(line)
                lines += 1
    return max(lines - 1, 0)


def _refused(base: str, error: urllib.error.HTTPError) -> CommandError:
    """What the gateway itself says is wrong, else that it is none (or an older one)."""
    try:
        said = json.load(error)
        why, devices = said["error"], ", ".join(said["devices"])
    except (ValueError, KeyError, TypeError):
        return CommandError(f"{base} answers, but does not record; check the address", f"HTTP {error.code} {error.reason}", status=1)
    return CommandError(f"the gateway at {base} records nothing: {why}; its devices are {devices}", f"HTTP {error.code}")
