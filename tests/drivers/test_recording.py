"""The CSV recording: values, order, and errors a technician can act on."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drivers.base import Quality, Value
from drivers.recording import Recording, RecordingError, by_instant, moment, parse_value, read_recording, write_value

HEADER = "at,device,tag,value,quality\n"


def write(folder: Path, rows: str, header: str = HEADER) -> Path:
    path = folder / "recording.csv"
    path.write_text(header + rows, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-3", -3), ("+4", 4), ("0", 0), ("1.50", 1.5), ("1e3", 1000.0), (".5", 0.5), ("true", True), ("False", False),
     ("Coil 7", "Coil 7"), ("007", "007"), ("1_000", "1_000"), ("NaN", None), ("-inf", None), ("1e999", None)],
)  # fmt: skip
def test_values(text: str, value: Value) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)
    assert parse_value(write_value(found)) == found if found is not None else write_value(found) == ""


def test_rows_are_read_in_utc_with_their_quality(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "2026-11-25T07:00:00.250+01:00,press,parts,12,good\n\n2026-11-25T06:00:01Z,press,bore,11.99,uncertain\n"
        '2026-11-25T06:00:02Z,press,recipe,"A, B",good\n2026-11-25T06:00:03Z,press,bore,,bad\n2026-11-25T06:00:04Z,press,bore,nan,good\n',
    )
    rows = list(read_recording(path))
    assert moment(rows[0][0]) == datetime(2026, 11, 25, 6, 0, 0, 250000, tzinfo=UTC)
    assert [row[2:] for row in rows] == [
        ("parts", 12, Quality.GOOD), ("bore", 11.99, Quality.UNCERTAIN), ("recipe", "A, B", Quality.GOOD),
        ("bore", None, Quality.BAD), ("bore", None, Quality.BAD),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-25T06:00:01Z", 1), ("2026-11-25T07:00:02+01:00", 2), ("2026-11-25T06:00:02.5Z", 2.5), ("2026-11-25 06:00:03+00:00", 3),
        ("2026-11-25T11:30:04+05:30", 4), ("20261125T060005Z", 5), ("2026-11-25T06:01Z", 60), (" 2026-11-25T06:00:01Z ", 1),
        ("2026-11-25T06Z", 0), ("2026-11-25T06:02:01.000001-00:30", 1921.000001),
    ],
)  # fmt: skip
def test_a_time_means_the_same_however_often_its_minute_was_read_before(tmp_path: Path, text: str, at: float) -> None:
    """What was read once is remembered as it was written: another way to write it must not be mixed up with it."""
    others = ["2026-11-25T06:00:59Z", "2026-11-25T06:00:01+01:00", "2026-11-25T07:00:01Z", text, "2026-11-25T06:00:01Z"]
    rows = list(read_recording(write(tmp_path, "".join(f"{each},p,c,1,good\n" for each in [text, *others, text]))))
    expected = datetime(2026, 11, 25, 6, tzinfo=UTC) + timedelta(seconds=at)
    assert [moment(rows[place][0]) for place in (0, 4, 6)] == [expected] * 3
    assert moment(rows[2][0]) == datetime(2026, 11, 25, 5, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("row", ["2026-11-25T06:00:01Z,,a,1,good", "2026-11-25T06:00:61Z,p,a,1,good", "2026-11-25T06:00:01Z,p,a,²,"])
def test_a_wrong_row_is_refused_also_after_many_good_ones(tmp_path: Path, row: str) -> None:
    with pytest.raises(RecordingError, match=":102"):
        Recording.open(write(tmp_path, "2026-11-25T06:00:01Z,p,a,1,good\n" * 100 + row + "\n"))


def test_rows_are_sorted_by_time_and_stay_in_order_within_an_instant(tmp_path: Path) -> None:
    path = write(tmp_path, "2026-11-25T06:00:02Z,p,c,3,good\n2026-11-25T06:00:01Z,p,b,1,good\n2026-11-25T07:00:01+01:00,p,a,2,good\n")
    with closing(Recording.open(path)) as recording:
        assert [[row[2] for row in rows] for _, rows in by_instant(recording.rows())] == [["b", "a"], ["c"]]
        assert recording.count == 3
        assert (moment(recording.first).second, moment(recording.last).second) == (1, 2)


def test_sorting_keeps_every_value_as_it_was(tmp_path: Path) -> None:
    values = [
        "12",
        "-3",
        "1.5",
        "1e300",
        "123456789012345678901234567890",
        "true",
        "false",
        "007",
        "Coil 7",
        '"A, ""B"""',
        "²",
        "nan",
        "1.0",
    ]
    lines = [f"2026-11-25T06:00:{n:02}Z,p,a,{text},uncertain\n" for n, text in enumerate(values)] + ["2026-11-25T06:01:00Z,p,a,,bad\n"]
    in_order = list(read_recording(write(tmp_path, "".join(lines))))
    random.Random(1).shuffle(lines)
    with closing(Recording.open(write(tmp_path, "".join(lines)))) as recording:
        found = list(recording.rows())
    assert found == in_order
    assert [type(row[3]) for row in found] == [type(row[3]) for row in in_order]


def test_an_empty_recording_has_no_row(tmp_path: Path) -> None:
    with closing(Recording.open(write(tmp_path, "\n"))) as recording:
        assert (recording.count, list(recording.rows())) == (0, [])


def test_a_spreadsheets_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + "2026-11-25T06:00:00Z,p,a,1,good\n").replace("\n", "\r\n").encode())
    assert len(list(read_recording(path))) == 1


@pytest.mark.parametrize(
    ("row", "line", "column", "says"),
    [
        ("yesterday,p,a,1,good", 2, "at", "write ISO 8601"),
        ("2026-11-25T06:00:00,p,a,1,good", 2, "at", "add Z or the offset"),
        ("2026-11-25T06:00:00Z,,a,1,good", 2, "device", "name the device"),
        ("2026-11-25T06:00:00Z,p,,1,good", 2, "tag", "name the tag"),
        ("2026-11-25T06:00:00Z,p,a,,good", 2, "value", "or the quality bad"),
        ("2026-11-25T06:00:00Z,p,a,1,ok", 2, "quality", "good, uncertain, bad"),
        ("2026-11-25T06:00:00Z;p;a;1;good", 2, "", "write 5"),
        ('2026-11-25T06:00:00Z,p,a,"1"x,good', 2, "", "check quotes"),
    ],
)
def test_errors_name_file_line_column_and_remedy(tmp_path: Path, row: str, line: int, column: str, says: str) -> None:
    path = write(tmp_path, row + "\n")
    with pytest.raises(RecordingError) as caught:
        list(read_recording(path))
    assert (caught.value.path, caught.value.line, caught.value.column) == (path, line, column)
    assert f"{path}:{line}" in str(caught.value)
    assert says in str(caught.value)


def test_a_wrong_header_a_missing_file_and_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="write at,device,tag,value,quality"):
        list(read_recording(write(tmp_path, "", header="time,device,tag,value,quality\n")))
    with pytest.raises(RecordingError, match="check the path"):
        list(read_recording(tmp_path / "nowhere.csv"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes((HEADER + "2026-11-25T06:00:00Z,p,a,préparé,good\n").encode("latin-1"))
    with pytest.raises(RecordingError, match="UTF-8"):
        list(read_recording(latin))
