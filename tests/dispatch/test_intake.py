"""Orders and facts in: who is asked, what is answered, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.dispatch import intake as intake_module
from gateway.dispatch.intake import Intake
from gateway.domain.events import Event, JobChanged
from gateway.domain.inbound import Inbound, Refusal
from gateway.domain.job_order import Answer, Fact, FactVerb, JobCommand, JobOrder, Problem, ReturnStatus, Verb
from gateway.domain.snapshot import Snapshot
from gateway.outbox.disk import DiskState
from tests.outbox.journal import AT, Journal, journal

LATER = AT + timedelta(hours=1)


@dataclass
class Bench:
    """A work unit that does what it is told, and remembers."""

    name: str
    seen: list[tuple[str, str | None, datetime]] = field(default_factory=list)
    refuse: Problem | None = None

    def command(self, cmd: JobCommand, at: datetime) -> tuple[Answer, list[Event]]:
        self.seen.append((cmd.command_id, cmd.work_unit, at))
        if self.refuse is not None:
            return Answer(cmd.command_id, int(ReturnStatus.INVALID_STATE), "Ended", self.refuse), []
        order = cmd.job_order.job_order_id
        event = JobChanged(
            work_unit=self.name,
            at=at,
            job_order_id=order,
            state="NotAllowedToStart",
            previous=None,
            command_id=cmd.command_id,
            problem=None,
        )
        return Answer(cmd.command_id, 1, "NotAllowedToStart"), [event]

    def fact(self, fact: Fact, at: datetime) -> tuple[Answer, list[Event]]:
        self.seen.append((fact.command_id, fact.work_unit, at))
        return Answer(fact.command_id, 1), []


@dataclass
class Desk:
    """The intake over a real journal, and its two work units."""

    journal: Journal
    intake: Intake
    press: Bench
    packer: Bench

    async def handle(self, inbound: Inbound, work_unit: str | None = "press-07", uplink: str = "plant") -> Answer:
        return await self.wait(
            asyncio.ensure_future(self.intake.handle(inbound, uplink=uplink, work_unit=work_unit, received_at=self.journal.clock.now()))
        )

    async def wait(self, answer: asyncio.Future[Answer]) -> Answer:
        await self.journal.until(answer.done)
        return answer.result()

    async def events(self) -> list[dict[str, object]]:
        return [json.loads(entry.body) for entry in await self.journal.store.entries(0, 1_000)]

    def counted(self, outcome: str, uplink: str = "plant") -> float:
        labels = {"uplink": uplink, "outcome": outcome}
        return self.journal.metrics.registry.get_sample_value("lineside_commands_total", labels) or 0.0


@asynccontextmanager
async def desk(state_dir: Path) -> AsyncIterator[Desk]:
    async with journal(state_dir) as j:
        press, packer = Bench("press-07"), Bench("packer-02")
        trackers = {bench.name: bench for bench in (press, packer)}
        intake = Intake(trackers, j.recorder, known_answer=j.store.known_answer, clock=j.clock, metrics=j.metrics)
        yield Desk(j, intake, press, packer)


def store_order(command_id: str, work_unit: str | None = None, **changes: object) -> JobCommand:
    return replace(JobCommand(Verb.STORE, command_id, JobOrder("OF-1"), AT, work_unit), **changes)


async def test_a_command_is_answered_when_it_is_on_disk(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.journal.fill_disk()
        d.journal.snapshots[:] = [Snapshot("press-07", 1, b"x" * 20_000)]
        waiting = asyncio.ensure_future(d.intake.handle(store_order("c1"), uplink="plant", work_unit="press-07", received_at=AT))
        await d.journal.until(lambda: d.journal.recorder.disk is DiskState.FULL)
        await d.journal.clock.advance(60)
        assert not waiting.done()
        assert [command_id for command_id, _, _ in d.press.seen] == ["c1"]
        await d.journal.free_disk()
        answer = await d.wait(waiting)
        assert answer.accepted
        changed, answered = await d.events()
        assert changed["type"] == "lineside.job.changed.v1"
        assert (answered["type"], answered["subject"]) == ("lineside.command.answered.v1", "OF-1")
        assert answered["data"] == {"command_id": "c1", "return_status": 1, "problem": None, "by": None, "corrects": None}
        assert await d.journal.store.known_answer("c1") == answer
        assert d.journal.commits() == 1
        assert d.counted("accepted") == 1


async def test_a_known_command_gets_its_answer_whatever_else_it_says(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        first = await d.handle(store_order("c1"))
        again = [
            store_order("c1"),
            store_order("c1", work_unit="packer-02"),
            store_order("c1", command=Verb.ABORT, expires_at=AT - timedelta(days=1)),
            Fact(FactVerb.EXPLAIN_STOP, "c1", AT, reason="coil_change"),
            Refusal("c1", "press-07", int(ReturnStatus.INVALID_REQUEST), Problem("unknown_field", "colour: there is no such field")),
        ]
        for inbound in again:
            assert await d.handle(inbound, uplink="erp") == first
        assert len(d.press.seen) == 1
        assert len(await d.events()) == 2
        assert d.counted("repeated", "erp") == len(again)
    async with desk(tmp_path) as d:
        assert await d.handle(store_order("c1")) == first
        assert d.press.seen == []


async def test_duplicates_at_the_same_time_are_applied_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        tasks = [
            asyncio.ensure_future(d.intake.handle(store_order("c1"), uplink=uplink, work_unit="press-07", received_at=AT))
            for uplink in ("plant", "erp", "plant")
        ]
        answers = [await d.wait(task) for task in tasks]
        assert answers == [answers[0]] * 3
        assert len(d.press.seen) == 1
        assert len(await d.events()) == 2


async def test_messages_are_applied_in_the_order_they_came(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        names = [f"c{n}" for n in range(20)]
        tasks = [
            asyncio.ensure_future(d.intake.handle(store_order(name), uplink="plant", work_unit="press-07", received_at=AT))
            for name in names
        ]
        for task in tasks:
            await d.wait(task)
        assert [command_id for command_id, _, _ in d.press.seen] == names


async def test_an_expired_command_is_refused(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        now = d.journal.clock.now()
        answer = await d.handle(store_order("c1", expires_at=now))
        assert (answer.return_status, answer.problem and answer.problem.code) == (int(ReturnStatus.INVALID_REQUEST), "expired")
        assert d.press.seen == []
        assert (await d.handle(store_order("c2", expires_at=now + timedelta(seconds=5)))).accepted
        assert d.counted("expired") == 1


async def test_the_address(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        cases: list[tuple[str | None, str | None, str | None]] = [
            ("press-07", "packer-02", "wrong_work_unit"),
            (None, "elsewhere", "unknown_work_unit"),
            ("elsewhere", None, "unknown_work_unit"),
            (None, None, "missing_field"),
            ("press-07", None, None),
            ("press-07", "press-07", None),
            (None, "packer-02", None),
        ]
        for number, (topic, given, code) in enumerate(cases):
            answer = await d.handle(store_order(f"c{number}", work_unit=given), topic)
            assert (answer.problem.code if answer.problem else None) == code
        assert [unit for _, unit, _ in d.press.seen] == ["press-07", "press-07"]
        assert [unit for _, unit, _ in d.packer.seen] == ["packer-02"]
        answered = [event for event in await d.events() if event["type"] == "lineside.command.answered.v1"]
        assert len(answered) == len(cases)
        assert str(answered[1]["source"]).endswith("/_gateway/line-pc-07")


async def test_a_refused_command_says_why_and_keeps_its_answer(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        d.press.refuse = Problem("invalid_state", "OF-1 is Ended")
        answer = await d.handle(store_order("c1"))
        assert (answer.accepted, answer.state) == (False, "Ended")
        d.press.refuse = None
        assert await d.handle(store_order("c1")) == answer
        (answered,) = await d.events()
        problem = {"code": "invalid_state", "text": "OF-1 is Ended"}
        assert answered["data"] == {"command_id": "c1", "return_status": 8, "problem": problem, "by": None, "corrects": None}
        assert d.counted("invalid_state") == 1


async def test_what_could_not_be_read_is_counted_and_recorded_only_with_a_name(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        nameless = Refusal(None, "press-07", int(ReturnStatus.INVALID_REQUEST), Problem("not_json", "the message is not JSON"))
        for _ in range(3):
            answer = await d.handle(nameless)
            assert (answer.command_id, answer.problem) == (None, nameless.problem)
        assert await d.events() == []
        assert d.counted("not_json") == 3
        named = Refusal("c1", "press-07", int(ReturnStatus.INVALID_REQUEST), Problem("unknown_field", "colour: there is no such field"))
        await d.handle(named)
        await d.handle(named)
        assert len(await d.events()) == 1
        assert d.press.seen == []


async def test_a_retained_command_is_refused_each_time_and_takes_nothing_from_the_real_one(tmp_path: Path) -> None:
    retained = Refusal("c1", "press-07", int(ReturnStatus.INVALID_REQUEST), Problem("retained", "the command is retained"))
    for _ in range(2):
        async with desk(tmp_path) as d:
            for _ in range(2):
                answer = await d.handle(retained)
                assert answer.problem is not None
                assert answer.problem.code == "retained"
            assert d.press.seen == []
    async with desk(tmp_path) as d:
        assert (await d.handle(store_order("c1"))).accepted
        # One for each life of the process, however often the broker repeats it.
        answered = [event["data"] for event in await d.events() if event["type"] == "lineside.command.answered.v1"]
        assert len(answered) == 3


async def test_facts_go_to_their_work_unit(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert (await d.handle(Fact(FactVerb.EXPLAIN_STOP, "f1", AT, reason="coil_change"))).accepted
        assert (await d.handle(Fact(FactVerb.LOAD_LOT, "f2", AT, work_unit="packer-02", lot_id="L1"), None, "erp")).accepted
        assert [unit for _, unit, _ in d.press.seen + d.packer.seen] == ["press-07", "packer-02"]


async def test_a_fact_corrects_one_that_was_accepted(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert (await d.handle(Fact(FactVerb.DECLARE_SCRAP, "f1", AT, quantity=Decimal(4)))).accepted
        assert not (await d.handle(Fact(FactVerb.DECLARE_SCRAP, "f2", AT, work_unit="packer-02", quantity=Decimal(-9)))).accepted
        seen = len(d.press.seen)
        for corrects in ("f0", "f2"):
            answer = await d.handle(Fact(FactVerb.DECLARE_SCRAP, f"of {corrects}", AT, quantity=Decimal(-4), corrects=corrects))
            assert answer.problem is not None
            assert answer.problem.code == "unknown_command"
        assert len(d.press.seen) == seen
        assert (await d.handle(Fact(FactVerb.DECLARE_SCRAP, "f3", AT, quantity=Decimal(-4), by="Ana", corrects="f1"))).accepted
        audit = (await d.events())[-1]["data"]
        assert isinstance(audit, dict)
        assert (audit["by"], audit["corrects"]) == ("Ana", "f1")
    async with desk(tmp_path) as d:
        assert (await d.handle(Fact(FactVerb.DECLARE_SCRAP, "f4", AT, quantity=Decimal(1), corrects="f3"))).accepted, "after a restart too"


async def test_a_batch_and_its_cursor_are_one_transaction(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        items = [store_order(f"c{n}", work_unit="press-07") for n in range(300)] + [
            store_order("c0", work_unit="press-07"),
            store_order("x"),
        ]
        done = asyncio.ensure_future(d.intake.handle_batch(items, uplink="erp", cursor="300"))
        await d.journal.until(done.done)
        answers = done.result()
        assert [answer.accepted for answer in answers] == [True] * 301 + [False]
        assert answers[301].problem is not None
        assert answers[301].problem.code == "missing_field"
        assert len(d.press.seen) == 300
        assert d.journal.commits() == 1
        assert await d.journal.store.order_cursor("erp") == "300"
        again = asyncio.ensure_future(d.intake.handle_batch(items[:2], uplink="erp", cursor=None))
        await d.journal.until(again.done)
        assert again.result() == answers[:2]
        assert await d.journal.store.order_cursor("erp") == "300"


async def test_old_answers_are_looked_up_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(tmp_path) as d:
        monkeypatch.setattr(intake_module, "REMEMBERED", 2)
        for number in range(5):
            await d.handle(store_order(f"c{number}"))
        assert len(d.intake._answers) == 2
        assert (await d.handle(store_order("c0"))).accepted
        assert len(d.press.seen) == 5


async def test_a_clock_set_back_does_not_date_a_command_before_its_message(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.wait(asyncio.ensure_future(d.intake.handle(store_order("c1"), uplink="plant", work_unit="press-07", received_at=LATER)))
        assert d.press.seen == [("c1", "press-07", LATER)]
