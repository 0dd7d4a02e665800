"""What of an order is in the ERP's hands already, and the confirmation of what is new. Pure: the same calls give the same files.

The import of an ERP posts each file once, by its name; so a file carries what is new since the last one, under a number that only goes
up. The totals stand beside it, for an ERP that sets totals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.uplink.erp.port import Measurement, PromisedDate, Stop, Totals

Row = dict[str, Any]
_AMOUNTS = ("good", "scrap", "rework")
_MOST_STOPS = 400
_TIMES = ("run_s", "setup_s", "stop_s")


class Booked(BaseModel):
    """Kept as the order's memo. `series`: when its numbers began, so that no name comes twice even after a journal was lost and they begin
    at 1 again. `number`: of the last confirmation. `stops`: stop_id -> what was said of it. `results`: those of the last
    call about quality, which a lost answer may bring again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: str = ""
    number: int = 0
    started: bool = False
    closed: bool = False
    sums: dict[str, Decimal] = {}
    materials: dict[str, Decimal] = {}
    stops: dict[str, str] = {}
    results: tuple[str, ...] = ()
    promise: str = ""

    @property
    def key(self) -> str:
        """Of the confirmation after which this holds; later ones sort behind it."""
        return f"{self.series}-{self.number:06d}"

    def next(self, **changed: Any) -> Booked:
        return self.model_copy(update={"number": self.number + 1, **changed})


@dataclass(frozen=True)
class Confirmation:
    """`kind` is what the gateway was asked for; `rows`: kind of row -> rows, see `fields.CONFIRMATION_FIELDS`. `booked`: what holds once
    the ERP has it."""

    kind: str
    at: datetime
    rows: Mapping[str, Sequence[Row]]
    booked: Booked


def started(booked: Booked, at: datetime) -> Confirmation | None:
    """None, here and below: the ERP has it already."""
    if booked.started:
        return None
    return Confirmation("start", at, {"start": [{}]}, booked.next(started=True))


def reported(booked: Booked, totals: Totals) -> Confirmation | None:
    """What is new in `totals`; less than before is a negative row, a correction."""
    now = _sums(totals)
    news = {name: value - booked.sums.get(name, Decimal(0)) for name, value in now.items()}
    rows: dict[str, Sequence[Row]] = {}
    if any(news.values()):
        rows["totals"] = [_totals_row(now, news, totals.unit)]
    materials, consumption = _consumption(booked, totals)
    if consumption:
        rows["consumption"] = consumption
    stops = {stop.stop_id: _digest(stop.start, stop.end, stop.reason, stop.induced) for stop in totals.stops}
    new_stops = [_stop_row(stop) for stop in totals.stops if booked.stops.get(stop.stop_id) != stops[stop.stop_id]]
    if new_stops:
        rows["stops"] = new_stops
    if not rows:
        return None
    # What `totals` says no more was booked long ago; some of it is kept, should a stop be explained again.
    told = {stop_id: said for stop_id, said in booked.stops.items() if stop_id not in stops} | stops
    after = booked.next(sums=now, materials=materials, stops=dict(list(told.items())[-max(_MOST_STOPS, len(stops)) :]))
    return Confirmation("totals", totals.at, rows, after)


def measured(booked: Booked, results: Sequence[Measurement]) -> Confirmation | None:
    """A result is one row, its cancelling another; what the last call brought already is not said again."""
    names = {f"{result.id}:{'c' if result.is_cancelled else 'r'}": result for result in results}
    news = [result for name, result in names.items() if name not in booked.results]
    if not news:
        return None
    rows = [
        {
            "result_id": result.id,
            "at": result.at,
            "characteristic": result.characteristic,
            "value": result.value,
            "unit": result.unit,
            "lower": result.lower,
            "upper": result.upper,
            "result": "Pass" if result.passed else "Fail",
            "lot_id": result.lot_id,
            "cancelled": result.is_cancelled,
        }
        for result in news
    ]
    return Confirmation("quality", max(result.at for result in news), {"quality": rows}, booked.next(results=tuple(names)))


def closed(booked: Booked, totals: Totals) -> Confirmation | None:
    if booked.closed:
        return None
    now = _sums(totals)
    return Confirmation("close", totals.at, {"close": [_totals_row(now, now, totals.unit)]}, booked.next(closed=True))


def promised(booked: Booked, promise: PromisedDate) -> Confirmation | None:
    said = _digest(promise.eta_likely, promise.eta_safe, promise.verdict)
    if booked.promise == said:
        return None
    row = {"eta_likely": promise.eta_likely, "eta_safe": promise.eta_safe, "verdict": promise.verdict, "basis": promise.basis}
    return Confirmation("promise", promise.at, {"promise": [row]}, booked.next(promise=said))


def _sums(totals: Totals) -> dict[str, Decimal]:
    """Quantities as they are, times to the millisecond: a sum of seconds is never exact, and must not make a file of its own."""
    times = {name: Decimal(round(getattr(totals, name) * 1000)) / 1000 for name in _TIMES}
    return {name: getattr(totals, name) for name in _AMOUNTS} | times


def _totals_row(now: Mapping[str, Decimal], news: Mapping[str, Decimal], unit: str) -> Row:
    row: Row = {"unit": unit}
    for name in (*_AMOUNTS, *_TIMES):
        row[name] = news[name]
        row[f"{name}_total"] = now[name]
    row["produced"] = sum((news[name] for name in _AMOUNTS), Decimal(0))
    row["produced_total"] = sum((now[name] for name in _AMOUNTS), Decimal(0))
    for name in _TIMES:
        row[name.replace("_s", "_h")] = (news[name] / 3600).quantize(Decimal("0.0001"))
    return row


def _consumption(booked: Booked, totals: Totals) -> tuple[dict[str, Decimal], list[Row]]:
    """What is booked of each material afterwards, and the rows; a lot that vanished from the totals is given back."""
    now: dict[str, Decimal] = {}
    for each in totals.consumption:
        name = "\x1f".join((each.material_id, each.lot_id or "", each.use, each.unit))
        now[name] = now.get(name, Decimal(0)) + each.quantity
    rows: list[Row] = []
    for name in dict.fromkeys((*booked.materials, *now)):
        total = now.get(name, Decimal(0))
        new = total - booked.materials.get(name, Decimal(0))
        if new:
            material, lot, use, unit = name.split("\x1f")
            rows.append(
                {"material_id": material, "lot_id": lot or None, "use": use, "quantity": new, "quantity_total": total, "unit": unit}
            )
    return {name: total for name, total in now.items() if total}, rows


def _stop_row(stop: Stop) -> Row:
    return {
        "stop_id": stop.stop_id,
        "from": stop.start,
        "to": stop.end,
        "duration_s": Decimal(round((stop.end - stop.start).total_seconds() * 1000)) / 1000,
        "reason": stop.reason,
        "induced": stop.induced,
    }


def _digest(*said: object) -> str:
    return hashlib.sha256(repr([str(each) for each in said]).encode()).hexdigest()[:12]
