"""What people and other programs write as files: configuration, tag lists, recordings, exports of other gateways."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drivers.recording import Recording, RecordingError
from gateway.cli.errors import CommandError
from gateway.cli.import_ import read
from gateway.cli.importers import as_yaml, devices_of
from gateway.cli.replay import Replay, _commands
from gateway.config import Config, ConfigError, load
from tests.fuzz.engine import Call, Parser, simple
from tests.fuzz.of_messages import COMMANDS, WORDS, encoded

PLANT = """\
gateway: {id: line-pc-07, enterprise: acme, site: lyon, time_zone: Europe/Paris, language: fr, listen: "127.0.0.1:8080"}
journal: {retention: 7d, max_size: 2GB}
devices:
  plc:
    driver: modbus
    url: tcp://192.168.10.22:502
    unit_id: 1
    interval: 500ms
    tags:
      parts: {holding: 100, type: uint32, order: ABCD}
      state: {input: 7, type: uint16}
      jam: {holding: 12, bit: 3}
      bore: {holding: 20, type: int16, scale: 0.1, unit: MMT}
      recipe: {holding: 30, type: string, length: 8}
work_units:
  press-07:
    area: stamping
    work_center: line-3
    device: plc
    ideal_cycle_time: 1.2s
    state: {from: codes, tag: state, codes: {0: running, 1: stopped, 2: setup, 50: jam}}
    counts: {total: parts}
    product: {tag: recipe}
    cycles: {slow_tolerance: 10%, micro_factor: 1.7, micro_min: 2s, stop_threshold: 2min}
    quality: [{characteristic: bore, tag: bore, unit: MMT, lower: 11.98, target: 12, upper: 12.02}]
    dispatch: {end: at_quantity, next: auto}
    cost: {currency: EUR, per_hour: 90}
    calendar: two_shifts
reasons:
  jam: {class: own, text: {fr: Bourrage, en: Jam}, faults: {press-07: [12, 13]}}
products:
  PF-100: {recipe: "12", pieces_per_cycle: 1, ideal_cycle_time: {press-07: 1.1s}}
calendars:
  two_shifts:
    shifts:
      - {name: morning, days: mon-fri, from: "05:00", to: "13:00", breaks: [{from: "09:00", to: "09:20"}]}
      - {name: night, days: [mon, sat], from: "21:00", to: "05:00"}
    closed: ["2026-12-25", "2026-12-28/2027-01-01"]
    maintenance: ["2026-11-27T05:00/2026-11-27T07:00"]
"""
OTHER = """\
gateway: {id: a, enterprise: acme, site: lyon, time_zone: Europe/Paris}
devices:
  press:
    driver: opcua
    url: opc.tcp://192.168.10.21:4840
    security: {policy: Aes256_Sha256_RsaPss, mode: SignAndEncrypt}
    tags:
      parts: {node: "nsu=urn:acme:press;s=Counters.Total", deadband: 0.5}
      mode: {path: "Objects/{urn:acme:press}Press7/2:Mode", index: 3}
work_units:
  u:
    area: a
    work_center: l
    device: press
    ideal_cycle_time: 1s
    state: {from: bits, running: mode}
    counts: {total: parts}
    materials: [{material_id: MP-TOLE-1.5, mode: measured, tag: parts, direction: falling}]
work_centers: {l: {kpi_from: u}}
uplinks:
  plant: {type: mqtt, urls: ["mqtts://broker-1:8883"], protocol: auto, user: {name: pc, password: {credential: mqtt}}, consumers: [mes]}
  erp: {type: http, url: "https://erp.acme.lan/lineside", token: {credential: erp}}
"""
CALENDARS = """\
gateway: {id: a, enterprise: acme, site: lyon, time_zone: Europe/Paris}
devices: {r: {driver: replay, recording: r.csv}}
work_units: {u: {area: a, work_center: l, device: r, ideal_cycle_time: 1s, state: {from: counts}, counts: {total: p}, calendar: c}}
calendars:
"""
LISTED = """\
gateway: {id: a, enterprise: acme, site: lyon, time_zone: Europe/Paris}
devices: {plc: {driver: modbus, url: "tcp://192.168.10.22:502", tags_csv: tags.csv}}
work_units: {u: {area: a, work_center: l, device: plc, ideal_cycle_time: 1s, state: {from: counts}, counts: {total: parts}}}
"""
SHIFTS = (
    '  c: {shifts: [{name: early, days: mon-fri, from: "05:00", to: "13:00", breaks: [{from: "09:00", to: "09:20"}]}]}\n',
    '  c:\n    shifts:\n      - {name: night, days: [fri, sun-mon], from: "22:00", to: "06:00"}\n'
    '    closed: ["2026-12-25", "2026-12-28/2027-01-01"]\n',
    '  c: {shifts: [{name: day, days: mon-sun, from: "00:00", to: "24:00"}], maintenance: ["2026-11-27T05:00/2026-11-27T07:00"]}\n',
)
TAGS = (
    b"tag,holding,type,scale,unit,bit\nparts,100,uint32,,,\njam,12,,,,3\nbore,20,int16,0.1,MMT,\n",
    b"tag;input;coil;valid\nparts;7;;\nlamp;;3;\n",
    b'\xef\xbb\xbftag,holding,type,length,order\n"recipe",30,string,8,BADC\nparts,1,uint16,,\n',
)
RECORDINGS = (
    b"at,device,tag,value,quality\n2026-11-25T06:00:00Z,plc,parts,10,good\n2026-11-25T06:00:00Z,plc,state,0,good\n"
    b"2026-11-25T06:00:01.200Z,plc,parts,11,good\n2026-11-25T06:00:02.4Z,plc,parts,12,good\n2026-11-25T06:10:00Z,plc,state,50,uncertain\n"
    b"2026-11-25T06:12:00Z,plc,parts,,bad\n2026-11-25T06:12:30Z,plc,parts,20,good\n2026-11-25T06:12:30Z,plc,bore,12.013,good\n",
    b"at,device,tag,value,quality\n2026-11-25T07:00:03+01:00,plc,parts,65535,good\n2026-11-25T07:00:01+01:00,plc,recipe,12,good\n"
    b'2026-11-25T07:00:02+01:00,plc,recipe,"007 ""A""",good\n2026-11-25T07:00:09+01:00,plc,parts,2,good\n',
)
KEPWARE = (
    b"Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate,Scaling,Raw Low,Raw High,Scaled Low,Scaled High,"
    b'Scaled Data Type,Clamp Low,Clamp High,Eng Units,Description,Negate Value\n"Parts",400101,DWord,1,RO,500,None,,,,,,,,,"",\n'
    b'"Weight",400021,Short,1,RO,500,Linear,0,1000,0,100,Double,0,0,kg,"",0\n"Run",000001,Boolean,1,R/W,100,None,,,,,,,,,"",\n'
    b'"Bore","ns=2;s=Gauge.Bore",Float,1,RO,100,None,,,,,,,,,"",\n',
)
NEURON = encoded(
    {"tags": [{"name": "parts", "address": "1!400101", "type": 6, "attribute": 1, "decimal": 0.1, "precision": 0, "description": ""}]},
    {"name": "t", "plugin": "Modbus TCP", "groups": [{"name": "g", "interval": 500, "tags": [
        {"name": "run", "address": "2!000001", "type": 11, "attribute": 3},
        {"name": "text", "address": "1!400030.8H", "type": 13, "attribute": 1}]}]},
    {"nodes": [{"name": "n", "plugin": "OPC UA"}], "groups": [{"group": "g", "tags": [{"name": "b", "address": "2!Gauge.Bore",
    "type": 9}]}]},
)  # fmt: skip
NEURON_CSV = b"group,interval,name,address,attribute,type,description,decimal,precision\ng,500,parts,1!400101,Read,UINT32,,0.1,0\n"

LONGEST_DAY_US = 3 * 86_400_000_000
"""Longer recordings are read but not played: each hour of a gap is a window, and a year of them takes its time."""


def _written(folder: Path, name: str, use: Callable[[], None], around: Callable[[bytes], bytes] = lambda data: data) -> Call:
    file = folder / name

    def call(data: bytes) -> None:
        file.write_bytes(around(data))
        use()

    return call


def _loads(folder: Path) -> None:
    try:
        load(folder / "plant.yaml")
    except ConfigError as error:
        # Each is a sentence that can be printed, with its place.
        for problem in (error.problems[0], *error.problems):
            str(problem).encode()


@contextmanager
def config(folder: Path) -> Iterator[Call]:
    yield _written(folder, "plant.yaml", lambda: _loads(folder))


@contextmanager
def tags_csv(folder: Path) -> Iterator[Call]:
    (folder / "plant.yaml").write_text(LISTED)
    yield _written(folder, "tags.csv", lambda: _loads(folder))


def _replay(config: Config, recording: Path, commands: Path | None, loop: asyncio.AbstractEventLoop) -> None:
    given = [] if commands is None else _commands(commands)
    found = Recording.open(recording)
    try:
        if found.last - found.first <= LONGEST_DAY_US:
            replay = Replay(config, None, io.BytesIO())
            try:
                loop.run_until_complete(replay.play(found, given))
            finally:
                replay.close()
    finally:
        found.close()


@contextmanager
def _replaying(folder: Path) -> Iterator[tuple[Config, asyncio.AbstractEventLoop]]:
    (folder / "plant.yaml").write_text(PLANT)
    loop = asyncio.new_event_loop()
    try:
        yield load(folder / "plant.yaml"), loop
    finally:
        loop.close()


@contextmanager
def recording(folder: Path) -> Iterator[Call]:
    """Read, sorted where it must be, and played through the model."""
    with _replaying(folder) as (plant, loop):

        def use() -> None:
            with suppress(RecordingError):
                _replay(plant, folder / "r.csv", None, loop)

        yield _written(folder, "r.csv", use)


@contextmanager
def commands(folder: Path) -> Iterator[Call]:
    """Lines of `replay --commands`: those that are taken act on the model."""
    with _replaying(folder) as (plant, loop):
        (folder / "r.csv").write_bytes(RECORDINGS[0])

        def use() -> None:
            with suppress(CommandError):
                _replay(plant, folder / "r.csv", folder / "c.jsonl", loop)

        yield _written(folder, "c.jsonl", use)


def _import(kind: str) -> Call:
    def call(data: bytes) -> None:
        # The command itself refuses what is no UTF-8.
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return
        try:
            found = devices_of(read(kind, text, "tags"))
        except CommandError:
            return
        as_yaml("plc", found)

    return call


def _story() -> bytes:
    """Every command and fact at the machine of the recording, one a line."""
    return b"\n".join(one.replace(b"2026-11-24T0", b"2026-11-25T0") for one in encoded(*COMMANDS))


PARSERS = (
    Parser("config", (PLANT.encode(), OTHER.encode()), config, largest=4096),
    Parser("calendars", tuple((CALENDARS + shifts).encode() for shifts in SHIFTS), config, largest=4096),
    Parser("tags-csv", TAGS, tags_csv, largest=8192),
    Parser("recording", RECORDINGS, recording),
    Parser("commands-file", (_story(), *(one.replace(b"2026-11-24T0", b"2026-11-25T0") for one in encoded(*COMMANDS))), commands, WORDS),
    Parser("kepware", KEPWARE, simple(_import("kepware"))),
    Parser("neuron", NEURON, simple(_import("neuron")), is_json=True),
    Parser("neuron-csv", (NEURON_CSV,), simple(_import("neuron"))),
)
