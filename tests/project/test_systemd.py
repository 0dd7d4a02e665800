"""The conversation with systemd, on a real datagram socket and a manual clock."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.systemd import Notifier, WatchdogGuard
from tests.manual_clock import ManualClock

UNIT = Path(__file__).parents[2] / "systemd" / "lineside.service"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def notifier_of(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname(), **environ})


def test_the_four_messages(manager: socket.socket) -> None:
    notifier = notifier_of(manager)
    assert notifier.ready("2 machines\nWATCHDOG=trigger")
    assert notifier.status("press_plc: lost")
    assert notifier.watchdog()
    assert notifier.stopping()
    # A line break inside a status would be read as another key.
    assert heard(manager) == ["READY=1\nSTATUS=2 machines WATCHDOG=trigger", "STATUS=press_plc: lost", "WATCHDOG=1", "STOPPING=1"]


def test_an_abstract_address() -> None:
    name = f"lineside-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        assert Notifier(f"@{name}").ready()
        assert listening.recv(100) == b"READY=1"


def test_without_systemd_every_call_does_nothing() -> None:
    notifier = Notifier.from_environment({})
    assert (notifier.ready(), notifier.status("x"), notifier.watchdog(), notifier.stopping()) == (False,) * 4
    assert notifier.watchdog_s is None


def test_a_socket_that_is_gone_or_full_neither_raises_nor_blocks(manager: socket.socket, tmp_path: Path) -> None:
    assert not Notifier(str(tmp_path / "nobody")).watchdog()
    notifier = notifier_of(manager)
    sent = 0
    while notifier.watchdog():
        sent += 1
        assert sent < 100_000, "the queue of a datagram socket is bounded"
    assert sent > 0


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_interval_of_the_watchdog(environ: dict[str, str], expected: float | None) -> None:
    assert Notifier.from_environment(environ).watchdog_s == expected


async def test_the_guard_pings_only_while_every_part_moves(manager: socket.socket) -> None:
    clock = ManualClock()
    moved = {"writer": clock.monotonic(), "press_plc": clock.monotonic(), "slow_plc": clock.monotonic()}
    sources = {name: (lambda name=name: moved[name]) for name in moved}
    guard = WatchdogGuard(
        notifier_of(manager, WATCHDOG_USEC="30000000"), clock, sources, limit_s=20.0, limits_s={"slow_plc": lambda: 180.0}
    )
    task = asyncio.create_task(guard.run())
    for _ in range(3):
        await clock.advance(10.0)
        moved["writer"] = moved["press_plc"] = clock.monotonic()
    assert len(heard(manager)) == 4, "one at once, then one every third of the interval; the slow device has its own limit"

    for _ in range(5):
        await clock.advance(10.0)
        moved["press_plc"] = clock.monotonic()
    assert len(heard(manager)) <= 2, "the writer hangs"
    assert guard.stalled() == {"writer"}
    assert heard(manager) == []
    await clock.advance(60.0)
    assert heard(manager) == []

    moved["writer"] = moved["press_plc"] = moved["slow_plc"] = clock.monotonic()
    await clock.advance(10.0)
    assert heard(manager) == ["WATCHDOG=1"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_a_sleep_of_the_machine_everybody_gets_a_round_to_move(manager: socket.socket) -> None:
    clock = ManualClock()
    moved = clock.monotonic()
    guard = WatchdogGuard(notifier_of(manager, WATCHDOG_USEC="30000000"), clock, {"writer": lambda: moved})
    task = asyncio.create_task(guard.run())
    await clock.advance(1.0)
    assert heard(manager) == ["WATCHDOG=1"]
    clock.freeze(6 * 3600.0)
    await clock.advance(0.1)
    assert heard(manager) == ["WATCHDOG=1"], "the writer had no chance yet"
    await clock.advance(30.0)
    assert heard(manager) == [], "it had one, and hangs"
    task.cancel()


async def test_no_watchdog_asked_none_kept(manager: socket.socket) -> None:
    guard = WatchdogGuard(notifier_of(manager), ManualClock(), {"writer": lambda: 0.0})
    await asyncio.wait_for(guard.run(), timeout=5)
    assert heard(manager) == []


def settings_of_the_unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if match := re.fullmatch(r"([A-Z]\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_the_unit_says_what_the_daemon_relies_on() -> None:
    unit = settings_of_the_unit()
    assert unit["Type"] == ["notify"]
    assert unit["WatchdogSec"] == ["30"]
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2"], "a wrong configuration is not healed by trying again"
    assert unit["StateDirectory"] == ["lineside"]
    assert "PYTHONSAFEPATH=1" in " ".join(unit["Environment"])
    assert unit["ExecStart"][0].startswith("/opt/lineside/bin/lineside run ")


@pytest.mark.slow
def test_the_drop_in_for_serial_lines_opens_serial_ports_only(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "apt-get install systemd"
    here = tmp_path / "lineside.service"
    here.write_text(UNIT.read_text().replace("/opt/lineside/bin/lineside", "/bin/true"))
    (tmp_path / "lineside.service.d").mkdir()
    shutil.copy(UNIT.parent / "serial.conf", tmp_path / "lineside.service.d")
    judged = subprocess.run([analyze, "security", "--offline=true", "--no-pager", str(here)], capture_output=True, text=True, check=False)
    devices = re.search(r"DeviceAllow=.*special devices: (.*?)  ", judged.stdout)
    assert devices, judged.stdout
    # ProtectClock brings the clock chip, to read.
    assert set(devices[1].split()) == {"char-ttyUSB:rw", "char-ttyACM:rw", "char-ttyS:rw", "char-rtc:r"}
    exposure = re.search(r"Overall exposure level for lineside\.service: ([0-9.]+)", judged.stdout)
    assert exposure, judged.stdout
    assert float(exposure[1]) <= 1.6
    verified = subprocess.run([analyze, "verify", "--man=false", str(here)], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if "lineside" in line] == []


@pytest.mark.parametrize("example", sorted((UNIT.parent.parent / "config").glob("files-*.yaml")), ids=lambda path: path.name)
def test_the_drop_in_for_files_opens_the_examples_folders_as_one_mount(example: Path) -> None:
    drop_in = (UNIT.parent / "files.conf").read_text()
    (opened,) = re.findall(r"^ReadWritePaths=-(\S+)$", drop_in, re.MULTILINE)
    folders = re.findall(r"^ +(?:inbox|archive|error|outbox): (\S+)$", example.read_text(), re.MULTILINE)
    assert len(folders) == 4
    assert {str(Path(folder).parent) for folder in folders} == {opened}


@pytest.mark.slow
def test_the_unit_is_hardened(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "apt-get install systemd"
    judged = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", "--no-pager", str(UNIT)], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
    exposure = re.search(r"Overall exposure level for lineside\.service: ([0-9.]+)", judged.stdout)
    assert exposure, judged.stdout
    assert float(exposure[1]) <= 1.5
    # verify wants every program to exist; the unit with the path of one that does is what can be checked here.
    here = tmp_path / "lineside.service"
    here.write_text(UNIT.read_text().replace("/opt/lineside/bin/lineside", "/bin/true"))
    verified = subprocess.run([analyze, "verify", "--man=false", str(here)], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "lineside" in line]
    assert complaints == []
