"""Very many tags through the daemon on one machine: OPC UA nodes by subscription and Modbus registers by polling, at the same time,
journal and telemetry to an MQTT broker included.

Quoted are the time from the start of the daemon to the first value of every tag, then over a window: CPU time of the daemon (user and
system, children excluded), the share of the polls that were made, the share of the changes that arrived, and memory. Before that,
with the driver alone, the time from connecting to the first value of 1,000 OPC UA tags. The simulators share the machine's cores.
Exit 1 when a limit is passed.

    python -m tests.scale.run --nodes 10000 --registers 20000
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from drivers import make_driver
from drivers.base import Quality, Subscribing
from drivers.opcua_settings import OpcUaSettings
from gateway.clock import SystemClock
from simulators.loopback import free_port
from tests.bench.run import broker, cpu_seconds, process, rss_mib
from tests.scale.many_nodes import NAMESPACE, node_name

INTERVAL_S = 1.0
DEVICES = 10
CHANGES_SHARE = 0.1
"""So many of the OPC UA nodes change each second, as many of the registers."""
FIRST_TAGS = 1000
FIRST_LIMIT_S = 2.0
START_LIMIT_S = 120.0
LEAST_POLLS, LEAST_CHANGES = 0.97, 0.9
"""The window's edges cut some; of the changes what half a second brings."""
SETTLE_S = 5.0
"""What changed while the daemon came up shall have arrived before the window."""


@dataclass(frozen=True)
class Load:
    """What the daemon did. `start_s`: process start to the first value of every tag; `cpu` in cores."""

    nodes: int
    registers: int
    start_s: dict[str, float]
    cpu: float
    simulators_cpu: float
    polls: float
    changes: float
    rss_mib: float


def _simulator(stack: ExitStack, directory: Path, module: str, *arguments: str) -> tuple[subprocess.Popen[bytes], dict[str, object]]:
    log = stack.enter_context((directory / f"{module.rpartition('.')[2]}.log").open("ab"))
    child = stack.enter_context(process(sys.executable, "-m", module, *arguments, log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"{module} does not start")
    return child, json.loads(line)


def _ask(simulator: subprocess.Popen[bytes]) -> dict[str, float]:
    """What it counted so far."""
    assert simulator.stdin is not None
    assert simulator.stdout is not None
    simulator.stdin.write(b"\n")
    simulator.stdin.flush()
    answer: dict[str, float] = json.loads(simulator.stdout.readline())
    return answer


def _write_tags(path: Path, column: str, rows: Iterator[tuple[str, object]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("tag", column))
        writer.writerows(rows)
    return path.name


def configuration(directory: Path, url: object, nodes: int, ports: object, registers: int, broker_port: int) -> dict[str, object]:
    """Writes the lists of tags beside it."""
    assert isinstance(ports, list)
    opcua = _write_tags(directory / "nodes.csv", "node", ((node_name(n), f"nsu={NAMESPACE};s={node_name(n)}") for n in range(nodes)))
    modbus = _write_tags(directory / "registers.csv", "holding", ((f"r{n:04d}", n) for n in range(registers // len(ports))))
    return {
        "gateway": {
            "id": "scale", "enterprise": "test", "site": "test", "time_zone": "UTC", "language": "en",
            "listen": f"127.0.0.1:{free_port()}",
        },
        "devices": {
            "opcua": {
                "driver": "opcua", "url": url, "security": {"insecure": True}, "mode": "subscribe", "interval": "500ms", "timeout": "10s",
                "tags_csv": opcua,
            },
            **{
                f"modbus-{n}": {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "interval": "1s", "tags_csv": modbus}
                for n, port in enumerate(ports)
            },
        },
        "work_units": {
            "unit-0": {
                "area": "hall", "work_center": "line", "ideal_cycle_time": "1s",
                "state": {"from": "bits", "running": "modbus-0/r0001"}, "counts": {"total": "modbus-0/r0000"},
            }
        },
        "uplinks": {"plant": {"type": "mqtt", "urls": [f"mqtt://127.0.0.1:{broker_port}"], "root": "lineside/v1"}},
    }  # fmt: skip


def good_readings(listen: str) -> dict[str, float]:
    """Device -> good readings so far; empty while the daemon does not answer."""
    try:
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as page:
            families = text_string_to_metric_families(page.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return {}
    return {
        sample.labels["device"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "lineside_readings_total" and sample.labels["quality"] == "good"
    }


def measure(nodes: int, registers: int, seconds: float, directory: Path) -> Load:
    """Raises RuntimeError with the end of the daemon's log when it does not read everything."""
    with ExitStack() as stack:
        changes = nodes * CHANGES_SHARE
        server, told = _simulator(stack, directory, "tests.scale.many_nodes", "--nodes", str(nodes), "--changes", str(changes))
        plcs, served = _simulator(
            stack, directory, "tests.scale.many_registers", "--devices", str(DEVICES), "--registers", str(registers // DEVICES)
        )
        broker_port = stack.enter_context(broker(directory, stack.enter_context((directory / "broker.log").open("ab"))))
        config = configuration(directory, told["url"], nodes, served["ports"], registers, broker_port)
        listen = str(config["gateway"]["listen"])  # type: ignore[index]
        path, log_path = directory / "scale.yaml", directory / "daemon.log"
        path.write_text(json.dumps(config, indent=1))
        log = stack.enter_context(log_path.open("ab"))
        began = time.monotonic()
        command = ["gateway", "run", "-c", str(path), "--state-dir", str(directory / "state")]
        child = stack.enter_context(process(sys.executable, "-m", *command, log=log))
        expected = {"opcua": nodes} | {f"modbus-{n}": registers // DEVICES for n in range(DEVICES)}
        start_s = {}
        while len(start_s) < len(expected):
            found = good_readings(listen)
            now = time.monotonic() - began
            start_s |= {device: now for device, tags in expected.items() if found.get(device, 0) >= tags and device not in start_s}
            if child.poll() is not None or now > START_LIMIT_S:
                missing = sorted(set(expected) - set(start_s))
                tail = log_path.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"no values of {', '.join(missing)} after {now:.0f} s (exit status {child.poll()})\n{tail}")
            time.sleep(0.1)
        time.sleep(SETTLE_S)

        def totals() -> tuple[float, ...]:
            busy = cpu_seconds(server.pid) + cpu_seconds(plcs.pid)
            made, read = _ask(server)["changes"], _ask(plcs)["registers"]
            return time.monotonic(), cpu_seconds(child.pid), busy, read, made, good_readings(listen)["opcua"]

        first = totals()
        time.sleep(seconds)
        elapsed, cpu, busy, read, made, changed = (after - before for before, after in zip(first, totals(), strict=True))
        return Load(
            nodes=nodes,
            registers=registers,
            start_s=start_s,
            cpu=cpu / elapsed,
            simulators_cpu=busy / elapsed,
            polls=read / (registers * elapsed / INTERVAL_S),
            changes=changed / made,
            rss_mib=rss_mib(child.pid),
        )


async def _first_values(url: str, tags: int) -> float:
    names = [node_name(number) for number in range(tags)]
    settings = OpcUaSettings.model_validate(
        {
            "driver": "opcua", "url": url, "security": {"insecure": True}, "mode": "subscribe",
            "tags": {name: {"node": f"nsu={NAMESPACE};s={name}"} for name in names},
        }
    )  # fmt: skip
    driver = make_driver(settings, SystemClock(), name="plc", secrets=lambda secret: "")
    assert isinstance(driver, Subscribing)
    began = time.monotonic()
    try:
        await driver.connect()
        async with aclosing(driver.subscribe(names)) as batches:  # type: ignore[type-var]
            batch = await anext(batches)
        elapsed = time.monotonic() - began
    finally:
        await driver.close()
    good = sum(reading.quality is Quality.GOOD for reading in batch)
    if good != tags:
        raise RuntimeError(f"the first batch has {good} good values of {tags}")
    return elapsed


def first_values(directory: Path, tags: int = FIRST_TAGS, runs: int = 3) -> list[float]:
    """Seconds from connecting to the first value of each of `tags`, of several runs."""
    with ExitStack() as stack:
        _, told = _simulator(stack, directory, "tests.scale.many_nodes", "--nodes", str(tags))
        return [asyncio.run(_first_values(str(told["url"]), tags)) for _ in range(runs)]


def table(first: list[float], load: Load) -> Iterator[str]:
    runs = ", ".join(f"{seconds:.2f}" for seconds in first)
    yield f"connect to first value of {FIRST_TAGS} OPC UA tags: {runs} s"
    modbus = max(seconds for device, seconds in load.start_s.items() if device != "opcua")
    yield f"{load.nodes} OPC UA tags ({CHANGES_SHARE:.0%} change a second) and {load.registers} Modbus registers every {INTERVAL_S:g} s:"
    yield f"  start of the daemon to the first value of every tag: Modbus {modbus:.1f} s, OPC UA {load.start_s['opcua']:.1f} s"
    yield f"  CPU {load.cpu:.0%} of one core (the simulators {load.simulators_cpu:.0%}), memory {load.rss_mib:.0f} MiB"
    yield f"  {load.polls:.1%} of the registers read in time, {load.changes:.1%} of the changes arrived"


def failures(first: list[float], load: Load) -> Iterator[str]:
    if max(first) > FIRST_LIMIT_S:
        yield f"{FIRST_TAGS} tags took {max(first):.2f} s, the limit is {FIRST_LIMIT_S:g} s"
    for what, share, least in (("registers read in time", load.polls, LEAST_POLLS), ("changes that arrived", load.changes, LEAST_CHANGES)):
        if share < least:
            yield f"{what}: {share:.1%}, the limit is {least:.0%}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.run", description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--registers", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the window")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="lineside-scale-") as directory:
            first = first_values(Path(directory))
            load = measure(given.nodes, given.registers, given.seconds, Path(directory))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(*table(first, load), sep="\n")
    wrong = list(failures(first, load))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
