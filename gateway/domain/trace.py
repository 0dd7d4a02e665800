"""The answer to "where does this lot come from, and where did it go": for API, page and command line alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.domain.genealogy import LotRow
from gateway.domain.instants import moment
from gateway.domain.instants import seconds as in_seconds
from gateway.domain.standstill import Standstill


@dataclass(frozen=True)
class States:
    """What the machine did meanwhile: microseconds by kind of the timeline, and the longest stops. Empty when forgotten (`history`)."""

    spent: Mapping[str, int]
    stops: tuple[Standstill, ...]
    stop_count: int


@dataclass(frozen=True)
class TracedLot:
    work_unit: str
    row: LotRow
    states: States


@dataclass(frozen=True)
class TracedSerial:
    """`body` as `genealogy.Serial.dump` wrote it."""

    work_unit: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Trace:
    """`found_as`: product_lot, material_lot, serial, job_order, order. `made`: where it was produced; `used_in`: what it went into.

    `made_of`: lots that it was made of and that were made here themselves, `went_into`: where its lots went from there. `limited`: there is
    more than one answer holds.
    """

    name: str
    found_as: tuple[str, ...]
    made: tuple[TracedLot, ...]
    used_in: tuple[TracedLot, ...]
    made_of: tuple[TracedLot, ...]
    went_into: tuple[TracedLot, ...]
    serials: tuple[TracedSerial, ...]
    limited: bool = False


class TraceUnreadable(Exception):
    """The journal cannot be read now."""


def trace_body(trace: Trace) -> dict[str, Any]:
    """JSON-able (with `cloud_event.encode`)."""
    return {
        "name": trace.name, "found_as": trace.found_as, "limited": trace.limited,
        **{part: [lot_body(lot) for lot in getattr(trace, part)] for part in ("made", "used_in", "made_of", "went_into")},
        "serials": [{"work_unit": serial.work_unit, **serial.body} for serial in trace.serials],
    }  # fmt: skip


def lot_body(lot: TracedLot) -> dict[str, Any]:
    """One produced lot of one order on one work unit."""
    row = lot.row
    return {
        "work_unit": lot.work_unit, "product_lot_id": row.product_lot_id, "job_order_id": row.job_order_id, **row.order,
        "from": moment(row.first), "to": moment(row.last), "produced": row.produced, "good": row.good, "scrap": row.scrap,
        "rework": row.rework, "serial_count": row.serials,
        "materials": [
            {
                "material_id": link.material_id, "lot_id": link.lot_id, "quantity": None if link.mode == "loaded" else link.quantity,
                "unit": link.unit, "mode": link.mode, "from": moment(link.first), "to": moment(link.last),
            }
            for link in row.links.values()
        ],
        "quality": {
            name: {**tally.summary(), "fails": [{"at": moment(at), "value": value} for at, value in tally.fails]}
            for name, tally in row.quality.items()
        },
        "states": {f"{kind}_s": in_seconds(spent) for kind, spent in lot.states.spent.items()},
        "stop_count": lot.states.stop_count,
        "stops": [
            {
                "from": moment(stop.start), "to": None if stop.end is None else moment(stop.end), "reason": stop.reason,
                "fault": stop.fault,
            }
            for stop in lot.states.stops
        ],
    }  # fmt: skip
