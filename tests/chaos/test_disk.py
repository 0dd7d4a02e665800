"""Disk full, read-only, I/O error below the whole daemon: it stays up and goes on counting, says so, and recovers by itself.

`make disk` runs these. The full disk is a tmpfs of its own (needs root); the others are a library that is preloaded into the daemon and
fails what it writes, because a file system with an open journal cannot be made read-only from outside.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulators.ledger_copy import parse_json
from simulators.loopback import HOST, free_port
from tests.chaos.lives import Plc, one_machine
from tests.chaos.nursery import Nursery
from tests.system.line import journal_events

pytestmark = pytest.mark.system

ALARM_S, RECOVERY_S = 5.0, 10.0
"""What is promised; `SLACK` times that is what a busy machine may take."""
SLACK = 3
HELD_S = 4.0


class Daemon:
    def __init__(self, page: str, http: aiohttp.ClientSession, state_dir: Path, plc: Plc) -> None:
        self.state_dir = state_dir
        self.plc = plc
        self._page = page
        self._http = http

    async def status(self) -> dict[str, Any]:
        async with self._http.get(f"{self._page}/api/status") as response:
            return parse_json(await response.text())

    async def disk(self) -> str:
        return str((await self.status())["journal"]["disk"])

    async def is_ready(self) -> bool:
        try:
            async with self._http.get(f"{self._page}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def has_alert(self) -> bool:
        return any(alert["alert"].startswith("disk.") for alert in (await self.status())["alerts"])

    def counted(self) -> int:
        return int(sum(e["data"]["produced"] for e in journal_events(self.state_dir) if e["type"] == "lineside.quantity.counted.v1"))


async def until(true: Callable[[], Awaitable[bool]], limit_s: float) -> float:
    """Seconds until it was so; raises TimeoutError."""
    begun = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not await true():
            await asyncio.sleep(0.05)
    return time.monotonic() - begun


@asynccontextmanager
async def daemon(folder: Path, state_dir: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Daemon]:
    plc, nursery, config, log = Plc(), Nursery("gateway.__main__:main", environment=environment), folder / "disk.yaml", folder / "log"
    listen = f"{HOST}:{free_port()}"
    config.write_text(one_machine("disk-pc", plc.port, listen=listen, broker=free_port()))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
        await asyncio.gather(plc.start(), nursery.open())
        try:
            pid = await nursery.start(log, "run", "-c", str(config), "--state-dir", str(state_dir))
            running = Daemon(f"http://{listen}", http, state_dir, plc)
            await until(running.is_ready, 60)

            async def is_read() -> bool:
                return any(device["state"] == "connected" for device in (await running.status())["links"])

            await until(is_read, 60)
            await asyncio.sleep(0.5)
            plc.making = True

            async def has_counted() -> bool:
                return running.counted() > 3

            await until(has_counted, 60)
            yield running
            plc.making = False
            made = plc.made

            async def all_counted() -> bool:
                return running.counted() == made

            await until(all_counted, 60)
            assert await nursery.term(pid) == 0, log.read_text()[-2000:]
            sequences = [event["sequence"] for event in journal_events(state_dir)]
            assert sequences == list(range(1, len(sequences) + 1)), "a pending row was dropped"
            assert len({event["epoch"] for event in journal_events(state_dir)}) == 1
        finally:
            await nursery.close()
            await plc.stop()


def fill(folder: Path) -> None:
    """Take every byte that is left."""
    with (folder / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    if file.write(bytes(size)) < size:
                        break
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


async def test_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        async with daemon(tmp_path, disk / "state") as running:
            fill(disk)
            alarm_s = await until(running.has_alert, ALARM_S * SLACK)

            async def is_full() -> bool:
                # The ballast has been given up meanwhile: that is taken too.
                fill(disk)
                return await running.disk() == "full"

            await until(is_full, 60)
            assert not await running.is_ready()
            before = running.plc.made
            await asyncio.sleep(HELD_S)
            assert running.plc.made > before
            assert not (disk / "state" / "ballast").exists()
            (disk / "filler").unlink()
            recovery_s = await until(running.is_ready, RECOVERY_S * SLACK)
        with capsys.disabled():
            print(f"\ndisk full: alarm after {alarm_s:.1f} s, ready {recovery_s:.1f} s after there was room", end="")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO], ids=["read-only", "io-error"])
async def test_writes_that_fail(tmp_path: Path, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    library, control = tmp_path / "failing_disk.so", tmp_path / "control"
    gcc = shutil.which("gcc")
    assert gcc is not None, "gcc is needed: apt-get install gcc"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run([gcc, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    control.write_text("0")
    environment = {"LD_PRELOAD": str(library), "FAILING_DISK": str(control)}
    async with daemon(tmp_path, tmp_path / "state", environment) as running:
        control.write_text(str(code))

        async def is_told() -> bool:
            return await running.disk() == "read_only" and await running.has_alert()

        alarm_s = await until(is_told, ALARM_S * SLACK)
        assert not await running.is_ready()
        counted = running.counted()
        await asyncio.sleep(HELD_S)
        assert running.counted() == counted
        os.truncate(control, 0)
        recovery_s = await until(running.is_ready, RECOVERY_S * SLACK)
    with capsys.disabled():
        print(f"\n{os.strerror(code)}: alarm after {alarm_s:.1f} s, ready {recovery_s:.1f} s after writes went through", end="")
