"""The POST under way, on disk before it leaves: a gateway killed meanwhile repeats it byte for byte under its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import orjson

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.uplink.erp.posting import Posting, PostingPlan

_DISK_S = 1.0
"""A disk that takes nothing for so long holds no report up: until it does, an ERP knows events told twice by their ids alone."""


class PostingJournal(Protocol):
    """Where it becomes durable (`outbox.recorder.Recorder`)."""

    def record_order_cursor(self, uplink: str, cursor: str) -> None: ...

    async def committed(self) -> None: ...


class PostingMemory:
    """One for the life of the process. It lies beside the cursor of the orders, under a name that no uplink can have.

    `read`: what was recorded there (`outbox.store.Store.order_cursor`).
    """

    def __init__(self, uplink: str, journal: PostingJournal, read: Callable[[str], Awaitable[str | None]], clock: Clock) -> None:
        self._name = f"{uplink}/posting"
        self._journal = journal
        self._read = read
        self._clock = clock
        self._noted: Posting | None = None
        self._recalled = False

    async def recall(self, plan: PostingPlan, owed: Sequence[Entry]) -> None:
        """Once: let `plan` take up what an earlier process left. `owed`: the first rows that the ERP has not acknowledged."""
        if self._recalled:
            return
        kept = await self._read(self._name)
        self._recalled = True
        try:
            found = orjson.loads(kept or "null")
        except orjson.JSONDecodeError:
            # A disk has turned a bit in it: the ids of the events keep the books right.
            return
        if isinstance(found, dict):
            plan.resume(str(found.get("key")), found.get("positions") or (), owed)
            self._noted = plan.unanswered

    async def note(self, posting: Posting) -> None:
        """Before it is sent for the first time."""
        if posting is self._noted:
            return
        self._noted = posting
        kept = {"key": posting.key, "positions": [entry.position for entry in posting.entries]}
        self._journal.record_order_cursor(self._name, orjson.dumps(kept).decode())
        try:
            async with self._clock.timeout(_DISK_S):
                await self._journal.committed()
        except TimeoutError:
            return
