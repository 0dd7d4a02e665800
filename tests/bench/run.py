"""What a value costs: lineside beside a thin pymodbus-to-MQTT script, in one run on one machine.

    make bench        or        python -m tests.bench.run [--seconds 20] [--intervals 1.0,0.1] [--limit 2.5]

Both poll the same simulated devices (10 Modbus TCP devices of 100 registers, all changing with each poll; another
process) and publish to the same mosquitto with QoS 1. lineside does its full path: decode, domain (a work unit a device that counts
pieces), journal with synchronous=FULL, publish. Quoted is CPU time (user and system, all threads of the one process,
children excluded) divided by the registers that the devices really served: wall time and absolute figures drift with
the machine, the ratio within one run does not. Exit 1 when a ratio is above the limit or values were lost on the way.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from simulators.loopback import free_port

ROOT = Path(__file__).parents[2]
DEVICES = 10
REGISTERS = 100
WARM_UP_S = 4.0
LEAST_PUBLISHED = 0.97
"""The running bit of each device never changes, and a window's edges cut a poll: a little under 1 is right."""


@dataclass(frozen=True)
class Cost:
    """What one contestant did in its window. `cpu_us` per register read; `published` values per register read."""

    name: str
    interval_s: float
    registers: int
    asked: float
    cpu_us: float
    published: float
    rss_mib: float


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, its ended threads included, children excluded; to the nanosecond.

    The clock id of another process is made as clock_getcpuclockid(3) makes it (CPUCLOCK_SCHED of the pid).
    """
    return time.clock_gettime(~pid << 3 | 2)


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")


@contextmanager
def process(*command: str, log: IO[bytes], stdin: int | None = None, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is gone at the end, whatever happens."""
    with subprocess.Popen(command, cwd=ROOT, stderr=log, stdin=stdin, stdout=stdout) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def broker(directory: Path, log: IO[bytes]) -> Iterator[int]:
    path = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if path is None:
        sys.exit("mosquitto is missing: apt-get install mosquitto")
    port = free_port()
    settings = directory / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nlog_type error\n")
    with process(path, "-c", str(settings), log=log):
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port


class Plcs:
    """The simulated devices, in their own process."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._ask, self._answers = child.stdin, child.stdout
        self.ports: list[int] = json.loads(self._answers.readline())["ports"]

    def registers(self) -> int:
        """Registers served so far, over all devices."""
        self._ask.write(b"\n")
        self._ask.flush()
        return int(json.loads(self._answers.readline())["registers"])


@contextmanager
def devices(log: IO[bytes]) -> Iterator[Plcs]:
    with process(sys.executable, "-m", "tests.bench.plcs", log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        yield Plcs(child)


def thin(ports: list[int], broker_port: int, interval_s: float) -> list[str]:
    """Module and arguments of the thin script."""
    modbus = ",".join(str(port) for port in ports)
    return ["tests.bench.thin", "--modbus", modbus, "--broker", str(broker_port), "--interval", str(interval_s)]


class Listener:
    """An MQTT subscriber that counts the values of both kinds of message."""

    def __init__(self, port: int) -> None:
        self.values = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-listener")
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([("thin/#", 0), ("+/+/+/+/_gateway/+/device/+", 0)])
        self._client.loop_start()

    def _heard(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        self.values += len(orjson.loads(message.payload)["values"])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def configuration(ports: list[int], broker_port: int, interval_s: float) -> dict[str, object]:
    """Ten devices of 100 tags, ten work units that count their pieces, one MQTT uplink. JSON, which YAML contains."""
    tags: dict[str, dict[str, object]] = {"parts": {"holding": 0, "type": "uint16"}, "running": {"holding": 1, "bit": 0}}
    tags |= {f"r{address:02d}": {"holding": address, "type": "uint16"} for address in range(2, REGISTERS)}
    interval = f"{round(interval_s * 1000)}ms"
    return {
        "gateway": {
            "id": "bench", "enterprise": "bench", "site": "bench", "time_zone": "UTC", "language": "en",
            "listen": f"127.0.0.1:{free_port()}",
        },
        "devices": {
            f"dev-{n}": {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "unit_id": 1, "interval": interval, "tags": tags}
            for n, port in enumerate(ports)
        },
        "work_units": {
            f"unit-{n}": {
                "area": "hall", "work_center": "line", "ideal_cycle_time": interval,
                "state": {"from": "bits", "running": f"dev-{n}/running"},
                "counts": {"total": f"dev-{n}/parts"},
            }
            for n in range(len(ports))
        },
        "uplinks": {"plant": {"type": "mqtt", "urls": [f"mqtt://127.0.0.1:{broker_port}"], "root": "lineside/v1"}},
    }  # fmt: skip


def await_registers(more: int, name: str, child: subprocess.Popen[bytes], plcs: Plcs) -> None:
    """Return as soon as `more` registers have been served. Raises RuntimeError when the reader is gone or does not come."""
    start, patience = plcs.registers(), time.monotonic() + 30
    while plcs.registers() < start + more:
        if child.poll() is not None or time.monotonic() > patience:
            raise RuntimeError(f"{name} does not read the devices (exit status {child.poll()})")
        time.sleep(0.005)


def measure(name: str, interval_s: float, child: subprocess.Popen[bytes], plcs: Plcs, heard: Listener, seconds: float) -> Cost:
    """Wait until it reads, let it warm up, then take the differences over one window."""
    await_registers(DEVICES * REGISTERS, name, child, plcs)
    time.sleep(WARM_UP_S)
    # The window begins and ends between two polls, so that it holds whole ones.
    await_registers(1, name, child, plcs)
    time.sleep(interval_s / 2)
    began, cpu, registers, values = time.monotonic(), cpu_seconds(child.pid), plcs.registers(), heard.values
    time.sleep(seconds)
    if child.poll() is not None:
        raise RuntimeError(f"{name} ended by itself (exit status {child.poll()})")
    cpu, registers, values = cpu_seconds(child.pid) - cpu, plcs.registers() - registers, heard.values - values
    elapsed = time.monotonic() - began
    return Cost(
        name=name,
        interval_s=interval_s,
        registers=registers,
        asked=registers / (elapsed / interval_s * DEVICES * REGISTERS),
        cpu_us=cpu / registers * 1e6,
        published=values / registers,
        rss_mib=rss_mib(child.pid),
    )


def contest(interval_s: float, seconds: float, directory: Path) -> list[Cost]:
    """The thin script, then lineside, against the same devices and broker."""
    costs = []
    with ExitStack() as stack:
        log = stack.enter_context((directory / "log.txt").open("ab"))
        port = stack.enter_context(broker(directory, log))
        plcs = stack.enter_context(devices(log))
        heard = Listener(port)
        stack.callback(heard.close)
        config = directory / "lineside.yaml"
        config.write_text(json.dumps(configuration(plcs.ports, port, interval_s), indent=1))
        full = ["gateway", "run", "-c", str(config), "--state-dir", str(directory / f"state-{interval_s}")]
        for name, command in (("thin script", thin(plcs.ports, port, interval_s)), ("lineside", full)):
            with process(sys.executable, "-m", *command, log=log) as child:
                costs.append(measure(name, interval_s, child, plcs, heard, seconds))
    return costs


def table(costs: list[Cost]) -> Iterator[str]:
    yield f"{DEVICES} Modbus TCP devices x {REGISTERS} registers, CPU time per register read, RSS at the end of the window"
    yield f"{'interval':>8}  {'':<12}{'us/value':>9}{'polls':>8}{'published':>11}{'RSS MiB':>9}{'ratio':>7}"
    floor: dict[float, float] = {}
    for cost in costs:
        ratio = f"{cost.cpu_us / floor[cost.interval_s]:.2f}" if cost.interval_s in floor else ""
        floor.setdefault(cost.interval_s, cost.cpu_us)
        yield (
            f"{cost.interval_s:>6g} s  {cost.name:<12}{cost.cpu_us:>9.2f}{cost.asked:>8.0%}{cost.published:>11.1%}"
            f"{cost.rss_mib:>9.1f}{ratio:>7}"
        )


def failures(costs: list[Cost], limit: float) -> Iterator[str]:
    for thin, full in zip(costs[::2], costs[1::2], strict=True):
        if full.cpu_us > limit * thin.cpu_us:
            yield f"at {full.interval_s:g} s lineside costs {full.cpu_us / thin.cpu_us:.2f} times the thin script, the limit is {limit:g}"
    for cost in costs:
        if cost.published < LEAST_PUBLISHED or cost.asked < LEAST_PUBLISHED:
            yield f"at {cost.interval_s:g} s {cost.name} made {cost.asked:.0%} of the polls, published {cost.published:.1%} of the values"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each window")
    parser.add_argument("--intervals", default="1.0,0.1", help="seconds, separated by commas")
    parser.add_argument("--limit", type=float, default=2.5, help="highest ratio to the thin script")
    given = parser.parse_args()
    costs: list[Cost] = []
    directory = Path(tempfile.mkdtemp(prefix="lineside-bench-"))
    try:
        for interval in given.intervals.split(","):
            costs += contest(float(interval), given.seconds, directory)
    except RuntimeError as error:
        print(error, (directory / "log.txt").read_text(errors="replace")[-3000:], sep="\n", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory)
    print("\n".join(table(costs)))
    wrong = list(failures(costs, given.limit))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
