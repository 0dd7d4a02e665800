"""The OPC UA driver against asyncua's server: status, refused nodes, security, sessions, silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes
from cryptography.x509.oid import ExtendedKeyUsageOID

from drivers import make_driver
from drivers.base import LinkError, Quality, Reading, SilentLinkError, Subscribing
from drivers.opcua import OpcUaDriver
from drivers.opcua_subscriber import OpcUaSubscriber
from gateway.clock import SystemClock
from simulators.faults import Fault, FaultProxy, Kind
from simulators.loopback import HOST
from tests.drivers.devices import NAMESPACE, SLACK, TAGS, OpcUaDevice, SubscribedDevice, by_tag, within

# One server for all tests: asyncua's takes more than a second to start.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SubscribedDevice]:
    found = SubscribedDevice(tmp_path_factory.mktemp("plc"))
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def plc(running: SubscribedDevice) -> SubscribedDevice:
    await running.reset()
    return running


class Listening:
    """A subscription running in a task, its batches as they come."""

    def __init__(self, driver: OpcUaSubscriber, tags: Sequence[str] = TAGS) -> None:
        self.driver = driver
        self.tags = tags
        self.batches: list[list[Reading]] = []

    async def __aenter__(self) -> Listening:
        await self.driver.connect()
        self.task = asyncio.create_task(self._listen())
        await within(3, lambda: len(self.batches) > 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.driver.close()

    async def _listen(self) -> None:
        async for batch in self.driver.subscribe(self.tags):
            self.batches.append(list(batch))

    def of(self, tag: str) -> list[Reading]:
        return [reading for batch in self.batches for reading in batch if reading.tag == tag]


def subscriber(plc: OpcUaDevice, clock: SystemClock | None = None, port: int | None = None, **more: Any) -> OpcUaSubscriber:
    driver = make_driver(
        plc.settings(port, **more), clock or SystemClock(), name="plc", secrets=lambda secret: "secret", state_dir=plc.folder
    )
    assert isinstance(driver, OpcUaSubscriber)
    return driver


async def test_the_mode_decides_whether_the_driver_pushes(plc: SubscribedDevice) -> None:
    assert isinstance(plc.driver(), Subscribing)
    polled = plc.driver(mode="poll")
    assert isinstance(polled, OpcUaDriver)
    assert not isinstance(polled, Subscribing)


async def test_status_and_source_time_are_carried_through(plc: SubscribedDevice) -> None:
    async with Listening(subscriber(plc)) as heard:
        at = datetime.now(UTC)
        await plc.show("weight", 13.0, StatusCodes.UncertainLastUsableValue, at)
        await within(2, lambda: len(heard.of("weight")) == 2)
        await plc.show("weight", 14.0, StatusCodes.BadDeviceFailure)
        await within(2, lambda: len(heard.of("weight")) == 3)
        uncertain, bad = heard.of("weight")[1:]
        assert (uncertain.value, uncertain.quality, uncertain.source_time) == (13.0, Quality.UNCERTAIN, at)
        assert (bad.value, bad.quality, bad.detail) == (None, Quality.BAD, "BadDeviceFailure")


async def test_a_plc_whose_clock_is_set_back_is_still_believed(plc: SubscribedDevice) -> None:
    async with Listening(subscriber(plc)) as heard:
        await plc.show("parts", 70_001, at=datetime.now(UTC) - timedelta(seconds=20))
        await within(2, lambda: heard.of("parts")[-1].value == 70_001)


async def test_every_value_between_two_publishes_arrives_in_order(plc: SubscribedDevice) -> None:
    async with Listening(subscriber(plc)) as heard:
        start = datetime.now(UTC)
        for step in range(1, 6):
            await plc.show("parts", 70_000 + step, at=start + timedelta(milliseconds=step))
            await plc.show("running", step % 2 == 0, at=start + timedelta(milliseconds=step, microseconds=1))
        await within(2, lambda: len(heard.of("parts")) == 6)
        assert [reading.value for reading in heard.of("parts")] == [70_000 + step for step in range(6)]
        stamps = [reading.source_time for batch in heard.batches[2:] for reading in batch if reading.source_time]
        assert stamps == sorted(stamps)
        assert all(len({reading.tag for reading in batch}) == len(batch) for batch in heard.batches)


async def test_the_deadband_holds_small_moves_back_but_no_change_of_quality(plc: SubscribedDevice) -> None:
    tags = {"weight": {"node": f"nsu={NAMESPACE};s=weight", "deadband": 0.5}}
    async with Listening(subscriber(plc, tags=tags), ["weight"]) as heard:
        for value in (12.6, 12.9, 13.1):
            await plc.show("weight", value)
        await within(2, lambda: len(heard.of("weight")) == 2)
        await plc.show("weight", 13.2, StatusCodes.UncertainLastUsableValue)
        await within(2, lambda: len(heard.of("weight")) == 3)
        assert [reading.value for reading in heard.of("weight")] == [12.5, 13.1, 13.2]


async def test_a_quiet_device_sends_keep_alives(plc: SubscribedDevice) -> None:
    async with Listening(subscriber(plc)) as heard:
        before = len(heard.batches)
        await within(2.3, lambda: len(heard.batches) >= before + 2)
        assert all(batch == [] for batch in heard.batches[before:])


class Hurried(SystemClock):
    """Its monotonic clock can be put ahead, so that a test need not wait half a minute."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


async def test_a_node_that_appears_later_is_found_and_named_until_then(plc: SubscribedDevice) -> None:
    clock = Hurried()
    driver = subscriber(plc, clock)
    async with Listening(driver) as heard:
        assert dict(driver.refused) == {"absent": "BadNodeIdUnknown"}
        await plc.folder_node.add_variable(ua.NodeId.from_string(f"ns={plc.index};s=absent"), "absent", 5)
        clock.ahead_s = 31.0
        await within(4, lambda: heard.of("absent")[-1].value == 5)
        assert dict(driver.refused) == {}
        node = plc.server.get_node(ua.NodeId.from_string(f"ns={plc.index};s=absent"))
        await node.write_value(6)
        await within(2, lambda: heard.of("absent")[-1].value == 6)
    await plc.server.delete_nodes([node])


async def test_an_item_the_server_has_forgotten_is_monitored_again(plc: SubscribedDevice) -> None:
    clock = Hurried()
    async with Listening(subscriber(plc, clock)) as heard:
        for subscription in plc.server.iserver.subscription_service.subscriptions.values():
            subscription.monitored_item_srv.delete_all_monitored_items()
        await plc.show("parts", 70_001)
        await asyncio.sleep(0.5)
        assert heard.of("parts")[-1].value == 70_000
        # The look at everything finds it; after a while without a notification the item is made again.
        for ahead_s in (61.0, 67.0, 98.0, 129.0, 160.0, 191.0):
            clock.ahead_s = ahead_s
            await asyncio.sleep(1.2)
            if heard.of("parts")[-1].value == 70_001:
                break
        assert heard.of("parts")[-1].value == 70_001
        await plc.show("parts", 70_002)
        await within(2, lambda: heard.of("parts")[-1].value == 70_002)


async def test_a_server_without_subscriptions_is_polled(plc: SubscribedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise ua.uaerrors.BadTooManySubscriptions

    monkeypatch.setattr(plc.server.iserver.subscription_service, "create_subscription", refuse)
    driver = subscriber(plc)
    async with Listening(driver) as heard:
        await plc.show("parts", 70_003)
        await within(2, lambda: heard.of("parts")[-1].value == 70_003)


async def test_a_thousand_tags_in_chunks(plc: SubscribedDevice) -> None:
    tags = {}
    for number in range(230):
        await plc.folder_node.add_variable(ua.NodeId.from_string(f"ns={plc.index};s=t{number}"), f"t{number}", number)
        tags[f"t{number}"] = {"node": f"nsu={NAMESPACE};s=t{number}"}
    async with Listening(subscriber(plc, tags=tags), list(tags)) as heard:
        assert [reading.value for reading in heard.batches[0]] == list(range(230))
        await plc.server.get_node(ua.NodeId.from_string(f"ns={plc.index};s=t229")).write_value(-1)
        await within(2, lambda: heard.of("t229")[-1].value == -1)


async def test_closing_ends_the_session_and_its_subscription_on_the_server(plc: SubscribedDevice) -> None:
    subscriptions = plc.server.iserver.subscription_service.subscriptions
    async with Listening(subscriber(plc)):
        assert len(subscriptions) == 1
    await within(2, lambda: len(subscriptions) == 0)


async def test_a_black_hole_is_seen_by_the_age_of_data(plc: SubscribedDevice) -> None:
    proxy = FaultProxy(HOST, plc.port)
    await proxy.start()
    try:
        async with Listening(subscriber(plc, port=proxy.port)) as heard:
            await proxy.set(Fault(kind=Kind.BLACKHOLE))
            started = SystemClock().monotonic()
            with pytest.raises(SilentLinkError):
                await heard.task
            assert SystemClock().monotonic() - started < 2.5 * SLACK
            started = SystemClock().monotonic()
            await heard.driver.close()
            assert SystemClock().monotonic() - started < 0.6 * SLACK, "a dead session is not waited for"
    finally:
        await proxy.stop()


class Guarded(SubscribedDevice):
    """Only with Basic256Sha256, SignAndEncrypt and the right password."""

    async def secure(self, server: Server) -> None:
        pki = self.folder / "server"
        pki.mkdir(exist_ok=True)
        certificate, key = pki / "press.der", pki / "press.pem"
        await make_certificate(key, certificate)
        await server.load_certificate(str(certificate))
        await server.load_private_key(str(key))
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt], permission_ruleset=SimpleRoleRuleset())
        server.set_identity_tokens([ua.UserNameIdentityToken])
        server.iserver.set_user_manager(Doorman())

    def secured(self, **more: Any) -> dict[str, Any]:
        certificate = str(self.folder / "server" / "press.der")
        return {
            "security": {"policy": "Basic256Sha256", "mode": "SignAndEncrypt", "server_certificate": certificate},
            "user": {"name": "gateway", "password": {"credential": "plc"}},
        } | more


class Doorman:
    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        return User(role=UserRole.Admin, name=username) if (username, password) == ("gateway", "secret") else None


async def make_certificate(key: Path, certificate: Path) -> None:
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    await setup_self_signed_certificate(key, certificate, "urn:test:plc:server", "localhost", uses, {})


async def test_a_secure_channel_with_a_certificate_of_its_own_and_a_user(tmp_path: Path) -> None:
    plc = Guarded(tmp_path)
    await plc.start()
    try:
        async with Listening(subscriber(plc, **plc.secured())) as heard:
            assert by_tag(heard.batches[0])["parts"].value == 70_000
        key = tmp_path / "pki" / "own" / "gateway.pem"
        assert key.stat().st_mode & 0o077 == 0
        made = (tmp_path / "pki" / "own" / "gateway.der").read_bytes()
        async with Listening(subscriber(plc, **plc.secured())):
            assert (tmp_path / "pki" / "own" / "gateway.der").read_bytes() == made, "made once: the PLC is told to trust it"
        stranger = make_driver(plc.settings(**plc.secured()), SystemClock(), name="plc", secrets=lambda secret: "wrong", state_dir=tmp_path)
        with pytest.raises(LinkError) as caught:
            await stranger.connect()
        assert "mot de passe" in caught.value.remedy_fr
        impostor = Guarded(tmp_path / "impostor")
        impostor.folder.mkdir()
        other = impostor.folder / "other.der"
        await make_certificate(impostor.folder / "other.pem", other)
        wrong = plc.secured(security={"policy": "Basic256Sha256", "mode": "SignAndEncrypt", "server_certificate": str(other)})
        with pytest.raises(LinkError):
            await make_driver(
                plc.settings(**wrong), SystemClock(), name="plc", secrets=lambda secret: "secret", state_dir=tmp_path
            ).connect()
    finally:
        await plc.stop()


async def test_a_link_that_the_library_gave_up_first_leaves_no_socket(plc: SubscribedDevice) -> None:
    proxy = FaultProxy(HOST, plc.port)
    await proxy.start()
    driver = plc.driver(proxy.port)
    assert isinstance(driver, OpcUaDriver)
    await driver.connect()
    assert proxy.open_connections == 1
    await proxy.set(Fault(kind=Kind.BLACKHOLE))
    # As its probe does, when it is the first to find no answer.
    driver._session.client.uaclient.mark_disconnected()
    driver._session.distrust()
    await driver.close()
    await proxy.set(Fault(kind=Kind.PASS))
    await within(2, lambda: proxy.open_connections == 0)
    await proxy.stop()
