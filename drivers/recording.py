"""The CSV recording of readings that `lineside replay` and the `replay` driver read and `lineside record` writes.

Header `at,device,tag,value,quality`; `at` ISO 8601 with offset; `value` a number, true or false, or text, empty when bad;
`quality` good, uncertain or bad. Rows need not be sorted. A recording may be larger than memory: nothing here holds it.
"""

from __future__ import annotations

import csv
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

from drivers.base import DriverError, Quality, Value

HEADER = ("at", "device", "tag", "value", "quality")

Row = tuple[int, str, str, Value, Quality]
"""One reading: microseconds since 1970 UTC, device, tag, value (None exactly when the quality is BAD), quality.

A bare tuple: a year of a fast machine has thirty million of them.
"""

# A number with leading zeros (an order or article number, 007) is text: as a number it would lose them.
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|[+-]?\.\d+([eE][+-]?\d+)?")
_QUALITIES = {quality.value: quality for quality in Quality}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MINUTE = len("2026-11-25T06:00:")
_LONGEST_GAP = 366 * 86_400_000_000
"""Microseconds. No machine rests for more than a year in the middle of a recording: a clock stood in 2000 or far ahead."""
_CACHED = 20_000
"""Minutes, seconds and names that are remembered as they were written; more than any file with a pattern has at a time."""


class RecordingError(DriverError):
    """A recording that cannot be read as written: never retried. `line` 0: the file as a whole; `column` a name of the header or empty."""

    def __init__(self, path: Path, line: int, column: str, problem: str, remedy: str) -> None:
        place = f"{path}" + (f":{line}" if line else "") + (f", column {column}" if column else "")
        super().__init__(f"{place}: {problem}; {remedy}")
        self.path = path
        self.line = line
        self.column = column
        self.problem = problem
        self.remedy = remedy


def moment(at: int) -> datetime:
    """A row's time as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=at)


class Recording:
    """A recording of which every row is known to be fine; `rows` gives them in order of time, as often as asked.

    `open` reads the whole file once, in bounded memory. A file that is not sorted is sorted on disk meanwhile (in SQLite's folder for
    temporary files, about twice the file's size); rows of the same time keep the order of the file. `close` frees that space.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.first = 0
        """Time of the earliest row; 0 when there is none, like `last`."""
        self.last = 0
        self._sorter: sqlite3.Connection | None = None

    @classmethod
    def open(cls, path: Path | str) -> Recording:
        """Blocks for about a second per million rows. Raises RecordingError with file, line, column and remedy."""
        recording = cls(Path(path))
        times = map(itemgetter(0), read_recording(recording.path))
        first = latest = next(times, None)
        if first is None or latest is None:
            return recording
        recording.count, last, in_order = 1, first, True
        for at in times:
            recording.count += 1
            if at < latest:
                in_order = False
                first = min(first, at)
            elif at > last:
                last = at
            latest = at
        recording.first, recording.last = first, last
        if not in_order:
            recording._sort()
        if last - first > _LONGEST_GAP:
            recording._refuse_jumps()
        return recording

    def rows(self) -> Iterator[Row]:
        """In order of time, streamed."""
        if self._sorter is None:
            return read_recording(self.path)
        return self._sorted(self._sorter)

    def _refuse_jumps(self) -> None:
        before = self.first
        for at, *_ in self.rows():
            if at - before > _LONGEST_GAP:
                days, times = (at - before) // 86_400_000_000, f"{moment(before):%Y-%m-%dT%H:%M:%SZ} and {moment(at):%Y-%m-%dT%H:%M:%SZ}"
                problem = f"there is no reading between {times}, {days} days"
                raise RecordingError(
                    self.path, 0, "at", problem, "a clock was wrong: correct or remove the rows on the wrong side of this gap"
                )
            before = at

    def _sort(self) -> None:
        # An empty name is a private file for temporary data, which SQLite deletes by itself.
        self._sorter = sqlite3.connect("", check_same_thread=False)
        self._sorter.execute("CREATE TABLE reading (at INTEGER, device TEXT, tag TEXT, value TEXT, quality TEXT)")
        written = ((at, device, tag, write_value(value), quality) for at, device, tag, value, quality in read_recording(self.path))
        self._sorter.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?)", written)
        self._sorter.commit()

    @staticmethod
    def _sorted(sorter: sqlite3.Connection) -> Iterator[Row]:
        with closing(sorter.cursor()) as cursor:
            for at, device, tag, text, quality in cursor.execute("SELECT * FROM reading ORDER BY at, rowid"):
                yield at, device, tag, parse_value(text) if text else None, _QUALITIES[quality]

    def close(self) -> None:
        if self._sorter is not None:
            self._sorter.close()
            self._sorter = None


def read_recording(path: Path | str) -> Iterator[Row]:
    """The rows in the order of the file, streamed. Raises RecordingError with file, line, column and remedy."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # A spreadsheet that saved the file put a byte order mark before the header. (utf-8-sig would take it away, at twice the cost.)
            if file.read(1) != "\ufeff":
                file.seek(0)
            reader = csv.reader(file, strict=True)
            header = tuple(cell.strip() for cell in next(reader, ()))
            if header != HEADER:
                raise RecordingError(path, 1, "", f"the header is {','.join(header)!r}", f"write {','.join(HEADER)}")
            yield from _rows(path, reader)
    except OSError as error:
        raise RecordingError(path, 0, "", error.strerror or str(error), "check the path and that the gateway may read it") from error
    except UnicodeDecodeError as error:
        raise RecordingError(path, 0, "", "the file is not UTF-8", "save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise RecordingError(path, reader.line_num, "", str(error), "check quotes and separators of this line") from error


def by_instant(rows: Iterable[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Sorted rows grouped: those of the same time are one reading of the machine."""
    batch: list[Row] = []
    at = 0
    for row in rows:
        if row[0] == at:
            batch.append(row)
            continue
        if batch:
            yield at, batch
        at, batch = row[0], [row]
    if batch:
        yield at, batch


def _rows(path: Path, reader: Any) -> Iterator[Row]:
    """The usual row costs a few look-ups: a minute, a second with its offset and a name are remembered as they were written."""
    minutes: dict[str, int] = {}
    seconds: dict[str, int] = {}
    names: dict[tuple[str, str], tuple[str, str]] = {}
    for cells in reader:
        try:
            at_text, device, tag, text, quality_text = cells
            at = minutes[at_text[:_MINUTE]] + seconds[at_text[_MINUTE:]]
            device, tag = names[device, tag]
            if text.isdecimal() and text.isascii() and text[0] != "0" and quality_text == "good":
                yield at, device, tag, int(text), Quality.GOOD
                continue
        except (ValueError, KeyError):
            if not cells:
                continue
        row = _row(path, reader.line_num, cells)
        yield row
        for known in (minutes, seconds, names):
            if len(known) > _CACHED:
                known.clear()
        at_text = cells[0]
        if at_text[_MINUTE - 1 : _MINUTE] == ":":
            minutes[at_text[:_MINUTE]] = minute = (datetime.fromisoformat(f"{at_text[:_MINUTE]}00+00:00") - _EPOCH) // _MICROSECOND
            seconds[at_text[_MINUTE:]] = row[0] - minute
        names[cells[1], cells[2]] = row[1:3]


def _row(path: Path, line: int, cells: list[str]) -> Row:
    if len(cells) != len(HEADER):
        raise RecordingError(path, line, "", f"{len(cells)} columns", f"write {len(HEADER)}: {','.join(HEADER)}")
    at_text, device, tag, text, quality_text = (cell.strip() for cell in cells)
    try:
        at = datetime.fromisoformat(at_text)
    except ValueError:
        raise RecordingError(path, line, "at", f"{at_text!r} is no time", "write ISO 8601, for example 2026-11-25T06:00:00+01:00") from None
    if at.tzinfo is None:
        raise RecordingError(path, line, "at", f"{at_text!r} has no offset", "add Z or the offset, for example +01:00")
    for column, name in (("device", device), ("tag", tag)):
        if not name:
            raise RecordingError(path, line, column, "it is empty", f"name the {column} as the configuration does")
    quality = _QUALITIES.get(quality_text)
    if quality is None:
        raise RecordingError(path, line, "quality", f"{quality_text!r} is no quality", f"write one of {', '.join(_QUALITIES)}")
    value = None
    if quality is not Quality.BAD:
        if not text:
            raise RecordingError(path, line, "value", f"it is empty but its quality is {quality}", "write the value, or the quality bad")
        value = parse_value(text)
    return (at - _EPOCH) // _MICROSECOND, device, tag, value, Quality.BAD if value is None else quality


def parse_value(text: str) -> Value:
    """A number, true or false, or text; None for a number that is none (NaN, infinite)."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        return None if not math.isfinite(number) else int(text) if text.lstrip("+-").isdigit() else number
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    return None if lowered.lstrip("+-") in ("nan", "inf", "infinity") else text


def write_value(value: Value) -> str:
    """As `parse_value` reads it back; empty for none."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
