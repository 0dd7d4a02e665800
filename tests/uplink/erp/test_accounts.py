"""Accounts: rows fold into them whatever comes again; what is owed follows from them; nothing of it grows with history."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.entry import Entry
from gateway.domain.job_order import Verb
from gateway.outbox.migrate import migrations
from gateway.outbox.store import Store
from gateway.outbox.transaction import Batch
from gateway.uplink.erp.account import RESULTS_KEPT, STOPS_KEPT, Account, Step, dump, load
from gateway.uplink.erp.accounts import GIVEN_UP, KEPT, Accounts
from gateway.uplink.erp.fold import RESULTS_HELD, STOPS_HELD, fold
from gateway.uplink.erp.port import Standing
from tests.manual_clock import ManualClock
from tests.uplink.erp.line import Disk, Journal, Line, order


def _line(*, started: bool = True) -> Line:
    line = Line(Journal(Disk()))
    line.store(order("OF-1"), "press-07", start=started)
    return line


def _folded(rows: list[Entry], *, reloaded: bool = False) -> Account:
    account = Account("1", "OF-1", "press-07")
    for row in rows:
        fold(account, row)
        if reloaded:
            account = load("OF-1", dump(account))
    return account


_ACTS = st.sampled_from(["make", "scrap", "late", "give back", "stop", "explain", "measure", "promise", "pause", "resume"])


def _happen(line: Line, acts: list[str]) -> None:
    stops: list[str] = []
    for act in acts:
        if act == "make":
            line.make("OF-1", 3)
        elif act == "scrap":
            line.make("OF-1", 0, 1)
        elif act == "late" and "OF-1" in line.made:
            line.scrap_later("OF-1", 1)
        elif act == "give back" and line.made.get("OF-1") and line.made["OF-1"].consumed:
            line.give_back("OF-1", "steel", Decimal("0.1"))
        elif act == "stop":
            stops.append(line.stop("OF-1"))
        elif act == "explain" and stops:
            line.stop("OF-1", stop_id=stops[-1], revision=len(line.journal.rows), reason="tool")
        elif act == "measure":
            line.measure("OF-1", Decimal("20.01"))
        elif act == "promise":
            line.promise("OF-1", "late")
        elif act in ("pause", "resume"):
            line.do(Verb.PAUSE if act == "pause" else Verb.RESUME, "OF-1")


@given(acts=st.lists(_ACTS, max_size=25), data=st.data())
def test_any_redelivery_gives_the_same_account(acts: list[str], data: st.DataObject) -> None:
    """Rows come in order; from any point on they may come again, from any earlier point, in batches of any size, over restarts."""
    line = _line()
    _happen(line, acts)
    rows = line.journal.rows
    once = _folded(rows)
    again: list[Entry] = []
    done = 0
    while done < len(rows):
        back = data.draw(st.integers(0, done))
        done = data.draw(st.integers(done + 1, len(rows)))
        again += rows[back:done]
    assert _folded(again) == once
    assert _folded(again, reloaded=True) == once
    made = line.made.get("OF-1")
    if made is not None:
        assert (once.good, once.scrap) == (made.good, made.scrap)
        assert {m: q for (m, *_), q in once.consumption.items()} == made.consumed
        assert set(once.stops) == set(made.stops)
        assert list(once.results) == made.results


def test_rows_of_another_work_unit_or_of_a_later_job_of_the_name_do_not_count() -> None:
    line = _line()
    line.make("OF-1", 3)
    foreign = [Entry(**{**_fields(row), "work_unit": "press-08", "position": row.position + 100}) for row in line.journal.rows]
    line.do(Verb.STOP, "OF-1")
    line.forget("OF-1")
    line.store(order("OF-1"), "press-07")
    line.make("OF-1", 50)
    account = _folded([*line.journal.rows[:3], *foreign, *line.journal.rows[3:]])
    assert account.good == 3
    assert account.is_succeeded
    assert account.is_over


def _fields(row: Entry) -> dict[str, object]:
    return {name: getattr(row, name) for name in Entry.__slots__}


def test_what_is_owed_comes_in_order() -> None:
    line = _line(started=False)
    account = _folded(line.journal.rows)
    assert account.owed() == []
    line.do(Verb.START, "OF-1")
    line.make("OF-1", 3)
    line.measure("OF-1", Decimal(20))
    line.promise("OF-1", "late")
    account = _folded(line.journal.rows)
    assert account.owed() == [Step.START, Step.PROMISE]
    account.confirm(Step.START, "started")
    assert account.owed() == [Step.QUALITY, Step.TOTALS, Step.PROMISE]
    line.do(Verb.STOP, "OF-1")
    for row in line.journal.rows:
        fold(account, row)
    # Its end comes last, and no date is promised for what is over.
    assert account.owed() == [Step.QUALITY, Step.TOTALS]
    _confirm(account, Step.TOTALS)
    assert account.owed() == [Step.QUALITY]
    _confirm(account, Step.QUALITY)
    assert account.owed() == [Step.CLOSE]
    assert not account.is_settled
    _confirm(account, Step.CLOSE)
    assert account.is_settled


def _confirm(account: Account, step: Step) -> None:
    wish = account.wish(step)
    assert wish is not None
    account.confirm(step, wish, list(account.results.values()) if step is Step.QUALITY else (), account.totals())


def test_what_happens_while_a_posting_is_under_way_is_owed_afterwards() -> None:
    line = _line()
    line.make("OF-1", 3)
    account = _folded(line.journal.rows)
    account.confirm(Step.START, "started")
    sent, wish = account.totals(), account.wish(Step.TOTALS)
    assert wish is not None
    line.make("OF-1", 1)
    for row in line.journal.rows:
        fold(account, row)
    account.confirm(Step.TOTALS, wish, totals=sent)
    assert account.owed() == [Step.TOTALS]
    assert account.booked_good == 3


def test_a_refusal_stands_until_the_wish_is_another() -> None:
    line = _line()
    line.make("OF-1", 3)
    account = _folded(line.journal.rows)
    account.confirm(Step.START, "started")
    wish = account.wish(Step.TOTALS)
    assert wish is not None
    assert account.put_off(Step.TOTALS, wish, Standing.REFUSED, "no such product", line.at)
    assert account.owed() == []
    assert account.standing() is Standing.REFUSED
    line.make("OF-1", 1)
    for row in line.journal.rows:
        fold(account, row)
    assert account.owed() == [Step.TOTALS]
    # The same words again are no news.
    assert not account.put_off(Step.TOTALS, wish, Standing.REFUSED, "no such product", line.at)


def test_a_cancelled_result_is_told_as_cancelled_booked_or_not() -> None:
    line = _line()
    line.measure("OF-1", Decimal("20.01"))
    line.measure("OF-1", Decimal("20.02"))
    account = _folded(line.journal.rows)
    _confirm(account, Step.QUALITY)
    line.cancel_result("OF-1", Decimal("20.01"))
    line.measure("OF-1", Decimal("20.03"))
    line.cancel_result("OF-1", Decimal("20.03"))
    for row in line.journal.rows:
        fold(account, row)
    assert [(r.value, r.is_cancelled) for r in account.results.values()] == [(Decimal("20.01"), True), (Decimal("20.03"), True)]


def test_an_account_does_not_grow_with_the_length_of_its_order() -> None:
    line = _line()
    for _ in range(STOPS_HELD + 50):
        line.stop("OF-1")
    for _ in range(RESULTS_KEPT + 50):
        line.measure("OF-1", Decimal(20))
    line.make("OF-1", 1)
    account = _folded(line.journal.rows)
    assert len(account.stops) == STOPS_HELD
    account.confirm(Step.START, "started")
    _confirm(account, Step.QUALITY)
    _confirm(account, Step.TOTALS)
    assert (len(account.stops), len(account.results), len(account.booked_results)) == (STOPS_KEPT, 0, RESULTS_KEPT)
    # Forgetting is no news for the ERP.
    assert account.owed() == []


def test_results_that_the_erp_never_takes_do_not_grow_without_end() -> None:
    line = _line()
    for _ in range(RESULTS_HELD + 50):
        line.measure("OF-1", Decimal(20))
    account = _folded(line.journal.rows)
    assert list(account.results) == line.made["OF-1"].results[50:]
    assert account.results_dropped == 50
    assert load("OF-1", dump(account)) == account


async def test_settled_accounts_go_after_a_week_and_open_ones_never() -> None:
    line, clock = _line(), ManualClock()
    accounts = Accounts("erp", line.journal, clock, report_every_s=0.0)
    accounts.open("1", "OF-1", "press-07", "")
    line.make("OF-1", 3)
    accounts.take(line.journal.rows)
    late = line.at + KEPT + timedelta(days=1)
    assert accounts.prune(line.at + timedelta(days=400), []) == []
    line.do(Verb.STOP, "OF-1")
    accounts.take(line.journal.rows)
    account = accounts.get("OF-1")
    assert account is not None
    for step in (Step.START, Step.TOTALS, Step.CLOSE):
        assert accounts.prune(late, []) == []
        _confirm(account, step)
    accounts.booked(account, Step.CLOSE)
    assert accounts.prune(line.at + KEPT - timedelta(hours=1), []) == []
    assert accounts.prune(late, ["OF-1"]) == []
    assert accounts.prune(late, []) == [account]
    await line.journal.committed()
    assert line.journal.disk.accounts == {}


def test_what_nobody_settles_for_a_month_is_given_up_once_the_erp_has_it_no_more() -> None:
    line = _line()
    accounts = Accounts("erp", line.journal, ManualClock(), report_every_s=0.0)
    account = accounts.open("1", "OF-1", "press-07", "")
    line.make("OF-1", 3)
    line.do(Verb.STOP, "OF-1")
    accounts.take(line.journal.rows)
    assert accounts.prune(line.at + GIVEN_UP - timedelta(days=1), []) == []
    assert accounts.prune(line.at + GIVEN_UP, ["OF-1"]) == []
    assert accounts.prune(line.at + GIVEN_UP, []) == [account]


def test_what_a_later_plan_does_not_speak_of_stays_in_the_note() -> None:
    accounts = Accounts("erp", Journal(Disk()), ManualClock(), report_every_s=60.0)
    account = accounts.open("1", "OF-1", "press-07", '{"product_id": "PF-1", "properties": {"zone": "1"}}')
    accounts.revised(account, "press-07", '{"properties": {"zone": "2"}}')
    accounts.revised(account, "press-08", "")
    assert (account.work_unit, json.loads(account.note)) == ("press-08", {"product_id": "PF-1", "properties": {"zone": "2"}})


def test_what_waits_is_over_when_there_is_nothing_left_to_book() -> None:
    line = _line()
    accounts = Accounts("erp", line.journal, ManualClock(), report_every_s=0.0)
    account = accounts.open("1", "OF-1", "press-07", "")
    line.promise("OF-1", "late")
    accounts.take(line.journal.rows)
    wish = account.wish(Step.PROMISE)
    assert wish is not None
    account.put_off(Step.PROMISE, wish, Standing.REFUSED, "no right to write notes", line.at)
    accounts.put_off(account, Step.PROMISE, Standing.REFUSED)
    assert accounts.status().orders["refused"] == 1
    line.do(Verb.STOP, "OF-1")
    accounts.take(line.journal.rows)
    assert account.waits == {}
    assert accounts.status().orders["refused"] == 0


async def test_accounts_are_in_the_journal_with_the_cursor_that_stands_for_them(tmp_path: Path) -> None:
    assert any(step.version == 3 for step in migrations())
    line = _line()
    line.make("OF-1", 3)
    account = _folded(line.journal.rows)
    store = await Store.open(tmp_path, uplinks=["erp"], clock=ManualClock())
    await store.commit(Batch(accounts={("erp", "OF-1"): dump(account), ("other", "OF-1"): b"{}"}, cursors={"erp": 3}), line.at)
    assert load("OF-1", (await store.erp_accounts("erp"))["OF-1"]) == account
    await store.commit(Batch(accounts={("erp", "OF-1"): None}), line.at)
    assert await store.erp_accounts("erp") == {}
    assert await store.erp_accounts("other") == {"OF-1": b"{}"}
    await store.close()


@pytest.mark.parametrize("revision", [2, 3])
def test_a_stop_that_turns_out_to_be_a_micro_stop_is_taken_back(revision: int) -> None:
    line = _line()
    stop = line.stop("OF-1")
    line.stop("OF-1", stop_id=stop, revision=revision, class_="micro_stop")
    assert _folded(line.journal.rows).stops == {}
