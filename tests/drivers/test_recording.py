"""The CSV recording: values, order, and errors a technician can act on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.base import Quality, Value
from drivers.recording import RecordingError, by_instant, load_recording, parse_value, read_recording

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


def test_rows_are_read_in_utc_with_their_quality(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "2026-11-25T07:00:00.250+01:00,press,parts,12,good\n\n2026-11-25T06:00:01Z,press,bore,11.99,uncertain\n"
        '2026-11-25T06:00:02Z,press,recipe,"A, B",good\n2026-11-25T06:00:03Z,press,bore,,bad\n2026-11-25T06:00:04Z,press,bore,nan,good\n',
    )
    rows = list(read_recording(path))
    assert rows[0].at == datetime(2026, 11, 25, 6, 0, 0, 250000, tzinfo=UTC)
    assert [(row.tag, row.value, row.quality) for row in rows] == [
        ("parts", 12, Quality.GOOD), ("bore", 11.99, Quality.UNCERTAIN), ("recipe", "A, B", Quality.GOOD),
        ("bore", None, Quality.BAD), ("bore", None, Quality.BAD),
    ]  # fmt: skip
    assert [row.line for row in rows] == [2, 4, 5, 6, 7]


def test_rows_are_sorted_by_time_and_stay_in_order_within_an_instant(tmp_path: Path) -> None:
    path = write(tmp_path, "2026-11-25T06:00:02Z,p,c,3,good\n2026-11-25T06:00:01Z,p,b,1,good\n2026-11-25T07:00:01+01:00,p,a,2,good\n")
    assert [[row.tag for row in rows] for _, rows in by_instant(load_recording(path))] == [["b", "a"], ["c"]]


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
