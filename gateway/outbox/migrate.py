"""Brings a database to the schema of this version: one `schema/NNNN_name.sql` per step, each in its own transaction."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from importlib import resources

_FILE = re.compile(r"(\d{4})_\w+\.sql")


class NewerSchema(Exception):
    """The database was written by a later version of the gateway; nothing in it was touched."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"schema {found} found, {known} known")
        self.found = found
        self.known = known


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """All steps in order; versions are 1, 2, 3, ... without a hole."""
    found = []
    for file in resources.files("gateway.outbox").joinpath("schema").iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), file.name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda step: step.version))


def schema_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, steps: tuple[Migration, ...] | None = None) -> tuple[int, int]:
    """Apply the steps that are missing; -> (version before, version after). `connection` is in autocommit mode.

    Raises NewerSchema, and sqlite3.Error with the step rolled back.
    """
    steps = migrations() if steps is None else steps
    before = schema_version(connection)
    if before > steps[-1].version:
        raise NewerSchema(before, steps[-1].version)
    for step in steps:
        if step.version <= before:
            continue
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{step.sql}\nPRAGMA user_version = {step.version};\nCOMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return before, steps[-1].version
