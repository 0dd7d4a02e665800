"""The bench itself: its configuration loads, its devices answer as Modbus says, its verdict can be no."""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.config import load
from tests.bench import replay, run
from tests.bench.plcs import Connection, Device, Served


def cost(name: str, cpu_us: float, *, published: float = 1.0, asked: float = 1.0) -> run.Cost:
    return run.Cost(name=name, interval_s=0.1, registers=1000, asked=asked, cpu_us=cpu_us, published=published, rss_mib=30.0)


@pytest.mark.parametrize("interval_s", [1.0, 0.1])
def test_the_configuration_loads(tmp_path: Path, interval_s: float) -> None:
    file = tmp_path / "lineside.yaml"
    file.write_text(json.dumps(run.configuration([5020 + n for n in range(10)], 1883, interval_s)))
    config = load(file)
    assert len(config.work_units) == run.DEVICES
    assert {len(device.tags) for device in config.devices.values()} == {run.REGISTERS}
    assert {device.interval for device in config.devices.values()} == {interval_s}


def test_a_device_answers_and_all_its_registers_change() -> None:
    served = Served()
    link = Connection(Device(3), served)
    first, second = (link._answer(struct.pack(">HHHBBHH", 7, 0, 6, 1, 3, 0, 100)) for _ in range(2))
    assert struct.unpack(">HHHBB", first[:8]) == (7, 0, 203, 1, 3)
    before, after = (struct.unpack(">100H", answer[9:]) for answer in (first, second))
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert (before[0], after[0]) == (1, 2), "one piece a request"
    assert before[1] & after[1] & 1 == 1, "always running"
    assert (served.requests, served.registers) == (2, 200)
    assert link._answer(struct.pack(">HHHBBHH", 8, 0, 6, 1, 3, 60, 41))[7:] == b"\x83\x02", "past the end: illegal address"
    assert link._answer(struct.pack(">HHHBBHH", 8, 0, 6, 1, 4, 0, 1))[7:] == b"\x84\x01", "another function: illegal function"


def test_the_verdict() -> None:
    thin = cost("thin script", 4.0)
    assert list(run.failures([thin, cost("lineside", 9.9)], 2.5)) == []
    assert "2.60 times" in next(run.failures([thin, cost("lineside", 10.4)], 2.5))
    assert "published 80.0%" in next(run.failures([thin, cost("lineside", 4.0, published=0.8)], 2.5))
    assert "50% of the polls" in next(run.failures([thin, cost("lineside", 4.0, asked=0.5)], 2.5))
    assert "2.50" in "\n".join(run.table([thin, cost("lineside", 10.0)]))


@pytest.mark.slow
def test_the_thin_script_is_measured() -> None:
    """The whole harness on its floor: broker, devices, listener, one window."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context((directory / "log.txt").open("ab"))
        port = stack.enter_context(run.broker(directory, log))
        plcs = stack.enter_context(run.devices(log))
        heard = run.Listener(port)
        stack.callback(heard.close)
        thin = stack.enter_context(run.process(sys.executable, "-m", *run.thin(plcs.ports, port, 0.1), log=log))
        found = run.measure("thin script", 0.1, thin, plcs, heard, 2.0)
    assert found.asked == pytest.approx(1.0, abs=0.15)
    assert found.published == pytest.approx(1.0, abs=0.1)
    assert 0.1 < found.cpu_us < 200
    assert found.rss_mib > 5


# --- replay -----------------------------------------------------------------------------------------------------------------


def figure(kind: replay.Kind, *, cpu_s: float = 1.0, most_mib: float = 52.0) -> replay.Figure:
    return replay.Figure(kind, readings=200_000, cpu_s=cpu_s, csv_us=0.4, early_mib=50.0, most_mib=most_mib)


def test_the_recordings_replay_verdict() -> None:
    first, second, _ = replay.KINDS
    assert list(replay.failures([figure(first)], 100_000)) == []
    assert "50,000 readings a second" in next(replay.failures([figure(first, cpu_s=4.0)], 100_000))
    assert list(replay.failures([figure(second, cpu_s=4.0)], 100_000)) == [], "the limit is for the first"
    assert "grew from 50 to 61 MiB" in next(replay.failures([figure(second, most_mib=61.0)], 1))
    assert "held 201 MiB" in next(replay.failures([figure(first, most_mib=201.0)], 1))
    assert "200,000" in "\n".join(replay.table([figure(first)], 30))


@pytest.mark.parametrize("kind", replay.KINDS, ids=lambda kind: kind.name)
def test_a_recording_of_the_bench_loads_and_makes_pieces(tmp_path: Path, kind: replay.Kind) -> None:
    config = tmp_path / "bench.yaml"
    config.write_text(json.dumps(replay.configuration(kind)))
    assert list(load(config).work_units) == ["press"]
    with (tmp_path / "recording.csv").open("w") as file:
        readings = replay.record(file, kind, 0.05)
    rows = (tmp_path / "recording.csv").read_text().splitlines()[1:]
    assert len(rows) == readings
    assert sum(",parts," in row for row in rows) == 0.05 * replay.DAY_S, "the counter is read every second"
    assert int(rows[-1].split(",")[3]) > 1000 / kind.piece_s


@pytest.mark.slow
def test_a_replay_is_measured(tmp_path: Path) -> None:
    found = replay.measure(replay.KINDS[1], 0.2, tmp_path)
    assert found.readings >= 0.2 * replay.DAY_S
    assert found.rate > 1000
    assert 20 < found.early_mib <= found.most_mib < replay.MOST_MIB
