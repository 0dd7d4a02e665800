"""The examples of config/ load, and the published schema is the one the models give."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from gateway.config import config_schema, load
from gateway.config.yaml_tree import parse, plain

FOLDER = Path(__file__).parents[2] / "config"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_loads_and_fits_the_schema(name: str) -> None:
    config = load(FOLDER / name)
    assert config.work_units
    root, faults = parse((FOLDER / name).read_text(encoding="utf-8"), name)
    assert not faults
    jsonschema.Draft202012Validator(config_schema()).validate(plain(root))


def test_the_examples_are_there() -> None:
    assert {
        "plant.yaml",
        "minimal.yaml",
        "modbus-packer.yaml",
        "modbus-serial.yaml",
        "opcua-press.yaml",
        "mtconnect-lathe.yaml",
        "machine-templates.yaml",
        "replay.yaml",
    } <= set(EXAMPLES)


def test_published_schema_is_current() -> None:
    published = json.loads((FOLDER / "lineside.schema.json").read_text(encoding="utf-8"))
    assert published == config_schema(), "run `make schema`"


def test_schema_is_a_schema_and_refuses_what_the_loader_refuses() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {"gateway": {"id": "g", "enterprise": "a", "site": "s"}}
    assert validator.is_valid(good)
    for wrong in (
        {"gateways": {}},
        {"gateway": {**good["gateway"], "id": "a b"}},
        {"gateway": {**good["gateway"], "language": "de"}},
        {"journal": {"retention": 7}},
        {"journal": {"max_size": "2 GiB"}},
        {"devices": {"a": {"driver": "telnet"}}},
        {"devices": {"a": {"driver": "modbus", "url": "tcp://x", "tags": {"t": {"holdin": 1}}}}},
        {"uplinks": {"a": {"type": "mqtt", "urls": []}}},
    ):
        assert not validator.is_valid(wrong), wrong


def test_schema_writes_defaults_as_a_person_does() -> None:
    definitions = config_schema()["$defs"]
    assert definitions["JournalSettings"]["properties"]["max_size"]["default"] == "2GB"
    assert definitions["JournalSettings"]["properties"]["retention"]["default"] == "7d"
    assert definitions["CycleSettings"]["properties"]["slow_tolerance"]["default"] == "10%"
    assert definitions["CycleSettings"]["properties"]["stop_threshold"]["default"] == "2min"
    assert definitions["ModbusSettings"]["properties"]["timeout"]["default"] == "1s"
