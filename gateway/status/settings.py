"""Where the page listens."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

DEFAULT_LISTEN = "127.0.0.1:8080"
"""Loopback: whoever opens the page to the plant's network decides so."""
_HOST_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")


@dataclass(frozen=True)
class Address:
    """`host` without brackets; port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `line-pc-07:8080`. Raises ValueError with an example."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):(\d{1,5})", text.strip())
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"needs an address and a port, for example {DEFAULT_LISTEN}")
    host = match[1] or match[2]
    if match[1]:
        ipaddress.IPv6Address(host)
    elif not _HOST_NAME.match(host):
        raise ValueError(f"{host!r} is no address or host name; for example {DEFAULT_LISTEN}")
    return Address(host, int(match[3]))


def _checked(text: str) -> str:
    parse_listen(text)
    return text


Listen = Annotated[str, AfterValidator(_checked)]
"""For `gateway.listen` in the configuration."""
