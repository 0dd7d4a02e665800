"""The booking engine on an ERP in memory: pauses, words, dry run, what a restart keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from gateway.domain.inbound import Refusal
from gateway.domain.job_order import JobState, Problem, Verb
from gateway.domain.problems import return_status
from gateway.seams import Uplink, UplinkError
from gateway.uplink.erp.accounts import KEPT
from gateway.uplink.erp.booking import CALL_S, PRUNE_S, BookingUplink, Wiring
from gateway.uplink.erp.fold import RESULTS_HELD
from gateway.uplink.erp.orders import REFUSED_KEPT, known_revisions
from gateway.uplink.erp.port import BOOKED, ErpOrder, Listing, Outcome, Standing, Totals
from gateway.uplink.erp.told import MOST_NAMED
from tests.uplink.erp.gateway import Gateway
from tests.uplink.erp.line import order
from tests.uplink.erp.links import StandInLink
from tests.uplink.erp.stand_in import StandInErp, StandInPort, StandInSettings


class Scripted(StandInPort):
    """Answers as it is told, else as the ERP does; notes every call."""

    def __init__(self, erp: StandInErp) -> None:
        super().__init__(erp)
        self.calls: list[tuple[str, str, float]] = []
        self.says: dict[str, Outcome | Exception | float] = {}
        """Order -> what is answered to its totals; a number: after so many seconds."""
        self.refusals: list[Refusal] = []
        self.taken_answers: list[Mapping[str, str | None]] = []
        self.down: UplinkError | None = None
        self._listed: set[tuple[str, str]] = set()
        self.tells_all = True
        """Else a listing holds what is new, and nobody ever hears that an order is gone."""
        self.memos: list[str | None] = []

    async def connect(self) -> None:
        if self.down is not None:
            raise self.down

    async def list_orders(self, known: Mapping[str, str]) -> Listing:
        listing = await super().list_orders(known)
        if not self.tells_all:
            new = [plan for plan in listing.plans if (plan.key, plan.revision) not in self._listed]
            self._listed.update((plan.key, plan.revision) for plan in new)
            return Listing(new, False)
        return Listing(listing.plans, listing.is_complete, tuple(self.refusals))

    async def taken(self, listing: Listing, answers: Mapping[str, str | None]) -> None:
        self.taken_answers.append(answers)

    async def report_totals(self, order: ErpOrder, totals: Totals) -> Outcome:
        self.calls.append(("totals", order.job_order_id, self._erp.clock.monotonic()))
        self.memos.append(order.memo)
        said = self.says.get(order.job_order_id)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, float):
            await self._erp.clock.sleep(said)
        if isinstance(said, Outcome):
            return said
        return await super().report_totals(order, totals)


class Plant:
    def __init__(self) -> None:
        self.link = StandInLink()
        self.erp = self.link.erp
        self.port = Scripted(self.erp)
        self.settings = StandInSettings(interval=1.0, report_every=0.0)
        self.gateway = Gateway(self.uplink, self.link.clock)
        self.line = self.gateway.line

    def uplink(self, wiring: Wiring) -> Uplink:
        return BookingUplink("erp", self.settings, self.port, wiring)

    async def running(self, name: str = "OF-1", unit: str = "press-07") -> None:
        self.erp.plan(order(name), unit)
        await self.gateway.until(lambda: self.line.state(name) is JobState.RUNNING)

    async def pass_(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(int(seconds / step)):
            await self.gateway.moment(step)

    def uplink_status(self) -> Mapping[str, int]:
        assert isinstance(self.gateway.uplink, BookingUplink)
        return self.gateway.uplink.status().orders

    def tries(self, name: str = "OF-1") -> list[float]:
        return [at for _, of, at in self.port.calls if of == name]


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    made = Plant()
    await made.gateway.start()
    yield made
    await made.gateway.stop()


async def test_an_order_comes_down_and_its_totals_go_up(plant: Plant) -> None:
    await plant.running()
    line = plant.line
    line.make("OF-1", 60, 3)
    stop = line.stop("OF-1")
    line.measure("OF-1", Decimal("20.01"))
    line.promise("OF-1", "late")
    await plant.gateway.settled()
    booked = plant.erp.booked("OF-1")
    assert (booked.good, booked.scrap, booked.is_started, booked.is_closed) == (60, 3, True, False)
    line.make("OF-1", 40)
    line.stop("OF-1", stop_id=stop, revision=2, reason="tool")
    line.do(Verb.STOP, "OF-1")
    await plant.gateway.settled()
    booked = plant.erp.booked("OF-1")
    assert (booked.good, booked.scrap, booked.is_closed, booked.stops) == (100, 3, True, 1)
    assert booked.consumed == {"steel": Decimal("36.05"), "oil": Decimal("0.103")}
    assert booked.results == tuple(line.made["OF-1"].results)
    production = plant.erp.of("OF-1")
    assert production.stops[stop].reason == "tool"
    assert production.promise is not None
    assert production.promise.verdict == "late"
    assert not plant.erp.violations


async def test_rows_of_orders_that_are_not_the_erps_are_taken_and_ignored(plant: Plant) -> None:
    plant.line.store(order("MES-1"), "press-07")
    plant.line.make("MES-1", 4)
    await plant.gateway.settled()
    assert plant.gateway.is_delivered
    assert plant.erp.calls > 0
    assert plant.port.calls == []


async def test_blocked_is_asked_again_at_growing_pauses_of_at_most_five_minutes(plant: Plant) -> None:
    plant.settings = StandInSettings(interval=60.0, report_every=0.0)
    await plant.gateway.kill()
    await plant.running()
    plant.port.says["OF-1"] = Outcome(Standing.BLOCKED, "the period {2026-11} is closed")
    plant.line.make("OF-1", 1)
    await plant.pass_(3600, step=5.0)
    pauses = [later - earlier for earlier, later in zip(plant.tries(), plant.tries()[1:], strict=False)]
    assert len(pauses) >= 8
    assert max(pauses) <= 310
    assert min(pauses) >= 2
    assert plant.gateway.alerts.told.count("+erp.blocked:erp:OF-1") == 1
    assert "the period {2026-11} is closed" in plant.gateway.alerts.up["erp.blocked:erp:OF-1"]
    assert plant.uplink_status()["blocked"] == 1
    # A change of the order in the ERP is a reason to ask at once.
    before = len(plant.tries())
    plant.erp.change(plant.erp.of("OF-1").key)
    await plant.pass_(70, step=5.0)
    assert len(plant.tries()) > before
    # And so is a new connection.
    before = len(plant.tries())
    await plant.gateway.kill()
    await plant.pass_(3)
    assert len(plant.tries()) > before
    # It is told again after a restart: the words are in the journal.
    assert "the period {2026-11} is closed" in plant.gateway.alerts.up["erp.blocked:erp:OF-1"]


async def test_busy_for_so_long_holds_every_posting(plant: Plant) -> None:
    await plant.running()
    await plant.running("OF-2", "press-08")
    await plant.gateway.settled()
    plant.port.calls.clear()
    plant.port.says["OF-1"] = Outcome(Standing.RETRY, "429", 90.0)
    plant.line.make("OF-1", 1)
    await plant.pass_(2)
    plant.line.make("OF-2", 1)
    await plant.pass_(80)
    assert plant.tries("OF-2") == []
    assert len(plant.tries()) == 1
    # Whoever was refused waits behind the others then.
    await plant.pass_(100)
    assert len(plant.tries("OF-2")) == 1


async def test_results_given_up_are_told_and_counted(plant: Plant) -> None:
    plant.settings = StandInSettings(interval=1.0, report_every=0.0, dry_run=True)
    await plant.gateway.kill()
    await plant.running()
    for _ in range(RESULTS_HELD + 3):
        plant.line.measure("OF-1", Decimal(20))
    await plant.gateway.until(lambda: plant.gateway.is_delivered, "all rows are taken")
    assert "erp.results:erp:OF-1" in plant.gateway.alerts.up
    labels = {"uplink": "erp", "standing": "dropped"}
    assert plant.gateway.metrics.registry.get_sample_value("lineside_erp_bookings_total", labels) == 3.0
    await plant.gateway.kill()
    await plant.gateway.until(lambda: "erp.results:erp:OF-1" in plant.gateway.alerts.up, "told again after a restart")


async def test_refused_is_told_and_asked_again_only_for_another_wish(plant: Plant) -> None:
    await plant.running()
    plant.port.says["OF-1"] = Outcome(Standing.REFUSED, "no such product")
    plant.line.make("OF-1", 1)
    await plant.pass_(600, step=10.0)
    assert len(plant.tries()) == 1
    assert "no such product" in plant.gateway.alerts.up["erp.blocked:erp:OF-1"]
    del plant.port.says["OF-1"]
    plant.line.make("OF-1", 1)
    await plant.pass_(10)
    assert plant.erp.booked("OF-1").good == 2
    assert "erp.blocked:erp:OF-1" not in plant.gateway.alerts.up


async def test_a_lost_link_is_the_forwarders_and_nothing_is_lost(plant: Plant) -> None:
    await plant.running()
    plant.port.says["OF-1"] = UplinkError("gone")
    plant.line.make("OF-1", 2)
    await plant.pass_(2)
    plant.port.down = UplinkError("nobody there")
    await plant.pass_(60)
    plant.line.make("OF-1", 3)
    assert not plant.gateway.is_delivered
    plant.port.says.clear()
    plant.port.down = None
    await plant.gateway.settled()
    assert plant.erp.booked("OF-1").good == 5


async def test_a_call_that_never_ends_is_given_up(plant: Plant) -> None:
    await plant.running()
    plant.port.says["OF-1"] = 1e6
    plant.line.make("OF-1", 2)
    await plant.pass_(CALL_S + 5)
    plant.port.says.clear()
    await plant.gateway.settled()
    assert plant.erp.booked("OF-1").good == 2


async def test_a_running_order_is_told_every_so_often_and_its_end_at_once(plant: Plant) -> None:
    plant.settings = StandInSettings(interval=1.0, report_every=300.0)
    await plant.gateway.kill()
    await plant.running()
    for _ in range(20):
        plant.line.make("OF-1", 3)
        await plant.pass_(30, step=10.0)
    assert 2 <= len(plant.tries()) <= 4
    plant.line.do(Verb.STOP, "OF-1")
    await plant.pass_(5)
    assert plant.erp.booked("OF-1").is_closed
    assert plant.erp.booked("OF-1").good == 60


async def test_a_dry_run_writes_everything_down_and_sends_nothing(plant: Plant) -> None:
    plant.settings = StandInSettings(interval=1.0, report_every=0.0, dry_run=True)
    with capture_logs() as logged:
        await plant.gateway.kill()
        await plant.running()
        plant.line.make("OF-1", 5, 1)
        plant.line.measure("OF-1", Decimal(20))
        await plant.pass_(5)
        plant.line.make("OF-1", 2)
        plant.line.do(Verb.STOP, "OF-1")
        await plant.pass_(30)
    said = [entry for entry in logged if entry["event"] == "would_book"]
    assert [(e["step"], e.get("good"), e.get("good_more")) for e in said] == [
        ("start", None, None), ("quality", None, None), ("totals", "5", "5"), ("totals", "7", "7"), ("close", "7", "7"),
    ]  # fmt: skip
    booked = plant.erp.booked("OF-1")
    assert (booked.good, booked.is_started, booked.is_closed) == (0, False, False)
    assert "uplink.dry_run:erp" in plant.gateway.alerts.up
    assert plant.uplink_status()["owed"] == 1
    # Taking it away books what is owed.
    plant.settings = StandInSettings(interval=1.0, report_every=0.0)
    await plant.gateway.kill()
    await plant.gateway.settled()
    booked = plant.erp.booked("OF-1")
    assert (booked.good, booked.is_started, booked.is_closed) == (7, True, True)
    assert "uplink.dry_run:erp" not in plant.gateway.alerts.up


async def test_what_an_adapter_remembers_is_on_disk_when_it_returns(plant: Plant) -> None:
    async def remembering(order: ErpOrder, totals: Totals) -> Outcome:
        plant.port.memos.append(order.memo)
        await order.remember(f"sent {totals.good}")
        # The kill comes before the answer.
        await asyncio.Event().wait()
        return BOOKED

    plant.port.report_totals = remembering  # type: ignore[method-assign]
    await plant.running()
    plant.line.make("OF-1", 2)
    await plant.gateway.until(lambda: plant.port.memos == [None])
    await plant.gateway.moment()
    await plant.gateway.kill()
    await plant.gateway.until(lambda: "sent 2" in plant.port.memos)


async def test_unreadable_orders_are_told_while_they_stand_and_counted_once(plant: Plant) -> None:
    problem = Problem("missing_field", "production 7 has no quantity")
    plant.port.refusals.append(Refusal(None, None, return_status(problem.code), problem))
    await plant.pass_(30)
    assert plant.gateway.alerts.up["erp.unreadable:erp"] == "production 7 has no quantity"
    plant.port.refusals.clear()
    await plant.pass_(3)
    assert "erp.unreadable:erp" not in plant.gateway.alerts.up
    assert plant.gateway.alerts.told.count("+erp.unreadable:erp") == 1


async def test_taken_is_told_after_every_listing_with_a_reason_for_what_is_not(plant: Plant) -> None:
    await plant.running()
    plant.erp.plan(order("OF-9"), "press-99")
    await plant.pass_(5)
    assert plant.port.taken_answers[-1] == {"1": None, "2": "this gateway has no work unit press-99"}


async def test_many_blocked_orders_are_one_alert_more_than_twenty(plant: Plant) -> None:
    names = [f"OF-{number}" for number in range(30)]
    for name in names:
        plant.port.says[name] = Outcome(Standing.BLOCKED, "no right to write")
        plant.erp.plan(order(name), "press-07")
    await plant.pass_(3)
    for name in names:
        if plant.line.state(name) is not JobState.RUNNING:
            plant.line.do(Verb.START, name)
        plant.line.make(name, 1)
        plant.line.do(Verb.STOP, name)
    await plant.gateway.until(lambda: plant.uplink_status()["blocked"] == 30)
    up = [key for key in plant.gateway.alerts.up if key.startswith("erp.blocked:erp")]
    assert len(up) == MOST_NAMED + 1
    plant.port.says.clear()
    await plant.gateway.until(lambda: plant.uplink_status()["blocked"] == 0)
    assert [key for key in plant.gateway.alerts.up if key.startswith("erp.blocked")] == []


async def test_the_cursor_of_another_kind_of_uplink_is_none(plant: Plant) -> None:
    await plant.gateway.stop()
    plant.line.journal.disk.order_cursors["erp"] = "c42"
    await plant.gateway.kill()
    await plant.running()
    assert plant.line.refused == []


async def test_the_orders_of_another_type_of_erp_are_not_asked_for_by_its_keys(plant: Plant) -> None:
    await plant.running()
    cursor = plant.line.journal.disk.order_cursors["erp"]
    plant.settings = StandInSettings(type="another", interval=1.0)
    await plant.gateway.kill()
    await plant.pass_(30)
    link = plant.gateway.forwarder.status if plant.gateway.forwarder else None
    assert link is not None
    assert "type: stand-in" in str(link)
    assert "Give this uplink a new name" in str(link)
    assert plant.line.journal.disk.order_cursors["erp"] == cursor
    assert known_revisions(cursor, "another") == {}
    # Put right again, nothing is lost.
    plant.settings = StandInSettings(interval=1.0)
    await plant.gateway.kill()
    plant.line.make("OF-1", 2)
    await plant.gateway.settled()
    assert plant.erp.booked("OF-1").good == 2


async def test_an_account_that_was_damaged_is_begun_anew(plant: Plant) -> None:
    await plant.running()
    plant.line.make("OF-1", 2)
    await plant.gateway.settled()
    await plant.line.journal.committed()
    await plant.gateway.stop()
    plant.line.journal.disk.accounts.clear()
    await plant.gateway.kill()
    plant.line.make("OF-1", 2)
    await plant.gateway.settled()
    assert plant.erp.booked("OF-1").good == 4


async def test_refused_orders_are_told_again_after_a_restart(plant: Plant) -> None:
    for number in range(30):
        plant.erp.plan(order(f"OF-{number}"), "press-99")
    plant.erp.plan(order("x" * 200), "press-07")
    await plant.pass_(3)
    up = {key for key in plant.gateway.alerts.up if key.startswith("erp.order:")}
    assert len(up) == MOST_NAMED + 1
    assert len(plant.line.refused) == 30
    await plant.gateway.kill()
    await plant.pass_(3)
    assert {key for key in plant.gateway.alerts.up if key.startswith("erp.order:")} == up
    assert len(plant.line.refused) == 30
    for production in plant.erp.productions.values():
        production.work_unit = "press-08"
        plant.erp.change(production.key, job_order=order(f"OF-{production.key}b"))
    await plant.pass_(5)
    assert {key for key in plant.gateway.alerts.up if key.startswith("erp.order:")} == set()


async def test_an_order_over_which_the_link_breaks_does_not_starve_the_others(plant: Plant) -> None:
    await plant.running()
    await plant.running("OF-2", "press-08")
    plant.port.says["OF-1"] = UplinkError("the server hangs up")
    plant.line.make("OF-1", 1)
    for number in range(5):
        plant.line.make("OF-2", 1)
        await plant.gateway.until(lambda number=number: plant.erp.booked("OF-2").good == number + 1)  # type: ignore[misc]


async def test_a_week_that_a_planner_moves_is_one_piece_of_news(plant: Plant) -> None:
    for number in range(30):
        plant.erp.plan(order(f"OF-{number}"), "press-07")
    await plant.pass_(3)
    for production in plant.erp.productions.values():
        plant.erp.change(production.key, job_order=order(production.job_order.job_order_id, 77))
    await plant.pass_(3)
    assert len(plant.gateway.alerts.up) == MOST_NAMED + 1


async def test_what_is_known_does_not_grow_where_no_listing_says_what_is_gone(plant: Plant) -> None:
    plant.port.tells_all = False
    await plant.running()
    for number in range(2, REFUSED_KEPT + 50):
        plant.erp.plan(order(f"OF-{number}"), "press-99")
    plant.line.do(Verb.STOP, "OF-1")
    await plant.gateway.settled()
    kept = plant.line.journal.disk
    plant.link.clock.step_wall(KEPT.total_seconds())
    plant.settings = StandInSettings(interval=PRUNE_S)
    await plant.gateway.kill()
    await plant.pass_(2 * PRUNE_S, step=50.0)
    assert kept.accounts == {}
    known = known_revisions(kept.order_cursors["erp"], "stand-in")
    assert len(known) == REFUSED_KEPT
    assert "1" not in known
