"""Log lines are part of the product: a technician reads them in a terminal, journald sorts them by priority."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from typing import TextIO

import pytest
import structlog

from gateway import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, int]]:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", buffering=1) as stream:
        yield stream, reader
    os.close(reader)


def _journal_of(stream: TextIO) -> dict[str, str]:
    status = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def test_under_journald_each_line_is_json_behind_its_priority(pipe: tuple[TextIO, int]) -> None:
    stream, reader = pipe
    logs.configure(stream=stream, environ=_journal_of(stream))
    logs.get_logger("gateway.supervise").warning("link_lost", device="press_plc", tries=3)
    logging.getLogger("pymodbus").error("no answer from %s", "192.0.2.1")
    lines = os.read(reader, 65536).decode().splitlines()
    assert [line[:3] for line in lines] == ["<4>", "<3>"]
    ours, library = (json.loads(line[3:]) for line in lines)
    assert ours.pop("at").endswith("Z")
    assert ours == {"event": "link_lost", "level": "warning", "device": "press_plc", "tries": 3, "source": "gateway.supervise"}
    assert (library["event"], library["source"], library["level"]) == ("no answer from 192.0.2.1", "pymodbus", "error")


def test_a_traceback_is_one_line_without_local_variables(pipe: tuple[TextIO, int]) -> None:
    stream, reader = pipe
    logs.configure(stream=stream, environ=_journal_of(stream))
    hidden = "".join(["s3", "cret"])
    try:
        raise ValueError(f"a password of {len(hidden)} characters")
    except ValueError:
        logs.get_logger("gateway.app").exception("bug")
        logging.getLogger("asyncua").exception("library_bug")
    lines = os.read(reader, 65536).decode().splitlines()
    assert [json.loads(line[3:])["event"] for line in lines] == ["bug", "library_bug"]
    assert all("a password of 6 characters" in line for line in lines)
    assert all(hidden not in line for line in lines)


def test_a_terminal_gets_readable_lines() -> None:
    out = io.StringIO()
    logs.configure(stream=out, environ={"JOURNAL_STREAM": "1:2"})
    logs.get_logger("gateway.app").info("started", port=8080)
    logs.get_logger("gateway.app").debug("not_shown")
    line = out.getvalue()
    assert line.count("\n") == 1
    assert "started" in line
    assert "port=8080" in line
    assert not line.startswith("<")


def test_a_redirected_stream_is_not_the_journal(pipe: tuple[TextIO, int]) -> None:
    stream, _ = pipe
    assert logs.under_journald(stream, _journal_of(stream))
    assert not logs.under_journald(stream, {"JOURNAL_STREAM": "1:2"})
    assert not logs.under_journald(io.StringIO(), _journal_of(stream))
    assert not logs.under_journald(stream, {})


def test_the_libraries_chatter_stays_out() -> None:
    out = io.StringIO()
    logs.configure(stream=out, environ={})
    logging.getLogger("asyncua").info("session created")
    assert out.getvalue() == ""
