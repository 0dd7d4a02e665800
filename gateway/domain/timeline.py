"""The coloured line of a work unit's past that page and reports draw: one stretch after the other, micro-stops inside `run`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from gateway.domain.instants import Instant
from gateway.domain.state import FaultCode
from gateway.domain.windows import KEEP

_PRUNE_EVERY = 64


@dataclass(slots=True)
class Stretch:
    """`kind`: run, stop, setup, planned, no_order, unknown; the others concern stops."""

    start: Instant
    end: Instant
    kind: str
    reason: str | None = None
    fault: FaultCode | None = None
    induced: bool = False


_FIELDS = tuple(f.name for f in fields(Stretch))


class Timeline:
    """Stretches of the last 48 hours in order; `changed` are those whose row in the journal must be written."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []
        self._changed: dict[Instant, Stretch] = {}

    def draw(self, stretch: Stretch) -> None:
        """The latest stretch; one that goes on with the same kind lengthens the last (stops stay apart: each has its own reason)."""
        last = self.stretches[-1] if self.stretches else None
        if last is not None and last.kind == stretch.kind != "stop" and last.end == stretch.start:
            last.end = stretch.end
            stretch = last
        else:
            self.stretches.append(stretch)
            if len(self.stretches) % _PRUNE_EVERY == 0:
                self.stretches = [s for s in self.stretches if s.end > stretch.end - KEEP]
        self._changed[stretch.start] = stretch

    def replace(self, new: Stretch) -> None:
        """What was drawn in [new.start, new.end) turned out to be something else."""
        pieces: list[Stretch] = []
        for old in self.stretches:
            if old.end <= new.start or old.start >= new.end:
                pieces.append(old)
                continue
            if old.start < new.start:
                pieces.append(Stretch(old.start, new.start, old.kind, old.reason, old.fault, old.induced))
            if not pieces or pieces[-1] is not new:
                pieces.append(new)
            if old.end > new.end:
                pieces.append(Stretch(new.end, old.end, old.kind, old.reason, old.fault, old.induced))
        self.stretches = pieces
        self._changed.update({s.start: s for s in pieces if s.start <= new.end and s.end >= new.start})

    def cut(self, at: Instant) -> None:
        """What was drawn from `at` on is drawn anew."""
        for stretch in [s for s in self.stretches if s.end > at]:
            stretch.end = max(stretch.start, at)
            self._changed[stretch.start] = stretch
        self.stretches = [s for s in self.stretches if s.end > s.start]

    def take_changed(self) -> list[Stretch]:
        """New or changed since the call before."""
        changed = list(self._changed.values())
        self._changed.clear()
        return changed

    def load(self, rows: Iterable[dict[str, Any]]) -> None:
        self.stretches = sorted((Stretch(**row) for row in rows), key=lambda s: s.start)


def dump_stretch(stretch: Stretch) -> dict[str, Any]:
    """`Stretch(**row)` gives an equal one."""
    return {name: getattr(stretch, name) for name in _FIELDS}
