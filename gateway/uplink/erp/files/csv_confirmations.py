"""Confirmations as CSV files, one for each kind of row, with the columns that the ERP's import wants."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from gateway.uplink.erp.files.booked import Confirmation
from gateway.uplink.erp.files.fields import CONFIRMATION_FIELDS
from gateway.uplink.erp.files.settings import CsvColumns, CsvDialect


class CsvConfirmations:
    """`columns` None: every kind is written, its columns called like its fields."""

    def __init__(self, columns: CsvColumns | None, dialect: CsvDialect, zone: ZoneInfo) -> None:
        self._columns = columns
        self._dialect = dialect
        self._zone = zone

    def files(self, confirmation: Confirmation, facts: Mapping[str, Any]) -> dict[str, bytes]:
        """Kind -> the file. `facts`: what every row knows. Raises UnicodeEncodeError for a character that the encoding does not have."""
        files = {}
        for kind, rows in confirmation.rows.items():
            columns = self._of(kind)
            if not columns or not rows:
                continue
            text = io.StringIO(newline="")
            writer = csv.writer(text, delimiter=self._dialect.delimiter, lineterminator="\r\n")
            if self._dialect.header:
                writer.writerow(columns)
            for row in rows:
                known = {**facts, "at": confirmation.at, **row}
                known["date"] = known["at"]
                writer.writerow([self._cell(source, known) for source in columns.values()])
            files[kind] = text.getvalue().encode("utf-8" if self._dialect.encoding == "utf-8" else "cp1252")
        return files

    def _of(self, kind: str) -> Mapping[str, str]:
        if self._columns is None:
            return {field: field for field in CONFIRMATION_FIELDS[kind]}
        return self._columns.kind(kind)

    def _cell(self, source: str, known: Mapping[str, Any]) -> str:
        if source.startswith("="):
            return source[1:]
        if source.startswith("properties."):
            return str(known.get("properties", {}).get(source.removeprefix("properties."), ""))
        value = known.get(source)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, Decimal | int | float):
            return plain(Decimal(value)).replace(".", self._dialect.decimal)
        if isinstance(value, datetime):
            return self._time(value, is_date=source == "date")
        return str(value)

    def _time(self, at: datetime, *, is_date: bool) -> str:
        local, pattern = at.astimezone(self._zone), self._dialect.dates
        if pattern == "iso":
            return local.date().isoformat() if is_date else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if is_date:
            # The pattern's own date: what comes before the time of day.
            pattern = pattern.split("%H")[0].rstrip(" T_-")
        return local.strftime(pattern or "%Y-%m-%d")


def plain(number: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
