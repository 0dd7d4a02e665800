"""The demo's other processes: broker, simulated plant, gateway; each in its own group, none outlives the demo."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import gateway
from drivers.base import Clock

HOST = "127.0.0.1"
PAGE_PORT = 8080
STOP_S = 8.0
"""A child gets this long after SIGTERM; the gateway's own drain is shorter."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class DemoError(Exception):
    """The demo cannot go on; the text says it to the person at the terminal."""


@dataclass(frozen=True)
class Child:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    def last_lines(self, count: int = 12) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()[-count:]
        return "\n".join(f"    {line}" for line in lines) or "    (it said nothing)"


class Children:
    """Processes started in order and ended in reverse."""

    def __init__(self, clock: Clock, logs: Path) -> None:
        self._clock = clock
        self._logs = logs
        self._children: list[Child] = []

    async def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a command with its output in `<logs>/<name>.log`. Raises DemoError when it cannot be started."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    env=_environment(),
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            except OSError as error:
                raise DemoError(f"The {name} could not be started: {error}") from error
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raises DemoError naming a child that ended by itself, with its last words."""
        for child in self._children:
            if child.process.returncode is not None:
                raise DemoError(
                    f"The {child.name} ended by itself (code {child.process.returncode}). Its last lines:\n{child.last_lines()}"
                )

    async def stop(self, name: str) -> int | None:
        """End one child: SIGTERM, then SIGKILL for its whole group. Returns its exit code, None when there is no such child."""
        child = next((c for c in self._children if c.name == name), None)
        if child is None:
            return None
        self._children.remove(child)
        process = child.process
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            try:
                async with self._clock.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                _signal_group(process.pid, signal.SIGKILL)
                await process.wait()
        _signal_group(process.pid, signal.SIGKILL)  # whatever the child itself may have started
        return process.returncode

    async def stop_all(self) -> None:
        for child in reversed(list(self._children)):
            await self.stop(child.name)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _die_with_parent() -> None:
    """Linux: a killed demo (SIGKILL, closed terminal) takes its children along."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _environment() -> dict[str, str]:
    """The children import the very code that runs here, whatever lies in the current folder."""
    root = str(Path(gateway.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def free_port(preferred: int = 0) -> int:
    """`preferred` when nobody listens there, else a free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("No TCP port is free on this machine.")


@dataclass(frozen=True)
class Broker:
    """How to start an MQTT broker and how to speak to it. `protocol` is the gateway's setting, `consumer` the MES's."""

    name: str
    command: tuple[str, ...]
    port: int
    protocol: str
    consumer: str


def choose_broker(wanted: str) -> Broker:
    """mosquitto where it is installed, else amqtt. Raises DemoError when mosquitto is wanted and missing."""
    port = free_port()
    command = python("simulators.broker", "--port", str(port))
    # Debian installs it where only root looks.
    mosquitto = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if mosquitto is not None and wanted != "amqtt":
        return Broker("mosquitto", (*command, "--mosquitto", mosquitto), port, "auto", "5")
    if wanted == "mosquitto":
        raise DemoError("mosquitto is not installed. Install it (apt-get install mosquitto) or leave --broker out.")
    if importlib.util.find_spec("amqtt") is None:
        raise DemoError("There is no MQTT broker. Install mosquitto (apt-get install mosquitto), or amqtt (pip install amqtt==0.12.1).")
    return Broker("amqtt", tuple(command), port, '"3.1.1"', "3.1.1")


def demo_config(*, speed: float, language: str, **addresses: str) -> str:
    """The demo's configuration as YAML; ideal times and thresholds are divided by `speed`."""
    template = Template(files("gateway.cli").joinpath("demo.yaml").read_text("utf-8"))
    return template.substitute(
        addresses,
        language=language,
        press_cycle=_duration(1.2 / speed),
        packer_cycle=_duration(0.5 / speed),
        micro_min=_duration(2.0 / speed),
        stop_threshold=_duration(120.0 / speed),
        # Reading much faster than ten times a second shows a person nothing more.
        press_interval=_duration(max(0.2 / speed, 0.1)),
        packer_interval=_duration(max(0.5 / speed, 0.1)),
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.4f}".rstrip("0").rstrip(".") + "s"
