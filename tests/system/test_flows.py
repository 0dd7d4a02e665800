"""Every flow of the loop in one run of the whole line, from its source to its target; what was published fits the published schemas.

docs/flows.md names these tests beside their flows; `tests/project/test_flows.py` checks that they exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from gateway.cli.demo_books import reconcile
from gateway.uplink.schema import asyncapi, messages_schema
from simulators.loopback import HOST
from tests.system.line import BASE, GATEWAY, UNITS, Event, Line, die_with_parent, eventually, journal_events, of_type, whole_line
from tests.uplink.brokers import Listener

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CONSUMER = Path(__file__).parents[2] / "docs/example-consumer/consumer.py"
PRESS = f"{BASE}/{UNITS['press-07']}"
SPEED = 20.0


@dataclass
class Day:
    """What each place had at the end."""

    journal: list[Event]
    erp: list[Event]
    orders: dict[str, dict[str, Any]]
    """JobOrders as the ERP sent them, by id."""
    messages: list[tuple[str, bytes]]
    copy: list[Event]
    """What the example consumer wrote."""
    trace: dict[str, Any]
    """What is known of the coil that was loaded."""
    plans: dict[str, Any]
    """Which order of the press's queue loses least."""

    def on(self, pattern: str) -> list[Any]:
        return [json.loads(body) for topic, body in self.messages if re.fullmatch(f"{BASE}/{pattern}", topic) and body]


def two_consumers(config: dict[str, Any]) -> None:
    config["uplinks"]["plant"]["consumers"] = ["mes", "example"]


@contextlib.asynccontextmanager
async def example_consumer(line: Line, file: Path) -> AsyncIterator[None]:
    command = [sys.executable, str(CONSUMER), "--broker", f"{HOST}:{line.broker_port}", "--base", BASE]
    command += ["--consumer", "example", "--file", str(file)]
    with (line.folder / "consumer.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        yield
        assert process.returncode is None, (line.folder / "consumer.log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


def copied(file: Path) -> list[Event]:
    return [json.loads(row) for row in file.read_bytes().splitlines()] if file.exists() else []


async def urgent_order(mes: Listener) -> None:
    """The CRM's order, which overtakes the queue; then what a person at the press knows."""
    now = datetime.now(UTC)
    due = now + timedelta(seconds=1)
    order = {
        "job_order_id": "OF-URGENT", "quantity": 40, "unit": "C62", "ideal_cycle_time_s": 0.06, "product_id": "CAPOT12",
        "customer": {"name": "Rhône Automobile", "priority": 999, "delivery_to": due.isoformat(), "requirements": ["3.1"]},
    }  # fmt: skip
    command = {"command": "StoreAndStart", "command_id": "crm-1", "work_unit": "press-07", "issued_at": now.isoformat(), "job_order": order}
    mes.publish(f"{PRESS}/job/command", command)
    lot = {"material_id": "MP-TOLE-1.5", "lot_id": "COIL-77", "quantity": 900, "unit": "KGM"}
    mes.publish(f"{PRESS}/command", {"command": "LoadLot", "command_id": "fact-1", "at": now.isoformat(), **lot})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def day(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Day]:
    """An order is made, an urgent one comes, the broker dies in between, and everything settles."""
    folder = tmp_path_factory.mktemp("flows")
    file, heard = folder / "copy.jsonl", list[tuple[str, bytes]]()
    async with whole_line(folder, speed=SPEED, edit=two_consumers) as line, example_consumer(line, file):
        with contextlib.closing(Listener(line.broker_port, f"{BASE}/#")) as mes:
            await mes.ready()
            await line.made("press-07", 20)
            await urgent_order(mes)
            await line.made("press-07", 60)
            await asyncio.sleep(0.5)
            heard += [(message.topic, message.payload) for message in mes.messages]
        await line.kill_broker()
        await line.made("press-07", 90)
        await line.start_broker()
        with contextlib.closing(Listener(line.broker_port, f"{BASE}/#")) as mes:
            await mes.ready()

            async def urgent_is_done() -> bool:
                orders = (await line.get("/erp/report"))["orders"]
                return bool(orders.get("OF-URGENT", {}).get("state") == "Ended")

            await eventually(urgent_is_done, 60)
            await line.switch_off()
            await eventually(lambda: _pieces_agree(line), 60)
            await eventually(lambda: _holds_all(line, file), 40)
            heard += [(message.topic, message.payload) for message in mes.messages]
        _, trace = await line.ask_page("/api/trace/COIL-77")
        _, plans = await line.ask_page("/api/whatif?work_unit=press-07")
        erp = (await line.get("/erp/events"))["events"]
        sent = (await line.get("/erp/commands"))["commands"]
        journal = journal_events(line.state_dir)
        orders = {command["job_order"]["job_order_id"]: command["job_order"] for command in sent}
        yield Day(journal, erp, orders, heard, copied(file), trace, plans)


async def _pieces_agree(line: Line) -> bool:
    """Everywhere. (Not the order at the MES: what the broker lost is told again behind later events.)"""
    try:
        pieces = reconcile(await line.get("/state"), line.state_dir).pieces
    except sqlite3.Error:
        return False
    return all(place == pieces["PLC"] for place in pieces.values())


async def _holds_all(line: Line, file: Path) -> bool:
    return {event["id"] for event in copied(file)} == {event["id"] for event in journal_events(line.state_dir)}


# --- the flows of docs/flows.md, in its order ---------------------------------------------------------------------------


async def test_work_orders_from_the_erp_run_on_the_line(day: Day) -> None:
    """ERP -> line: orders, routing, material, due dates; held and worked in their order."""
    known = {event["subject"] for event in of_type(day.journal, "job.changed")}
    assert set(day.orders) <= known
    first = next(name for name, order in day.orders.items() if order["operation_id"] == "0020")
    changes = [event["data"]["state"] for event in of_type(day.journal, "job.changed") if event["subject"] == first]
    assert changes == ["Running", "Ended"]
    told = day.on(f"{UNITS['press-07']}/job/{first}")[-1]
    order = day.orders[first]
    for name in ("work_master_id", "product_id", "order_id", "operation_id", "lot_id", "priority", "properties"):
        assert told[name] == order[name]
    assert told["target"] == order["quantity"]
    assert {material["material_id"] for material in told["materials"]} == {m["material_id"] for m in order["material_requirements"]}


async def test_quality_limits_and_priorities_from_above_are_used(day: Day) -> None:
    """ERP, CRM -> line: each result is judged by the order's own limits, and the urgent order came before those that waited."""
    results = of_type(day.journal, "quality.result", "press-07")
    judged = [event for event in results if event.get("subject") in day.orders]
    assert judged
    for event in judged:
        [asked] = day.orders[event["subject"]]["quality_requirements"]
        assert {name: event["data"][name] for name in ("lower", "target", "upper", "required_by")} == {
            name: asked[name] for name in ("lower", "target", "upper", "required_by")
        }
    began = [e["subject"] for e in of_type(day.journal, "job.changed", "press-07") if e["data"]["state"] == "Running"]
    assert began[1] == "OF-URGENT", "it overtook the plan's second order"


async def test_the_customers_window_and_wishes_come_down(day: Day) -> None:
    """CRM -> line: delivery window and requirements stand beside the order, and the verdict is against that window."""
    told = day.on(f"{UNITS['press-07']}/job/OF-URGENT")[-1]
    assert told["customer"]["name"] == "Rhône Automobile"
    assert told["customer"]["requirements"] == ["3.1"]
    verdicts = [event["data"]["verdict"] for event in of_type(day.journal, "promise.changed") if event["subject"] == "OF-URGENT"]
    assert verdicts[:1] == ["late"], "a second was too short"


async def test_the_order_reaches_the_machine(day: Day) -> None:
    """line -> machine: the running order's quantity, told before it is written and after it was read back."""
    written = [event for event in of_type(day.journal, "command.written") if event["subject"] == "OF-URGENT"]
    assert [(event["data"]["value"], event["data"]["phase"], event["data"]["problem"]) for event in written] == [
        (40, "before", None), (40, "after", None),
    ]  # fmt: skip


async def test_what_people_know_comes_down_as_facts(day: Day) -> None:
    """terminal, MES -> line: the lot that was loaded is the one that is consumed, and the fact was answered."""
    assert [answer["accepted"] for answer in day.on(f"{UNITS['press-07']}/response")] == [True]
    consumed = of_type(day.journal, "material.consumed", "press-07")
    assert "COIL-77" in {event["data"]["lot_id"] for event in consumed if event["data"]["material_id"] == "MP-TOLE-1.5"}


async def test_progress_consumption_and_quality_reach_the_erp(day: Day) -> None:
    """line -> ERP: every event once, in order; the last totals are what was made."""
    assert day.erp == day.journal[: len(day.erp)]
    for kind in ("job.progress", "material.consumed", "quality.result", "job.changed"):
        assert of_type(day.erp, kind), kind
    last = [event["data"] for event in of_type(day.erp, "job.progress") if event["subject"] == "OF-URGENT"][-1]
    assert last["final"]
    assert last["good"] >= 40
    counted = [event["data"] for event in of_type(day.erp, "quantity.counted") if event.get("subject") == "OF-URGENT"]
    assert last["produced"] == sum(data["produced"] for data in counted)


async def test_states_stops_and_figures_reach_the_mes(day: Day) -> None:
    """line -> MES: order state, machine state, stops, cycle times, quality, TRS and alerts on their topics."""
    unit = UNITS["press-07"]
    assert {"running"} <= {body["state"] for body in day.on(f"{unit}/state")}
    assert all(body["oee"] is None or body["oee"] >= 0 for body in day.on(f"{unit}/kpi/job"))
    assert any(body["trs"] for body in day.on(f"{unit}/kpi/hour"))
    for leaf in ("job/changed", "state/changed", "quality/result", "quantity/counted"):
        assert day.on(f"{unit}/event/{leaf}"), leaf


async def test_dates_and_free_capacity_reach_the_crm(day: Day) -> None:
    """line -> CRM: next free slot, load per day, the queue with its dates; a changed promise is an event."""
    told = day.on(f"{UNITS['press-07']}/availability")
    assert any(body["free_from"] for body in told)
    assert any(row["job_order_id"] == "OF-URGENT" and row["eta_likely"] for body in told for row in body["queue"])
    assert all(body["load"][0]["required_s"] > 0 for body in told)
    assert [e for e in day.on(f"{UNITS['press-07']}/event/promise/changed") if e["subject"] == "OF-URGENT"]


async def test_what_losses_cost_reaches_erp_and_team_leader(day: Day) -> None:
    """line -> ERP, team leader: money in each window, also of an order that ended."""
    assert any(body["loss_cost"] is not None for body in day.on(f"{UNITS['press-07']}/kpi/(shift|hour)"))
    closed = [event["data"] for event in of_type(day.erp, "window.closed", "press-07")]
    assert all("loss_cost" in data for data in closed)


async def test_which_order_loses_least_is_told_to_the_team_leader(day: Day) -> None:
    """line -> ERP, team leader: the queue as it stands and in other orders, each with its lateness; the running daemon answers."""
    assert {"present", "earliest_due_date"} <= {plan["rule"] for plan in day.plans["plans"]}
    assert day.plans["best"] in {plan["rule"] for plan in day.plans["plans"]}


async def test_a_complaint_that_names_a_lot_is_answered(day: Day) -> None:
    """line -> CRM: the coil that was loaded leads to the order it went into."""
    used = json.dumps(day.trace)
    assert "COIL-77" in used
    assert "OF-URGENT" in used


async def test_raw_values_reach_the_historian(day: Day) -> None:
    """line -> historian: each tag on its topic, and every device's values in batches."""
    assert {body["quality"] for body in day.on(f"{UNITS['press-07']}/tag/parts")} >= {"good"}
    batches = day.on(rf"{GATEWAY}/device/press_plc")
    assert {row[0] for batch in batches for row in batch["values"]} >= {"parts", "running", "bore"}


# --- what was published -------------------------------------------------------------------------------------------------


async def test_every_message_is_on_a_published_topic_and_fits_its_schema(day: Day) -> None:
    schema, document = messages_schema(), asyncapi()
    channels = []
    for channel in document["channels"].values():
        pattern = re.sub(r"\{root\}", "lineside/v1", channel["address"])
        [message] = channel["messages"]
        channels.append((re.compile(re.sub(r"\{[a-z_]+\}", "[^/]+", pattern)), message))
    validators = {name: Draft202012Validator({**schema, "anyOf": [{"$ref": f"#/$defs/{name}"}]}) for _, name in channels}
    seen: set[str] = set()
    for topic, body in day.messages:
        names = {name for pattern, name in channels if pattern.fullmatch(topic)}
        if topic.endswith(("/job/command", "/job/response")):
            names.discard("JobResponse")
        assert len(names) == 1, f"{topic}: {names}"
        [name] = names
        seen.add(name)
        if body:  # an empty one takes a retained message away
            validators[name].validate(json.loads(body))
    assert {"State", "JobResponse", "Availability", "Health", "OpenWindow", "Tag", "DeviceBatch", "JobCommand", "Answer", "Ack"} <= seen
    assert {"JobProgressEvent", "MaterialConsumedEvent", "PromiseChangedEvent", "CommandWrittenEvent"} <= seen


async def test_the_example_consumer_has_an_exact_copy_though_the_broker_died(day: Day) -> None:
    by_id = {event["id"]: event for event in day.copy}
    assert len(by_id) == len(day.copy), "no repeat was kept"
    assert by_id == {event["id"]: event for event in day.journal}
