"""Builds the parts of the daemon from its configuration; nothing here runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from drivers import make_driver
from drivers.base import Clock, Reading
from drivers.settings import Secret
from gateway.acquisition.poller import Poller
from gateway.acquisition.sampling import Sampling
from gateway.acquisition.telemetry import Telemetry
from gateway.app.erp import LineOrders
from gateway.app.line import Line, UnitRelease
from gateway.app.watch import tags_of
from gateway.config import Config, SecretError, read_secret
from gateway.dispatch.release import Release, make_plan
from gateway.dispatch.writing import DeviceWriter
from gateway.domain.tracker import RECORD_KINDS, Tracker
from gateway.domain.work_center import WorkCenter
from gateway.metrics import Metrics
from gateway.outbox.forwarder import Forwarder
from gateway.outbox.recorder import Recorder
from gateway.outbox.store import Store
from gateway.seams import AlertBoard, Uplink, UplinkError
from gateway.supervise import Backoff, LinkStatus
from gateway.uplink.base import BatchHandler, CommandHandler
from gateway.uplink.erp.booking import BookingUplink, Wiring
from gateway.uplink.erp.http import HttpUplink
from gateway.uplink.erp.ports import Surroundings, make_port
from gateway.uplink.erp.posting_memory import PostingMemory
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.mqtt import MqttUplink
from gateway.uplink.mqtt_lanes import TelemetrySource
from gateway.uplink.settings import HttpSettings, MqttSettings
from gateway.uplink.topics import Topics

MEMORY = timedelta(hours=48)
"""How far back a restarted tracker remembers windows, stops and the timeline."""


def gateway_path(config: Config) -> str:
    """CloudEvents `source` of what belongs to no work unit."""
    g = config.gateway
    return f"/{g.enterprise}/{g.site}/_gateway/{g.id}"


def make_topics(config: Config, root: str) -> Topics:
    units = {name: f"{unit.area}/{unit.work_center}/{name}" for name, unit in config.work_units.items()}
    g = config.gateway
    return Topics(root=root, enterprise=g.enterprise, site=g.site, gateway_id=g.id, units=units)


def tag_units(config: Config) -> dict[tuple[str, str], list[str]]:
    """(device, tag) -> the units whose topics carry it: all tags of a unit's own device, and those it names of others."""
    carried: dict[tuple[str, str], list[str]] = {}
    for unit, device in config.device_of_unit.items():
        sources = [(device, tag) for tag in tags_of(config, device)] if device else []
        sources += [config.resolve(unit, reference) for reference in config.unit_tags[unit]]
        for source in dict.fromkeys(sources):
            carried.setdefault(source, []).append(unit)
    return carried


def _shown(config: Config) -> dict[str, list[str]]:
    """Per device the tags that have a topic of their own."""
    shown: dict[str, list[str]] = {}
    if any(isinstance(s, MqttSettings) for s in config.uplinks.values()):
        for device, tag in tag_units(config):
            shown.setdefault(device, []).append(tag)
    return shown


async def make_trackers(config: Config, store: Store) -> dict[str, Tracker]:
    """One tracker per unit, restored from the journal where there is a snapshot."""
    trackers = {name: Tracker(unit) for name, unit in config.work_units.items()}
    snapshots = await store.snapshots()
    for name, tracker in trackers.items():
        snapshot = snapshots.get(name)
        if snapshot is not None:
            until = Tracker.time_of(snapshot)
            tracker.restore(snapshot, await store.records(name, RECORD_KINDS, until - MEMORY))
    return trackers


async def make_centers(config: Config, store: Store, trackers: Mapping[str, Tracker]) -> list[WorkCenter]:
    """One for each line of several machines, or that the configuration speaks of, with the windows that its machines may still revise.

    Like the machines' own, these count from what the journal knows: the clock may not be set yet.
    """
    centers = []
    for name, units in config.lines().items():
        center = WorkCenter(name, units, config.line_rule(name))
        known = max((trackers[unit].now for unit in units if trackers[unit].begun), default=None)
        if known is not None:
            center.restore(await store.records(center.key, ("window",), known - MEMORY))
        centers.append(center)
    return centers


def make_line(config: Config, trackers: Mapping[str, Tracker], centers: Sequence[WorkCenter], clock: Clock, metrics: Metrics) -> Line:
    recorded = frozenset(name for name, settings in config.devices.items() if settings.recorded)
    references = {unit: {reference: config.resolve(unit, reference) for reference in config.unit_tags[unit]} for unit in config.work_units}
    own_time = frozenset(unit for unit, sources in references.items() if any(device in recorded for device, _ in sources.values()))
    return Line(
        trackers, centers, Sampling(references), Telemetry(config.devices, _shown(config)), clock, metrics,
        recorded=recorded, own_time=own_time, bulk=any(isinstance(s, MqttSettings) for s in config.uplinks.values()),
    )  # fmt: skip


def make_pollers(
    config: Config,
    state_dir: Path,
    clock: Clock,
    metrics: Metrics,
    *,
    on_readings: Callable[[str, Sequence[Reading], bool], None],
    on_link: Callable[[LinkStatus], None],
    recorder: Recorder,
) -> dict[str, Poller]:
    def poller(name: str, settings: Any) -> Poller:
        return Poller(
            name,
            lambda: make_driver(settings, clock, name=name, secrets=read_secret, state_dir=state_dir),
            tags_of(config, name),
            settings.interval,
            clock,
            metrics,
            on_readings,
            on_link,
            settings.peer,
            drained=recorder.committed if settings.recorded else None,
            timeout_s=getattr(settings, "timeout", 1.0),
        )

    return {name: poller(name, settings) for name, settings in config.devices.items()}


def make_releases(
    config: Config, line: Line, pollers: Mapping[str, Poller], clock: Clock, metrics: Metrics, alerts: AlertBoard
) -> list[Release]:
    """One for each work unit whose orders are written to its machine; a device has one writer, whoever writes to it."""
    writers = {name: DeviceWriter(name, partial(getattr, poller, "driver"), clock) for name, poller in pollers.items()}
    releases = []
    for name, unit in config.work_units.items():
        if unit.release is None:
            continue
        plan = make_plan(name, unit.release, partial(config.resolve, name))
        orders = UnitRelease(line, line.trackers[name])
        releases.append(Release(plan, unit.products, orders, writers, line.journal(), alerts, clock, metrics))
    return releases


def uplink_secret(secret: Secret) -> str:
    """A secret of an uplink; one that went missing meanwhile is a link that is down, not the end of the process."""
    try:
        return read_secret(secret)
    except SecretError as error:
        raise UplinkError(str(error)) from error


def make_forwarders(
    config: Config,
    store: Store,
    recorder: Recorder,
    clock: Clock,
    metrics: Metrics,
    alerts: AlertBoard,
    *,
    line: Line,
    on_link: Callable[[LinkStatus], None],
    on_command: CommandHandler,
    on_orders: BatchHandler,
    about: Callable[[], dict[str, Any]],
) -> tuple[dict[str, Forwarder], list[MqttUplink], dict[str, BookingUplink]]:
    """A forwarder per uplink, and among the uplinks the brokers (they carry live values too) and the ERPs that book totals."""
    forwarders: dict[str, Forwarder] = {}
    brokers: list[MqttUplink] = []
    erps: dict[str, BookingUplink] = {}
    wiring = Wiring(
        recorder, store.erp_accounts, store.order_cursor, on_orders, LineOrders(line.trackers), alerts, clock, metrics, store.epoch
    )
    around = Surroundings(config.gateway.id, tuple(config.work_units), config.gateway.time_zone, clock, uplink_secret)
    telemetry = TelemetrySource(store.telemetry, recorder.forget_telemetry)
    for name, settings in config.uplinks.items():
        consumers: tuple[str, ...] = ()
        uplink: Uplink
        if isinstance(settings, MqttSettings):
            consumers = settings.consumers
            broker = MqttUplink(
                name, settings, gateway_id=config.gateway.id, topics=make_topics(config, settings.root), clock=clock, metrics=metrics,
                secrets=uplink_secret, alerts=alerts, on_command=on_command, about=about, telemetry=None if brokers else telemetry,
                on_ack=lambda consumer, epoch, sequence, name=name: forwarders[name].acknowledge(consumer, epoch, sequence),
                on_replay=lambda epoch, sequence, name=name: forwarders[name].replay(epoch, sequence),
            )  # fmt: skip
            brokers.append(broker)
            uplink = broker
        elif isinstance(settings, HttpSettings):
            uplink = HttpUplink(
                name, settings, gateway_id=config.gateway.id, clock=clock, metrics=metrics, secrets=uplink_secret, alerts=alerts,
                on_orders=on_orders, order_cursor=store.order_cursor, postings=PostingMemory(name, recorder, store.order_cursor, clock),
            )  # fmt: skip
        elif isinstance(settings, BookingSettings):
            uplink = erps[name] = BookingUplink(name, settings, make_port(name, settings, around), wiring)
        else:
            raise TypeError(f"no uplink for {type(settings).__name__}")
        forwarders[name] = Forwarder(
            uplink, reader=store, writer=recorder, clock=clock, metrics=metrics, alerts=alerts, on_link=on_link, consumers=consumers,
            # A broker is asked again within two seconds, as a machine is: live values wait for it. An ERP is left in peace for longer.
            backoff=Backoff(0.2, 2.0) if isinstance(settings, MqttSettings) else None,
        )  # fmt: skip
    return forwarders, brokers, erps
