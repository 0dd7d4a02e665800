from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from drivers.settings import parse_duration
from gateway.cli import demo_plant
from gateway.cli.demo import _fresh
from gateway.cli.demo_plant import HOST, Children, DemoError, choose_broker, demo_config, free_port, python
from gateway.clock import SystemClock
from gateway.outbox.statedir import DATABASE, lock

ROOT = Path(__file__).parents[2]
ADDRESSES = {
    "listen": "127.0.0.1:8080",
    "press_url": "opc.tcp://127.0.0.1:4840",
    "packer_url": "tcp://127.0.0.1:5020",
    "erp_url": "http://127.0.0.1:8090",
    "broker_url": "mqtt://127.0.0.1:1883",
    "protocol": "auto",
    "token": "{credential: erp}",
}


def test_the_example_in_config_is_the_demo_at_its_own_speed() -> None:
    assert (ROOT / "config" / "demo.yaml").read_text("utf-8") == demo_config(speed=1, language="en", **ADDRESSES)


def test_speed_divides_ideal_times_and_thresholds_and_nothing_else() -> None:
    slow, fast = (yaml.safe_load(demo_config(speed=speed, language="en", **ADDRESSES)) for speed in (1, 5))
    for unit in ("press-07", "packer-02"):
        one, five = slow["work_units"][unit], fast["work_units"][unit]
        for path in (("ideal_cycle_time",), ("cycles", "micro_min"), ("cycles", "stop_threshold")):
            assert _duration(one, *path) == pytest.approx(5 * _duration(five, *path)), path
        assert five["cycles"]["slow_tolerance"] == one["cycles"]["slow_tolerance"]
    assert fast["devices"]["press_plc"]["tags"] == slow["devices"]["press_plc"]["tags"]


def _duration(node: Any, *path: str) -> float:
    for key in path:
        node = node[key]
    return parse_duration(node)


def test_the_page_keeps_its_port_unless_it_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port


def test_mosquitto_is_preferred_and_an_absent_broker_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_plant.shutil, "which", lambda name, path: "/opt/bin/mosquitto")
    there = choose_broker("auto")
    assert (there.command[-2:], there.protocol, there.consumer) == (("--mosquitto", "/opt/bin/mosquitto"), "auto", "5")
    assert choose_broker("amqtt").protocol == '"3.1.1"'
    monkeypatch.setattr(demo_plant.shutil, "which", lambda name, path: None)
    assert choose_broker("auto").name == "amqtt"
    with pytest.raises(DemoError, match="apt-get install mosquitto"):
        choose_broker("mosquitto")
    monkeypatch.setattr(demo_plant.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DemoError, match="pip install amqtt"):
        choose_broker("auto")


def test_an_earlier_demo_is_moved_aside(tmp_path: Path) -> None:
    _fresh(tmp_path)
    (tmp_path / DATABASE).write_text("first")
    _fresh(tmp_path)
    (tmp_path / DATABASE).write_text("second")
    _fresh(tmp_path)
    assert not (tmp_path / DATABASE).exists()
    assert [(tmp_path / f"earlier-{n}" / DATABASE).read_text() for n in (1, 2)] == ["first", "second"]
    assert (tmp_path / "logs").is_dir()


def test_a_folder_that_a_gateway_uses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("in use")
    handle = lock(tmp_path)
    try:
        with pytest.raises(DemoError, match="already in use by another gateway"):
            _fresh(tmp_path)
    finally:
        os.close(handle)
    assert (tmp_path / DATABASE).read_text() == "in use"


@pytest.fixture
async def children(tmp_path: Path) -> AsyncIterator[Children]:
    children = Children(SystemClock(), tmp_path)
    yield children
    await children.stop_all()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    """Whether a process still runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


async def test_a_child_that_ends_by_itself_is_named_with_its_last_words(children: Children) -> None:
    child = await children.start("plant", [sys.executable, "-c", "print('no more oil'); raise SystemExit(3)"])
    await child.process.wait()
    with pytest.raises(DemoError, match=r"(?s)plant ended by itself \(code 3\).*no more oil"):
        children.check()


async def test_a_command_that_does_not_exist_is_said(children: Children) -> None:
    with pytest.raises(DemoError, match="broker could not be started"):
        await children.start("broker", ["/nowhere/mosquitto"])


async def test_stopping_a_child_ends_what_it_started_too(children: Children, tmp_path: Path) -> None:
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    child = await children.start("plant", [sys.executable, "-c", script])
    await _until(lambda: (tmp_path / "plant.log").read_text().endswith("\n"))
    grandchild = int((tmp_path / "plant.log").read_text())
    await children.stop("plant")
    await _until(lambda: not _alive(grandchild))
    assert child.process.returncode == -signal.SIGTERM
    assert await children.stop("plant") is None


async def test_a_child_that_does_not_listen_is_killed(children: Children, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_plant, "STOP_S", 0.2)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    child = await children.start("gateway", [sys.executable, "-c", script])
    await _until(lambda: (tmp_path / "gateway.log").read_text() == "deaf\n")
    assert await children.stop("gateway") == -signal.SIGKILL
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.slow
async def test_children_run_this_code_whatever_lies_in_the_current_folder(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "simulators").mkdir()
    (tmp_path / "simulators" / "__init__.py").write_text("raise SystemExit('not me')")
    monkeypatch.chdir(tmp_path)
    child = await children.start("press", python("simulators.press", "--seconds", "3"))
    assert await child.process.wait() == 0
    assert '"total": 48214' in child.last_lines()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_a_killed_demo_leaves_no_orphan(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from gateway.cli.demo_plant import Children, choose_broker\n"
        "from gateway.clock import SystemClock\n"
        "async def main():\n"
        "    broker = choose_broker('mosquitto')\n"
        "    child = await Children(SystemClock(), pathlib.Path(sys.argv[1])).start('broker', broker.command)\n"
        "    print(broker.port, flush=True)\n"
        "    await child.process.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    await _until(lambda: _listens(port))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    # mosquitto changes its user when it is started by root, and would then no longer hear of its parent's end by itself.
    await _until(lambda: not _listens(port))
