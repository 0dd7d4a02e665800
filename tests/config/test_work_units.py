"""From the file to the frozen nouns of the core."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.domain.calendar import SpanKind
from gateway.domain.equipment import (
    Cost,
    Counter,
    Counts,
    CycleRules,
    Dispatch,
    MaterialPrice,
    MeasuredMaterial,
    OeeRules,
    Product,
    ReleaseRule,
    Signal,
    StateFromBits,
    StateFromCodes,
    StateFromCounts,
    StateFromMachinery,
    StateFromPackML,
)
from gateway.domain.instants import instant
from tests.config.plant import BASE, loaded, problems, write

UNIT_END = "    counts: {total: parts, reject: rejects}\n"


def test_defaults_are_the_published_ones(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    unit = config.work_units["m-1"]
    assert unit.path == "/acme/lyon/hall/line-1/m-1"
    assert unit.cycles == CycleRules()
    assert unit.oee == OeeRules()
    assert unit.dispatch == Dispatch()
    assert unit.pieces_per_cycle == 1
    assert unit.time_zone == "Europe/Paris"
    assert config.gateway.listen == "127.0.0.1:8080"
    assert config.journal.retention == 7 * 86400
    assert config.device_of_unit == {"m-1": "plc"}
    assert config.unit_tags == {"m-1": ("running", "parts", "rejects")}


def test_counters_roll_over_where_their_register_does(tmp_path: Path) -> None:
    text = BASE.replace("{total: parts, reject: rejects}", "{total: other/parts, reject: rejects, rework: weight}")
    config = loaded(tmp_path, text)
    assert config.work_units["m-1"].counts == Counts(
        total=Counter("other/parts", 64), reject=Counter("rejects", 32, signed=True), rework=Counter("weight")
    )
    assert config.resolve("m-1", "other/parts") == ("other", "parts")
    assert config.resolve("m-1", "rejects") == ("plc", "rejects")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{from: bits, running: running}", StateFromBits(Signal("running"))),
        (
            "{from: bits, running: {tag: running, invert: true}, fault: state, setup: running, starved: running, "
            "blocked: {tag: other/parts}, planned: running}",
            StateFromBits(
                Signal("running", invert=True), "state", Signal("running"), Signal("running"), Signal("other/parts"), Signal("running")
            ),
        ),
        (
            "{from: bits, running: running, fault: {bits: [other/parts, {tag: state, invert: true}]}}",
            StateFromBits(Signal("running"), (Signal("other/parts"), Signal("state", invert=True))),
        ),
        ("{from: counts}", StateFromCounts()),
        (
            "{from: codes, tag: state, fault: parts, codes: {0: running, -1: stopped, A7: setup, '8': break}}",
            StateFromCodes("state", {0: "running", -1: "stopped", "A7": "setup", 8: "break"}, "parts"),
        ),
        ("{from: packml, state: state, mode: parts}", StateFromPackML("state", "parts")),
        (
            "{from: packml, state: state, machine_state: parts, execute_state: other/parts, mode: weight}",
            StateFromPackML("state", "weight", "parts", "other/parts"),
        ),
        ("{from: machinery, state: state}", StateFromMachinery("state")),
    ],
)
def test_state_sources(tmp_path: Path, written: str, expected: object) -> None:
    config = loaded(tmp_path, BASE.replace("{from: bits, running: running}", written))
    assert config.work_units["m-1"].state == expected


def test_a_post_without_counters(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE.replace(UNIT_END, ""))
    assert config.work_units["m-1"].counts == Counts()


def test_everything_that_a_unit_may_say(tmp_path: Path) -> None:
    more = UNIT_END + (
        "    pieces_per_cycle: 4\n"
        "    product: {tag: state}\n"
        "    cycles: {slow_tolerance: 12.5%, micro_factor: 2, micro_min: 500ms, stop_threshold: 2min, ignore_under: 1s, min_run: 3s}\n"
        "    oee: {micro_stop_bucket: availability, no_order_bucket: unloaded}\n"
        "    materials:\n"
        "      - {material_id: steel, mode: measured, tag: weight}\n"
        "      - {material_id: caps, mode: measured, tag: strokes, direction: rising}\n"
        "    quality: [{characteristic: mass, tag: weight, lower: 11.98, target: 12, upper: 12.02}]\n"
        "    dispatch: {end: at_quantity, next: auto, changeover: 10min}\n"
        "    cost: {currency: EUR, per_hour: 90.5, per_piece: 0.35, materials: {MP.1/b: {per_unit: 1.85, unit: KGM}, cap: {per_unit: 2}}}\n"
    )
    unit = loaded(tmp_path, BASE.replace(UNIT_END, more)).work_units["m-1"]
    assert unit.pieces_per_cycle == 4
    assert unit.product_tag == "state"
    assert unit.cycles == CycleRules(0.125, 2.0, 0.5, 120.0, 1.0, 3.0)
    assert unit.oee == OeeRules("availability", "unloaded")
    assert unit.materials == (
        MeasuredMaterial("steel", "weight", "KGM", "falling", Decimal("0.1")),
        MeasuredMaterial("caps", "strokes", "C62", "rising", Decimal("0.0"), span=Decimal(2**32)),
    )
    limits = unit.quality[0].limits
    assert (limits.unit, limits.lower, limits.target, limits.upper) == ("KGM", Decimal("11.98"), Decimal(12), Decimal("12.02"))
    assert unit.dispatch == Dispatch("at_quantity", "auto", 600.0)
    prices = {"MP.1/b": MaterialPrice(Decimal("1.85"), "KGM"), "cap": MaterialPrice(Decimal(2), "C62")}
    assert unit.cost == Cost("EUR", Decimal("90.5"), Decimal("0.35"), prices)


def test_reasons_and_products_of_each_unit(tmp_path: Path) -> None:
    text = BASE + (
        "  m-2: {area: hall, work_center: line-1, device: other, state: {from: counts}, counts: {total: parts}}\n"
        "reasons:\n"
        "  jam: {class: own, text: {fr: Bourrage}, faults: {m-1: [7, E12]}}\n"
        "  lunch: {class: planned}\n"
        "products:\n"
        "  PF-100: {recipe: 12, pieces_per_cycle: 2, ideal_cycle_time: {m-1: 1.1s}}\n"
        "  PF.200/b: {recipe: blue}\n"
        "work_centers:\n"
        "  line-1: {kpi_from: m-2}\n"
    )
    config = loaded(tmp_path, text)
    one, two = config.work_units["m-1"], config.work_units["m-2"]
    assert one.reasons["jam"].faults == {7, "E12"}
    assert two.reasons["jam"].faults == frozenset()
    assert (one.reasons["jam"].text.fr, one.reasons["jam"].text.en) == ("Bourrage", "Bourrage")
    assert one.reasons["lunch"].text.en == "lunch"
    assert one.products["PF-100"] == Product("PF-100", 12, 2, Decimal("1.1"))
    assert two.products["PF-100"].ideal_cycle_time_s is None
    assert two.products["PF.200/b"].recipe == "blue"
    assert config.work_centers["line-1"].kpi_from == "m-2"


CALENDAR = """\
calendars:
  late:
    shifts:
      - {name: night, days: sat-mon, from: 22:00, to: "06:00", breaks: [{from: "02:00", to: 02:20}]}
      - {name: noon, days: [wed, fri], from: "12:00", to: "24:00"}
    closed: ["2026-12-25", 2026-12-28/2027-01-01]
    maintenance: ["2026-11-25T13:00/2026-11-25T14:30"]
"""


@pytest.mark.parametrize(
    ("at", "kind"),
    [
        ("2026-11-22T21:30", SpanKind.REQUIRED),  # Sunday 22:30 in Paris
        ("2026-11-23T01:10", SpanKind.BREAK),  # Monday 02:10, in the shift of Sunday
        ("2026-11-24T04:59", SpanKind.REQUIRED),  # Tuesday 05:59, in the shift of Monday
        ("2026-11-24T05:00", SpanKind.CLOSED),
        ("2026-11-25T12:30", SpanKind.MAINTENANCE),  # Wednesday 13:30
        ("2026-11-25T22:59", SpanKind.REQUIRED),  # Wednesday 23:59
        ("2026-11-25T23:00", SpanKind.CLOSED),
        ("2026-12-25T13:00", SpanKind.CLOSED),  # a Friday, and Christmas
        ("2026-12-30T13:00", SpanKind.CLOSED),  # a Wednesday inside the closed range
        ("2027-01-06T13:00", SpanKind.REQUIRED),
    ],
)
def test_calendar_in_local_time(tmp_path: Path, at: str, kind: SpanKind) -> None:
    config = loaded(tmp_path, BASE.replace(UNIT_END, UNIT_END + "    calendar: late\n") + CALENDAR)
    calendar = config.work_units["m-1"].calendar
    assert calendar.kind_at(instant(datetime.fromisoformat(at).replace(tzinfo=UTC)))[0] is kind


def test_a_recording_needs_no_tags(tmp_path: Path) -> None:
    text = BASE[: BASE.index("devices:")] + "devices: {plc: {driver: replay, file: r.csv}}\n" + BASE[BASE.index("work_units:") :]
    config = loaded(tmp_path, text)
    assert config.work_units["m-1"].counts.total == Counter("parts")
    assert getattr(config.devices["plc"], "file") == str(tmp_path / "r.csv")  # noqa: B009


def test_an_order_goes_down_only_where_it_is_said_and_only_to_writable_tags(tmp_path: Path) -> None:
    assert loaded(tmp_path).work_units["m-1"].release is None
    text = BASE.replace("holding: 30, type: uint32", "holding: 30, type: uint32, writable: true")
    text = text.replace(
        "{parts: {holding: 1, type: uint64}}", "{parts: {holding: 1, type: uint64}, go: {coil: 9, writable: true}, ok: {coil: 8}}"
    )
    release = "    release: {quantity: strokes, only_when: stopped, strobe: other/go, accepted: other/ok}\n"
    config = loaded(tmp_path, text.replace(UNIT_END, UNIT_END + release))
    assert config.work_units["m-1"].release == ReleaseRule(
        quantity="strokes", only_when_stopped=True, strobe="other/go", accepted="other/ok"
    )
    assert config.unit_tags == {"m-1": ("running", "parts", "rejects")}  # what is written is no input of the machine
    assert config.resolve("m-1", "other/go") == ("other", "go")


def test_a_recording_takes_no_orders(tmp_path: Path) -> None:
    text = BASE.replace(
        "other: {driver: modbus", "rec: {driver: replay, file: r.csv, tags: {t: {writable: true}}}\n  other: {driver: modbus"
    )
    path = write(tmp_path, text.replace(UNIT_END, UNIT_END + "    release: {quantity: rec/t}\n"))
    assert [(p.path, p.text) for p in problems(path)] == [
        ("work_units.m-1.release.quantity", "`rec` is a recording and cannot be written; remove this key")
    ]
