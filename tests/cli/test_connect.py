"""`lineside check --connect` on brokers and an ERP: the uplink's own way in, what is refused, and nothing left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from drivers.base import Quality, Reading
from gateway.cli.connect import Trial, judged, try_links
from gateway.config import Config
from tests.config.plant import loaded
from tests.uplink.brokers import Behaviour, Listener, Mosquitto, StubBroker, until
from tests.uplink.erp_server import Erp

UNIT = "lineside/v1/acme/lyon/hall/line-1/m-1"


def plant(folder: Path, uplinks: str) -> Config:
    (folder / "r.csv").write_text("at,device,tag,value,quality\n2026-11-24T09:00:00Z,rec,parts,5,good\n", encoding="utf-8")
    (folder / "secret").write_text("secret\n", encoding="utf-8")
    text = f"""
        gateway: {{id: gw, enterprise: acme, site: lyon}}
        devices: {{rec: {{driver: replay, file: r.csv}}}}
        work_units:
          m-1: {{area: hall, work_center: line-1, device: rec, state: {{from: counts}}, counts: {{total: parts}}}}
        uplinks: {uplinks}
        """
    return loaded(folder, text)


async def tried(folder: Path, uplinks: str) -> list[Trial]:
    return (await try_links(plant(folder, uplinks)))[1:]


@pytest.fixture
async def stub() -> AsyncIterator[Callable[..., Any]]:
    made: list[StubBroker] = []

    async def make(**behaviour: Any) -> StubBroker:
        made.append(StubBroker(Behaviour(**behaviour)))
        await made[-1].start()
        return made[-1]

    yield make
    for broker in made:
        await broker.stop()


@pytest.fixture
async def erp() -> AsyncIterator[Erp]:
    server = Erp()
    await server.start()
    yield server
    await server.stop()


def test_a_bad_tag_is_told_with_what_to_do_about_it() -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    bad = [
        ("weight", "BadTypeMismatch: a real number, the tag says bool"),
        ("parts", "IllegalDataAddress (2)"),
        ("jam", "IllegalFunction (1)"),
    ]
    trial = judged("plc", "PLC", [Reading(tag, None, Quality.BAD, None, at, detail) for tag, detail in bad])
    assert not trial.works
    weight, parts, jam = trial.details
    assert weight.startswith("tag weight: BadTypeMismatch: a real number, the tag says bool. Correct the tag's `type`")
    assert parts.endswith("Check the tag's address in the configuration.")
    assert "another table" in jam


async def test_a_broker_is_logged_in_to_and_subscribed_at_and_told_nothing(tmp_path: Path, stub: Callable[..., Any]) -> None:
    broker = await stub()
    (trial,) = await tried(tmp_path, f"{{plant: {{type: mqtt, urls: ['{broker.url}']}}}}")
    assert str(trial) == f"connected plant: MQTT 127.0.0.1:{broker.port}: user accepted, orders may be received"
    assert broker.published == []


async def test_a_broker_of_the_older_version_is_tried_with_it(tmp_path: Path, stub: Callable[..., Any]) -> None:
    broker = await stub(connack=132, old_connack=True)
    (trial,) = await tried(tmp_path, f"{{plant: {{type: mqtt, urls: ['{broker.url}']}}}}")
    assert trial.works
    assert broker.connects == [5, 4]
    (trial,) = await tried(tmp_path, f"{{plant: {{type: mqtt, urls: ['{broker.url}'], protocol: 5}}}}")
    assert not trial.works
    assert trial.told == "Choose `protocol: 3.1.1` for this broker."


async def test_a_refused_user_and_a_refused_subscription_are_told_with_a_remedy(tmp_path: Path, stub: Callable[..., Any]) -> None:
    strict, deaf = await stub(connack=0x86), await stub(suback=0x87)
    refused, mute = await tried(
        tmp_path,
        f"{{strict: {{type: mqtt, urls: ['{strict.url}'], user: {{name: gw, password: {{file: secret}}}}}}, "
        f"deaf: {{type: mqtt, urls: ['{deaf.url}']}}}}",
    )
    assert not refused.works
    assert refused.told == "Check the user name and password of the uplink."
    assert "Bad user name or password" in refused.details[0]
    assert not mute.works
    assert f"{UNIT}/job/command: the broker refuses this subscription; grant the gateway the right to read it" in mute.details


async def test_a_missing_password_file_is_told_by_its_name(tmp_path: Path, stub: Callable[..., Any]) -> None:
    broker = await stub()
    (trial,) = await tried(tmp_path, f"{{plant: {{type: mqtt, urls: ['{broker.url}'], user: {{name: gw, password: {{file: none}}}}}}}}")
    assert not trial.works
    assert "cannot be read" in trial.told
    assert broker.connects == []


async def test_an_erp_is_asked_for_orders_once_with_the_token(tmp_path: Path, erp: Erp) -> None:
    erp.orders = [{"command": "Store"}]
    (trial,) = await tried(tmp_path, f"{{erp: {{type: http, url: '{erp.url}', token: {{file: secret}}}}}}")
    assert trial.works
    assert trial.told == "1 order there; all rights there (GET work-schedule, POST work-performance)"
    assert erp.polls == [{"gateway": "gw"}]
    assert erp.posts == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 401, "text": "who are you"}, "Check the access token of this uplink."),
        ({"status": 200, "text": "<html>portal</html>"}, "Tell the ERP's administrator."),
        ({"status": 404, "text": "nothing here"}, "cannot be used; check its address"),
    ],
)
async def test_an_erp_that_does_not_do_its_work_is_told(tmp_path: Path, erp: Erp, answer: dict[str, Any], told: str) -> None:
    from aiohttp import web

    erp.fault = lambda method, count: web.Response(**answer)
    (trial,) = await tried(tmp_path, f"{{erp: {{type: http, url: '{erp.url}', token: {{file: secret}}}}}}")
    assert not trial.works
    assert trial.told.startswith(told)


async def session_is_kept(port: int, client_id: str) -> bool:
    """Whether the broker still has a session of this client."""
    present: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv311, clean_session=False)
    client.on_connect = lambda _c, _u, flags, *_: present.append(flags.session_present)
    client.connect("127.0.0.1", port)
    client.loop_start()
    await until(lambda: bool(present))
    client.disconnect()
    client.loop_stop()
    return present[0]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_real_broker_keeps_no_session_and_hears_nothing(tmp_path: Path, protocol: str) -> None:
    broker = Mosquitto(tmp_path / "broker")
    await broker.start()
    try:
        seen = Listener(broker.port, "lineside/#")
        await seen.ready()
        (trial,) = await tried(tmp_path, f"{{plant: {{type: mqtt, urls: ['{broker.url}'], protocol: {protocol}}}}}")
        assert trial.works
        assert not await session_is_kept(broker.port, "gw-plant-check")
        assert await session_is_kept(broker.port, "gw-plant-check"), "the question itself leaves one, so that it can be seen"
        assert seen.messages == []
        seen.close()
    finally:
        broker.kill()
