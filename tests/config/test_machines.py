"""Machine templates: what a site may say, what it may leave out, and what wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from drivers.modbus_settings import ModbusSettings
from drivers.opcua_settings import OpcUaSettings
from gateway.config import Config, config_schema, load
from gateway.config.machine_template import read_template
from gateway.config.machines import SHIPPED, shipped_parameters, template_names
from gateway.domain.equipment import StateFromBits, StateFromCodes, StateFromPackML
from tests.config.plant import problems, write

PLANT = """\
gateway: {id: gw, enterprise: acme, site: lyon}
devices:
  plc: {driver: modbus, url: "tcp://192.0.2.1:502"}
  server: {driver: opcua, url: "opc.tcp://192.0.2.1:4840", security: {insecure: true}, tags: {now: {node: i=2258}}}
work_units:
  m-1: {area: hall, work_center: line-1, device: plc, ideal_cycle_time: 1s, UNIT}
"""
PACKER = "machine: packer-modbus, with: {state_register: 7, packs_register: 100"
FILLER = """\
title: a filler
driver: modbus
parameters:
  base: {about: the first register, type: integer}
  jam: {about: the bit of a jam, type: integer, optional: true}
  scale: {about: kilograms a step, type: number, default: 0.1}
  live: {about: whether it counts, type: boolean, default: true}
constants: {unit: KGM}
tags:
  running: {coil: $base, invert: $live}
  jam_bit: {discrete: $jam}
  weight: {holding: $base, scale: $scale, unit: $unit, type: int16}
work_unit:
  state: {from: bits, running: $running, blocked: {tag: $jam_bit}}
  quality: [{characteristic: weight, tag: $weight}, {characteristic: jam, tag: $jam_bit}]
  materials: [{material_id: "$$-${unit}", mode: measured, tag: $weight}]
"""


def loaded(folder: Path, unit: str, **files: str) -> Config:
    for name, text in files.items():
        (folder / "machines").mkdir(exist_ok=True)
        write(folder / "machines", text, f"{name}.yaml")
    return load(write(folder, PLANT.replace("UNIT", unit)))


def modbus(config: Config) -> ModbusSettings:
    device = config.devices["plc"]
    assert isinstance(device, ModbusSettings)
    return device


@pytest.mark.parametrize("name", template_names())
def test_a_template_that_is_shipped_is_short_and_right(name: str) -> None:
    path = SHIPPED / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    template, wrong = read_template(path, text)
    assert wrong == []
    assert template is not None
    assert len(text.splitlines()) <= 60
    assert text.startswith("# "), "where its names and numbers come from"
    assert all(parameter.about[0].islower() for parameter in template.parameters.values())


def test_the_shipped_ones_are_all_there() -> None:
    assert set(template_names()) >= {"packml-opcua", "machinery-opcua", "machine-tool-opcua", "euromap-77", "press-modbus", "packer-modbus"}


def test_a_machine_is_one_line(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"{PACKER}}}")
    device, unit = modbus(config), config.work_units["m-1"]
    assert set(device.tags) == {"state", "packs"}, "what an optional parameter would give is left out"
    assert (device.tags["packs"].holding, device.tags["packs"].type, device.tags["packs"].order) == (100, "uint32", "ABCD")
    assert isinstance(unit.state, StateFromCodes)
    assert (unit.state.tag, unit.state.codes[1], unit.state.fault) == ("state", "running", None)
    assert unit.counts.total is not None
    assert (unit.counts.total.tag, unit.counts.total.bits, unit.counts.reject) == ("packs", 32, None)
    assert config.unit_tags["m-1"] == ("state", "packs")


def test_an_optional_parameter_brings_its_tag_and_whatever_names_it(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"{PACKER}, rejects_register: 102, fault_register: 9}}")
    assert set(modbus(config).tags) == {"state", "packs", "rejects", "fault"}
    unit = config.work_units["m-1"]
    assert unit.counts.reject is not None
    assert isinstance(unit.state, StateFromCodes)
    assert unit.state.fault == "fault"


def test_a_map_is_a_parameter_too(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"{PACKER}, codes: {{5: running, A7: setup}}}}")
    state = config.work_units["m-1"].state
    assert isinstance(state, StateFromCodes)
    assert state.codes == {5: "running", "A7": "setup"}


def test_what_the_site_writes_wins(tmp_path: Path) -> None:
    text = PLANT.replace('502"}', '502", tags: {packs: {input: 3}, spare: {coil: 1}}}')
    config = load(write(tmp_path, text.replace("UNIT", f"{PACKER}}}, state: {{from: bits, running: spare}}, counts: {{good: packs}}")))
    assert modbus(config).tags["packs"].input == 3
    assert set(modbus(config).tags) == {"packs", "spare", "state"}
    unit = config.work_units["m-1"]
    assert isinstance(unit.state, StateFromBits)
    assert (unit.counts.total, unit.counts.good is None) == (None, False)


def test_what_a_machine_does_not_have_is_left_out_with_whatever_names_it(tmp_path: Path) -> None:
    text = PLANT.replace('502"}', '502", tags: {weight: , m_rejects: null}}')
    unit = "machine: packer-modbus, with: {state_register: 7, packs_register: 100, rejects_register: 102, weight_register: 20, prefix: m_}"
    found = problems(write(tmp_path, text.replace("UNIT", unit)))
    assert [problem.path for problem in found] == ["devices.plc.tags.weight"], "only a tag of the template"
    config = load(write(tmp_path, text.replace("weight: , ", "").replace("UNIT", unit)))
    assert set(modbus(config).tags) == {"m_state", "m_packs", "m_weight"}
    assert config.work_units["m-1"].counts.reject is None


def test_two_machines_share_a_device_by_a_prefix(tmp_path: Path) -> None:
    second = (
        "  m-2: {area: hall, work_center: line-1, device: plc, machine: packer-modbus, "
        "with: {state_register: 17, packs_register: 200, prefix: m2_}}\n"
    )
    config = load(write(tmp_path, PLANT.replace("UNIT", f"{PACKER}}}") + second))
    assert set(modbus(config).tags) == {"state", "packs", "m2_state", "m2_packs"}
    assert config.unit_tags["m-2"] == ("m2_state", "m2_packs")


def test_names_and_constants_go_into_words(tmp_path: Path) -> None:
    text = (
        PLANT.replace("  plc: ", "  server_2: {driver: replay, file: a.csv}\n  # ")
        .replace("device: plc", "device: server")
        .replace("UNIT", 'machine: packml-opcua, with: {object: "nsu=urn:acme;i=5"}')
    )
    config = load(write(tmp_path, text))
    device = config.devices["server"]
    assert isinstance(device, OpcUaSettings)
    assert device.tags["unit_mode"].node == "nsu=urn:acme;i=5"
    namespace = "{http://opcfoundation.org/UA/PackML/}"
    assert device.tags["unit_mode"].path == f"{namespace}Status/{namespace}UnitModeCurrent"
    assert config.work_units["m-1"].state == StateFromPackML("base_state", "unit_mode", "machine_state", "execute_state")


def test_a_template_of_the_site(tmp_path: Path) -> None:
    config = loaded(tmp_path, "machine: filler, with: {base: 4}", filler=FILLER)
    tags = modbus(config).tags
    assert (tags["running"].coil, tags["running"].invert, str(tags["weight"].scale), tags["weight"].unit) == (4, True, "0.1", "KGM")
    unit = config.work_units["m-1"]
    assert isinstance(unit.state, StateFromBits)
    assert unit.state.blocked is None, "a signal whose tag is left out is left out"
    assert [item.tag for item in unit.quality] == ["weight"]
    assert [item.material_id for item in unit.materials] == ["$-KGM"]
    with_jam = loaded(tmp_path, "machine: filler, with: {base: 4, jam: 9, live: false}", filler=FILLER)
    assert modbus(with_jam).tags["jam_bit"].discrete == 9
    assert modbus(with_jam).tags["running"].invert is False


def test_a_template_of_the_site_wins_over_one_that_is_shipped(tmp_path: Path) -> None:
    own = FILLER.replace("base:", "state_register:").replace("$base", "$state_register")
    config = loaded(tmp_path, "machine: packer-modbus, with: {state_register: 4}", **{"packer-modbus": own})
    assert set(modbus(config).tags) == {"running", "weight"}


def test_what_a_template_says_is_part_of_the_digest(tmp_path: Path) -> None:
    first = loaded(tmp_path, "machine: filler, with: {base: 4}", filler=FILLER)
    assert [path.name for path in first.files] == ["config.yaml", "filler.yaml"]
    assert loaded(tmp_path, "machine: filler, with: {base: 4}", filler=FILLER + "\n").digest != first.digest


def test_an_included_file_has_its_machines_beside_it(tmp_path: Path) -> None:
    (tmp_path / "lines" / "machines").mkdir(parents=True)
    write(tmp_path / "lines" / "machines", FILLER, "filler.yaml")
    head, units = PLANT.split("work_units:")
    write(tmp_path / "lines", "work_units:" + units.replace("UNIT", "machine: filler, with: {base: 4}"), "one.yaml")
    config = load(write(tmp_path, "include: lines/one.yaml\n" + head))
    assert set(modbus(config).tags) == {"running", "weight"}


def test_one_template_that_fails_leaves_the_other_units_their_own_problems(tmp_path: Path) -> None:
    second = "  m-2: {area: hall, work_center: line-1, device: server, state: {from: bits, running: nowhere}}\n"
    text = PLANT.replace("UNIT", "machine: nosuch") + second
    told = [(problem.path, problem.line) for problem in problems(write(tmp_path, text))]
    assert told == [("work_units.m-1.machine", 6), ("work_units.m-2.state.running", 7)]


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (FILLER.replace("base:", "base: {about: x, type: integer, default: 1, optional: true}\n  old:"), "remove optional or default"),
        (FILLER.replace("  running:", "  base:"), "the name of something else"),
        (FILLER.replace("  jam:", "  prefix:"), "the name of something else"),
        (FILLER.replace("tags:", "tags: {}\nspare:"), "is empty"),
        (FILLER.replace("type: integer}", "type: whole}"), "not known here"),
        ("title: [", "not YAML"),
        ("", "the file is empty"),
    ],
)
def test_a_template_with_a_mistake(tmp_path: Path, template: str, told: str) -> None:
    (tmp_path / "machines").mkdir()
    write(tmp_path / "machines", template, "filler.yaml")
    found = problems(write(tmp_path, PLANT.replace("UNIT", "machine: filler, with: {base: 4}")))
    assert [told in problem.text for problem in found].count(True) >= 1
    assert {Path(problem.file).name for problem in found} == {"filler.yaml"}
    assert all("used in" in problem.text and "config.yaml:6" in problem.text for problem in found)


# --- editors ---


def example(unit: dict[str, Any]) -> dict[str, Any]:
    return {"work_units": {"m-1": {"area": "hall", "work_center": "line-1", "device": "plc"} | unit}}


def test_the_schema_knows_machines_and_their_parameters() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(config_schema())))
    good = {"machine": "packer-modbus", "with": {"state_register": 7, "packs_register": 100, "codes": {"0": "running"}}}
    assert validator.is_valid(example(good))
    assert validator.is_valid(example({"machine": "our-own", "with": {"anything": [1]}}))
    assert validator.is_valid(example({"state": {"from": "counts"}}))
    device = {"driver": "modbus", "url": "tcp://192.0.2.1:502"}
    assert validator.is_valid({"devices": {"plc": device | {"tags": {"rejects": None}}}})
    assert not validator.is_valid({"devices": {"plc": device | {"tags": {"rejects": 7}}}})
    for wrong in (
        {},
        {"with": {}},
        {"machine": 7},
        good | {"with": {"state_register": "seven"}},
        good | {"with": {"codes": 1}},
    ):
        assert not validator.is_valid(example(wrong)), wrong
    assert not validator.is_valid({"work_units": {"m-1": {"area": "hall", "work_center": "line-1"} | good}}), "a machine needs a device"


def test_the_schema_lists_every_parameter_of_every_template() -> None:
    for name, parameters in shipped_parameters().items():
        written = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))["parameters"]
        assert set(parameters) == {*written, "prefix"}
        assert all(parameters[key]["description"] == value["about"] for key, value in written.items())
