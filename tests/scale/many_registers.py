"""Modbus TCP devices with very many holding registers: raw bytes, no library, so that they cost little beside what is measured.

In each reply every tenth register has counted up since it was read last; register 0 is among them, register 1 is always 1.

    python -m tests.scale.many_registers --devices 10 --registers 2000
prints {"ports": [...]} and, for each line on standard input, {"requests": N, "registers": N}
"""

from __future__ import annotations

import argparse
import asyncio
import struct

from tests.bench.plcs import serve

CHANGING = 10


class Device:
    def __init__(self, registers: int) -> None:
        self.size = registers
        self.words = [number & 0xFFFF for number in range(registers)]

    def read(self, address: int, count: int) -> bytes:
        words = self.words
        for place in range(-(-address // CHANGING) * CHANGING, address + count, CHANGING):
            words[place] = words[place] + 1 & 0xFFFF
        return struct.pack(f">{count}H", *words[address : address + count])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.many_registers", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--registers", type=int, default=2000)
    given = parser.parse_args()
    asyncio.run(serve([Device(given.registers) for _ in range(given.devices)]))


if __name__ == "__main__":
    main()
