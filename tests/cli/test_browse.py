"""`lineside browse` and `lineside read` on real servers: what is listed can be pasted into a configuration and read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from gateway.__main__ import main
from gateway.cli.exploring import printable
from gateway.cli.tag_list import tag_names
from gateway.config import load
from tests.drivers.devices import Device, ModbusDevice, MTConnectDevice, OpcUaDevice
from tests.drivers.secured_plc import SecuredDevice
from tests.peers import listening, peer


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """These commands silence the libraries' logs for their whole process, which here is the tests' own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Line:
    """A configuration for a device, and the command line on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
        self.path = folder / "line.yaml"
        self._capsys = capsys
        self.path.write_text(f"gateway: {{id: gw, enterprise: acme, site: lyon}}\ndevices:\n  plc: {{{device}}}\n", encoding="utf-8")

    async def __call__(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error; in a thread, because the command has an event loop of its own."""
        state = str(self.path.parent / "state")
        code = await asyncio.to_thread(main, [command, str(self.path), "plc", *arguments, "--state-dir", state])
        out, err = self._capsys.readouterr()
        return code, out, err

    def paste(self, tags_csv: str, total: str) -> None:
        """Make it a whole configuration with these tags."""
        (self.path.parent / "tags.csv").write_text(tags_csv, encoding="utf-8")
        text = self.path.read_text(encoding="utf-8").replace("}\n", ", tags_csv: tags.csv}\n").replace("lyon, tags_csv: tags.csv}", "lyon}")
        unit = f"work_units: {{m-1: {{area: a, work_center: w, device: plc, state: {{from: counts}}, counts: {{total: {total}}}}}}}\n"
        self.path.write_text(text + unit, encoding="utf-8")


def opcua(port: int) -> str:
    return f"driver: opcua, url: 'opc.tcp://127.0.0.1:{port}', security: {{insecure: true}}, timeout: 2s"


def modbus(port: int, more: str = "") -> str:
    return f"driver: modbus, url: 'tcp://127.0.0.1:{port}'{more}"


@contextlib.asynccontextmanager
async def running(device: Device) -> AsyncIterator[Device]:
    await device.start()
    try:
        yield device
    finally:
        await device.stop()


@pytest_asyncio.fixture
async def press(tmp_path: Path) -> AsyncIterator[Device]:
    async with running(OpcUaDevice(tmp_path)) as device:
        yield device


@pytest_asyncio.fixture
async def packer(tmp_path: Path) -> AsyncIterator[Device]:
    async with running(ModbusDevice(tmp_path)) as device:
        yield device


@pytest.mark.slow
async def test_an_opc_ua_server_is_listed_pasted_and_read(tmp_path: Path, press: Device, capsys: pytest.CaptureFixture[str]) -> None:
    line = Line(tmp_path, capsys, opcua(press.port))
    code, out, err = await line("browse", "Machine")
    assert code == 0
    assert [part.split() for part in out.splitlines()] == [
        ["Machine/parts", "UInt32", "rw", "70000", "nsu=urn:test:plc;s=parts"],
        ["Machine/running", "Boolean", "rw", "True", "nsu=urn:test:plc;s=running"],
        ["Machine/weight", "Double", "rw", "12.5", "nsu=urn:test:plc;s=weight"],
    ]
    assert "3 values" in err

    code, out, _ = await line("read")
    assert code == 2, "it has no tags yet"

    code, out, err = await line("browse", "--csv")
    assert code == 0
    assert out.splitlines()[0] == "tag,node,type"
    line.paste(out, "parts")
    assert load(line.path).devices["plc"].counter_type("parts") == (32, False)
    code, out, _ = await line("read", "parts", "running")
    assert code == 0
    parts, running_ = out.splitlines()
    assert parts.split()[:3] == ["parts", "70000", "good"]
    assert "Z  UInt32 70000, Good 0x00000000, server " in parts
    assert running_.split()[:3] == ["running", "True", "good"]

    code, _, err = await line("read", "--orders")
    assert code == 2
    assert "has no registers" in err


@pytest.mark.slow
async def test_a_secured_server_is_browsed_once_its_certificate_is_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "password").write_text("secret", encoding="ascii")
    async with running(SecuredDevice(tmp_path)) as plc:
        user = "user: {name: gateway, password: {file: password}}"
        security = "security: {policy: Basic256Sha256, mode: SignAndEncrypt}"
        line = Line(tmp_path, capsys, f"driver: opcua, url: 'opc.tcp://127.0.0.1:{plc.port}', {security}, {user}")
        code, _, err = await line("browse")
        assert code == 1
        mark = err.split("lineside pki trust ")[1][:8]
        state = str(tmp_path / "state")
        assert await asyncio.to_thread(main, ["pki", "trust", mark, "--state-dir", state]) == 0
        capsys.readouterr()
        code, out, err = await line("browse", "Machine")
        assert code == 0, err
        assert "nsu=urn:test:plc;s=parts" in out


@pytest.mark.slow
async def test_a_modbus_device_is_probed_pasted_and_read(tmp_path: Path, packer: Device, capsys: pytest.CaptureFixture[str]) -> None:
    line = Line(tmp_path, capsys, modbus(packer.port))
    code, out, err = await line("browse", "holding:90-300")
    assert code == 0
    assert err == "38 values\nwhat answers: holding 90-127\n"
    listed = [part.split() for part in out.splitlines()]
    assert [int(part[1]) for part in listed] == list(range(90, 128)), "the device has 128 registers"
    assert listed[10] == ["holding", "100", "uint16", "rw", "1", "(0x0001)"]
    assert listed[11][4:] == ["4464", "(0x1170)"]

    code, out, err = await line("browse", "holding:2000-2003")
    assert (code, out) == (0, "")
    assert err == "0 values\nwhat answers: nothing; name another range or table, and check unit_id\n"

    code, out, _ = await line("browse", "input:20-21", "--csv")
    assert out == "tag,input,type\ninput_20,20,uint16\ninput_21,21,uint16\n"
    line.paste(out, "input_20")
    code, out, _ = await line("read")
    assert code == 0
    assert out.splitlines()[0].split() == ["input_20", "125", "good", "no", "source", "time", "input", "20:", "0x007D"]

    code, out, _ = await line("read", "--registers", "holding:100,2")
    assert code == 0
    rows = {part.split()[0]: part.split()[1:] for part in out.splitlines() if part.split()}
    types = rows["order"]
    assert rows["ABCD"][types.index("uint32")] == "70000"
    assert rows["CDAB"][types.index("uint32")] == str(4464 << 16 | 1)
    assert set(rows) >= {"ABCD", "CDAB", "BADC", "DCBA"}


@pytest.mark.slow
async def test_a_tag_in_every_order_and_one_that_is_not_there(tmp_path: Path, packer: Device, capsys: pytest.CaptureFixture[str]) -> None:
    tags = ", tags: {parts: {holding: 100, type: uint32}, gone: {holding: 400}, jam: {coil: 5}}"
    line = Line(tmp_path, capsys, modbus(packer.port, tags))
    code, out, _ = await line("read", "--orders")
    assert code == 1
    assert "gone   -                 bad" in out
    assert "the device answered IllegalDataAddress (2)" in out
    assert "parts: the configuration says uint32, ABCD" in out
    code, out, err = await line("read", "part")
    assert code == 2
    assert "did you mean `parts`?" in err


@pytest.mark.slow
async def test_an_agents_data_items_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(MTConnectDevice(tmp_path)) as lathe:
        tags = "tags: {parts: {data_item: parts}, gone: {data_item: none}}"
        line = Line(tmp_path, capsys, f"driver: mtconnect, url: 'http://127.0.0.1:{lathe.port}', {tags}")
        code, out, _ = await line("read", "parts")
        assert code == 0
        assert out.split()[:3] == ["parts", "70000", "good"]
        code, out, _ = await line("read")
        assert code == 1
        assert "no data item of this id" in out


@pytest.mark.slow
async def test_a_server_of_other_hands_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulators.loopback import free_port

    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *peer("opcua_server.js", str(port), str(tmp_path / "pki"), "7"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        await listening(process)
        line = Line(tmp_path, capsys, opcua(port))
        code, out, err = await line("browse")
        assert code == 0, err
        total = next(part.split() for part in out.splitlines() if part.startswith("Counters.Total"))
        assert total == ["Counters.Total", "UInt32", "rw", "7", "nsu=urn:lineside:chaos;s=Counters.Total"]
        code, out, err = await line("browse", "Server/ServerCapabilities")
        assert code == 0, err
        assert len(out.splitlines()) > 30
        # The same in pieces of three references: this server, unlike asyncua's, has continuation points.
        monkeypatch.setattr("drivers.opcua_browse._REFERENCES_PER_NODE", 3)
        code, in_pieces, err = await line("browse", "Server/ServerCapabilities")
        assert code == 0, err
        assert {part.split()[0] for part in in_pieces.splitlines()} == {part.split()[0] for part in out.splitlines()}
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("device", "arguments", "code", "told"),
    [
        ("driver: replay, file: none.csv", ["browse"], 2, "plc is a recording, which lists its own tags"),
        ("driver: replay, file: none.csv", ["read"], 2, "plc is a recording and has no present value"),
        ("driver: modbus, url: 'tcp://127.0.0.1:1'", ["browse", "holdin:3"], 1, "Check that the PLC is powered"),
        ("driver: modbus, url: 'tcp://127.0.0.1:1'", ["read", "--registers", "holding:1,2"], 1, "Check that the PLC is powered"),
        ("driver: modbus, url: 'tcp://127.0.0.1:1'", ["read"], 2, "plc has no tags yet; find some with lineside browse"),
        ("driver: opcua, url: 'opc.tcp://127.0.0.1:1', security: {insecure: true}", ["browse"], 1, "Check that the PLC is powered"),
        ("driver: mtconnect, url: 'http://127.0.0.1:1'", ["browse"], 1, "Check that the PLC is powered"),
        ("driver: modbus, url: 'udp://127.0.0.1:1'", ["browse"], 2, "is no Modbus address"),
        ("driver: modbus", ["browse"], 2, "devices.plc.url: (missing)"),
    ],
)
async def test_what_cannot_be_done_is_told_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str, arguments: list[str], code: int, told: str
) -> None:
    line = Line(tmp_path, capsys, device)
    found, out, err = await line(*arguments)
    assert (found, out) == (code, "")
    assert told in err


def test_a_device_that_the_file_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = Line(tmp_path, capsys, "driver: modbus")
    assert main(["browse", str(line.path), "plk"]) == 2
    assert f"{line.path}:3: devices: plk: there is no device of this name; did you mean `plc`?" in capsys.readouterr().err
    assert main(["browse", str(tmp_path / "none.yaml"), "plc"]) == 2
    assert "the file cannot be read" in capsys.readouterr().err


def hears_ctrl_c() -> None:
    """A shell starts what runs in its background deaf to it, and with that the tests' own children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["browse", "read"])
async def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line = Line(tmp_path, capsys, opcua(port) + ", tags: {a: {node: i=2258}}")
    async with server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", command, str(line.path), "plc", "--state-dir", str(tmp_path),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, preexec_fn=hears_ctrl_c,
        )  # fmt: skip
        async with asyncio.timeout(60):
            await asked.wait()
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert process.returncode == 130
    assert (out, err) == (b"", b"stopped before the end\n")


def test_tags_get_short_names_that_are_valid_and_each_once() -> None:
    assert tag_names(["Press/Counters/Total", "Press/Running"]) == ["Total", "Running"]
    assert tag_names(["A/Total", "B/Total", "B/Rejects"]) == ["A_Total", "B_Total", "Rejects"]
    assert tag_names(["x/A/V", "y/A/V", "A/V"]) == ["x_A_V", "y_A_V", "A_V"]
    assert tag_names(["Températur °C", "V[3]", "///", "a"]) == ["Temp_ratur_C", "V_3", "tag", "a"]
    assert tag_names(["a b", "a.b", "a_b"]) == ["a_b", "a_b_2", "a_b_3"]
    long = tag_names(["x" * 80 + "1", "y" * 80 + "1", "x" * 80 + "1"])
    assert len(set(long)) == 3
    assert all(1 <= len(name) <= 64 for name in long)


def test_what_a_device_says_stays_on_its_line() -> None:
    assert printable("Füllung 3\x1b[2J\nroot") == "Füllung 3\ufffd[2J\ufffdroot"
