"""`lineside import`: what is taken over loads as a configuration, what cannot be is told row by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers.modbus_settings import ModbusSettings
from drivers.opcua_settings import OpcUaSettings
from gateway.__main__ import main
from gateway.config import Config, load

KEPWARE_HEADER = (
    "Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate,Scaling,Raw Low,Raw High,Scaled Low,Scaled High,"
    "Scaled Data Type,Clamp Low,Clamp High,Eng Units,Description,Negate Value"
)
KEPWARE = f"""{KEPWARE_HEADER}
"Counters.Total","400101",DWord,1,R/W,500,,,,,,,,,,"pieces made",
"Oven Temp","300008",Word,1,RO,1000,Linear,0,4095,-50,359.5,Float,0,0,"C","",0
"Level","40030",Short,1,RO,500,Linear,0,100,0,10,Float,0,0,"KGM","",1
"Jam","400013.3",Boolean,1,RO,500,,,,,,,,,,"",
"Serial","400020.20H",String,1,RO,500,,,,,,,,,,"",
"Recipe","400040.8L",String,1,RO,500,,,,,,,,,,"",
"Weight","400050",LBCD,1,RO,500,None,,,,,,,,,"",
"run","10001",Boolean,1,RO,500,,,,,,,,,,"",
"Root","400030",Word,1,RO,500,Square Root,0,1,0,1,Float,0,0,"","",0
"Endless","400031",Word,1,RO,500,Linear,-inf,1000,0,100,Float,0,0,"","",0
"Huge","400032",Word,1,RO,500,Linear,0,1E-999999,0,100,Float,0,0,"","",0
"Steep","400033",Word,1,RO,500,Linear,0,1E-300,0,1E300,Float,0,0,"","",0
"No number","400034",Word,1,RO,500,Linear,0,sNaN,0,100,Float,0,0,"","",0
"Drive","DB3.DBW4",Word,1,R/W,100,,,,,,,,,,"",
"Again","400101",Word,1,R/W,100,,,,,,,,,,"",
"Half","400102",Word,1,RO,500,,,,,,,,,,"",
"Low bit","400101.0",Boolean,1,RO,500,,,,,,,,,,"",
"Jam","400014.3",Boolean,1,RO,500,,,,,,,,,,"",
"Curve","400200",Word Array,1,RO,500,,,,,,,,,,"",
"Odd","400300",Date,1,RO,500,,,,,,,,,,"",
"Beyond","465537",Word,1,RO,500,,,,,,,,,,"",
"","400001",Word,1,RO,500,,,,,,,,,,"",
"""

UNIT = "work_units: {m-1: {area: hall, work_center: line-1, device: %s, state: {from: counts}, counts: {total: %s}}}\n"


def plant(folder: Path, section: str, device: str, total: str) -> Config:
    path = folder / "plant.yaml"
    path.write_text("gateway: {id: gw, enterprise: acme, site: lyon}\n" + section + UNIT % (device, total), encoding="utf-8")
    return load(path)


def written(folder: Path, text: str, name: str = "packer.csv") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_kepware_device_is_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "kepware", written(tmp_path, KEPWARE), "--device", "packer_plc", "--order", "CDAB"]) == 0
    out, err = capsys.readouterr()
    device = plant(tmp_path, out, "packer_plc", "Counters_Total").devices["packer_plc"]
    assert isinstance(device, ModbusSettings)
    assert device.interval == 0.5
    points = {name: tag.point(name) for name, tag in device.tags.items()}
    total = points["Counters_Total"]
    assert (total.table, total.address, total.type, total.order) == ("holding", 100, "uint32", "CDAB")
    oven, level = points["Oven_Temp"], points["Level"]
    assert (oven.table, oven.address, str(oven.scale), str(oven.offset)) == ("input", 7, "0.1", "-50")
    assert (level.address, level.type, str(level.scale)) == (29, "int16", "-0.1")
    assert points["Jam"].bits == (3, 1)
    assert [(points[n].type, device.tags[n].length, points[n].order) for n in ("Serial", "Recipe")] == [
        ("string", 20, "ABCD"), ("string", 8, "BADC"),
    ]  # fmt: skip
    assert points["Weight"].type == "bcd32"
    assert (points["run"].table, points["run"].address) == ("discrete", 0)
    assert device.tags["Level"].unit == "KGM"
    assert not any(tag.writable for tag in device.tags.values())

    told = err.splitlines()
    assert told[0] == "9 tags taken over, 13 left out"
    reasons = {line.split(": ")[1]: line for line in told if line.startswith("left out")}
    scaled = {"Endless", "Huge", "Steep", "No number"}
    assert set(reasons) == {"Root", *scaled, "Drive", "Again", "Half", "Jam", "Curve", "Odd", "Beyond", "(no name)"}
    assert all("no four different numbers; correct Raw Low to Scaled High" in reasons[name] for name in scaled)
    assert "line 10" in reasons["Root"]
    assert "of a protocol that is not spoken here" in reasons["Drive"]
    assert "reads the same as Counters.Total" in reasons["Again"]
    assert "its name stands above already" in reasons["Jam"]
    notes = [line for line in told if line.startswith("note")]
    assert any("add writable: true" in note for note in notes)
    assert any("CDAB is taken" in note for note in notes)
    assert any("Counters.Total is called Counters_Total" in note for note in notes)
    assert any("intervals from 500 to 1000 ms" in note for note in notes)


def test_kepwares_opc_ua_client_and_a_semicolon_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Tag Name;Address;Data Type\nTotal;ns=2;DWord\n" + '"Total";"ns=2;s=Line 1.Total";DWord\n' + "Flag;ns=2;Boolean\n"
    assert main(["import", "kepware", written(tmp_path, text)]) == 0
    out, err = capsys.readouterr()
    device = plant(tmp_path, out, "packer", "Total").devices["packer"]
    assert isinstance(device, OpcUaSettings)
    assert device.tags["Total"].node == "ns=2;s=Line 1.Total"
    assert device.counter_type("Total") == (32, False)
    assert "lineside browse" in err


def test_a_list_for_tags_csv_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "kepware", written(tmp_path, KEPWARE), "--csv"]) == 0
    (tmp_path / "tags.csv").write_text(capsys.readouterr().out, encoding="utf-8")
    section = "devices: {plc: {driver: modbus, url: 'tcp://192.0.2.1', tags_csv: tags.csv}}\n"
    assert len(plant(tmp_path, section, "plc", "Counters_Total").devices["plc"].tags) == 9


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("k.csv", "Tag Name,Adress,Data Type\n", "k.csv:1: the column 'Adress' is none of a Kepware tag export; did you mean `Address`?"),
        ("k.csv", "Tag Name,Address\n", "k.csv:1: the column 'Data Type' is missing; export the tags again"),
        ("k.csv", "", "the column 'Tag Name' is missing"),
        ("k.xlsx", "PK\x03\x04", "is an Excel file; save its sheet as CSV"),
    ],
)
def test_a_wrong_kepware_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, told: str) -> None:
    assert main(["import", "kepware", written(tmp_path, text, name)]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_missing_or_no_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "kepware", str(tmp_path / "none.csv")]) == 2
    assert "check its name" in capsys.readouterr().err
    (tmp_path / "ansi.csv").write_bytes(KEPWARE.replace("made", "gezählt").encode("cp1252"))
    assert main(["import", "kepware", str(tmp_path / "ansi.csv")]) == 2
    assert "save it as CSV UTF-8" in capsys.readouterr().err


def test_nothing_left_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "kepware", written(tmp_path, "Tag Name,Address,Data Type\nA,DB1.DBW0,Word\n")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("0 tags taken over, 1 left out\n")


# The names, numbers and addresses of the pages that gateway/cli/importers/neuron.py cites.
TEMPLATE = {
    "name": "rtu template",
    "plugin": "Modbus RTU",
    "groups": [
        {
            "name": "fast",
            "interval": 200,
            "tags": [
                {"name": "parts", "type": 6, "address": "1!400101#BL", "attribute": 3, "decimal": 0},
                {"name": "weight", "type": 3, "address": "1!300021", "attribute": 1, "decimal": 0.1},
                {"name": "swapped", "type": 4, "address": "1!400030#B", "attribute": 1},
                {"name": "jam", "type": 11, "address": "1!400013.3", "attribute": 1},
                {"name": "door", "type": 11, "address": "1!000005", "attribute": 1},
                {"name": "label", "type": 13, "address": "1!400040.10H", "attribute": 1},
                {"name": "plain label", "type": 13, "address": "1!400050.10", "attribute": 1},
                {"name": "narrow", "type": 13, "address": "1!400060.10D", "attribute": 1},
                {"name": "raw", "type": 14, "address": "1!400070", "attribute": 1},
                {"name": "static", "type": 8, "address": "", "attribute": 10, "value": 42},
                {"name": "long", "type": 7, "address": "1!400080#BB", "attribute": 1},
            ],
        },
        {"name": "slow", "interval": 2000, "tags": [{"name": "other", "type": 9, "address": "2!400001#BB", "attribute": 1}]},
    ],
}


def test_a_neuron_template_is_taken_over_one_device_a_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "neuron", written(tmp_path, json.dumps(TEMPLATE), "line 3.json")]) == 0
    out, err = capsys.readouterr()
    config = plant(tmp_path, out, "line_3", "parts")
    first, second = config.devices["line_3"], config.devices["line_3-2"]
    assert isinstance(first, ModbusSettings)
    assert isinstance(second, ModbusSettings)
    assert (first.unit_id, second.unit_id, first.interval, second.interval) == (1, 2, 0.2, 2.0)
    points = {name: tag.point(name) for name, tag in first.tags.items()}
    assert {name: (p.table, p.address, p.type, p.order) for name, p in points.items()} == {
        "parts": ("holding", 100, "uint32", "CDAB"),
        "weight": ("input", 20, "int16", "ABCD"),
        "swapped": ("holding", 29, "uint16", "BADC"),
        "jam": ("holding", 12, "bool", "ABCD"),
        "door": ("coil", 4, "bool", "ABCD"),
        "label": ("holding", 39, "string", "ABCD"),
        "plain_label": ("holding", 49, "string", "BADC"),
    }
    assert str(points["weight"].scale) == "0.1"
    assert second.tags["other"].point("other").order == "DCBA"
    left = [line for line in err.splitlines() if line.startswith("left out")]
    assert [line.split(": ")[1] for line in left] == ["narrow", "raw", "static", "long"]
    assert "group 'fast', tag 10" in left[2]
    assert "a constant of Neuron" in left[2]


def test_a_list_is_of_one_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "neuron", written(tmp_path, json.dumps(TEMPLATE), "t.json"), "--csv"]) == 2
    assert "modbus unit 1, modbus unit 2" in capsys.readouterr().err


def test_a_neuron_sheet_saved_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = "group,name,address,attribute,type,description,decimal,precision"
    text = f"{header}\ng1,Total,2!Device1.Module1.Tag1,Read,INT32,,,\ng1,Clock,0!2258,Read,UINT32,,,\n"
    assert main(["import", "neuron", written(tmp_path, text)]) == 0
    out, err = capsys.readouterr()
    device = plant(tmp_path, out, "packer", "Total").devices["packer"]
    assert isinstance(device, OpcUaSettings)
    assert {name: tag.node for name, tag in device.tags.items()} == {"Total": "ns=2;s=Device1.Module1.Tag1", "Clock": "ns=0;i=2258"}
    assert "look like OPC UA" in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("group,nam,address,type\n", "the column 'nam' is none of a Neuron tag list; did you mean `name`?"),
        ("group,name,address\n", "the column 'type' is missing"),
        ('{"groups": 3}', "has neither `groups` nor `tags`"),
        ('{"groups": [{"tags": 3}]}', "a group has no list of `tags`"),
        ('{"groups": [', "this is no JSON"),
        ('{"plugin": "S7", "groups": [{"tags": []}, {"tags": [{"name": "a"}]}]}', "is of the driver 's7', which is not spoken here"),
    ],
)
def test_a_wrong_neuron_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str) -> None:
    assert main(["import", "neuron", written(tmp_path, text)]) == 2
    assert told in capsys.readouterr().err
