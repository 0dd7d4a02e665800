"""Settings of an OPC UA device. Apart from the driver, so that a configuration is read without loading the protocol stack."""

from __future__ import annotations

import base64
import re
import uuid
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from drivers.opcua_paths import parse_path
from drivers.settings import (
    COUNTER_TYPES,
    DeviceSettings,
    FieldError,
    FilePath,
    IntegerType,
    Name,
    Secret,
    Settings,
    TagSettings,
    picked_bits,
)

NODE_PATTERN = re.compile(r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>\d{1,5});)?(?P<id>i=\d{1,10}|s=.+|g=[0-9A-Fa-f-]{36}|b=[A-Za-z0-9+/=]+)")
"""A node id as written in a configuration: OPC 10000-6, 5.1.12, with the namespace by URI or by index."""


def _check_node(node: str) -> str:
    if node.startswith("svr="):
        raise ValueError(f"{node!r} is a node of another server; make that server a device of its own and leave svr= out")
    found = NODE_PATTERN.fullmatch(node)
    if found is None or not _is_identifier(found["id"]) or int(found["index"] or 0) > 0xFFFF:
        raise ValueError(f"{node!r} is no node id; write for example nsu=urn:acme:press;s=Counters.Total")
    return node


def _is_identifier(text: str) -> bool:
    """Of the kind that its letter says: a number of 32 bits, a GUID, bytes in base 64, any text."""
    kind, value = text[0], text[2:]
    try:
        if kind == "g":
            uuid.UUID(value)
        elif kind == "b":
            base64.b64decode(value, validate=True)
    except ValueError:
        return False
    return kind != "i" or int(value) <= 0xFFFFFFFF


def _check_url(text: str) -> str:
    """With its port: 4840, registered for opc.tcp, where none is written; the library would take 0."""
    url = urlsplit(text)
    try:
        port = url.port
        usable = url.scheme == "opc.tcp" and bool(url.hostname) and port != 0 and url.username is None
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{text!r} is no OPC UA address; write opc.tcp://192.168.10.21:4840 (a user goes under user)")
    return text if port is not None else url._replace(netloc=f"{url.netloc.rstrip(':')}:4840").geturl()


def _check_path(path: str) -> str:
    parse_path(path)
    return path


def _check_member(member: str) -> str:
    if re.fullmatch(r"[^.\s]+(\.[^.\s]+)*", member) is None:
        raise ValueError(f"{member!r} is no path into a structure; write its fields with a dot between, for example At.Points.2.X")
    return member


def _check_bits(bits: str) -> str:
    if re.fullmatch(r"\d{1,2}-\d{1,2}", bits) is None:
        raise ValueError(f"{bits!r} is no range of bits; write the lowest and the highest, for example 4-7, or bit: 4 for a single one")
    return bits


def _check_index(value: Any) -> tuple[int, ...]:
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        numbers = tuple(int(part) if isinstance(part, str) else part for part in given)
    except ValueError:
        numbers = ()
    if not numbers or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(
            f"{value!r} is no place in an array; count from 0 and write for example 3, of a matrix [2, 5], in a spreadsheet 2,5"
        )
    return numbers


_WHOLE = {"type": "integer", "minimum": 0}
Index = Annotated[
    tuple[int, ...], BeforeValidator(_check_index), WithJsonSchema({"anyOf": [_WHOLE, {"type": "array", "items": _WHOLE, "minItems": 1}]})
]
"""Where an element stands, from 0: one number for each dimension."""


class OpcUaTag(TagSettings):
    """One node. `path`: a browse path that leads to it, from `node` or, without one, from the root folder.

    `index`: the element of an array. `member`: a field of a structure, `Path.To.Field` (a number picks from an array inside).

    `bit` or `bits` "4-7" pick from an integer. `type`: what the value must be; of a counter, where it rolls over; `string` turns bytes
    into text, of at most `length` characters.
    """

    node: Annotated[str, AfterValidator(_check_node)] | None = None
    path: Annotated[str, AfterValidator(_check_path)] | None = None
    index: Index | None = None
    member: Annotated[str, AfterValidator(_check_member)] | None = None
    bit: int | None = Field(default=None, ge=0, le=63)
    bits: Annotated[str, AfterValidator(_check_bits)] | None = None
    type: IntegerType | Literal["float32", "float64", "bool", "string"] | None = None
    length: int | None = Field(default=None, ge=1, le=65535)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.node is None and self.path is None:
            raise FieldError("a tag names its node; write node: nsu=urn:acme:press;s=Counters.Total, or path: with its browse path", "node")
        return self

    @property
    def bit_range(self) -> tuple[int, int] | None:
        """(lowest bit, count); None: the whole value."""
        return picked_bits(self.bit, self.bits)

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.bit is not None and self.bits is not None:
            raise FieldError("bit and bits exclude each other; keep one", "bits")
        field = "bit" if self.bit is not None else "bits"
        if self.bit_range is not None:
            if sum(self.bit_range) > 64:
                raise FieldError("an integer has bits 0 to 63; write for example 4-7", field)
            if self.type in ("float32", "float64", "string"):
                raise FieldError(f"{field} picks from an integer, not from {self.type}; remove type", field)
            if self.writable:
                raise FieldError(f"a tag with {field} cannot be written; remove writable", "writable")
        if self.member is not None and self.writable:
            raise FieldError("a member of a structure cannot be written; remove writable or name a variable of its own", "writable")
        if self.length is not None and self.type != "string":
            raise FieldError("length belongs to type: string; add it or remove length", "length")
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
    """An OPC UA server. `interval`: sampling interval of the subscription, or of polling.

    `profile`: whose limits hold until, and beside what, the server itself announces.
    """

    driver: Literal["opcua"]
    url: Annotated[str, AfterValidator(_check_url)]
    security: OpcUaSecurity
    user: OpcUaUser | None = None
    mode: Literal["subscribe", "poll"] = "subscribe"
    profile: Literal["generic", "s7-1200", "s7-1500", "kepware"] = "generic"
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

    @property
    def peer(self) -> str:
        return f"OPC UA {urlsplit(self.url).hostname}:{urlsplit(self.url).port}"

    def counter_type(self, tag: str) -> tuple[int, bool] | None:
        """(bits, signed) where the tag says its type; None: a decrease means a reset."""
        found = self.tags[tag]
        return COUNTER_TYPES.get(found.type or "") if found.bit_range is None else None
