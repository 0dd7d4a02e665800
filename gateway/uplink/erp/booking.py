"""An ERP behind the port: orders down, totals up, one question at a time; what waits for a person holds up its own order only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import structlog

from drivers.base import Clock
from gateway.domain.entry import Entry
from gateway.domain.events import Text
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import Answer, JobOrder, JobState
from gateway.metrics import Metrics
from gateway.seams import AlertBoard, BookingStatus, Receipt, UplinkError
from gateway.uplink.base import BatchHandler, warn_dry_run, warn_plain_text
from gateway.uplink.erp.account import Account, Step
from gateway.uplink.erp.accounts import AccountJournal, AccountReader, Accounts
from gateway.uplink.erp.orders import News, OrderBook, OtherErp, Settled
from gateway.uplink.erp.planning import Asking, Job
from gateway.uplink.erp.port import ErpOrder, ErpPort, Listing, Measurement, Outcome, Standing, Totals
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.erp.told import Told

T = TypeVar("T")

CALL_S = 60.0
"""A call that lasts longer is given up as if its reply were lost; adapters have shorter bounds of their own."""
CLOSE_S = 1.5
PRUNE_S = 600.0
_RESULTS_AT_ONCE = 50
_OTHER_ERP = Text(
    "Donner un nouveau nom à cette liaison : sous ce nom, le journal garde les ordres d'un ERP d'un autre type.",
    "Give this uplink a new name: under this one the journal keeps the orders of an ERP of another type.",
)


class LineView(Protocol):
    """What the line can say of its jobs, without waiting."""

    def job(self, work_unit: str, job_order_id: str) -> tuple[JobState, JobOrder] | None:
        """State and content as they are in the ledger of the work unit; None: it has none of that name, or there is no such unit."""

    def is_idle(self, work_unit: str) -> bool:
        """No job runs there."""

    def has_room(self, work_unit: str) -> bool:
        """Its queue takes another order."""


@dataclass(frozen=True)
class Wiring:
    """What an ERP is built into: the journal's writer and readers and its epoch, the line, and where people and machines are told."""

    journal: AccountJournal
    accounts: AccountReader
    order_cursor: Callable[[str], Awaitable[str | None]]
    on_orders: BatchHandler
    line: LineView
    alerts: AlertBoard
    clock: Clock
    metrics: Metrics
    epoch: str


class BookingUplink:
    """One ERP (`gateway.seams.Uplink`). Does nothing before `connect`; one object for the life of the process."""

    def __init__(self, name: str, settings: BookingSettings, port: ErpPort, wiring: Wiring) -> None:
        self.name = name
        self._settings = settings
        self._port = port
        self._wiring = wiring
        self._clock = wiring.clock
        self._accounts = Accounts(name, wiring.journal, wiring.clock, report_every_s=settings.report_every, dry_run=settings.dry_run)
        self._orders = OrderBook(name, settings.type, job_of=self._job_of, owner_of=self._owner_of)
        self._told = Told(name, wiring.alerts, wiring.clock)
        self._is_loaded = False
        self._wake = asyncio.Event()
        self._not_before = 0.0
        """Nothing is posted before: the ERP asked for a pause (monotonic)."""
        self._refusals: set[str] = set()
        """Of the last listing, so that each is counted once."""
        self._next_prune = 0.0
        self._log = structlog.get_logger("lineside.erp").bind(uplink=name)

    @property
    def peer(self) -> str:
        return self._port.peer

    def status(self) -> BookingStatus:
        """For page, health topic and metrics."""
        return self._accounts.status()

    # --- the seam ------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        if self._settings.plain_text():
            warn_plain_text(self._wiring.alerts, self.name, self.peer)
        if self._settings.dry_run:
            warn_dry_run(self._wiring.alerts, self.name, self.peer)
        if not self._is_loaded:
            try:
                self._orders.load(await self._wiring.order_cursor(self.name))
            except OtherErp as other:
                text = f"the journal keeps orders of an ERP of `type: {other}` under the name {self.name}"
                raise UplinkError(text, remedy=_OTHER_ERP) from other
            self._accounts.load(await self._wiring.accounts(self.name), self._wiring.epoch)
            for key, known in self._orders.known.items():
                if known.refused is None and self._accounts.get(known.job_order_id) is None:
                    # Its page of the journal was damaged: the adapter asks its ERP what was told, or tells no more.
                    self._accounts.open(key, known.job_order_id, known.work_unit, "", is_forgotten=True)
            self._is_loaded = True
            for key, known in self._orders.known.items():
                if known.refused is not None:
                    self._told.news(News("refused", key, known.job_order_id, known.work_unit, known.refused))
            for account in self._accounts.all():
                self._told.waits(account)
                self._told.dropped(account)
                self._tell_aborted(account)
        await self._call(self._port.connect())

    async def serve(self, heard: Callable[[], None]) -> None:
        self._accounts.try_all()
        self._not_before = next_poll = 0.0
        while True:
            now = self._clock.monotonic()
            if now >= next_poll:
                await self._poll()
                heard()
                next_poll = self._clock.monotonic() + self._settings.interval
                continue
            due = self._next(now)
            if isinstance(due, tuple):
                await self._post(*due)
                heard()
                continue
            await self._idle(next_poll if due is None else min(due, next_poll))

    async def deliver(self, batch: Sequence[Entry]) -> Receipt:
        """Every row is taken; those of this ERP's orders are in their accounts, which are on disk no later than the forwarder's cursor."""
        before = {account.job_order_id: account.results_dropped for account in self._accounts.all()}
        for account in self._accounts.take(batch):
            if dropped := account.results_dropped - before.get(account.job_order_id, 0):
                self._wiring.metrics.erp_bookings.labels(self.name, "dropped").inc(dropped)
                self._told.dropped(account)
            self._tell_aborted(account)
            self._told.waits(account)
            self._wake.set()
        return Receipt(accepted=frozenset(entry.position for entry in batch))

    def _tell_aborted(self, account: Account) -> None:
        self._told.aborted(account, is_open=account.state is JobState.ABORTED and account.key in self._orders.known)

    async def close(self) -> None:
        try:
            async with self._clock.timeout(CLOSE_S):
                await self._port.disconnect()
        except TimeoutError:
            self._log.warning("disconnect_timed_out")

    async def _idle(self, until: float) -> None:
        self._wake.clear()
        try:
            async with self._clock.timeout(max(until - self._clock.monotonic(), 0.001)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            async with self._clock.timeout(CALL_S):
                return await call
        except TimeoutError as error:
            raise UplinkError(f"no answer within {CALL_S:.0f} s", silent=True) from error

    # --- orders down ---------------------------------------------------------------------------------------------------

    def _job_of(self, key: str, job_order_id: str, work_unit: str) -> Job:
        line, account = self._wiring.line, self._accounts.get(job_order_id)
        found = line.job(work_unit, job_order_id)
        state, order = found if found is not None else (None, None)
        if state is None and account is not None and account.key == key and account.is_over and account.started_at is not None:
            # Ended so long ago that the line has forgotten it.
            state = account.state
        return Job(state, order, line.is_idle(work_unit), line.has_room(work_unit))

    def _owner_of(self, job_order_id: str, key: str) -> str | None:
        account = self._accounts.get(job_order_id)
        return None if account is None or (account.key != key and account.is_settled) else account.key

    async def _poll(self) -> None:
        listing = await self._call(self._port.list_orders(self._orders.revisions()))
        asking = Asking(self.name, self._clock.now(), self._settings.priority_order == "lowest_first")
        looked = self._orders.look(listing, asking)
        items: list[Inbound] = [*self._new_refusals(listing), *looked.commands]
        settled = Settled()

        def settle(answers: Sequence[Answer]) -> str | None:
            """In the step in which the commands are recorded: orders, accounts and cursor are one transaction."""
            nonlocal settled
            settled = self._orders.settle(looked, answers[len(items) - len(looked.commands) :])
            self._keep(listing, settled)
            return self._orders.dump() if settled.has_changed else None

        if items:
            await self._wiring.on_orders(items, uplink=self.name, cursor=settle)
        elif looked.has_news:
            await self._wiring.on_orders((), uplink=self.name, cursor=settle)
        else:
            settle(())
        await self._wiring.journal.committed()
        self._tell(listing, settled)
        await self._call(self._port.taken(listing, settled.answers))
        await self._housekeeping(listing)

    def _keep(self, listing: Listing, settled: Settled) -> None:
        notes = {plan.key: plan.note for plan in listing.plans}
        for key, known in settled.taken:
            self._accounts.open(key, known.job_order_id, known.work_unit, notes[key])
        for key, known in settled.revised:
            account = self._accounts.get(known.job_order_id)
            if account is not None:
                self._accounts.revised(account, known.work_unit, notes[key])
                self._told.waits(account)

    def _new_refusals(self, listing: Listing) -> list[Refusal]:
        """A bad order stays in the list: it is counted when it comes, not with every look."""
        texts = {f"{refusal.command_id}: {refusal.problem.text}": refusal for refusal in listing.refusals}
        new = [refusal for text, refusal in texts.items() if text not in self._refusals]
        self._refusals = set(texts)
        return new

    def _tell(self, listing: Listing, settled: Settled) -> None:
        self._told.unreadable([refusal.problem.text for refusal in listing.refusals])
        for _, known in [*settled.taken, *settled.revised]:
            self._told.taken(known.job_order_id)
        for job_order_id in settled.dropped:
            self._told.taken(job_order_id)
            account = self._accounts.get(job_order_id)
            if account is not None:
                self._told.aborted(account, is_open=False)
        for news in settled.news:
            self._log.info("planner", act=news.kind, key=news.key, job_order=news.job_order_id, detail=news.detail)
            self._told.news(news)

    async def _housekeeping(self, listing: Listing) -> None:
        self._told.age()
        now = self._clock.monotonic()
        if now < self._next_prune:
            return
        self._next_prune = now + PRUNE_S
        listed = [known.job_order_id for known in self._orders.known.values()] if listing.is_complete else []
        gone = self._accounts.prune(self._clock.now(), listed)
        for account in gone:
            self._told.forget(account)
            if not account.is_settled:
                self._log.warning(
                    "given_up", job_order=account.job_order_id, key=account.key, good=str(account.good), scrap=str(account.scrap),
                    booked_good=str(account.booked_good), booked_scrap=str(account.booked_scrap),
                )  # fmt: skip
        if not listing.is_complete:
            forgotten = self._orders.forget([account.key for account in gone])
            for job_order_id in forgotten:
                self._told.taken(job_order_id)
            if forgotten:
                await self._wiring.on_orders((), uplink=self.name, cursor=self._orders.dump())

    # --- totals up -----------------------------------------------------------------------------------------------------

    def _next(self, now: float) -> tuple[Account, Step] | float | None:
        if now < self._not_before:
            return self._not_before
        return self._accounts.next(now)

    async def _post(self, account: Account, step: Step) -> None:
        wish = account.wish(step)
        assert wish is not None
        order = ErpOrder(
            account.key, account.job_order_id, account.work_unit, account.memo, partial(self._remember, account), account.note,
            account.is_forgotten,
        )  # fmt: skip
        results, totals = [*account.results.values()][:_RESULTS_AT_ONCE], account.totals()
        if self._settings.dry_run:
            self._write_down(account, step, totals, results)
            self._accounts.logged(account, step, wish)
            return
        outcome = await self._call(self._ask(order, account, step, totals, results))
        self._wiring.metrics.erp_bookings.labels(self.name, outcome.standing.value).inc()
        if outcome.standing is Standing.BOOKED:
            account.confirm(step, wish, results if step is Step.QUALITY else (), totals if step is Step.TOTALS else None)
            self._accounts.booked(account, step)
            self._log.info("booked", job_order=account.job_order_id, step=step.value)
        else:
            self._put_off(account, step, wish, outcome)
        self._told.waits(account)

    def _write_down(self, account: Account, step: Step, totals: Totals, results: Sequence[Measurement]) -> None:
        """What would be posted."""
        log = self._log.bind(job_order=account.job_order_id, key=account.key, step=step.value)
        if step in (Step.TOTALS, Step.CLOSE):
            log = log.bind(
                at=totals.at.isoformat(), good=str(totals.good), scrap=str(totals.scrap), rework=str(totals.rework), unit=totals.unit,
                good_more=str(totals.good - account.booked_good), scrap_more=str(totals.scrap - account.booked_scrap),
                consumption={f"{c.material_id}/{c.lot_id or '-'}/{c.use}": f"{c.quantity} {c.unit}" for c in totals.consumption},
                run_s=totals.run_s, setup_s=totals.setup_s, stop_s=totals.stop_s, stops=len(totals.stops),
            )  # fmt: skip
        elif step is Step.QUALITY:
            log = log.bind(results={result.id: f"{result.characteristic} {result.value}" for result in results})
        elif step is Step.PROMISE and account.promise is not None:
            log = log.bind(verdict=account.promise.verdict, eta_safe=str(account.promise.eta_safe))
        log.info("would_book")

    def _ask(self, order: ErpOrder, account: Account, step: Step, totals: Totals, results: Sequence[Measurement]) -> Awaitable[Outcome]:
        if step is Step.START:
            assert account.started_at is not None
            return self._port.start(order, account.started_at)
        if step is Step.QUALITY:
            return self._port.quality(order, results)
        if step is Step.TOTALS:
            return self._port.report_totals(order, totals)
        if step is Step.CLOSE:
            return self._port.close(order, totals)
        assert account.promise is not None
        return self._port.push_promise(order, account.promise)

    def _put_off(self, account: Account, step: Step, wish: str, outcome: Outcome) -> None:
        is_news = account.put_off(step, wish, outcome.standing, outcome.words, self._clock.now())
        self._accounts.put_off(account, step, outcome.standing)
        if outcome.retry_after_s is not None:
            self._not_before = self._clock.monotonic() + outcome.retry_after_s
        if is_news:
            self._log.warning(
                "not_booked", job_order=account.job_order_id, step=step.value, standing=outcome.standing.value, words=outcome.words
            )  # fmt: skip

    async def _remember(self, account: Account, memo: str) -> None:
        account.memo = memo
        self._accounts.save(account)
        await self._wiring.journal.committed()
