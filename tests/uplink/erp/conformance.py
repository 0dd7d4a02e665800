"""What every ERP link must do: one suite, run on every link; the level is rows in and orders out, and what the ERP's books hold in the end.

The tests are in `test_conformance.py`, the links in `links.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from drivers.base import Clock
from gateway.domain.job_order import JobOrder
from gateway.seams import Uplink
from gateway.uplink.erp.booking import Wiring


class Fault(StrEnum):
    """How an ERP misbehaves, on about half of what is written to it, until it is told to stop."""

    DROPPED = "the reply is lost after booking"
    ERROR = "500, nothing booked"
    BUSY = "429 with Retry-After"
    LOCKED = "a lock, a concurrent write"
    MEANINGLESS = "200 that means nothing"
    SLOW = "slow"
    HALF = "half a reply, after booking"


@dataclass(frozen=True)
class Booked:
    """What an ERP holds of an order. None: this ERP has no place for it."""

    good: Decimal
    scrap: Decimal
    consumed: dict[str, Decimal] | None = None
    run_s: float | None = None
    stops: int | None = None
    results: tuple[str, ...] | None = None
    """Ids of the quality results that count."""
    is_started: bool | None = None
    is_closed: bool | None = None
    times: tuple[datetime, ...] | None = None
    """Under which its postings stand."""


class ErpUnderTest(Protocol):
    """One ERP with its link, started and stopped by its row in `links.LINKS`. `faults`: those it can show."""

    clock: Clock
    faults: frozenset[Fault]

    def uplink(self, wiring: Wiring) -> Uplink:
        """A fresh one, as after a start of the process, named `erp`; `interval` and `report_every` short."""

    async def release(self, order: JobOrder, work_unit: str) -> None:
        """The ERP has this order for that work unit from now on, released."""

    async def cancel(self, job_order_id: str) -> None:
        """A planner cancels it; only with `Link.has_planner`."""

    async def refuse(self, job_order_id: str, words: str | None) -> None:
        """Business refusals for everything about this order, None: no more; only with `Link.has_planner`."""

    async def misbehave(self, fault: Fault | None) -> None:
        """From now on; None: it is well again."""

    async def booked(self, job_order_id: str) -> Booked:
        """What its books hold now, read past the faults."""

    async def violations(self) -> list[str]:
        """What a gateway did that none may do: written after the end, two requests at once, ..."""
