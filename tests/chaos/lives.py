"""What the rigs that kill, stop or starve the daemon share: machines that go on counting, configurations, and the daemon's lives."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.outbox.statedir import DATABASE
from simulators.ledger_copy import parse_json
from simulators.loopback import HOST, free_port
from tests.chaos.nursery import Nursery

UNITS = ("press-07", "packer-02")
PIECE_S = 0.2
"""Five pieces a second and machine."""

_TWO_MACHINES = """\
gateway: {{id: {name}, enterprise: acme, site: lyon, language: en, listen: "{host}:{page}"}}
devices:
  plc:
    driver: modbus
    url: tcp://{host}:{plc}
    interval: 50ms
    tags:
      press:  {{holding: 0, type: uint32}}
      packer: {{holding: 2, type: uint32}}
work_units:
  press-07: {{area: hall, work_center: line-1, device: plc, counts: {{total: press}}, {unit}}}
  packer-02: {{area: hall, work_center: line-1, device: plc, counts: {{total: packer}}, {unit}}}
uplinks:
"""
_UNIT = "ideal_cycle_time: 200ms, state: {from: counts}, dispatch: {end: at_quantity, next: auto}"
_ONE_MACHINE = """\
gateway: {{id: {name}, enterprise: acme, site: lyon, language: en, listen: "{listen}"}}
devices:
  plc: {{driver: modbus, url: "tcp://{host}:{plc}", interval: {interval}, tags: {{parts: {{holding: 0, type: uint32}}}}}}
work_units:
  press-07: {{area: a, work_center: c, device: plc, ideal_cycle_time: 200ms, state: {{from: counts}}, counts: {{total: parts}}}}
"""
_CONSUMED = """uplinks:
  plant: {{type: mqtt, urls: ["mqtt://{host}:{broker}"], consumers: [mes]}}
"""


def two_machines(name: str, plc: int, **uplinks: str) -> str:
    """The configuration of a gateway with two machines on the PLC at this port, which take orders one after the other.

    `uplinks`: each one's settings, as YAML in one line.
    """
    head = _TWO_MACHINES.format(name=name, host=HOST, page=free_port(), plc=plc, unit=_UNIT)
    return head + "".join(f"  {uplink}: {settings}\n" for uplink, settings in uplinks.items())


def one_machine(name: str, plc: int, *, listen: str = "", interval: str = "50ms", broker: int | None = None) -> str:
    """The configuration of a gateway with one machine; with a broker's port the consumer `mes` is behind it."""
    text = _ONE_MACHINE.format(name=name, host=HOST, listen=listen or f"{HOST}:{free_port()}", plc=plc, interval=interval)
    return text if broker is None else text + _CONSUMED.format(host=HOST, broker=broker)


class Plc:
    """Two counters on Modbus TCP that rise with time while `making`, and stand else."""

    def __init__(self) -> None:
        self.port = free_port()
        self.making = False
        self._made = 0.0
        self._at = time.monotonic()
        self._server: ModbusTcpServer | None = None

    @property
    def made(self) -> int:
        """Of each machine."""
        now = time.monotonic()
        self._made += (now - self._at) / PIECE_S if self.making else 0.0
        self._at = now
        return int(self._made)

    async def start(self) -> None:
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        words = [SimData(0, count=16, datatype=DataType.REGISTERS, readonly=True)]
        device = SimDevice(id=1, simdata=(bits, bits, words, words), action=self._refresh)
        self._server = ModbusTcpServer(device, address=(HOST, self.port))
        await self._server.serve_forever(background=True)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.shutdown()

    async def _refresh(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        if function == 3:
            registers[:4] = [self.made >> 16, self.made & 0xFFFF] * 2
        return None


class Lives:
    """Of one daemon, below `folder`: it is started on the same configuration and state again and again. What goes wrong becomes a sentence
    of `violations`."""

    def __init__(self, folder: Path, nursery: Nursery, config: Path, *, back_s: float) -> None:
        self.state_dir = folder / "state"
        self.violations: list[str] = []
        self._log = folder / "gateway.log"
        self._nursery = nursery
        self._config = config
        self._back_s = back_s

    async def start(self) -> int:
        """The process id of the new life."""
        return await self._nursery.start(self._log, "run", "-c", str(self._config), "--state-dir", str(self.state_dir))

    async def kill(self, pid: int, where: str = "at the start") -> None:
        status = await self._nursery.kill(pid)
        if status != -9:
            self.violations.append(f"{where}: the daemon had ended by itself with {status}\n{self._last_words()}")

    async def term(self, pid: int) -> None:
        """The last life's end."""
        if (status := await self._nursery.term(pid)) != 0:
            self.violations.append(f"the last life ended with {status} instead of 0\n{self._last_words()}")

    async def until(self, true: Callable[[], bool], what: str) -> bool:
        """Whether it came within `back_s`."""
        deadline = time.monotonic() + self._back_s
        while not true():
            if time.monotonic() > deadline:
                self.violations.append(f"{what} did not come within {self._back_s:g} s\n{self._last_words()}")
                return False
            await asyncio.sleep(0.01)
        return True

    async def settled(self, differences: Callable[[], list[str]], limit_s: float) -> None:
        """Wait until everything is the same everywhere; what is not by then is a violation."""
        deadline = time.monotonic() + limit_s
        while (found := differences()) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        self.violations += found

    def rows(self) -> int:
        """How many were ever written."""
        if not (self.state_dir / DATABASE).exists():
            return 0
        with self._database() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
            return row[0] if row else 0

    def journal(self) -> list[dict[str, Any]]:
        with self._database() as connection:
            return [parse_json(body) for (body,) in connection.execute("SELECT body FROM journal ORDER BY position")]

    def _database(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"file:{self.state_dir / DATABASE}?mode=ro", uri=True, timeout=5.0))

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-12:])
