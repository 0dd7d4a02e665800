"""The certificates of this gateway on disk: its own with the key, the trusted, the rejected, and lists of revoked ones.

    pki/own/gateway.der, gateway.pem     this gateway's certificate, for the PLC, and its private key (0600)
    pki/trusted/                         servers, and authorities whose servers are believed
    pki/rejected/                        servers that were refused because nobody trusts them yet
    pki/crl/                             lists of revoked certificates (CRL)

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drivers import opcua_refusals
from drivers.opcua_certificates import UNREADABLE, application_uris, parse_certificate, parse_crl, read_certificate, thumbprint

KEY_BITS = 2048
"""The least that the three policies allow (OPC 10000-7): small PLCs need a second per connection for more."""
VALIDITY = timedelta(days=5 * 365)
"""Each renewal must be trusted by every PLC by hand; the alarm comes 60 days before the end."""
LEAST_DIGITS = 8
"""Of a thumbprint, where a person names a certificate: fewer would soon fit what they do not mean."""
REJECTED_KEPT = 50
"""Whoever shows a new certificate at each try must not fill the disk."""
_EARLIER = timedelta(hours=1)
"""A PLC whose clock is a little behind must not call a fresh certificate not yet valid."""

OWN, TRUSTED, REJECTED, CRL = "own", "trusted", "rejected", "crl"


@dataclass(frozen=True)
class OwnCertificate:
    """`key`: PEM. `application_uri` is what the session has to say as well."""

    certificate: x509.Certificate
    key: bytes

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def application_uri(self) -> str:
        return application_uris(self.certificate)[0]


def application_uri(gateway_id: str) -> str:
    """Of a gateway; one of a kind in a plant, like its id."""
    return f"urn:lineside:{gateway_id}"


def prepare(state_dir: Path, gateway_id: str, now: datetime) -> OwnCertificate:
    """The own certificate of the gateway `gateway_id`, made where there is none; for another id it is made anew, with the same key.

    Raises LinkError when the folder cannot be read or written.
    """
    pki = Pki(state_dir)
    own = pki.own(now, application_uri(gateway_id))
    with contextlib.suppress(OSError):
        # So that somebody with a file in hand sees where it goes.
        for folder in (TRUSTED, REJECTED, CRL):
            pki.make_folder(pki.folder / folder)
    return own


class Pki:
    """The folder `pki` below a state directory. It is made when something is written."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / "pki"
        self.certificate_file = self.folder / OWN / "gateway.der"
        self.key_file = self.folder / OWN / "gateway.pem"

    # --- own ------------------------------------------------------------------------------------------------------------

    def own(self, now: datetime, uri: str | None = None, *, renew: bool = False) -> OwnCertificate:
        """Read, or make. `uri`: what it must be for (None: whatever it is for). `renew`: a new one, with the same key, in any case.

        Raises LinkError.
        """
        try:
            key = self._key()
            found = None if renew else self._own(key, uri)
            if found is None:
                made = _self_signed(key, uri or application_uri(socket.gethostname()), now)
                self._write(self.certificate_file, made.public_bytes(serialization.Encoding.DER), 0o644)
                found = made
        except OSError as error:
            raise opcua_refusals.unusable_pki(f"{error.strerror}: {error.filename}") from error
        except UNREADABLE as error:
            raise opcua_refusals.unusable_pki(f"{error}: {self.folder / OWN}") from error
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return OwnCertificate(found, pem)

    def _key(self) -> rsa.RSAPrivateKey:
        if not self.key_file.exists():
            made = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
            pem = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            # Where two links are opened at once the first key stays: both must show the same certificate.
            self._write(self.key_file, pem, 0o600, replace=False)
        key = serialization.load_pem_private_key(self.key_file.read_bytes(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("the key is no RSA key")
        return key

    def _own(self, key: rsa.RSAPrivateKey, uri: str | None) -> x509.Certificate | None:
        if not self.certificate_file.exists():
            return None
        found = read_certificate(self.certificate_file)
        uris = application_uris(found)
        fits = found.public_key() == key.public_key() and bool(uris) and (uri is None or uris[0] == uri)
        return found if fits else None

    # --- others ---------------------------------------------------------------------------------------------------------

    def files(self, folder: str) -> list[Path]:
        """What lies in one of the folders, by name; none where it does not exist."""
        path = self.folder / folder
        return sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith(".")) if path.is_dir() else []

    def certificates(self, folder: str) -> Iterator[tuple[Path, x509.Certificate | None]]:
        """Each file with its certificate; None: it holds none that can be read."""
        for path in self.files(folder):
            try:
                yield path, read_certificate(path)
            except (OSError, *UNREADABLE):
                yield path, None

    def trusted(self) -> list[x509.Certificate]:
        """What cannot be read is trusted by nobody and left out."""
        return [certificate for _, certificate in self.certificates(TRUSTED) if certificate is not None]

    def revocations(self) -> list[x509.CertificateRevocationList]:
        """Raises LinkError over a file that cannot be read: it might hold the name of whoever wants in."""
        found = []
        for path in self.files(CRL):
            try:
                found.append(parse_crl(path.read_bytes()))
            except (OSError, *UNREADABLE) as error:
                raise opcua_refusals.unreadable_crl(str(path), str(error)) from error
        return found

    def keep_rejected(self, certificate: x509.Certificate) -> None:
        """So that a person can look at it and trust it. Where it cannot be written the refusal stands all the same."""
        path = self.folder / REJECTED / f"{thumbprint(certificate)}.der"
        with contextlib.suppress(OSError):
            if path.exists():
                return
            kept = sorted(self.files(REJECTED), key=lambda file: file.stat().st_mtime)
            for old in kept[: max(0, len(kept) - REJECTED_KEPT + 1)]:
                old.unlink()
            self._write(path, certificate.public_bytes(serialization.Encoding.DER), 0o644)

    def find(self, wanted: str, *folders: str) -> list[tuple[Path, x509.Certificate]]:
        """Certificates in `folders` whose thumbprint begins with the digits `wanted`, eight at least.

        Colons, spaces and the full stop of the sentence that named it do not count.
        """
        digits = wanted.replace(":", "").replace(" ", "").rstrip(".").upper()
        return [
            (path, certificate)
            for folder in folders
            for path, certificate in self.certificates(folder)
            if certificate is not None and len(digits) >= LEAST_DIGITS and thumbprint(certificate).startswith(digits)
        ]

    def move(self, path: Path, certificate: x509.Certificate, folder: str) -> Path:
        """Into `trusted` or `rejected`, under its thumbprint. Raises OSError."""
        target = self.folder / folder / f"{thumbprint(certificate)}.der"
        self._write(target, certificate.public_bytes(serialization.Encoding.DER), 0o644)
        if path != target:
            path.unlink()
        return target

    def add_trusted(self, data: bytes) -> x509.Certificate:
        """A certificate that came by another way than over the link. Raises OSError, or one of UNREADABLE."""
        certificate = parse_certificate(data)
        der = certificate.public_bytes(serialization.Encoding.DER)
        self._write(self.folder / TRUSTED / f"{thumbprint(certificate)}.der", der, 0o644)
        return certificate

    def _write(self, path: Path, content: bytes, mode: int, *, replace: bool = True) -> None:
        """Whole or not at all, and never readable by more than `mode` says."""
        self.make_folder(path.parent)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._hand_over(part)
            if replace:
                part.replace(path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(part, path)
        finally:
            part.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Raises OSError."""
        for folder in (self.folder, path):
            if not folder.is_dir():
                folder.mkdir(mode=0o700 if folder.name == OWN else 0o755, parents=True, exist_ok=True)
                self._hand_over(folder)

    def _hand_over(self, path: Path) -> None:
        """What an administrator makes with sudo belongs to the account of the service, which has to read it."""
        owner = self.folder.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.chown(path, owner.st_uid, owner.st_gid)


def _self_signed(key: rsa.RSAPrivateKey, uri: str, now: datetime) -> x509.Certificate:
    """As OPC 10000-6, 6.2.2 asks: URI and hosts, basicConstraints present, RSA usages, keyCertSign because it is self-signed."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"lineside@{uri.rpartition(':')[2]}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "lineside"),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True, key_agreement=False,
        key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *_own_hosts()]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _own_hosts() -> Iterator[x509.GeneralName]:
    """Name and addresses of this machine, as far as it knows them."""
    host = socket.gethostname()
    if host.isascii():
        yield x509.DNSName(host)
    with contextlib.suppress(OSError):
        for address in sorted({info[4][0] for info in socket.getaddrinfo(host, None)}, key=str):
            found = ipaddress.ip_address(str(address).partition("%")[0])
            if not found.is_loopback and not found.is_link_local:
                yield x509.IPAddress(found)
