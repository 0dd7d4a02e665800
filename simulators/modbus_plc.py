"""The packer's PLC on Modbus TCP (pymodbus): the register map of the example configuration.

    holding 100-101  pieces, uint32, high word first      input 7     state code (0 1 2 8 9)
    holding 12 bit 3 jam                                  discrete 0  jam, as a bit of its own
    holding 20       carton weight, int16, x 0.1 kg

Registers are filled from the machine at the moment of each request, so a 32-bit counter is never torn.

    python -m simulators.modbus_plc --port 5020      then read unit 1 at 127.0.0.1:5020
    python -m simulators.modbus_plc --port 5020 --rtu      the same with serial frames: rtu+tcp://127.0.0.1:5020
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from simulators.loopback import HOST, free_port
from simulators.press import Packer, PackerValues
from simulators.process import run_until_stopped

UNIT_ID = 1
HOLDING_COUNT, INPUT_COUNT = 128, 16
"""A PLC answers for a whole data block, also for the words nobody uses."""

_JAM_BIT = 3


def holding_registers(values: PackerValues) -> list[int]:
    """The 128 holding registers as 16-bit words."""
    registers = [0] * HOLDING_COUNT
    registers[12] = int(values.jam) << _JAM_BIT
    registers[20] = values.weight & 0xFFFF
    registers[100], registers[101] = values.parts >> 16, values.parts & 0xFFFF
    return registers


def input_registers(values: PackerValues) -> list[int]:
    registers = [0] * INPUT_COUNT
    registers[7] = values.state
    return registers


class ModbusPlc:
    """A Modbus TCP server in front of one packer. `start` after `stop` comes back on the same port.

    `rtu`: it speaks as a serial device server does, RTU frames over TCP.
    """

    def __init__(self, packer: Packer, *, host: str = HOST, port: int = 0, rtu: bool = False) -> None:
        self.packer = packer
        self.host = host
        self.port = port or free_port()
        self.rtu = rtu
        self._server: ModbusTcpServer | None = None

    @property
    def url(self) -> str:
        return f"{'rtu+' if self.rtu else ''}tcp://{self.host}:{self.port}"

    @property
    def up(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        """Listen; returns when the server answers. Raises RuntimeError when the port is taken."""
        if self._server is not None:
            return
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        device = SimDevice(
            id=UNIT_ID,
            simdata=(
                bits,
                [SimData(0, count=16, values=False, datatype=DataType.BITS)],
                [SimData(0, count=HOLDING_COUNT, datatype=DataType.REGISTERS, readonly=True)],
                [SimData(0, count=INPUT_COUNT, datatype=DataType.REGISTERS, readonly=True)],
            ),
            action=self._refresh,
        )
        framer = FramerType.RTU if self.rtu else FramerType.SOCKET
        server = ModbusTcpServer(device, framer=framer, address=(self.host, self.port))
        await server.serve_forever(background=True)
        self._server = server

    async def stop(self) -> None:
        """Go away; the packer goes on."""
        server, self._server = self._server, None
        if server is not None:
            await server.shutdown()  # type: ignore[no-untyped-call]

    async def _refresh(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        shown = self.packer.values()
        if function == 3:
            registers[:] = holding_registers(shown)
        elif function == 4:
            registers[:] = input_registers(shown)
        elif function == 2:
            registers[0] = int(shown.jam)
        return None


async def _serve(args: argparse.Namespace, stopped: asyncio.Event) -> None:
    packer = Packer(seed=args.seed, speed=args.speed)
    plc = ModbusPlc(packer, host=args.host, port=args.port, rtu=args.rtu)
    await plc.start()
    print(f"{plc.url}  unit {UNIT_ID}  holding 100 (uint32 ABCD), 12 bit 3, 20 (int16 x 0.1); input 7", flush=True)
    loop = asyncio.get_running_loop()
    last = loop.time()
    try:
        while not stopped.is_set():
            await asyncio.sleep(0.02)
            now = loop.time()
            packer.advance(now - last)
            last = now
    finally:
        await plc.stop()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m simulators.modbus_plc",
        description="A packer behind a Modbus TCP server.",
        epilog="example: python -m simulators.modbus_plc --port 5020 --speed 5",
    )
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=5020, help="0: a free one (default 5020)")
    parser.add_argument("--rtu", action="store_true", help="RTU frames over TCP, as a serial device server speaks")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--speed", type=float, default=1.0)
    args = parser.parse_args(argv)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    return run_until_stopped(lambda stopped: _serve(args, stopped))


if __name__ == "__main__":
    sys.exit(main())
