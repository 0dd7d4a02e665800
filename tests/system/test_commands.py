"""Commands over a real broker that cannot be obeyed: each is answered with its reason, counted, and changes nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from tests.system.line import BASE, UNITS, Event, Line, eventually, journal_events, standing_line
from tests.uplink.brokers import Listener, until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PRESS = f"{BASE}/{UNITS['press-07']}"
COMMAND, ANSWER = f"{PRESS}/job/command", f"{PRESS}/job/response"
FACT, FACT_ANSWER = f"{PRESS}/command", f"{PRESS}/response"
REPLIES = "mes/replies"
INVALID_REQUEST = 4294967296
OF_TIME = ("window.closed", "promise.changed", "job.progress")
"""Events that come with the hour, whatever anybody commands."""

Message = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    """One line for the whole file: machines stand still, the ERP has no orders."""
    async with standing_line(tmp_path_factory.mktemp("commands"), "--no-plan") as line:
        await eventually(line.counters_are_read, 30)
        yield line


@pytest.fixture
def mes(line: Line) -> Iterator[Listener]:
    with closing(Listener(line.broker_port, f"{BASE}/+/+/+/job/response", f"{BASE}/+/+/+/response", REPLIES)) as listener:
        yield listener


def order(command_id: str, **changes: Any) -> Message:
    now = datetime.now(UTC)
    message = {
        "command": "Store",
        "command_id": command_id,
        "work_unit": "press-07",
        "job_order": {"job_order_id": f"OF-{command_id}", "quantity": 100, "unit": "C62"},
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(minutes=5)).isoformat(),
    }
    return {key: value for key, value in {**message, **changes}.items() if value is not ...}


def other_events(line: Line) -> list[Event]:
    """The ledger without answers and without what time alone brings."""
    left_out = {f"lineside.{kind}.v1" for kind in ("command.answered", *OF_TIME)}
    return [event for event in journal_events(line.state_dir) if event["type"] not in left_out]


def answered(line: Line, command_id: str) -> list[Message]:
    """`data` of the ledger's answers to a command."""
    events = journal_events(line.state_dir)
    return [e["data"] for e in events if e["type"] == "lineside.command.answered.v1" and e["data"]["command_id"] == command_id]


async def ask(mes: Listener, topic: str, message: object, answer_topic: str, **options: Any) -> Message:
    """Send one message and wait for the next answer on `answer_topic`."""
    await mes.ready()
    before = len(mes.on(answer_topic))
    mes.publish(topic, message, **options)
    await until(lambda: len(mes.on(answer_topic)) > before, 30)
    answer: Message = mes.on(answer_topic)[before]
    assert set(answer) == {"command_id", "return_status", "accepted", "state", "problem"}
    return answer


async def refused_count(line: Line, code: str) -> float:
    _, text = await line.ask_page("/metrics")
    rows = [row for row in text.splitlines() if row.startswith("lineside_commands_total{") and f'"{code}"' in row]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


async def test_an_order_in_force_before_and_after_it_all(line: Line, mes: Listener) -> None:
    answer = await ask(mes, COMMAND, order("first", command="StoreAndStart"), ANSWER)
    assert answer == {"command_id": "first", "return_status": 1, "accepted": True, "state": "Running", "problem": None}
    # The order goes on to the machine, which is an event of its own.
    await eventually(lambda: is_written(line), 60)


async def is_written(line: Line) -> bool:
    written = [e["data"] for e in journal_events(line.state_dir) if e["type"] == "lineside.command.written.v1"]
    return [data["phase"] for data in written] == ["before", "after"]


WRONG: list[tuple[str, str, Message, int, str]] = [
    ("unknown verb", "job", {"command": "Explode"}, 4, "invalid_command"),
    ("expired", "job", {"expires_at": "2026-01-01T00:00:00Z"}, INVALID_REQUEST, "expired"),
    ("other work unit", "job", {"work_unit": "packer-02"}, INVALID_REQUEST, "wrong_work_unit"),
    ("unknown field", "job", {"colour": "red"}, INVALID_REQUEST, "unknown_field"),
    ("ill-typed field", "job", {"issued_at": 5}, INVALID_REQUEST, "invalid_field"),
    ("missing field", "job", {"issued_at": ...}, INVALID_REQUEST, "missing_field"),
    ("unknown order", "job", {"command": "Pause"}, 2, "unknown_order"),
]


@pytest.mark.parametrize(("name", "kind", "changes", "status", "code"), WRONG, ids=[row[0].replace(" ", "-") for row in WRONG])
async def test_what_is_wrong_is_answered_and_changes_nothing(
    name: str, kind: str, changes: Message, status: int, code: str, line: Line, mes: Listener
) -> None:
    command_id = f"wrong-{name.replace(' ', '-')}"
    before, counted = other_events(line), await refused_count(line, code)
    answer = await ask(mes, COMMAND, order(command_id, **changes), ANSWER)
    assert (answer["command_id"], answer["return_status"], answer["accepted"]) == (command_id, status, False)
    assert answer["problem"]["code"] == code
    assert answer["problem"]["text"]
    assert other_events(line) == before
    assert [(data["return_status"], data["problem"]["code"]) for data in answered(line, command_id)] == [(status, code)]
    assert await refused_count(line, code) == counted + 1


async def test_a_repeat_gets_the_stored_answer_whatever_else_it_says(line: Line, mes: Listener) -> None:
    first = await ask(mes, COMMAND, order("stored"), ANSWER)
    assert (first["accepted"], first["state"]) == (True, "NotAllowedToStart")
    before = journal_events(line.state_dir)
    for repeat in (order("stored"), order("stored", command="Abort", work_unit="packer-02"), order("stored", colour="red")):
        assert await ask(mes, COMMAND, repeat, ANSWER) == first
    assert journal_events(line.state_dir) == before, "a repeat is no event"


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"no JSON at all", "not_json"), (b"[1, 2", "not_json"), (b" " * 262_145, "too_large")],
    ids=["text", "half", "large"],
)
async def test_what_cannot_be_parsed_is_answered_only_where_an_answer_was_asked_for(
    payload: bytes, code: str, line: Line, mes: Listener
) -> None:
    before, counted = journal_events(line.state_dir), await refused_count(line, code)
    answer = await ask(mes, COMMAND, payload, REPLIES, response_topic=REPLIES, correlation=b"\x00\xff7")
    assert (answer["command_id"], answer["return_status"], answer["accepted"]) == (None, INVALID_REQUEST, False)
    assert answer["problem"]["code"] == code
    assert mes.messages[-1].properties.CorrelationData == b"\x00\xff7"
    silent = len(mes.messages)
    mes.publish(COMMAND, payload)
    # A command that follows is answered after it: what was not said by then is never said.
    await ask(mes, COMMAND, order(f"after-{code}-{len(payload)}", command="Pause"), ANSWER)
    assert len(mes.messages) == silent + 1
    assert await refused_count(line, code) == counted + 2
    new = journal_events(line.state_dir)[len(before) :]
    assert [event["type"] for event in new if event["type"] not in [f"lineside.{kind}.v1" for kind in OF_TIME]] == [
        "lineside.command.answered.v1"
    ]


async def test_a_command_of_more_than_256_kib_changes_nothing(line: Line, mes: Listener) -> None:
    heavy = order("heavy", job_order={"job_order_id": "OF-heavy", "properties": {"note": "x" * 270_000}})
    before = other_events(line)
    answer = await ask(mes, COMMAND, heavy, REPLIES, response_topic=REPLIES)
    assert answer["problem"]["code"] == "too_large"
    assert not answer["accepted"]
    assert other_events(line) == before


async def test_the_response_topic_and_correlation_data_of_mqtt_5_are_honoured(line: Line, mes: Listener) -> None:
    answer = await ask(mes, COMMAND, order("correlated"), REPLIES, response_topic=REPLIES, correlation=b"round-7")
    await until(lambda: any(a["command_id"] == "correlated" for a in mes.on(ANSWER)))
    assert answer["accepted"]
    for topic in (REPLIES, ANSWER):
        [message] = [m for m in mes.messages if m.topic == topic and json.loads(m.payload)["command_id"] == "correlated"]
        assert message.properties.CorrelationData == b"round-7"
        assert not message.retain


async def test_a_fact_that_is_wrong_is_answered_on_its_own_topic(line: Line, mes: Listener) -> None:
    before = other_events(line)
    at = datetime.now(UTC).isoformat()
    for number, (changes, code) in enumerate(
        [({"command": "Dance"}, "invalid_command"), ({"command": "ExplainStop", "reason": "no_such_reason"}, "unknown_reason")]
    ):
        answer = await ask(mes, FACT, {"command_id": f"fact-{number}", "at": at, **changes}, FACT_ANSWER)
        assert (answer["command_id"], answer["accepted"]) == (f"fact-{number}", False)
        assert answer["problem"]["code"] == code
    assert other_events(line) == before


async def test_a_retained_command_is_refused_also_after_a_restart(line: Line, mes: Listener) -> None:
    before = other_events(line)
    answer = await ask(mes, COMMAND, order("kept"), ANSWER, retain=True)
    assert (answer["command_id"], answer["return_status"], answer["problem"]["code"]) == ("kept", INVALID_REQUEST, "retained")
    assert await line.stop_daemon() == 0, line.log("gateway")
    answers = len(mes.on(ANSWER))
    await line.start_daemon()
    await line.ready()
    await until(lambda: len(mes.on(ANSWER)) > answers, 60)
    assert mes.on(ANSWER)[answers]["problem"]["code"] == "retained"
    known = [event for event in other_events(line) if event not in before]
    assert [event for event in known if event["type"].startswith("lineside.job.")] == []
    mes.publish(COMMAND, b"", retain=True)
    # The refusal of a retained message says nothing of the command itself; the broker may repeat the retained one once more meanwhile.
    mes.publish(COMMAND, order("kept"))
    await until(lambda: any(answer["command_id"] == "kept" and answer["accepted"] for answer in mes.on(ANSWER)), 60)


async def test_the_first_order_has_not_noticed_any_of_it(line: Line, mes: Listener) -> None:
    _, orders = await line.ask_page("/api/orders")
    text = json.dumps(orders)
    assert "OF-first" in text
    states = [
        e["data"]["state"] for e in journal_events(line.state_dir) if e["type"] == "lineside.job.changed.v1" and e["subject"] == "OF-first"
    ]
    assert states == ["Running"]
    again = await ask(mes, COMMAND, order("first", command="StoreAndStart"), ANSWER)
    assert again == {"command_id": "first", "return_status": 1, "accepted": True, "state": "Running", "problem": None}
