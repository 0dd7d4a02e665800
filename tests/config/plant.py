"""A small plant as a configuration file, written by tests with their own changes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from gateway.config import Config, ConfigError, Problem, load

BASE = """\
gateway: {id: gw, enterprise: acme, site: lyon, time_zone: Europe/Paris}
devices:
  plc:
    driver: modbus
    url: tcp://192.0.2.1:502
    tags:
      parts: {holding: 100, type: uint16}
      rejects: {holding: 101, type: int32, order: CDAB}
      running: {discrete: 0}
      state: {input: 7}
      weight: {holding: 20, type: float32, unit: KGM, deadband: 0.1}
      strokes: {holding: 30, type: uint32, unit: C62}
  other: {driver: modbus, url: "tcp://192.0.2.2:502", tags: {parts: {holding: 1, type: uint64}}}
work_units:
  m-1:
    area: hall
    work_center: line-1
    device: plc
    ideal_cycle_time: 1.2s
    state: {from: bits, running: running}
    counts: {total: parts, reject: rejects}
"""


def write(folder: Path, text: str = BASE, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(dedent(text), encoding="utf-8")
    return path


def loaded(folder: Path, text: str = BASE) -> Config:
    return load(write(folder, text))


def problems(path: Path) -> tuple[Problem, ...]:
    """What is wrong with the file at `path`; fails when it loads."""
    try:
        load(path)
    except ConfigError as error:
        return error.problems
    raise AssertionError(f"{path} loads")
