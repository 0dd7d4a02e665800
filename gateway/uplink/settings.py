"""What the site says about its uplinks: MQTT brokers and ERPs over HTTP."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, model_validator

from drivers.settings import Duration, FieldError, FilePath, Name, Secret, Settings

MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883}
HTTP_PORTS = {"http": 80, "https": 443}


def address_of(url: str, ports: dict[str, int], *at: str | int) -> tuple[SplitResult, str, int]:
    """A URL taken apart: its parts, host and port. Raises FieldError."""
    known = " or ".join(f"{scheme}://" for scheme in ports)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise FieldError(f"is not an address ({error}); write {known}host:port", *at) from None
    if parts.scheme not in ports:
        raise FieldError(f"needs an address that begins with {known}; add it", *at)
    if not host:
        raise FieldError(f"names no host; write {known}host:port", *at)
    if parts.username is not None or parts.password is not None:
        raise FieldError("holds a user or password; put them into `user` or `token`, the secret as {credential: NAME}", *at)
    return parts, host, port or ports[parts.scheme]


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself, so that plain text stays on it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class User(Settings):
    name: str = Field(min_length=1)
    password: Secret | None = None


class Tls(Settings):
    """Whom to trust and who we are (PEM files). Without `ca` the system's authorities; `certificate` and `key` go together."""

    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` belong together; give both or none")
        return self


# YAML reads `protocol: 5` as a number.
Protocol = Annotated[Literal["auto", "5", "3.1.1"], BeforeValidator(lambda v: str(v) if isinstance(v, int | float) else v)]


class MqttSettings(Settings):
    """One MQTT peer: several addresses are tried in turn (a broker and its stand-in).

    `protocol` auto is MQTT 5, and 3.1.1 only for a broker that answers reason 132. With `consumers`, ledger rows retire when each of
    them has acknowledged; without, on the broker's own acknowledgement.
    """

    type: Literal["mqtt"]
    urls: tuple[str, ...] = Field(min_length=1, max_length=8)
    protocol: Protocol = "auto"
    user: User | None = None
    root: str = Field(default="lineside/v1", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", max_length=200)
    consumers: tuple[Name, ...] = ()
    insecure: bool = False
    """Plain text beyond this machine: accepted, with a permanent alert."""
    tls: Tls | None = None

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        for index, url in enumerate(self.urls):
            parts, host, _ = address_of(url, MQTT_PORTS, "urls", index)
            if parts.path not in ("", "/") or parts.query or parts.fragment:
                raise FieldError("has more than host and port; leave the rest out", "urls", index)
            if parts.scheme == "mqtt" and not is_loopback(host) and not self.insecure:
                raise FieldError("would send passwords and orders in plain text; use mqtts:// or say `insecure: true`", "urls", index)
        if len(set(self.urls)) != len(self.urls):
            raise FieldError("names an address twice; leave one out", "urls")
        if len(set(self.consumers)) != len(self.consumers):
            raise FieldError("names a consumer twice; leave one out", "consumers")
        if self.tls is not None and not any(url.startswith("mqtts:") for url in self.urls):
            raise FieldError("is used by mqtts:// addresses only; use mqtts:// or leave `tls` out", "tls")
        return self

    def addresses(self) -> tuple[tuple[str, int, bool], ...]:
        """Host, port and whether TLS is used, in the order of `urls`."""
        found = (address_of(url, MQTT_PORTS, "urls", index) for index, url in enumerate(self.urls))
        return tuple((host, port, parts.scheme == "mqtts") for parts, host, port in found)

    def plain_text(self) -> bool:
        """Whether passwords and data leave this machine unencrypted."""
        return any(not tls and not is_loopback(host) for host, _, tls in self.addresses())


class OAuth2(Settings):
    """An access token from an identity provider, by client credentials (RFC 6749, 4.4).

    `method`: how the provider wants id and secret, in the words of RFC 7591: in the Authorization header, as the standard has it, or in
    the form; without it the header first, and the form when the provider does not know the client then. `tls`: where the provider's
    authority or our certificate is another than the ERP's.
    """

    token_url: str
    client_id: str = Field(min_length=1, max_length=1000)
    client_secret: Secret
    scope: str | None = Field(default=None, min_length=1, max_length=1000)
    method: Literal["client_secret_basic", "client_secret_post"] | None = None
    tls: Tls | None = None

    def address(self) -> tuple[str, int, bool]:
        """Host, port and whether TLS is used. Raises FieldError."""
        parts, host, port = address_of(self.token_url, HTTP_PORTS, "oauth2", "token_url")
        return host, port, parts.scheme == "https"


class HttpSettings(Settings):
    """One ERP, iPaaS or integration bus that speaks the HTTP exchange; `interval`: how often it is asked for orders.

    `priority_order`: how the ERP counts; inside, the higher number comes first (OPC 10031-4). `dry_run`: events are logged in place of
    being sent, and kept.
    """

    type: Literal["http"]
    url: str
    token: Secret | None = None
    oauth2: OAuth2 | None = None
    interval: Duration = Field(default=5.0, gt=0.0, le=86400.0)
    priority_order: Literal["highest_first", "lowest_first"] = "highest_first"
    dry_run: bool = False
    insecure: bool = False
    """Plain text beyond this machine: accepted, with a permanent alert."""
    tls: Tls | None = None

    @model_validator(mode="after")
    def _address_is_usable(self) -> Self:
        parts, host, _ = address_of(self.url, HTTP_PORTS, "url")
        if parts.query or parts.fragment:
            raise FieldError("has a query; end it at the path", "url")
        if parts.scheme == "http" and not is_loopback(host) and not self.insecure:
            raise FieldError("would send the token and orders in plain text; use https:// or say `insecure: true`", "url")
        if self.tls is not None and parts.scheme != "https":
            raise FieldError("is used by an https:// address only; use https:// or leave `tls` out", "tls")
        return self

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.oauth2 is None:
            return self
        if self.token is not None:
            raise FieldError("is a second way to the same token; keep `token` or `oauth2`", "oauth2")
        host, _, tls = self.oauth2.address()
        if not tls and not is_loopback(host) and not self.insecure:
            raise FieldError("would send the secret in plain text; use https:// or say `insecure: true`", "oauth2", "token_url")
        if self.oauth2.tls is not None and not tls:
            raise FieldError("is used by an https:// address only; use https:// or leave `tls` out", "oauth2", "tls")
        return self

    def address(self) -> tuple[str, int, bool]:
        """Host, port and whether TLS is used."""
        parts, host, port = address_of(self.url, HTTP_PORTS, "url")
        return host, port, parts.scheme == "https"

    def has_proof(self) -> bool:
        """Whether the ERP can tell who asks."""
        return self.token is not None or self.oauth2 is not None or (self.tls is not None and self.tls.certificate is not None)

    def plain_text(self) -> bool:
        """Whether token, secret or data leave this machine unencrypted."""
        ways = [self.address(), *([self.oauth2.address()] if self.oauth2 else [])]
        return any(not tls and not is_loopback(host) for host, _, tls in ways)
