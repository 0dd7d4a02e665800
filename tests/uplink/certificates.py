"""Authorities and the certificates they issue, made for one test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Made in `directory`; `path` is its own certificate (PEM)."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        # Two authorities of one name would be told apart by their signatures alone, as another error than an unknown issuer.
        self._subject = _name(f"test authority {directory.name}")
        constraint = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._builder(self._subject, self._key.public_key(), 1).add_extension(constraint, critical=True)
        self.path = directory / "ca.pem"
        self.path.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, days: int = 1) -> tuple[Path, Path]:
        """Certificate and key for a server or client of this name; it ends in `days` (negative: it ended so long ago)."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.SubjectAlternativeName([x509.DNSName(name)])
        certificate = self._builder(_name(name), key.public_key(), days).add_extension(alternative, critical=False)
        pem = serialization.Encoding.PEM
        paths = self._directory / f"{name}{days}.pem", self._directory / f"{name}{days}.key"
        paths[0].write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(pem))
        paths[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return paths

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(days=3)).not_valid_after(now + timedelta(days=days))


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """PEM files: authority, certificate and key of a server called localhost."""
    authority = Authority(directory)
    return (authority.path, *authority.issue("localhost"))
