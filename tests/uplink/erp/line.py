"""A line and a journal in memory: commands come in, ledger rows go out, and a restart keeps no more than a kill would leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson

from gateway.domain.cloud_event import cloud_event, encode
from gateway.domain.entry import Entry
from gateway.domain.events import (
    Event,
    JobChanged,
    JobProgress,
    MaterialConsumed,
    PromiseChanged,
    QualityCancelled,
    QualityResult,
    StopEnded,
)
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import Answer, JobCommand, JobOrder, JobState, Problem, Verb
from gateway.domain.ledger import Ledger
from gateway.domain.problems import return_status
from tests.uplink.doubles import EPOCH, GATEWAY, MemoryJournal

UNITS = ("press-07", "press-08")
_ZERO = Decimal(0)


@dataclass
class Disk:
    """What a kill leaves. Commands, their rows and the order cursor are there together; accounts and the delivery cursor wait for the
    next commit, as they do in the recorder."""

    accounts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    order_cursors: dict[str, str] = field(default_factory=dict)
    position: int = 0


class Journal(MemoryJournal):
    """Recorder and store at once, for one uplink. Rows are durable when they are recorded."""

    def __init__(self, disk: Disk, rows: Sequence[Entry] = ()) -> None:
        super().__init__(rows, cursor=disk.position)
        self.disk = disk
        self._accounts: dict[tuple[str, str], bytes | None] = {}
        self._order_cursors: dict[str, str] = {}

    def tell(self, event: Event) -> None:
        position = len(self.rows) + 1
        body = encode(cloud_event(event, gateway_id=GATEWAY, epoch=EPOCH, sequence=position, source=f"/acme/lyon/{event.work_unit}"))
        id_ = f"{GATEWAY}:{EPOCH}:{position}"
        self.append(Entry(position, EPOCH, position, id_, event.work_unit, event.type, event.job_order_id, event.at, body))

    def record_account(self, uplink: str, job_order_id: str, body: bytes | None) -> None:
        self._accounts[uplink, job_order_id] = body

    def record_order_cursor(self, uplink: str, cursor: str) -> None:
        self._order_cursors[uplink] = cursor

    async def committed(self) -> None:
        await asyncio.sleep(0)
        self.commit()

    def commit(self) -> None:
        self.disk.position = self.position
        self.disk.order_cursors.update(self._order_cursors)
        for key, body in self._accounts.items():
            if body is None:
                self.disk.accounts.pop(key, None)
            else:
                self.disk.accounts[key] = body
        self._accounts.clear()
        self._order_cursors.clear()

    async def erp_accounts(self, uplink: str) -> Mapping[str, bytes]:
        return {name: body for (of, name), body in self.disk.accounts.items() if of == uplink}

    async def order_cursor(self, uplink: str) -> str | None:
        return self.disk.order_cursors.get(uplink)


@dataclass
class Made:
    """What a job of this line has come to: the press's own counters."""

    work_unit: str
    good: Decimal = _ZERO
    scrap: Decimal = _ZERO
    consumed: dict[str, Decimal] = field(default_factory=dict)
    run_s: float = 0.0
    stops: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)


class Line:
    """The ledgers of `UNITS` with a clock of their own: every happening is a second after the one before."""

    def __init__(self, journal: Journal, *, start: datetime = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)) -> None:
        self.journal = journal
        self.at = start
        self.made: dict[str, Made] = {}
        self.commands: list[JobCommand] = []
        self.refused: list[Answer] = []
        self.refuse_updates: str | None = None
        """Why no order may be changed now."""
        self._ledgers = {unit: Ledger(unit) for unit in UNITS}
        self._answers: dict[str, Answer] = {}

    # --- LineView and the intake ---------------------------------------------------------------------------------------

    def job(self, work_unit: str, job_order_id: str) -> tuple[JobState, JobOrder] | None:
        job = self._ledgers[work_unit].get(job_order_id) if work_unit in self._ledgers else None
        return (job.state, job.order) if job is not None else None

    def is_idle(self, work_unit: str) -> bool:
        return work_unit not in self._ledgers or self._ledgers[work_unit].running is None

    def has_room(self, work_unit: str) -> bool:
        return True

    async def on_orders(
        self, items: Sequence[Inbound], *, uplink: str, cursor: str | Callable[[Sequence[Answer]], str | None] | None
    ) -> list[Answer]:
        answers = [self._answer(item) for item in items]
        moved = cursor(answers) if callable(cursor) else cursor
        if moved is not None:
            self.journal.record_order_cursor(uplink, moved)
        await self.journal.committed()
        return answers

    def _answer(self, item: Inbound) -> Answer:
        if isinstance(item, Refusal):
            return Answer(item.command_id, item.return_status, None, item.problem)
        assert isinstance(item, JobCommand)
        known = self._answers.get(item.command_id)
        if known is not None:
            return known
        if item.work_unit not in self._ledgers:
            problem = Problem("unknown_work_unit", f"this gateway has no work unit {item.work_unit}")
            answer = Answer(item.command_id, return_status(problem.code), None, problem)
        elif item.command is Verb.UPDATE and self.refuse_updates is not None:
            problem = Problem("quantity_below_made", self.refuse_updates)
            answer = Answer(item.command_id, return_status(problem.code), None, problem)
        else:
            outcome = self._ledgers[item.work_unit].apply(item, self.at)
            answer = outcome.answer
            for step in outcome.transitions:
                self._tell_state(item.work_unit, step.job_order_id, step.state, step.previous, step.command_id)
        self._answers[item.command_id] = answer
        if answer.accepted:
            self.commands.append(item)
        else:
            self.refused.append(answer)
        return answer

    # --- what the machine does -----------------------------------------------------------------------------------------

    def state(self, job_order_id: str) -> JobState | None:
        found = [job for unit in UNITS if (job := self.job(unit, job_order_id)) is not None]
        return found[0][0] if found else None

    def unit_of(self, job_order_id: str) -> str:
        return next(unit for unit in UNITS if self.job(unit, job_order_id) is not None)

    def make(self, job_order_id: str, good: int, scrap: int = 0) -> None:
        """Pieces, with the material they took; a negative number takes some back."""
        made = self._made(job_order_id)
        made.good += good
        made.scrap += scrap
        made.run_s += 10.0 * (good + scrap)
        self.pass_()
        for material, per in (("steel", Decimal("0.35")), ("oil", Decimal("0.001"))):
            taken = per * (good + scrap)
            if taken:
                made.consumed[material] = made.consumed.get(material, _ZERO) + taken
                self._record(
                    MaterialConsumed(
                        work_unit=made.work_unit, at=self.at, job_order_id=job_order_id, material_id=material, lot_id="L1", use="Consumed",
                        quantity=taken, total=made.consumed[material], unit="KGM", mode="backflush",
                    )
                )  # fmt: skip
        self._progress(job_order_id, good, scrap)

    def scrap_later(self, job_order_id: str, pieces: int) -> None:
        """Good pieces turn out to be scrap."""
        made = self._made(job_order_id)
        made.good -= pieces
        made.scrap += pieces
        self.pass_()
        self._progress(job_order_id, -pieces, pieces)

    def give_back(self, job_order_id: str, material: str, quantity: Decimal) -> None:
        made = self._made(job_order_id)
        made.consumed[material] -= quantity
        self.pass_()
        self._record(
            MaterialConsumed(
                work_unit=made.work_unit, at=self.at, job_order_id=job_order_id, material_id=material, lot_id="L1", use="Consumed",
                quantity=-quantity, total=made.consumed[material], unit="KGM", mode="declared",
            )
        )  # fmt: skip

    def stop(
        self, job_order_id: str, *, stop_id: str | None = None, revision: int = 1, reason: str | None = None, class_: str = "stop"
    ) -> str:
        made = self._made(job_order_id)
        self.pass_(60)
        name = stop_id or f"{made.work_unit}/{self.at.isoformat()}"
        start, end = self.at - timedelta(seconds=60), self.at
        made.stops[name] = made.stops.get(name, (start, end))
        self._record(
            StopEnded(
                work_unit=made.work_unit, at=self.at, job_order_id=job_order_id, stop_id=name, revision=revision, class_=class_,
                from_=made.stops[name][0], to=made.stops[name][1], duration_s=60.0, reason=reason, reason_class=None, fault=None,
                induced=False,
            )
        )  # fmt: skip
        return name

    def measure(self, job_order_id: str, value: Decimal, *, passed: bool = True) -> None:
        made = self._made(job_order_id)
        self.pass_()
        self._record(
            QualityResult(
                work_unit=made.work_unit, at=self.at, job_order_id=job_order_id, characteristic="diameter", value=value, unit="MMT",
                lower=Decimal("19.9"), target=Decimal(20), upper=Decimal("20.1"), result="Pass" if passed else "Fail", required_by=None,
                lot_id=None, measured_at=self.at,
            )
        )  # fmt: skip
        made.results.append(self.journal.rows[-1].id)

    def promise(self, job_order_id: str, verdict: str) -> None:
        self.pass_()
        eta = self.at + timedelta(hours=2)
        self._record(
            PromiseChanged(
                work_unit=self.unit_of(job_order_id), at=self.at, job_order_id=job_order_id, eta_likely=eta, eta_safe=eta,
                verdict=verdict, previous=None, basis="observed",
            )
        )  # fmt: skip

    def do(self, verb: Verb, job_order_id: str) -> Answer:
        """An operator's or another system's command."""
        self.pass_()
        unit = self.unit_of(job_order_id)
        return self._answer(JobCommand(verb, f"op-{len(self._answers)}", JobOrder(job_order_id), self.at, unit))

    def store(self, job_order: JobOrder, work_unit: str, *, start: bool = True) -> Answer:
        """An order that came another way."""
        verb = Verb.STORE_AND_START if start else Verb.STORE
        return self._answer(JobCommand(verb, f"mes-{len(self._answers)}", job_order, self.at, work_unit))

    def cancel_result(self, job_order_id: str, value: Decimal) -> None:
        """The latest result of this value does not count."""
        told = [orjson.loads(row.body) for row in self.journal.rows if row.type == "quality.result"]
        meant = next(event for event in reversed(told) if Decimal(str(event["data"]["value"])) == value)
        self.pass_()
        self._record(
            QualityCancelled(
                work_unit=self.unit_of(job_order_id), at=self.at, job_order_id=job_order_id, characteristic="diameter", value=value,
                result=meant["data"]["result"], measured_at=datetime.fromisoformat(meant["data"]["measured_at"]), product_lot_id=None,
                by=None,
            )
        )  # fmt: skip
        self._made(job_order_id).results.remove(meant["id"])

    def forget(self, job_order_id: str) -> None:
        """The ledger keeps so many ended jobs and no more."""
        unit = self.unit_of(job_order_id)
        self._ledgers[unit].apply(JobCommand(Verb.CLEAR, "clear", JobOrder(job_order_id), self.at, unit), self.at)

    # --- rows ----------------------------------------------------------------------------------------------------------

    def _made(self, job_order_id: str) -> Made:
        return self.made.setdefault(job_order_id, Made(self.unit_of(job_order_id)))

    def pass_(self, seconds: float = 1.0) -> None:
        self.at += timedelta(seconds=seconds)

    def _progress(self, job_order_id: str, good: int, scrap: int) -> None:
        made = self.made[job_order_id]
        state = self.state(job_order_id)
        self._record(
            JobProgress(
                work_unit=made.work_unit, at=self.at, job_order_id=job_order_id, produced=made.good + made.scrap, good=made.good,
                scrap=made.scrap, rework=_ZERO, target=None, unit="C62",
                delta={"produced": Decimal(good + scrap), "good": Decimal(good), "scrap": Decimal(scrap), "rework": _ZERO},
                run_s=made.run_s, setup_s=0.0, stop_s=60.0 * len(made.stops), shift=None, shift_date=None,
                final=state in (JobState.ENDED, JobState.ABORTED), properties={}, order_id=None, operation_id=None, lot_id=None,
            )
        )  # fmt: skip

    def _tell_state(self, unit: str, job: str, state: JobState, previous: JobState | None, command_id: str | None) -> None:
        if previous is None:
            self.made.pop(job, None)
        self._record(
            JobChanged(
                work_unit=unit, at=self.at, job_order_id=job, state=state.value, previous=previous.value if previous else None,
                command_id=command_id, problem=None,
            )
        )  # fmt: skip

    def _record(self, event: Event) -> None:
        self.journal.tell(event)

    # --- a kill --------------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """The gateway was killed: what the uplink recorded since the last commit is lost, what the machine made is not."""
        self.journal = Journal(self.journal.disk, self.journal.rows)


def order(job_order_id: str, quantity: int = 100, **changes: object) -> JobOrder:
    return replace(JobOrder(job_order_id, product_id="PF-100", quantity=Decimal(quantity)), **changes)  # type: ignore[arg-type]
