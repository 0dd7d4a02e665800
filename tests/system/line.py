"""A whole line of processes for the system tests: mosquitto, the simulated plant, and the daemon as it is run on a line PC."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.cli.demo_books import Reconciliation, reconcile
from gateway.cli.demo_plant import demo_config
from gateway.outbox.statedir import DATABASE
from simulators.loopback import HOST, free_port

SPEED = 5.0
BASE = "lineside/v1/acme/lyon"
GATEWAY = "_gateway/demo-pc"
UNITS = {"press-07": "stamping/line-3/press-07", "packer-02": "packing/line-3/packer-02"}
COUNTERS = tuple(f"{UNITS[unit]}/tag/{tag}" for unit, tag in (("press-07", "parts"), ("press-07", "rejects"), ("packer-02", "parts")))

Event = dict[str, Any]

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Line:
    """`state_dir` holds the journal, `folder` everything else. The machines stand still until `switch_on`.

    `edit` changes the daemon's configuration (the parsed YAML) before it is written.
    """

    def __init__(
        self,
        folder: Path,
        http: aiohttp.ClientSession,
        *,
        speed: float = SPEED,
        edit: Callable[[dict[str, Any]], None] = lambda config: None,
    ) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.config = folder / "line.yaml"
        self.page = f"http://{HOST}:{free_port()}"
        self.broker_port = free_port()
        self.daemon: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.environment: dict[str, str] = {}
        """What the daemon's environment has beside that of the tests."""
        self._speed = speed
        self._edit = edit
        self._http = http
        self._broker: asyncio.subprocess.Process | None = None
        self._plant: asyncio.subprocess.Process | None = None
        self._control = ""

    # --- processes ----------------------------------------------------------------------------------------------------

    async def start_broker(self) -> None:
        """A mosquitto that keeps nothing across its own end."""
        program = shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
        if program is None:
            pytest.fail("mosquitto is needed: apt-get install mosquitto")
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.broker_port} {HOST}\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n")
        self._broker = await self._spawn("broker", program, "-c", str(config))
        await eventually(self._broker_listens, 30)

    async def kill_broker(self) -> None:
        """SIGKILL: sessions, queues and retained messages are lost with it."""
        assert self._broker is not None
        await _kill(self._broker)

    async def start_plant(self, *options: str) -> None:
        token, ports = self.folder / "erp.token", self.folder / "ports.json"
        token.write_text("system-test")
        command = [
            sys.executable,
            "-m",
            "simulators.plant",
            "--halted",
            "--broker",
            f"{HOST}:{self.broker_port}",
            "--speed",
            str(self._speed),
        ]
        command += ["--token-file", str(token), "--ports-file", str(ports), *options]
        self._plant = await self._spawn("plant", *command)
        await eventually(lambda: _true(ports.exists()), 60)
        addresses = json.loads(ports.read_text())
        self._control = addresses["control"]
        text = demo_config(
            speed=self._speed,
            language="en",
            listen=self.page.removeprefix("http://"),
            press_url=addresses["press_plc"],
            packer_url=addresses["packer_plc"],
            erp_url=addresses["erp"],
            broker_url=addresses["broker"],
            protocol="auto",
            token=f"{{file: {json.dumps(str(token))}}}",
        )
        tree = yaml.safe_load(text)
        self._edit(tree)
        self.config.write_text(yaml.safe_dump(tree, sort_keys=False))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "gateway", *words]

    async def start_daemon(self) -> None:
        """Start it and return at once; `ready` waits."""
        self.starts += 1
        self.daemon = await self._spawn("gateway", *self.command("run", "-c", str(self.config), "--state-dir", str(self.state_dir)))

    async def kill_daemon(self) -> None:
        """SIGKILL: the process has no say in it."""
        await _kill(self.alive())

    async def stop_daemon(self) -> int:
        """SIGTERM, as systemd does; its exit code."""
        daemon = self.alive()
        daemon.terminate()
        async with asyncio.timeout(20):
            return await daemon.wait()

    def alive(self) -> asyncio.subprocess.Process:
        """The daemon. Fails the test when it ended by itself."""
        assert self.daemon is not None
        assert self.daemon.returncode is None, f"the daemon ended by itself with {self.daemon.returncode}:\n{self.log('gateway')}"
        return self.daemon

    async def ready(self) -> None:
        await eventually(self.is_ready, 60)

    async def is_ready(self) -> bool:
        """200 of `/readyz`."""
        self.alive()
        try:
            async with self._http.get(f"{self.page}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def log(self, name: str) -> str:
        return "\n".join((self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()[-40:])

    async def end(self) -> None:
        """Leave nothing running, whatever went wrong; the daemon gets a chance to say so in its log."""
        if self.daemon is not None and self.daemon.returncode is None:
            self.daemon.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(8):
                    await self.daemon.wait()
        for process in (self.daemon, self._plant, self._broker):
            if process is not None:
                await _kill(process)

    async def _spawn(self, name: str, *command: str) -> asyncio.subprocess.Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(self.environment if name == "gateway" else {})},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    async def _broker_listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, self.broker_port)
        except OSError:
            return False
        writer.close()
        return True

    # --- the plant ----------------------------------------------------------------------------------------------------

    async def switch_on(self, seconds: float = 60.0) -> None:
        """Once the gateway has its baselines, so that every piece from now on is its to count."""
        await eventually(self.counters_are_read, seconds)
        for unit in UNITS:
            await self.post(f"/machines/{unit}", {"do": "release"})

    async def switch_off(self) -> None:
        for unit in UNITS:
            await self.post(f"/machines/{unit}", {"do": "halt"})

    async def counters_are_read(self) -> bool:
        self.alive()
        retained = await self.get("/mes/retained")
        return all((retained.get(topic) or {}).get("quality") == "good" for topic in COUNTERS)

    async def made(self, unit: str, pieces: int, seconds: float = 120.0) -> None:
        """Wait until the machine has made so many pieces since the plant was started."""

        async def enough() -> bool:
            return int((await self.get("/state"))["machines"][unit]["made"]["produced"]) >= pieces

        await eventually(enough, seconds)

    async def spoil(self, kind: str, *links: str) -> None:
        """Set the fault proxies of these links, of all where none is named."""
        for link in links or ("press_plc", "packer_plc", "erp", "broker"):
            await self.post(f"/faults/{link}", {"kind": kind})

    async def get(self, path: str) -> Any:
        async with self._http.get(self._control + path, raise_for_status=True) as response:
            return await response.json()

    async def post(self, path: str, message: Any) -> None:
        async with self._http.post(self._control + path, json=message, raise_for_status=True):
            return

    async def ask_page(self, path: str) -> tuple[int, Any]:
        """Status and body (JSON decoded where it is JSON) of the daemon's own page."""
        async with self._http.get(f"{self.page}{path}") as response:
            return response.status, await (response.json() if "json" in response.content_type else response.text())

    async def settle(self, seconds: float = 120.0) -> tuple[Reconciliation, dict[str, Any]]:
        """Wait until every place has the same; the last comparison and the plant's own account, equal or not."""
        last: tuple[Reconciliation, dict[str, Any]] | None = None

        async def equal() -> bool:
            nonlocal last
            self.alive()
            state = await self.get("/state")
            try:
                last = reconcile(state, self.state_dir), state
            except sqlite3.Error:
                return False
            return not last[0].differences()

        with contextlib.suppress(TimeoutError):
            await eventually(equal, seconds)
        assert last is not None, "the journal could not be read"
        return last


async def eventually(true: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Ask five times a second; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.2)


async def _true(value: bool) -> bool:
    return value


async def _kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to the whole group of a process; it may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def die_with_parent() -> None:
    """A test run that is itself killed takes its processes along."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@asynccontextmanager
async def standing_line(
    folder: Path,
    *plant_options: str,
    speed: float = SPEED,
    edit: Callable[[dict[str, Any]], None] = lambda config: None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Line]:
    """Broker, plant and daemon up and ready; the machines stand still."""
    folder.mkdir(parents=True, exist_ok=True)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        line = Line(folder, http, speed=speed, edit=edit)
        line.environment.update(environment or {})
        try:
            await line.start_broker()
            await line.start_plant(*plant_options)
            await line.start_daemon()
            await line.ready()
            yield line
        finally:
            await line.end()


@asynccontextmanager
async def whole_line(folder: Path, *plant_options: str, **options: Any) -> AsyncIterator[Line]:
    """Broker, plant and daemon up, both counters read, machines switched on."""
    async with standing_line(folder, *plant_options, **options) as line:
        await line.switch_on()
        yield line


# --- what must be true at the end ---------------------------------------------------------------------------------------


async def assert_equal_everywhere(line: Line, *, at_least: int, seconds: float = 120.0) -> list[Event]:
    """Pieces at PLC = journal = MES = ERP, each event once with one content, no hole, order kept; then a clean end.

    -> the ledger, in the order in which the MES got it.
    """
    await line.switch_off()
    result, state = await line.settle(seconds)
    table = "\n".join(result.table())
    assert result.differences() == [], f"{table}\n{line.log('gateway')}"
    for unit in UNITS:
        assert result.pieces["PLC"][unit][0] >= at_least, f"{unit} made too few pieces for this test to mean anything\n{table}"
    for place in ("mes", "erp"):
        assert state[place]["clean"], {key: state[place][key] for key in ("conflicts", "invalid", "out_of_order", "holes")}
        assert len(state[place]["epochs"]) == 1, "a restart must go on in the same epoch"
    assert state["erp"]["violations"] == []
    assert await line.stop_daemon() == 0, line.log("gateway")
    ledger = await same_ledger_everywhere(line)
    for event in of_type(ledger, "quantity.counted"):
        data = event["data"]
        assert data["produced"] == data["good"] + data["scrap"] + data["rework"], event
    return ledger


async def same_ledger_everywhere(line: Line, seconds: float = 20.0) -> list[Event]:
    """After the daemon's end: journal, MES and ERP hold the same events, 1 to N. -> them, in the MES's order."""
    in_journal = {event["id"]: event for event in journal_events(line.state_dir)}
    assert sorted(event["sequence"] for event in in_journal.values()) == list(range(1, len(in_journal) + 1))
    ledger: list[Event] = []
    for place in ("erp", "mes"):
        ledger = (await line.get(f"/{place}/events"))["events"]
        # What the daemon said in its last moment may still be in the journal alone: delivery is at its next start.
        held = {event["id"]: event for event in ledger}
        assert len(held) == len(ledger)
        wrong = [event_id for event_id, event in held.items() if in_journal.get(event_id) != event]
        assert wrong == [], f"{place} holds something else than the journal: {wrong[:5]}"
        assert [event["sequence"] for event in ledger] == list(range(1, len(ledger) + 1)), f"{place} got them in another order"
    return ledger


def journal_events(state_dir: Path) -> list[Event]:
    """The ledger as it is on disk."""
    with closing(sqlite3.connect(f"file:{state_dir / DATABASE}?mode=ro", uri=True, timeout=5.0)) as connection:
        return [json.loads(body) for (body,) in connection.execute("SELECT body FROM journal ORDER BY position")]


def of_type(events: list[Event], kind: str, unit: str | None = None) -> list[Event]:
    """Events of one type (`job.changed`), of one work unit where it is named."""
    return [event for event in events if event["type"] == f"lineside.{kind}.v1" and (unit is None or event["source"].endswith(f"/{unit}"))]


def units_with_late_pieces(events: list[Event]) -> set[str]:
    return {event["source"].rsplit("/", 1)[-1] for event in of_type(events, "quantity.counted") if event["data"]["late"]}
