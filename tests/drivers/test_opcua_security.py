"""Who the OPC UA driver believes, whom it refuses, and that it has told a refused server nothing: real servers, a wire that listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from drivers import make_driver
from drivers.base import LinkError, PeerRefusedError, Quality
from drivers.opcua_certificates import thumbprint
from drivers.opcua_pki import prepare
from drivers.opcua_security import POLICIES
from drivers.settings import Secret
from gateway.cli.connect import try_links
from gateway.clock import SystemClock
from tests.config.plant import loaded
from tests.drivers import opcua_certificates as make
from tests.drivers.devices import NAMESPACE
from tests.drivers.opcua_certificates import Authority, der, put
from tests.drivers.opcua_wire import GET_ENDPOINTS, Wire
from tests.drivers.secured_plc import OFFERED, WANTED, SecuredDevice, Type

# One server for all: it takes a second to start, and another certificate is put into it in no time.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

USER = {"user": {"name": "gateway", "password": {"credential": "plc"}}}
SECRET = b"secret"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[SecuredDevice]:
    found = SecuredDevice(Path())
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def plc(server: SecuredDevice, tmp_path: Path) -> SecuredDevice:
    """The server, seen by a gateway that knows nobody yet."""
    server.folder = tmp_path
    return server


async def connected(plc: SecuredDevice, port: int | None = None, **more: Any) -> dict[str, Any]:
    """One connection; -> what certificates it stood on. Raises LinkError."""
    settings = plc.settings(port, **({"security": WANTED} | USER | more))
    driver = make_driver(settings, SystemClock(), name="plc", secrets=_secret, state_dir=plc.folder)
    try:
        await driver.connect()
        readings = {reading.tag: reading for reading in await driver.read(["parts"])}
        assert (readings["parts"].value, readings["parts"].quality) == (70_000, Quality.GOOD)
        return dict(driver.certificates)  # type: ignore[attr-defined]
    finally:
        await driver.close()


def _secret(secret: Secret) -> str:
    return Path(secret.file).read_text(encoding="ascii") if secret.file else "secret"


@dataclass(frozen=True)
class Case:
    """A server that must be refused. `trusts`: what lies in the gateway's folder trusted (None: the server's own certificate)."""

    certificate: Callable[[], x509.Certificate]
    reason: str
    told: str
    trusts: Callable[[], list[x509.Certificate]] | None = None
    offered: Sequence[Type] = OFFERED
    pinned: bool = True
    """Refused as well where the configuration names exactly this certificate."""


CASES = {
    "expired": Case(lambda: make.make(days=-0.5), "BadCertificateTimeInvalid", "renew it in the PLC"),
    "not yet valid": Case(lambda: make.make(since_days=2), "BadCertificateTimeInvalid", "check the clocks"),
    "for another host": Case(
        lambda: make.make(hosts=("10.1.2.3", "press-99")), "BadCertificateHostNameInvalid", "that of press-99, 10.1.2.3, not of 127.0.0.1"
    ),
    "for another application": Case(lambda: make.make(uri="urn:other"), "BadCertificateUriInvalid", "make the PLC's certificate anew"),
    "unknown": Case(make.make, "BadCertificateUntrusted", "lineside pki trust", trusts=list, pinned=False),
    "of an unknown authority": Case(
        lambda: make.make(authority=Authority()), "BadCertificateUntrusted", "lineside pki trust", pinned=False,
        trusts=lambda: [Authority("another", make.key("other authority")).certificate()],
    ),
    "signed by somebody else than its authority": Case(
        lambda: make.make(authority=Authority(key=make.key("forger"))), "BadCertificateUntrusted", "lineside pki trust", pinned=False,
        trusts=lambda: [Authority().certificate()],
    ),
    "signed by a trusted PLC": Case(
        lambda: make.make(authority=Authority("plc", make.key("plc"))), "BadCertificateUntrusted", "lineside pki trust", pinned=False,
        trusts=lambda: [make.make(hosts=("10.1.2.3",))],
    ),
    "broken": Case(lambda: make.broken(make.make()), "BadCertificateInvalid", "make it anew"),
    "not for encryption": Case(lambda: make.make(encipher=False), "BadCertificateUseNotAllowed", "keyEncipherment"),
    "a client's": Case(lambda: make.make(extended=ExtendedKeyUsageOID.CLIENT_AUTH), "BadCertificateUseNotAllowed", "serverAuth"),
    "a short key": Case(lambda: make.make(private=make.key("plc", 1024)), "BadCertificatePolicyCheckFailed", "RSA 1024"),
    "SHA-1": Case(lambda: make.with_sha1(make.make()), "BadCertificatePolicyCheckFailed", "SHA1"),
    "no security offered": Case(make.make, "BadSecurityPolicyRejected", "enable Basic256Sha256 SignAndEncrypt", offered=(Type.NoSecurity,)),
    "a deprecated policy offered": Case(
        make.make, "BadSecurityPolicyRejected", "but Basic256 SignAndEncrypt", offered=(Type.NoSecurity, Type.Basic256_SignAndEncrypt)
    ),
    "signed, not encrypted": Case(
        make.make, "BadSecurityModeRejected", "but Basic256Sha256 Sign", offered=(Type.NoSecurity, Type.Basic256Sha256_Sign)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_refused_before_anything_was_said(name: str, plc: SecuredDevice) -> None:
    case = CASES[name]
    certificate = case.certificate()
    await plc.install(certificate, offered=case.offered)
    plc.trust(*([certificate] if case.trusts is None else case.trusts()))
    async with Wire(plc.port) as wire:
        for more in [{}, plc.pinned()] if case.pinned else [{}]:
            with pytest.raises(PeerRefusedError) as caught:
                await connected(plc, wire.port, **more)
            assert caught.value.reason == case.reason
            assert case.told in caught.value.remedy_en
            assert caught.value.remedy_fr
            assert_nothing_told(wire)
    kept = [file.name for file in (plc.pki / "rejected").glob("*.der")]
    assert kept == ([f"{thumbprint(certificate)}.der"] if case.reason == "BadCertificateUntrusted" else [])


def assert_nothing_told(wire: Wire) -> None:
    """Only the question for endpoints, on a connection of its own, was ever sent."""
    assert wire.connections
    assert set(wire.services()) == {GET_ENDPOINTS}
    assert SECRET not in wire.said
    assert b"gateway" not in wire.said


async def test_a_revoked_certificate_is_refused(plc: SecuredDevice) -> None:
    authority = Authority()
    certificate = make.make(authority=authority)
    await plc.install(certificate)
    plc.trust(authority.certificate())
    async with Wire(plc.port) as wire:
        put(plc.pki / "crl", "site.crl", authority.revoke(make.make(), certificate))
        for more in ({}, plc.pinned()):
            with pytest.raises(PeerRefusedError, match="BadCertificateRevoked") as caught:
                await connected(plc, wire.port, **more)
            assert "install a new one" in caught.value.remedy_en
        # A list that the authority did not sign, or that is none, might hide the one that matters.
        for wrong in (authority.revoke(signed_by=make.key("forger")), b"no list"):
            put(plc.pki / "crl", "site.crl", wrong)
            with pytest.raises(LinkError, match="cannot be used"):
                await connected(plc, wire.port)
        assert_nothing_told(wire)
        put(plc.pki / "crl", "site.crl", authority.revoke(make.make()))
        await connected(plc, wire.port)


async def test_a_certificate_swapped_after_the_question_is_refused(plc: SecuredDevice) -> None:
    shown, other = make.make(), make.make(name="impostor")
    await plc.install(shown)
    plc.trust(shown, other)

    async def swap() -> None:
        await plc.install(other, key="impostor")

    async with Wire(plc.port, before_second=swap) as wire:
        with pytest.raises(PeerRefusedError) as caught:
            await connected(plc, wire.port)
        assert "two different certificates" in caught.value.remedy_en
        assert_nothing_told(wire)


async def test_a_certificate_without_its_key_opens_nothing(plc: SecuredDevice) -> None:
    stolen = make.make()
    await plc.install(stolen, key="thief")
    plc.trust(stolen)
    async with Wire(plc.port) as wire:
        with pytest.raises(LinkError) as caught:
            await connected(plc, wire.port)
        assert "lineside pki show own" in caught.value.remedy_en
        assert_nothing_told(wire)


async def test_another_certificate_than_the_pinned_one_is_refused(plc: SecuredDevice) -> None:
    await plc.install(make.make())
    plc.trust(plc.certificate)
    pin = str(put(plc.folder, "pin.der", der(make.make())))
    async with Wire(plc.port) as wire:
        with pytest.raises(PeerRefusedError) as caught:
            await connected(plc, wire.port, security=WANTED | {"server_certificate": pin})
        assert "another certificate than server_certificate" in caught.value.remedy_en
        assert_nothing_told(wire)


ALL = (
    Type.Basic256Sha256_Sign, Type.Basic256Sha256_SignAndEncrypt, Type.Aes128Sha256RsaOaep_Sign, Type.Aes128Sha256RsaOaep_SignAndEncrypt,
    Type.Aes256Sha256RsaPss_Sign, Type.Aes256Sha256RsaPss_SignAndEncrypt,
)  # fmt: skip


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_and_mode_of_a_server_of_a_trusted_authority(policy: str, mode: str, plc: SecuredDevice) -> None:
    certificate = make.make(authority=Authority(), hosts=("press-07.acme.lan",))
    await plc.install(certificate, offered=ALL)
    plc.trust(Authority().certificate())
    security = {"policy": policy, "mode": mode, "server_name": "press-07"}
    async with Wire(plc.port) as wire:
        stood = await connected(plc, wire.port, security=security)
        assert set(stood) == {"own", "server"}
        assert stood["server"] == certificate.not_valid_after_utc
        assert SECRET not in wire.said
        await connected(plc, wire.port, security=security, user=by_certificate(plc))
        with pytest.raises(LinkError, match="BadUserAccessDenied") as caught:
            await connected(plc, wire.port, security=security, user=by_certificate(plc, "stranger"))
        assert "refuses the user: check `user`" in caught.value.remedy_en


def by_certificate(plc: SecuredDevice, name: str = "user") -> dict[str, Any]:
    certificate = make.make(name=name, uri="urn:test:user", extended=ExtendedKeyUsageOID.CLIENT_AUTH)
    put(plc.folder, "user.pem", make.pem(make.key(name)))
    return {"certificate": str(put(plc.folder, "user.der", der(certificate))), "key": {"file": str(plc.folder / "user.pem")}}


async def test_a_user_of_a_certificate_is_told_apart_from_its_files(plc: SecuredDevice) -> None:
    await plc.install(make.make())
    plc.trust(plc.certificate)
    user = by_certificate(plc)
    stood = await connected(plc, user=user)
    assert set(stood) == {"own", "server", "user"}
    put(plc.folder, "user.pem", make.pem(make.key("stranger")))
    with pytest.raises(LinkError, match="do not belong together") as caught:
        await connected(plc, user=user)
    assert "check its name, its rights and its content" in caught.value.remedy_en


async def test_a_certificate_that_ends_soon_is_told_when_the_links_are_tried(plc: SecuredDevice) -> None:
    await plc.install(make.make(days=30.5))
    plc.trust(plc.certificate)
    (plc.folder / "password").write_text("secret", encoding="ascii")
    config = loaded(
        plc.folder,
        f"""
        gateway: {{id: gw, enterprise: acme, site: lyon}}
        devices:
          plc:
            driver: opcua
            url: "opc.tcp://127.0.0.1:{plc.port}"
            security: {{policy: Basic256Sha256, mode: SignAndEncrypt}}
            user: {{name: gateway, password: {{file: password}}}}
            tags: {{parts: {{node: "nsu={NAMESPACE};s=parts"}}}}
        work_units:
          m-1: {{area: hall, work_center: line-1, device: plc, state: {{from: counts}}, counts: {{total: parts}}}}
        """,
    )
    (trial,) = await try_links(config, plc.folder)
    assert trial.works
    (remark,) = trial.details
    assert remark.startswith("The certificate of plc's PLC ends on ")
    assert remark.endswith("Renew it in the PLC, then lineside pki trust.")


INSECURE = {"security": {"insecure": True}}


async def test_a_password_is_never_sent_in_clear_unless_knowingly(plc: SecuredDevice) -> None:
    await plc.install(make.make(), offered=(Type.NoSecurity,))
    async with Wire(plc.port) as wire:
        with pytest.raises(PeerRefusedError) as caught:
            await connected(plc, wire.port, **INSECURE)
        assert "clear_text: true" in caught.value.remedy_en
        assert SECRET not in wire.said
        await connected(plc, wire.port, **INSECURE, user=USER["user"] | {"clear_text": True})
        assert SECRET in wire.said


async def test_without_a_secure_channel_the_password_is_encrypted_where_the_server_can(plc: SecuredDevice) -> None:
    await plc.install(make.make(), offered=(Type.NoSecurity, Type.Basic256Sha256_SignAndEncrypt))
    async with Wire(plc.port) as wire:
        await connected(plc, wire.port, **INSECURE, user=USER["user"] | {"clear_text": True})
        assert b"gateway" in wire.said
        assert SECRET not in wire.said


async def test_the_own_certificate_is_made_once_and_names_this_gateway(plc: SecuredDevice) -> None:
    await plc.install(make.make())
    plc.trust(plc.certificate)
    own = prepare(plc.folder, "line-pc-07", datetime.now(UTC))
    heard: list[tuple[str, bytes]] = []

    async def note(certificate: x509.Certificate, description: ua.ApplicationDescription) -> None:
        heard.append((description.ApplicationUri, der(certificate)))

    plc.server.set_certificate_validator(note)
    try:
        await connected(plc)
        await connected(plc)
    finally:
        plc.server.set_certificate_validator(None)  # type: ignore[arg-type]
    assert heard == [("urn:lineside:line-pc-07", own.der)] * 2
    assert (plc.pki / "own" / "gateway.pem").stat().st_mode & 0o777 == 0o600


async def test_a_user_that_the_server_has_no_way_to_take_is_told(plc: SecuredDevice) -> None:
    await plc.install(make.make(), users=(ua.UserNameIdentityToken,))
    plc.trust(plc.certificate)
    with pytest.raises(PeerRefusedError, match="BadIdentityTokenRejected") as caught:
        await connected(plc, user=by_certificate(plc))
    assert "takes no user of this kind (Certificate)" in caught.value.remedy_en


async def test_a_server_that_changes_its_name_over_the_channel_gets_no_user(plc: SecuredDevice) -> None:
    await plc.install(make.make())
    plc.trust(plc.certificate)

    async def rename() -> None:
        await plc.server.set_application_uri("urn:other")
        await plc.install(plc.certificate)

    try:
        async with Wire(plc.port, before_second=rename) as wire:
            with pytest.raises(PeerRefusedError, match="BadCertificateUriInvalid: the server calls itself urn:other"):
                await connected(plc, wire.port)
    finally:
        await plc.server.set_application_uri(make.URI)
