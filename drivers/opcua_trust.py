"""Whether an OPC UA server is who it should be, decided before anything but the question for its endpoints was sent to it.

The steps of OPC 10000-4, 6.1.3, in an order that helps whoever reads the answer: trust comes last but for revocation, so that nobody is
told to trust a certificate that would be refused all the same.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from asyncua import ua
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from drivers.opcua_certificates import UNREADABLE, application_uris, common_name, host_names, is_authority, parse_chain, thumbprint
from drivers.opcua_pki import KEY_BITS, Pki
from drivers.opcua_refusals import refused, unreadable_crl, unusable_pki

_POLICY_PREFIX = "http://opcfoundation.org/UA/SecurityPolicy#"
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_USAGES = {"digital_signature": "digitalSignature", "key_encipherment": "keyEncipherment", "data_encipherment": "dataEncipherment"}
"""What the three policies do with the key. The standard wants nonRepudiation as well; many servers lack it and nothing here needs it."""

_CHAINS = verification.PolicyBuilder().extension_policies(
    ca_policy=verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, lambda policy, certificate, constraints: _must_issue(constraints)
    ),
    # What an OPC UA certificate must say is looked at apart: the rules of the web, which are the default, are others.
    ee_policy=verification.ExtensionPolicy.permit_all(),
)


def _must_issue(constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("an issuer that is no authority")


@dataclass(frozen=True)
class Wanted:
    """What the configuration asks of one server. `host`: of the address, or `server_name`. `pinned`: the one certificate it may show."""

    peer: str
    host: str
    policy: str
    mode: str
    pinned: x509.Certificate | None = None


class Believed(NamedTuple):
    """A server that passed: its certificate and the URI it gives itself."""

    certificate: x509.Certificate
    application: str


def choose_endpoint(endpoints: Sequence[ua.EndpointDescription], wanted: Wanted) -> ua.EndpointDescription:
    """The endpoint with exactly the configured policy and mode; never a weaker one, never another. Raises PeerRefusedError."""
    usable = [e for e in endpoints if (e.EndpointUrl or "").startswith("opc.tcp")]
    mode = ua.MessageSecurityMode[wanted.mode]
    for endpoint in usable:
        if endpoint.SecurityPolicyUri == _POLICY_PREFIX + wanted.policy and endpoint.SecurityMode == mode:
            return endpoint
    asked = f"{wanted.policy} {wanted.mode}"
    secured = [e for e in usable if e.SecurityMode != ua.MessageSecurityMode.None_]
    if not secured:
        raise refused("none_only", wanted.peer, wanted=asked)
    offered = ", ".join(sorted({f"{(e.SecurityPolicyUri or '').removeprefix(_POLICY_PREFIX)} {_mode(e)}" for e in secured}))
    same = any(e.SecurityPolicyUri == _POLICY_PREFIX + wanted.policy for e in secured)
    raise refused("mode" if same else "policy", wanted.peer, wanted=asked, offered=offered)


def _mode(endpoint: ua.EndpointDescription) -> str:
    return getattr(endpoint.SecurityMode, "name", str(endpoint.SecurityMode))


def believe(endpoint: ua.EndpointDescription, wanted: Wanted, pki: Pki, now: datetime) -> Believed:
    """Check the certificate of an endpoint; one that is only unknown is kept among the rejected. Reads files.

    Raises PeerRefusedError, or LinkError over a CRL or a folder that cannot be used.
    """
    try:
        chain = parse_chain(endpoint.ServerCertificate or b"")
        application = str(endpoint.Server.ApplicationUri)
        check_certificate(chain[0], application, wanted, now)
        trusted = [chain[0]] if wanted.pinned is not None else _path_of_trust(chain, pki, now, wanted.peer)
        _check_revocation(trusted, pki, wanted.peer)
    except UNREADABLE as error:
        raise refused("broken", wanted.peer, detail=str(error) or type(error).__name__) from error
    except OSError as error:
        raise unusable_pki(f"{error.strerror}: {error.filename}") from error
    return Believed(chain[0], application)


def check_certificate(certificate: x509.Certificate, application: str, wanted: Wanted, now: datetime) -> None:
    """All that the certificate says by itself. Raises PeerRefusedError, or one of UNREADABLE."""
    mark = thumbprint(certificate)
    if wanted.pinned is not None and wanted.pinned != certificate:
        raise refused("other", wanted.peer, thumbprint=mark, wanted=thumbprint(wanted.pinned))
    _check_strength(certificate, wanted.peer)
    if certificate.subject == certificate.issuer:
        try:
            certificate.verify_directly_issued_by(certificate)
        except InvalidSignature as error:
            raise refused("broken", wanted.peer, detail=f"{mark} is not signed with its own key") from error
    if now > certificate.not_valid_after_utc:
        raise refused("expired", wanted.peer, thumbprint=mark, until=f"{certificate.not_valid_after_utc:%Y-%m-%d}")
    if now < certificate.not_valid_before_utc:
        raise refused("not_yet_valid", wanted.peer, thumbprint=mark, since=f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    hosts = host_names(certificate)
    # A certificate that names no host is as good as its pin: a person has said that it belongs to this address.
    if not is_named(wanted.host, hosts) and (hosts or wanted.pinned is None):
        raise refused("host", wanted.peer, thumbprint=mark, hosts=", ".join(hosts) or "?", host=wanted.host)
    uris = application_uris(certificate)
    if application not in uris:
        raise refused("uri", wanted.peer, thumbprint=mark, application=application, uris=", ".join(uris) or "?")
    _check_usage(certificate, wanted.peer)


def _check_strength(certificate: x509.Certificate, peer: str) -> None:
    key = certificate.public_key()
    weak = ""
    if not isinstance(key, rsa.RSAPublicKey):
        weak = "no RSA key"
    elif key.key_size < KEY_BITS:
        weak = f"RSA {key.key_size}"
    else:
        try:
            algorithm = certificate.signature_hash_algorithm
            weak = "" if isinstance(algorithm, _HASHES) else (algorithm.name.upper() if algorithm else "?")
        except UnsupportedAlgorithm as error:
            weak = str(error)
    if weak:
        raise refused("weak", peer, thumbprint=thumbprint(certificate), detail=weak)


def _check_usage(certificate: x509.Certificate, peer: str) -> None:
    missing = ""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as error:
        missing = str(error)
    else:
        missing = ", ".join(name for field, name in _USAGES.items() if not getattr(usage, field))
        if not missing and ExtendedKeyUsageOID.SERVER_AUTH not in extended:
            missing = "serverAuth"
    if missing:
        raise refused("usage", peer, thumbprint=thumbprint(certificate), detail=missing)


def is_named(host: str, names: Sequence[str]) -> bool:
    """Whether a certificate for `names` is one for `host`. The standard allows partial names: `press-07` for `press-07.acme.lan`."""
    own = {socket.gethostname(), *_LOOPBACK} if _plain(host) in _LOOPBACK else {host}
    return any(_same_host(_plain(one), _plain(name)) for one in own for name in names)


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host.rstrip(".").lower()


def _same_host(one: str, other: str) -> bool:
    if one == other:
        return True
    if any(_is_address(host) for host in (one, other)) or ("." in one) == ("." in other):
        return False
    return one.partition(".")[0] == other.partition(".")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _path_of_trust(chain: Sequence[x509.Certificate], pki: Pki, now: datetime, peer: str) -> list[x509.Certificate]:
    """From the server's certificate to one that somebody trusts."""
    trusted = pki.trusted()
    if chain[0] in trusted:
        return [chain[0]]
    authorities = [certificate for certificate in trusted if is_authority(certificate)]
    detail = _issuer(chain[0])
    if authorities:
        verifier = _CHAINS.store(verification.Store(authorities)).time(now.replace(tzinfo=None)).build_client_verifier()
        try:
            return list(verifier.verify(chain[0], list(chain[1:])).chain)
        except verification.VerificationError as error:
            detail = f"{detail}; {error}"
    pki.keep_rejected(chain[0])
    raise refused("untrusted", peer, thumbprint=thumbprint(chain[0]), subject=common_name(chain[0]), issuer=detail)


def _issuer(certificate: x509.Certificate) -> str:
    """`itself` for a self-signed one."""
    return "itself" if certificate.subject == certificate.issuer else certificate.issuer.rfc4514_string()


def _check_revocation(path: Sequence[x509.Certificate], pki: Pki, peer: str) -> None:
    """Lists of the issuers of all certificates on the path. An issuer without a list has revoked nothing that we know of."""
    lists = pki.revocations()
    if not lists:
        return
    issuers = [*path, *pki.trusted()]
    for certificate in path:
        for revoking in (found for found in lists if found.issuer == certificate.issuer):
            keys = [issuer.public_key() for issuer in issuers if issuer.subject == revoking.issuer]
            # The issuer of a pinned certificate need not be here; then the folder is what vouches for the list.
            if keys and not any(_signed(revoking, key) for key in keys):
                raise unreadable_crl(revoking.issuer.rfc4514_string(), "it is not signed by its authority")
            if revoking.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                issuer = revoking.issuer.rfc4514_string()
                raise refused("revoked", peer, thumbprint=thumbprint(certificate), issuer=issuer)


def _signed(revoking: x509.CertificateRevocationList, key: object) -> bool:
    try:
        return revoking.is_signature_valid(key)  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
