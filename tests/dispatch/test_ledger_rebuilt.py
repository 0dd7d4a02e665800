"""Any sequence of verbs, repeats, restarts and late facts: whoever keeps the published events has the ledger, exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.dispatch.intake import Intake
from gateway.domain.cloud_event import cloud_event, encode
from gateway.domain.equipment import WorkUnit
from gateway.domain.events import Event
from gateway.domain.inbound import Inbound
from gateway.domain.job import dump_job
from gateway.domain.job_order import Answer, Fact, FactVerb, JobCommand, JobOrder, MaterialRequirement, QualityRequirement, Verb
from gateway.metrics import Metrics
from simulators.ledger_copy import LedgerCopy, parse_json, short_type
from tests.domain.post import Post, at
from tests.domain.stories import STATES, units
from tests.effort import efforts
from tests.manual_clock import ManualClock

WHATS = ("produced", "good", "scrap", "rework")
NAMES = st.sampled_from(["OF-1", "OF-2", "OF-3"])
LATE_FACTS = ("DeclareProduction", "DeclareScrap", "DeclareRework", "Reassign", "RecordQuality", "LoadLot", "ExplainStop")


class Rebuilt:
    """A ledger made of events alone. An order that comes again after a Cancel or Clear begins anew (`previous` null)."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> None:
        kind, name, data = short_type(event), event.get("subject"), event["data"]
        if kind == "job.changed":
            if data["previous"] is None:
                self.jobs[name] = {"state": None, "consumed": Decimal(0), "Pass": 0, "Fail": 0, "progress": None} | dict.fromkeys(WHATS, 0)
            assert self.jobs[name]["state"] == data["previous"]
            self.jobs[name]["state"] = data["state"]
        elif name in self.jobs and kind == "quantity.counted":
            for what in WHATS:
                self.jobs[name][what] += data[what]
        elif name in self.jobs and kind == "job.progress":
            self.jobs[name]["progress"] = {what: data[what] for what in WHATS}
        elif name in self.jobs and kind == "material.consumed":
            self.jobs[name]["consumed"] += data["quantity"]
        elif name in self.jobs and kind == "quality.result":
            self.jobs[name][data["result"]] += 1


class Journal:
    """What the intake writes to; it outlives a restart."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.answers: dict[str, Answer] = {}

    def record(self, events: Sequence[Event]) -> None:
        self.post.events += events

    def record_answer(self, answer: Answer, at: datetime) -> None:
        assert answer.command_id is not None
        self.answers[answer.command_id] = answer

    def record_order_cursor(self, uplink: str, cursor: str) -> None: ...

    async def committed(self) -> None: ...

    async def known_answer(self, command_id: str) -> Answer | None:
        return self.answers.get(command_id)


class AnyDay(RuleBasedStateMachine):
    @initialize(of=units)
    def begin(self, of: WorkUnit) -> None:
        self.now, self.made, self.sent = 0, [65_500, 0, 0], list[Inbound]()
        self.journal = Journal(Post(of).begin(0))
        self.copy, self.rebuilt, self.sequence = LedgerCopy(), Rebuilt(), 0
        self.produced: dict[str, Decimal] = {}
        self.falls: set[str] = set()
        self.clock = ManualClock(at(0))
        self.metrics = Metrics()
        self.open_desk()
        self.read(10, 3, 1, 0)
        self.read(10, 3, 0, None)
        for name in ("OF-1", "OF-2"):
            self.order(10, Verb.STORE_AND_START, name, None, None)
        self.read(10, 5, 1, None)

    def open_desk(self) -> None:
        targets = {self.journal.post.unit.name: self.journal.post.tracker}
        self.intake = Intake(targets, self.journal, known_answer=self.journal.known_answer, clock=self.clock, metrics=self.metrics)

    @property
    def post(self) -> Post:
        return self.journal.post

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.clock.step_wall(seconds)

    def hand_in(self, inbound: Inbound) -> Answer:
        handled = self.intake.handle(inbound, uplink="mes", work_unit=self.post.unit.name, received_at=self.clock.now())
        answer = asyncio.run(handled)
        self.sent.append(inbound)
        return answer

    @rule(
        delay=st.integers(0, 100), verb=st.sampled_from([*Verb, Verb.STORE_AND_START, Verb.START]), name=NAMES,
        quantity=st.none() | st.integers(0, 40), priority=st.none() | st.integers(0, 3),
    )  # fmt: skip
    def order(self, delay: int, verb: Verb, name: str, quantity: int | None, priority: int | None) -> None:
        self.pass_time(delay)
        order = JobOrder(
            name, quantity=None if quantity is None else Decimal(quantity), priority=priority,
            material_requirements=(MaterialRequirement("M", Decimal("0.5"), "KGM"),),
            quality_requirements=(QualityRequirement("bore", lower=Decimal(1), upper=Decimal(3)),),
        )  # fmt: skip
        given = frozenset({"quantity", "priority"})
        before = self.row(name)
        answer = self.hand_in(JobCommand(verb, f"c{len(self.sent)}", order, self.clock.now(), given=given))
        if not answer.accepted:
            assert self.row(name) == before

    @rule(
        delay=st.integers(0, 100), verb=st.sampled_from(LATE_FACTS), name=st.sampled_from([None, None, "OF-1", "OF-1", "OF-2", "OF-3"]),
        quantity=st.integers(-2, 3),
        ago=st.integers(0, 4000),
    )  # fmt: skip
    def fact(self, delay: int, verb: str, name: str | None, quantity: int, ago: int) -> None:
        self.pass_time(delay)
        about = at(max(self.now - ago, 0))
        fact = Fact(FactVerb(verb), f"f{len(self.sent)}", about, job_order_id=name)
        number = Decimal(quantity)
        fact = replace(
            fact, quantity=number, good=number, scrap=Decimal(quantity // 2), value=number, characteristic="bore", reason="jam",
            material_id="M", lot_id=f"L{quantity}", from_=about, to=self.clock.now(),
        )  # fmt: skip
        if verb == "DeclareProduction" and quantity < 0:
            running = self.post.tracker.production.ledger.running
            self.falls = {name or (running.job_order_id if running else "")}
        self.hand_in(fact)

    @rule(index=st.integers(0, 1000))
    def repeat(self, index: int) -> None:
        """The same command_id again, whatever happened meanwhile."""
        if self.sent:
            inbound = self.sent[index % len(self.sent)]
            events, answered = len(self.post.events), self.journal.answers[str(inbound.command_id)]
            assert self.hand_in(inbound) == answered
            self.sent.pop()
            assert len(self.post.events) == events

    @rule(delay=st.integers(1, 300), made=st.integers(0, 9), reject=st.integers(0, 2), state=st.none() | STATES)
    def read(self, delay: int, made: int, reject: int, state: int | None) -> None:
        self.pass_time(delay)
        self.made = [self.made[0] + made, self.made[1] + min(made, reject), 0]
        tags = {"parts": self.made[0] % 65_536, "reject": self.made[1], "rework": 0}
        self.post.read(self.now, **(tags if state is None else tags | {"state": state}))

    @rule(delay=st.integers(1, 4000))
    def wait(self, delay: int) -> None:
        self.pass_time(delay)
        self.post.wait(self.now)

    @rule()
    def restart(self) -> None:
        self.journal.post = self.post.restarted()
        self.open_desk()

    def row(self, name: str) -> dict[str, Any] | None:
        job = self.post.tracker.production.ledger.get(name)
        return None if job is None else {key: value for key, value in dump_job(job).items() if key not in ("promise", "keeper")}

    def publish(self) -> None:
        for event in self.post.events[self.sequence :]:
            self.sequence += 1
            envelope = cloud_event(event, gateway_id="g", epoch="e", sequence=self.sequence, source="/acme/lyon/hall/line/press")
            received = parse_json(encode(envelope))
            self.copy.take(received)
            self.rebuilt.take(received)

    @invariant()
    def the_copy_is_the_ledger(self) -> None:
        if not hasattr(self, "journal"):
            return
        self.publish()
        ledger = self.post.tracker.production.ledger
        for name, known in self.rebuilt.jobs.items():
            job = ledger.get(name)
            if job is None:
                assert known["state"] in ("Ended", "Aborted"), "only what is over can be taken out"
                self.produced.pop(name, None)
                continue
            assert known["state"] == job.state
            assert {what: known[what] for what in WHATS} == {what: getattr(job, what) for what in WHATS}
            assert known["consumed"] == sum(total.quantity for total in job.materials.totals())
            assert (known["Pass"], known["Fail"]) == (job.quality_pass, job.quality_fail)
            assert job.produced == job.good + job.scrap + job.rework
            assert job.produced >= self.produced.get(name, Decimal(0)) or name in self.falls
            self.produced[name] = job.produced
        self.falls = set()
        every = [ledger.running, *ledger.interrupted, *ledger.queue(), *ledger.recent()]
        assert {job.job_order_id for job in every if job is not None} <= set(self.rebuilt.jobs)
        assert sum(known["state"] == "Running" for known in self.rebuilt.jobs.values()) == (ledger.running is not None)

    def teardown(self) -> None:
        if not hasattr(self, "journal"):
            return
        self.now += 30
        self.post.wait(self.now)
        self.publish()
        assert self.copy.report()["clean"]
        for name, known in self.rebuilt.jobs.items():
            job = self.post.tracker.production.ledger.get(name)
            if job is not None and job.produced:
                assert known["progress"] == {what: getattr(job, what) for what in WHATS}


@efforts("examples", 4, 40, 120)
def test_events_alone_rebuild_the_ledger(examples: int) -> None:
    profile = settings(max_examples=examples, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(AnyDay, settings=profile)
