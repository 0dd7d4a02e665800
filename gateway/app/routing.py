"""Joins the operations of one order over all work units: each promise knows its predecessor, and counts that cannot be are an alert."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from gateway.domain.events import CommandAnswered, Event, JobChanged, JobProgress, Text
from gateway.domain.handover import Route
from gateway.domain.job import Job
from gateway.domain.routing import Operation, route_of
from gateway.domain.tracker import Tracker
from gateway.seams import AlertBoard


class Routing:
    """Reads the ledgers as they are; it keeps nothing but the alerts that stand."""

    def __init__(self, trackers: Mapping[str, Tracker], alerts: AlertBoard) -> None:
        self._ledgers = {name: tracker.production.ledger for name, tracker in trackers.items()}
        self._alerts = alerts
        self._ahead: set[str] = set()
        for name, tracker in trackers.items():
            tracker.production.orders.route = partial(self.route, name)

    def route(self, work_unit: str, job: Job) -> Route:
        """Where a job stands among the operations of its order."""
        return route_of(Operation(work_unit, job), self._operations(job.order.order_id))

    def on_event(self, event: Event) -> None:
        """Told of every event that is recorded, in the loop."""
        if event.work_unit not in self._ledgers or event.job_order_id is None:
            return
        if isinstance(event, JobProgress):
            self._judge(event.order_id)
        elif isinstance(event, JobChanged | CommandAnswered):
            job = self._ledgers[event.work_unit].get(event.job_order_id)
            if job is not None:
                self._judge(job.order.order_id)
            else:
                self._clear(f"routing.ahead:{event.job_order_id}@{event.work_unit}")

    def judge_all(self) -> None:
        """After a restart: what stands in the ledgers already."""
        for order_id in {order_id for ledger in self._ledgers.values() for order_id in ledger.order_ids}:
            self._judge(order_id)

    def _operations(self, order_id: str | None) -> Iterable[Operation]:
        if order_id is None:
            return []
        return [Operation(name, job) for name, ledger in self._ledgers.items() for job in ledger.of_order(order_id)]

    def _judge(self, order_id: str | None) -> None:
        operations = list(self._operations(order_id))
        for operation in operations:
            job = operation.job
            route = route_of(operation, operations)
            key = f"routing.ahead:{job.job_order_id}@{operation.work_unit}"
            ahead = route.ahead(job.produced)
            if not ahead or job.is_over:
                self._clear(key)
            elif key not in self._ahead:
                self._ahead.add(key)
                unit, made, given = operation.work_unit, job.produced, route.handed_over
                self._alerts.raise_(
                    key, "warning",
                    Text(
                        f"{unit} : {job.job_order_id} compte {made:f} pièces, l'opération précédente n'en a livré que {given:f}.",
                        f"{unit}: {job.job_order_id} counts {made:f} pieces, the operation before handed over only {given:f}.",
                    ),
                    Text(
                        "Vérifier les compteurs des deux postes et l'ordre en cours ; corriger par DeclareProduction ou Reassign.",
                        "Check both work units' counters and which order runs; correct with DeclareProduction or Reassign.",
                    ),
                    work_unit=unit, detail=f"{ahead:f} too many",
                )  # fmt: skip

    def _clear(self, key: str) -> None:
        if key in self._ahead:
            self._ahead.discard(key)
            self._alerts.clear(key)
