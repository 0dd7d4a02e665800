"""`lineside pki`: the certificates of this gateway and of the OPC UA servers it believes. Works beside the running daemon."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.base import LinkError
from drivers.opcua_certificates import UNREADABLE, application_uris, common_name, host_names, parse_crl, read_certificate, thumbprint
from drivers.opcua_pki import CRL, LEAST_DIGITS, OWN, REJECTED, TRUSTED, Pki, application_uri
from drivers.opcua_settings import OpcUaSettings
from gateway.cli.errors import CommandError
from gateway.cli.run import add_state_dir, default_state_dir
from gateway.clock import SystemClock
from gateway.config import Config, load

_PEM_SUFFIX = ".pem"
_DIGITS = re.compile(r"[0-9A-Fa-f: ]+\.?")


def add_parser(subparsers: Any) -> None:
    """Add `pki` to the command line."""
    parser = subparsers.add_parser(
        "pki",
        help="certificates: list, show, trust, reject, renew",
        description="Certificates of this gateway and of the OPC UA servers it believes. A running gateway sees a change at its next try.",
        epilog="example: lineside pki list -c /etc/lineside/lineside.yaml --state-dir /var/lib/lineside",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    texts = {
        "list": ("everything in the folders, with what the configuration names", "example: lineside pki list -c line.yaml"),
        "show": ("one certificate in full: `own`, or a thumbprint", "example: lineside pki show own -c line.yaml --save gateway.der"),
        "trust": ("believe a server, or an authority: a thumbprint from the list, or a file", "example: lineside pki trust 4F2A91C0"),
        "reject": ("no longer believe a server", "example: lineside pki reject 4F2A91C0"),
        "renew": ("a new certificate for this gateway, with the same key", "example: lineside pki renew -c line.yaml"),
    }
    for name, (summary, example) in texts.items():
        action = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=example)
        if name in ("show", "trust", "reject"):
            which = {"show": "own|THUMBPRINT", "trust": "THUMBPRINT|FILE", "reject": "THUMBPRINT"}[name]
            action.add_argument("which", metavar=which, help="of a thumbprint the first digits will do")
        if name == "show":
            action.add_argument(
                "--save", type=Path, metavar="FILE", help=f"write it for the PLC: DER, or PEM where FILE ends in {_PEM_SUFFIX}"
            )
        action.add_argument("-c", "--config", type=Path, metavar="CONFIG", help="says what this gateway is called and which files it names")
        add_state_dir(action)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 when done. Raises ConfigError, and CommandError where a certificate is not there or a file cannot be written."""
    pki = Pki(args.state_dir or default_state_dir())
    config = load(args.config) if args.config else None
    now = SystemClock().now()
    try:
        for line in _ACTIONS[args.action](args, pki, config, now):
            print(line)
    except LinkError as error:
        raise CommandError(error.remedy_en, str(error)) from error
    except OSError as error:
        sentence = f"{error.filename} cannot be read or written; run the command as the service's account or with sudo"
        raise CommandError(sentence, f"{error.strerror}: {error.filename}") from error
    return 0


def _list(args: argparse.Namespace, pki: Pki, config: Config | None, now: datetime) -> Iterator[str]:
    yield f"{pki.folder}"
    if pki.certificate_file.exists():
        yield _line(OWN, pki.own(now).certificate, now)
    else:
        yield f"{OWN:<9} not made yet; the gateway makes it at its first start, or lineside pki show own -c CONFIG"
    for folder in (TRUSTED, REJECTED):
        for path, certificate in pki.certificates(folder):
            yield (
                _line(folder, certificate, now) if certificate else f"{folder:<9} {path.name}: no certificate; replace or remove this file"
            )
    for path in pki.files(CRL):
        yield _crl_line(path, now)
    for name, settings in config.devices.items() if config else ():
        if isinstance(settings, OpcUaSettings):
            user = settings.user.certificate if settings.user else None
            for label, file in (("pinned", settings.security.server_certificate), ("user", user)):
                if file is not None:
                    yield f"{label:<9} {name}: {_file_line(file, now)}"
    if not any(pki.files(folder) for folder in (TRUSTED, REJECTED)):
        yield "          no server has been seen or trusted yet"


def _file_line(path: str, now: datetime) -> str:
    try:
        return f"{_described(read_certificate(Path(path)), now)} ({path})"
    except (OSError, *UNREADABLE) as error:
        return f"{path} cannot be used; correct its name, rights or content ({error})"


def _line(label: str, certificate: x509.Certificate, now: datetime) -> str:
    return f"{label:<9} {_described(certificate, now)}"


def _described(certificate: x509.Certificate, now: datetime) -> str:
    uris, hosts = application_uris(certificate), host_names(certificate)
    parts = [
        thumbprint(certificate),
        common_name(certificate),
        *uris[:1],
        *([" ".join(hosts)] if hosts else []),
        _validity(certificate, now),
    ]
    return "  ".join(parts)


def _validity(certificate: x509.Certificate, now: datetime) -> str:
    if now < certificate.not_valid_before_utc:
        return f"from {certificate.not_valid_before_utc:%Y-%m-%d} only"
    days = (certificate.not_valid_after_utc - now).days
    return f"until {certificate.not_valid_after_utc:%Y-%m-%d} ({f'{days} days left' if days >= 0 else 'EXPIRED'})"


def _crl_line(path: Path, now: datetime) -> str:
    try:
        revoking = parse_crl(path.read_bytes())
    except UNREADABLE:
        return f"{CRL:<9} {path.name}: no list of revoked certificates, and links are refused for it; replace or remove this file"
    due = revoking.next_update_utc
    late = f", a newer one was due on {due:%Y-%m-%d}" if due is not None and due < now else ""
    return f"{CRL:<9} {path.name}: {len(revoking)} revoked by {revoking.issuer.rfc4514_string()}{late}"


def _show(args: argparse.Namespace, pki: Pki, config: Config | None, now: datetime) -> Iterator[str]:
    if args.which == OWN:
        if config is None and not pki.certificate_file.exists():
            raise CommandError("this gateway has no certificate yet; name its configuration with -c CONFIG", f"no {pki.certificate_file}")
        certificate = pki.own(now, application_uri(config.gateway.id) if config else None).certificate
        path = pki.certificate_file
    else:
        path, certificate = _one(pki, args.which, TRUSTED, REJECTED)
    key = certificate.public_key()
    rows = {
        "thumbprint": thumbprint(certificate),
        "SHA-256": certificate.fingerprint(hashes.SHA256()).hex().upper(),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": "itself" if certificate.issuer == certificate.subject else certificate.issuer.rfc4514_string(),
        "application": ", ".join(application_uris(certificate)) or "none",
        "hosts": ", ".join(host_names(certificate)) or "none",
        "valid": f"from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, {_validity(certificate, now)}",
        "key": f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__,
        "file": str(path),
    }
    yield from (f"{label:<12} {value}" for label, value in rows.items())
    if args.save is not None:
        pem = args.save.suffix.lower() == _PEM_SUFFIX
        args.save.write_bytes(certificate.public_bytes(serialization.Encoding.PEM if pem else serialization.Encoding.DER))
        yield f"{'saved':<12} {args.save} ({'PEM' if pem else 'DER'})"


def _trust(args: argparse.Namespace, pki: Pki, config: Config | None, now: datetime) -> Iterator[str]:
    file = Path(args.which)
    if file.is_file():
        try:
            certificate = pki.add_trusted(file.read_bytes())
        except UNREADABLE as error:
            raise CommandError(f"{file} holds no certificate; give a certificate in DER or PEM", str(error)) from error
    else:
        if not _DIGITS.fullmatch(args.which):
            raise CommandError(f"there is no file {args.which}; check its name, or give the digits of a thumbprint", "no such file")
        path, certificate = _one(pki, args.which, REJECTED, TRUSTED)
        pki.move(path, certificate, TRUSTED)
    yield _line(TRUSTED, certificate, now)
    yield "          a running gateway believes it at its next try"


def _reject(args: argparse.Namespace, pki: Pki, config: Config | None, now: datetime) -> Iterator[str]:
    for path, certificate in _all(pki, args.which, TRUSTED):
        pki.move(path, certificate, REJECTED)
        yield _line(REJECTED, certificate, now)
    yield "          an open link goes on until it is built anew; restart the gateway to end it now"


def _renew(args: argparse.Namespace, pki: Pki, config: Config | None, now: datetime) -> Iterator[str]:
    if config is None and not pki.certificate_file.exists():
        raise CommandError("this gateway has no certificate yet; name its configuration with -c CONFIG", f"no {pki.certificate_file}")
    uri = application_uri(config.gateway.id) if config else pki.own(now).application_uri
    yield _line(OWN, pki.own(now, uri, renew=True).certificate, now)
    yield "          trust it in every PLC: their links are refused from the next connection on until that is done"


def _one(pki: Pki, wanted: str, *folders: str) -> tuple[Path, x509.Certificate]:
    return _all(pki, wanted, *folders)[0]


def _all(pki: Pki, wanted: str, *folders: str) -> list[tuple[Path, x509.Certificate]]:
    """The files of one certificate. Raises CommandError where none, or several different ones, are meant."""
    found = pki.find(wanted, *folders)
    places = " and ".join(folders)
    if not found:
        raise CommandError(
            f"no certificate {wanted} among {places} of {pki.folder}; give --state-dir and {LEAST_DIGITS} digits or more",
            "lineside pki list shows what is there",
        )
    if len({thumbprint(certificate) for _, certificate in found}) > 1:
        raise CommandError(f"several certificates among {places} begin with {wanted}; give more digits", f"looked in {pki.folder}")
    return found


_ACTIONS = {"list": _list, "show": _show, "trust": _trust, "reject": _reject, "renew": _renew}
