"""Four small presses behind one Modbus PLC, fast enough that an order takes a second or two. Each keeps its own account of every order.

An operator reads the order's number from the gateway's page and starts the press with it; the press stops by itself when the good pieces
are made. Its counters go on whatever becomes of the gateway.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.loopback import HOST, free_port

CYCLE_S = 0.2
_STEP_S = 0.02
_REJECT_SHARE = 0.12
_REGISTERS_EACH = 10


@dataclass
class Account:
    """What a press made for one order: `ran_s` of its own running time."""

    good: int = 0
    scrap: int = 0
    ran_s: float = 0.0


class SmallPress:
    """`order`: what it works at, None: it stands."""

    def __init__(self, seed: int) -> None:
        self.accounts: dict[str, Account] = {}
        self.order: str | None = None
        self.total = 40_000
        self.rejects = 300
        self._wanted = 0
        self._due_s = CYCLE_S
        self._chance = random.Random(seed)

    def begin(self, order: str, wanted: int) -> None:
        """The operator types the order; one that was made already is made no more."""
        if order not in self.accounts:
            self.accounts[order] = Account()
            self.order, self._wanted, self._due_s = order, wanted, CYCLE_S

    def advance(self, seconds: float) -> None:
        if self.order is None:
            return
        account = self.accounts[self.order]
        account.ran_s += seconds
        self._due_s -= seconds
        while self._due_s <= 0 and self.order is not None:
            self._due_s += CYCLE_S
            self.total += 1
            if self._chance.random() < _REJECT_SHARE:
                self.rejects += 1
                account.scrap += 1
            else:
                account.good += 1
            if account.good == self._wanted:
                self.order = None

    def registers(self) -> list[int]:
        """Running, total and rejects (uint32, high word first)."""
        words = [int(self.order is not None), 0]
        for counter in (self.total, self.rejects):
            words += [counter >> 16, counter & 0xFFFF]
        return words + [0] * (_REGISTERS_EACH - len(words))


class Presses:
    """The PLC. Registers are filled at the moment of each request, all of one press in one reading."""

    def __init__(self, count: int) -> None:
        self.presses = [SmallPress(seed) for seed in range(count)]
        self.port = free_port()
        self._server: ModbusTcpServer | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        registers = _REGISTERS_EACH * len(self.presses)
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        device = SimDevice(
            id=1,
            simdata=(
                bits,
                [SimData(0, count=16, values=False, datatype=DataType.BITS)],
                [SimData(0, count=registers, datatype=DataType.REGISTERS, readonly=True)],
                [SimData(0, count=16, datatype=DataType.REGISTERS, readonly=True)],
            ),
            action=self._refresh,
        )
        self._server = ModbusTcpServer(device, address=(HOST, self.port))
        await self._server.serve_forever(background=True)
        self._task = asyncio.create_task(self._run(), name="presses")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(_STEP_S)
            now = loop.time()
            for press in self.presses:
                press.advance(now - last)
            last = now

    async def _refresh(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        if function == 3:
            registers[:] = [word for press in self.presses for word in press.registers()]
        return None

    def configuration(self, names: list[str]) -> tuple[dict[str, object], dict[str, object]]:
        """The device and its work units, as they stand in the gateway's YAML."""
        tags: dict[str, object] = {}
        units: dict[str, object] = {}
        for index, name in enumerate(names):
            first = index * _REGISTERS_EACH
            tags |= {
                f"running_{index}": {"holding": first, "type": "uint16"},
                f"total_{index}": {"holding": first + 2, "type": "uint32"},
                f"rejects_{index}": {"holding": first + 4, "type": "uint32"},
            }
            units[name] = {
                "area": "stamping",
                "work_center": "line-3",
                "device": "plc",
                "ideal_cycle_time": f"{round(CYCLE_S * 1000)}ms",
                "state": {"from": "bits", "running": f"running_{index}"},
                "counts": {"total": f"total_{index}", "reject": f"rejects_{index}"},
                "dispatch": {"end": "at_quantity", "next": "auto"},
            }
        device = {"driver": "modbus", "url": f"tcp://{HOST}:{self.port}", "unit_id": 1, "interval": "100ms", "tags": tags}
        return {"plc": device}, units
