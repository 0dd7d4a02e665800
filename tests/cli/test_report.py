"""`lineside report`: the worked example of docs/metrology.md, read back from the journal."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.domain.kpi import COSTS
from tests.app.remembered import remembered, site

MORNING = datetime(2026, 11, 24, 7, 12, tzinfo=UTC)


def asked(capsys: pytest.CaptureFixture[str], where: tuple[Path, Path], *arguments: str) -> str:
    config, state = where
    assert main(["report", "-c", str(config), "--state-dir", str(state), *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], where: tuple[Path, Path], *arguments: str) -> tuple[int, str]:
    config, state = where
    status = main(["report", "-c", str(config), "--state-dir", str(state), *arguments])
    return status, capsys.readouterr().err


def plain(text: str) -> list[str]:
    """Lines with single spaces."""
    return [" ".join(line.replace("\u202f", " ").replace("\u00a0", " ").split()) for line in text.splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return remembered(tmp_path_factory.mktemp("whole"), "press-07", "packer-02", "saw-01")


def test_a_shift_as_text_has_the_figures_of_the_worked_example(whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    said = plain(asked(capsys, whole, "--shift", "2026-11-24-morning", "--unit", "press-07"))
    for line in (
        "Shift morning, Tue 24 Nov 2026, 06:00–10:00 (revision 1)",
        "! degraded (unknown time, or pieces counted afterwards)",
        "OF-1 830 / 1,000 12 scrap Begun 06:00 Ended 09:20",
        "tR required (PBT) 13,200 s 3 h 40 min",
        "OEE 63.3%",
        "MTTR 15 min",
        "induced stops availability 600 s 15.00 EUR",
        "Total 4,840 s 121.00 EUR",
        "Jam 15 min 1 × 80%",
        "Jam 15 min 1 × 50%",
        "07:00 – 07:15 15 min Jam OF-1",
        "pieces 845",
        "p50 10.01 s",
        "counted afterwards 6",
        "scrap, beside its time 11.40 EUR",
        "of it material 5.40 EUR",
    ):
        assert line in said, line
    assert not any(line.startswith("08:00 – 08:10") for line in said), "a stop in the break took no required time"


def test_the_site_language_is_french(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = plain(asked(capsys, remembered(tmp_path, "press-07", language="fr"), "--shift", "last"))
    assert "Poste morning, mar. 24/11/2026, 06:00–10:00 (révision 1)" in said
    assert "TRS 63,3 %" in said
    assert "Manque de pièces (induit) 10 min 1 × 98 %" in said


def test_a_shift_that_goes_on_is_told_up_to_the_last_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = remembered(tmp_path, "press-07", until=MORNING)
    said = plain(asked(capsys, where, "--shift", "current"))
    assert "Shift morning, Tue 24 Nov 2026, 06:00–10:00 (revision 1, going on, figures are provisional, known up to 07:12)" in said
    assert "07:00 – going on 12 min Jam OF-1" in said
    assert "OF-1 347 / 1,000 0 scrap Begun 06:00 Ended –" in said
    status, err = refused(capsys, where, "--shift", "last", "--unit", "press-07")
    assert (status, err) == (1, "No shift that has ended is known at press-07.\n")
    assert plain(asked(capsys, where, "--job", "OF-1"))[2].startswith("Order OF-1, Tue 24 Nov 2026")


def test_a_day_is_the_sum_of_its_hours_and_rolls_up(whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    body = json.loads(asked(capsys, whole, "--day", "2026-11-24", "--json"))
    press, packer, saw = body["reports"]
    shift = json.loads(asked(capsys, whole, "--shift", "morning", "--unit", "press-07", "--json"))["reports"][0]
    assert press["window"]["kind"] == "day"
    for figure in ("planned_s", "run_s", "stop_s", "stop_count", "good", "oee", *COSTS, "cycle", "losses", "failure_count"):
        assert press[figure] == shift[figure], figure
    (lines, areas, (whole_site,)) = body["work_centers"], body["areas"], body["sites"]
    assert [line["work_center"] for line in lines] == ["line-3", "line-1"]
    assert lines[0]["good"] == press["good"] + packer["good"]
    assert lines[0]["oee"] == pytest.approx((press["useful_s"] + packer["useful_s"]) / (press["planned_s"] + packer["planned_s"]))
    assert [area["area"] for area in areas] == ["stamping", "sawing"]
    assert whole_site["good"] == sum(line["good"] for line in (press, packer, saw))
    assert whole_site["site"] == "lyon"
    text = plain(asked(capsys, whole, "--day", "2026-11-24"))
    assert any(line.startswith("Site lyon") for line in text)


def test_a_line_that_is_not_whole_is_not_summed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = remembered(tmp_path, "press-07")
    config, state = where
    assert main(["report", "-c", str(config), "--state-dir", str(state), "--day", "2026-11-24", "--json"]) == 0
    out, err = capsys.readouterr()
    body = json.loads(out)
    assert set(body) == {"reports"}
    assert "Nothing is known of packer-02 on 2026-11-24." in err


def test_an_order_as_csv(whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(asked(capsys, whole, "--job", "OF-1", "--csv"))))
    assert [(row["scope"], row["name"], row["window"]) for row in rows] == [("work_unit", "press-07", "OF-1")]
    assert (rows[0]["good"], rows[0]["loss_own"]) == ("830", "900.0")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--shift", "night", "--unit", "press-07"), 1, "No shift night at press-07; those known are morning.\n"),
        (("--shift", "2026-11-24-night", "--unit", "saw-01"), 1, "No shift night on 2026-11-24 at saw-01; that day had morning.\n"),
        (("--shift", "2026-11-23-morning", "--unit", "saw-01"), 1, "on 2026-11-23 at saw-01; no shift of that day is known.\n"),
        (("--shift", "current", "--unit", "saw-01"), 1, "No shift is running at saw-01.\n"),
        (("--day", "2025-02-28", "--unit", "saw-01"), 1, "Nothing is known of saw-01 on 2025-02-28.\n"),
        (("--job", "OF-9", "--unit", "saw-01"), 1, "saw-01 has made no order OF-9: check its number.\n"),
        (("--day", "24/11/2026"), 2, "--day 24/11/2026: it is no date; write year, month and day, for example 2026-11-24\n"),
        (("--day", "2026-02-30"), 2, "it is no date"),
        (("--shift", "morning", "--unit", "press-7"), 2, "there is no such machine; the configuration has press-07, packer-02, saw-01"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int, says: str
) -> None:
    found, err = refused(capsys, whole, *arguments)
    assert (found, says in err) == (status, True), err


def test_a_journal_that_cannot_be_read_is_said_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, err = refused(capsys, (site(tmp_path), tmp_path / "nowhere"), "--shift", "last")
    assert status == 2
    assert "cannot be read. Name the right folder with --state-dir" in err


def test_a_gateway_that_writes_meanwhile_is_not_held_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = remembered(tmp_path, "press-07")
    with closing(sqlite3.connect(where[1] / "journal.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM records")
        assert any("OEE 63.3%" in line for line in plain(asked(capsys, where, "--shift", "last")))
        writer.execute("COMMIT")


def test_an_empty_journal_has_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = remembered(tmp_path)
    status, err = refused(capsys, where, "--shift", "morning")
    assert status == 1
    assert "no shift is known there" in err
