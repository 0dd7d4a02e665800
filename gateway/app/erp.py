"""An ERP behind the port, built into this gateway."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.job_order import JobOrder, JobState
from gateway.domain.ledger import MAX_OPEN_ORDERS
from gateway.domain.tracker import Tracker


class LineOrders:
    """The trackers' ledgers as an ERP's orders see them (`uplink.erp.booking.LineView`)."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = trackers

    def job(self, work_unit: str, job_order_id: str) -> tuple[JobState, JobOrder] | None:
        tracker = self._trackers.get(work_unit)
        job = tracker.production.ledger.get(job_order_id) if tracker is not None else None
        return (job.state, job.order) if job is not None else None

    def is_idle(self, work_unit: str) -> bool:
        tracker = self._trackers.get(work_unit)
        return tracker is None or tracker.production.ledger.running is None

    def has_room(self, work_unit: str) -> bool:
        tracker = self._trackers.get(work_unit)
        return tracker is None or tracker.production.ledger.open_count < MAX_OPEN_ORDERS
