"""The example server of the documentation, started as its page says, beside the daemon: replies are lost, both are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from jsonschema import ValidationError

from gateway.outbox.statedir import DATABASE
from simulators.loopback import HOST, free_port
from tests.uplink.exchange import check_reply, check_request

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "docs/erp/example-server"
CONFIG = """
gateway: {{id: line-pc-07, enterprise: acme, site: lyon, time_zone: Europe/Paris, listen: "127.0.0.1:{page}"}}
devices: {{rec: {{driver: replay, file: r.csv}}}}
work_units:
  post-01: {{area: hall, work_center: line-1, state: {{from: order}}, ideal_cycle_time: 1s}}
uplinks:
  erp: {{type: http, url: "http://127.0.0.1:{proxy}", token: {{file: erp.token}}, interval: 200ms, dry_run: {dry_run}}}
"""


class Losing:
    """Stands between both: every second reply to a posting and every third to a question is lost after the ERP has done its work."""

    def __init__(self, target: str) -> None:
        self.port = 0
        self.wrong: list[str] = []
        """What the published document does not know, of either side."""
        self.posted: Counter[str] = Counter()
        self._target = target
        self._seen: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=4_000_000)
        app.router.add_route("*", "/{path}", self._pass_on)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        async with aiohttp.ClientSession() as self._session:
            await runner.setup()
            site = web.TCPSite(runner, HOST, 0)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            yield
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._checked(check_request, request.method, request.path, request.query, request.headers, body)
        headers = {name: value for name, value in request.headers.items() if name in ("Authorization", "Idempotency-Key", "Content-Type")}
        try:
            async with self._session.request(request.method, self._target + request.path_qs, data=body, headers=headers) as reply:
                status, payload = reply.status, await reply.read()
        except aiohttp.ClientError:
            return web.Response(status=502)
        self._checked(check_reply, request.method, request.path, status, payload)
        self._seen[request.method] += 1
        if request.method == "POST":
            self.posted.update(event["id"] for event in json.loads(body)["events"])
        if self._seen[request.method] % {"POST": 2, "GET": 3}[request.method] == 0:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=status, body=payload)

    def _checked(self, check: Any, *exchange: Any) -> None:
        try:
            check(*exchange)
        except (ValidationError, AssertionError, KeyError, ValueError) as error:
            # It fails the test at its end, not this request.
            self.wrong.append(f"{exchange[0]} {exchange[1]}: {error}"[:2000])


class Plant:
    """A post where people declare what they made; its orders and declarations come through the example server's file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server_port = free_port()
        self.page = free_port()
        self._lines = 0
        (folder / "orders.jsonl").write_text("")
        (folder / "r.csv").write_text("at,device,tag,value,quality\n2026-11-24T09:00:00Z,rec,parts,5,good\n")
        (folder / "erp.token").write_text("demo\n")

    def server_command(self) -> list[str]:
        """As its page says, on a free port."""
        page = (EXAMPLE / "README.md").read_text()
        (line,) = [line.strip() for line in page.splitlines() if line.startswith("    python server.py")]
        words = shlex.split(line.replace("8070", str(self.server_port)))
        return [sys.executable, str(EXAMPLE / "server.py"), *words[2:]]

    async def start(self, command: list[str], log: str) -> asyncio.subprocess.Process:
        with (self.folder / log).open("ab") as out:
            return await asyncio.create_subprocess_exec(*command, cwd=self.folder, stdout=out, stderr=out)

    def daemon_command(self, proxy: int, *, dry_run: bool = False) -> list[str]:
        config = self.folder / "line.yaml"
        config.write_text(CONFIG.format(page=self.page, proxy=proxy, dry_run=str(dry_run).lower()))
        return [sys.executable, "-m", "gateway", "run", "-c", str(config), "--state-dir", str(self.folder / "state")]

    def order(self, command: dict[str, Any]) -> None:
        self._lines += 1
        with (self.folder / "orders.jsonl").open("a") as file:
            file.write(json.dumps({"command_id": f"c-{self._lines}", "work_unit": "post-01", **command}) + "\n")

    def make(self, order: str, pieces: list[tuple[int, int]]) -> None:
        """An order from its start to its end, with what people declare in between (good, scrap)."""
        now = datetime.now(UTC)
        issued = now.isoformat()
        self.order({"command": "StoreAndStart", "issued_at": issued, "job_order": {"job_order_id": order, "quantity": 10}})
        for number, (good, scrap) in enumerate(pieces):
            at = (now + timedelta(milliseconds=number)).isoformat()
            self.order({"command": "DeclareProduction", "at": at, "job_order_id": order, "good": good, "scrap": scrap})
        self.order({"command": "Stop", "issued_at": issued, "job_order": {"job_order_id": order}})

    def books(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.folder / 'books.db'}?mode=ro", uri=True)) as books:
            return books.execute(sql).fetchall()

    def journal(self) -> list[str]:
        with closing(sqlite3.connect(f"file:{self.folder / 'state' / DATABASE}?mode=ro", uri=True)) as journal:
            return [row[0] for row in journal.execute("SELECT id FROM journal ORDER BY position")]

    async def booked(self, expected: list[tuple[str, float, float]]) -> None:
        await self.until(lambda: self.books("SELECT job_order_id, good, scrap FROM produced ORDER BY job_order_id") == expected)

    async def told_everything(self) -> None:
        await self.until(lambda: self.books("SELECT count(*) FROM events") == [(len(self.journal()),)])

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(sqlite3.Error):  # not there yet, or locked
                    if condition():
                        return
                await asyncio.sleep(0.1)


async def test_everything_is_booked_once_though_replies_are_lost_and_both_are_killed(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    losing = Losing(f"http://{HOST}:{plant.server_port}")
    processes: list[asyncio.subprocess.Process] = []

    async def started(command: list[str], log: str) -> asyncio.subprocess.Process:
        processes.append(await plant.start(command, log))
        return processes[-1]

    async def killed(process: asyncio.subprocess.Process) -> None:
        process.kill()
        await process.wait()

    async with losing.running():
        try:
            server = await started(plant.server_command(), "server.log")
            daemon = await started(plant.daemon_command(losing.port), "daemon.log")
            plant.make("OF-1", [(3, 0), (4, 1), (2, 0)])
            await plant.booked([("OF-1", 9, 1)])
            await killed(daemon)
            plant.make("OF-2", [(1, 1)] * 20)
            daemon = await started(plant.daemon_command(losing.port), "daemon.log")
            await plant.booked([("OF-1", 9, 1), ("OF-2", 20, 20)])
            await killed(server)
            plant.make("OF-3", [(5, 0)] * 10)
            server = await started(plant.server_command(), "server.log")
            await plant.booked([("OF-1", 9, 1), ("OF-2", 20, 20), ("OF-3", 50, 0)])
            await plant.told_everything()
            daemon.terminate()
            assert await daemon.wait() == 0
        finally:
            for process in processes:
                if process.returncode is None:
                    await killed(process)
    assert losing.wrong == []
    assert max(losing.posted.values()) > 1, "some postings came twice, else nothing was proved"
    booked = [row[0] for row in plant.books("SELECT id FROM events ORDER BY rowid")]
    assert len(booked) > 50
    assert booked == plant.journal()[: len(booked)], "each once, in order, without a hole"


async def test_a_dry_run_logs_everything_and_books_nothing_until_it_is_over(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    server = await plant.start(plant.server_command(), "server.log")
    daemon = await plant.start(plant.daemon_command(plant.server_port, dry_run=True), "dry.log")
    try:
        plant.make("OF-1", [(3, 0), (4, 1)])
        log = tmp_path / "dry.log"
        await plant.until(lambda: len(plant.journal()) > 8 and log.read_text().count("event_withheld") == len(plant.journal()))
        daemon.terminate()
        assert await daemon.wait() == 0
        assert plant.books("SELECT count(*) FROM events") == [(0,)]
        assert all(id_ in log.read_text() for id_ in plant.journal()[:8])
        daemon = await plant.start(plant.daemon_command(plant.server_port), "daemon.log")
        await plant.booked([("OF-1", 7, 1)])
        await plant.told_everything()
    finally:
        for process in (server, daemon):
            if process.returncode is None:
                process.kill()
                await process.wait()


def test_it_stays_small() -> None:
    code = [line for line in (EXAMPLE / "server.py").read_text().splitlines() if line.strip() and not line.startswith(("import ", "from "))]
    assert len(code) <= 60
