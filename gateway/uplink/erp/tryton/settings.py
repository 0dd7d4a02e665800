"""What the site says about its Tryton server."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from drivers.settings import FieldError, Name, Secret
from gateway.uplink.erp.settings import BookingSettings
from gateway.uplink.settings import HTTP_PORTS, Tls, address_of, is_loopback


class TrytonSettings(BookingSettings):
    """One data base of a Tryton server. `user`: one that nobody else uses, since only its own bookings count as the gateway's.

    `work_centers`: our work unit -> the name of its work centre in Tryton.
    """

    type: Literal["tryton"]
    url: str
    database: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    user: str = Field(min_length=1, max_length=256)
    password: Secret
    work_centers: dict[Name, Annotated[str, Field(min_length=1, max_length=256)]] = Field(min_length=1)
    insecure: bool = False
    """Plain text beyond this machine: accepted, with a permanent alert."""
    tls: Tls | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        parts, _, _ = address_of(self.url, HTTP_PORTS, "url")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise FieldError("has more than host and port; leave the rest out, the data base is named in `database`", "url")
        if self.plain_text() and not self.insecure:
            raise FieldError("would send the password and orders in plain text; use https:// or say `insecure: true`", "url")
        if self.tls is not None and parts.scheme != "https":
            raise FieldError("is used by an https:// address only; use https:// or leave `tls` out", "tls")
        names = list(self.work_centers.values())
        for unit, name in self.work_centers.items():
            if names.count(name) > 1:
                raise FieldError("is the work centre of two work units; give each its own", "work_centers", unit)
        return self

    def address(self) -> tuple[str, int, bool]:
        """Host, port and whether TLS is used."""
        parts, host, port = address_of(self.url, HTTP_PORTS, "url")
        return host, port, parts.scheme == "https"

    def plain_text(self) -> bool:
        """Whether password and data leave this machine unencrypted."""
        host, _, tls = self.address()
        return not tls and not is_loopback(host)

    @property
    def peer(self) -> str:
        """`Tryton erp.acme.lan:8000`, for the technician."""
        host, port, _ = self.address()
        return f"Tryton {host}:{port}"
