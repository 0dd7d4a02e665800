"""Structured logs to stderr: JSON lines under journald, readable lines in a terminal.

An event is a snake_case noun with keys and values: `log.warning("link_lost", device="press_plc", error=...)`. Records
of the libraries (asyncua, pymodbus, aiohttp) go the same way, from WARNING up.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

# sd-daemon(3): journald takes a line's priority from this prefix and strips it, so `journalctl -p warning` works.
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}


def under_journald(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `stream` is the very pipe that JOURNAL_STREAM (`device:inode`) names; a redirected child's is not."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure(*, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ, level: int = logging.INFO) -> None:
    """Set up structlog and the standard library's root logger; called once, before anything logs."""
    out = stream if stream is not None else sys.stderr
    journald = under_journald(out, environ)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    # Tracebacks are plain text: the prettier formatters print local variables, and a secret may be one of them.
    final: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=True, default=str), _with_priority]
        if journald
        else [structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="at", exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, _name_of_ours, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=partial(_NamedLogger, out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _name_of_library],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


class _NamedLogger(structlog.WriteLogger):
    """Writes to the stream, and keeps the name that `get_logger` was given."""

    def __init__(self, stream: TextIO, name: str | None = None) -> None:
        super().__init__(stream)
        self.name = name


def _name_of_ours(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if logger.name is not None:
        event["source"] = logger.name
    return event


def _name_of_library(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["source"] = event["_record"].name
    return event


def _with_priority(_logger: WrappedLogger, method: str, line: EventDict) -> str:
    # `method` is the called method's name for our own loggers, the lower-case level name for the standard library's.
    return f"<{_PRIORITY.get(method, 6)}>{line}"


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger that says where it speaks from; cheap, one a module."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))
