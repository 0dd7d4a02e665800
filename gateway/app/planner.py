"""Gives the page and the API the queues of the running trackers, as copies that another thread may search."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pydantic import ValidationError

from gateway.config.calendars import CalendarSettings
from gateway.domain.calendar import Calendar
from gateway.domain.job_order import JobOrder
from gateway.domain.promise import Work
from gateway.domain.tracker import Tracker
from gateway.domain.whatif import Queue


class Planner:
    """Only reads the trackers. `zone`: the site's IANA time zone."""

    def __init__(self, trackers: Mapping[str, Tracker], zone: str) -> None:
        self._trackers = trackers
        self._zone = zone

    def queue(self, work_unit: str) -> Queue:
        """As it stands now, with a calendar of its own. Raises KeyError for an unknown unit."""
        tracker = self._trackers[work_unit]
        return tracker.production.orders.queue().under(tracker.unit.calendar.copy())

    def new_order(self, work_unit: str, product_id: str, quantity: Decimal) -> tuple[Work, bool]:
        """The work of an order nobody has placed yet, and whether the unit is known to make the product."""
        order = JobOrder("", product_id=product_id, quantity=quantity)
        return self._trackers[work_unit].production.orders.new_order(order)

    def calendar(self, text: str) -> Calendar:
        """From JSON shaped as one entry of `calendars:`. Raises ValueError with the sentence that says what is wrong."""
        try:
            settings = CalendarSettings.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
        wrong = next(settings.contradictions(), None)
        if wrong is not None:
            raise ValueError(wrong)
        return settings.build(self._zone)
