"""How ledger rows become idempotent POSTs: which rows go together, under which key, and what an answer means for each.

Pure bookkeeping. A batch without an answer is repeated byte for byte under its key; what is left after a partial or a refused batch
is a new batch, and its key says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.entry import Entry
from gateway.uplink.messages import NotAMessage, read_object

MOST_EVENTS = 200
MOST_BYTES = 1_000_000
_LONGEST_ANSWER = 1_000_000
_LONGEST_REASON = 300


class Untrusted(ValueError):
    """An answer that cannot be believed; nothing of it is used."""


@dataclass(frozen=True)
class Posting:
    """One POST: `key` is its Idempotency-Key, `body` its exact bytes."""

    key: str
    body: bytes
    entries: tuple[Entry, ...]

    @property
    def last(self) -> Entry:
        return self.entries[-1]


@dataclass(frozen=True)
class Verdict:
    """What an answer means, by journal position; both empty: ask again with a smaller batch."""

    accepted: frozenset[int] = frozenset()
    parked: tuple[tuple[int, str], ...] = ()


class PostingPlan:
    """Cuts rows into batches; after a refusal without names it halves until the culprit stands alone."""

    def __init__(self) -> None:
        self.unanswered: Posting | None = None
        """Sent and not answered: it goes out again as it is, before anything else."""
        self._limit = MOST_EVENTS
        self._rest = 0
        self._suspect_until: tuple[str, int] | None = None

    def next(self, rows: Sequence[Entry]) -> Posting:
        """The next batch: the unanswered one, else the beginning of `rows` (one epoch, at most 200 events and 1 MB)."""
        if self.unanswered is not None:
            return self.unanswered
        taken = [rows[0]]
        size = len(rows[0].body)
        for entry in rows[1 : self._limit]:
            size += len(entry.body) + 1
            if size > MOST_BYTES or entry.epoch != taken[0].epoch:
                break
            taken.append(entry)
        key = f"{taken[-1].id};{self._rest}" if self._rest else taken[-1].id
        self.unanswered = _posting(key, taken)
        return self.unanswered

    def resume(self, key: str, positions: Sequence[int], owed: Sequence[Entry]) -> None:
        """Take up the last POST of an earlier process: as it was while all its rows are owed, else what is left of it is a new batch."""
        last, _, rest = key.partition(";")
        by_position = {entry.position: entry for entry in owed}
        left = [by_position[position] for position in positions if position in by_position]
        if not left or left[-1].id != last or left != list(owed[: len(left)]):
            # All of it was acknowledged, or the journal was salvaged or restored and its positions are others, or a disk has turned one.
            return
        self._rest = int(rest) if rest.isdecimal() else 0
        if len(left) == len(positions):
            self.unanswered = _posting(key, left)
        else:
            self._rest += 1

    def acknowledged(self, posting: Posting, payload: bytes) -> Verdict:
        """A 2xx answer. Raises Untrusted when it speaks of rows that were not in the batch; the batch then counts as unanswered."""
        try:
            answer = read_object(payload, _LONGEST_ANSWER)
        except NotAMessage as error:
            raise Untrusted(str(error)) from error
        sequence = answer.get("acknowledged")
        if isinstance(sequence, bool) or not isinstance(sequence, int):
            raise Untrusted("`acknowledged` is not a whole number")
        if sequence > posting.last.sequence:
            raise Untrusted(f"`acknowledged` is {sequence}, the batch ended with {posting.last.sequence}")
        if answer.get("epoch") not in (None, posting.last.epoch):
            raise Untrusted("`epoch` is not that of the batch")
        accepted = frozenset(entry.position for entry in posting.entries if entry.sequence <= sequence)
        self.unanswered = None
        if len(accepted) < len(posting.entries):
            self._rest += 1
        elif self._suspect_until is None or self._is_past(posting.last):
            self._rest = 0
            self._clear()
        return Verdict(accepted)

    def refused(self, posting: Posting, status: int, payload: bytes) -> Verdict:
        """A 400-422 answer: nothing was booked. Named rows are parked; without names the batch is halved, a single row parked."""
        named = _rejected(posting, payload)
        self.unanswered = None
        self._rest += 1
        if named:
            return Verdict(parked=tuple(named))
        if self._suspect_until is None:
            self._suspect_until = (posting.last.epoch, posting.last.sequence)
        if len(posting.entries) > 1:
            self._limit = len(posting.entries) // 2
            return Verdict()
        if self._rest == 1:
            # Its key may have been used before a restart for a longer batch: only a refusal under a fresh key is the row's own.
            return Verdict()
        self._limit = MOST_EVENTS
        return Verdict(parked=((posting.last.position, f"HTTP {status}: {_excerpt(payload)}"),))

    def _is_past(self, last: Entry) -> bool:
        assert self._suspect_until is not None
        epoch, sequence = self._suspect_until
        return last.epoch != epoch or last.sequence >= sequence

    def _clear(self) -> None:
        self._suspect_until = None
        self._limit = MOST_EVENTS


def _posting(key: str, entries: Sequence[Entry]) -> Posting:
    return Posting(key, b'{"events":[' + b",".join(entry.body for entry in entries) + b"]}", tuple(entries))


def _rejected(posting: Posting, payload: bytes) -> list[tuple[int, str]]:
    """Position and reason of the named rows; empty when the list is missing or names anything that was not in the batch."""
    try:
        listed = read_object(payload, _LONGEST_ANSWER).get("rejected")
    except NotAMessage:
        return []
    if not isinstance(listed, list):
        return []
    by_id = {entry.id: entry.position for entry in posting.entries}
    found: dict[int, str] = {}
    for row in listed:
        row_id = row.get("id") if isinstance(row, dict) else None
        position = by_id.get(row_id) if isinstance(row_id, str) else None
        if position is None:
            return []
        found[position] = str(row.get("reason") or "refused")[:_LONGEST_REASON]
    return sorted(found.items())


def _excerpt(payload: bytes) -> str:
    """The answer as one readable line: an ERP's error page must not fill the journal."""
    return re.sub(r"\s+", " ", payload[:2000].decode(errors="replace")).strip()[:_LONGEST_REASON] or "no reason given"
