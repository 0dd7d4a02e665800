"""All parsers of what others wrote, by name."""

from __future__ import annotations

from tests.fuzz import of_drivers, of_erp, of_files, of_messages, of_pages
from tests.fuzz.engine import Parser

PARSERS: dict[str, Parser] = {
    parser.name: parser for room in (of_messages, of_erp, of_files, of_drivers, of_pages) for parser in room.PARSERS
}
