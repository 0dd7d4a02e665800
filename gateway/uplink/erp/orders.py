"""Which orders of an ERP the line has taken, and what one look at the ERP's list changes about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from gateway.domain.job_order import Answer, JobCommand, JobState
from gateway.uplink.erp.planning import Asking, Decision, Job, Known, content, decide, digest, vanished
from gateway.uplink.erp.port import Listing, Plan, PlanState
from gateway.uplink.fields import MAX_ORDER_ID

REFUSED_KEPT = 100
"""Refused orders of an ERP that never says what it still has: the latest stay, so that one that comes again is no news."""
MISSING_LISTINGS = 3
"""An order is believed to be gone when so many whole listings in a row lack it: one answer with too little in it cancels nothing."""
_GONE = (PlanState.CANCELLED, PlanState.CLOSED)
_OVER = (JobState.ENDED, JobState.ABORTED)
_RACED = frozenset({"invalid_state", "unknown_order", "other_order_running"})
"""The job went on between the look at it and the command: the next look finds the right verb."""


class OtherErp(Exception):
    """The orders are those of an ERP of another type, which had this name before."""


@dataclass(frozen=True)
class News:
    """What people should hear. `kind`: a planner's act (`planning.Decision.act`), `refused` or `impossible`."""

    kind: str
    key: str
    job_order_id: str
    work_unit: str
    detail: str = ""


@dataclass
class Settled:
    """What a listing came to. `taken`: new orders of this ERP. `revised`: orders whose plan has changed. `answers` for `ErpPort.taken`.
    `dropped`: names of job orders whose plans are looked after no longer."""

    news: list[News] = field(default_factory=list)
    taken: list[tuple[str, Known]] = field(default_factory=list)
    revised: list[tuple[str, Known]] = field(default_factory=list)
    answers: dict[str, str | None] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    has_changed: bool = False


@dataclass(frozen=True)
class _Item:
    key: str
    plan: Plan | None
    """None: it has vanished."""
    decision: Decision
    known: Known | None
    """What was taken of it before; None: it is new."""


@dataclass(frozen=True)
class LookedAt:
    """A listing, judged: `commands` are to be answered, then `OrderBook.settle` takes the answers."""

    listed: Mapping[str, Plan]
    items: Sequence[_Item]
    missing: Sequence[str]

    @property
    def has_news(self) -> bool:
        return bool(self.items)

    @property
    def commands(self) -> list[JobCommand]:
        return [command for item in self.items for command in item.decision.commands]


JobOf = Callable[[str, str, str], Job]
"""(key, job_order_id, work_unit) -> what the line knows of it."""


class OrderBook:
    """The orders of one ERP by the ERP's key. It is kept as the uplink's order cursor, in the transaction of the commands it led to.

    `owner_of(job_order_id, key)`: the key to which that name belongs already, None: it is free for `key`.
    """

    def __init__(self, uplink: str, kind: str, *, job_of: JobOf, owner_of: Callable[[str, str], str | None]) -> None:
        """`kind`: the ERP's `type` in the configuration, whose keys these are."""
        self._uplink = uplink
        self._kind = kind
        self._job_of = job_of
        self._owner_of = owner_of
        self._raced: set[str] = set()
        self.known: dict[str, Known] = {}

    def load(self, cursor: str | None) -> None:
        """What `dump` wrote. Raises OtherErp."""
        kind, known = _loaded(cursor)
        if kind not in (None, self._kind):
            raise OtherErp(kind)
        self.known = known

    def dump(self) -> str:
        rows = {
            key: [k.job_order_id, k.work_unit, k.revision, k.state, k.digest, k.refused, k.missing] for key, k in self.known.items()
        }  # fmt: skip
        return orjson.dumps({"v": 1, "type": self._kind, "orders": rows}).decode()

    def revisions(self) -> dict[str, str]:
        return {key: known.revision for key, known in self.known.items()}

    def look(self, listing: Listing, asking: Asking) -> LookedAt:
        """What `listing` asks of the line; nothing is changed before it is `settle`d."""
        items, names = [], dict[str, str]()
        listed = {plan.key: plan for plan in listing.plans}
        for key, plan in listed.items():
            known = self.known.get(key)
            if known is None or _differs(plan, known):
                taken = self._taken(plan)
                items.append(_Item(key, plan, self._decide(plan, taken, asking, names), taken))
        missing = []
        if listing.is_complete:
            for key, known in self.known.items():
                if key in listed:
                    continue
                missing.append(key)
                if known.missing + 1 >= MISSING_LISTINGS:
                    job = self._job_of(key, known.job_order_id, known.work_unit)
                    gone = Decision() if known.refused is not None else vanished(key, known, job, asking)
                    items.append(_Item(key, None, gone, known))
        return LookedAt(listed, items, missing)

    def _taken(self, plan: Plan) -> Known | None:
        """What was taken of the plan; one that was given up and whose job is still open on the line is taken up again as it stands."""
        known = self.known.get(plan.key)
        if known is not None:
            return known if known.refused is None else None
        name = plan.job_order.job_order_id
        if self._owner_of(name, plan.key) != plan.key:
            return None
        state = self._job_of(plan.key, name, plan.work_unit).state
        if state is None or state in _OVER:
            return None
        before = PlanState.FORECAST if state is JobState.NOT_ALLOWED_TO_START else PlanState.RELEASED
        return Known(name, plan.work_unit, "", before, "")

    def _decide(self, plan: Plan, known: Known | None, asking: Asking, names: dict[str, str]) -> Decision:
        if known is not None:
            return decide(plan, known, self._job_of(plan.key, known.job_order_id, known.work_unit), asking)
        name = plan.job_order.job_order_id
        job = self._job_of(plan.key, name, plan.work_unit)
        if not 0 < len(name) <= MAX_ORDER_ID or not name.isprintable():
            return Decision(refused=f"its name must be of 1 to {MAX_ORDER_ID} printable characters")
        owner = self._owner_of(name, plan.key) or names.setdefault(name, plan.key)
        if owner and owner != plan.key and plan.state not in _GONE:
            return Decision(refused=f"the ERP has another order of the name {name} (its id is {owner})")
        if job.state in _OVER and plan.state not in _GONE:
            # It was closed, and the planner opened it again: what is done is not done twice.
            return Decision(act="reopened", refused=f"the line has finished {name} already")
        return decide(plan, None, job, asking)

    # --- once it is answered -------------------------------------------------------------------------------------------

    def settle(self, looked: LookedAt, answers: Sequence[Answer]) -> Settled:
        """`answers` to `looked.commands`, in their order."""
        outcome = Settled()
        rest = list(answers)
        for key in looked.missing:
            known = self.known[key]
            # It counts up to the point at which it is believed; a cursor is not written for that alone.
            self.known[key] = replace(known, missing=min(known.missing + 1, MISSING_LISTINGS))
        for item in looked.items:
            own, rest = rest[: len(item.decision.commands)], rest[len(item.decision.commands) :]
            self._settle(item, own, outcome)
        for key, plan in looked.listed.items():
            seen = self.known.get(key)
            if seen is not None and seen.missing:
                self.known[key] = replace(seen, missing=0)
            if key not in outcome.answers and seen is not None and not _differs(plan, seen):
                outcome.answers[key] = seen.refused
        return outcome

    def _settle(self, item: _Item, answers: Sequence[Answer], outcome: Settled) -> None:
        key, plan, decision = item.key, item.plan, item.decision
        known = item.known
        if decision.postponed or self._has_raced(answers):
            return
        problem = next((answer.problem for answer in answers if answer.problem is not None), None)
        told = problem.text if problem is not None else decision.refused
        if plan is None:
            self._drop(key, outcome)
            if known is not None and decision.act is not None:
                outcome.news.append(News(decision.act, key, known.job_order_id, known.work_unit, told or decision.detail))
            return
        if known is None:
            self._settle_new(plan, bool(answers), decision, told, outcome)
            return
        is_moved = decision.act == "moved" and told is None
        now = Known(
            known.job_order_id, plan.work_unit if is_moved else known.work_unit, plan.revision, plan.state, content(plan, known)
        )  # fmt: skip
        self.known[key] = now
        outcome.has_changed = True
        outcome.revised.append((key, now))
        outcome.answers[key] = told
        if told is not None:
            outcome.news.append(News("impossible", key, now.job_order_id, now.work_unit, told))
        elif decision.act is not None:
            outcome.news.append(News(decision.act, key, now.job_order_id, now.work_unit, decision.detail))
        if plan.state in _GONE:
            self._drop(key, outcome)

    def _settle_new(self, plan: Plan, was_asked: bool, decision: Decision, told: str | None, outcome: Settled) -> None:
        key, name = plan.key, plan.job_order.job_order_id
        outcome.answers[key] = told
        if not was_asked and told is None:
            # Closed, cancelled or withdrawn before it was ever seen here.
            if key in self.known:
                self._drop(key, outcome)
            return
        before = self.known.get(key)
        if before is not None and before.job_order_id != name:
            # It was refused under another name.
            outcome.dropped.append(before.job_order_id)
        known = Known(name, plan.work_unit, plan.revision, plan.state, digest(plan.job_order), refused=told)
        self.known[key] = known
        outcome.has_changed = True
        if told is None:
            outcome.taken.append((key, known))
        else:
            outcome.news.append(News(decision.act or "refused", key, name, plan.work_unit, told))

    def forget(self, keys: Iterable[str]) -> list[str]:
        """Where no listing ever says that an order is gone: leave these out, and the refused ones that are too many; -> the names of all
        that were."""
        refused = [key for key, known in self.known.items() if known.refused is not None]
        gone = [key for key in (*keys, *refused[:-REFUSED_KEPT]) if key in self.known]
        return [self.known.pop(key).job_order_id for key in gone]

    def _has_raced(self, answers: Sequence[Answer]) -> bool:
        """True the first time only, so that no order is asked about for ever."""
        raced = [a for a in answers if a.problem is not None and a.problem.code in _RACED and a.command_id not in self._raced]
        if len(self._raced) > 1000:
            self._raced.clear()
        self._raced.update(answer.command_id for answer in raced if answer.command_id is not None)
        return bool(raced)

    def _drop(self, key: str, outcome: Settled) -> None:
        known = self.known.pop(key, None)
        if known is not None:
            outcome.dropped.append(known.job_order_id)
            outcome.has_changed = True


def _loaded(cursor: str | None) -> tuple[str | None, dict[str, Known]]:
    # A cursor that is no JSON object is that of another kind of uplink, which had this name before.
    found = orjson.loads(cursor) if cursor is not None and cursor.startswith("{") else {"orders": {}}
    rows = found["orders"]
    return found.get("type"), {
        key: Known(j, w, r, PlanState(s), d, refused, missing) for key, (j, w, r, s, d, refused, missing) in rows.items()
    }


def known_revisions(cursor: str | None, kind: str) -> dict[str, str]:
    """Key -> revision of the orders that a gateway with this cursor has taken of an ERP of `kind`, for those who only look
    (`ErpPort.list_orders`)."""
    of, known = _loaded(cursor)
    return {key: each.revision for key, each in known.items()} if of in (None, kind) else {}


def _differs(plan: Plan, known: Known) -> bool:
    return (known.revision, known.state) != (plan.revision, plan.state)
