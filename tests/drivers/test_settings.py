"""What a device's configuration may say, and which message a wrong one gets."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from drivers import DRIVERS, DeviceUnion, prepare
from drivers.modbus_settings import ModbusSettings
from drivers.opcua_settings import OpcUaSettings
from drivers.replay import ReplaySettings
from drivers.settings import FieldError

ANY: TypeAdapter[Any] = TypeAdapter(DeviceUnion)


def modbus(tags: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"driver": "modbus", "url": "tcp://192.168.10.22:502", "tags": {"parts": {"holding": 100}} if tags is None else tags} | more


def opcua(tags: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    node = {"parts": {"node": "nsu=urn:acme:press;s=Counters.Total"}}
    return {
        "driver": "opcua",
        "url": "opc.tcp://192.168.10.21:4840",
        "security": {"insecure": True},
        "tags": node if tags is None else tags,
    } | more


def blamed(settings: dict[str, Any]) -> tuple[str, list[tuple[Any, ...]]]:
    """The message, and the paths it blames: pydantic's own, extended by a FieldError's."""
    with pytest.raises(ValidationError) as caught:
        ANY.validate_python(settings)
    paths = []
    for error in caught.value.errors():
        inner = error.get("ctx", {}).get("error")
        paths.append((*error["loc"][1:], *(inner.at if isinstance(inner, FieldError) else ())))
    return str(caught.value), paths


def test_every_driver_is_in_the_union_under_its_name() -> None:
    for name, entry in DRIVERS.items():
        assert entry.settings.model_fields["driver"].annotation is not None
        assert name in str(entry.settings.model_fields["driver"].annotation)
    assert isinstance(ANY.validate_python(modbus()), ModbusSettings)
    assert isinstance(ANY.validate_python(opcua()), OpcUaSettings)
    assert isinstance(ANY.validate_python({"driver": "replay", "file": "r.csv"}), ReplaySettings)


def test_the_modbus_device_of_the_contract() -> None:
    settings = ANY.validate_python(
        modbus(
            {
                "parts": {"holding": 100, "type": "uint32", "order": "ABCD"},
                "state": {"input": 7, "type": "uint16"},
                "jam": {"holding": 12, "bit": 3},
                "code": {"holding": 12, "bits": "4-7"},
                "weight": {"holding": 20, "type": "int16", "scale": 0.1, "unit": "KGM"},
                "door": {"discrete": 3, "invert": True},
            },
            unit_id=1,
            interval="500ms",
        )
    )
    assert settings.interval == 0.5
    assert settings.timeout == 1.0
    assert settings.tags["weight"].scale == Decimal("0.1")
    assert settings.peer == "Modbus 192.168.10.22:502"
    assert settings.counter_type("parts") == (32, False)
    assert settings.counter_type("state") == (16, False)
    assert settings.counter_type("weight") is None
    assert settings.counter_type("code") is None
    assert settings.counter_type("door") is None


def test_a_serial_line_is_accepted() -> None:
    settings = ANY.validate_python(modbus(url="rtu:///dev/ttyUSB0?baudrate=19200&parity=E"))
    assert settings.peer == "Modbus /dev/ttyUSB0 unit 1"


def test_the_opcua_device_of_the_contract() -> None:
    settings = ANY.validate_python(
        opcua(
            {
                "parts": {"node": "nsu=urn:acme:press;s=Counters.Total", "type": "uint32"},
                "coil_kg": {"node": "ns=2;s=Coil.Weight", "unit": "KGM", "deadband": 0.5},
                "cavity": {"node": "i=2258", "index": 3},
                "target": {"node": "nsu=urn:acme:press;s=a=b;c", "writable": True},
            },
            security={"policy": "Aes256_Sha256_RsaPss", "mode": "SignAndEncrypt", "server_certificate": "pki/press.der"},
            user={"name": "gateway", "password": {"credential": "press_plc"}},
            interval="200ms",
        )
    )
    assert settings.mode == "subscribe"
    assert settings.peer == "OPC UA 192.168.10.21:4840"
    assert settings.counter_type("parts") == (32, False)
    assert settings.counter_type("coil_kg") is None


def test_only_a_recording_is_recorded() -> None:
    assert ReplaySettings.recorded
    assert not ModbusSettings.recorded
    assert not OpcUaSettings.recorded


@pytest.mark.parametrize(
    ("tags", "says", "path"),
    [
        ({"a": {"holding": 1}, "b": {"holding": 1}}, "tags a and b read the same register, holding 1", ("tags", "b", "holding")),
        ({"a": {"holding": 1, "bit": 2}, "b": {"holding": 1, "bits": "2-2"}}, "same register", ("tags", "b", "holding")),
        ({"a": {}}, "exactly one register, here none", ("tags", "a")),
        ({"a": {"holding": 1, "input": 2}}, "here holding and input", ("tags", "a", "input")),
        ({"a": {"holding": 65535, "type": "uint32"}}, "ends at register 65536", ("tags", "a", "holding")),
        ({"a": {"holding": 65536}}, "less than or equal to 65535", ("tags", "a", "holding")),
        ({"a": {"holding": -1}}, "greater than or equal to 0", ("tags", "a", "holding")),
        ({"a": {"holding": 1, "bit": 16}}, "less than or equal to 15", ("tags", "a", "bit")),
        ({"a": {"holding": 1, "bit": 1, "type": "uint32"}}, "16-bit register, not from uint32", ("tags", "a", "bit")),
        ({"a": {"holding": 1, "bits": "4-16"}}, "is no range of bits 0 to 15", ("tags", "a", "bits")),
        ({"a": {"holding": 1, "bit": 1, "bits": "4-7"}}, "exclude each other", ("tags", "a", "bits")),
        ({"a": {"coil": 1, "bit": 1}}, "has no bit", ("tags", "a", "bit")),
        ({"a": {"coil": 1, "type": "uint16"}}, "cannot be uint16", ("tags", "a", "type")),
        ({"a": {"input": 1, "writable": True}}, "cannot be written", ("tags", "a", "writable")),
        ({"a": {"discrete": 1, "writable": True}}, "cannot be written", ("tags", "a", "writable")),
        ({"a": {"holding": 1, "scale": 0}}, "scale of 0", ("tags", "a", "scale")),
        ({"a": {"holding": 1, "bit": 1, "scale": 2}}, "not scaled", ("tags", "a", "scale")),
        ({"a": {"holding": 1, "type": "uint8"}}, "uint16", ("tags", "a", "type")),
        ({"a": {"holding": 1, "adress": 1}}, "Extra inputs", ("tags", "a", "adress")),
        ({"a b": {"holding": 1}}, "pattern", ("tags", "a b", "[key]")),
        ({}, "at least 1 item", ("tags",)),
        (
            {"a": {"holding": 1, "type": "uint32"}, "b": {"holding": 2}},
            "tags a (holding 1-2) and b (holding 2) overlap",
            ("tags", "b", "holding"),
        ),
        ({"a": {"holding": 1, "type": "string"}}, "needs its length", ("tags", "a", "type")),
        ({"a": {"holding": 1, "length": 4}}, "only a string has a length", ("tags", "a", "length")),
        ({"a": {"holding": 1, "type": "string", "length": 300}}, "less than or equal to 250", ("tags", "a", "length")),
        ({"a": {"holding": 1, "type": "string", "length": 248, "writable": True}}, "at most 246 characters", ("tags", "a", "length")),
        ({"a": {"holding": 1, "type": "string", "length": 4, "order": "CDAB"}}, "order ABCD or BADC", ("tags", "a", "order")),
        ({"a": {"holding": 1, "type": "string", "length": 4, "scale": 2}}, "a string has no scale", ("tags", "a", "scale")),
        ({"a": {"holding": 65535, "type": "string", "length": 4}}, "ends at register 65536", ("tags", "a", "holding")),
        ({"a": {"holding": 1, "valid": [5, 1]}}, "above the highest one", ("tags", "a", "valid")),
        ({"a": {"holding": 1, "valid": [0, float("nan")]}}, "finite", ("tags", "a", "valid", 1)),
        ({"a": {"holding": 1, "bit": 1, "valid": [0, 1]}}, "a bit has no valid range", ("tags", "a", "valid")),
        ({"a": {"coil": 1, "valid": [0, 1]}}, "has no valid", ("tags", "a", "valid")),
    ],
)
def test_wrong_modbus_tags(tags: dict[str, Any], says: str, path: tuple[Any, ...]) -> None:
    message, paths = blamed(modbus(tags))
    assert says in message
    assert path in paths


@pytest.mark.parametrize(
    ("more", "says", "path"),
    [
        (
            {"forbidden": ["holding 90-100"]},
            "tag parts (holding 100) lies in the forbidden range holding 90-100",
            ("tags", "parts", "holding"),
        ),
        ({"forbidden": ["holding 9-3"]}, "write for example holding 40-49", ("forbidden", 0)),
        ({"forbidden": ["40-49"]}, "write for example holding 40-49", ("forbidden", 0)),
        ({"max_registers": 126}, "less than or equal to 125", ("max_registers",)),
        ({"max_registers": 1, "tags": {"a": {"holding": 0, "type": "float32"}}}, "tag a needs 2 registers", ("max_registers",)),
        ({"connections": 9}, "less than or equal to 8", ("connections",)),
        ({"connections": 2, "url": "rtu:///dev/ttyUSB0"}, "one request at a time", ("connections",)),
        ({"unit_id": 0, "url": "rtu+tcp://10.0.0.9:4001"}, "unit 0 is the broadcast", ("unit_id",)),
        ({"url": "rtu+tcp://10.0.0.9"}, "needs the port of the serial device server", ("url",)),
        ({"url": "rtu:///dev/ttyUSB0?baudrate=19201"}, "a baudrate is one of 300,", ("url",)),
        ({"url": "rtu:///dev/ttyUSB0?bytesize=7"}, "Modbus RTU has 8 data bits", ("url",)),
        ({"url": "rtu:///dev/ttyUSB0?parity=X"}, "parity is N, E or O", ("url",)),
        ({"write": "single"}, "multiple", ("write",)),
    ],
)
def test_wrong_modbus_devices(more: dict[str, Any], says: str, path: tuple[Any, ...]) -> None:
    message, paths = blamed(modbus() | more)
    assert says in message
    assert path in paths


def test_a_valid_range_fits_in_the_cell_of_a_spreadsheet() -> None:
    settings = ANY.validate_python(modbus({"a": {"holding": 1, "valid": "-5 .. 1e3"}, "b": {"holding": 2, "valid": [0, 7]}}))
    assert (settings.tags["a"].valid, settings.tags["b"].valid) == ((-5, 1000), (0, 7))
    message, paths = blamed(modbus({"a": {"holding": 1, "valid": "5"}}))
    assert "write for example [0, 1000], in a spreadsheet 0..1000" in message
    assert ("tags", "a", "valid") in paths


def test_devices_of_one_line_know_each_other() -> None:
    tcp = ANY.validate_python(modbus(url="tcp://PLC-7")).shared_line
    assert tcp == ANY.validate_python(modbus(url="tcp://plc-7:502", unit_id=9)).shared_line == ("plc-7:502", "tcp")
    assert ANY.validate_python(modbus(url="rtu+tcp://plc-7:502")).shared_line == ("plc-7:502", "rtu+tcp")
    assert ANY.validate_python(modbus(url="rtu:///dev/ttyS9?parity=N")).shared_line == ("/dev/ttyS9", "19200 baud, parity N, 1 stop bits")
    assert ANY.validate_python(opcua()).shared_line is None


def test_different_bits_of_one_register_are_different_tags() -> None:
    ANY.validate_python(modbus({f"b{bit}": {"holding": 12, "bit": bit} for bit in range(16)} | {"word": {"holding": 12}}))


@pytest.mark.parametrize(
    "url",
    [
        "192.168.10.22:502",
        "tcp://",
        "tcp://plc:port",
        "tcp://plc:502/x",
        "http://plc",
        "rtu://plc",
        "rtu:///dev/ttyS0?baud=9600",
        "tcp://plc:99999",
    ],
)
def test_wrong_modbus_addresses(url: str) -> None:
    message, paths = blamed(modbus(url=url))
    assert "; write tcp://192.168.10.22:502, rtu+tcp://192.168.10.23:4001 or rtu:///dev/ttyUSB0" in message
    assert ("url",) in paths


@pytest.mark.parametrize(
    ("more", "says", "path"),
    [
        ({"security": None}, "says how it is secured", ("security",)),
        ({"security": {}}, "security needs policy and mode", ("security",)),
        ({"security": {"policy": "Basic256Sha256"}}, "security needs policy and mode", ("security",)),
        ({"security": {"policy": "Basic256", "mode": "Sign"}}, "Basic256Sha256", ("security", "policy")),
        ({"security": {"insecure": True, "policy": "Basic256Sha256", "mode": "Sign"}}, "exclude each other", ("security", "insecure")),
        ({"url": "opc.tcp://"}, "is no OPC UA address", ("url",)),
        ({"url": "tcp://plc:4840"}, "is no OPC UA address", ("url",)),
        ({"url": "opc.tcp://me:secret@plc:4840"}, "a user goes under user", ("url",)),
        ({"user": {"name": "gateway"}}, "a name with its password, or a certificate with its key", ("user",)),
        ({"user": {"certificate": "u.der", "password": {"file": "p"}}}, "a name with its password, or a certificate", ("user",)),
        (
            {"user": {"certificate": "u.der", "key": {"file": "k"}, "clear_text": True}},
            "clear_text is about a password",
            ("user", "clear_text"),
        ),
        ({"security": {"insecure": True, "server_name": "press-07"}}, "exclude each other", ("security", "insecure")),
        ({"user": {"name": "gateway", "password": "secret"}}, "a secret is never written in the file", ("user", "password")),
        ({"tags": {"a": {"node": "Counters.Total"}}}, "is no node id", ("tags", "a", "node")),
        ({"tags": {"a": {"node": "ns=2;s="}}}, "is no node id", ("tags", "a", "node")),
        ({"tags": {"a": {"node": "i=85", "index": -1}}}, "is no place in an array", ("tags", "a", "index")),
        ({"interval": "0ms"}, "shorter than 10ms", ("interval",)),
        ({"mode": "push"}, "subscribe", ("mode",)),
    ],
)
def test_wrong_opcua_devices(more: dict[str, Any], says: str, path: tuple[Any, ...]) -> None:
    message, paths = blamed(opcua(**more))
    assert says in message
    assert path in paths


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("opc.tcp://plc", "opc.tcp://plc:4840"),
        ("opc.tcp://plc:/server", "opc.tcp://plc:4840/server"),
        ("opc.tcp://[fd00::7]/server", "opc.tcp://[fd00::7]:4840/server"),
        ("opc.tcp://plc:49320", "opc.tcp://plc:49320"),
    ],
)
def test_an_opcua_address_without_a_port_means_4840(written: str, meant: str) -> None:
    assert ANY.validate_python(opcua(url=written)).url == meant


def test_a_forbidden_range_may_be_written_as_browse_prints_and_takes_it() -> None:
    assert ANY.validate_python(modbus(forbidden=["holding 40-49", "holding:40-49", "input:7"])).limits.forbidden == (
        ("holding", 40, 49), ("holding", 40, 49), ("input", 7, 7),
    )  # fmt: skip


def test_protocol_stacks_are_loaded_before_the_first_link_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    for name in ("modbus", "opcua"):
        monkeypatch.setitem(DRIVERS, name, DRIVERS[name]._replace(driver=loaded.append))
    devices = [ANY.validate_python(opcua()), ANY.validate_python(modbus())]
    prepare(iter(devices), tmp_path, "gw", datetime(2026, 11, 24, tzinfo=UTC))
    assert loaded == devices


def test_security_left_out_is_refused() -> None:
    settings = opcua()
    del settings["security"]
    message, paths = blamed(settings)
    assert "or knowingly security: {insecure: true}" in message
    assert ("security",) in paths
