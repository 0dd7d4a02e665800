"""Our driver against servers of other hands: libmodbus (Debian) over TCP and as a slave on a serial line, jsmodbus (npm) over TCP
and with serial framing in a TCP connection."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import tty
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from drivers import make_driver
from drivers.base import Driver, LinkError, Quality, Refusing, TagError, Value
from drivers.modbus_settings import ModbusSettings
from gateway.clock import SystemClock
from simulators.loopback import HOST, free_port
from tests.drivers.devices import by_tag
from tests.peers import FOLDER, peer

pytestmark = pytest.mark.slow

UNIT_ID = 7


def words(text: str) -> list[int]:
    return [high << 8 | low for high, low in zip(*[iter(text.encode().ljust(16, b"\0"))] * 2, strict=True)]


MEMORY: dict[tuple[str, int], list[int]] = {
    ("coil", 3): [1, 0],
    ("discrete", 5): [1, 0],
    ("input", 2): [65411],
    ("input", 4): [1, 4464],
    ("holding", 0): [0x4148, 0x0000, 0x0000, 0x4148],
    ("holding", 4): [0, 256, 0, 7],
    ("holding", 10): words("LINE-3 PRESS 07"),
}
TAGS: dict[str, dict[str, Any]] = {
    "running": {"coil": 3},
    "idle": {"coil": 4},
    "door": {"discrete": 5},
    "guard": {"discrete": 6},
    "level": {"input": 2, "type": "int16", "scale": 0.1},
    "total": {"input": 4, "type": "uint32"},
    "pressure": {"holding": 0, "type": "float32"},
    "swapped": {"holding": 2, "type": "float32", "order": "CDAB"},
    "big": {"holding": 4, "type": "uint64"},
    "name": {"holding": 10, "type": "string", "length": 15},
    "go": {"coil": 20, "writable": True},
    "target": {"holding": 30, "writable": True},
    "count": {"holding": 32, "type": "uint32", "writable": True},
    "weight": {"holding": 34, "type": "float32", "order": "CDAB", "writable": True},
    "label": {"holding": 40, "type": "string", "length": 11, "writable": True},
}
SHOWN: dict[str, Value] = {
    "running": True, "idle": False, "door": True, "guard": False, "level": -12.5, "total": 70_000, "pressure": 12.5, "swapped": 12.5,
    "big": 2**40 + 7, "name": "LINE-3 PRESS 07", "go": False, "target": 0, "count": 0, "weight": 0.0, "label": "",
}  # fmt: skip
WRITES: list[tuple[str, Value, str]] = [
    ("go", True, "5 20 1"),
    ("target", 40_000, "6 30 1"),
    ("count", 70_001, "16 32 2"),
    ("weight", -0.25, "16 34 2"),
    ("label", "OF-1042", "16 40 6"),
]
"""Tag, value, and the request as the server tells it: function, address, count."""


class Server:
    """A peer's process. `writes`: the requests to write that it has seen."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.writes: list[str] = []

    async def told(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            line = (await self._process.stdout.readline()).decode().strip()
        if not line:
            assert self._process.stderr is not None
            pytest.fail(f"the server ended: {(await self._process.stderr.read()).decode()}")
        return line

    async def next_write(self) -> str:
        line = await self.told()
        self.writes.append(line)
        return line


@asynccontextmanager
async def serving(*command: str) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    rows = [f"{table} {address + i} {word}\n" for (table, address), found in MEMORY.items() for i, word in enumerate(found)]
    process.stdin.write("".join([*rows, "\n"]).encode())
    server = Server(process)
    try:
        assert await server.told() == "ready"
        yield server
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@pytest.fixture(scope="session")
def libmodbus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program, compiled."""
    program = tmp_path_factory.mktemp("libmodbus") / "modbus_server"
    compiled = subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, FOLDER / "modbus_server.c", "-lmodbus"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert compiled.returncode == 0, f"gcc and libmodbus-dev are needed (`make test` installs them as root):\n{compiled.stderr}"
    return str(program)


def raw_pty() -> tuple[int, str, int]:
    """(our end, the path of the other end, that end kept open so that it lives between two users)."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    return ours, os.ttyname(theirs), theirs


@asynccontextmanager
async def serial_line() -> AsyncIterator[tuple[str, str]]:
    """The two ends of a null modem cable, as paths. A pseudo-terminal knows no parity."""
    loop = asyncio.get_running_loop()
    one, other = raw_pty(), raw_pty()
    for source, sink in ((one[0], other[0]), (other[0], one[0])):
        loop.add_reader(source, lambda source=source, sink=sink: os.write(sink, os.read(source, 4096)))
    try:
        yield one[1], other[1]
    finally:
        for ours, _, theirs in (one, other):
            loop.remove_reader(ours)
            os.close(ours)
            os.close(theirs)


@asynccontextmanager
async def device_server() -> AsyncIterator[tuple[int, str]]:
    """A serial device server in transparent mode: (its TCP port, the path where its serial line ends)."""
    loop = asyncio.get_running_loop()
    ours, path, theirs = raw_pty()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop.add_reader(ours, lambda: writer.write(os.read(ours, 4096)))
        while chunk := await reader.read(4096):
            os.write(ours, chunk)
        loop.remove_reader(ours)
        writer.close()

    server = await asyncio.start_server(connected, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1], path
    finally:
        server.close()
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)


PEERS = ("libmodbus tcp", "libmodbus rtu", "libmodbus rtu+tcp", "jsmodbus tcp", "jsmodbus rtu+tcp")


@asynccontextmanager
async def peer_of(kind: str, program: str) -> AsyncIterator[tuple[Server, str]]:
    """The server and the url at which our driver finds it."""
    library, framing = kind.split()
    port = free_port()
    async with AsyncExitStack() as stack:
        if library == "jsmodbus":
            command = peer("modbus_server.js", framing, str(port))
        elif framing == "tcp":
            command = [program, "tcp", str(port)]
        elif framing == "rtu":
            near, far = await stack.enter_async_context(serial_line())
            command = [program, "rtu", far]
        else:
            port, far = await stack.enter_async_context(device_server())
            command = [program, "rtu", far]
        server = await stack.enter_async_context(serving(*command))
        yield server, f"rtu://{near}?baudrate=19200&parity=N&stopbits=2" if framing == "rtu" else f"{framing}://{HOST}:{port}"


@asynccontextmanager
async def connected(url: str, tags: dict[str, dict[str, Any]], **more: Any) -> AsyncIterator[Driver]:
    settings = ModbusSettings.model_validate({"driver": "modbus", "url": url, "unit_id": UNIT_ID, "timeout": 2.0, "tags": tags} | more)
    driver = make_driver(settings, SystemClock(), name="plc", secrets=lambda secret: "")
    await driver.connect()
    try:
        yield driver
    finally:
        await driver.close()


def values(readings: Sequence[Any]) -> dict[str, Value]:
    assert {reading.quality for reading in readings} == {Quality.GOOD}
    return {reading.tag: reading.value for reading in readings}


@pytest.mark.parametrize("kind", PEERS)
async def test_all_tables_and_types_are_read_and_written_once(kind: str, libmodbus: str) -> None:
    async with peer_of(kind, libmodbus) as (server, url), connected(url, TAGS) as driver:
        assert values(await driver.read(list(TAGS))) == SHOWN
        for tag, value, request in WRITES:
            await driver.write(tag, value)
            assert await server.next_write() == request
        written = {tag: value for tag, value, _ in WRITES}
        assert values(await driver.read(list(TAGS))) == SHOWN | written
        await driver.write("go", False)
        assert await server.next_write() == "5 20 1"
        assert values(await driver.read(["go"])) == {"go": False}


@pytest.mark.parametrize("kind", PEERS)
async def test_one_value_is_written_by_the_functions_for_many_where_a_device_has_only_those(kind: str, libmodbus: str) -> None:
    async with peer_of(kind, libmodbus) as (server, url), connected(url, TAGS, write="multiple") as driver:
        await driver.write("go", True)
        await driver.write("target", 7)
        assert [await server.next_write() for _ in range(2)] == ["15 20 1", "16 30 1"]
        assert values(await driver.read(["go", "target", "running", "idle"])) == {"go": True, "target": 7, "running": True, "idle": False}


async def test_several_connections_read_what_one_reads(libmodbus: str) -> None:
    async with peer_of("jsmodbus tcp", libmodbus) as (_, url), connected(url, TAGS, connections=4, max_gap=0) as driver:
        for _ in range(20):
            assert values(await driver.read(list(TAGS))) == SHOWN


@pytest.mark.parametrize("kind", [kind for kind in PEERS if kind.startswith("libmodbus")])
async def test_an_exception_is_bad_and_costs_neither_the_others_nor_the_link(kind: str, libmodbus: str) -> None:
    tags = {
        "pressure": TAGS["pressure"],
        "busy": {"holding": 60, "type": "uint32", "writable": True},
        "absent": {"holding": 80, "writable": True},
        "hole": {"discrete": 70},
    }
    async with peer_of(kind, libmodbus) as (server, url), connected(url, tags) as driver:
        for _ in range(2):
            found = by_tag(await driver.read(list(tags)))
            assert {tag: (reading.value, reading.detail) for tag, reading in found.items()} == {
                "pressure": (12.5, ""),
                "busy": (None, "ServerDeviceBusy (6)"),
                "absent": (None, "IllegalDataAddress (2)"),
                "hole": (None, "IllegalDataAddress (2)"),
            }
        assert isinstance(driver, Refusing)
        assert set(driver.refused) == {"absent", "hole"}
        with pytest.raises(TagError, match="IllegalDataAddress"):
            await driver.write("absent", 1)
        await driver.write("busy", 70_000)
        assert [await server.next_write() for _ in range(2)] == ["6 80 1", "16 60 2"]


async def test_a_reply_that_stops_at_the_end_of_the_memory_is_never_a_value(libmodbus: str) -> None:
    """jsmodbus has no exception for a register behind its last one: it answers with fewer."""
    tags = {"pressure": TAGS["pressure"], "absent": {"holding": 63, "type": "uint32"}}
    async with peer_of("jsmodbus tcp", libmodbus) as (_, url), connected(url, tags) as driver:
        assert values(await driver.read(["pressure"])) == {"pressure": 12.5}
        with pytest.raises(LinkError, match="cannot be trusted"):
            await driver.read(list(tags))
