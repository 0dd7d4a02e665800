"""The daemon under chaos, seen from outside: what its /metrics say and what its process holds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from simulators.loopback import HOST, free_port
from tests.system.line import die_with_parent

DEVICE, UNIT = "plc", "machine-01"

_CONFIG = """\
gateway: {{id: {name}, enterprise: acme, site: lyon, language: en, listen: "{listen}"}}
devices:
  {device}:
    driver: opcua
    url: opc.tcp://{host}:{port}
    security: {{insecure: true}}
    mode: {mode}
    interval: 100ms
    tags:
      total:   {{node: "nsu=urn:lineside:chaos;s=Counters.Total"}}
      running: {{node: "nsu=urn:lineside:chaos;s=State.Running"}}
      recipe:  {{node: "nsu=urn:lineside:chaos;s=Recipe.Number"}}
work_units:
  {unit}:
    area: hall
    work_center: line-1
    device: {device}
    ideal_cycle_time: 50ms
    state: {{from: bits, running: running}}
    counts: {{total: total}}
"""


def opcua_machine(name: str, port: int, listen: str, *, mode: str = "subscribe") -> str:
    """The configuration of a gateway with one machine on the OPC UA server (`opcua_plc`) at this port."""
    return _CONFIG.format(name=name, listen=listen, device=DEVICE, unit=UNIT, host=HOST, port=port, mode=mode)


@dataclass(frozen=True)
class Look:
    """One scrape. `counted`: pieces counted since the start; `up`: the link counts as connected or degraded."""

    counted: int
    up: bool
    refused_tags: int
    reconnects: int
    outages: int


POOL_THREADS = 2
"""The loop's pool (at most six threads on two cores) gets one more when two calls coincide for the first time; a leak gets more of them."""


@dataclass(frozen=True)
class Footprint:
    tasks: int
    files: int
    threads: int

    def is_like(self, first: Footprint) -> bool:
        """Nothing has been left behind since `first`."""
        return (self.tasks, self.files) == (first.tasks, first.files) and self.threads <= first.threads + POOL_THREADS


class Daemon:
    """`lineside run` as a process. `port`: where it looks for its PLC."""

    def __init__(self, folder: Path, port: int, http: aiohttp.ClientSession, *, mode: str = "subscribe") -> None:
        self._folder = folder
        self._listen = f"{HOST}:{free_port()}"
        self._http = http
        self._config = folder / "chaos.yaml"
        self._config.write_text(opcua_machine("chaos-pc", port, self._listen, mode=mode))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "gateway.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "run", "-c", str(self._config), "--state-dir", str(self._folder / "state"),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await self._scrape()
                    return
                await asyncio.sleep(0.1)

    async def look(self) -> Look:
        """Raises RuntimeError when the daemon has ended."""
        found = await self._scrape()
        return Look(
            counted=int(found("lineside_pieces_total", work_unit=UNIT, kind="produced")),
            up=any(found("lineside_link_state", link=DEVICE, state=state) for state in ("connected", "degraded")),
            refused_tags=int(found("lineside_link_refused_tags", link=DEVICE)),
            reconnects=int(found("lineside_link_reconnects_total", link=DEVICE)),
            outages=int(found("lineside_link_outages_total", link=DEVICE)),
        )

    async def footprint(self) -> Footprint:
        tasks = int((await self._scrape())("lineside_tasks"))
        process = Path(f"/proc/{self.process.pid}")
        return Footprint(tasks, len(os.listdir(process / "fd")), len(os.listdir(process / "task")))

    def memory_mib(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log(self) -> str:
        return (self._folder / "gateway.log").read_text("utf-8", "replace")

    def tracebacks(self) -> int:
        """How many tracebacks its log holds: each is an error nobody expected."""
        return self.log().count("Traceback")

    async def stop(self) -> int | None:
        """SIGTERM; its exit code, None when it had to be killed."""
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(15):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            return None

    @property
    def process(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            raise RuntimeError(f"the daemon ended by itself:\n{self.log()[-3000:]}")
        return self._process

    async def _scrape(self) -> Callable[..., float]:
        """Looks a sample up by its name and some of its labels; 0 where there is none."""
        _ = self.process
        async with self._http.get(f"http://{self._listen}/metrics", raise_for_status=True) as response:
            text = await response.text()
        wanted = [line for line in text.splitlines() if line.startswith(("lineside_link_", "lineside_pieces_", "lineside_tasks"))]
        samples = [s for family in text_string_to_metric_families("\n".join([*wanted, ""])) for s in family.samples]

        def value(name: str, **labels: str) -> float:
            return next((s.value for s in samples if s.name == name and labels.items() <= s.labels.items()), 0.0)

        return value
