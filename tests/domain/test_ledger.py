"""The ledger: OPC 10031-4's states and verbs, the contract's fine print on commands, dispatch by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.domain.job import Job, WriteState, dump_job, load_job
from gateway.domain.job_order import Customer, JobCommand, JobOrder, JobState, MaterialRequirement, QualityRequirement, Verb
from gateway.domain.ledger import ENDED_KEPT, MAX_OPEN_ORDERS, RULES, Guard, Ledger, LedgerOutcome, Transition, transition_table
from gateway.domain.material import ConsumptionMode
from gateway.domain.problems import PROBLEMS
from gateway.domain.promise import Promise, PromiseVerdict
from gateway.domain.quality import QualityVerdict
from tests.effort import efforts

T0 = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
NAS, ATS, RUN, INT, END, ABO = JobState


def command(verb: Verb, name: str = "OF-1", number: int = 0, *, issued_at: datetime = T0, **given: Any) -> JobCommand:
    return JobCommand(verb, f"c{number}", JobOrder(name, **given), issued_at, given=frozenset(given) | {"job_order_id"})


def send(ledger: Ledger, verb: Verb, name: str = "OF-1", at: datetime = T0, **given: Any) -> LedgerOutcome:
    return ledger.apply(command(verb, name, **given), at)


def changes(outcome: LedgerOutcome) -> list[tuple[str, str | None, str]]:
    return [(t.job_order_id, t.previous, t.state) for t in outcome.transitions]


def refused(outcome: LedgerOutcome) -> tuple[int, str]:
    assert not outcome.answer.accepted
    assert outcome.answer.problem is not None
    assert not outcome.transitions
    return outcome.answer.return_status, outcome.answer.problem.code


def brought_to(state: JobState | None, *, busy: bool = False) -> Ledger:
    """A ledger whose OF-1 is in `state`, with another job running when `busy`."""
    way: Mapping[JobState | None, tuple[Verb, ...]] = {
        None: (),
        NAS: (Verb.STORE,),
        ATS: (),
        RUN: (Verb.STORE_AND_START,),
        INT: (Verb.STORE_AND_START, Verb.PAUSE),
        END: (Verb.STORE_AND_START, Verb.STOP),
        ABO: (Verb.STORE, Verb.ABORT),
    }
    ledger = Ledger("press-07")
    if state is ATS:
        send(ledger, Verb.STORE_AND_START, "OF-other")
        send(ledger, Verb.STORE_AND_START)
        if not busy:
            send(ledger, Verb.STOP, "OF-other")
        return ledger
    for verb in way[state]:
        assert send(ledger, verb).answer.accepted
    if busy and state is not RUN:
        assert send(ledger, Verb.STORE_AND_START, "OF-other").answer.state == RUN
    return ledger


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("state", [None, *JobState])
def test_every_verb_in_every_state_follows_the_table_or_changes_nothing(state: JobState | None, verb: Verb, busy: bool) -> None:
    ledger = brought_to(state, busy=busy)
    another_runs = busy and state is not RUN
    before = {job.job_order_id: dump_job(job) for name in ("OF-1", "OF-other") if (job := ledger.get(name)) is not None}
    rows = [r for r in RULES if r.source is state and r.verb is verb]
    held = [r for r in rows if r.guard in (Guard.ANY, Guard.BUSY if ledger.running is not None else Guard.IDLE)]
    outcome = send(ledger, verb)
    after = {job.job_order_id: dump_job(job) for name in ("OF-1", "OF-other") if (job := ledger.get(name)) is not None}
    if held:
        assert outcome.answer.accepted
        target = held[0].target
        job = ledger.get("OF-1")
        assert (job.state if job else None) is target
        assert outcome.answer.problem is None
    elif state is None:
        assert refused(outcome) == (2, "unknown_order")
        assert after == before
    elif verb in (Verb.STORE, Verb.STORE_AND_START):
        assert refused(outcome) == (16, "order_exists")
        assert after == before
    elif rows:
        assert another_runs
        assert refused(outcome) == (16, "other_order_running")
        assert "OF-other" in str(outcome.answer.problem)
        assert after == before
    else:
        assert refused(outcome) == (8, "invalid_state")
        assert after == before
    assert sum(row["state"] == RUN for row in after.values()) <= 1


def test_table_agrees_with_the_states_opc_10031_4_joins() -> None:
    """The transitions of its nodeset (FromAToB of ISA95JobOrderReceiverObjectType), and no other between two states."""
    nodeset = {
        (NAS, NAS), (NAS, ATS), (NAS, ABO), (ATS, NAS), (ATS, ATS), (ATS, RUN), (ATS, ABO),
        (RUN, INT), (RUN, END), (RUN, ABO), (RUN, RUN), (INT, RUN), (INT, END), (INT, ABO), (INT, INT),
    }  # fmt: skip
    ours = {(r.source, r.target) for r in RULES if r.source is not None and r.target is not None}
    assert ours - nodeset == {(NAS, RUN)}, "Start on an idle unit passes AllowedToStart without a pause"
    assert nodeset <= ours
    assert ("(none)", "Store", "NotAllowedToStart") in transition_table()
    assert ("Interrupted", "Resume [no job runs]", "Running") in transition_table()


def test_store_and_start_runs_at_once_on_an_idle_unit_and_queues_behind_a_running_job() -> None:
    ledger = Ledger("press-07")
    first = send(ledger, Verb.STORE_AND_START, "OF-1")
    second = send(ledger, Verb.STORE_AND_START, "OF-2")
    assert changes(first) == [("OF-1", None, RUN)]
    assert changes(second) == [("OF-2", None, ATS)]
    assert (first.answer.state, second.answer.state, second.answer.return_status) == ("Running", "AllowedToStart", 1)
    again = send(ledger, Verb.START, "OF-2")
    assert (again.answer.return_status, again.answer.state, again.transitions) == (1, "AllowedToStart", ())


def test_an_interrupted_job_leaves_the_unit_idle_but_cannot_come_back_while_another_runs() -> None:
    ledger = brought_to(INT)
    assert changes(send(ledger, Verb.STORE_AND_START, "OF-2")) == [("OF-2", None, RUN)]
    assert refused(send(ledger, Verb.RESUME, "OF-1")) == (16, "other_order_running")
    assert [job.job_order_id for job in ledger.interrupted] == ["OF-1"]
    send(ledger, Verb.STOP, "OF-2")
    resumed = send(ledger, Verb.RESUME, "OF-1", at=T0 + timedelta(hours=1))
    assert changes(resumed) == [("OF-1", INT, RUN)]
    job = ledger.get("OF-1")
    assert job is not None
    assert (job.started_at, job.paused_at, ledger.interrupted) == (T0, None, ())


def test_cancel_reports_aborted_and_frees_the_id() -> None:
    ledger = brought_to(NAS)
    outcome = send(ledger, Verb.CANCEL)
    assert changes(outcome) == [("OF-1", NAS, ABO)]
    assert [(job.job_order_id, job.removed) for job in outcome.removed] == [("OF-1", True)]
    assert ledger.get("OF-1") is None
    assert ledger.recent() == ()
    assert send(ledger, Verb.STORE).answer.state == "NotAllowedToStart"


def test_clear_takes_an_ended_job_out_without_a_change_of_state() -> None:
    ledger = brought_to(END)
    outcome = send(ledger, Verb.CLEAR)
    assert (outcome.answer.state, outcome.transitions) == ("Ended", ())
    assert ledger.recent() == ()
    assert refused(send(ledger, Verb.CLEAR)) == (2, "unknown_order")


def test_update_changes_only_what_the_message_carried() -> None:
    ledger = Ledger("press-07")
    customer = Customer(name="Dupont", priority=3, delivery_to=T0 + timedelta(days=2))
    send(ledger, Verb.STORE_AND_START, quantity=Decimal(500), priority=4, product_id="PF-100", customer=customer)
    outcome = send(ledger, Verb.UPDATE, quantity=Decimal(300), customer=Customer(priority=9))
    job = ledger.get("OF-1")
    assert job is not None
    assert (outcome.answer.return_status, outcome.transitions) == (1, ())
    assert (job.order.quantity, job.order.priority, job.order.product_id) == (300, 4, "PF-100")
    assert job.order.customer == replace(customer, priority=9)


def test_update_never_goes_below_what_is_made_nor_touches_an_ended_job() -> None:
    ledger = Ledger("press-07")
    send(ledger, Verb.STORE_AND_START, quantity=Decimal(500))
    job = ledger.get("OF-1")
    assert job is not None
    job.good = job.produced = Decimal(120)
    assert refused(send(ledger, Verb.UPDATE, quantity=Decimal(119))) == (16, "quantity_below_made")
    assert refused(send(ledger, Verb.UPDATE, unit="KGM")) == (1 << 32, "unknown_unit")
    assert send(ledger, Verb.UPDATE, quantity=Decimal(120)).answer.accepted
    send(ledger, Verb.STOP)
    assert refused(send(ledger, Verb.UPDATE, quantity=Decimal(900))) == (8, "invalid_state")
    assert job.order.quantity == 120


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"quantity": Decimal(0)}, "quantity_invalid"),
        ({"quantity": Decimal(-5)}, "quantity_invalid"),
        ({"quantity": Decimal("NaN")}, "quantity_invalid"),
        ({"ideal_cycle_time_s": Decimal(0)}, "invalid_field"),
        ({"pieces_per_cycle": 0}, "invalid_field"),
        ({"lead_after_s": Decimal(-1)}, "invalid_field"),
        ({"material_requirements": (MaterialRequirement("M", Decimal(-1), "KGM"),)}, "quantity_invalid"),
        ({"material_requirements": (MaterialRequirement("M", Decimal(1), "KGM", "weighed"),)}, "invalid_field"),
        ({"quality_requirements": (QualityRequirement("d", lower=Decimal(2), upper=Decimal(1)),)}, "limits_invalid"),
        ({"quality_requirements": (QualityRequirement("d", target=Decimal(3), upper=Decimal(1)),)}, "limits_invalid"),
        ({"start_time": T0, "end_time": T0 - timedelta(hours=1)}, "window_invalid"),
        ({"customer": Customer(delivery_from=T0 + timedelta(days=3), delivery_to=T0 + timedelta(days=2))}, "window_invalid"),
        ({"customer": Customer(delivery_to=T0 - timedelta(seconds=1))}, "window_in_past"),
    ],
)
def test_orders_that_contradict_themselves_are_refused(given: dict[str, Any], code: str) -> None:
    ledger = Ledger("press-07")
    assert refused(send(ledger, Verb.STORE, **given)) == (PROBLEMS[code].return_status, code)
    assert ledger.get("OF-1") is None
    send(ledger, Verb.STORE)
    assert refused(send(ledger, Verb.UPDATE, **given)) == (PROBLEMS[code].return_status, code)
    job = ledger.get("OF-1")
    assert job is not None
    assert job.order == JobOrder("OF-1")


def test_the_status_is_the_sum_of_all_that_is_wrong() -> None:
    outcome = send(Ledger("press-07"), Verb.UPDATE, quantity=Decimal(-1))
    assert refused(outcome) == (2 + (1 << 32), "unknown_order")
    assert outcome.answer.problem is not None
    assert "quantity must be above 0" in outcome.answer.problem.text


def test_a_foreign_command_is_refused() -> None:
    outcome = Ledger("press-07").apply(replace(command(Verb.STORE), work_unit="press-08"), T0)
    assert refused(outcome) == (1 << 32, "wrong_work_unit")


def test_a_window_that_passed_on_the_way_is_late_not_wrong() -> None:
    ledger = Ledger("press-07")
    outcome = send(ledger, Verb.STORE, at=T0 + timedelta(days=5), customer=Customer(delivery_to=T0 + timedelta(days=1)))
    assert outcome.answer.accepted
    assert send(ledger, Verb.UPDATE, issued_at=T0 + timedelta(days=6), customer=Customer(priority=7)).answer.accepted


def test_an_erp_that_counts_priorities_from_one_keeps_its_numbers_and_its_order() -> None:
    ledger = Ledger("press-07")
    for name, priority in (("third", 3), ("first", 1), ("second", 2)):
        send(ledger, Verb.STORE, name, priority=priority, lowest_first=True)
    assert [job.job_order_id for job in ledger.queue()] == ["first", "second", "third"]
    send(ledger, Verb.UPDATE, "third", priority=0, lowest_first=True)
    assert [job.job_order_id for job in ledger.queue()] == ["third", "first", "second"]
    third = ledger.get("third")
    assert third is not None
    assert third.order.priority == 0
    send(ledger, Verb.UPDATE, "third", priority=-9)
    assert [job.job_order_id for job in ledger.queue()] == ["first", "second", "third"], "an update says for itself how it counts"


def test_queue_follows_customer_priority_delivery_end_time_arrival() -> None:
    ledger = Ledger("press-07")
    send(ledger, Verb.STORE_AND_START, "running")
    day = timedelta(days=1)
    orders: dict[str, dict[str, Any]] = {
        "plain": {},
        "later-end": {"priority": 5, "end_time": T0 + 3 * day},
        "early-end": {"priority": 5, "end_time": T0 + 2 * day},
        "delivery": {"priority": 5, "customer": Customer(delivery_to=T0 + 9 * day)},
        "customer-first": {"priority": 9, "customer": Customer(priority=1)},
        "urgent": {"customer": Customer(priority=8)},
        "plain-too": {},
    }
    for name, given in orders.items():
        send(ledger, Verb.STORE_AND_START, name, **given)
    send(ledger, Verb.STORE, "forecast", priority=99)
    expected = ["urgent", "delivery", "early-end", "later-end", "customer-first", "plain", "plain-too", "forecast"]
    assert [job.job_order_id for job in ledger.queue()] == expected


def test_a_place_in_the_order_of_arrival_can_be_given() -> None:
    ledger = Ledger("press-07")
    ledger.apply(command(Verb.STORE, "late"), T0, 7)
    ledger.apply(command(Verb.STORE, "early"), T0, 2)
    send(ledger, Verb.STORE, "next")
    assert [(job.job_order_id, job.arrival) for job in ledger.queue()] == [("early", 2), ("late", 7), ("next", 8)]


def test_at_quantity_ends_the_job_and_auto_starts_the_first_released_one() -> None:
    ledger = Ledger("press-07", "at_quantity", "auto")
    send(ledger, Verb.STORE_AND_START, "OF-1", quantity=Decimal(100))
    send(ledger, Verb.STORE, "forecast", priority=99)
    send(ledger, Verb.STORE_AND_START, "OF-2")
    send(ledger, Verb.STORE_AND_START, "OF-3", priority=1)
    at = T0 + timedelta(hours=2)
    assert ledger.on_good(Decimal(99), at) == []
    assert ledger.on_good(Decimal(100), at) == [Transition("OF-1", RUN, END, None), Transition("OF-3", ATS, RUN, None)]
    ended = ledger.recent(1)[0]
    assert (ended.job_order_id, ended.ended_at) == ("OF-1", at)
    assert ledger.running is not None
    assert ledger.running.started_at == at


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.ABORT])
def test_auto_starts_the_next_after_a_command_ends_a_begun_job(verb: Verb) -> None:
    ledger = Ledger("press-07", "manual", "auto")
    send(ledger, Verb.STORE_AND_START, "OF-1")
    send(ledger, Verb.STORE_AND_START, "OF-2")
    outcome = ledger.apply(command(verb, "OF-1", 7), T0)
    final = END if verb is Verb.STOP else ABO
    assert outcome.transitions == (Transition("OF-1", RUN, final, "c7"), Transition("OF-2", ATS, RUN, None))
    assert outcome.answer.state == final


def test_auto_waits_behind_a_paused_job_and_manual_never_starts() -> None:
    ledger = Ledger("press-07", "manual", "auto")
    send(ledger, Verb.STORE_AND_START, "OF-1")
    send(ledger, Verb.STORE_AND_START, "OF-2")
    assert changes(send(ledger, Verb.PAUSE, "OF-1")) == [("OF-1", RUN, INT)]
    assert changes(send(ledger, Verb.STOP, "OF-1")) == [("OF-1", INT, END), ("OF-2", ATS, RUN)]
    manual = Ledger("press-07")
    send(manual, Verb.STORE_AND_START, "OF-1", quantity=Decimal(1))
    send(manual, Verb.STORE_AND_START, "OF-2")
    assert manual.on_good(Decimal(5), T0) == []
    assert changes(send(manual, Verb.STOP, "OF-1")) == [("OF-1", RUN, END)]


def test_an_update_down_to_what_is_made_ends_the_job_at_quantity() -> None:
    ledger = Ledger("press-07", "at_quantity")
    send(ledger, Verb.STORE_AND_START, quantity=Decimal(500))
    assert ledger.running is not None
    ledger.running.good = ledger.running.produced = Decimal(120)
    assert changes(send(ledger, Verb.UPDATE, quantity=Decimal(120))) == [("OF-1", RUN, END)]


def test_memory_is_bounded() -> None:
    ledger = Ledger("press-07")
    for n in range(ENDED_KEPT + 3):
        send(ledger, Verb.STORE_AND_START, f"OF-{n}", at=T0 + timedelta(minutes=n))
        send(ledger, Verb.STOP, f"OF-{n}", at=T0 + timedelta(minutes=n))
    assert ledger.get("OF-2") is None
    assert [job.job_order_id for job in ledger.recent(2)] == ["OF-52", "OF-51"]
    assert len(ledger.recent(99)) == ENDED_KEPT
    for n in range(MAX_OPEN_ORDERS):
        assert send(ledger, Verb.STORE, f"open-{n}").answer.accepted
    assert refused(send(ledger, Verb.STORE, "one-too-many")) == (16, "queue_full")


def test_two_running_jobs_in_the_journal_are_an_error() -> None:
    with pytest.raises(ValueError, match="two running jobs on press-07: OF-1 and OF-2"):
        Ledger("press-07").restore([Job(JobOrder("OF-1"), RUN, 0), Job(JobOrder("OF-2"), RUN, 1)])


def test_a_full_job_survives_its_row() -> None:
    order = JobOrder(
        "OF-1", "WM", "PF-100", Decimal("12.50"), "KGM", -3, T0, T0 + timedelta(days=1), Decimal("1.2"), 4,
        (MaterialRequirement("M", Decimal("0.800"), "KGM", "measured"),),
        (QualityRequirement("bore", "MMT", Decimal("11.98"), Decimal(12), None, "Dupont"),),
        Customer("Dupont", 9, T0, T0 + timedelta(days=3), ("no scratches",), "SO-7", "10"),
        "OF", "20", "L-1", Decimal(3600), {"erp": {"line": [1, Decimal("2.5")]}, "oven": Decimal("180.25")},
    )  # fmt: skip
    job = Job(order, INT, 3, Decimal(10), Decimal(8), Decimal(1), Decimal(1), T0, T0, None)
    job.materials.book("M", Decimal("0.8"), "KGM", lot_id="L9", mode=ConsumptionMode.MEASURED)
    job.count_result(QualityVerdict.PASS)
    job.count_result(QualityVerdict.FAIL)
    job.promise = Promise(T0, T0, PromiseVerdict.AT_RISK, "because")
    job.keeper.update(job.promise, 1)
    job.written = WriteState.WRITTEN
    row = json.loads(json.dumps(dump_job(job)))
    again = load_job(row)
    assert dump_job(again) == dump_job(job)
    assert again.written is WriteState.WRITTEN
    assert load_job({key: value for key, value in row.items() if key != "written"}).written is WriteState.NONE
    assert again.order == order
    assert again.view() == job.view()
    assert (again.view().quality_pass, again.view().quality_fail, again.view().verdict) == (1, 1, "at_risk")


NAMES = st.sampled_from(["OF-1", "OF-2", "OF-3", "OF-4"])


class AnySequenceOfCommands(RuleBasedStateMachine):
    """Verbs in any order, pieces and restarts in between."""

    @initialize(end=st.sampled_from(["manual", "at_quantity"]), next_=st.sampled_from(["manual", "auto"]))
    def begin(self, end: str, next_: str) -> None:
        self.dispatch = (end, next_)
        self.ledger = Ledger("press-07", *self.dispatch)
        self.rows: dict[str, str] = {}
        self.states: dict[str, JobState] = {}
        self.at = T0

    def book(self, transitions: tuple[Transition, ...] | list[Transition]) -> None:
        """Follow the events alone: they must lead to the states that the ledger has."""
        for transition in transitions:
            assert transition.previous is not transition.state
            if transition.previous is not None:
                assert self.states[transition.job_order_id] is transition.previous
            self.states[transition.job_order_id] = transition.state
        self.rows |= {job.job_order_id: json.dumps(dump_job(job)) for job in self.ledger.take_touched()}

    @rule(
        verb=st.sampled_from(Verb), name=NAMES, quantity=st.integers(-1, 30), priority=st.none() | st.integers(0, 3),
        order_id=st.sampled_from([None, "A", "B"]),
    )  # fmt: skip
    def command(self, verb: Verb, name: str, quantity: int, priority: int | None, order_id: str | None) -> None:
        self.at += timedelta(seconds=1)
        before = self.ledger.get(name)
        outcome = send(self.ledger, verb, name, at=self.at, quantity=Decimal(quantity), priority=priority, order_id=order_id)
        if not outcome.answer.accepted:
            assert outcome.transitions == ()
            assert self.ledger.get(name) is before
            assert self.ledger.take_touched() == []
        self.book(outcome.transitions)
        for job in outcome.removed:
            assert self.states.pop(job.job_order_id) is job.state

    @rule(pieces=st.integers(1, 12))
    def produce(self, pieces: int) -> None:
        self.at += timedelta(seconds=1)
        job = self.ledger.running
        if job is not None:
            job.produced += pieces
            job.good += pieces
            self.ledger.touch(job)
            self.book(self.ledger.on_good(job.good, self.at))

    @rule(name=NAMES)
    def type_a_number(self, name: str) -> None:
        self.at += timedelta(seconds=1)
        before = self.ledger.get(name)
        transitions, problem = self.ledger.switch_to(name, self.at)
        assert (problem is not None) == (before is None or (before.is_over and not transitions))
        if problem is not None:
            assert self.ledger.take_touched() == []
        self.book(transitions)

    @rule()
    def restart(self) -> None:
        self.ledger = Ledger("press-07", *self.dispatch)
        self.ledger.restore(load_job(json.loads(row)) for row in self.rows.values())

    @invariant()
    def holds(self) -> None:
        known = {name: job for name in ("OF-1", "OF-2", "OF-3", "OF-4") if (job := self.ledger.get(name)) is not None}
        assert {name: job.state for name, job in known.items()} == self.states
        running = [job for job in known.values() if job.state is RUN]
        assert running == ([] if self.ledger.running is None else [self.ledger.running])
        parts = [*running, *self.ledger.interrupted, *self.ledger.queue(), *self.ledger.recent()]
        assert sorted(job.job_order_id for job in parts) == sorted(known)
        by_order = {job.job_order_id for order_id in self.ledger.order_ids for job in self.ledger.of_order(order_id)}
        assert by_order == {name for name, job in known.items() if job.order.order_id is not None}
        for job in known.values():
            assert (job.ended_at is not None) == job.is_over
            assert job.state in (NAS, ATS, ABO) or job.started_at is not None
        if self.dispatch[0] == "at_quantity":
            assert all(job.remaining is None or job.remaining > 0 for job in running)


@efforts("examples", 20, 100, 1000)
def test_any_sequence_of_commands(examples: int) -> None:
    run_state_machine_as_test(AnySequenceOfCommands, settings=settings(max_examples=examples, stateful_step_count=40))
