"""What leaves beside the ledger: the retained topics of each work unit, its tags, and the gateway's health."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from drivers.base import Quality, Reading
from gateway.acquisition.telemetry import tag_payload
from gateway.domain.cloud_event import encode
from gateway.domain.view import UnitView
from gateway.domain.work_center import WorkCenter
from gateway.status.board import Board
from gateway.status.payloads import availability_payload, health_payload, job_payload, state_payload
from gateway.supervise import LinkStatus
from gateway.uplink.topics import Topics

_MOVING = ("at", "last_piece_at")
"""Fields that change with every look; they alone are no reason to publish."""


class LiveTarget(Protocol):
    """An uplink with topics that hold the present value (MQTT)."""

    def set_live(self, topic_suffix: str, payload: bytes, *, retain: bool, qos: int, lasting: bool = False) -> None: ...


class LivePublisher:
    """`tag_units`: (device, tag) -> the work units whose topics carry it. `new`: those of units that the journal does not know yet."""

    def __init__(
        self,
        targets: Sequence[LiveTarget],
        topics: Topics,
        tag_units: Mapping[tuple[str, str], Sequence[str]],
        new: Collection[tuple[str, str]],
    ) -> None:
        self._targets = targets
        self._topics = topics
        self._tag_units = tag_units
        self._said: dict[str, dict[str, Any]] = {}
        self._jobs: dict[str, set[str]] = {}
        self._never_good = set(new)

    def tags(self, readings: Mapping[str, Iterable[Reading]]) -> None:
        """Readings whose sample is on disk; QoS 0, the latest wins, but the first good value of a new unit's tag goes out whatever
        follows it: from there on whoever listens can count along."""
        if not self._targets:
            return
        for device, batch in readings.items():
            for reading in batch:
                key = device, reading.tag
                units = self._tag_units.get(key, ())
                if units:
                    payload = tag_payload(reading)
                    first_good = reading.quality is Quality.GOOD and key in self._never_good
                    if first_good:
                        self._never_good.remove(key)
                    for unit in units:
                        self._send(self._topics.unit(unit, f"tag/{reading.tag}"), payload, qos=0, lasting=first_good)

    def unit(self, view: UnitView, link: LinkStatus | None, known_jobs: set[str]) -> None:
        """Everything retained of one work unit; what has not changed is not sent again. `known_jobs`: ids the ledger still holds."""
        if not self._targets:
            return
        unit, topics = view.work_unit, self._topics
        self._set(topics.unit(unit, "state"), state_payload(view, link))
        for kind, line in view.windows.items():
            self._set(topics.unit(unit, f"kpi/{kind}"), line)
        if "shift" not in view.windows:
            self._remove(topics.unit(unit, "kpi/shift"))
        self._set(topics.unit(unit, "availability"), availability_payload(view))
        told = self._jobs.setdefault(unit, set())
        for job in [*([view.job] if view.job else []), *view.queue, *view.recent]:
            told.add(job.order.job_order_id)
            self._set(topics.job(unit, job.order.job_order_id), job_payload(job))
        for gone in [job_order_id for job_order_id in told if job_order_id not in known_jobs]:
            told.discard(gone)
            self._remove(topics.job(unit, gone))

    def line(self, center: WorkCenter, windows: Mapping[str, Mapping[str, Any]]) -> None:
        """The open windows of a line, below `{area}/{work_center}/_line`."""
        for kind, line in windows.items():
            self._set(self._topics.below_site(center.path, f"kpi/{kind}"), line)

    def health(self, board: Board) -> None:
        if self._targets:
            self._send(self._topics.gateway("health"), encode(health_payload(board)), qos=1)

    def _set(self, suffix: str, payload: Mapping[str, Any]) -> None:
        lasting = {name: value for name, value in payload.items() if name not in _MOVING}
        if self._said.get(suffix) != lasting:
            self._said[suffix] = lasting
            self._send(suffix, encode(dict(payload)), qos=1)

    def _remove(self, suffix: str) -> None:
        if self._said.pop(suffix, None) is not None:
            self._send(suffix, b"", qos=1)

    def _send(self, suffix: str, payload: bytes, *, qos: int, lasting: bool = False) -> None:
        for target in self._targets:
            target.set_live(suffix, payload, retain=True, qos=qos, lasting=lasting)
