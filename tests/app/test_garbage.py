"""Whatever a PLC shows in its tags (another type, another byte order, memory that was never set), the unit goes on and can be told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from gateway.config import Config
from gateway.domain.cloud_event import encode
from gateway.domain.instants import instant
from gateway.domain.sample import Input, SampleValue
from gateway.domain.tracker import Tracker
from tests.config.plant import loaded

TAGS = ("parts", "rejects", "run", "fault", "recipe", "job", "lot", "state", "mode")
SITE = f"""
gateway: {{id: gw, enterprise: acme, site: lyon}}
devices:
  plc:
    driver: opcua
    url: "opc.tcp://127.0.0.1:1"
    security: {{insecure: true}}
    tags:
      coil: {{node: "i=1", unit: KGM}}
      bore: {{node: "i=2", unit: MMT}}
{"".join(f"      {tag}: {{node: 'i={number}'}}{chr(10)}" for number, tag in enumerate(TAGS, 10))}
products: {{PF: {{recipe: 12}}}}
work_units:
  bits:
    area: hall
    work_center: a
    device: plc
    ideal_cycle_time: 1s
    state: {{from: bits, running: run, fault: fault}}
    counts: {{total: parts, reject: rejects}}
    product: {{tag: recipe}}
    job: {{tag: job}}
    materials: [{{material_id: M, mode: measured, tag: coil, direction: falling}}]
    quality: [{{characteristic: bore, tag: bore, unit: MMT, lower: 11, target: 12, upper: 13}}]
    cost: {{currency: EUR, per_hour: 90}}
  codes:
    area: hall
    work_center: b
    device: plc
    state: {{from: codes, tag: state, codes: {{0: running, 1: stopped}}}}
    counts: {{total: parts}}
    product_lot: {{tag: lot}}
  packml:
    area: hall
    work_center: c
    device: plc
    ideal_cycle_time: 1s
    state: {{from: packml, state: state, mode: mode}}
    counts: {{good: parts, reject: rejects}}
  machinery:
    {{area: hall, work_center: d, device: plc, state: {{from: machinery, state: state, mode: mode}}, counts: {{cycles: parts}}}}
  counts:
    {{area: hall, work_center: e, device: plc, ideal_cycle_time: 1s, state: {{from: counts}}, counts: {{total: parts}}}}
"""
GARBAGE: tuple[SampleValue, ...] = (
    -1, 2**31, 2**63, 2**64 - 1, -(2**63), 10**15, 0.5, -0.0, 5e-324, 1e20, 3.4e38, -3.4e38, 1.7e308, -1.7e308, True, False, "", "abc",
    "12", "9" * 20, "x" * 5000, "é\u2028", "nan", "1e400", "a/b#+",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return loaded(tmp_path_factory.mktemp("site"), SITE)


@pytest.mark.parametrize("unit", ["bits", "codes", "packml", "machinery", "counts"])
def test_whatever_the_tags_show_everything_can_be_told(unit: str, site: Config) -> None:
    for seed in range(20):
        draw = random.Random(seed)
        tracker, at = Tracker(site.work_units[unit]), datetime(2026, 11, 24, 6, tzinfo=UTC)
        tracker.begin(at)
        told = []
        for _ in range(30):
            at += timedelta(seconds=draw.choice([0, 0.2, 1, 5, 300, 4000]))
            shown = {tag: draw.choice((None, *GARBAGE)) if draw.random() < 0.5 else draw.randrange(5) for tag in site.unit_tags[unit]}
            inputs = {tag: Input(value, bad=value is None) for tag, value in shown.items() if draw.random() < 0.6}
            told += [*tracker.observe_at(instant(at), inputs), *tracker.advance(at)]
        told += tracker.finish(at)
        for body in (*(event.data() for event in told), *tracker.lines()):
            encode(body)
        snapshot = tracker.snapshot()
        Tracker(site.work_units[unit]).restore(snapshot, snapshot.records)
