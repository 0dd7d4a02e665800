"""What the uplinks share: whom they hand inbound messages to, and how TLS is set up."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from drivers.base import Clock
from drivers.settings import Secret
from gateway.domain.events import Text
from gateway.domain.inbound import Inbound
from gateway.domain.job_order import Answer
from gateway.seams import AlertBoard, UplinkError
from gateway.uplink.settings import Tls

SecretReader = Callable[[Secret], str]
"""Reads a secret when its link is opened."""


class CommandHandler(Protocol):
    """Takes one inbound message into the ledger; the answer comes after the commit (`dispatch.intake.Intake.handle`)."""

    def __call__(self, inbound: Inbound, *, uplink: str, work_unit: str | None, received_at: datetime) -> Awaitable[Answer]:
        """`work_unit`: that of the topic, None where the way in has none (HTTP)."""


class BatchHandler(Protocol):
    """Takes the orders of one poll and their cursor in one commit (`dispatch.intake.Intake.handle_batch`).

    `cursor`: None, it has not moved; or what makes it from the answers, in the step in which they are recorded."""

    def __call__(
        self, items: Sequence[Inbound], *, uplink: str, cursor: str | Callable[[Sequence[Answer]], str | None] | None
    ) -> Awaitable[object]: ...


class AckHandler(Protocol):
    """A consumer's high-water mark. Returns why it was refused, None when it was applied (durable with the next commit)."""

    def __call__(self, consumer: str, epoch: str, sequence: int) -> str | None: ...


class ReplayHandler(Protocol):
    """Send again from `from_sequence`. Returns why it was refused, None when it was applied."""

    def __call__(self, epoch: str, from_sequence: int) -> str | None: ...


class Complaint:
    """An alert about answers that come and go.

    It is raised after `patience_s` of nothing but bad answers and cleared once the last bad one is `calm_s` ago: an alert is itself an
    event that goes to the peer, and one that came and went with every answer would never end.
    """

    def __init__(self, alerts: AlertBoard, clock: Clock, key: str, text: Text, remedy: Text, *, patience_s: float, calm_s: float) -> None:
        self._alerts = alerts
        self._clock = clock
        self._key = key
        self._text = text
        self._remedy = remedy
        self._patience_s = patience_s
        self._calm_s = calm_s
        self._bad_since: float | None = None
        self._last_bad = 0.0
        self._is_up = False

    def bad(self, detail: str) -> None:
        self._last_bad = self._clock.monotonic()
        self._bad_since = self._last_bad if self._bad_since is None else self._bad_since
        if not self._is_up and self._last_bad - self._bad_since >= self._patience_s:
            self._is_up = True
            self._alerts.raise_(self._key, "warning", self._text, self._remedy, detail=detail)

    def good(self) -> None:
        self._bad_since = None
        if self._is_up and self._clock.monotonic() - self._last_bad >= self._calm_s:
            self._is_up = False
            self._alerts.clear(self._key)


def tls_context(tls: Tls | None) -> ssl.SSLContext:
    """A client context that checks the peer's name and chain. Raises UplinkError for files that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=tls.ca if tls else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls is not None and tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        remedy = Text("Vérifier les fichiers `tls` de cette liaison.", "Check the `tls` files of this uplink.")
        raise UplinkError(f"TLS files cannot be used: {error}", remedy=remedy) from error
    return context


def warn_plain_text(alerts: AlertBoard, uplink: str, peer: str) -> None:
    """The permanent alert of an uplink that is allowed to go unencrypted beyond this machine."""
    alerts.raise_(
        f"uplink.insecure:{uplink}",
        "warning",
        Text(f"La liaison {uplink} vers {peer} n'est pas chiffrée.", f"The uplink {uplink} to {peer} is not encrypted."),
        Text("Passer à mqtts:// ou https:// et retirer `insecure`.", "Change to mqtts:// or https:// and remove `insecure`."),
    )


def warn_dry_run(alerts: AlertBoard, uplink: str, peer: str) -> None:
    """The permanent alert of an ERP that is not told anything yet."""
    alerts.raise_(
        f"uplink.dry_run:{uplink}",
        "info",
        Text(f"Essai à blanc : la liaison {uplink} n'écrit rien dans {peer}.", f"Dry run: the uplink {uplink} writes nothing to {peer}."),
        Text(
            "Lire dans le journal du service ce qui serait écrit, puis retirer `dry_run` : ce qui est dû sera envoyé.",
            "Read in the service's log what would be written, then remove `dry_run`: what is owed will be sent.",
        ),
    )
