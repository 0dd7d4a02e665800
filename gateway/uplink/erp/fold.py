"""Ledger rows into accounts. Pure, and blind to repeats: a row that is in already changes nothing, however often it comes again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from gateway.domain.entry import Entry
from gateway.domain.job_order import JobState
from gateway.uplink.erp.account import Account
from gateway.uplink.erp.port import Measurement, PromisedDate, Stop

STOPS_HELD = 1_000
"""Of an order whose totals the ERP does not take for weeks; the oldest go, the seconds of all of them stay in `stop_s`."""


RESULTS_HELD = 1_000
"""Of an order whose results the ERP does not take for weeks: the account is written with every batch of rows, so it must stay small. The
oldest go, counted in `results_dropped`; in the journal they stay."""


def fold(account: Account, entry: Entry) -> bool:
    """Take `entry` into `account`, that of its job order. False: it does not concern it, or is in it already.

    The journal hands rows out in the order of their positions, so that one number says which are in.
    """
    take = _TAKERS.get(entry.type)
    if take is None or entry.position <= account.position or entry.work_unit != account.work_unit or account.is_succeeded:
        return False
    take(account, entry, orjson.loads(entry.body)["data"])
    account.position = entry.position
    account.changed_at = entry.at
    return True


def concerns(entry: Entry) -> bool:
    """Whether rows of this type say anything that an ERP is told."""
    return entry.job_order_id is not None and entry.type in _TAKERS


def _number(value: float) -> Decimal:
    # JSON's shortest text of a float is what the ledger counted.
    return Decimal(str(value))


def _limit(value: float | None) -> Decimal | None:
    return None if value is None else _number(value)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _when(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def _moved(account: Account, entry: Entry) -> None:
    account.at = entry.at if account.at is None else max(account.at, entry.at)
    account.touched()


def _job_changed(account: Account, entry: Entry, data: dict[str, Any]) -> None:
    if data["previous"] is None and account.started_at is not None:
        account.is_succeeded = True
        return
    account.state = JobState(data["state"])
    if account.state is JobState.RUNNING and account.started_at is None:
        account.started_at = entry.at
    account.ended_at = entry.at if account.is_over else None


def _progress(account: Account, entry: Entry, data: dict[str, Any]) -> None:
    account.good, account.scrap, account.rework = _number(data["good"]), _number(data["scrap"]), _number(data["rework"])
    account.unit = data["unit"]
    account.run_s, account.setup_s, account.stop_s = float(data["run_s"]), float(data["setup_s"]), float(data["stop_s"])
    _moved(account, entry)


def _consumed(account: Account, entry: Entry, data: dict[str, Any]) -> None:
    # `total` is that of the material over all its lots and uses; the sum of the bookings is exact for each.
    key = (data["material_id"], data["lot_id"], data["use"], data["unit"])
    account.consumption[key] = account.consumption.get(key, Decimal(0)) + _number(data["quantity"])
    _moved(account, entry)


def _stopped(account: Account, entry: Entry, data: dict[str, Any]) -> None:
    stop_id, revision = data["stop_id"], data["revision"]
    before = account.stops.get(stop_id)
    if before is not None and before[0] > revision:
        return
    if data["class"] == "stop":
        stop = Stop(stop_id, _time(data["from"]), _time(data["to"]), data["reason"], bool(data["induced"]))
        account.stops[stop_id] = (revision, stop)
        if len(account.stops) > STOPS_HELD:
            del account.stops[next(iter(account.stops))]
    elif account.stops.pop(stop_id, None) is None:
        # Micro-stops are the machine's pace, not an event for an ERP; one that was a stop before is taken back.
        return
    _moved(account, entry)


def _measured(account: Account, entry: Entry, data: dict[str, Any]) -> None:
    account.results[entry.id] = Measurement(
        entry.id, _time(data["measured_at"]), data["characteristic"], _number(data["value"]), data["unit"], _limit(data["lower"]),
        _limit(data["upper"]), data["result"] == "Pass", data["lot_id"],
    )  # fmt: skip
    if len(account.results) > RESULTS_HELD:
        del account.results[next(iter(account.results))]
        account.results_dropped += 1


def _cancelled(account: Account, entry: Entry, data: dict[str, Any]) -> None:
    meant = (data["characteristic"], _time(data["measured_at"]), _number(data["value"]))
    for result in reversed([*account.booked_results.values(), *account.results.values()]):
        if (result.characteristic, result.at, result.value) == meant and not result.is_cancelled:
            account.booked_results.pop(result.id, None)
            # Even one that is not confirmed may have reached the ERP: it is told as cancelled, not forgotten.
            account.results[result.id] = replace(result, is_cancelled=True)
            return


def _promised(account: Account, entry: Entry, data: dict[str, Any]) -> None:
    account.promise = PromisedDate(entry.at, _when(data["eta_likely"]), _when(data["eta_safe"]), data["verdict"], data["basis"])


_TAKERS: dict[str, Callable[[Account, Entry, dict[str, Any]], None]] = {
    "job.changed": _job_changed,
    "job.progress": _progress,
    "material.consumed": _consumed,
    "stop.ended": _stopped,
    "quality.result": _measured,
    "quality.cancelled": _cancelled,
    "promise.changed": _promised,
}
