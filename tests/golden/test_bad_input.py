"""What must not pass: each kind of bad input is refused with place and remedy, or taken by its rule and flagged; never a figure alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main

HEADER = "at,device,tag,value,quality"
CONFIG = """\
gateway: {{id: golden, enterprise: acme, site: lyon, time_zone: UTC, language: en, listen: "127.0.0.1:8080"}}
devices:
  plc:
    driver: modbus
    url: tcp://192.0.2.20:502
    tags:
      running: {{discrete: 0}}
      parts: {{holding: 100, type: uint32}}
      rejects: {{holding: 102, type: uint32}}
      state: {{input: 7, type: uint16}}
reasons:
  jam: {{class: own}}
work_units:
  unit-1:
    area: hall
    work_center: line-1
    device: plc
    ideal_cycle_time: {ideal}
    state: {state}
    counts: {{total: parts, reject: rejects}}
    calendar: days
calendars:
  days: {{{days}}}
"""
Line = dict[str, Any]


def row(at: str, tag: str, value: object, quality: str = "good") -> str:
    return f"{at if 'T' in at else f'2026-11-24T{at}Z'},plc,{tag},{value},{quality}"


BEGIN = (row("06:00:00", "running", 1), row("06:00:00", "parts", 0), row("06:00:00", "rejects", 0))
END = row("06:30:00", "parts", 60)


class Site:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def replay(
        self, *rows: str, header: str = HEADER, ideal: str = "10s", state: str = "{from: bits, running: running}", days: str = "",
        commands: Iterable[Line] = (),
    ) -> tuple[int, list[Line], str]:  # fmt: skip
        """Exit status, what was printed, and what was said of the mistake."""
        config, recording, given = (self.folder / name for name in ("config.yaml", "rows.csv", "commands.jsonl"))
        config.write_text(CONFIG.format(ideal=ideal, state=state, days=days))
        recording.write_text("\n".join((header, *rows)) + "\n")
        given.write_text("".join(f"{json.dumps(command)}\n" for command in commands))
        status = main(["replay", str(config), str(recording), "--commands", str(given)])
        printed = self._capsys.readouterr()
        return status, [json.loads(line) for line in printed.out.splitlines()], printed.err


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def whole(lines: list[Line]) -> Line:
    (found,) = (line for line in lines if line["type"] == "kpi" and line["window"]["kind"] == "range")
    return found


def told(lines: list[Line], kind: str) -> list[Line]:
    return [line["data"] for line in lines if line["type"] == f"lineside.{kind}.v1"]


@pytest.mark.parametrize(
    ("header", "rows", "place", "remedy"),
    [
        ("at,device,tag,wert,quality", BEGIN, "rows.csv:1", f"write {HEADER}"),
        ("at;device;tag;value;quality", BEGIN, "rows.csv:1", f"write {HEADER}"),
        ("at,device,tag,value", BEGIN, "rows.csv:1", f"write {HEADER}"),
        (HEADER, (*BEGIN, "2026-11-24T06:10:00Z,plc,parts,9"), "rows.csv:5", "write 5"),
        (HEADER, (*BEGIN, row("06:10:00", "parts", 9, "fine")), "rows.csv:5, column quality", "write one of good, uncertain, bad"),
        (HEADER, (*BEGIN, row("06:10:00", "parts", "")), "rows.csv:5, column value", "or the quality bad"),
        (HEADER, (*BEGIN, row("2026-11-24T06:10:00", "parts", 9)), "rows.csv:5, column at", "add Z or the offset"),
        (HEADER, (*BEGIN, row("24.11.2026T06:10", "parts", 9)), "rows.csv:5, column at", "write ISO 8601"),
        (HEADER, (*BEGIN, row("2026-02-29T06:10:00Z", "parts", 9)), "rows.csv:5, column at", "write ISO 8601"),
        (HEADER, (*BEGIN, row("2000-01-01T00:00:07Z", "parts", 9), END), "rows.csv, column at", "a clock was wrong"),
        (HEADER, (*BEGIN, END, row("2036-02-07T06:28:15Z", "parts", 61)), "rows.csv, column at", "a clock was wrong"),
    ],
)
def test_a_recording_that_cannot_be_right_is_refused_as_a_whole(
    site: Site, header: str, rows: tuple[str, ...], place: str, remedy: str
) -> None:
    status, lines, said = site.replay(*rows, header=header)
    assert (status, lines) == (2, []), "not one figure"
    assert place in said
    assert remedy in said


@pytest.mark.parametrize(
    ("change", "place", "remedy"),
    [
        ({"ideal": "0s"}, "config.yaml:18", "above 0"),
        ({"ideal": "-10s"}, "config.yaml:18", "a number with a unit"),
        ({"state": "{from: codes, tag: state, codes: {0: running, 7: jamm}}"}, "config.yaml:19", "jam"),
        ({"days": 'shifts: [{name: a, days: mon-fri, from: "05:00", to: "13:00"}, {name: b, days: mon-fri, from: "12:59", to: "21:00"}]'},
         "config.yaml:23", "overlaps"),
        ({"days": 'shifts: [{name: a, days: mon, from: "22:00", to: "06:00"}, {name: b, days: tue, from: "05:59", to: "14:00"}]'},
         "config.yaml:23", "overlaps"),
        ({"days": 'shifts: [{name: a, days: mon-fri, from: "05:00", to: "13:00", breaks: [{from: "09:00", to: "08:00"}]}]'},
         "config.yaml:23", "break"),
        ({"days": 'shifts: [{name: a, days: mon-fri, from: "05:00", to: "25:00"}]'}, "config.yaml:23", "time of day"),
        ({"days": 'shifts: [{name: a, days: [], from: "05:00", to: "13:00"}]'}, "config.yaml:23", "day"),
        ({"days": 'shifts: [{name: a, from: "05:00", to: "13:00"}]'}, "config.yaml:23", "days"),
        ({"days": 'shifts: [{name: a, days: montag, from: "05:00", to: "13:00"}]'}, "config.yaml:23", "mon, tue"),
        ({"days": 'closed: ["2026-12-25/2026-12-20"]'}, "config.yaml:23", "2026-12-25"),
        ({"days": 'closed: ["2026-02-29"]'}, "config.yaml:23", "no date"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_right_is_refused_with_its_line(site: Site, change: dict[str, str], place: str, remedy: str) -> None:
    status, lines, said = site.replay(*BEGIN, END, **change)  # type: ignore[arg-type]
    assert (status, lines) == (2, []), said
    assert place in said
    assert remedy in said


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"command": "ExplainStop", "at": "2026-11-24T06:12:00Z", "reason": "gremlins"}, "unknown_reason"),
        ({"command": "ExplainStop", "at": "2026-11-24T06:05:00Z", "reason": "jam"}, "no_stop_at"),
        ({"command": "StoreAndStart", "issued_at": "2026-11-24T06:00:00Z", "job_order": {"job_order_id": "OF-1", "ideal_cycle_time_s": 0}},
         "quantity_invalid"),
    ],
)  # fmt: skip
def test_what_a_person_or_an_order_says_is_refused_and_changes_nothing(site: Site, command: Line, code: str) -> None:
    rows = (*BEGIN, row("06:10:00", "running", 0), row("06:20:00", "running", 1), END)
    _, without, _ = site.replay(*rows)
    status, lines, _ = site.replay(*rows, commands=[command | {"command_id": "c-1", "work_unit": "unit-1"}])
    assert status == 0
    (answer,) = told(lines, "command.answered")
    assert answer["return_status"] != 1
    assert answer["problem"]["code"] == code
    assert whole(lines) == whole(without)


@pytest.mark.parametrize("value", ["abc", "NaN", "inf", "1e400", "0x10"])
def test_a_counter_that_is_no_number_is_bad_and_its_pieces_are_late(site: Site, value: str) -> None:
    status, lines, _ = site.replay(*BEGIN, row("06:10:00", "parts", value), END)
    assert status == 0
    assert (whole(lines)["produced"], whole(lines)["late"], whole(lines)["degraded"]) == (60, 60, True)


@pytest.mark.parametrize(("low", "produced"), [(5, 25), (0, 20), (-5, 20)])
def test_a_counter_that_runs_backwards_is_a_reset_that_is_told(site: Site, low: int, produced: int) -> None:
    """What it shows was made since; below zero nothing was, and no piece is ever unmade."""
    status, lines, _ = site.replay(*BEGIN, row("06:05:00", "parts", 20), row("06:10:00", "parts", low), row("06:30:00", "running", 1))
    assert status == 0
    assert [gap["kind"] for gap in told(lines, "counter.gap")] == ["reset"]
    assert len(told(lines, "alert.raised")) == 1
    assert whole(lines)["produced"] == produced
    assert min(counted["produced"] for counted in told(lines, "quantity.counted")) >= 0


def test_a_counter_that_leaps_is_held_back_and_told(site: Site) -> None:
    status, lines, _ = site.replay(*BEGIN, row("06:05:00", "parts", 3_000_000_000), row("06:10:00", "parts", 20), END)
    assert status == 0
    assert [gap["kind"] for gap in told(lines, "counter.gap")] == ["glitch"]
    assert len(told(lines, "alert.raised")) == 1
    assert whole(lines)["produced"] == 60


def test_more_rejects_than_pieces_never_make_good_ones_negative(site: Site) -> None:
    status, lines, _ = site.replay(*BEGIN, row("06:05:00", "parts", 3), row("06:05:00", "rejects", 9), END)
    assert status == 0
    assert (whole(lines)["produced"], whole(lines)["scrap"], whole(lines)["good"]) == (60, 3, 57)


def test_rows_that_are_repeated_or_out_of_order_change_nothing(site: Site) -> None:
    rows = (
        *BEGIN,
        row("06:05:00", "parts", 20),
        row("06:07:00", "parts", 30),
        row("06:10:00", "running", 0),
        row("06:12:00", "running", 1),
        END,
    )
    _, once, _ = site.replay(*rows)
    _, twice, _ = site.replay(*(one for one in rows for _ in range(2)))
    _, backwards, _ = site.replay(*reversed(rows))
    assert whole(once)["produced"] == 60
    assert once == twice == backwards


def test_a_code_nobody_named_is_unknown_time_and_told(site: Site) -> None:
    rows = (row("06:00:00", "state", 0), row("06:00:00", "parts", 0), row("06:10:00", "state", 42), row("06:20:00", "state", 0), END)
    status, lines, _ = site.replay(*rows, state="{from: codes, tag: state, codes: {0: running, 1: stopped}}")
    assert status == 0
    assert (whole(lines)["unknown_s"], whole(lines)["degraded"], len(told(lines, "alert.raised"))) == (600, True, 1)
