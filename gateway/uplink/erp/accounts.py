"""The accounts of one ERP: filled from the journal, kept in it, and asked what is to be posted next."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.seams import BookingStatus, Waiting
from gateway.supervise import Backoff
from gateway.uplink.erp import fold as folding
from gateway.uplink.erp.account import Account, Step, dump, load
from gateway.uplink.erp.port import Standing

GIVEN_UP = timedelta(days=30)
"""After so long nobody will settle what waits of an order that is over and that the ERP does not list any more."""
KEPT = timedelta(days=7)
"""How long a settled account stays after its last event: late facts (scrap found by the customer's check) still find it."""
RETRY_S = (0.5, 60.0)
"""First and longest pause after RETRY."""
BLOCKED_S = (5.0, 300.0)
"""First and longest pause after BLOCKED: a person acts in minutes, and a question costs the ERP little."""


class AccountJournal(Protocol):
    """Where accounts become durable (`outbox.recorder.Recorder`)."""

    def record_account(self, uplink: str, job_order_id: str, body: bytes | None) -> None: ...

    async def committed(self) -> None: ...


AccountReader = Callable[[str], Awaitable[Mapping[str, bytes]]]
"""The accounts of an uplink as they are on disk (`outbox.store.Store.erp_accounts`)."""


@dataclass
class _Pace:
    """When a step may be tried (monotonic), and the back-offs behind that; forgotten at the end of the process."""

    not_before: dict[Step, float] = field(default_factory=dict)
    backoffs: dict[tuple[Step, Standing], Backoff] = field(default_factory=dict)


class Accounts:
    """One for the life of the process. `report_every_s`: the totals of a running order are posted no more often.

    `dry_run`: what is posted is remembered as long as the process lives and stays owed.
    """

    def __init__(self, uplink: str, journal: AccountJournal, clock: Clock, *, report_every_s: float, dry_run: bool = False) -> None:
        self._uplink = uplink
        self._journal = journal
        self._clock = clock
        self._report_every_s = report_every_s
        self._epoch = ""
        self._by_order: dict[str, Account] = {}
        self._owing: dict[str, None] = {}
        """Orders with something to post, the one tried last at the end."""
        self._waiting: dict[str, None] = {}
        """Orders of which something is blocked, refused or tried again."""
        self._paces: dict[str, _Pace] = {}
        self._logged: dict[str, dict[Step, str]] | None = {} if dry_run else None

    def load(self, rows: Mapping[str, bytes], epoch: str) -> None:
        """`epoch`: that of the journal now. One that is new means a damaged or a restored journal, perhaps older than what was told."""
        self._epoch = epoch
        self._by_order = {name: load(name, body) for name, body in rows.items()}
        for name, account in self._by_order.items():
            account.is_forgotten |= account.epoch not in ("", epoch) and account.started_at is not None
            account.epoch = epoch
            self._note(name)

    def get(self, job_order_id: str) -> Account | None:
        return self._by_order.get(job_order_id)

    def all(self) -> Iterable[Account]:
        return self._by_order.values()

    # --- in: orders and rows -------------------------------------------------------------------------------------------

    def open(self, key: str, job_order_id: str, work_unit: str, note: str, *, is_forgotten: bool = False) -> Account:
        """A new order of the ERP. One of the same name that never began here gives its place up."""
        before = self._by_order.get(job_order_id)
        # Rows of the one before do not belong to this one, even when they come again.
        position = before.position if before is not None else 0
        account = self._by_order[job_order_id] = Account(
            key, job_order_id, work_unit, position, note=note, epoch=self._epoch, is_forgotten=is_forgotten
        )
        self._paces.pop(job_order_id, None)
        self.save(account)
        return account

    def revised(self, account: Account, work_unit: str, note: str) -> None:
        """The order has changed in the ERP: whatever waited there is asked again at once."""
        account.work_unit, account.note = work_unit, _merged(account.note, note)
        account.ask_again()
        self._paces.pop(account.job_order_id, None)
        self.save(account)

    def take(self, batch: Sequence[Entry]) -> list[Account]:
        """Fold rows in; -> the accounts that changed. They are recorded before this returns."""
        changed: dict[str, Account] = {}
        for entry in batch:
            account = self._by_order.get(entry.job_order_id) if entry.job_order_id is not None else None
            if account is not None and folding.fold(account, entry):
                changed[account.job_order_id] = account
        for account in changed.values():
            self.save(account)
        return list(changed.values())

    def save(self, account: Account) -> None:
        account.drop_stale_waits()
        self._journal.record_account(self._uplink, account.job_order_id, dump(account))
        self._note(account.job_order_id)

    def _note(self, name: str) -> None:
        account = self._by_order[name]
        for names, belongs in ((self._owing, bool(self._owed(account))), (self._waiting, bool(account.waits))):
            if belongs:
                names.setdefault(name)
            else:
                names.pop(name, None)

    def _owed(self, account: Account) -> list[Step]:
        logged = self._logged.get(account.job_order_id) if self._logged is not None else None
        return account.owed(None if logged is None else account.booked | logged)

    def status(self) -> BookingStatus:
        """How the orders stand; costs as much as there is unbooked, however long the history."""
        waiting = tuple(
            Waiting(name, step.value, wait.standing.value, wait.words, wait.since)
            for name in self._waiting
            for step, wait in self._by_order[name].waits.items()
        )
        counts = dict.fromkeys(("owed", *(standing.value for standing in Standing)), 0)
        open_ones = self._owing.keys() | self._waiting.keys() | (self._logged or {}).keys()
        for name in open_ones:
            standing = self._by_order[name].standing()
            counts[standing.value if standing is not None else "owed"] += 1
        counts[Standing.BOOKED.value] += len(self._by_order) - len(open_ones)
        return BookingStatus(counts, waiting)

    # --- out: what to post ---------------------------------------------------------------------------------------------

    def next(self, now: float) -> tuple[Account, Step] | float | None:
        """The step to post now, else when there will be one (monotonic; None: nothing is owed)."""
        soonest: float | None = None
        for name in self._owing:
            account = self._by_order[name]
            for step in self._owed(account):
                at = self._due(account, step)
                if at <= now:
                    # Each order has its turn.
                    del self._owing[name]
                    self._owing[name] = None
                    return account, step
                soonest = at if soonest is None else min(soonest, at)
        return soonest

    def _due(self, account: Account, step: Step) -> float:
        pace = self._paces.get(account.job_order_id)
        if pace is None:
            return 0.0
        due = pace.not_before.get(step, 0.0)
        # `report_every` is for running orders: the last totals of one that is over are told at once.
        is_paced = step is Step.TOTALS and step not in account.waits
        return 0.0 if is_paced and account.is_over else due

    def logged(self, account: Account, step: Step, wish: str) -> None:
        """The posting was written down in place of being sent."""
        assert self._logged is not None
        self._logged.setdefault(account.job_order_id, {})[step] = wish
        self._paced(account.job_order_id, step)
        self._note(account.job_order_id)

    def _paced(self, name: str, step: Step) -> None:
        if step is Step.TOTALS:
            self._paces.setdefault(name, _Pace()).not_before[step] = self._clock.monotonic() + self._report_every_s

    def booked(self, account: Account, step: Step) -> None:
        pace = self._paces.setdefault(account.job_order_id, _Pace())
        pace.not_before.pop(step, None)
        for standing in Standing:
            pace.backoffs.pop((step, standing), None)
        self._paced(account.job_order_id, step)
        self.save(account)

    def put_off(self, account: Account, step: Step, standing: Standing) -> None:
        """It was not booked: when it is tried again."""
        pace = self._paces.setdefault(account.job_order_id, _Pace())
        backoff = pace.backoffs.get((step, standing))
        if backoff is None:
            first, longest = RETRY_S if standing is Standing.RETRY else BLOCKED_S
            backoff = pace.backoffs[step, standing] = Backoff(first, longest)
        # Full jitter, but for a floor that keeps it from becoming a tight loop.
        pace.not_before[step] = self._clock.monotonic() + max(backoff.next_delay(), backoff.base_s / 2)
        self.save(account)

    def try_all(self) -> None:
        """A new connection: whatever waited may be possible now."""
        for name, pace in self._paces.items():
            for step in self._by_order[name].waits:
                pace.not_before.pop(step, None)

    def prune(self, now: datetime, looked_after: Iterable[str]) -> list[Account]:
        """Forget what has been settled for `KEPT`, and what was never settled for `GIVEN_UP`, but for the orders that the ERP still
        lists; -> those."""
        stay = set(looked_after)
        old = [a for a in self._by_order.values() if a.job_order_id not in stay and _is_old(a, now)]
        for account in old:
            name = account.job_order_id
            del self._by_order[name]
            for names in (self._owing, self._waiting, self._paces, self._logged or {}):
                names.pop(name, None)
            self._journal.record_account(self._uplink, name, None)
        return old


def _is_old(account: Account, now: datetime) -> bool:
    if account.changed_at is None or not account.is_over:
        return False
    return now - account.changed_at >= (KEPT if account.is_settled else GIVEN_UP)


def _merged(before: str, now: str) -> str:
    return json.dumps(json.loads(before) | json.loads(now), ensure_ascii=False) if before and now else now or before
