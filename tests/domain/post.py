"""A work unit on paper: readings and commands by the second, and what the tracker makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.equipment import (
    Counter,
    Counts,
    Reason,
    Signal,
    StateFromBits,
    StateFromCodes,
    StateFromCounts,
    WorkUnit,
)
from gateway.domain.events import Event, Text
from gateway.domain.job_order import Answer, Fact, FactVerb, JobCommand, JobOrder, Verb
from gateway.domain.sample import Input, Sample, SampleValue
from gateway.domain.snapshot import Record, Snapshot
from gateway.domain.tracker import RECORD_KINDS, Tracker

T0 = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
Line = dict[str, Any]


def at(seconds: float) -> datetime:
    """`seconds` after 06:00 UTC of a Tuesday."""
    return T0 + timedelta(seconds=seconds)


def reason(code: str, reason_class: str, *faults: int | str) -> Reason:
    return Reason(code, reason_class, Text(code, code), frozenset(faults))


REASONS = {
    r.code: r
    for r in (
        reason("jam", "own", 12, 13),
        reason("no_parts", "induced", 20),
        reason("coil_change", "setup", 30),
        reason("meeting", "planned", 40),
    )
}
BITS = StateFromBits(Signal("running"), fault="fault")
CODES = StateFromCodes(
    "state",
    {
        0: "running", 1: "stopped", 2: "setup", 3: "maintenance", 4: "starved", 5: "blocked", 6: "unknown", 8: "break", 9: "not_planned",
        50: "jam", 51: "no_parts", 52: "coil_change", 53: "meeting",
    },
)  # fmt: skip


def unit(**changes: Any) -> WorkUnit:
    """A press with running bit, fault word and a total, 10 s a piece; `changes` are fields of WorkUnit."""
    fields: dict[str, Any] = {
        "name": "press", "enterprise": "acme", "site": "lyon", "area": "hall", "work_center": "line", "state": BITS,
        "counts": Counts(total=Counter("parts")), "ideal_cycle_time_s": Decimal(10), "reasons": REASONS,
    }  # fmt: skip
    return WorkUnit(**(fields | changes))


def counted_unit(**changes: Any) -> WorkUnit:
    """The same press without any state but the gaps between its pieces."""
    return unit(**({"state": StateFromCounts()} | changes))


class Post:
    """Times are seconds after T0; `events` is everything told so far."""

    def __init__(self, of: WorkUnit | None = None, **changes: Any) -> None:
        self.unit = of or unit(**changes)
        self.tracker = Tracker(self.unit)
        self.events: list[Event] = []
        self.rows: dict[tuple[str, str], Record] = {}
        self._commands = 0

    # --- in ---

    def begin(self, seconds: float = 0) -> Post:
        self.tracker.begin(at(seconds))
        self.tracker.keep_range(at(seconds), None)
        return self

    def read(self, seconds: float, **tags: SampleValue) -> list[Event]:
        """One sample; a tag that is None is bad."""
        if not self.tracker.begun:
            self.begin(seconds)
        inputs = {tag: Input(value, bad=value is None) for tag, value in tags.items()}
        return self._told(self.tracker.observe(Sample(self.unit.name, at(seconds), inputs)))

    def wait(self, seconds: float) -> list[Event]:
        return self._told(self.tracker.advance(at(seconds)))

    def order(self, seconds: float, verb: str, order: str | JobOrder = "OF-1", **fields: Any) -> Answer:
        if not self.tracker.begun:
            self.begin(seconds)
        self._commands += 1
        job = order if isinstance(order, JobOrder) else JobOrder(order, **fields)
        given = frozenset(fields) if not isinstance(order, JobOrder) else frozenset()
        command = JobCommand(Verb(verb), f"c{self._commands}", job, at(seconds), given=given)
        answer, events = self.tracker.command(command, at(seconds))
        self._told(events)
        return answer

    def fact(self, seconds: float, verb: str, about: float | None = None, **fields: Any) -> Answer:
        """`about`: when it was so; told at `seconds`."""
        self._commands += 1
        answer, events = self.tracker.fact(
            Fact(FactVerb(verb), f"f{self._commands}", at(seconds if about is None else about), **fields), at(seconds)
        )
        self._told(events)
        return answer

    def end(self, seconds: float | None = None) -> Post:
        """The recording ends: at its last reading, or later."""
        until = self.tracker.now if seconds is None else at(seconds)
        self._told(self.tracker.finish(until))
        return self

    def _told(self, events: list[Event]) -> list[Event]:
        self.events += events
        return events

    # --- restart ---

    def saved(self) -> tuple[Snapshot, list[Record]]:
        """A snapshot as the journal would have it, with all rows so far."""
        snapshot = self.tracker.snapshot()
        self.rows.update({(r.kind, r.key): r for r in snapshot.records})
        return snapshot, [row for row in self.rows.values() if row.kind in RECORD_KINDS]

    def restarted(self, *, lost: bool = True, onto: WorkUnit | None = None) -> Post:
        """Another process that goes on from this one's memory, with the same configuration or another."""
        snapshot, rows = self.saved()
        other = Post(onto or self.unit)
        other.events = list(self.events)
        other.rows = dict(self.rows)
        other._commands = self._commands
        other.tracker.restore(snapshot, rows, lost=lost)
        other._told(other.tracker.lost_events())
        return other

    # --- out ---

    def data(self, type_: str, **fields: Any) -> list[Line]:
        """`data` of the events of this type whose `fields` are as given."""
        found = [e.data() for e in self.events if e.type == type_]
        return [d for d in found if all(d[name] == value for name, value in fields.items())]

    def stops(self) -> list[Line]:
        """Latest revision of each stop, in order of time."""
        latest = {d["stop_id"]: d for d in self.data("stop.ended")}
        return sorted(latest.values(), key=lambda d: d["from"])

    def stop_list(self) -> list[tuple[str, float, float, str | None]]:
        """(class, from, duration, reason)."""
        return [(d["class"], (d["from"] - T0).total_seconds(), d["duration_s"], d["reason"]) for d in self.stops()]

    def windows(self) -> list[Line]:
        """Every window once, in its last revision."""
        lines = {_key(line): line for line in self.data("window.closed")}
        lines.update({_key(line): line for line in self.tracker.lines()})
        return list(lines.values())

    def window(self, kind: str = "range", name: str | None = None) -> Line:
        found = [w for w in self.windows() if w["window"]["kind"] == kind and name in (None, w["window"]["name"])]
        assert len(found) == 1, [w["window"] for w in found]
        return found[0]

    def hour(self, number: int) -> Line:
        """The hour that begins `number` hours after T0."""
        return self.window("hour", f"2026-11-24T{6 + number:02}:00:00Z")

    def counted(self, **fields: Any) -> dict[str, Decimal]:
        """Sums of quantity.counted."""
        data = self.data("quantity.counted", **fields)
        return {what: sum((d[what] for d in data), Decimal(0)) for what in ("produced", "good", "scrap", "rework")}

    def states(self) -> list[str]:
        return [d["state"] for d in self.data("state.changed")]


def _key(line: Mapping[str, Any]) -> tuple[str, str, str]:
    return line["window"]["kind"], line["window"]["from"], line["window"]["name"]


def parts(line: Line) -> tuple[float, float, float, float]:
    """run, setup, stop, unknown; they sum to the planned time where micro-stops are inside run."""
    return line["run_s"], line["setup_s"], line["stop_s"], line["unknown_s"]
