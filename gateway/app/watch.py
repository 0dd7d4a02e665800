"""Keeps an eye on everything: alerts, live topics, and the `Board`, one immutable picture made for whoever looks.

A picture of a unit costs as much as many readings, so it is made at once when something but pieces has changed, every few seconds while
pieces are made, and every second only while a page is open.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from drivers.base import Clock, Reading
from gateway.app.line import Line
from gateway.app.live import LivePublisher
from gateway.app.rates import Rates
from gateway.config import Config
from gateway.domain.entry import Entry
from gateway.domain.events import Event, JobProgress, MaterialConsumed, PromiseChanged, QualityResult, QuantityCounted
from gateway.domain.view import UnitView
from gateway.domain.work_center import WorkCenter
from gateway.metrics import Metrics
from gateway.outbox.recorder import Recorder
from gateway.outbox.store import Store
from gateway.seams import BookingStatus
from gateway.status.board import Board, EventLine, GatewayInfo, JournalStatus, ProcessStatus, TagView, TaskStatus, UnitStatus, UplinkStatus
from gateway.status.health import Alerts
from gateway.supervise import LinkStatus

REFRESH_S = 1.0
QUIET_S = 2.5
"""While nobody looks; a change of a state or of a link is seen at once all the same."""
SOON_S = 0.2
RENEW_S = 5.0
"""A unit where nothing happens but pieces is looked at this often: its open windows grow all the same."""
WATCHED_S = 10.0
"""Somebody who looked so lately is looking still: every unit that changed is renewed each second."""
OVERSLEPT_S = QUIET_S + 5.0
"""A round this much later than due: the process did not run."""
HEALTH_S = 5.0
SIZE_S = 10.0
EVENTS = 200
PIECES = (QuantityCounted, JobProgress, MaterialConsumed, QualityResult, PromiseChanged)
"""Events that come with pieces, many times a minute."""


@dataclass(frozen=True)
class Task:
    """A named part of the pipeline: the monotonic time of its last progress, and after how many seconds without any it hangs now."""

    name: str
    progress: Callable[[], float]
    stall_after_s: Callable[[], float]


class Watch:
    def __init__(
        self,
        config: Config,
        line: Line,
        store: Store,
        recorder: Recorder,
        alerts: Alerts,
        live: LivePublisher,
        clock: Clock,
        metrics: Metrics,
        *,
        links: Mapping[str, Callable[[], LinkStatus]],
        tasks: Sequence[Task],
        bookings: Mapping[str, Callable[[], BookingStatus]],
        process: Callable[[], ProcessStatus],
        clock_unset: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._line = line
        self._store = store
        self._recorder = recorder
        self._alerts = alerts
        self._live = live
        self._clock = clock
        self._metrics = metrics
        self._links = links
        self._tasks = tasks
        self._bookings = bookings
        self._process = process
        self._clock_unset = clock_unset
        self._started_at = clock.now()
        self._views: dict[str, UnitView] = {}
        self._renewed: dict[str, float] = {}
        self._events: deque[EventLine] = deque(maxlen=EVENTS)
        self._committed: deque[Entry] = deque(maxlen=EVENTS)
        """Latest rows that are not among `_events` yet: they are read when somebody looks."""
        self._soon = asyncio.Event()
        self._urgent: set[str] = set()
        self._untold: set[str] = set()
        self._uplinks: list[UplinkStatus] = []
        self._uplinks_at = -RENEW_S
        self._looked_at = -WATCHED_S
        self._last_commit: datetime | None = None
        self._size = 0
        self._disk_free: int | None = None
        self._delivered: dict[str, tuple[float, datetime | None]] = {}
        """Uplink -> rows the peer took so far, and when it took the latest."""
        self._size_at = -SIZE_S
        self._health_at = -HEALTH_S
        self._rates = Rates(clock, metrics, config.devices)
        self._unit_of_device = {device: unit for unit, device in reversed(list(config.device_of_unit.items())) if device}
        _show_counters(metrics, links, config.uplinks)
        self._info = GatewayInfo(
            config.gateway.id, config.gateway.enterprise, config.gateway.site, config.gateway.language, config.gateway.time_zone,
            importlib.metadata.version("lineside"), str(config.path), config.digest[:12],
        )  # fmt: skip
        self._board: Board | None = None
        self.last_progress = clock.monotonic()

    # --- told by others -----------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        if event.work_unit is not None and not isinstance(event, PIECES):
            self.changed(event.work_unit)

    def changed(self, work_unit: str) -> None:
        """Something but pieces is new about this unit: its live topics tell it at once."""
        self._urgent.add(work_unit)
        self._soon.set()

    def link_changed(self) -> None:
        """A link is up, down or degraded: alerts are looked at at once."""
        self._soon.set()

    def committed(self, entries: Sequence[Entry]) -> None:
        """Called after each commit, in the loop."""
        self._last_commit = self._clock.now()
        self._rates.committed(entries)
        self._committed.extend(entries)

    # --- whoever looks ------------------------------------------------------------------------------------------------

    @property
    def board(self) -> Board:
        """The present board, for page and API; about a second old while it is asked for now and then."""
        now = self._clock.monotonic()
        if now - self._looked_at >= WATCHED_S:
            self._looked_at = now
            self._renew()
            self._board = None
            self._soon.set()
        self._looked_at = now
        return self.glance()

    def glance(self) -> Board:
        """The board as far as it is known, for whoever asks by himself all the time and needs no new pictures."""
        if self._board is None:
            self._board = self._make(self._latest_events())
        return self._board

    @property
    def _is_watched(self) -> bool:
        return self._clock.monotonic() - self._looked_at < WATCHED_S

    # --- the round ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now = self._clock.monotonic()
            # After a sleep of the whole machine nobody had a chance to move yet.
            overslept, self.last_progress = now - self.last_progress > OVERSLEPT_S, now
            await self.refresh(judge_tasks=not overslept)
            try:
                async with self._clock.timeout(REFRESH_S if self._is_watched else QUIET_S):
                    await self._soon.wait()
                await self._clock.sleep(SOON_S)
            except TimeoutError:
                pass
            self._soon.clear()

    async def refresh(self, *, judge_tasks: bool = True) -> None:
        """Renew what changed, watch for alerts, tell the live topics; who looks next gets a new board."""
        now = self._clock.monotonic()
        self._renew()
        if self._is_watched or now - self._uplinks_at >= RENEW_S:
            self._uplinks_at = now
            self._uplinks = [await self._uplink(name) for name in self._config.uplinks]
        if now - self._size_at >= SIZE_S:
            self._size_at = now
            self._size = await self._store.size()
            self._disk_free = await asyncio.to_thread(_free_bytes, self._store.path)
        self._rates.follow()
        journal = self._journal()
        links = {name: status() for name, status in self._links.items()}
        self._alerts.watch_links(links.values(), self._unit_of_device, saved=journal.committing)
        self._alerts.watch_uplinks(self._uplinks, links)
        self._alerts.watch_journal(journal)
        if judge_tasks:
            self._alerts.watch_tasks(self._task_states())
        self._alerts.watch_clock(unset=self._clock_unset())
        self._tell(links)
        self._board = None
        if now - self._health_at >= HEALTH_S:
            self._health_at = now
            self._live.health(self._make(events=()))

    def _tell(self, links: Mapping[str, LinkStatus]) -> None:
        """The live topics of the units whose pictures are new."""
        untold, self._untold = self._untold, set()
        for name in untold:
            jobs = self._line.trackers[name].production.ledger
            known = {j.job_order_id for j in (*jobs.queue(), *jobs.recent(), *jobs.interrupted, *([jobs.running] if jobs.running else []))}
            self._live.unit(self._views[name], links.get(self._config.device_of_unit[name] or ""), known)
        for center in self._line.centers:
            if not untold.isdisjoint(center.units):
                self._live.line(center, self._open_lines(center))

    def _open_lines(self, center: WorkCenter) -> dict[str, dict[str, Any]]:
        return center.open_lines({unit: self._views[unit].windows for unit in center.units if unit in self._views})

    def _task_states(self) -> tuple[TaskStatus, ...]:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        stood = [(task, monotonic - task.progress()) for task in self._tasks]
        return tuple(TaskStatus(task.name, still <= task.stall_after_s(), now - timedelta(seconds=still)) for task, still in stood)

    def _renew(self) -> None:
        """Make new views of the units whose turn it is."""
        now = self._clock.monotonic()
        urgent, self._urgent = self._urgent, set()
        watched, changed = self._is_watched, self._line.changed
        for name, tracker in self._line.trackers.items():
            old = now - self._renewed.get(name, -RENEW_S) >= RENEW_S
            if tracker.begun and (old or name in urgent or (watched and name in changed)):
                changed.discard(name)
                self._renewed[name] = now
                self._untold.add(name)
                self._views[name] = tracker.view()

    async def _uplink(self, name: str) -> UplinkStatus:
        settings = self._config.uplinks[name]
        backlog = await self._store.backlog(name)
        apart = await self._store.exceptions(name)
        dropped = self._metrics.telemetry_dropped.labels(name)._value.get()
        self._metrics.backlog.labels(name).set(backlog.rows)
        return UplinkStatus(
            name, settings.type, backlog.rows, backlog.bytes, backlog.oldest, sum(row.state != "delivered" for row in apart),
            self._last_ack(name), int(dropped), self._bookings[name]() if name in self._bookings else None,
        )  # fmt: skip

    def _last_ack(self, name: str) -> datetime | None:
        taken = self._metrics.delivered.labels(name)._value.get()
        before, at = self._delivered.get(name, (0.0, None))
        if taken > before:
            at = self._clock.now()
        self._delivered[name] = taken, at
        return at

    def _journal(self) -> JournalStatus:
        cap = self._config.journal.max_size
        free = max(cap - self._size, 0)
        if self._disk_free is not None:
            free = min(free, self._disk_free)
        return JournalStatus(
            self._size, cap, self._recorder.disk.value, self._recorder.failing_since is None, self._last_commit,
            int(self._metrics.telemetry_dropped.labels("journal")._value.get()),
            self._rates.hours_until(free), self._store.epoch, self._store.next_sequence - 1, self._recorder.disk_error,
            self._disk_free,
        )  # fmt: skip

    def _latest_events(self) -> tuple[EventLine, ...]:
        while self._committed:
            e = self._committed.popleft()
            self._events.appendleft(EventLine(e.sequence, e.at, e.type, e.work_unit, e.job_order_id, orjson.loads(e.body)["data"]))
        return tuple(self._events)

    def _make(self, events: tuple[EventLine, ...]) -> Board:
        units = tuple(self._unit(name) for name in self._line.trackers if name in self._views)
        return Board(
            at=self._clock.now(), started_at=self._started_at, gateway=self._info, units=units,
            links=tuple(status() for status in self._links.values()), uplinks=tuple(self._uplinks), journal=self._journal(),
            alerts=self._alerts.active(), events=events, lines={c.name: self._open_lines(c) for c in self._line.centers},
            tasks=self._task_states(), readings_per_s=self._rates.readings_per_s, process=self._process(),
        )  # fmt: skip

    def _unit(self, name: str) -> UnitStatus:
        unit = self._config.work_units[name]
        device = self._config.device_of_unit[name] or next(
            (self._config.resolve(name, reference)[0] for reference in self._config.unit_tags[name]), ""
        )
        settings = self._config.devices.get(device)
        return UnitStatus(
            view=self._views[name], area=unit.area, work_center=unit.work_center, device=device,
            interval_s=settings.interval if settings else 1.0, stop_threshold_s=unit.cycles.stop_threshold_s,
            slow_tolerance=unit.cycles.slow_tolerance, tags=self._tags(name), reasons=unit.reasons,
            currency=unit.cost.currency if unit.cost else None,
        )  # fmt: skip

    def _tags(self, name: str) -> tuple[TagView, ...]:
        own = self._config.device_of_unit[name]
        wanted = [(own, tag) for tag in tags_of(self._config, own)] if own else []
        wanted += [s for r in self._config.unit_tags[name] if (s := self._config.resolve(name, r)) not in wanted]
        return tuple(self._tag(device, tag) for device, tag in wanted)

    def _tag(self, device: str, tag: str) -> TagView:
        reading: Reading | None = self._line.telemetry.last[device].get(tag)
        settings = getattr(self._config.devices[device], "tags", {}).get(tag)
        unit = getattr(settings, "unit", None)
        if reading is None:
            return TagView(tag, None, "bad", unit, None, "not read yet")
        return TagView(tag, reading.value, reading.quality.value, unit, reading.source_time or reading.received_at, reading.detail)


def tags_of(config: Config, device: str) -> tuple[str, ...]:
    """Names of a device's configured tags."""
    return tuple(getattr(config.devices[device], "tags", {}))


def _show_counters(metrics: Metrics, links: Iterable[str], uplinks: Iterable[str]) -> None:
    """A counter that is missing until it first counts looks like one that nobody has."""
    for name in links:
        metrics.reconnects.labels(name)
    for name in uplinks:
        for counter in (metrics.delivered, metrics.resent, metrics.parked):
            counter.labels(name)


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return None
