"""Orders from a CSV file: which column holds what is the site's to say."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from gateway.domain.events import Text
from gateway.uplink.erp.files.faults import Fault, Unreadable
from gateway.uplink.erp.files.fields import INTEGERS, MOMENTS, NUMBERS, ORDER_FIELDS, is_order_field
from gateway.uplink.erp.files.orders import Draft, Orders, moment
from gateway.uplink.erp.files.settings import CsvDialect
from gateway.uplink.erp.port import PlanState

_MATERIAL = {"material_id": "material_id", "quantity_per": "quantity_per", "material_unit": "unit", "material_mode": "mode"}
_QUALITY = {
    "characteristic": "characteristic", "quality_unit": "unit", "lower": "lower", "target": "target", "upper": "upper",
    "required_by": "required_by",
}  # fmt: skip
_CUSTOMER = {
    "customer": "name", "customer_priority": "priority", "delivery_from": "delivery_from", "delivery_to": "delivery_to",
    "customer_order": "order_number", "customer_order_line": "order_line",
}  # fmt: skip
_BESIDE = {*_MATERIAL, *_QUALITY, *_CUSTOMER, "customer_requirement", "state", "work_unit"}
# Fields of which each line of one order may have its own: the lines of its bill of materials and of its inspection plan.
_REPEATED = {*_MATERIAL, *_QUALITY, "customer_requirement"}

_PROPERTY = "properties."
"""What the ERP wants back as it is."""

Cells = dict[str, Any]


@dataclass
class _Order:
    line: int
    cells: Cells
    lines: list[Cells] = field(default_factory=list)


class CsvOrders:
    """Reads order files. `columns`: our field -> the ERP's column; None: the columns are called like the fields."""

    def __init__(self, columns: Mapping[str, str] | None, dialect: CsvDialect, zone: ZoneInfo) -> None:
        self._columns = columns
        self._dialect = dialect
        self._zone = zone

    def read(self, data: bytes) -> Orders:
        """Raises Unreadable when nothing of it can be used."""
        text = self._decoded(data)
        if not text.endswith(("\n", "\r")):
            raise Unreadable(
                Fault(
                    Text(
                        "la dernière ligne n'a pas de fin, le fichier est incomplet ; l'écrire entier, saut de ligne final compris.",
                        "the last line has no end, the file may be incomplete; write all of it, with a line break at the end.",
                    )
                ),
                may_grow=True,
            )
        rows = self._rows(text)
        columns, width = self._header(rows)
        return self._grouped(rows, columns, width)

    def _decoded(self, data: bytes) -> str:
        encoding = self._dialect.encoding
        if not data:
            raise Unreadable(Fault(Text("le fichier est vide ; l'écrire.", "the file is empty; write it.")), may_grow=True)
        if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
            raise Unreadable(_encoding_fault("UTF-16", encoding))
        if encoding == "windows-1252" and not data.isascii() and _is_utf8(data):
            raise Unreadable(_encoding_fault("UTF-8", encoding))
        try:
            return data.decode("utf-8-sig" if encoding == "utf-8" else "cp1252")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise Unreadable(_encoding_fault("", encoding, line)) from error

    def _rows(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Line number (of its end) and cells, blank lines left out. Raises Unreadable."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self._dialect.delimiter, strict=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, [cell.strip() for cell in row]
        except csv.Error as error:
            where = _line(reader.line_num)
            said = str(error)[:120]
            text_ = Text(
                f"les guillemets ne se ferment pas ou sont mal placés ; corriger la ligne ({said}).",
                f"quotation marks do not close or are misplaced; correct the line ({said}).",
            )
            raise Unreadable(Fault(text_, where), may_grow="end of data" in said) from error

    def _header(self, rows: Iterator[tuple[int, list[str]]]) -> tuple[dict[str, int], int | None]:
        """Our field -> place in a row, and how many cells a row has. Raises Unreadable."""
        if not self._dialect.header:
            return {name: int(column) - 1 for name, column in (self._columns or {}).items()}, None
        first = next(rows, None)
        if first is None:
            raise Unreadable(Fault(Text("il n'y a aucune ligne ; l'écrire.", "there is no line in it; write it.")), may_grow=True)
        line, header = first
        wanted = self._columns or {name: name for name in header if is_order_field(name)}
        missing = [column for column in wanted.values() if column not in header]
        doubled = sorted({column for column in header if column in wanted.values() and header.count(column) > 1})
        names = "job_order_id" in wanted or {"order_id", "operation_id"} <= set(wanted)
        if missing or doubled or not names:
            wrong = ", ".join(missing or doubled or ["job_order_id"])
            there = ", ".join(header)[:300]
            why = ("deux fois", "twice") if doubled and not missing else ("absente", "missing")
            text = Text(
                f"colonne {why[0]} : {wrong} ; le fichier a {there} ; corriger l'export, le séparateur ou `columns`.",
                f"column {why[1]}: {wrong}; the file has {there}; correct the export, the delimiter or `columns`.",
            )
            raise Unreadable(Fault(text, _line(line)))
        return {name: header.index(column) for name, column in wanted.items()}, len(header)

    def _grouped(self, rows: Iterator[tuple[int, list[str]]], columns: Mapping[str, int], width: int | None) -> Orders:
        orders: dict[str, _Order] = {}
        faults: list[Fault] = []
        spoiled: set[str | None] = set()
        for line, row in rows:
            fault = self._take(line, row, columns, width, orders)
            if fault is not None:
                faults.append(fault)
                spoiled.add(_key({name: row[place] for name, place in columns.items() if place < len(row)}))
        # An order with a wrong line is taken whole or not at all: without that line its materials would be too few.
        return Orders([self._draft(order) for key, order in orders.items() if key not in spoiled], faults)

    def _take(self, line: int, row: list[str], columns: Mapping[str, int], width: int | None, orders: dict[str, _Order]) -> Fault | None:
        needed = width if width is not None else max(columns.values(), default=0) + 1
        if len(row) != needed if width is not None else len(row) < needed:
            text = Text(
                f"{len(row)} colonnes au lieu de {needed} ; corriger la ligne.",
                f"{len(row)} columns instead of {needed}; correct the line.",
            )
            return Fault(text, _line(line))
        cells: Cells = {}
        for name, place in columns.items():
            try:
                value = self._value(name, row[place])
            except ValueError as error:
                return Fault(Text(*error.args), _line(line, self._column(name)))
            if value is not None:
                cells[name] = value
        key = _key(cells)
        if key is not None:
            cells["job_order_id"] = key
        else:
            text = Text("le numéro d'ordre manque ; le remplir.", "the order number is missing; fill it in.")
            return Fault(text, _line(line, self._column("job_order_id")), "missing_field")
        order = orders.setdefault(key, _Order(line, cells))
        for name in columns:
            if name not in _REPEATED and order.cells.get(name) != cells.get(name):
                text = Text(
                    f"autre valeur que ligne {order.line} pour l'ordre {key} ; écrire la même.",
                    f"another value than in line {order.line} for the order {key}; write the same.",
                )
                return Fault(text, _line(line, self._column(name)))
        order.lines.append(cells)
        return None

    def _column(self, name: str) -> str:
        return (self._columns or {}).get(name, name)

    def _value(self, name: str, cell: str) -> Any:
        """None for an empty cell. Raises ValueError with the sentence in French and in English."""
        if not cell:
            return None
        if name == "state":
            return self._state(cell)
        if name in MOMENTS:
            return self._moment(cell)
        if name not in NUMBERS and name not in INTEGERS:
            return cell
        sign = re.escape(self._dialect.decimal)
        if not re.fullmatch(rf"[+-]?\d{{1,30}}({sign}\d{{1,30}})?", cell):
            example = f"12{self._dialect.decimal}5"
            raise ValueError(
                f"« {cell[:40]} » n'est pas un nombre ; l'écrire comme {example}, sans espace ni unité.",
                f"`{cell[:40]}` is no number; write it like {example}, without blanks or unit.",
            )
        number = Decimal(cell.replace(self._dialect.decimal, "."))
        return int(number) if name in INTEGERS and number == int(number) else number

    def _state(self, cell: str) -> PlanState:
        said = self._dialect.states.get(cell)
        if said is None and not self._dialect.states and cell in PlanState._value2member_map_:
            said = cell  # type: ignore[assignment]
        if said is None:
            known = ", ".join(self._dialect.states or PlanState)
            raise ValueError(
                f"l'état « {cell[:40]} » n'est pas connu ; écrire l'un de {known}, ou l'ajouter à `csv.states`.",
                f"the state `{cell[:40]}` is not known; write one of {known}, or add it to `csv.states`.",
            )
        return PlanState(said)

    def _moment(self, cell: str) -> str:
        pattern = self._dialect.dates
        try:
            if pattern == "iso":
                return moment(cell, self._zone)
            at = datetime.strptime(cell, pattern)  # noqa: DTZ007  # the zone comes on the next line, unless the pattern has one
            return (at if at.tzinfo is not None else at.replace(tzinfo=self._zone)).isoformat()
        except ValueError:
            example = "2026-11-25T06:00:00+01:00" if pattern == "iso" else datetime(2026, 11, 25, 6, tzinfo=self._zone).strftime(pattern)
            raise ValueError(
                f"« {cell[:40]} » n'est pas une date ; l'écrire comme {example}.", f"`{cell[:40]}` is no date; write it like {example}."
            ) from None

    def _draft(self, order: _Order) -> Draft:
        cells = order.cells
        fields: dict[str, Any] = {name: value for name, value in cells.items() if name not in _BESIDE and not name.startswith(_PROPERTY)}
        properties = {name.removeprefix(_PROPERTY): value for name, value in cells.items() if name.startswith(_PROPERTY)}
        if properties:
            fields["properties"] = properties
        customer: dict[str, Any] = {target: cells[name] for name, target in _CUSTOMER.items() if name in cells}
        requirements = list(dict.fromkeys(line["customer_requirement"] for line in order.lines if "customer_requirement" in line))
        if requirements:
            customer["requirements"] = requirements
        if customer:
            fields["customer"] = customer
        for key, names, identity in (
            ("material_requirements", _MATERIAL, "material_id"),
            ("quality_requirements", _QUALITY, "characteristic"),
        ):
            found = _rows_of(order.lines, names, identity)
            if found:
                fields[key] = found
        places = {name: self._column(name) for name in ORDER_FIELDS}
        places |= {f"customer.{target}": self._column(name) for name, target in _CUSTOMER.items()}
        places |= {"material_requirements": self._column("material_id"), "quality_requirements": self._column("characteristic")}
        return Draft(_line(order.line), cells.get("state", PlanState.RELEASED), cells.get("work_unit"), fields, places)


def _rows_of(lines: Sequence[Cells], names: Mapping[str, str], identity: str) -> list[dict[str, Any]]:
    """One entry for each line that names one; the same one again says nothing new."""
    found: list[dict[str, Any]] = []
    for line in lines:
        entry = {target: line[name] for name, target in names.items() if name in line}
        if identity in line and entry not in found:
            found.append(entry)
    return found


def _key(cells: Cells) -> str | None:
    """The job order that a line is about."""
    if cells.get("job_order_id"):
        return str(cells["job_order_id"])
    both = cells.get("order_id"), cells.get("operation_id")
    return f"{both[0]}/{both[1]}" if all(both) else None


def _line(number: int, column: str = "") -> Text:
    return (
        Text(f"ligne {number}, colonne {column}", f"line {number}, column {column}")
        if column
        else Text(f"ligne {number}", f"line {number}")
    )


def _is_utf8(data: bytes) -> bool:
    """Whether it reads as UTF-8 with nothing but what European texts hold; two signs of Windows-1252 can look like one rare character."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(ord(sign) < 0x180 or 0x2010 <= ord(sign) <= 0x20AC for sign in text)


def _encoding_fault(found: str, wanted: str, line: int | None = None) -> Fault:
    fr = f"le fichier est en {found} et non en {wanted}" if found else f"le fichier n'est pas en {wanted}"
    en = f"the file is in {found} and not in {wanted}" if found else f"the file is not in {wanted}"
    return Fault(
        Text(
            f"{fr} ; changer l'encodage de l'export, ou `csv.encoding`.",
            f"{en}; change the encoding of the export, or `csv.encoding`.",
        ),
        _line(line) if line else Text("", ""),
    )
