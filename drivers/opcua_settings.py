"""Settings of an OPC UA device. Apart from the driver, so that a configuration is read without loading the protocol stack."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from drivers.opcua_paths import parse_path
from drivers.settings import COUNTER_TYPES, DeviceSettings, FieldError, FilePath, IntegerType, Name, Secret, Settings, TagSettings

NODE_PATTERN = re.compile(r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d{1,5});)?(?P<id>i=\d{1,10}|s=.+|g=[0-9A-Fa-f-]{36}|b=[A-Za-z0-9+/=]+)")
"""A node id as written in a configuration: OPC 10000-6, 5.1.12, with the namespace by URI or by index."""


def _check_node(node: str) -> str:
    if NODE_PATTERN.fullmatch(node) is None:
        raise ValueError(f"{node!r} is no node id; write for example nsu=urn:acme:press;s=Counters.Total")
    return node


def _check_path(path: str) -> str:
    parse_path(path)
    return path


class OpcUaTag(TagSettings):
    """One node. `path`: a browse path that leads to it, from `node` or, without one, from the root folder.

    `index`: the element of an array. `type`: the counter's integer type, where it rolls over."""

    node: Annotated[str, AfterValidator(_check_node)] | None = None
    path: Annotated[str, AfterValidator(_check_path)] | None = None
    index: int | None = Field(default=None, ge=0)
    type: IntegerType | Literal["float32", "float64", "bool", "string"] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.node is None and self.path is None:
            raise FieldError("a tag names its node; write node: nsu=urn:acme:press;s=Counters.Total, or path: with its browse path", "node")
        return self


class OpcUaSecurity(Settings):
    """Either policy and mode, or knowingly none: `insecure: true`.

    `server_certificate`: the one certificate the server may show; without it, those in the folder pki/trusted. `server_name`: the host
    in that certificate, where it is not the one of the address.
    """

    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] | None = None
    mode: Literal["Sign", "SignAndEncrypt"] | None = None
    server_certificate: FilePath | None = None
    server_name: str | None = Field(default=None, min_length=1)
    insecure: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        secured = [field for field in ("policy", "mode", "server_certificate", "server_name") if getattr(self, field) is not None]
        if self.insecure and secured:
            raise FieldError(f"insecure: true and {secured[0]} exclude each other; keep one of them", "insecure")
        if not self.insecure and (self.policy is None or self.mode is None):
            raise FieldError(
                "security needs policy and mode; write for example {policy: Basic256Sha256, mode: SignAndEncrypt, "
                "server_certificate: pki/press.der}, or knowingly {insecure: true}"
            )
        return self


class OpcUaUser(Settings):
    """A name with its password, or a certificate with its key (PEM). `clear_text`: knowingly send the password unencrypted
    where the server takes it in no other way."""

    name: str | None = Field(default=None, min_length=1)
    password: Secret | None = None
    certificate: FilePath | None = None
    key: Secret | None = None
    clear_text: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        by_name = self.name is not None and self.password is not None
        by_certificate = self.certificate is not None and self.key is not None
        given = [field for field in ("name", "password", "certificate", "key") if getattr(self, field) is not None]
        if by_name == by_certificate or len(given) != 2:
            raise FieldError(
                "a user is a name with its password, or a certificate with its key; write {name: gateway, password: {credential: NAME}} "
                "or {certificate: pki/user.der, key: {file: pki/user.pem}}"
            )
        if by_certificate and self.clear_text:
            raise FieldError("clear_text is about a password, and a certificate has none; remove it", "clear_text")
        return self


class OpcUaSettings(DeviceSettings):
    """An OPC UA server. `interval`: sampling interval of the subscription, or of polling."""

    driver: Literal["opcua"]
    url: str
    security: OpcUaSecurity
    user: OpcUaUser | None = None
    mode: Literal["subscribe", "poll"] = "subscribe"
    tags: dict[Name, OpcUaTag] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _security_is_a_choice(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("security") is None:
            raise FieldError(
                "an OPC UA device says how it is secured; write security: {policy: ..., mode: ..., server_certificate: ...}, "
                "or knowingly security: {insecure: true}",
                "security",
            )
        return data

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        url = urlsplit(self.url)
        try:
            usable = url.scheme == "opc.tcp" and bool(url.hostname) and url.port != 0 and url.username is None
        except ValueError:
            usable = False
        if not usable:
            raise FieldError(f"{self.url!r} is no OPC UA address; write opc.tcp://192.168.10.21:4840 (a user goes under user)", "url")
        return self

    @property
    def peer(self) -> str:
        return f"OPC UA {urlsplit(self.url).hostname}:{urlsplit(self.url).port or 4840}"

    def counter_type(self, tag: str) -> tuple[int, bool] | None:
        """(bits, signed) where the tag says its type; None: a decrease means a reset."""
        return COUNTER_TYPES.get(self.tags[tag].type or "")
