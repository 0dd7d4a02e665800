"""A small ERP that speaks the gateway's HTTP contract: orders out, performance in, every event booked exactly once by id.

    GET  /work-schedule?gateway=ID&after=CURSOR   -> {"commands": [...], "cursor": "..."}
    POST /work-performance  {"events": [...]}     -> {"acknowledged": SEQUENCE, "epoch": "..."}

Both want `Authorization: Bearer TOKEN`. Its faults are those seen on real servers: the reply lost after booking, 500,
429 with Retry-After, slow answers, a refused event, an answer for half of the batch, nobody there.

    python -m simulators.erp --port 8090 --token demo      then GET /control/report, POST /control/faults
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from simulators.ledger_copy import LedgerCopy, Taken, parse_json, short_type, to_json
from simulators.loopback import HOST, free_port
from simulators.process import run_until_stopped
from simulators.work_plan import WorkPlan

_MAX_BODY = 64 * 1024 * 1024
_ORDERS_AHEAD = 2


class ErpFaults(BaseModel):
    """What goes wrong from now on; the default is nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop_every: int = 0
    """Every Nth answer to a performance report is lost after it was booked (2: every second one)."""
    status: int | None = None
    """Answer everything with this status instead: 500, 503, 429, 401, 403..."""
    retry_after_s: int | None = None
    """Retry-After sent with `status`."""
    delay_s: float = 0.0
    """Wait before each answer; the booking is done before the wait."""
    refuse_types: tuple[str, ...] = ()
    """Event types (`quality.result`) refused for good with 422; nothing of such a batch is booked."""
    refuse_ids: tuple[str, ...] = ()
    name_refused: bool = True
    """Whether a 422 says which events it means."""
    acknowledge_half: bool = False
    """Book and acknowledge only the first half of each batch of two and more."""


class Books:
    """What the ERP holds: the orders it sent out and every event it booked, once."""

    def __init__(self, plan: WorkPlan | None) -> None:
        self.copy = LedgerCopy()
        self.commands: list[dict[str, Any]] = []
        self.finished: list[str] = []
        """Job orders, in the order in which the ERP saw them end with their quantity made."""
        self._plan = plan
        if plan is not None:
            self.commands.extend(plan.first_orders())

    def schedule(self, after: str | None) -> dict[str, Any]:
        """Commands released since the cursor. Raises ValueError for a cursor this ERP never gave."""
        start = 0 if not after else int(after.removeprefix("c")) if after.startswith("c") else -1
        if not 0 <= start <= len(self.commands):
            raise ValueError(f"unknown cursor {after!r}")
        return {"commands": self.commands[start:], "cursor": f"c{len(self.commands)}"}

    def book(self, events: Sequence[Any]) -> None:
        """Book a batch; what is booked already changes nothing."""
        for event in events:
            if self.copy.take(event) is Taken.NEW:
                self._finish(event)

    def order_urgently(self, work_unit: str) -> dict[str, Any]:
        """The CRM's urgent order for a machine of the plan, sent with the next schedule. Raises KeyError for another machine."""
        if self._plan is None:
            raise KeyError(work_unit)
        command = self._plan.urgent_order(work_unit)
        self.commands.append(command)
        return command

    def order_of(self, job_order_id: str) -> dict[str, Any] | None:
        return next((c for c in self.commands if c["job_order"].get("job_order_id") == job_order_id), None)

    def report(self) -> dict[str, Any]:
        return {**self.copy.report(), "commands": len(self.commands), "finished": list(self.finished)}

    def _finish(self, event: Mapping[str, Any]) -> None:
        order_id, kind, data = event.get("subject"), short_type(event), event["data"]
        if not order_id or order_id in self.finished:
            return
        ended = kind == "job.progress" and data.get("final") is True
        ended = ended or (kind == "job.changed" and data.get("state") == "Ended")
        command = self.order_of(order_id)
        if not ended or command is None:
            return
        totals = self.copy.orders()[order_id]
        if totals["good"] >= command["job_order"].get("quantity", 0):
            self.finished.append(order_id)
            self._replenish(command["work_unit"])

    def _replenish(self, work_unit: str) -> None:
        open_orders = [c for c in self.commands if c["work_unit"] == work_unit and c["job_order"]["job_order_id"] not in self.finished]
        if self._plan is not None and len(open_orders) <= _ORDERS_AHEAD:
            self.commands.append(self._plan.next_order(work_unit))


class Erp:
    """The HTTP side. `start` after `stop` comes back on the same port with its books; `url` has no trailing slash."""

    def __init__(self, books: Books, token: str, *, host: str = HOST, port: int = 0) -> None:
        self.books = books
        self.host = host
        self.port = port or free_port()
        self.faults = ErpFaults()
        self.requests = {"work-schedule": 0, "work-performance": 0, "unauthorized": 0, "dropped_replies": 0, "repeated_keys": 0}
        self.violations: list[str] = []
        """What a gateway did against the contract; empty for a good one."""
        self._token = token
        self._keys: dict[str, bytes] = {}
        self._performance_count = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def up(self) -> bool:
        return self._runner is not None

    async def start(self) -> None:
        if self._runner is not None:
            return
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_get("/work-schedule", self._work_schedule)
        app.router.add_post("/work-performance", self._work_performance)
        add_control(app, self, "/control")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, self.host, self.port, reuse_address=True).start()
        self._runner = runner

    async def stop(self) -> None:
        """Nobody there: connections are refused until `start`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def report(self) -> dict[str, Any]:
        return {**self.books.report(), "requests": dict(self.requests), "violations": list(self.violations), "up": self.up}

    async def _work_schedule(self, request: web.Request) -> web.StreamResponse:
        self.requests["work-schedule"] += 1
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if not request.query.get("gateway"):
            return _answer(400, {"error": "gateway is missing"})
        try:
            body = self.books.schedule(request.query.get("after"))
        except ValueError as error:
            return _answer(400, {"error": str(error)})
        await asyncio.sleep(self.faults.delay_s)
        return _answer(200, body)

    async def _work_performance(self, request: web.Request) -> web.StreamResponse:
        self.requests["work-performance"] += 1
        if (refusal := self._refusal(request)) is not None:
            return refusal
        raw = await request.read()
        try:
            message = parse_json(raw)
            events = message["events"]
            ids = [event["id"] for event in events]
        except (ValueError, KeyError, TypeError):
            self.violations.append("a body that is not {events: [...]}")
            return _answer(400, {"error": "the body must be {events: [ledger event...]}"})
        if not events:
            self.violations.append("an empty batch")
            return _answer(400, {"error": "no events"})
        self._check_batch(request.headers.get("Idempotency-Key"), raw, events)
        if refused := [i for i, event in zip(ids, events, strict=True) if self._refuses(event)]:
            reasons = [{"id": i, "reason": "the period is closed"} for i in refused]
            return _answer(422, {"rejected": reasons} if self.faults.name_refused else {"error": "a business rule was broken"})
        return await self._book(request, events)

    async def _book(self, request: web.Request, events: list[dict[str, Any]]) -> web.StreamResponse:
        if self.faults.acknowledge_half and len(events) > 1:
            events = events[: len(events) // 2]
        self.books.book(events)
        faults = self.faults
        self._performance_count += 1
        if faults.drop_every and self._performance_count % faults.drop_every == 0:
            self.requests["dropped_replies"] += 1
            if request.transport is not None:
                request.transport.abort()
        await asyncio.sleep(faults.delay_s)
        return _answer(200, {"acknowledged": events[-1]["sequence"], "epoch": events[-1]["epoch"]})

    def _refusal(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            self.requests["unauthorized"] += 1
            return _answer(401, {"error": "a bearer token is required"})
        if self.faults.status is None:
            return None
        after = self.faults.retry_after_s
        headers = {} if after is None else {"Retry-After": str(after)}
        return _answer(self.faults.status, {"error": "on purpose"}, headers)

    def _refuses(self, event: Mapping[str, Any]) -> bool:
        return short_type(event) in self.faults.refuse_types or event["id"] in self.faults.refuse_ids

    def _check_batch(self, key: str | None, raw: bytes, events: list[dict[str, Any]]) -> None:
        """Note what breaks the contract: the key, its repetition with another body, the order inside the batch."""
        if key is None or key.split(";")[0] != events[-1]["id"]:
            self.violations.append(f"Idempotency-Key {key!r} is not the last event's id")
        else:
            digest = hashlib.sha256(raw).digest()
            known = self._keys.setdefault(key, digest)
            if known is not digest:
                self.requests["repeated_keys"] += 1
            if known != digest:
                self.violations.append(f"Idempotency-Key {key!r} came again with another body")
        sequences = [event.get("sequence", 0) for event in events if event.get("epoch") == events[-1].get("epoch")]
        if sequences != sorted(set(sequences)):
            self.violations.append(f"batch {key!r} is not in sequence order")


def _answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers=headers, dumps=to_json)


def add_control(app: web.Application, erp: Erp, prefix: str) -> None:
    """Routes by which a test or a person looks into the books and breaks the ERP; no token."""

    async def report(request: web.Request) -> web.Response:
        return _answer(200, erp.report())

    async def events(request: web.Request) -> web.Response:
        after = int(request.query.get("after", "0"))
        return _answer(200, {"events": erp.books.copy.events[after:]})

    async def commands(request: web.Request) -> web.Response:
        return _answer(200, {"commands": erp.books.commands})

    async def finished(request: web.Request) -> web.Response:
        return _answer(200, {"finished": erp.books.finished})

    async def faults(request: web.Request) -> web.Response:
        try:
            erp.faults = ErpFaults.model_validate_json(await request.read())
        except ValidationError as error:
            return _answer(400, {"error": str(error)})
        return _answer(200, {"ok": True})

    async def orders(request: web.Request) -> web.Response:
        try:
            command = parse_json(await request.text())
        except ValueError as error:
            return _answer(400, {"error": str(error)})
        if not isinstance(command, dict) or not isinstance(command.get("job_order"), dict) or "work_unit" not in command:
            return _answer(400, {"error": "a JobCommand with work_unit and job_order is needed"})
        erp.books.commands.append(command)
        return _answer(200, {"cursor": f"c{len(erp.books.commands)}"})

    async def urgent(request: web.Request) -> web.Response:
        try:
            return _answer(200, erp.books.order_urgently(str(parse_json(await request.text())["work_unit"])))
        except (ValueError, KeyError, TypeError):
            return _answer(400, {"error": "a work_unit of the plan is needed"})

    app.router.add_get(f"{prefix}/report", report)
    app.router.add_post(f"{prefix}/urgent", urgent)
    app.router.add_get(f"{prefix}/events", events)
    app.router.add_get(f"{prefix}/commands", commands)
    app.router.add_get(f"{prefix}/finished", finished)
    app.router.add_post(f"{prefix}/faults", faults)
    app.router.add_post(f"{prefix}/orders", orders)


async def _serve(args: argparse.Namespace, stopped: asyncio.Event) -> None:
    plan = None if args.no_plan else WorkPlan(lambda: datetime.now(UTC), speed=args.speed)
    erp = Erp(Books(plan), args.token, host=args.host, port=args.port)
    await erp.start()
    print(f"{erp.url}  token {args.token}  books at {erp.url}/control/report", flush=True)
    try:
        await stopped.wait()
    finally:
        await erp.stop()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.erp",
        description="A small ERP on HTTP that hands out orders and books what comes back, once.",
        epilog="example: python -m simulators.erp --port 8090 --token demo; curl http://127.0.0.1:8090/control/report",
    )
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=8090, help="0: a free one (default 8090)")
    parser.add_argument("--token", default="demo", help="bearer token the gateway must send (default demo)")
    parser.add_argument("--speed", type=float, default=1.0, help="plant speed: scales ideal times and dates of the plan")
    parser.add_argument("--no-plan", action="store_true", help="start without orders; POST /control/orders adds them")
    args = parser.parse_args(argv)
    return run_until_stopped(lambda stopped: _serve(args, stopped))


if __name__ == "__main__":
    sys.exit(main())
