"""The MQTT uplink against a real broker, and against one that misbehaves."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.inbound import Refusal
from gateway.domain.job_order import JobCommand
from gateway.seams import UplinkError
from gateway.uplink.mqtt import MqttUplink
from gateway.uplink.mqtt_lanes import TelemetrySource
from tests.uplink.brokers import Behaviour, Listener, Mosquitto, StubBroker, until
from tests.uplink.certificates import certificates
from tests.uplink.conftest import OWN, UNIT, LeapingClock, mqtt_uplink
from tests.uplink.doubles import Alerts, Ledger, entry

pytestmark = pytest.mark.slow

START = {"command": "StoreAndStart", "command_id": "c-1", "issued_at": "2026-11-25T06:00:00Z", "job_order": {"job_order_id": "OF-1"}}


async def test_birth_and_goodbye_are_retained(mosquitto: Mosquitto) -> None:
    uplink = mqtt_uplink(mosquitto.url)
    await uplink.connect()
    early = Listener(mosquitto.port, f"{OWN}/status")
    await until(lambda: len(early.messages) == 1)
    assert json.loads(early.messages[0].payload) == {"online": True, "gateway": "line-pc-07", "version": "0.1.0"}
    assert early.messages[0].retain
    await uplink.close()
    await until(lambda: len(early.messages) == 2)
    assert early.on(f"{OWN}/status")[-1]["online"] is False
    early.close()
    late = Listener(mosquitto.port, f"{OWN}/status")
    await until(lambda: len(late.messages) == 1)
    assert late.on(f"{OWN}/status") == [{"online": False, "gateway": "line-pc-07"}]
    late.close()


async def test_a_gateway_that_vanishes_is_declared_offline_by_the_broker(mosquitto: Mosquitto) -> None:
    uplink = mqtt_uplink(mosquitto.url)
    await uplink.connect()
    listener = Listener(mosquitto.port, f"{OWN}/status")
    await until(lambda: len(listener.messages) == 1)
    assert uplink._connection is not None
    assert uplink._connection._client is not None
    uplink._connection._client.socket().close()  # type: ignore[union-attr]
    await until(lambda: len(listener.messages) == 2)
    assert listener.on(f"{OWN}/status")[-1]["online"] is False
    await uplink.close()
    listener.close()


async def test_events_go_to_their_topics_in_order(mosquitto: Mosquitto) -> None:
    listener = Listener(mosquitto.port, "lineside/v1/#")
    await listener.ready()
    uplink = mqtt_uplink(mosquitto.url)
    await uplink.connect()
    batch = [entry(n) for n in range(1, 60)] + [entry(60, work_unit=None, type_="clock.stepped")]
    receipt = await uplink.deliver(batch)
    assert receipt.accepted == frozenset(range(1, 61))
    assert not receipt.unrouted
    await until(lambda: len(listener.events) == 60)
    assert listener.events == list(range(1, 61))
    topics = [message.topic for message in listener.messages if "/event/" in message.topic]
    assert topics[0] == f"{UNIT}/event/quantity/counted"
    assert topics[-1] == f"{OWN}/event/clock/stepped"
    assert not any(message.retain for message in listener.messages if "/event/" in message.topic)
    assert listener.messages[-1].payload == batch[-1].body
    await uplink.close()
    listener.close()


async def test_rows_nobody_listens_to_are_told(mosquitto: Mosquitto) -> None:
    uplink = mqtt_uplink(mosquitto.url)
    await uplink.connect()
    receipt = await uplink.deliver([entry(1), entry(2)])
    assert receipt.accepted == receipt.unrouted == {1, 2}
    await uplink.close()


async def test_denied_topic_holds_its_work_unit_only(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite #\ntopic deny lineside/v1/acme/lyon/stamping/line-3/press-07/event/#\n")
    broker = Mosquitto(tmp_path / "broker", f"acl_file {acl}", unlimited=False)
    await broker.start()
    uplink = mqtt_uplink(broker.url)
    try:
        await uplink.connect()
        receipt = await uplink.deliver([entry(1), entry(2, work_unit="packer-02"), entry(3), entry(4, work_unit="packer-02")])
        assert receipt.accepted == {2, 4}
        assert receipt.refused[1] == "0x87 not authorized"
    finally:
        await uplink.close()
        broker.kill()


@dataclass
class Serving:
    uplink: MqttUplink
    task: asyncio.Task[None]
    heard: list[None]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.uplink.close()


async def serving(uplink: MqttUplink) -> Serving:
    await uplink.connect()
    heard: list[None] = []
    return Serving(uplink, asyncio.create_task(uplink.serve(lambda: heard.append(None))), heard)


async def test_a_command_is_answered_after_the_commit_and_then_acknowledged(mosquitto: Mosquitto) -> None:
    ledger = Ledger()
    listener = Listener(mosquitto.port, f"{UNIT}/job/response", "mes/answers")
    await listener.ready()
    running = await serving(mqtt_uplink(mosquitto.url, ledger=ledger))
    listener.publish(f"{UNIT}/job/command", START, response_topic="mes/answers", correlation=b"\x01\x02")
    await until(lambda: len(listener.messages) == 2)
    answer = {"command_id": "c-1", "return_status": 1, "accepted": True, "state": "Running", "problem": None}
    assert listener.on(f"{UNIT}/job/response") == [answer]
    assert listener.on("mes/answers") == [answer]
    assert all(getattr(message.properties, "CorrelationData", None) == b"\x01\x02" for message in listener.messages)
    inbound, work_unit = ledger.taken[0]
    assert isinstance(inbound, JobCommand)
    assert work_unit == "press-07"
    assert inbound.given == {"job_order_id"}
    assert running.heard
    await running.stop()
    listener.close()


async def test_a_command_whose_commit_never_came_is_brought_again(mosquitto: Mosquitto) -> None:
    class Stuck(Ledger):
        async def handle(self, inbound: Any, **place: Any) -> Any:
            self.taken.append((inbound, None))
            await asyncio.Event().wait()

    stuck, ledger = Stuck(), Ledger()
    sender = Listener(mosquitto.port, f"{UNIT}/job/response")
    await sender.ready()
    running = await serving(mqtt_uplink(mosquitto.url, ledger=stuck))
    sender.publish(f"{UNIT}/job/command", START)
    await until(lambda: len(stuck.taken) == 1)
    await running.stop()
    again = await serving(mqtt_uplink(mosquitto.url, ledger=ledger))
    await until(lambda: len(sender.on(f"{UNIT}/job/response")) == 1)
    assert ledger.answers["c-1"].accepted
    await again.stop()
    sender.close()


async def test_commands_that_come_while_away_wait_at_the_broker(mosquitto: Mosquitto) -> None:
    first = mqtt_uplink(mosquitto.url)
    await first.connect()
    await first.close()
    sender = Listener(mosquitto.port, f"{UNIT}/job/response")
    await sender.ready()
    for number in range(40):
        sender.publish(f"{UNIT}/job/command", {**START, "command_id": f"c-{number}"})
    ledger = Ledger()
    running = await serving(mqtt_uplink(mosquitto.url, ledger=ledger))
    await until(lambda: len(sender.on(f"{UNIT}/job/response")) == 40)
    assert [inbound.command_id for inbound, _ in ledger.taken] == [f"c-{number}" for number in range(40)]
    await running.stop()
    sender.close()


@pytest.mark.parametrize(
    ("leaf", "payload", "code", "answered_on"),
    [
        ("job/command", b"{nonsense", "not_json", None),
        ("job/command", b"x" * 300_000, "too_large", None),
        ("job/command", {**START, "colour": "red"}, "unknown_field", "job/response"),
        ("job/command", {**START, "command": "Fly"}, "invalid_command", "job/response"),
        ("command", START, "invalid_command", "response"),
    ],
)
async def test_what_is_no_command_is_answered_where_it_can_be(
    mosquitto: Mosquitto, leaf: str, payload: object, code: str, answered_on: str | None
) -> None:
    ledger = Ledger()
    listener = Listener(mosquitto.port, f"{UNIT}/#", "mes/answers")
    await listener.ready()
    running = await serving(mqtt_uplink(mosquitto.url, ledger=ledger))
    listener.publish(f"{UNIT}/{leaf}", payload, response_topic="mes/answers")
    await until(lambda: len(listener.on("mes/answers")) == 1)
    await asyncio.sleep(0.1)
    answer = listener.on("mes/answers")[0]
    assert answer["problem"]["code"] == code
    assert not answer["accepted"]
    assert answer["command_id"] == (None if answered_on is None else "c-1")
    on_unit = [message for message in listener.messages if message.topic.startswith(UNIT) and message.topic.endswith("response")]
    assert [message.topic for message in on_unit] == ([] if answered_on is None else [f"{UNIT}/{answered_on}"])
    assert isinstance(ledger.taken[0][0], Refusal)
    await running.stop()
    listener.close()


@pytest.mark.parametrize("before_the_start", [False, True])
async def test_a_retained_command_is_refused_at_once_and_after_a_restart(mosquitto: Mosquitto, before_the_start: bool) -> None:
    ledger = Ledger()
    listener = Listener(mosquitto.port, f"{UNIT}/job/response")
    await listener.ready()
    uplink = mqtt_uplink(mosquitto.url, ledger=ledger)
    if before_the_start:
        listener.publish(f"{UNIT}/job/command", START, retain=True)
        await asyncio.sleep(0.2)
    running = await serving(uplink)
    if not before_the_start:
        listener.publish(f"{UNIT}/job/command", START, retain=True)
    await until(lambda: len(listener.messages) == 1)
    assert listener.on(f"{UNIT}/job/response")[0]["problem"]["code"] == "retained"
    await running.stop()
    listener.close()


async def test_acknowledgements_and_replay_requests_reach_the_forwarder(mosquitto: Mosquitto) -> None:
    acks: list[tuple[str, str, int]] = []
    replays: list[tuple[str, int]] = []
    alerts = Alerts()

    def on_ack(consumer: str, epoch: str, sequence: int) -> str | None:
        acks.append((consumer, epoch, sequence))
        return None if consumer == "mes" else "unknown consumer"

    def on_replay(epoch: str, from_sequence: int) -> str | None:
        replays.append((epoch, from_sequence))
        return "unknown epoch"

    clock = LeapingClock()
    running = await serving(mqtt_uplink(mosquitto.url, on_ack=on_ack, on_replay=on_replay, alerts=alerts, clock=clock))
    sender = Listener(mosquitto.port)
    sender.publish(f"{OWN}/ack", {"consumer": "mes", "epoch": "e1", "sequence": 7})
    sender.publish(f"{OWN}/ack", {"consumer": "mes", "epoch": "e1", "sequence": 0})
    sender.publish(f"{OWN}/ack", {"consumer": "mes", "epoch": "e1", "sequence": 8}, retain=True)
    await until(lambda: acks == [("mes", "e1", 7)] and "uplink.ack_refused:plant" in alerts.up)
    sender.publish(f"{OWN}/ack", {"consumer": "other", "epoch": "e1", "sequence": 7})
    sender.publish(f"{OWN}/replay", {"epoch": "e9", "from_sequence": 3})
    await until(lambda: replays == [("e9", 3)] and "uplink.replay_refused:plant" in alerts.up)
    assert acks == [("mes", "e1", 7), ("other", "e1", 7)]
    clock.ahead_s = 599
    sender.publish(f"{OWN}/ack", {"consumer": "mes", "epoch": "e1", "sequence": 9})
    await until(lambda: len(acks) == 3)
    assert "uplink.ack_refused:plant" in alerts.up
    clock.ahead_s = 601
    sender.publish(f"{OWN}/ack", {"consumer": "mes", "epoch": "e1", "sequence": 10})
    await until(lambda: "uplink.ack_refused:plant" not in alerts.up)
    await running.stop()
    sender.close()


async def test_live_values_are_retained_latest_first_and_back_after_a_broker_restart(mosquitto: Mosquitto) -> None:
    uplink = mqtt_uplink(mosquitto.url)
    for count in range(50):
        uplink.set_live("stamping/line-3/press-07/tag/parts", json.dumps({"value": count}).encode(), retain=True, qos=0)
        uplink.set_live("stamping/line-3/press-07/state", json.dumps({"since": count}).encode(), retain=True, qos=1)
    running = await serving(uplink)
    first = Listener(mosquitto.port, f"{UNIT}/#")
    await until(lambda: len(first.messages) >= 2)
    assert first.on(f"{UNIT}/tag/parts") == [{"value": 49}]
    assert first.on(f"{UNIT}/state") == [{"since": 49}]
    uplink.set_live("stamping/line-3/press-07/state", b'{"since": 50}', retain=True, qos=1)
    await until(lambda: first.on(f"{UNIT}/state")[-1] == {"since": 50})
    first.close()
    mosquitto.kill()
    with pytest.raises(UplinkError):
        await running.task
    await uplink.close()
    await mosquitto.start()
    again = await serving(uplink)
    second = Listener(mosquitto.port, f"{UNIT}/#")
    await until(lambda: len(second.messages) == 2)
    assert second.on(f"{UNIT}/state") == [{"since": 50}]
    uplink.set_live("stamping/line-3/press-07/state", b"", retain=True, qos=1)
    await until(lambda: len(second.messages) == 3)
    assert second.messages[-1].payload == b""
    await until(lambda: not [topic for topic in uplink._live._latest if topic.endswith("/state")])
    second.close()
    await again.stop()


async def test_a_lasting_value_goes_out_before_the_latest(mosquitto: Mosquitto) -> None:
    uplink = mqtt_uplink(mosquitto.url)
    for count in range(5):
        uplink.set_live("stamping/line-3/press-07/tag/parts", json.dumps({"value": count}).encode(), retain=True, qos=0, lasting=count == 1)
    listener = Listener(mosquitto.port, f"{UNIT}/tag/parts")
    await listener.ready()
    running = await serving(uplink)
    await until(lambda: listener.on(f"{UNIT}/tag/parts") == [{"value": 1}, {"value": 4}])
    listener.close()
    await running.stop()


@pytest.mark.parametrize("denied", ["tag/#", "state", "#"])
async def test_a_broker_that_hangs_up_over_live_topics_of_one_unit_gets_those_of_the_others(tmp_path: Path, denied: str) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic readwrite #\ntopic deny {UNIT}/{denied}\n")
    broker = Mosquitto(tmp_path / "broker", f"acl_file {acl}")
    await broker.start()
    alerts = Alerts()
    uplink = mqtt_uplink(broker.url, alerts=alerts)
    other = "lineside/v1/acme/lyon/packing/line-3/packer-02"
    for unit in ("stamping/line-3/press-07", "packing/line-3/packer-02"):
        for number in range(30):
            uplink.set_live(f"{unit}/tag/t{number}", b"1", retain=True, qos=0)
        for leaf in ("state", "kpi/hour"):
            uplink.set_live(f"{unit}/{leaf}", b"1", retain=True, qos=1)
    listener = Listener(broker.port, f"{other}/#")
    await listener.ready()
    try:
        for _ in range(8):
            running = await serving(uplink)
            await asyncio.wait((running.task,), timeout=1.0)
            if not running.task.done():
                break
            with pytest.raises(UplinkError):
                await running.task
            await uplink.close()
        assert not running.task.done(), "each connection was closed over a topic that is not granted"
        assert UNIT in alerts.up["uplink.live_refused:plant"]
        assert "0x87" in alerts.up["uplink.live_refused:plant"]
        for value in range(20):
            uplink.set_live("packing/line-3/packer-02/state", str(value).encode(), retain=True, qos=1)
            uplink.set_live("stamping/line-3/press-07/tag/t1", str(value).encode(), retain=True, qos=0)
            uplink.set_live("stamping/line-3/press-07/state", str(value).encode(), retain=True, qos=1)
        await until(lambda: listener.on(f"{other}/state")[-1] == 19)
        assert len({message.topic for message in listener.messages}) == 32
        await running.stop()
        acl.write_text("topic readwrite #\n")
        broker.kill()
        await broker.start()
        granted = Listener(broker.port, f"{UNIT}/#")
        await granted.ready()
        for _ in range(2):
            again = await serving(uplink)
            await asyncio.wait((again.task,), timeout=1.0)
            if len({message.topic for message in granted.messages}) == 32:
                break
            await again.stop()
        await until(lambda: len({message.topic for message in granted.messages}) == 32)
        await until(lambda: "uplink.live_refused:plant" not in alerts.up)
        await again.stop()
        granted.close()
    finally:
        await uplink.close()
        listener.close()
        broker.kill()


async def test_telemetry_comes_from_the_journal_in_order(mosquitto: Mosquitto) -> None:
    @dataclass(frozen=True)
    class Row:
        id: int
        device: str
        body: bytes

    rows = [Row(n, "press_plc", json.dumps({"sequence": n, "values": []}).encode()) for n in range(1, 131)]
    done: list[int] = []

    async def fetch(after_id: int, limit: int) -> list[Row]:
        return [row for row in rows if row.id > after_id][:limit]

    listener = Listener(mosquitto.port, f"{OWN}/device/+")
    await listener.ready()
    running = await serving(mqtt_uplink(mosquitto.url, telemetry=TelemetrySource(fetch, done.append)))
    await until(lambda: len(listener.messages) == 130)
    assert [body["sequence"] for body in listener.on(f"{OWN}/device/press_plc")] == list(range(1, 131))
    rows.append(Row(131, "press_plc", b'{"sequence": 131, "values": []}'))
    running.uplink.notify_telemetry()
    await until(lambda: done[-1] == 131)
    await running.stop()
    listener.close()


# -- a broker that misbehaves


async def test_falls_back_to_3_1_1_only_on_reason_132(stubs: Callable[..., Any]) -> None:
    old = await stubs(StubBroker(Behaviour(old_connack=True)))
    alerts = Alerts()
    uplink = mqtt_uplink(old.url, alerts=alerts)
    await uplink.connect()
    assert old.connects == [5, 4]
    assert alerts.up == {"uplink.version:plant": old.url.removeprefix("mqtt://")}, "what it refuses cannot be seen there"
    receipt = await uplink.deliver([entry(1)])
    assert receipt.accepted == {1}
    await uplink.close()

    busy = await stubs(StubBroker(Behaviour(connack=0x88)))
    uplink = mqtt_uplink(busy.url)
    with pytest.raises(UplinkError, match="136"):
        await uplink.connect()
    assert busy.connects == [5]

    fixed = mqtt_uplink(old.url, protocol="5")
    with pytest.raises(UplinkError, match="132"):
        await fixed.connect()


async def test_a_silent_broker_costs_four_seconds_and_its_stand_in_takes_over(stubs: Callable[..., Any]) -> None:
    silent = await stubs(StubBroker(Behaviour(connack=None)))
    good = await stubs()
    uplink = mqtt_uplink(silent.url, good.url)
    began = time.monotonic()
    await uplink.connect()
    assert 3.5 < time.monotonic() - began < 9.0
    assert silent.connects == [5]
    began = time.monotonic()
    await uplink.close()
    await uplink.connect()
    assert time.monotonic() - began < 3.5, "the address that worked last comes first"
    await uplink.close()


async def test_window_keeps_to_the_brokers_receive_maximum(stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(receive_maximum=3)))
    uplink = mqtt_uplink(broker.url)
    await uplink.connect()
    receipt = await uplink.deliver([entry(n) for n in range(1, 101)])
    assert len(receipt.accepted) == 100
    assert 1 <= broker.most_in_flight <= 3
    await uplink.close()


async def test_live_values_do_not_wait_behind_ledger_rows_without_an_answer(stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(reason=lambda topic, count: None if "/event/" in topic else 0)))
    running = await serving(mqtt_uplink(broker.url))
    delivering = asyncio.create_task(running.uplink.deliver([entry(n) for n in range(1, 101)]))
    await until(lambda: sum("/event/" in topic for topic, _ in broker.published) >= 12)
    for count in range(5):
        value = str(count).encode()
        running.uplink.set_live("stamping/line-3/press-07/state", value, retain=True, qos=1)
        await until(partial(lambda value: broker.published[-1][1] == value, value))
    assert not delivering.done()
    await running.stop()
    with pytest.raises(UplinkError):
        await delivering


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_mqtts_checks_the_brokers_certificate(tmp_path: Path) -> None:
    ca, certificate, key = certificates(tmp_path)
    broker = Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}")
    await broker.start()
    uplink = mqtt_uplink(f"mqtts://localhost:{broker.port}", tls={"ca": str(ca)})
    try:
        await uplink.connect()
        assert (await uplink.deliver([entry(1)])).accepted == {1}
        await uplink.close()
        with pytest.raises(UplinkError, match="CERTIFICATE_VERIFY_FAILED"):
            await mqtt_uplink(f"mqtts://localhost:{broker.port}").connect()
        with pytest.raises(UplinkError, match="TLS files"):
            await mqtt_uplink(f"mqtts://localhost:{broker.port}", tls={"ca": str(tmp_path / "missing.pem")}).connect()
        gc.collect()
    finally:
        await uplink.close()
        broker.kill()


async def test_a_busy_broker_is_left_alone_and_the_rest_stays(stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(reason=lambda topic, count: 0x97 if "/event/" in topic and count > 5 else 0)))
    uplink = mqtt_uplink(broker.url)
    await uplink.connect()
    receipt = await uplink.deliver([entry(n) for n in range(1, 101)])
    assert receipt.accepted == {1, 2, 3, 4, 5}
    assert receipt.retry_after_s == 2.0
    assert len(broker.published) < 30, "nothing more is sent once the broker said that it is full"
    await uplink.close()


async def test_connection_cut_in_the_middle_gives_what_was_acknowledged(stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(close_after=31)))
    uplink = mqtt_uplink(broker.url)
    await uplink.connect()
    receipt = await uplink.deliver([entry(n) for n in range(1, 101)])
    assert receipt.accepted
    assert receipt.accepted == set(range(1, len(receipt.accepted) + 1))
    with pytest.raises(UplinkError):
        await uplink.deliver([entry(99)])
    await uplink.close()


async def test_a_lost_acknowledgement_ends_the_connection_after_ten_seconds(stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(reason=lambda topic, count: None if "/event/" in topic and count == 3 else 0)))
    running = await serving(mqtt_uplink(broker.url))
    began = time.monotonic()
    receipt = await running.uplink.deliver([entry(n) for n in range(1, 6)])
    assert 9.5 < time.monotonic() - began < 20.0
    assert receipt.accepted == {1, 2, 4, 5}
    with pytest.raises(UplinkError, match="not acknowledged"):
        await running.task
    assert incidents(running.uplink, "ack_overdue") == 1
    await running.stop()


def incidents(uplink: MqttUplink, kind: str) -> int:
    return int(uplink._incidents.labels("plant", kind)._value.get())


async def test_an_acknowledgement_of_what_was_never_sent_retires_nothing_and_is_counted(stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(stray_acks=True, reason=lambda topic, count: 0x87 if count == 5 else 0)))
    uplink = mqtt_uplink(broker.url)
    await uplink.connect()
    before = incidents(uplink, "unknown_ack")
    receipt = await uplink.deliver([entry(n) for n in range(1, 21)])
    assert receipt.accepted <= set(range(1, 21))
    await until(lambda: incidents(uplink, "unknown_ack") >= before + 2 * len(receipt.accepted))
    await uplink.close()


async def test_close_is_bounded_when_the_peer_says_nothing_more(stubs: Callable[..., Any]) -> None:
    broker = await stubs(StubBroker(Behaviour(reason=lambda topic, count: None if count > 1 else 0)))
    uplink = mqtt_uplink(broker.url)
    await uplink.connect()
    began = time.monotonic()
    await uplink.close()
    assert time.monotonic() - began < 8.0


async def test_a_command_topic_that_may_not_be_read_is_an_alert(stubs: Callable[..., Any]) -> None:
    alerts = Alerts()
    broker = await stubs(StubBroker(Behaviour(suback=0x87)))
    uplink = mqtt_uplink(broker.url, alerts=alerts)
    await uplink.connect()
    assert "job/command (0x87 Not authorized)" in alerts.up["uplink.subscription:plant"]
    assert incidents(uplink, "subscription_refused") == 6
    assert (await uplink.deliver([entry(1)])).accepted == {1}
    await uplink.close()
    broker.behaviour.suback = 1
    await uplink.connect()
    assert alerts.up == {}
    await uplink.close()
