"""What the board shows, as Prometheus reads it: made at each scrape from the same object as page and health topic, so all three agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from drivers.base import Clock
from gateway.status.board import Board, JournalStatus
from gateway.status.health import SEVERITIES
from gateway.supervise import LinkState

Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily

_KPIS = ("oee", "availability", "effectiveness", "quality_ratio")
_DISK = ("ok", "low", "full", "read_only")


class BoardCollector(Collector):
    """Ages are those of the moment of the scrape; what is unknown has no sample."""

    def __init__(self, board: Callable[[], Board], clock: Clock) -> None:
        self._board = board
        self._clock = clock

    def describe(self) -> Iterator[Family]:
        """Registration asks for names; they do not depend on a board."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        board, now = self._board(), self._clock.now()
        yield from _gateway(board, now)
        yield from _links(board, now)
        yield from _uplinks(board, now)
        yield from _journal(board.journal, now)
        yield from _units(board)


def _gauge(name: str, help_: str, value: float | None) -> GaugeMetricFamily:
    """A gauge without labels; None: no sample."""
    family = GaugeMetricFamily(f"lineside_{name}", help_)
    if value is not None:
        family.add_metric([], value)
    return family


def _labelled(name: str, help_: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float | None]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"lineside_{name}", help_, labels=labels)
    for key, value in samples:
        if value is not None:
            family.add_metric(key, value)
    return family


def _age(at: datetime | None, now: datetime) -> float | None:
    return None if at is None else max((now - at).total_seconds(), 0.0)


def _gateway(board: Board, now: datetime) -> Iterator[Family]:
    info = board.gateway
    yield InfoMetricFamily(
        "lineside_build", "Who speaks.",
        {"version": info.version, "gateway": info.gateway_id, "epoch": board.journal.epoch, "config": info.config_hash},
    )  # fmt: skip
    yield _gauge("uptime_seconds", "Since the daemon started.", _age(board.started_at, now))
    yield _gauge("status_age_seconds", "Age of the picture that page and API show.", _age(board.at, now))
    yield _gauge("readings_per_second", "Readings taken from devices lately.", board.readings_per_s)
    count = (((severity,), float(sum(a.severity == severity for a in board.alerts))) for severity in SEVERITIES)
    yield _labelled("alerts", "Alerts that stand.", ("severity",), count)
    yield _labelled("alert_active", "1 for each alert that stands.", ("alert",), (((alert.key,), 1.0) for alert in board.alerts))
    ages = (((task.name,), _age(task.last_progress_at, now)) for task in board.tasks)
    yield _labelled("task_progress_age_seconds", "Since a task of the pipeline last moved.", ("task",), ages)


def _links(board: Board, now: datetime) -> Iterator[Family]:
    ages = (((link.name, link.kind), _age(link.last_good, now)) for link in board.links)
    yield _labelled("link_last_good_age_seconds", "Since something usable came over the link.", ("link", "kind"), ages)
    states = (((k.name, k.kind, state.value), float(k.state is state)) for k in board.links for state in LinkState)
    yield _labelled("link_state", "1 for the state the link is in.", ("link", "kind", "state"), states)
    outages = CounterMetricFamily("lineside_link_outages", "How often the link was lost.", labels=("link", "kind"))
    for link in board.links:
        outages.add_metric((link.name, link.kind), link.outages)
    yield outages
    tries = (((link.name, link.kind), float(link.attempt)) for link in board.links)
    yield _labelled("link_failed_tries", "Failed tries in a row.", ("link", "kind"), tries)
    refused = (((link.name,), float(len(link.refused_tags))) for link in board.links if link.kind == "device")
    yield _labelled("link_refused_tags", "Configured tags that the device refuses.", ("link",), refused)
    left = (((k.name, which), (end - now).total_seconds() / 86400) for k in board.links for which, end in k.certificates.items())
    yield _labelled("certificate_days_left", "Until a certificate of the link ends.", ("device", "which"), left)


def _uplinks(board: Board, now: datetime) -> Iterator[Family]:
    by = ("uplink",)
    yield _labelled("backlog_bytes", "Bytes of ledger rows waiting.", by, (((u.name,), float(u.bytes)) for u in board.uplinks))
    taken = (((u.name,), _age(u.last_ack_at, now)) for u in board.uplinks)
    yield _labelled("last_acknowledged_age_seconds", "Since the peer took a ledger row, since the start.", by, taken)
    ages = (((u.name,), _age(u.oldest_at, now) or 0.0) for u in board.uplinks)
    yield _labelled("backlog_oldest_age_seconds", "Age of the oldest ledger row waiting, 0 when none is.", by, ages)
    apart = (((u.name,), float(u.parked)) for u in board.uplinks)
    orders = (((u.name, standing), float(n)) for u in board.uplinks if u.bookings is not None for standing, n in u.bookings.orders.items())
    yield _labelled("erp_orders", "Orders of an ERP: booked, owed, retry, blocked, refused.", ("uplink", "standing"), orders)
    yield _labelled("rows_set_apart", "Ledger rows the peer refused, not yet sent again.", by, apart)


def _journal(journal: JournalStatus, now: datetime) -> Iterator[Family]:
    yield _gauge("journal_bytes", "Size of the journal.", float(journal.bytes))
    yield _gauge("journal_cap_bytes", "What the journal may take.", float(journal.cap_bytes))
    yield _gauge("disk_free_bytes", "On the file system of the journal.", _number(journal.disk_free_bytes))
    yield _gauge("journal_hours_left", "Until it is full at the present rate with nothing sent.", journal.hours_left)
    yield _gauge("journal_committing", "0 while nothing can be committed.", float(journal.committing))
    yield _gauge("journal_last_commit_age_seconds", "Since the last transaction.", _age(journal.last_commit_at, now))
    yield _gauge("ledger_sequence", "Of the last ledger event.", float(journal.sequence))
    yield _labelled("disk_state", "1 for the state the disk is in.", ("state",), (((s,), float(journal.disk == s)) for s in _DISK))


def _units(board: Board) -> Iterator[Family]:
    views = [unit.view for unit in board.units]
    yield _labelled(
        "unit_state", "1 for the state the work unit is in.", ("work_unit", "state"), (((v.work_unit, v.state), 1.0) for v in views)
    )
    for name in _KPIS:
        values = (((v.work_unit, kind), _number(line.get(name))) for v in views for kind, line in v.windows.items())
        yield _labelled(f"window_{name}", f"{name} of the open window, 0 to 1.", ("work_unit", "window"), values)
    queued = (((v.work_unit,), float(len(v.queue))) for v in views)
    yield _labelled("queued_orders", "Orders that wait on the work unit.", ("work_unit",), queued)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
