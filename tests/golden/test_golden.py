"""Replays every folder with an `expected.json` beside its recording, through the command line."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.config import load

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/expected.json") if (path.parent / "recording.csv").exists())
IDS = [case.name for case in CASES]

KPI_FIELDS = {
    "planned_s", "opening_s", "run_s", "setup_s", "unknown_s", "stop_s", "stop_count", "micro_stop_s", "micro_stop_count", "slow_s",
    "produced", "good", "scrap", "rework", "availability", "effectiveness", "quality_ratio", "oee", "trs", "trg", "tre", "loss_cost",
    "degraded", "revision",
}  # fmt: skip

Line = dict[str, Any]


def expected_of(case: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((case / "expected.json").read_text())
    return found


def replay(case: Path, capsys: pytest.CaptureFixture[str], recording: Path | None = None) -> str:
    """What `lineside replay` prints for the case; fails when it does not end with 0."""
    arguments = [str(case / word) if (case / word).is_file() else word for word in expected_of(case)["replay"]]
    status = main(["replay", str(case / "config.yaml"), str(recording or case / "recording.csv"), *arguments])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


def lines_of(output: str) -> list[Line]:
    return [json.loads(line) for line in output.splitlines()]


def windows_of(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line["type"] == "kpi"]


def stops_of(lines: Iterable[Line], work_unit: str) -> list[Line]:
    """`data` of the unit's stop.ended events: the latest revision of each stop, in order of time."""
    latest: dict[str, Line] = {}
    for line in lines:
        if line["type"] == "lineside.stop.ended.v1" and line["source"].endswith(f"/{work_unit}"):
            stop = line["data"]
            known = latest.get(stop["stop_id"])
            if known is None or stop["revision"] >= known["revision"]:
                latest[stop["stop_id"]] = stop
    return sorted(latest.values(), key=lambda stop: str(stop["from"]))


def assert_fields(found: Mapping[str, Any], expect: Mapping[str, Any], where: str) -> None:
    wrong = []
    for field, wanted in expect.items():
        value, within = (wanted["value"], wanted["within"]) if isinstance(wanted, dict) else (wanted, 1e-6)
        is_flag = isinstance(value, bool) or value is None
        said = found["losses"][field.removeprefix("losses.")] if field.startswith("losses.") else found[field]
        if said is not value if is_flag else said is None or abs(said - value) > within:
            wrong.append(f"{field} is {said}, expected {value} within {within}")
    assert wrong == [], where


def assert_events(lines: Iterable[Line], wanted: Mapping[str, Any]) -> None:
    """How many events of a type carry the `data` named in `with`, and what their `sum` fields add up to."""
    data = [line["data"] for line in lines if line["type"] == f"lineside.{wanted['type']}.v1"]
    matching = [one for one in data if all(one[field] == value for field, value in wanted.get("with", {}).items())]
    where = f"{wanted['type']} {wanted.get('with', '')}: {data}"
    if "count" in wanted:
        assert len(matching) == wanted["count"], where
    sums = {field: sum(one[field] for one in matching) for field in wanted.get("sum", {})}
    assert_fields(sums, wanted.get("sum", {}), where)


def test_there_are_cases() -> None:
    assert {"oee-shift-with-breaks", "oee-stops-with-faults", "oee-two-shifts", "oee-from-events", "oee-roll-up"} <= set(IDS)
    assert {f"umh-{number}" for number in (1601323170, 1601323210, 1601323241, 1610629712, 1610630858)} <= set(IDS)


def test_published_examples_say_where_they_are_from() -> None:
    """Beside the five of the rule book at least ten more, each read at an address that anybody can open."""
    cited = [case.name for case in CASES if case.name.startswith(("oee-", "trs-")) and "https://" in expected_of(case)["about"]]
    assert len(cited) >= 10
    for case in CASES:
        if case.name.startswith("umh-"):
            assert (case / "LICENSE").exists(), case.name
            assert (case / "NOTICE").exists(), case.name


def test_the_table_names_every_folder() -> None:
    """Who adds a rule adds its line to README.md, so that a rule without a folder is seen."""
    page = (HERE / "README.md").read_text()
    assert [name for name in IDS if f"`{name.removeprefix('umh-')}`" not in page] == []


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_case(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = expected_of(case)
    lines = lines_of(replay(case, capsys))
    for wanted in expected["windows"]:
        where = f"{wanted['work_unit']} {wanted['kind']} {wanted.get('name', '')}".strip()
        found = [
            line
            for line in windows_of(lines)
            if (line["work_unit"], line["window"]["kind"]) == (wanted["work_unit"], wanted["kind"])
            and line["window"]["name"] == wanted.get("name", line["window"]["name"])
        ]
        assert len(found) == 1, f"one window, printed once: {where}"
        assert_fields(found[0], wanted["expect"], where)
    for work_unit, classes in expected.get("stops", {}).items():
        stops = stops_of(lines, work_unit)
        for class_, wanted in classes.items():
            durations = [stop["duration_s"] for stop in stops if stop["class"] == class_]
            assert_fields({"count": len(durations), "duration_s": sum(durations)}, wanted, f"{work_unit} {class_}")
    for work_unit, reasons in expected.get("reasons", {}).items():
        assert [stop["reason"] for stop in stops_of(lines, work_unit)] == reasons
    for wanted in expected.get("events", []):
        assert_events(lines, wanted)
    if "roll_up" in expected:
        assert_fields(rolled_up(lines, expected["roll_up"]["work_units"]), expected["roll_up"]["expect"], "roll-up")


def rolled_up(lines: Iterable[Line], ideal_s: Mapping[str, float]) -> dict[str, float]:
    """Times and pieces are summed first: an average of OEEs would weigh a short shift like a long one."""
    ranges = {line["work_unit"]: line for line in windows_of(lines) if line["window"]["kind"] == "range"}
    assert set(ideal_s) <= set(ranges)
    planned, run = (sum(ranges[unit][field] for unit in ideal_s) for field in ("planned_s", "run_s"))
    net, useful = (sum(c * ranges[unit][field] for unit, c in ideal_s.items()) for field in ("produced", "good"))
    return {"availability": run / planned, "effectiveness": net / run, "quality_ratio": useful / net, "oee": useful / planned}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_printed_figures_agree_with_each_other(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The parts and micro-stops, where they are availability, sum to the planned time, losses to tR - tU, and OEE = A * E * QR."""
    windows = windows_of(lines_of(replay(case, capsys)))
    assert windows
    units = load(case / "config.yaml").work_units
    beside = {name for name, unit in units.items() if unit.oee.micro_stop_bucket == "availability"}
    for line in windows:
        assert set(line) >= KPI_FIELDS
        micro = line["micro_stop_s"] if line["work_unit"] in beside else 0
        parts = line["run_s"] + line["setup_s"] + line["stop_s"] + line["unknown_s"] + micro
        assert parts == pytest.approx(line["planned_s"], abs=1e-5), line["window"]
        assert line["planned_s"] <= line["opening_s"] + 1e-5
        assert line["produced"] == pytest.approx(line["good"] + line["scrap"] + line["rework"])
        if line["planned_s"]:
            assert line["availability"] == pytest.approx(line["run_s"] / line["planned_s"], abs=1e-5)
        if line["losses"] is not None:
            assert sum(line["losses"].values()) == pytest.approx(line["planned_s"] - line["useful_s"], abs=1e-5), line["window"]
        factors = [line[field] for field in ("availability", "effectiveness", "quality_ratio")]
        if None not in factors and line["oee"] is not None:
            assert line["oee"] == pytest.approx(factors[0] * factors[1] * factors[2], abs=1e-4)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_same_input_gives_the_same_bytes(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when the rows come in another order: a recorder may write its devices one after the other."""
    once = replay(case, capsys)
    assert replay(case, capsys) == once
    with (case / "recording.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    random.Random(3).shuffle(rows)
    shuffled = tmp_path / "recording.csv"
    with shuffled.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    assert replay(case, capsys, shuffled) == once
