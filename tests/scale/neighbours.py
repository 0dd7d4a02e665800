"""Whether devices that misbehave disturb their neighbours: ten Modbus devices polled by the daemon, three of them dead, slow and flapping.

The devices write down when each request arrives. Jitter is how far the time between two of them is from the configured interval;
quoted is the 99th percentile over the seven healthy ones, in the same run first with ten healthy devices, then with seven.
Exit 1 when the second is more than `--limit` above the first.

`--layout opcua`: the three are OPC UA devices, whose new connections cost more. `--layout gateway`: the ten are units of one serial line
behind a TCP gateway, and polled every second; each try of a unit that does not answer holds up the whole line, whatever we do: there
the figures are only printed.

    python -m tests.scale.neighbours --seconds 20
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from simulators.loopback import free_port
from tests.bench.run import process
from tests.scale.opcua_trouble import OpcUaTrouble, device
from tests.scale.ten_devices import DEAD, DEVICES, REGISTERS

INTERVAL_S = 0.1
TIMEOUT_S = 1.0
LIMIT_S = 0.02
START_S, SETTLE_S = 30.0, 3.0
LEAST_GAPS = 50
LINE_INTERVAL_S = 1.0
"""At which the units of one serial line are polled: ten of them take 0.2 s."""


@dataclass(frozen=True)
class Jitter:
    """Of the healthy devices, in seconds. `polls`: requests, as a share of those that the interval asks for."""

    p50: float
    p99: float
    worst: float
    polls: float


@dataclass(frozen=True)
class Verdict:
    undisturbed: Jitter
    disturbed: Jitter


class Devices:
    """The ten devices, in their own process."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._ask, self._answers = child.stdin, child.stdout
        self.ports: list[int] = json.loads(self._answers.readline())["ports"]

    def tell(self, **order: object) -> list[list[float]]:
        self._ask.write(json.dumps(order).encode() + b"\n")
        self._ask.flush()
        found: list[list[float]] = json.loads(self._answers.readline())
        return found


def modbus_devices(layout: str, ports: Sequence[int]) -> dict[str, dict[str, object]]:
    """Those whose polls are measured, and with the layout tcp or gateway the three others."""
    interval_s = LINE_INTERVAL_S if layout == "gateway" else INTERVAL_S
    common = {
        "driver": "modbus",
        "interval": f"{interval_s * 1000:.0f}ms",
        "timeout": f"{TIMEOUT_S * 1000:.0f}ms",
        "tags": {f"r{address:02d}": {"holding": address} for address in range(REGISTERS)},
    }
    if layout == "gateway":
        return {f"dev-{n}": {**common, "url": f"tcp://127.0.0.1:{ports[0]}", "unit_id": n + 1} for n in range(DEVICES)}
    measured = ports[:DEAD] if layout == "opcua" else ports
    return {f"dev-{n}": {**common, "url": f"tcp://127.0.0.1:{port}"} for n, port in enumerate(measured)}


def configuration(devices: dict[str, dict[str, object]]) -> dict[str, object]:
    return {
        "gateway": {
            "id": "neighbours", "enterprise": "test", "site": "test", "time_zone": "UTC", "language": "en",
            "listen": f"127.0.0.1:{free_port()}",
        },
        "devices": devices,
        "work_units": {
            "unit-0": {
                "area": "hall", "work_center": "line", "ideal_cycle_time": "1s",
                "state": {"from": "bits", "running": "dev-0/r01"}, "counts": {"total": "dev-0/r00"},
            }
        },
    }  # fmt: skip


def jitter(arrivals: Sequence[Sequence[float]], seconds: float, interval_s: float) -> Jitter:
    gaps = [later - earlier for device in arrivals for earlier, later in pairwise(device)]
    if len(gaps) < LEAST_GAPS:
        raise RuntimeError(f"only {len(gaps)} polls of the healthy devices came: too few to judge")
    off = sorted(abs(gap - interval_s) for gap in gaps)
    expected = len(arrivals) * seconds / interval_s
    return Jitter(statistics.median(off), off[int(len(off) * 0.99)], off[-1], len(gaps) / expected)


def watch(devices: Devices, seconds: float, interval_s: float) -> Jitter:
    devices.tell(ask="arrivals")
    time.sleep(seconds)
    return jitter(devices.tell(ask="arrivals")[:DEAD], seconds, interval_s)


def await_all(devices: Devices, count: int, child: subprocess.Popen[bytes]) -> None:
    """Until each of the first `count` devices is polled. Raises RuntimeError when the daemon does not come."""
    patience = time.monotonic() + START_S
    seen = [0] * count
    while min(seen) < 3:
        if child.poll() is not None or time.monotonic() > patience:
            raise RuntimeError(f"the daemon does not poll the devices (exit status {child.poll()}, requests {seen})")
        time.sleep(0.1)
        seen = [before + len(now) for before, now in zip(seen, devices.tell(ask="arrivals"), strict=False)]


def measure(seconds: float, directory: Path, layout: str = "tcp") -> Verdict:
    """Raises RuntimeError with the end of the daemon's log when it does not poll."""
    interval_s = LINE_INTERVAL_S if layout == "gateway" else INTERVAL_S
    log_path = directory / "log.txt"
    with ExitStack() as stack:
        log = stack.enter_context(log_path.open("ab"))
        command = ["-m", "tests.scale.ten_devices", *(["--gateway"] if layout == "gateway" else [])]
        devices = Devices(stack.enter_context(process(sys.executable, *command, log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)))
        sections = modbus_devices(layout, devices.ports)
        trouble = OpcUaTrouble(stack, log) if layout == "opcua" else None
        if trouble is not None:
            sections |= {f"dev-{DEAD + n}": device(url) for n, url in enumerate(trouble.urls)}
        config = directory / "neighbours.yaml"
        config.write_text(json.dumps(configuration(sections), indent=1))
        run = ["-m", "gateway", "run", "-c", str(config), "--state-dir", str(directory / "state")]
        child = stack.enter_context(process(sys.executable, *run, log=log))
        try:
            await_all(devices, DEAD if layout == "opcua" else DEVICES, child)
            time.sleep(SETTLE_S)
            undisturbed = watch(devices, seconds, interval_s)
            if trouble is not None:
                trouble.disturb()
            else:
                devices.tell(disturbed=True)
            time.sleep(SETTLE_S)
            return Verdict(undisturbed, watch(devices, seconds, interval_s))
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{log_path.read_text(errors='replace')[-3000:]}") from error


LAYOUTS = {
    "tcp": f"{DEVICES} Modbus TCP devices every {INTERVAL_S * 1000:.0f} ms",
    "opcua": f"{DEAD} Modbus TCP devices every {INTERVAL_S * 1000:.0f} ms beside {DEVICES - DEAD} OPC UA devices",
    "gateway": f"{DEVICES} units behind one gateway every {LINE_INTERVAL_S:g} s",
}


def table(verdict: Verdict, layout: str = "tcp") -> Iterator[str]:
    yield f"{LAYOUTS[layout]}; jitter of the {DEAD} healthy ones in ms"
    yield f"{'':<40}{'p50':>7}{'p99':>7}{'worst':>7}{'polls':>7}"
    for name, found in (("all ten healthy", verdict.undisturbed), ("one dead, one slow (3 s), one flapping", verdict.disturbed)):
        yield f"{name:<40}{found.p50 * 1000:>7.1f}{found.p99 * 1000:>7.1f}{found.worst * 1000:>7.1f}{found.polls:>7.0%}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.neighbours", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each of the two windows")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds by which the 99th percentile may grow")
    parser.add_argument("--layout", choices=LAYOUTS, default="tcp")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="lineside-neighbours-") as directory:
            verdict = measure(given.seconds, Path(directory), given.layout)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(*table(verdict, given.layout), sep="\n")
    if given.layout != "gateway" and verdict.disturbed.p99 > verdict.undisturbed.p99 + given.limit:
        print(f"the 99th percentile grew by more than {given.limit * 1000:g} ms")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
