"""`lineside replay`: order of time, the same bytes, windows, commands, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main

CONFIG = """
gateway: {{id: line-pc, enterprise: acme, site: lyon, time_zone: UTC, listen: "127.0.0.1:8080"}}
devices:
  plc:
    driver: modbus
    url: tcp://192.0.2.20:502
    tags:
      parts: {{holding: 100, type: uint32}}
      running: {{discrete: 0}}
      spare: {{discrete: 1}}
work_units:
{units}
"""
UNIT = """  {name}:
    area: hall
    work_center: line-1
    device: plc
    ideal_cycle_time: 10s
    state: {{from: bits, running: running}}
    counts: {{total: parts}}
"""
ROWS = [("06:00:00", "running", "1"), ("06:00:00", "parts", "0"), ("06:10:00", "parts", "60"), ("07:10:00", "parts", "400")]


class Site:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.error = ""
        self.units("press")
        self.rows(*ROWS)

    def units(self, *names: str) -> None:
        text = CONFIG.format(units="".join(UNIT.format(name=name) for name in names))
        (self.folder / "site.yaml").write_text(text)

    def rows(self, *rows: tuple[str, str, str]) -> None:
        lines = [f"2026-11-24T{at}Z,plc,{tag},{value},{'good' if value else 'bad'}" for at, tag, value in rows]
        (self.folder / "rows.csv").write_text("\n".join(["at,device,tag,value,quality", *lines]) + "\n")

    def commands(self, *given: dict[str, Any]) -> None:
        (self.folder / "orders.jsonl").write_text("".join(json.dumps(one) + "\n" for one in given))

    def replay(self, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
        orders = ["--commands", str(self.folder / "orders.jsonl")] if (self.folder / "orders.jsonl").exists() else []
        found = main(["replay", str(self.folder / "site.yaml"), str(self.folder / "rows.csv"), *orders, *arguments])
        printed = self._capsys.readouterr()
        self.error = printed.err
        assert found == status, printed.err
        return [json.loads(line) for line in printed.out.splitlines()]


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def order(command: str, at: str, job: str = "OF-1", **fields: Any) -> dict[str, Any]:
    return {
        "command": command,
        "command_id": f"{command}-{at}-{job}",
        "issued_at": f"2026-11-24T{at}Z",
        "job_order": {"job_order_id": job},
        **fields,
    }


def of_type(lines: list[dict[str, Any]], type_: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == f"lineside.{type_}.v1"]


def test_events_are_cloud_events_of_the_epoch_replay_in_order_of_time(site: Site) -> None:
    site.units("press", "packer")
    site.commands(order("StoreAndStart", "06:05:00", work_unit="packer"), order("Stop", "07:05:00", work_unit="packer"))
    lines = site.replay()
    events = [line for line in lines if line["type"] != "kpi"]
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))
    assert {(e["epoch"], e["id"].rsplit(":", 1)[0]) for e in events} == {("replay", "replay:replay")}
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert lines[len(events) :] == [line for line in lines if line["type"] == "kpi"], "windows come last"


def test_each_hour_shift_and_job_touched_and_one_range(site: Site) -> None:
    site.commands(order("StoreAndStart", "06:05:00"))
    found = [(line["window"]["kind"], line["window"]["name"], line["window"]["to"]) for line in site.replay() if line["type"] == "kpi"]
    assert found == [
        ("hour", "2026-11-24T06:00:00Z", "2026-11-24T07:00:00Z"), ("hour", "2026-11-24T07:00:00Z", "2026-11-24T08:00:00Z"),
        ("job", "OF-1", None), ("range", "range", "2026-11-24T07:10:00Z"),
    ]  # fmt: skip


def test_a_command_names_its_work_unit_only_where_there_are_several(site: Site) -> None:
    site.commands(order("StoreAndStart", "06:05:00"))
    assert of_type(site.replay(), "command.answered")[0]["data"]["return_status"] == 1
    site.units("press", "packer")
    [answer] = of_type(site.replay(), "command.answered")
    assert answer["data"]["problem"]["code"] == "missing_field"
    assert answer["source"] == "/acme/lyon/_gateway/replay"


def test_at_equal_times_commands_come_before_readings(site: Site) -> None:
    site.commands(order("StoreAndStart", "06:10:00"), order("Stop", "07:10:00"))
    jobs = [line for line in site.replay() if line["type"] == "kpi" and line["window"]["kind"] == "job"]
    assert [line["produced"] for line in jobs] == [60]


def test_expiry_is_judged_by_the_recordings_time_and_repeats_get_the_stored_answer(site: Site) -> None:
    late = order("StoreAndStart", "06:05:00") | {"expires_at": "2026-11-24T06:05:00Z"}
    site.commands(late, late | {"expires_at": "2027-01-01T00:00:00Z"}, order("Store", "06:06:00", expires_at="2026-11-24T06:07:00Z"))
    answers = [e["data"] for e in of_type(site.replay(), "command.answered")]
    assert [(a["return_status"], a["problem"] and a["problem"]["code"]) for a in answers] == [(1 << 32, "expired"), (1, None)]


def test_a_fact_is_taken_when_it_was_said(site: Site) -> None:
    fact = {"command": "DeclareScrap", "command_id": "f-1", "at": "2026-11-24T06:20:00Z", "quantity": 5}
    site.commands(order("StoreAndStart", "06:00:00"), fact)
    (hour,) = (line for line in site.replay() if line["type"] == "kpi" and line["window"]["name"] == "2026-11-24T06:00:00Z")
    assert (hour["good"], hour["revision"]) == (55, 1)
    site.commands(order("StoreAndStart", "06:00:00"), fact | {"issued_at": "2026-11-24T07:05:00Z"})
    lines = site.replay()
    assert [line["time"] for line in of_type(lines, "command.answered")] == ["2026-11-24T06:00:00Z", "2026-11-24T07:05:00Z"]
    (hour,) = (line for line in lines if line["type"] == "kpi" and line["window"]["name"] == "2026-11-24T06:00:00Z")
    assert (hour["good"], hour["revision"]) == (55, 2)


def test_a_wrong_command_is_answered_at_its_time_and_changes_nothing(site: Site) -> None:
    site.commands(
        order("Zap", "06:05:00"),
        order("Store", "06:06:00", colour="red"),
        {"command": "Dance", "command_id": "d", "at": "2026-11-24T06:07Z"},
    )
    lines = site.replay()
    answers = of_type(lines, "command.answered")
    assert [(e["time"][11:16], e["data"]["return_status"], e["data"]["problem"]["code"]) for e in answers] == [
        ("06:05", 4, "invalid_command"), ("06:06", 1 << 32, "unknown_field"), ("06:07", 4, "invalid_command"),
    ]  # fmt: skip
    assert not of_type(lines, "job.changed")


@pytest.mark.parametrize("fields", [{"issued_at": "yesterday"}, {"issued_at": "2026-11-24T06:05"}, {"issued_at": None}, {"command_id": 7}])
def test_a_command_that_nobody_could_answer_is_refused_with_its_place(site: Site, fields: dict[str, Any]) -> None:
    site.commands(order("Store", "06:04:00"), order("Store", "06:05:00") | fields)
    assert site.replay(status=2) == []
    assert "orders.jsonl:2: " in site.error


def test_a_window_of_its_own(site: Site) -> None:
    lines = site.replay("--window", "2026-11-24T06:30:00+00:00/2026-11-24T07:10:00+00:00")
    [range_line] = [line for line in lines if line["type"] == "kpi" and line["window"]["kind"] == "range"]
    assert (range_line["planned_s"], range_line["produced"], range_line["window"]["from"]) == (2400, 0, "2026-11-24T06:30:00Z")


@pytest.mark.parametrize(
    "window", ["06:00/07:00", "2026-11-24T06:00:00Z", "2026-11-24T06:00/2026-11-24T07:00", "2026-11-24T07:00Z/2026-11-24T06:00Z"]
)
def test_a_wrong_window_is_refused(site: Site, window: str) -> None:
    assert site.replay("--window", window, status=2) == []
    assert "--window" in site.error


def test_a_wrong_recording_is_refused_with_its_place(site: Site) -> None:
    site.rows(("06:00:00", "running", "1"), ("06:00:71", "running", "1"))
    assert site.replay(status=2) == []
    assert "rows.csv:3" in site.error


def test_tags_without_a_use_are_named(site: Site) -> None:
    site.rows(*ROWS, ("06:20:00", "spare", "1"), ("06:20:00", "speed", "3"))
    site.replay()
    assert "plc/speed" in site.error
    assert "spare" not in site.error


def test_the_windows_of_a_line_are_told_as_live(site: Site) -> None:
    site.units("press", "packer")
    closed = of_type(site.replay(), "window.closed")
    assert [(line["source"].rsplit("/", 1)[1], line["data"]["good"]) for line in closed] == [("press", 60), ("packer", 60), ("_line", 120)]


def test_a_command_after_the_last_reading_changes_no_time(site: Site) -> None:
    site.commands(order("StoreAndStart", "06:00:00"), order("Stop", "09:00:00"))
    lines = site.replay()
    [job] = [line for line in lines if line["type"] == "kpi" and line["window"]["kind"] == "job"]
    assert (job["planned_s"], job["produced"], job["closed"]) == (4200, 400, True)


def test_every_unit_is_looked_at_until_the_recording_ends(site: Site) -> None:
    site.units("press", "packer")
    (site.folder / "site.yaml").write_text((site.folder / "site.yaml").read_text().replace("running: running", "running: spare", 1))
    site.rows(("06:00:00", "running", "1"), ("06:00:00", "spare", "1"), ("06:00:10", "spare", "1"), ("06:00:25", "running", "1"))
    ranges = [line for line in site.replay() if line["type"] == "kpi" and line["window"]["kind"] == "range"]
    assert [(line["work_unit"], line["run_s"], line["window"]["to"]) for line in ranges] == [
        ("press", 25, "2026-11-24T06:00:25Z"), ("packer", 25, "2026-11-24T06:00:25Z"),
    ]  # fmt: skip


def test_a_counter_beyond_64_bits_is_counted_and_written_as_the_nearest_number(site: Site) -> None:
    site.rows(("06:00:00", "running", "1"), *((f"06:00:{10 * n:02}", "parts", str(2**70 + n)) for n in range(1, 4)))
    counted = [event["data"] for event in of_type(site.replay(), "quantity.counted")]
    assert [(data["produced"], data["counter"]) for data in counted] == [(1, float(2**70)), (1, float(2**70))]
