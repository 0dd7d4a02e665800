"""What the site says about an ERP that exchanges files."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from drivers.settings import Duration, FieldError, FolderPath, Name, Settings
from gateway.uplink.erp.files.fields import CONFIRMATION_FIELDS, ORDER_FIELDS, is_order_field
from gateway.uplink.erp.settings import BookingSettings

FORMATS: dict[str, str] = {"csv": ".csv", "b2mml-xml": ".xml", "b2mml-json": ".json"}
"""Format -> how the names of its files end."""


def _column(value: Any) -> str:
    """The name of a column, or its number (from 1) in a file without a header."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError("it is no column; write its name, or its number from 1 on")


def _constant(value: Any) -> Any:
    """YAML reads `=1` as text and `1` as a number; only a text can say which field is meant."""
    return value if isinstance(value, str) else f"={value}"


Column = Annotated[str, BeforeValidator(_column), Field(json_schema_extra={"type": ["string", "integer"]})]
Columns = dict[str, Annotated[str, BeforeValidator(_constant), Field(json_schema_extra={"type": ["string", "number"]})]]
"""The ERP's column -> our field, or `=text` for a constant; the columns are written in this order."""


class CsvColumns(Settings):
    """Which column holds what. `orders`: our field -> the ERP's column; every other kind the other way round. A kind that is not named
    is not written; `orders` that names no column of an order's state takes every order as released."""

    orders: dict[str, Column] = {}
    start: Columns = {}
    totals: Columns = {}
    consumption: Columns = {}
    stops: Columns = {}
    quality: Columns = {}
    close: Columns = {}
    promise: Columns = {}

    @model_validator(mode="after")
    def _known_fields(self) -> Self:
        for field in self.orders:
            if not is_order_field(field):
                raise FieldError(
                    f"there is no field `{field}` of an order; use one of {', '.join(ORDER_FIELDS)}, properties.NAME", "orders", field
                )
        if self.orders and "job_order_id" not in self.orders and not {"order_id", "operation_id"} <= set(self.orders):
            raise FieldError("no column says which order a line is; give `job_order_id`, or `order_id` and `operation_id`", "orders")
        for kind, fields in CONFIRMATION_FIELDS.items():
            for column, source in self.kind(kind).items():
                if not source.startswith("=") and source not in fields and not source.startswith("properties."):
                    raise FieldError(
                        f"there is no field `{source}` in {kind}; use one of {', '.join(fields)}, or =text for a constant", kind, column
                    )
        return self

    def kind(self, kind: str) -> Columns:
        """The columns of one kind of confirmation."""
        columns: Columns = getattr(self, kind)
        return columns


class CsvDialect(Settings):
    """How the CSV files are written, theirs and ours.

    `dates`: `iso` (2026-11-25T06:00:00Z, a time without an offset is local) or a pattern of strftime, local time of the gateway.
    `states`: a word of the `state` column -> what it means.
    """

    delimiter: Literal[";", ",", "\t", "|"] = ";"
    decimal: Literal[",", "."] = "."
    dates: str = Field(default="iso", min_length=1, max_length=60)
    header: bool = True
    encoding: Literal["utf-8", "windows-1252"] = "utf-8"
    states: dict[str, Literal["forecast", "released", "withdrawn", "cancelled", "closed"]] = {}

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        if self.delimiter == self.decimal:
            raise FieldError("it is the decimal sign too; take another one, for example `;`", "delimiter")
        if self.dates != "iso" and "%" not in self.dates:
            raise FieldError("it is no pattern; write for example %d/%m/%Y %H:%M, or iso", "dates")
        return self


class FilesSettings(BookingSettings):
    """An ERP that leaves order files in `inbox` and takes confirmations from `outbox`.

    The folders lie in one file system. `settle`: a file is read once it has not changed for so long. `grace`: a file that is not whole
    (it does not parse, its last line has no end) is given so long before it goes to `error`. `work_centers`: our work unit -> the ERP's
    name of it, where they differ.
    """

    type: Literal["files"]
    inbox: FolderPath
    archive: FolderPath
    error: FolderPath
    outbox: FolderPath
    format: Literal["csv", "b2mml-json", "b2mml-xml"]
    csv: CsvDialect = CsvDialect()
    columns: CsvColumns | None = None
    work_centers: dict[Name, str] = {}
    report_every: Duration = Field(default=900.0, ge=0.0, le=86400.0)
    settle: Duration = Field(default=2.0, ge=0.0, le=600.0)
    grace: Duration = Field(default=60.0, ge=0.0, le=86400.0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        folders: dict[str, str] = {}
        for field in ("inbox", "archive", "error", "outbox"):
            taken = folders.setdefault(getattr(self, field), field)
            if taken != field:
                raise FieldError(f"it is the same folder as `{taken}`; give each its own", field)
        if self.format != "csv" and (self.columns is not None or self.csv != CsvDialect()):
            at = "columns" if self.columns is not None else "csv"
            raise FieldError("only CSV files have columns; leave it out, or write `format: csv`", at)
        if self.columns is not None and not self.csv.header and not all(column.isdigit() for column in self.columns.orders.values()):
            raise FieldError("files without a header have no column names; give numbers from 1 on", "columns", "orders")
        names = list(self.work_centers.values())
        if len(set(names)) != len(names):
            raise FieldError("it names one work centre of the ERP for two work units; give each its own", "work_centers")
        return self

    @property
    def ending(self) -> str:
        return FORMATS[self.format]

    @property
    def peer(self) -> str:
        """`files in /srv/erp/outbox`, for the technician."""
        return f"files in {self.outbox}"
