"""Certificates for the tests of OPC UA security, right ones and wrong ones. Keys are made once: they take longest."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

URI = "urn:test:plc:server"


def key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    return _key(name, bits)


@functools.cache
def _key(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(private: rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a site."""

    name: str = "site authority"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: key("authority"))

    @property
    def subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    def certificate(self, issued_by: Authority | None = None) -> x509.Certificate:
        issuer = issued_by or self
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder().subject_name(self.subject).issuer_name(issuer.subject).public_key(self.key.public_key())
            .serial_number(7).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=900))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(issuer.key, hashes.SHA256())
        )  # fmt: skip

    def revoke(self, *certificates: x509.Certificate, signed_by: rsa.RSAPrivateKey | None = None) -> bytes:
        """A CRL, DER."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.subject).last_update(now).next_update(now + timedelta(days=30))
        for certificate in certificates:
            revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(signed_by or self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _usage(**flags: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
        "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: flags.get(name, False) for name in names})


def make(
    *,
    name: str = "plc",
    private: rsa.RSAPrivateKey | None = None,
    authority: Authority | None = None,
    uri: str = URI,
    hosts: tuple[str, ...] = ("127.0.0.1",),
    since_days: float = -1,
    days: float = 400,
    encipher: bool = True,
    extended: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
) -> x509.Certificate:
    """A server's certificate as OPC 10000-6 wants it, but for what is asked for. `since_days`, `days`: from now."""
    private = private or key(name)
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    named = [x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts]
    alternatives = [x509.UniformResourceIdentifier(uri), *named]
    usage = _usage(digital_signature=True, content_commitment=True, key_encipherment=encipher, data_encipherment=encipher)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(authority.subject if authority else subject)
        .public_key(private.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=since_days)).not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([extended]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(authority.key if authority else private, hashes.SHA256())
    )  # fmt: skip


def broken(certificate: x509.Certificate) -> x509.Certificate:
    """The same with one bit of its signature turned over."""
    data = bytearray(der(certificate))
    data[-5] ^= 1
    return x509.load_der_x509_certificate(bytes(data))


def with_sha1(certificate: x509.Certificate) -> x509.Certificate:
    """The same, saying that it was signed with SHA-1: `cryptography` signs nothing with it any more."""
    sha256, sha1 = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    return x509.load_der_x509_certificate(der(certificate).replace(sha256, sha1))


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name
