"""`Board`: the one immutable status object. It is replaced after each commit; page, API and health topic only read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from drivers.base import Value
from gateway.domain.equipment import Reason
from gateway.domain.events import Text
from gateway.domain.view import UnitView
from gateway.seams import BookingStatus
from gateway.supervise import LinkState, LinkStatus


@dataclass(frozen=True)
class GatewayInfo:
    """Who speaks. `config_hash`: of the files as loaded, to tell two versions of one path apart."""

    gateway_id: str
    enterprise: str
    site: str
    language: str
    """fr or en: what a browser gets that asks for neither."""
    time_zone: str
    version: str
    config_path: str = ""
    config_hash: str = ""


@dataclass(frozen=True)
class TagView:
    """The last reading of one tag. `at` is the source's time, else the time of receipt; None before the first reading."""

    tag: str
    value: Value
    quality: str
    """good, uncertain, bad."""
    unit: str | None = None
    """UN/ECE Rec 20."""
    at: datetime | None = None
    detail: str = ""
    """What was wrong, in the protocol's own words."""


@dataclass(frozen=True)
class UnitStatus:
    """A work unit's picture with what the page needs of its configuration."""

    view: UnitView
    area: str
    work_center: str
    device: str
    """Name of the link its state comes from."""
    interval_s: float = 1.0
    """Period of its device: data older than three of them are shown as old."""
    stop_threshold_s: float = 120.0
    slow_tolerance: float = 0.1
    tags: tuple[TagView, ...] = ()
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    currency: str | None = None
    """Of `loss_cost` and `scrap_cost`."""


@dataclass(frozen=True)
class UplinkStatus:
    """What waits for one uplink; its link has the same name."""

    name: str
    type: str
    """mqtt, http, ..."""
    rows: int
    """Ledger rows not yet acknowledged."""
    bytes: int
    oldest_at: datetime | None = None
    """When the oldest waiting row happened."""
    parked: int = 0
    """Rows the peer refused for good."""
    last_ack_at: datetime | None = None
    dropped: int = 0
    """Telemetry dropped for this uplink, oldest first."""
    bookings: BookingStatus | None = None
    """Of an ERP that books totals."""


@dataclass(frozen=True)
class JournalStatus:
    """The local database. `hours_left`: until it is full, or the disk is, at the present rate with nothing sent; None while unknown."""

    bytes: int
    cap_bytes: int
    disk: str = "ok"
    """ok, low, full, read_only."""
    committing: bool = True
    """False while nothing can be committed."""
    last_commit_at: datetime | None = None
    dropped: int = 0
    """Telemetry dropped since the start; ledger rows never are."""
    hours_left: float | None = None
    epoch: str = ""
    sequence: int = 0
    """Of the last ledger event."""
    error: str = ""
    """What the disk said to the last commit, empty while it is well."""
    disk_free_bytes: int | None = None
    """On its file system; None: nobody could tell."""


@dataclass(frozen=True)
class ProcessStatus:
    """What the daemon takes of its machine. Lag: how late the event loop was in the last minute, None before anything was measured."""

    rss_bytes: int
    threads: int
    files: int
    """Open descriptors."""
    tasks: int
    loop_lag_p99_s: float | None = None
    loop_lag_max_s: float | None = None


@dataclass(frozen=True)
class TaskStatus:
    """One named task of the daemon."""

    name: str
    running: bool
    last_progress_at: datetime | None = None


@dataclass(frozen=True)
class EventLine:
    """One ledger event for the journal page; `data` as in its CloudEvent."""

    sequence: int
    at: datetime
    type: str
    work_unit: str | None
    job_order_id: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Alert:
    """An alert that stands. `{age}` in `text` is the time since `since`, filled in when it is read."""

    key: str
    severity: str
    """info, warning, critical."""
    text: Text
    remedy: Text
    since: datetime
    work_unit: str | None = None
    detail: str = ""
    """For the expert, untranslated."""


@dataclass(frozen=True)
class Board:
    """Everything that can be asked of the gateway at `at` (aware UTC)."""

    at: datetime
    started_at: datetime
    gateway: GatewayInfo
    units: tuple[UnitStatus, ...]
    """In the order of the configuration; never re-sorted."""
    links: tuple[LinkStatus, ...]
    uplinks: tuple[UplinkStatus, ...]
    journal: JournalStatus
    alerts: tuple[Alert, ...] = ()
    events: tuple[EventLine, ...] = ()
    """The last 200, latest first."""
    tasks: tuple[TaskStatus, ...] = ()
    readings_per_s: float | None = None
    process: ProcessStatus | None = None
    lines: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Work centre -> kind of window (hour, shift) -> the open window of the whole line."""

    def unit(self, name: str) -> UnitStatus | None:
        return next((unit for unit in self.units if unit.view.work_unit == name), None)

    def line_above(self, unit: UnitStatus) -> Mapping[str, Any] | None:
        """The line's open window of the shift (else of the hour) where `unit` is the first of several machines of one line."""
        of_line = [each for each in self.units if each.work_center == unit.work_center]
        windows = self.lines.get(unit.work_center, {})
        return windows.get("shift", windows.get("hour")) if len(of_line) > 1 and of_line[0] is unit else None

    def link(self, name: str) -> LinkStatus | None:
        return next((link for link in self.links if link.name == name), None)


def seen(link: LinkStatus | None) -> bool:
    """Whether what the link last said can still be believed; a unit without a link of its own (a manual post) is."""
    return link is None or link.state in (LinkState.CONNECTED, LinkState.DEGRADED)


def parts(board: Board) -> dict[str, object]:
    """The parts that can change on their own, by the names the event stream tells: what each is made of, to be compared."""
    orders = tuple((unit.view.job, unit.view.queue, unit.view.recent) for unit in board.units)
    wrong = (board.alerts, board.links, board.uplinks, tuple(unit.view for unit in board.units))
    made: dict[str, object] = {
        "top": (board.at, wrong),
        "alerts": wrong,
        "board": wrong,
        "flow": (board.links, board.uplinks, board.journal, board.readings_per_s),
        "orders": orders,
        "links": (board.links, board.uplinks, board.tasks),
        "journal": (board.events, board.uplinks, board.journal),
        "about": (board.gateway, board.started_at, board.process, board.journal.disk),
    }
    for unit in board.units:
        link = board.link(unit.device)
        made[f"unit.{unit.view.work_unit}"] = (unit, link, board.line_above(unit))
        made[f"machine.{unit.view.work_unit}"] = (unit, link)
    return made


class Revisions:
    """Counts, per part, how often it was seen to have changed; compared when somebody looks, never in the loop that measures."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._parts: dict[str, object] = {}
        self.numbers: dict[str, int] = {}

    def look(self, board: Board) -> set[str]:
        """Names of the parts that differ from the last board seen."""
        if board is self._board:
            return set()
        now = parts(board)
        changed = {name for name, made in now.items() if name not in self._parts or self._parts[name] != made}
        for name in changed:
            self.numbers[name] = self.numbers.get(name, 0) + 1
        self._board, self._parts = board, now
        return changed
