"""What stands in an X.509 certificate, as OPC UA uses it (OPC 10000-6, 6.2.2). Pure; reading is left to `cryptography`."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion)
"""What `cryptography` raises over bytes that are no certificate, over keys of a kind that nobody knows and extensions that cannot be."""

_LONG_FORM = 0x82
"""DER: the length follows in two bytes. A certificate with a key of 2048 bits or more is always longer than one byte can say."""


def parse_certificate(data: bytes) -> x509.Certificate:
    """DER or PEM, whatever the file is called. Raises one of UNREADABLE."""
    return x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)


def parse_crl(data: bytes) -> x509.CertificateRevocationList:
    """DER or PEM. Raises one of UNREADABLE."""
    return x509.load_pem_x509_crl(data) if b"-----BEGIN" in data else x509.load_der_x509_crl(data)


def read_certificate(path: Path) -> x509.Certificate:
    """Raises OSError, or one of UNREADABLE."""
    return parse_certificate(path.read_bytes())


def parse_chain(blob: bytes) -> list[x509.Certificate]:
    """The certificates of a server, its own first: they stand one after the other (OPC 10000-6, 6.2.6). Raises one of UNREADABLE."""
    found = []
    while blob:
        length = int.from_bytes(blob[2:4], "big") + 4 if blob[1:2] == bytes([_LONG_FORM]) else len(blob)
        found.append(x509.load_der_x509_certificate(blob[:length]))
        blob = blob[length:]
    if not found:
        raise ValueError("no certificate")
    return found


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 over the DER bytes, as every OPC UA tool shows it. A name to talk about it, never what trust is decided by."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()


def application_uris(certificate: x509.Certificate) -> tuple[str, ...]:
    """Raises one of UNREADABLE."""
    names = _alternative_names(certificate)
    return () if names is None else tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


def host_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and IP addresses. Raises one of UNREADABLE."""
    names = _alternative_names(certificate)
    if names is None:
        return ()
    return (*names.get_values_for_type(x509.DNSName), *(str(address) for address in names.get_values_for_type(x509.IPAddress)))


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def is_authority(certificate: x509.Certificate) -> bool:
    """May issue certificates for others. One that names an application never does here, although many self-signed ones say so:
    whoever trusts a PLC does not trust what that PLC signs. Raises one of UNREADABLE."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and not application_uris(certificate)


def common_name(certificate: x509.Certificate) -> str:
    """For people; the whole subject where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()
