"""The CSV recording of readings that `lineside replay` and the `replay` driver read.

Header `at,device,tag,value,quality`; `at` ISO 8601 with offset; `value` a number, true or false, or text, empty when bad;
`quality` good, uncertain or bad. Rows need not be sorted.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from drivers.base import DriverError, Quality, Value

HEADER = ("at", "device", "tag", "value", "quality")

# A number with leading zeros (an order or article number, 007) is text: as a number it would lose them.
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|[+-]?\.\d+([eE][+-]?\d+)?")
_QUALITIES = {quality.value: quality for quality in Quality}


@dataclass(frozen=True, slots=True)
class Row:
    """One reading of a recording. `at` aware UTC; `value` is None exactly when `quality` is BAD; `line` counts from 1."""

    at: datetime
    device: str
    tag: str
    value: Value
    quality: Quality
    line: int


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


def read_recording(path: Path | str) -> Iterator[Row]:
    """The rows in the order of the file, streamed. Raises RecordingError with file, line, column and remedy."""
    path = Path(path)
    try:
        # utf-8-sig: a spreadsheet that saved the file put a byte order mark before the header.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = tuple(cell.strip() for cell in next(reader, ()))
            if header != HEADER:
                raise RecordingError(path, 1, "", f"the header is {','.join(header)!r}", f"write {','.join(HEADER)}")
            for cells in reader:
                if cells:
                    yield _row(path, reader.line_num, cells)
    except OSError as error:
        raise RecordingError(path, 0, "", error.strerror or str(error), "check the path and that the gateway may read it") from error
    except UnicodeDecodeError as error:
        raise RecordingError(path, 0, "", "the file is not UTF-8", "save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise RecordingError(path, reader.line_num, "", str(error), "check quotes and separators of this line") from error


def load_recording(path: Path | str) -> list[Row]:
    """All rows sorted by time; rows of the same time keep the order of the file."""
    return sorted(read_recording(path), key=attrgetter("at"))


def by_instant(rows: Iterable[Row]) -> Iterator[tuple[datetime, list[Row]]]:
    """Sorted rows grouped: those of the same `at` are one reading of the machine."""
    for at, group in groupby(rows, key=attrgetter("at")):
        yield at, list(group)


def _row(path: Path, line: int, cells: list[str]) -> Row:
    if len(cells) != len(HEADER):
        raise RecordingError(path, line, "", f"{len(cells)} columns", f"write {len(HEADER)}: {','.join(HEADER)}")
    at_text, device, tag, value_text, quality_text = (cell.strip() for cell in cells)
    try:
        at = datetime.fromisoformat(at_text)
    except ValueError:
        raise RecordingError(path, line, "at", f"{at_text!r} is no time", "write ISO 8601, for example 2026-11-25T06:00:00+01:00") from None
    if at.tzinfo is None:
        raise RecordingError(path, line, "at", f"{at_text!r} has no offset", "add Z or the offset, for example +01:00")
    for column, text in (("device", device), ("tag", tag)):
        if not text:
            raise RecordingError(path, line, column, "it is empty", f"name the {column} as the configuration does")
    quality = _QUALITIES.get(quality_text)
    if quality is None:
        raise RecordingError(path, line, "quality", f"{quality_text!r} is no quality", f"write one of {', '.join(_QUALITIES)}")
    if quality is Quality.BAD:
        return Row(at.astimezone(UTC), device, tag, None, quality, line)
    if not value_text:
        raise RecordingError(path, line, "value", f"it is empty but its quality is {quality}", "write the value, or the quality bad")
    value = parse_value(value_text)
    if value is None:
        quality = Quality.BAD
    return Row(at.astimezone(UTC), device, tag, value, quality, line)


def parse_value(text: str) -> Value:
    """A number, true or false, or text; None for a number that is none (NaN, infinite)."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        return int(text) if text.lstrip("+-").isdigit() else number if math.isfinite(number) else None
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    return None if lowered.lstrip("+-") in ("nan", "inf", "infinity") else text
