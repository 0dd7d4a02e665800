"""Composition root: builds every part, runs the task groups, stops them in the order of the data."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import os
import signal
from collections.abc import Coroutine, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from drivers import prepare
from drivers.base import LinkError
from drivers.opcua_settings import OpcUaSettings
from gateway import logs
from gateway.acquisition.poller import Poller
from gateway.app.footprint import Footprint
from gateway.app.journal_watch import tell_finding, tell_origin
from gateway.app.line import Line, UnitCommands, raised, sources
from gateway.app.live import LivePublisher
from gateway.app.parts import (
    gateway_path,
    make_centers,
    make_forwarders,
    make_line,
    make_pollers,
    make_releases,
    make_topics,
    make_trackers,
    tag_units,
)
from gateway.app.planner import Planner
from gateway.app.routing import Routing
from gateway.app.watch import Task, Watch
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.config.cautions import unit_cautions
from gateway.dispatch.intake import Intake
from gateway.domain.entry import Entry
from gateway.domain.events import Event, Text
from gateway.domain.snapshot import Snapshot
from gateway.metrics import Metrics
from gateway.outbox.archive import Archive
from gateway.outbox.ballast import Ballast
from gateway.outbox.checking import JournalCheck
from gateway.outbox.forwarder import Forwarder
from gateway.outbox.recorder import Recorder
from gateway.outbox.requests import Requests
from gateway.outbox.statedir import StoreError
from gateway.outbox.store import Store
from gateway.status.health import MEMORY, Alerts
from gateway.status.scrape import BoardCollector
from gateway.status.server import ListenError, StatusServer
from gateway.status.settings import Address
from gateway.supervise import LinkStatus, for_good
from gateway.systemd import Notifier, WatchdogGuard
from gateway.uplink.settings import is_loopback

UNSET = timedelta(days=1)
"""A clock that stands so far before what the journal knows was not set yet: no battery, no network time at boot."""
WRITER_STALLS_S = 8.0
"""A disk may take its time; one transaction that takes longer than this hangs. systemd waits another half minute before it restarts."""
DRAIN_S = 2.0
"""How long the shutdown waits for the last commit; the rest of its five seconds is for closing links."""
CLOSE_S = 1.5
"""How long sources, and then uplinks, may take to close their links before they are cut off."""
HANDOVER_S = 0.5
"""How long a healthy peer is given to take the last rows before its link is closed; they are in the journal anyway."""

_log = structlog.get_logger("lineside")


class StartError(Exception):
    """The daemon cannot start for a reason outside its configuration; `text` and `remedy` are for the technician."""

    def __init__(self, text: Text, remedy: Text, detail: str) -> None:
        super().__init__(f"{text.en} {remedy.en}")
        self.text = text
        self.remedy = remedy
        self.detail = detail


async def run_daemon(config: Config, *, state_dir: Path) -> int:
    """Run until SIGTERM or SIGINT; returns 0 then. Raises StartError; anything else that ends it is a bug."""
    logs.configure()
    stop = asyncio.Event()
    _on_signals(stop)
    clock = SystemClock()
    try:
        store = await Store.open(state_dir, uplinks=tuple(config.uplinks), clock=clock, settings=config.journal)
    except StoreError as error:
        raise StartError(error.problem, error.remedy, str(error)) from error
    try:
        daemon = await Daemon.build(config, state_dir, store, clock)
        for name, unit in config.work_units.items():
            for caution in unit_cautions(unit, has_orders=bool(config.uplinks)):
                _log.warning("caution", work_unit=name, text=caution)
        _leave_alone_what_stays()
        await daemon.run(stop)
    except ListenError as error:
        raise StartError(error.text, error.remedy, error.detail) from error
    finally:
        await store.close()
    _log.info("stopped")
    return 0


def _leave_alone_what_stays() -> None:
    """Keep the garbage collector from walking again and again through what lives as long as the process: code, settings, the trackers.

    Readings and events are freed by their reference counts; the few cycles (a closed HTTP connection, a message from the broker, a lost
    link's tracebacks) can wait for a fuller nursery, but not for megabytes of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


def _on_signals(stop: asyncio.Event) -> None:
    """The first signal stops in order, the second at once."""

    def asked() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)


class Daemon:
    """All parts of one running gateway. Build it with `build`, then `run` once."""

    def __init__(self, config: Config, state_dir: Path, store: Store, clock: SystemClock, line: Line, metrics: Metrics) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._line = line
        self._metrics = metrics
        self._notifier = Notifier.from_environment()
        self._recorder = Recorder(
            store, gateway_id=config.gateway.id, source_of=sources(line, gateway_path(config)), clock=clock, metrics=metrics,
            snapshots=lambda: [*line.snapshots(), self._alerts.snapshot()], after_commit=self._committed, ballast=Ballast(state_dir),
        )  # fmt: skip
        self._alerts = Alerts(lambda event: line.record([event]), clock, config.gateway.time_zone)
        self._routing = Routing(line.trackers, self._alerts)
        line.connect(self._recorder, self._alerts.observe, self._on_event, self._routing.on_event)
        targets = {name: UnitCommands(line, tracker, own_time=line.lives_in_recording(name)) for name, tracker in line.trackers.items()}
        self._intake = Intake(targets, line.journal(), known_answer=store.known_answer, clock=clock, metrics=metrics)
        self._pollers = make_pollers(
            config, state_dir, clock, metrics, on_readings=line.on_readings, on_link=self._link_changed, recorder=self._recorder
        )
        self._releases = make_releases(config, line, self._pollers, clock, metrics, self._alerts)
        self._forwarders, brokers, erps = make_forwarders(
            config, store, self._recorder, clock, metrics, self._alerts, line=line, on_link=self._link_changed,
            on_command=self._intake.handle, on_orders=self._intake.handle_batch, about=self._about,
        )  # fmt: skip
        self._brokers = brokers
        self._requests = Requests(state_dir, self._forwarders, store, self._recorder.committed, clock)
        shown = tag_units(config)
        new = [tag for tag, units in shown.items() if not all(line.trackers[unit].begun for unit in units)]
        self._live = LivePublisher(brokers, make_topics(config, "lineside/v1"), shown, new)
        links = {name: partial(_status_of, part) for name, part in self._parts()}
        tasks = [Task("writer", lambda: self._recorder.last_progress, lambda: WRITER_STALLS_S)]
        tasks += [
            Task(f"poller {name}", partial(getattr, poller, "last_progress"), partial(getattr, poller, "stall_after_s"))
            for name, poller in self._pollers.items()
        ]
        self._tasks = tasks
        self._check = JournalCheck(store.path, clock, partial(tell_finding, alerts=self._alerts, metrics=metrics))
        self._footprint = Footprint(clock, metrics)
        self._watch = Watch(
            config, line, store, self._recorder, self._alerts, self._live, clock, metrics, links=links, tasks=tasks,
            process=self._footprint.status, clock_unset=lambda: clock.is_unset, bookings={name: erp.status for name, erp in erps.items()},
        )  # fmt: skip
        metrics.registry.register(BoardCollector(lambda: self._watch.glance(), clock))
        self._server = StatusServer(
            Address(*config.gateway.address), lambda: self._watch.board, metrics, clock, recordings=line.record_readings(),
            archive=Archive(config.work_units, line.trackers, store.history, line.centers),
            planner=Planner(line.trackers, config.gateway.time_zone), trace=store.trace,
        )  # fmt: skip

    def _parts(self) -> Iterator[tuple[str, Poller | Forwarder]]:
        yield from self._pollers.items()
        yield from self._forwarders.items()

    @classmethod
    async def build(cls, config: Config, state_dir: Path, store: Store, clock: SystemClock) -> Daemon:
        """Restores the trackers from the journal; opens no link."""
        metrics = Metrics()
        with contextlib.suppress(LinkError):
            # Each link that needs it tries again by itself, and says on the page why it cannot.
            await asyncio.to_thread(prepare, config.devices.values(), state_dir, config.gateway.id, clock.now())
        trackers = await make_trackers(config, store)
        centers = await make_centers(config, store, trackers)
        line = make_line(config, trackers, centers, clock, metrics)
        known = line.known_until
        if known is not None and known - clock.now() > UNSET:
            clock.hold(known)
        daemon = cls(config, state_dir, store, clock, line, metrics)
        daemon._take_up((await store.snapshots()).get(MEMORY))
        return daemon

    def _take_up(self, alerts: Snapshot | None) -> None:
        """What the last run left: alerts that still stand, and the stops that ended in the dark."""
        for tracker in self._line.trackers.values():
            if tracker.begun:
                for event in raised(tracker):
                    self._alerts.observe(event)
                self._line.record(tracker.lost_events())
        self._line.take_up_time()
        self._routing.judge_all()
        self._tell_insecure()
        tell_origin(self._store, self._alerts, self._metrics)
        self._alerts.end_earlier(alerts)

    def _tell_insecure(self) -> None:
        """The permanent alerts of a machine link that is allowed to go unencrypted, and of its password; what stays on this machine is
        said too, but is no warning."""
        for name, settings in self._config.devices.items():
            if not isinstance(settings, OpcUaSettings):
                continue
            severity = "info" if is_loopback(urlsplit(settings.url).hostname or "") else "warning"
            if settings.security.insecure:
                self._alerts.raise_(
                    f"device.insecure:{name}", severity,
                    Text(f"La liaison avec {name} n'est pas chiffrée.", f"The link to {name} is not encrypted."),
                    Text("Choisir une politique de sécurité et retirer `insecure`.", "Choose a security policy and remove `insecure`."),
                    detail=settings.peer,
                )  # fmt: skip
            if settings.user is not None and settings.user.clear_text:
                self._alerts.raise_(
                    f"device.clear_text:{name}", severity,
                    Text(f"Le mot de passe pour {name} peut partir en clair.", f"The password for {name} may be sent in clear."),
                    Text(
                        "Activer le chiffrement dans l'automate et retirer `clear_text`.",
                        "Enable encryption in the PLC and remove `clear_text`.",
                    ),
                    detail=settings.peer,
                )  # fmt: skip

    def _about(self) -> dict[str, Any]:
        return {"version": importlib.metadata.version("lineside"), "epoch": self._store.epoch, "work_units": list(self._config.work_units)}

    def _committed(self, entries: Sequence[Entry]) -> None:
        self._watch.committed(entries)
        self._live.tags(self._line.committed_tags())
        for broker in self._brokers:
            broker.notify_telemetry()
        if entries:
            for forwarder in self._forwarders.values():
                forwarder.notify()

    def _on_event(self, event: Event) -> None:
        self._watch.on_event(event)
        for release in self._releases:
            release.on_event(event)

    def _link_changed(self, status: LinkStatus) -> None:
        self._watch.link_changed()
        if status.kind == "device":
            for unit, device in self._config.device_of_unit.items():
                if device == status.name:
                    self._watch.changed(unit)

    # --- running and stopping -----------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Sources inside uplinks inside the writer: what is closed first produces, what is closed last keeps."""
        await self._server.start()
        guard = WatchdogGuard(
            self._notifier, self._clock, {task.name: task.progress for task in self._tasks} | {"watch": lambda: self._watch.last_progress},
            limits_s={task.name: task.stall_after_s for task in self._tasks},
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as writer:
                writing = _task(writer, self._recorder.run(), "writer")
                async with asyncio.TaskGroup() as uplinks:
                    carrying = [_task(uplinks, f.run(), f"uplink {name}") for name, f in self._forwarders.items()]
                    carrying += [
                        _task(uplinks, self._watch.run(), "watch"),
                        uplinks.create_task(self._server.run(), name="page"),
                        uplinks.create_task(guard.run(), name="watchdog"),
                        _task(uplinks, self._footprint.run(), "loop lag"),
                        _task(uplinks, self._check.run(), "journal check"),
                        uplinks.create_task(self._requests.run(), name="requests"),
                    ]
                    await self._run_sources(stop)
                    await self._hand_over()
                    await _end(carrying)
                await self._recorder.drain(DRAIN_S)
                writing.cancel()
        finally:
            await self._server.stop()

    async def _run_sources(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [_task(group, p.run(), f"poller {name}") for name, p in self._pollers.items()]
            tasks += [_task(group, release.run(), f"release {release.work_unit}") for release in self._releases]
            tasks.append(_task(group, self._line.tick(), "time"))
            self._notifier.ready(f"page at http://{self._server.address}")
            _log.info("started", page=f"http://{self._server.address}", epoch=self._store.epoch, work_units=len(self._line.trackers))
            await stop.wait()
            _log.info("stopping")
            self._notifier.stopping()
            await _end(tasks)

    async def _hand_over(self) -> None:
        """Commit what the sources said last, and let healthy peers take it."""
        await self._recorder.drain(DRAIN_S)
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(HANDOVER_S):
                await asyncio.gather(*(forwarder.drain(HANDOVER_S) for forwarder in self._forwarders.values()))


def _task(group: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """One that must go on until it is cancelled; when it ends by itself the process does too, and systemd starts it anew."""
    return group.create_task(for_good(work, name), name=name)


def _status_of(part: Poller | Forwarder) -> LinkStatus:
    return part.status


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them and wait; what is not done in time is cancelled once more, which cuts a goodbye to a silent peer short."""
    for _ in range(2):
        for task in tasks:
            task.cancel()
        _, tasks_left = await asyncio.wait(tasks, timeout=CLOSE_S)
        if not tasks_left:
            return
        tasks = list(tasks_left)
