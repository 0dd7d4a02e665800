"""One account per job order of an ERP: what the ledger says of it, what the ERP has confirmed, and what stands in between.

Pure. It is kept in the journal as JSON (`dump`, `load`): quantities as text, times as whole microseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import orjson

from gateway.domain.instants import instant, moment
from gateway.domain.job_order import JobState
from gateway.uplink.erp.port import Consumption, Measurement, PromisedDate, Standing, Stop, Totals

STOPS_KEPT = 200
"""Booked stops that stay in the totals, so that a later revision is seen; older ones stand in the ERP and are told no more."""
RESULTS_KEPT = 200
"""Booked results that stay, so that a cancellation finds the one it means."""
_OVER = (JobState.ENDED, JobState.ABORTED)


class Step(StrEnum):
    """What is posted for an order, in this order."""

    START = "start"
    QUALITY = "quality"
    TOTALS = "totals"
    CLOSE = "close"
    PROMISE = "promise"


_BEFORE = {
    Step.QUALITY: (Step.START,), Step.TOTALS: (Step.START,), Step.CLOSE: (Step.START, Step.QUALITY, Step.TOTALS),
}  # fmt: skip
"""What has to be booked before a step can be."""


@dataclass(frozen=True)
class Wait:
    """Why a step is not booked: the ERP's `words`, `since` when (aware UTC), and the wish (`Account.wish`) that it was about."""

    standing: Standing
    words: str
    since: datetime
    wish: str


@dataclass
class Account:
    """`key` is the ERP's identity of the order. `position`: the rows of the journal up to there are in it, as far as they concern it.

    `is_succeeded`: another job took the name on the line; nothing of that one belongs here. `memo` and `note` are the adapter's.
    `epoch`: that of the journal in which it was kept last. `is_forgotten`: that journal was damaged or restored after the order had begun;
    the ERP may hold more than is known here.
    `booked`: step -> the wish that the ERP has confirmed. `booked_good`, `booked_scrap`: what it confirmed last, for people.
    """

    key: str
    job_order_id: str
    work_unit: str
    position: int = 0
    state: JobState | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    changed_at: datetime | None = None
    is_succeeded: bool = False
    at: datetime | None = None
    good: Decimal = Decimal(0)
    scrap: Decimal = Decimal(0)
    rework: Decimal = Decimal(0)
    unit: str = "C62"
    run_s: float = 0.0
    setup_s: float = 0.0
    stop_s: float = 0.0
    consumption: dict[tuple[str, str | None, str, str], Decimal] = field(default_factory=dict)
    """(material, lot, use, unit) -> all that was taken."""
    stops: dict[str, tuple[int, Stop]] = field(default_factory=dict)
    """stop_id -> its revision and the stop."""
    results: dict[str, Measurement] = field(default_factory=dict)
    """Not booked yet, in the order in which they came."""
    booked_results: dict[str, Measurement] = field(default_factory=dict)
    results_dropped: int = 0
    """Results that will not be booked: too many waited."""
    promise: PromisedDate | None = None
    memo: str | None = None
    note: str = ""
    epoch: str = ""
    is_forgotten: bool = False
    booked: dict[Step, str] = field(default_factory=dict)
    booked_good: Decimal = Decimal(0)
    booked_scrap: Decimal = Decimal(0)
    waits: dict[Step, Wait] = field(default_factory=dict)
    _print: str | None = field(default=None, repr=False, compare=False)

    # --- what is true ------------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return self.state in _OVER

    def totals(self) -> Totals:
        """As they stand; without any news of production yet, zero at the order's own times."""
        at = self.at or self.ended_at or self.started_at or self.changed_at
        if at is None:
            raise ValueError(f"nothing is known of {self.job_order_id} yet")
        taken = sorted(self.consumption.items(), key=lambda row: tuple(part or "" for part in row[0]))
        return Totals(
            at=at, good=self.good, scrap=self.scrap, rework=self.rework, unit=self.unit,
            consumption=tuple(Consumption(material, lot, use, quantity, unit) for (material, lot, use, unit), quantity in taken),
            run_s=self.run_s, setup_s=self.setup_s, stop_s=self.stop_s, stops=tuple(stop for _, stop in self.stops.values()),
        )  # fmt: skip

    def touched(self) -> None:
        """Something of the totals changed."""
        self._print = None

    def totals_print(self) -> str:
        """The same for the same totals, whenever they were so."""
        if self._print is None:
            taken = sorted(self.consumption.items(), key=lambda row: tuple(part or "" for part in row[0]))
            self._print = _print(
                [
                    [str(self.good), str(self.scrap), str(self.rework), self.unit, self.run_s, self.setup_s, self.stop_s],
                    [[*key, str(quantity.normalize())] for key, quantity in taken],
                    [[*_stop_row(stop)] for _, stop in self.stops.values()],
                ]
            )
        return self._print

    # --- what is owed ------------------------------------------------------------------------------------------------

    def wish(self, step: Step) -> str | None:
        """What should be booked of `step`, None: nothing of the kind."""
        if step is Step.START:
            return "started" if self.started_at is not None else None
        if step is Step.QUALITY:
            return _print([[id_, result.is_cancelled] for id_, result in self.results.items()]) if self.results else None
        if step is Step.TOTALS:
            return self.totals_print() if self.at is not None else None
        if step is Step.CLOSE:
            return "ended" if self.state is JobState.ENDED and self.started_at is not None else None
        return _print([*_promise_row(self.promise)[1:]]) if self.promise is not None and not self.is_over else None

    def owed(self, booked: Mapping[Step, str] | None = None) -> list[Step]:
        """What can be posted now, in order. Totals wait for the start, the end for everything before it; what the ERP has refused for
        good is left out until the wish is another. `booked`: in place of what the ERP has confirmed."""
        held = self.booked if booked is None else booked
        wishes = {step: self.wish(step) for step in Step}
        done = {step for step, wish in wishes.items() if wish is None or held.get(step) == wish}
        owed = []
        for step in Step:
            wait = self.waits.get(step)
            if step in done or (wait is not None and wait.standing is Standing.REFUSED and wait.wish == wishes[step]):
                continue
            if done.issuperset(_BEFORE.get(step, ())):
                owed.append(step)
        return owed

    @property
    def is_settled(self) -> bool:
        """Over, with nothing to post any more. One without a row yet is not: its rows are on their way."""
        return self.is_over and not self.owed()

    def standing(self) -> Standing | None:
        """The worst of what waits; None: something is owed and was not tried yet."""
        worst = [s for s in (Standing.BLOCKED, Standing.REFUSED, Standing.RETRY) if any(w.standing is s for w in self.waits.values())]
        return worst[0] if worst else None if self.owed() else Standing.BOOKED

    # --- what the ERP said ---------------------------------------------------------------------------------------------

    def confirm(self, step: Step, wish: str, results: Sequence[Measurement] = (), totals: Totals | None = None) -> None:
        """The ERP holds `wish`: what was sent, while more may have happened since."""
        self.waits.pop(step, None)
        self.booked[step] = wish
        for result in results:
            if self.results.get(result.id) == result:
                del self.results[result.id]
            self.booked_results[result.id] = result
        for id_ in list(self.booked_results)[:-RESULTS_KEPT]:
            del self.booked_results[id_]
        if totals is not None:
            self.booked_good, self.booked_scrap = totals.good, totals.scrap
            if wish == self.totals_print() and len(self.stops) > STOPS_KEPT:
                for stop_id in list(self.stops)[:-STOPS_KEPT]:
                    del self.stops[stop_id]
                self.touched()
                self.booked[step] = self.totals_print()

    def put_off(self, step: Step, wish: str, standing: Standing, words: str, now: datetime) -> bool:
        """It is not booked. True: this is news for people."""
        before = self.waits.get(step)
        same = before is not None and (before.standing, before.words) == (standing, words)
        since = before.since if before is not None and before.standing is standing else now
        self.waits[step] = Wait(standing, words, since, wish)
        return not same

    def drop_stale_waits(self) -> None:
        """What waits and is not owed any more: there is nothing left to book of it, or the ERP holds it by now."""
        for step in list(self.waits):
            wish = self.wish(step)
            if wish is None or self.booked.get(step) == wish:
                del self.waits[step]

    def ask_again(self) -> None:
        """The order has changed in the ERP: what it refused before it may take now."""
        for step in [step for step, wait in self.waits.items() if wait.standing is Standing.REFUSED]:
            del self.waits[step]


# --- on disk -----------------------------------------------------------------------------------------------------------


def _print(value: Any) -> str:
    return hashlib.blake2b(orjson.dumps(value), digest_size=12).hexdigest()


def _time(at: datetime | None) -> int | None:
    return None if at is None else instant(at)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _text(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def _stop_row(stop: Stop) -> list[Any]:
    return [stop.stop_id, instant(stop.start), instant(stop.end), stop.reason, stop.induced]


def _promise_row(promise: PromisedDate) -> list[Any]:
    return [instant(promise.at), _time(promise.eta_likely), _time(promise.eta_safe), promise.verdict, promise.basis]


def _result_row(r: Measurement) -> list[Any]:
    return [
        r.id, instant(r.at), r.characteristic, str(r.value), r.unit, _text(r.lower), _text(r.upper), r.passed, r.lot_id, r.is_cancelled,
    ]  # fmt: skip


def _result(row: list[Any]) -> Measurement:
    id_, at, name, value, unit, lower, upper, passed, lot_id, is_cancelled = row
    return Measurement(id_, moment(at), name, Decimal(value), unit, _number(lower), _number(upper), passed, lot_id, is_cancelled)


def dump(account: Account) -> bytes:
    """For the journal."""
    a = account
    return orjson.dumps(
        {
            "v": 1, "key": a.key, "work_unit": a.work_unit, "position": a.position, "state": a.state and a.state.value,
            "started": _time(a.started_at), "ended": _time(a.ended_at), "changed": _time(a.changed_at), "succeeded": a.is_succeeded,
            "at": _time(a.at), "made": [str(a.good), str(a.scrap), str(a.rework), a.unit], "times": [a.run_s, a.setup_s, a.stop_s],
            "consumption": [[*key, str(quantity)] for key, quantity in a.consumption.items()],
            "stops": [[revision, *_stop_row(stop)] for revision, stop in a.stops.values()],
            "results": [_result_row(r) for r in a.results.values()],
            "booked_results": [_result_row(r) for r in a.booked_results.values()],
            "promise": _promise_row(a.promise) if a.promise is not None else None,
            "memo": a.memo, "note": a.note, "epoch": a.epoch, "forgotten": a.is_forgotten, "dropped": a.results_dropped,
            "booked": {step.value: wish for step, wish in a.booked.items()},
            "booked_made": [str(a.booked_good), str(a.booked_scrap)],
            "waits": {step.value: [w.standing, w.words, instant(w.since), w.wish] for step, w in a.waits.items()},
        }
    )  # fmt: skip


def load(job_order_id: str, body: bytes) -> Account:
    """What `dump` wrote."""
    s = orjson.loads(body)
    good, scrap, rework, unit = s["made"]
    run_s, setup_s, stop_s = s["times"]
    p = s["promise"]
    booked_good, booked_scrap = s["booked_made"]
    stops = [
        (revision, Stop(id_, moment(start), moment(end), reason, induced)) for revision, id_, start, end, reason, induced in s["stops"]
    ]
    return Account(
        key=s["key"], job_order_id=job_order_id, work_unit=s["work_unit"], position=s["position"],
        state=JobState(s["state"]) if s["state"] else None, started_at=_moment(s["started"]), ended_at=_moment(s["ended"]),
        changed_at=_moment(s["changed"]), is_succeeded=s["succeeded"], at=_moment(s["at"]),
        good=Decimal(good), scrap=Decimal(scrap), rework=Decimal(rework), unit=unit, run_s=run_s, setup_s=setup_s, stop_s=stop_s,
        consumption={(material, lot, use, per): Decimal(quantity) for material, lot, use, per, quantity in s["consumption"]},
        stops={stop.stop_id: (revision, stop) for revision, stop in stops},
        results={row[0]: _result(row) for row in s["results"]}, booked_results={row[0]: _result(row) for row in s["booked_results"]},
        promise=PromisedDate(moment(p[0]), _moment(p[1]), _moment(p[2]), p[3], p[4]) if p is not None else None,
        memo=s["memo"], note=s["note"], epoch=s.get("epoch", ""), is_forgotten=s.get("forgotten", False),
        results_dropped=s.get("dropped", 0), booked={Step(step): wish for step, wish in s["booked"].items()},
        booked_good=Decimal(booked_good), booked_scrap=Decimal(booked_scrap),
        waits={Step(step): Wait(Standing(st), words, moment(since), wish) for step, (st, words, since, wish) in s["waits"].items()},
    )  # fmt: skip
