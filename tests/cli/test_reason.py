"""`lineside reason`: what it refuses by itself, and the way to a running gateway and back over a broker."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.__main__ import main
from tests.uplink.brokers import Behaviour, Mosquitto, StubBroker

CONFIG = """\
gateway: {{id: gw, enterprise: acme, site: lyon, time_zone: Europe/Paris, listen: "127.0.0.1:0"}}
devices: {{plc: {{driver: modbus, url: "tcp://127.0.0.1:9", tags: {{lamp: {{discrete: 0}}}}}}}}
work_units:
  bench-1: {{area: hall, work_center: line-1, device: plc, ideal_cycle_time: 60s, state: {{from: order}}}}
reasons:
  no_parts: {{class: induced, text: {{fr: Manque de pièces, en: No parts}}}}
  broken: {{class: failure}}
uplinks: {uplinks}
"""


def config(folder: Path, *urls: str) -> str:
    uplinks = f"{{plant: {{type: mqtt, urls: {json.dumps(urls)}}}}}" if urls else "{}"
    path = folder / "line.yaml"
    path.write_text(CONFIG.format(uplinks=uplinks), encoding="utf-8")
    return str(path)


def test_the_reasons_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reason", "--list", "-c", config(tmp_path)]) == 0
    assert capsys.readouterr().out == "no_parts  induced     No parts\nbroken    failure     broken\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "a work unit and a reason are needed; see the reasons with --list"),
        (["bench-2", "broken"], "there is no work unit bench-2; did you mean `bench-1`?"),
        (["bench-1", "brocken"], "there is no reason brocken; did you mean `broken`?"),
        (["bench-1", "broken"], "this configuration has no broker, and a reason reaches the gateway through one; add"),
    ],
)
def test_what_cannot_be_sent_is_told_before(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(["reason", *words, "-c", config(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize("time", ["yesterday", "2026-11-24T09:40"])
def test_a_time_needs_its_offset(tmp_path: Path, capsys: pytest.CaptureFixture[str], time: str) -> None:
    assert main(["reason", "bench-1", "broken", "--at", time, "-c", config(tmp_path, "mqtt://127.0.0.1:1")]) == 2
    assert capsys.readouterr().err.startswith("--at is no time; write it with its offset")


def test_no_broker_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reason", "bench-1", "broken", "-c", config(tmp_path, "mqtt://127.0.0.1:1")]) == 1
    assert capsys.readouterr().err.startswith("the broker of `plant` cannot be used; check that it runs")


async def test_a_broker_where_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broker = StubBroker(Behaviour(reason=lambda _topic, _count: 0x10))
    await broker.start()
    try:
        status = await asyncio.to_thread(main, ["reason", "bench-1", "broken", "--by", "anne", "-c", config(tmp_path, broker.url)])
    finally:
        await broker.stop()
    assert status == 1
    assert capsys.readouterr().err.startswith("the broker has the reason, and no gateway answers; check that lineside runs")
    ((topic, payload),) = broker.published
    assert topic == "lineside/v1/acme/lyon/hall/line-1/bench-1/command"
    fact = json.loads(payload)
    assert (fact["command"], fact["reason"], fact["by"]) == ("ExplainStop", "broken", "anne")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[str]:
    """The path of the configuration of a running gateway whose post stands."""
    broker = Mosquitto(tmp_path / "broker")
    await broker.start()
    path = config(tmp_path, broker.url)
    words = ["run", "-c", path, "--state-dir", str(tmp_path / "state")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield path
    finally:
        process.terminate()
        await process.wait()
        broker.kill()


@pytest.mark.slow
async def test_the_stop_that_goes_on_gets_its_reason(daemon: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(main, ["reason", "bench-1", "no_parts", "-c", daemon]) != 0:
            await asyncio.sleep(0.2)
    assert capsys.readouterr().out.endswith("is no_parts\n")
    long_ago = ["reason", "bench-1", "broken", "--at", "2020-01-01T00:00Z", "-c", daemon]
    assert await asyncio.to_thread(main, long_ago) == 1
    assert "more than 48 h ago; check --at and the reason" in capsys.readouterr().err
