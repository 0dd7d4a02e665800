"""A whole line of processes for the system tests: mosquitto, the simulated plant, and the daemon as it is run on a line PC."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.cli.demo_books import Reconciliation, reconcile
from gateway.cli.demo_plant import demo_config
from simulators.loopback import HOST, free_port

SPEED = 5.0
COUNTERS = ("stamping/line-3/press-07/tag/parts", "stamping/line-3/press-07/tag/rejects", "packing/line-3/packer-02/tag/parts")
UNITS = ("press-07", "packer-02")


class Line:
    """`state_dir` holds the journal, `folder` everything else. The machines stand still until `switch_on`."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.page = f"http://{HOST}:{free_port()}"
        self.broker: asyncio.subprocess.Process | None = None
        self.daemon: asyncio.subprocess.Process | None = None
        self.starts = 0
        self._http = http
        self._broker_port = free_port()
        self._plant: asyncio.subprocess.Process | None = None
        self._control = ""
        self._config = folder / "line.yaml"

    async def start_broker(self) -> None:
        program = shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
        if program is None:
            pytest.fail("mosquitto is needed: apt-get install mosquitto")
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self._broker_port} {HOST}\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n")
        self.broker = await self._spawn("broker", program, "-c", str(config))
        await eventually(self._broker_listens, 10)

    async def start_plant(self) -> None:
        token = self.folder / "erp.token"
        token.write_text("system-test")
        ports = self.folder / "ports.json"
        options = ["--halted", "--broker", f"{HOST}:{self._broker_port}", "--speed", str(SPEED), "--token", "system-test"]
        self._plant = await self._spawn(
            "plant", sys.executable, "-m", "simulators.plant", *options, "--ports-file", str(ports), "--exit-with-stdin"
        )
        await eventually(lambda: _ready(ports.exists()), 20)
        addresses = json.loads(ports.read_text())
        self._control = addresses["control"]
        self._config.write_text(
            demo_config(
                speed=SPEED,
                language="en",
                listen=self.page.removeprefix("http://"),
                press_url=addresses["press_plc"],
                packer_url=addresses["packer_plc"],
                erp_url=addresses["erp"],
                broker_url=addresses["broker"],
                protocol="auto",
                token=f"{{file: {json.dumps(str(token))}}}",
            )
        )

    async def start_daemon(self) -> None:
        """Start it and return at once; `ready` waits."""
        self.starts += 1
        command = [sys.executable, "-m", "gateway", "run", "-c", str(self._config), "--state-dir", str(self.state_dir)]
        self.daemon = await self._spawn("gateway", *command)

    async def kill_daemon(self) -> None:
        """SIGKILL: the process has no say in it."""
        daemon = self._alive()
        daemon.kill()
        await daemon.wait()

    async def stop_daemon(self) -> int:
        """SIGTERM, as systemd does; its exit code."""
        daemon = self._alive()
        daemon.terminate()
        async with asyncio.timeout(20):
            return await daemon.wait()

    async def ready(self) -> None:
        await eventually(self._is_ready, 30)

    async def switch_on(self) -> None:
        """Once the gateway has its baselines, so that every piece from now on is its to count."""
        await eventually(self._counters_are_read, 30)
        for unit in UNITS:
            await self.post(f"/machines/{unit}", {"do": "release"})

    async def switch_off(self) -> None:
        for unit in UNITS:
            await self.post(f"/machines/{unit}", {"do": "halt"})

    async def settle(self, seconds: float = 60.0) -> tuple[Reconciliation, dict[str, Any]]:
        """Wait until every place has the same; the last comparison and the plant's own account, equal or not."""
        last: tuple[Reconciliation, dict[str, Any]] | None = None

        async def equal() -> bool:
            nonlocal last
            self._alive()
            state = await self.get("/state")
            try:
                last = reconcile(state, self.state_dir), state
            except sqlite3.Error:
                return False
            return not last[0].differences()

        try:
            await eventually(equal, seconds)
        except TimeoutError:
            assert last is not None, "the journal could not be read"
        assert last is not None
        return last

    async def get(self, path: str) -> Any:
        async with self._http.get(self._control + path, raise_for_status=True) as response:
            return await response.json()

    async def post(self, path: str, message: Any) -> None:
        async with self._http.post(self._control + path, json=message, raise_for_status=True):
            return

    def log(self, name: str) -> str:
        return "\n".join((self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()[-30:])

    async def end(self) -> None:
        """Leave nothing running, whatever went wrong; the daemon gets a chance to say so in its log."""
        if self.daemon is not None and self.daemon.returncode is None:
            self.daemon.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(8):
                    await self.daemon.wait()
        for process in (self.daemon, self._plant, self.broker):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()

    async def _spawn(self, name: str, *command: str) -> asyncio.subprocess.Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log)

    async def _broker_listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self._broker_port)
        except OSError:
            return False
        writer.close()
        return True

    def _alive(self) -> asyncio.subprocess.Process:
        assert self.daemon is not None
        assert self.daemon.returncode is None, f"the daemon ended by itself with {self.daemon.returncode}:\n{self.log('gateway')}"
        return self.daemon

    async def _is_ready(self) -> bool:
        self._alive()
        try:
            async with self._http.get(f"{self.page}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def _counters_are_read(self) -> bool:
        self._alive()
        retained = await self.get("/mes/retained")
        return all((retained.get(topic) or {}).get("quality") == "good" for topic in COUNTERS)


async def eventually(true: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Ask five times a second; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.2)


async def _ready(value: bool) -> bool:
    return value


@asynccontextmanager
async def whole_line(folder: Path) -> AsyncIterator[Line]:
    """Broker, plant and daemon up, both counters read, machines switched on."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        line = Line(folder, http)
        try:
            await line.start_broker()
            await line.start_plant()
            await line.start_daemon()
            await line.ready()
            await line.switch_on()
            yield line
        finally:
            await line.end()


async def assert_equal_everywhere(line: Line, *, at_least: int) -> dict[str, Any]:
    """Pieces at PLC = journal = MES = ERP, no id with two contents, no hole, order kept; then a clean end. The plant's account."""
    await line.switch_off()
    result, state = await line.settle()
    assert result.differences() == [], "\n".join(result.table())
    for unit in UNITS:
        assert result.pieces["PLC"][unit][0] >= at_least, f"{unit} made too few pieces for this test to mean anything"
    for place in ("mes", "erp"):
        assert state[place]["clean"], {key: state[place][key] for key in ("conflicts", "invalid", "out_of_order", "holes")}
        assert {e["first"] for e in state[place]["epochs"].values()} == {1}
        assert len(state[place]["epochs"]) == 1, "a restart must go on in the same epoch"
    assert await line.stop_daemon() == 0, line.log("gateway")
    return state
