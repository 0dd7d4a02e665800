"""How a secured OPC UA session is opened: ask the server what it offers, decide, and only then open the channel that was decided on.

The question (GetEndpoints) goes over a connection of its own without security: the standard has it so, and it says nothing but the address.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.base import Clock, LinkError
from drivers.opcua_certificates import UNREADABLE, application_uris, parse_chain, read_certificate, thumbprint
from drivers.opcua_pki import OwnCertificate, Pki
from drivers.opcua_refusals import not_let_in, refused, unreadable_file
from drivers.opcua_settings import OpcUaSecurity, OpcUaSettings, OpcUaUser
from drivers.opcua_trust import Believed, Wanted, believe, choose_endpoint
from drivers.settings import Secret

POLICIES: dict[str, type[security_policies.SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
"""Those of OPC 10000-7 that are not deprecated."""

_ENCRYPTING = frozenset(policy.URI for policy in POLICIES.values())


@dataclass(frozen=True)
class User:
    """Who the gateway is to the server: a name with its password, or a certificate with its key. `clear_text`: knowingly."""

    name: str = ""
    password: str = ""
    certificate: x509.Certificate | None = None
    key: rsa.RSAPrivateKey | None = None
    clear_text: bool = False


def make_user(settings: OpcUaUser | None, secrets: Callable[[Secret], str], peer: str) -> User | None:
    """None: anonymous. Raises LinkError, and what `secrets` raises."""
    if settings is None:
        return None
    if settings.name is not None and settings.password is not None:
        return User(settings.name, secrets(settings.password), clear_text=settings.clear_text)
    if settings.certificate is None or settings.key is None:
        raise ValueError("a user is a name with its password, or a certificate with its key")
    certificate, key = _read_user_certificate(settings.certificate, secrets(settings.key), peer)
    return User(certificate=certificate, key=key)


def _read_user_certificate(path: str, key: str, peer: str) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """The certificate of the file `path` and the key in the PEM text `key`. Raises LinkError."""
    try:
        certificate = read_certificate(Path(path))
        private = serialization.load_pem_private_key(key.encode(), password=None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise ValueError("the key is no RSA key")
        if private.public_key() != certificate.public_key():
            raise ValueError("certificate and key do not belong together")
    except (OSError, *UNREADABLE) as error:
        raise unreadable_file(peer, "user certificate", path, str(error)) from error
    return certificate, private


class GuardedClient(Client):
    """asyncua's client that tells no password to whoever would not keep it, and believes no second story about the server."""

    def __init__(self, url: str, *, timeout_s: float, probe_s: float, peer: str, user: User | None) -> None:
        super().__init__(url, timeout=timeout_s, watchdog_intervall=probe_s)
        self._peer = peer
        self._user = user
        self._believed: Believed | None = None
        self.opened = False
        """Whether the secure channel stood: what fails before is about certificates, what fails later about user or session."""
        if user is not None and user.certificate is not None:
            self.user_certificate, self.user_private_key = user.certificate, user.key
        elif user is not None:
            self.set_user(user.name)
            self.set_password(user.password)

    async def use(self, believed: Believed, policy: str, mode: str, own: OwnCertificate) -> None:
        """Bind the channel to this one certificate: a server that does not hold its key cannot open it."""
        self._believed = believed
        self.application_uri = own.application_uri
        der = believed.certificate.public_bytes(serialization.Encoding.DER)
        await self.set_security(
            POLICIES[policy],
            certificate=CertProperties(own.der, "der"),
            private_key=CertProperties(own.key, "pem"),
            server_certificate=CertProperties(der, "der"),
            mode=ua.MessageSecurityMode[mode],
        )

    async def open_secure_channel(self, renew: bool = False) -> None:
        await super().open_secure_channel(renew)
        self.opened = True

    async def create_session(self) -> ua.CreateSessionResult:
        """Over the channel, now signed, the server says again who it is: it must be what was believed. Raises PeerRefusedError."""
        result = await super().create_session()
        believed = self._believed
        if believed is not None:
            # Old servers leave it out here.
            said = {str(e.Server.ApplicationUri) for e in result.ServerEndpoints if e.Server.ApplicationUri}
            if said and believed.application not in said:
                uris = ", ".join(application_uris(believed.certificate))
                application = ", ".join(sorted(said))
                raise refused("uri", self._peer, thumbprint=thumbprint(believed.certificate), application=application, uris=uris)
        return result

    def server_policy(self, token_type: ua.UserTokenType) -> ua.UserTokenPolicy:
        """How the server wants the user told: never a password that others can read. Raises PeerRefusedError."""
        if self._user is None:
            return super().server_policy(token_type)
        own = self.security_policy.URI
        offered = [
            found if found.SecurityPolicyUri else dataclasses.replace(found, SecurityPolicyUri=own)
            for found in self._policy_ids
            if found.TokenType == token_type
        ]
        if not offered:
            raise refused("no_user", self._peer, kind=token_type.name)
        safe = [found for found in offered if found.SecurityPolicyUri in _ENCRYPTING]
        if safe:
            return safe[0]
        encrypted = self.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
        if token_type == ua.UserTokenType.UserName and (encrypted or self._user.clear_text):
            return offered[0]
        if token_type == ua.UserTokenType.UserName:
            raise refused("clear_password", self._peer, user=self._user.name)
        raise refused("no_user", self._peer, kind=token_type.name)


class Secured(NamedTuple):
    """What the channel stands on."""

    own: x509.Certificate
    server: x509.Certificate


@dataclass(frozen=True)
class Security:
    """The secured way to one server. `host`: as in its address; `timeout_s`: for each answer."""

    url: str
    host: str
    settings: OpcUaSecurity
    pki: Pki
    peer: str
    timeout_s: float

    async def prepare(self, client: GuardedClient, clock: Clock) -> Secured:
        """Ask, decide, and set the client up. Raises LinkError, PeerRefusedError, and what asyncua raises over a dead link."""
        own = await asyncio.to_thread(self.pki.own, clock.now())
        wanted = await asyncio.to_thread(self._wanted)
        endpoint = choose_endpoint(await self._endpoints(), wanted)
        believed = await asyncio.to_thread(believe, endpoint, wanted, self.pki, clock.now())
        await client.use(believed, wanted.policy, wanted.mode, own)
        return Secured(own.certificate, believed.certificate)

    async def explain(self, detail: str, server: x509.Certificate) -> LinkError:
        """Why the channel did not open: the server is another than a moment ago, or it does not accept this gateway.

        Raises what asyncua raises over a server that is gone, and PeerRefusedError over one that offers something else now.
        """
        endpoint = choose_endpoint(await self._endpoints(), self._wanted_mode())
        shown = parse_chain(endpoint.ServerCertificate or b"")[0]
        if shown != server:
            return refused("swapped", self.peer, thumbprint=thumbprint(shown), wanted=thumbprint(server))
        return not_let_in(self.peer, detail)

    async def _endpoints(self) -> list[ua.EndpointDescription]:
        return await Client(self.url, timeout=self.timeout_s).connect_and_get_server_endpoints()

    def _wanted(self) -> Wanted:
        path = self.settings.server_certificate
        if path is None:
            return self._wanted_mode()
        try:
            return dataclasses.replace(self._wanted_mode(), pinned=read_certificate(Path(path)))
        except (OSError, *UNREADABLE) as error:
            raise unreadable_file(self.peer, "server_certificate", path, str(error)) from error

    def _wanted_mode(self) -> Wanted:
        settings = self.settings
        return Wanted(self.peer, settings.server_name or self.host, settings.policy or "", settings.mode or "")


def make_security(settings: OpcUaSettings, state_dir: Path) -> Security:
    return Security(settings.url, urlsplit(settings.url).hostname or "", settings.security, Pki(state_dir), settings.peer, settings.timeout)


def ends(secured: Secured | None, user: User | None) -> dict[str, datetime]:
    """`drivers.base.Certified.certificates` of an open session."""
    found = {} if secured is None else {"own": secured.own.not_valid_after_utc, "server": secured.server.not_valid_after_utc}
    if user is not None and user.certificate is not None:
        found["user"] = user.certificate.not_valid_after_utc
    return found
