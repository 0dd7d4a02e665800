"""`lineside outbox`: what waits for each uplink, what a peer refused and why, and what a person decides about it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import getpass
import json
import os
import pwd
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.cli.errors import CommandError
from gateway.cli.run import add_state_dir, default_state_dir
from gateway.clock import SystemClock
from gateway.config import Config, load
from gateway.domain.cloud_event import encode
from gateway.outbox.look import Outbox, Row, Waiting
from gateway.outbox.requests import FOLDER, Request, Result, leave
from gateway.outbox.statedir import LOCK, StoreError

ANSWER_S = 15.0
"""The running gateway looks once a second; one that has not answered by then hangs, or its disk is full."""
_FAILED = 1
_SHOWN = 20


def add_parser(subparsers: Any) -> None:
    """Add `outbox` and what it does to the command line."""
    parser = subparsers.add_parser(
        "outbox",
        help="what waits for each uplink: list, show, requeue, drop, export",
        description="Look at the rows that wait for an uplink or that its peer refused, try them again, or give them up. "
        "The gateway may run meanwhile: it does then what is asked.",
        epilog="example: lineside outbox list -c /etc/lineside/lineside.yaml",
    )
    does = parser.add_subparsers(dest="does", metavar="list|show|requeue|drop|export", required=True)
    _command(
        does, "list", "pending and refused rows of each uplink", "lineside outbox list -c lineside.yaml --uplink erp", _list, many=True
    )
    show = _command(does, "show", "one row with its message", "lineside outbox show line-pc-07:4f3113a319:81643 -c lineside.yaml", _show)
    show.add_argument("id", metavar="ID")
    requeue = _command(does, "requeue", "try refused rows again", "lineside outbox requeue --all -c lineside.yaml", _requeue)
    drop = _command(
        does, "drop", "give rows up: the peer never gets them", "lineside outbox drop --all --uplink erp -c lineside.yaml", _drop
    )
    for chosen in (requeue, drop):
        chosen.add_argument("ids", nargs="*", metavar="ID", help="rows, as `lineside outbox list` prints them")
        chosen.add_argument("--all", action="store_true", help="every refused row")
    drop.add_argument("--yes", action="store_true", help="do not ask")
    drop.add_argument("--reason", default="dropped by hand", help="why, for the ledger")
    export = _command(does, "export", "messages as JSON lines", "lineside outbox export -c lineside.yaml --output rows.jsonl", _export)
    export.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    export.add_argument("--everything", action="store_true", help="every row that the journal still keeps, delivered or not")


def _command(
    does: Any, name: str, text: str, example: str, act: Callable[[argparse.Namespace], int], *, many: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = does.add_parser(name, help=text, description=text.capitalize() + ".", epilog=f"example: {example}")
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="CONFIG")
    add_state_dir(parser)
    if name != "show":
        parser.add_argument("--uplink", metavar="NAME", help="of this uplink alone")
    if many:
        parser.add_argument("--limit", type=int, default=_SHOWN, metavar="N", help=f"pending rows shown of each uplink (default {_SHOWN})")
        parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.set_defaults(run=act)
    return parser


# -- looking


def _list(args: argparse.Namespace) -> int:
    with _opened(args) as outbox:
        for uplink in _uplinks(args, outbox):
            rows = [*outbox.apart(uplink), *outbox.pending(uplink, max(args.limit, 0))]
            if args.json:
                sys.stdout.buffer.writelines(encode(asdict(row)) + b"\n" for row in rows)
            else:
                print("\n".join(_table(outbox.waiting(uplink), rows)))
    return 0


def _table(waiting: Waiting, rows: Sequence[Row]) -> Iterator[str]:
    oldest = "" if waiting.oldest is None else f", the oldest of {waiting.oldest:%Y-%m-%d %H:%M:%S} UTC"
    yield f"{waiting.uplink}: {waiting.rows} rows ({waiting.bytes} bytes) wait{oldest}; {waiting.apart} refused"
    for row in rows:
        yield f"  {row.state:<11}  {row.id}  {row.at:%Y-%m-%d %H:%M:%S}  {row.work_unit or '-'}  {row.type}  {row.reason}".rstrip()
    if waiting.rows > (shown := sum(row.state == "pending" for row in rows)):
        yield f"  and {waiting.rows - shown} pending rows more"


def _show(args: argparse.Namespace) -> int:
    with _opened(args) as outbox:
        found = outbox.found(args.id)
    if found is None:
        raise CommandError(
            f"the journal has no row {args.id}; take the id as `lineside outbox list` prints it", "unknown id", status=_FAILED
        )
    rows, body = found
    for row in rows:
        print(f"{row.uplink}: {row.state}{f', {row.reason}' if row.reason else ''}")
    print(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    return 0


def _export(args: argparse.Namespace) -> int:
    with _opened(args) as outbox, _output(args.output) as file:
        count = 0
        for body in outbox.bodies(_uplinks(args, outbox), everything=args.everything):
            file.write(body + b"\n")
            count += 1
    if args.output is not None:
        print(f"{count} rows in {args.output}")
    return 0


@contextlib.contextmanager
def _opened(args: argparse.Namespace) -> Iterator[Outbox]:
    state_dir, config = _state_dir(args), load(args.config)
    try:
        with Outbox(state_dir, tuple(config.uplinks)) as outbox:
            yield outbox
    except FileNotFoundError as error:
        raise CommandError(
            f"there is no journal in {state_dir}; name the gateway's state directory with --state-dir", str(error)
        ) from error
    except sqlite3.Error as error:
        raise CommandError("the journal cannot be read; look at the disk, then start the command again", str(error)) from error


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        file = path.open("wb")
    except OSError as error:
        raise CommandError(f"{path} cannot be written; choose another --output", str(error.strerror)) from error
    with file:
        yield file


def _state_dir(args: argparse.Namespace) -> Path:
    return args.state_dir or default_state_dir()


def _uplinks(args: argparse.Namespace, outbox: Outbox) -> tuple[str, ...]:
    if args.uplink is None:
        return outbox.uplinks
    if args.uplink not in outbox.uplinks:
        raise CommandError(f"there is no uplink {args.uplink}; the configuration has {', '.join(outbox.uplinks)}", "not a key of `uplinks`")
    return (args.uplink,)


# -- deciding


def _requeue(args: argparse.Namespace) -> int:
    rows = _chosen(args)
    if not rows and args.all:
        print("no row is refused; nothing to do")
        return 0
    result = _ask(args, Request(do="requeue", uplink=args.uplink, ids=tuple(args.ids), everything=args.all, by=_account()))
    print(f"{len(result.done)} rows are tried again, at once where the peer is there")
    return _untouched(result)


def _drop(args: argparse.Namespace) -> int:
    rows = _chosen(args)
    if not rows and args.all:
        print("no row is refused; nothing to do")
        return 0
    if not args.yes and not _confirmed(rows):
        print("nothing was dropped")
        return _FAILED
    # By their ids: what is refused after the question was not agreed to.
    ids = tuple(dict.fromkeys(row.id for row in rows))
    result = _ask(args, Request(do="drop", uplink=args.uplink, ids=ids, reason=args.reason, by=_account()))
    print(f"{len(result.done)} rows were given up; each is in the ledger as row.dropped")
    return _untouched(result)


def _chosen(args: argparse.Namespace) -> list[Row]:
    """The rows that are meant, as the journal has them now. Raises CommandError for an id that it does not have."""
    if bool(args.ids) == args.all:
        raise CommandError("name rows by their ids, or say --all", "either ID... or --all")
    with _opened(args) as outbox:
        uplinks = _uplinks(args, outbox)
        if args.all:
            return [row for uplink in uplinks for row in outbox.apart(uplink)]
        chosen = []
        for row_id in args.ids:
            found = outbox.found(row_id)
            if found is None:
                raise CommandError(
                    f"the journal has no row {row_id}; take the id as `lineside outbox list` prints it", "unknown id", status=_FAILED
                )
            chosen += [row for row in found[0] if row.uplink in uplinks and row.state != "delivered"]
        return chosen


def _confirmed(rows: Sequence[Row]) -> bool:
    for row in rows[:_SHOWN]:
        print(f"  {row.uplink}  {row.id}  {row.work_unit or '-'}  {row.type}  {row.reason}".rstrip())
    if len(rows) > _SHOWN:
        print(f"  and {len(rows) - _SHOWN} more")
    try:
        answer = input(f"Drop these {len(rows)} rows? Their receiver never gets them. [y/N] ")
    except EOFError:
        raise CommandError("dropping rows asks first, and nobody is there to answer; say --yes", "standard input is at its end") from None
    return answer.strip().lower() in ("y", "yes", "o", "oui")


def _untouched(result: Result) -> int:
    for row_id in result.untouched:
        print(f"{row_id}: not refused, or delivered meanwhile; left as it is", file=sys.stderr)
    return _FAILED if result.untouched and not result.done else 0


def _account() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _ask(args: argparse.Namespace, request: Request) -> Result:
    """By the running gateway, else in its place. Raises CommandError when it was not done."""
    state_dir, config = _state_dir(args), load(args.config)
    _own(state_dir)
    if _is_running(state_dir):
        result = asyncio.run(_by_gateway(state_dir, request))
    else:
        result = asyncio.run(_in_its_place(config, state_dir, request))
    if result.problem is not None:
        raise CommandError(result.problem, "refused by the gateway", status=_FAILED)
    return result


def _own(state_dir: Path) -> None:
    """A file that another account leaves in the state directory could not be used by the gateway."""
    owner = state_dir.stat().st_uid
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = str(owner)
        raise CommandError(
            f"the state directory belongs to {name}; run this command as that account, for example: sudo -u {name} lineside outbox ...",
            f"{state_dir}: uid {owner}, not {os.geteuid()}",
        )


def _is_running(state_dir: Path) -> bool:
    try:
        with (state_dir / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def _by_gateway(state_dir: Path, request: Request) -> Result:
    clock, path = SystemClock(), state_dir / FOLDER / f"{uuid.uuid4()}.json"
    answer = path.with_suffix(".answer")
    try:
        path.parent.mkdir(mode=0o750, exist_ok=True)
        leave(path, request)
    except OSError as error:
        raise CommandError("the request cannot be left for the gateway; look at the disk", f"{path}: {error.strerror}") from error
    try:
        async with clock.timeout(ANSWER_S):
            while not answer.exists():
                await clock.sleep(0.1)
        return Result.model_validate_json(answer.read_bytes())
    except TimeoutError:
        raise CommandError(
            "the running gateway does not answer; look at its page, and at `lineside outbox list` for what it did",
            f"no answer within {ANSWER_S:.0f} s",
            status=_FAILED,
        ) from None
    finally:
        for left in (path, answer):
            left.unlink(missing_ok=True)


async def _in_its_place(config: Config, state_dir: Path, request: Request) -> Result:
    """No gateway runs: this process is the one writer for a moment."""
    # Only now: looking needs none of it.
    from gateway.app.parts import gateway_path
    from gateway.metrics import Metrics
    from gateway.outbox.alone import Alone
    from gateway.outbox.recorder import Recorder
    from gateway.outbox.requests import apply
    from gateway.outbox.store import Store

    clock, metrics = SystemClock(), Metrics()
    try:
        store = await Store.open(state_dir, uplinks=tuple(config.uplinks), clock=clock, settings=config.journal)
    except StoreError as error:
        french = config.gateway.language == "fr"
        sentence = f"{error.problem.fr} {error.remedy.fr}" if french else f"{error.problem.en} {error.remedy.en}"
        raise CommandError(sentence, str(error)) from error
    try:
        recorder = Recorder(
            store, gateway_id=config.gateway.id, source_of=lambda unit: gateway_path(config), clock=clock, metrics=metrics,
            snapshots=lambda: (), after_commit=lambda entries: None,
        )  # fmt: skip
        writing = asyncio.create_task(recorder.run(), name="writer")
        hands: Mapping[str, Alone] = {name: await Alone.of(name, store, recorder, clock, metrics) for name in config.uplinks}
        result = await apply(request, hands, store)
        saved = await recorder.drain(ANSWER_S)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    finally:
        await store.close()
    if not saved:
        raise CommandError("nothing can be written; look at the disk, then start the command again", recorder.disk_error, status=_FAILED)
    return result
