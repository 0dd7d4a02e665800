"""What a message from above turned out to be, whichever uplink brought it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.job_order import Fact, JobCommand, Problem


@dataclass(frozen=True)
class Refusal:
    """A message that is no command: its answer. `command_id` and `work_unit` where they could still be read."""

    command_id: str | None
    work_unit: str | None
    return_status: int
    problem: Problem


Inbound = JobCommand | Fact | Refusal
"""What a command message turned out to be (`uplink.messages.parse_command`)."""
