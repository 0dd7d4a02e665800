"""Many events for a long time, below the whole daemon: does it take more and more of anything, does its loop stay quick?

Twenty Modbus machines that count a piece at every poll and stop now and then, an order on each, a real broker, a consumer that
acknowledges what it has. After a warm-up the daemon's memory, threads, descriptors and tasks are looked at every second; a line is fitted
through the memory. Its loop may be late by more than 50 ms as seldom as one time in a hundred, beside what another loop on this machine
that does as much is at the same time. The consumer must get every event once, in order. Exit 1 when anything of this does not hold.

    python -m tests.chaos.soak --seconds 240 --rate 100
    python -m tests.chaos.soak --events 864000 --rate 500
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.run import broker, cpu_seconds, free_port, process
from tests.chaos.daemon import POOL_THREADS

UNITS = 20
USUAL_RATE = 10
"""Ledger events a second of a usual line; the long run brings as many as a day of them."""
STANDS_S = 64.0
"""Each machine stands as long and runs as long; a stop is remembered for two days, so many of them are a memory and no leak."""
WARM_UP_S = 330.0
"""What is bounded has been full once by then: the bin of cycle times (five minutes), the latest rows, the journal's caches, what waits for
the garbage collector, the allocator's reserves for all of these."""
LOOK_S = 1.0
GROWTH_MB = 1.0
LATE_SHARE = 0.01
LATE_S = "0.05"
SPREAD_TASKS = 2
"""Tasks come and go with what is under way; in the middle there are as many at the end as at the beginning."""
BASE = "lineside/v1/test/test"


def configuration(ports: Sequence[int], broker_port: int, listen: str, rate: float) -> dict[str, Any]:
    """One piece a poll; the machine stops and starts with a bit of its own counter."""
    polls = rate / len(ports)
    bit = min(max(round(math.log2(STANDS_S * polls)), 1), 15)
    tags = {
        "parts": {"holding": 0, "type": "uint16"}, "alive": {"holding": 1, "bit": 0}, "running": {"holding": 0, "bit": bit, "invert": True},
    }  # fmt: skip
    interval = f"{round(1000 / polls)}ms"
    return {
        "gateway": {"id": "soak", "enterprise": "test", "site": "test", "time_zone": "UTC", "language": "en", "listen": listen},
        "devices": {
            f"dev-{n}": {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "interval": interval, "tags": tags}
            for n, port in enumerate(ports)
        },
        "work_units": {
            f"unit-{n}": {
                "area": "hall", "work_center": f"line-{n}", "device": f"dev-{n}", "ideal_cycle_time": f"{max(1 / polls, 0.01):.3f}s",
                "state": {"from": "bits", "running": "running"}, "counts": {"total": "parts"},
            }
            for n in range(len(ports))
        },
        "uplinks": {"plant": {"type": "mqtt", "urls": [f"mqtt://127.0.0.1:{broker_port}"], "root": "lineside/v1", "consumers": ["mes"]}},
    }  # fmt: skip


class Consumer:
    """Takes every ledger event, says how far it is, and keeps nothing."""

    def __init__(self, port: int) -> None:
        self.last = 0
        self.holes = 0
        self.repeats = 0
        self.epoch = ""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="mes", protocol=paho.MQTTv5)
        self._client.on_message = self._heard
        self._client.on_connect = lambda client, *_: client.subscribe(f"{BASE}/+/+/+/event/#", qos=1)
        self._client.message_callback_add(f"{BASE}/_gateway/+/event/#", self._heard)
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(f"{BASE}/_gateway/+/event/#", qos=1)
        self._client.loop_start()

    def _heard(self, _client: object, _user: object, message: paho.MQTTMessage) -> None:
        event = json.loads(message.payload)
        self.epoch, sequence = event["epoch"], event["sequence"]
        if sequence <= self.last:
            self.repeats += 1
            return
        self.holes += sequence - self.last - 1
        self.last = sequence

    def acknowledge(self) -> None:
        if self.epoch:
            body = {"consumer": "mes", "epoch": self.epoch, "sequence": self.last}
            self._client.publish(f"{BASE}/_gateway/soak/ack", json.dumps(body), qos=1)

    def order(self, unit: str, number: int) -> None:
        """Start an order that is never done."""
        order = {"job_order_id": f"OF-{number}", "quantity": 100_000_000, "unit": "C62"}
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {"command": "StoreAndStart", "command_id": f"soak-{number}", "issued_at": at, "job_order": order}
        self._client.publish(f"{BASE}/hall/line-{number}/{unit}/job/command", json.dumps(body), qos=1)

    def close(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()


@dataclass
class Looks:
    """What was seen each second after the warm-up."""

    at: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)

    @property
    def growth_mb(self) -> float:
        """Of the memory over the whole window, along the fitted line."""
        if len(self.at) < 2:
            return 0.0
        return statistics.linear_regression(self.at, self.rss).slope * (self.at[-1] - self.at[0]) / 1e6


@dataclass(frozen=True)
class Outcome:
    looks: Looks
    events: int
    seconds: float
    cpu: float
    late_share: float
    idle_late_share: float
    holes: int
    repeats: int
    left: int
    """Events that the consumer had not got at the end."""


class Scrape:
    """One look at `/metrics`. All looks go through one connection: each new one would leave a few kilobytes to the garbage collector."""

    def __init__(self, metrics: http.client.HTTPConnection) -> None:
        metrics.request("GET", "/metrics")
        families = list(text_string_to_metric_families(metrics.getresponse().read().decode()))
        self._samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())

    @property
    def lag(self) -> tuple[float, float]:
        """Probes of the loop, and those that were in time."""
        return self("lineside_loop_lag_seconds_count"), self("lineside_loop_lag_seconds_bucket", le=LATE_S)


def _ready(listen: str, child: subprocess.Popen[bytes], log: Path) -> None:
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        if child.poll() is not None:
            break
        try:
            with closing(http.client.HTTPConnection(listen, timeout=60)) as metrics:
                if Scrape(metrics)("lineside_link_up", kind="device") == UNITS:
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the daemon does not read its machines:\n{log.read_text()[-2000:]}")


def _look(pid: int, looks: Looks, tasks: int) -> None:
    looks.at.append(time.monotonic())
    looks.rss.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    looks.threads.append(len(os.listdir(f"/proc/{pid}/task")))
    looks.files.append(len(os.listdir(f"/proc/{pid}/fd")))
    looks.tasks.append(tasks)


def _idle(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"\n")
    child.stdin.flush()
    told = json.loads(child.stdout.readline())
    return told["probes"], told["late"]


def run(seconds: float | None, events: int | None, rate: float, directory: Path, *, warm_up_s: float = WARM_UP_S) -> Outcome:
    """Until `seconds` after the warm-up, or `events` of the ledger, have gone by."""
    with ExitStack() as stack:
        log_path = directory / "soak.log"
        log = stack.enter_context(log_path.open("ab"))
        port = stack.enter_context(broker(directory, log))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        plcs = ["-m", "tests.scale.many_registers", "--devices", str(UNITS), "--registers", "10"]
        machines = stack.enter_context(process(sys.executable, *plcs, log=log, **pipes))
        assert machines.stdout is not None
        ports = json.loads(machines.stdout.readline())["ports"]
        idle = stack.enter_context(process(sys.executable, "-m", "tests.chaos.idle", log=log, **pipes))
        listen = f"127.0.0.1:{free_port()}"
        config = directory / "soak.yaml"
        config.write_text(json.dumps(configuration(ports, port, listen, rate), indent=1))
        consumer = Consumer(port)
        stack.callback(consumer.close)
        command = ["-m", "gateway", "run", "-c", str(config), "--state-dir", str(directory / "state")]
        daemon = stack.enter_context(process(sys.executable, *command, log=log))
        _ready(listen, daemon, log_path)
        for number in range(UNITS):
            consumer.order(f"unit-{number}", number)
        ticking = threading.Event()
        acking = threading.Thread(target=_acknowledge, args=(consumer, ticking), daemon=True)
        acking.start()
        stack.callback(ticking.set)
        time.sleep(warm_up_s)
        metrics = stack.enter_context(closing(http.client.HTTPConnection(listen, timeout=60)))
        return _watch(daemon, idle, consumer, metrics, seconds, events)


def _acknowledge(consumer: Consumer, over: threading.Event) -> None:
    while not over.wait(1.0):
        consumer.acknowledge()


def _watch(
    daemon: subprocess.Popen[bytes],
    idle: subprocess.Popen[bytes],
    consumer: Consumer,
    metrics: http.client.HTTPConnection,
    seconds: float | None,
    events: int | None,
) -> Outcome:
    looks, before = Looks(), Scrape(metrics)
    _idle(idle)
    began, cpu = time.monotonic(), cpu_seconds(daemon.pid)
    present = before
    while not _enough(seconds, events, time.monotonic() - began, int(present("lineside_ledger_sequence"))):
        time.sleep(LOOK_S)
        if daemon.poll() is not None:
            raise RuntimeError(f"the daemon ended by itself with {daemon.returncode}")
        present = Scrape(metrics)
        _look(daemon.pid, looks, int(present("lineside_tasks")))
    elapsed, cpu = time.monotonic() - began, cpu_seconds(daemon.pid) - cpu
    probes, late = _idle(idle)
    counted, in_time = (now - then for now, then in zip(present.lag, before.lag, strict=True))
    told = int(present("lineside_ledger_sequence"))
    patience = time.monotonic() + 30
    while consumer.last < told and time.monotonic() < patience:
        time.sleep(0.2)
    return Outcome(
        looks, told - int(before("lineside_ledger_sequence")), elapsed, cpu / elapsed, 1 - in_time / counted, late / probes,
        consumer.holes, consumer.repeats, max(told - consumer.last, 0),
    )  # fmt: skip


def _enough(seconds: float | None, events: int | None, passed: float, told: int) -> bool:
    return (seconds is not None and passed >= seconds) or (events is not None and told >= events)


def table(outcome: Outcome) -> Iterator[str]:
    looks = outcome.looks
    rate = outcome.events / outcome.seconds
    yield f"{outcome.events} ledger events in {outcome.seconds:.0f} s ({rate:.0f} a second, {USUAL_RATE} are usual)"
    yield f"memory         {looks.rss[0] / 1e6:.1f} -> {looks.rss[-1] / 1e6:.1f} MB, along the line {looks.growth_mb:+.2f} MB"
    for name, seen in (("threads", looks.threads), ("descriptors", looks.files), ("tasks", looks.tasks)):
        first, last = _ends(seen)
        yield f"{name:<14} {first:g} -> {last:g}, between {min(seen)} and {max(seen)}"
    yield f"loop later than 50 ms: {outcome.late_share:.2%} of the time, another loop here {outcome.idle_late_share:.2%}"
    yield f"processor      {outcome.cpu:.0%} of a core"
    yield f"consumer       {outcome.holes} missing, {outcome.left} not there at the end, {outcome.repeats} sent again"


def _ends(seen: Sequence[int]) -> tuple[float, float]:
    """In the middle of the first and of the last third."""
    third = max(len(seen) // 3, 1)
    return statistics.median(seen[:third]), statistics.median(seen[-third:])


def failures(outcome: Outcome, growth_mb: float = GROWTH_MB) -> Iterator[str]:
    looks = outcome.looks
    if looks.growth_mb > growth_mb:
        yield f"memory grew by {looks.growth_mb:.2f} MB"
    for name, seen, spread in (
        ("threads", looks.threads, POOL_THREADS),
        ("descriptors", looks.files, 0),
        ("tasks", looks.tasks, SPREAD_TASKS),
    ):
        first, last = _ends(seen)
        if last > first + spread:
            yield f"{name} grew from {first:g} to {last:g}"
    if outcome.late_share > LATE_SHARE + outcome.idle_late_share:
        yield f"the loop was late {outcome.late_share:.2%} of the time"
    if outcome.holes or outcome.left:
        yield f"the consumer misses {outcome.holes + outcome.left} events"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="how long after the warm-up (240 unless --events is given)")
    parser.add_argument("--events", type=int, help="how many ledger events; 864000 are a day at the usual rate")
    parser.add_argument("--rate", type=float, default=10.0 * USUAL_RATE, help="ledger events a second")
    given = parser.parse_args()
    seconds = 240.0 if given.seconds is None and given.events is None else given.seconds
    with tempfile.TemporaryDirectory(prefix="lineside-soak-") as directory:
        outcome = run(seconds, given.events, given.rate, Path(directory))
    print(*table(outcome), sep="\n")
    found = list(failures(outcome))
    print(*(f"FAILED: {line}" for line in found), sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
