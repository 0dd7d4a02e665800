"""A real OPC UA server with a certificate, which can be given another one while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.server import Server
from cryptography import x509

from drivers.opcua_certificates import common_name
from tests.drivers import opcua_certificates as make
from tests.drivers.devices import OpcUaDevice
from tests.drivers.opcua_certificates import der, put

Type = ua.SecurityPolicyType
WANTED = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"}
OFFERED = (Type.Basic256Sha256_SignAndEncrypt,)
USERS = (ua.UserNameIdentityToken, ua.X509IdentityToken)


class Doorman:
    """The server's users: gateway with its password, and whoever is called `user` in a certificate."""

    def get_user(self, iserver: object, username: str | None = None, password: str | None = None, certificate: Any = None) -> User | None:
        known = (username, password) == ("gateway", "secret")
        if username is None and certificate is not None:
            known = common_name(x509.load_der_x509_certificate(certificate)) == "user"
        return User(role=UserRole.Admin, name=username) if known else None


class SecuredDevice(OpcUaDevice):
    """A PLC with a certificate. `folder`: the state directory of the gateway that reads it."""

    certificate: x509.Certificate
    key_name = "plc"
    offered = OFFERED

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    async def secure(self, server: Server) -> None:
        server.iserver.set_user_manager(Doorman())
        await self._load(server, make.make(), "plc")

    async def install(
        self, certificate: x509.Certificate, *, offered: Sequence[Type] = OFFERED, key: str = "plc", users: Sequence[type] = USERS
    ) -> None:
        """What a technician does in the PLC: another certificate, other policies."""
        self.server._policies.clear()
        self.server.iserver.endpoints.clear()
        await self._load(self.server, certificate, key, offered)
        self.server.set_identity_tokens(list(users))
        await self.server._setup_server_nodes()

    async def _load(self, server: Server, certificate: x509.Certificate, key: str, offered: Sequence[Type] = OFFERED) -> None:
        self.certificate = certificate
        await server.load_certificate(der(certificate), "der")
        await server.load_private_key(make.pem(make.key(key, certificate.public_key().key_size)), format="pem")  # type: ignore[union-attr]
        server.set_security_policy(list(offered), permission_ruleset=SimpleRoleRuleset())
        server.set_identity_tokens(list(USERS))

    def trust(self, *certificates: x509.Certificate) -> None:
        for number, certificate in enumerate(certificates):
            put(self.pki / "trusted", f"{number}.der", der(certificate))

    def pinned(self) -> dict[str, Any]:
        return {"security": WANTED | {"server_certificate": str(put(self.folder, "pinned.der", der(self.certificate)))}}
