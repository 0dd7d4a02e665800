"""`lineside check` on a right configuration: what it says, and what --connect finds."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from asyncua import Server, ua

from gateway.__main__ import main
from gateway.cli.check import cautions, foreign_drivers
from gateway.cli.connect import try_links
from tests.config.plant import BASE, loaded, write

CONFIG = Path(__file__).parents[2] / "config"


def test_a_right_configuration_fits_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(CONFIG / "modbus-packer.yaml")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{CONFIG / 'modbus-packer.yaml'}: no mistakes (3 files, digest ")
    for word in ("line-pc-08", "packer_plc: Modbus 192.168.10.22:502, 6 tags", "labeller-01", "ideal 0.5 s", "no uplinks"):
        assert word in out
    assert len(out.splitlines()) <= 24


OPCUA = "url: opc.tcp://192.0.2.3:4840, tags: {a: {node: ns=2;i=1}}"
SECURED = "{policy: Basic256Sha256, mode: SignAndEncrypt}"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (("    ideal_cycle_time: 1.2s\n", ""), "m-1: no ideal_cycle_time"),
        (("state: {from: bits, running: running}", "state: {from: order}"), "m-1: its state comes from its orders and no uplink"),
        (
            ("    device: plc\n", "    device: plc\n    oee: {no_order_bucket: unloaded}\n"),
            "m-1: no_order_bucket is unloaded and no uplink",
        ),
        ((", time_zone: Europe/Paris", ""), "no time_zone"),
        (("time_zone: Europe/Paris", "time_zone: UTC, listen: '0.0.0.0:8080'"), "open to the network"),
        (("    device: plc", "    device: plc"), "other: no work unit uses this device"),
        (("devices:", "uplinks: {erp: {type: http, url: 'http://erp.lan/x', insecure: true}}\ndevices:"), "erp: secrets and data cross"),
        (("  other:", f"  press: {{driver: opcua, {OPCUA}, security: {{insecure: true}}}}\n  other:"), "press: no security"),
        (("  other:", f"  press: {{driver: opcua, {OPCUA}, security: {SECURED}}}\n  other:"), "press: no server_certificate"),
        (("devices:", "uplinks: {erp: {type: http, url: 'https://erp.lan/x'}}\ndevices:"), "erp: no token"),
        (("devices:", "uplinks: {p: {type: mqtt, urls: ['mqtt://broker'], insecure: true}}\ndevices:"), "p: secrets and data cross"),
    ],
)
def test_notes(tmp_path: Path, change: tuple[str, str], note: str) -> None:
    assert any(note in told for told in cautions(loaded(tmp_path, BASE.replace(*change))))


def test_no_note_where_there_is_nothing_to_say(tmp_path: Path) -> None:
    text = BASE.replace("total: parts", "total: other/parts") + (
        "uplinks: {p: {type: mqtt, urls: ['mqtt://127.0.0.1']}, e: {type: http, url: 'https://erp.lan/x', token: {file: t}}}\n"
    )
    assert list(cautions(loaded(tmp_path, text))) == []


def test_another_owner_of_drivers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(foreign_drivers()) == []
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"drivers": ["lineside", "acme-drivers"]})
    assert ["acme-drivers also installs" in told for told in foreign_drivers()] == [True]


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """`--connect` silences the libraries' logs for its whole process, which here is the tests' own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is held and does not listen, so that nobody else gets it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def test_each_link_is_tried_once(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "r.csv").write_text("at,device,tag,value,quality\n2026-11-24T09:00:00Z,rec,parts,5,good\n", encoding="utf-8")
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = f"""
        gateway: {{id: gw, enterprise: acme, site: lyon}}
        devices:
          rec: {{driver: replay, file: r.csv}}
          gone: {{driver: modbus, url: "tcp://127.0.0.1:{closed_port}", timeout: 200ms, tags: {{a: {{coil: 0}}}}}}
          lost: {{driver: replay, file: none.csv}}
        work_units:
          m-1: {{area: a, work_center: w, device: rec, state: {{from: bits, running: run}}, counts: {{total: parts}}}}
        uplinks:
          plant: {{type: mqtt, urls: ["mqtt://127.0.0.1:{port}", "mqtt://127.0.0.1:{closed_port}"]}}
        """
    async with server:
        trials = await try_links(loaded(tmp_path, text))
    assert [(trial.name, trial.works) for trial in trials] == [
        ("rec", False), ("gone", False), ("lost", False), ("plant", False), ("plant", False),
    ]  # fmt: skip
    assert trials[0].told == "1 reading"
    assert "tag run: not in the recording" in str(trials[0])
    assert f"127.0.0.1:{closed_port}" in str(trials[1])
    # Somebody listens there, and it is no broker.
    assert f"FAILED    plant: MQTT 127.0.0.1:{port}: cannot be used" in str(trials[3])


@pytest.mark.usefixtures("logs_as_before")
def test_connect_decides_the_exit_code(tmp_path: Path, closed_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.csv").write_text("at,device,tag,value,quality\n2026-11-24T09:00:00Z,rec,parts,5,good\n", encoding="utf-8")
    text = """
        gateway: {id: gw, enterprise: acme, site: lyon}
        devices: {rec: {driver: replay, file: r.csv}}
        work_units: {m-1: {area: a, work_center: w, device: rec, state: {from: counts}, counts: {total: parts}}}
        """
    path = write(tmp_path, text)
    assert main(["check", str(path), "--connect"]) == 0
    assert "connected rec: " in capsys.readouterr().out
    with path.open("a", encoding="utf-8") as file:
        file.write(f"uplinks: {{plant: {{type: mqtt, urls: ['mqtt://127.0.0.1:{closed_port}']}}}}\n")
    assert main(["check", str(path), "--connect"]) == 1
    assert "FAILED    plant: " in capsys.readouterr().out


@pytest.mark.slow
async def test_a_tag_that_the_plc_does_not_have_is_told_by_name(tmp_path: Path) -> None:
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    namespace = await server.register_namespace("urn:acme:press")
    await server.nodes.objects.add_variable(ua.NodeId("Counters.Total", namespace), "Total", 48213)
    async with server:
        port = server.bserver._server.sockets[0].getsockname()[1]
        text = f"""
            gateway: {{id: gw, enterprise: acme, site: lyon}}
            devices:
              press:
                driver: opcua
                url: opc.tcp://127.0.0.1:{port}
                security: {{insecure: true}}
                timeout: 2s
                tags: {{parts: {{node: "nsu=urn:acme:press;s=Counters.Total"}}, gone: {{node: "nsu=urn:acme:press;s=Gone"}}}}
            work_units:
              m-1: {{area: a, work_center: w, device: press, state: {{from: counts}}, counts: {{total: parts}}}}
            """
        (trial,) = await try_links(loaded(tmp_path, text))
    assert not trial.works
    assert trial.told == "1 of 2 tags read"
    assert trial.details[0].startswith("tag gone: BadNodeIdUnknown")
