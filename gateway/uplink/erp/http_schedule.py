"""What an ERP answers to `GET work-schedule`: commands for the line, and the cursor behind which the next ones come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import JobCommand, Problem
from gateway.domain.problems import return_status
from gateway.uplink.erp.posting import Untrusted
from gateway.uplink.messages import MAX_PAYLOAD_BYTES, command_from, read_object

_LARGEST_ANSWER = 16 * 1024 * 1024
LONGEST_CURSOR = 2000
"""It goes into the address of every later question: one that the ERP's own server refuses would end the orders for good."""


@dataclass(frozen=True)
class Schedule:
    """`items`: each command, or why it is none. `cursor` None: the ERP named none."""

    items: tuple[Inbound, ...]
    cursor: str | None


def read_schedule(payload: bytes, *, lowest_first: bool) -> Schedule:
    """`lowest_first`: how this ERP counts priorities. Raises NotAMessage or Untrusted when nothing of it can be used."""
    found = read_object(payload, _LARGEST_ANSWER)
    commands, cursor = found.get("commands"), found.get("cursor")
    if not isinstance(commands, list) or not (cursor is None or isinstance(cursor, str)):
        raise Untrusted("needs `commands` (a list) and `cursor` (text)")
    if cursor is not None and len(cursor) > LONGEST_CURSOR:
        raise Untrusted(f"`cursor` has {len(cursor)} characters, more than {LONGEST_CURSOR} fit in no address")
    # Only a long answer can hold a command that is too large; each is measured as it would stand alone.
    is_long = len(payload) > MAX_PAYLOAD_BYTES
    return Schedule(tuple(_read(command, is_long=is_long, lowest_first=lowest_first) for command in commands), cursor)


def _read(command: Any, *, is_long: bool, lowest_first: bool) -> Inbound:
    if is_long and len(str(command)) > MAX_PAYLOAD_BYTES:
        return _refusal("too_large", f"the command has more than {MAX_PAYLOAD_BYTES} bytes")
    if not isinstance(command, dict):
        return _refusal("not_json", "the command is not a JSON object")
    inbound = command_from(command, retained=False, topic_work_unit=None)
    if lowest_first and isinstance(inbound, JobCommand):
        return replace(inbound, job_order=replace(inbound.job_order, lowest_first=True))
    return inbound


def _refusal(code: str, text: str) -> Refusal:
    return Refusal(None, None, return_status(code), Problem(code, text))
