"""What a server's certificate says by itself, decided without any server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asyncua import ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drivers.base import LinkError, PeerRefusedError
from drivers.opcua_certificates import parse_certificate, parse_chain
from drivers.opcua_pki import Pki
from drivers.opcua_refusals import REFUSALS
from drivers.opcua_trust import Wanted, believe, check_certificate, choose_endpoint, is_named
from tests.drivers import opcua_certificates as make
from tests.drivers.opcua_certificates import URI, Authority, der, put

WANTED = Wanted("OPC UA plc:4840", "127.0.0.1", "Basic256Sha256", "SignAndEncrypt")
PREFIX = "http://opcfoundation.org/UA/SecurityPolicy#"


@pytest.mark.parametrize(
    ("host", "names", "named"),
    [
        ("192.168.10.21", ("192.168.10.21",), True),
        ("192.168.10.21", ("192.168.10.22", "press-07"), False),
        ("press-07", ("PRESS-07",), True),
        ("press-07.acme.lan", ("press-07",), True),
        ("press-07", ("press-07.acme.lan",), True),
        ("press-07.acme.lan.", ("press-07.acme.lan",), True),
        ("press-07.acme.lan", ("press-07.other.lan",), False),
        ("press-07", ("press-08",), False),
        ("10.1.2.3", ("10",), False),
        ("fd00::1", ("fd00:0:0::1",), True),
        ("localhost", ("127.0.0.1",), True),
        ("127.0.0.1", ("press-07",), False),
        ("press-07", (), False),
    ],
)
def test_the_host_of_a_certificate(host: str, names: tuple[str, ...], named: bool) -> None:
    assert is_named(host, names) is named


def endpoint(*certificates: x509.Certificate, policy: str = "Basic256Sha256", mode: str = "SignAndEncrypt") -> ua.EndpointDescription:
    found = ua.EndpointDescription()
    found.EndpointUrl = "opc.tcp://plc:4840"
    found.SecurityPolicyUri = PREFIX + policy
    found.SecurityMode = ua.MessageSecurityMode[mode]
    found.ServerCertificate = b"".join(der(certificate) for certificate in certificates)
    found.Server.ApplicationUri = URI
    return found


def test_the_configured_endpoint_is_taken_among_stronger_and_weaker_ones() -> None:
    offered = [
        endpoint(policy="None", mode="None_"), endpoint(policy="Aes256_Sha256_RsaPss"), endpoint(mode="Sign"), endpoint(),
    ]  # fmt: skip
    assert choose_endpoint(offered, WANTED) is offered[3]
    over_https = endpoint()
    over_https.EndpointUrl = "opc.https://plc:443"
    with pytest.raises(PeerRefusedError, match="BadSecurityPolicyRejected"):
        choose_endpoint([over_https], WANTED)


def test_certificates_between_server_and_authority_come_from_the_server(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    root, middle = Authority(), Authority("line 3", make.key("middle"))
    between = middle.certificate(issued_by=root)
    server = make.make(authority=middle)
    put(tmp_path / "pki" / "trusted", "root.pem", root.certificate().public_bytes(serialization.Encoding.PEM))
    pki = Pki(tmp_path)
    assert believe(endpoint(server, between), WANTED, pki, now).certificate == server
    with pytest.raises(PeerRefusedError, match="BadCertificateUntrusted"):
        believe(endpoint(server), WANTED, pki, now)
    put(tmp_path / "pki" / "crl", "root.crl", root.revoke(between))
    with pytest.raises(PeerRefusedError, match="BadCertificateRevoked"):
        believe(endpoint(server, between), WANTED, pki, now)


def test_a_pinned_certificate_may_name_no_host_but_no_wrong_one() -> None:
    now = datetime.now(UTC)
    nameless, foreign = make.make(hosts=()), make.make(hosts=("press-99",))
    check_certificate(nameless, URI, replace(WANTED, pinned=nameless), now)
    for certificate, pinned in ((nameless, None), (foreign, foreign)):
        with pytest.raises(PeerRefusedError, match="BadCertificateHostNameInvalid"):
            check_certificate(certificate, URI, replace(WANTED, pinned=pinned), now)
    check_certificate(foreign, URI, replace(WANTED, host="press-99", pinned=foreign), now)


def test_a_key_that_no_policy_takes_and_bytes_that_are_none(tmp_path: Path) -> None:
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plc")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    elliptic = builder.not_valid_before(now).not_valid_after(now.replace(year=now.year + 1)).sign(key, hashes.SHA256())
    with pytest.raises(PeerRefusedError, match="no RSA key"):
        check_certificate(elliptic, URI, WANTED, now)
    broken = endpoint()
    for blob in (b"", b"\x30\x82", b"\x30\x82\x00\x01\x00", der(make.make()) + b"\x30"):
        broken.ServerCertificate = blob
        with pytest.raises(PeerRefusedError, match="BadCertificateInvalid"):
            believe(broken, WANTED, Pki(tmp_path), now)


def test_a_chain_is_read_in_its_order_and_a_file_whatever_it_is_called() -> None:
    one, two = make.make(), make.make(name="two")
    assert parse_chain(der(one) + der(two)) == [one, two]
    assert parse_certificate(one.public_bytes(serialization.Encoding.PEM)) == parse_certificate(der(one)) == one


def test_each_refusal_says_what_to_do_in_both_languages() -> None:
    for refusal in REFUSALS.values():
        assert refusal.remedy_fr.endswith(".")
        assert refusal.remedy_en.endswith(".")
        assert refusal.remedy_fr != refusal.remedy_en


class Locked(Pki):
    """A folder that belongs to somebody else."""

    def trusted(self) -> list[x509.Certificate]:
        raise PermissionError(13, "Permission denied", str(self.folder))


def test_a_folder_that_cannot_be_read_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="Permission denied") as caught:
        believe(endpoint(make.make()), WANTED, Locked(tmp_path), datetime.now(UTC))
    assert "give the folder pki to the service's account" in caught.value.remedy_en
