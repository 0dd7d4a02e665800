"""What a technician is told about a broker: what it refuses beside ledger rows, and what it cannot say."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.events import Text
from gateway.seams import AlertBoard

_SHOWN = 5
"""Topics named in a detail; a broker that denies everything would fill the page."""


class BrokerAlerts:
    """The alerts of one MQTT uplink's connection."""

    def __init__(self, uplink: str, board: AlertBoard) -> None:
        self._uplink = uplink
        self._board = board

    def subscriptions(self, refused: Mapping[str, str]) -> None:
        """Topics that may not be read, each with the broker's reason."""
        self._tell(
            "subscription",
            _listed(refused),
            Text(
                f"Le courtier de {self._uplink} refuse de transmettre les ordres.",
                f"The broker of {self._uplink} refuses to pass orders on.",
            ),
            Text("Donner à la passerelle le droit de lire ces sujets.", "Grant the gateway the right to read these topics."),
        )

    def version(self, peer: str, *, tells_refusals: bool) -> None:
        """Whether the broker at `peer` speaks a version in which it can say that it refuses a message (MQTT 5)."""
        self._tell(
            "version",
            None if tells_refusals else peer,
            Text(
                f"{self._uplink} ne parle que MQTT 3.1.1 : un message refusé y passe pour reçu.",
                f"{self._uplink} speaks MQTT 3.1.1 only: a refused message looks like one that was taken.",
            ),
            Text(
                "Mettre le courtier à jour vers MQTT 5, ou déclarer des `consumers`.",
                "Update the broker to MQTT 5, or declare `consumers`.",
            ),
            severity="info",
        )

    def live(self, refused: Mapping[str, str]) -> None:
        """Live topics that the broker does not take now, each with its reason."""
        self._tell(
            "live_refused",
            _listed(refused),
            Text(
                f"Le courtier de {self._uplink} refuse des valeurs en direct ; comptes et OF passent.",
                f"The broker of {self._uplink} refuses live values; counts and orders go on.",
            ),
            Text(
                "Donner à la passerelle le droit d'écrire ces sujets ; elle réessaie à la prochaine connexion.",
                "Grant the gateway the right to write these topics; it tries again with the next connection.",
            ),
        )

    def hangs_up(self, topic: str | None) -> None:
        """The broker closes one connection after the other at a message of `topic`; None: it does no more."""
        self._tell(
            "hangs_up",
            topic,
            Text(
                f"Le courtier de {self._uplink} coupe la connexion, toujours au même message.",
                f"The broker of {self._uplink} closes the connection, always at the same message.",
            ),
            Text(
                "Donner à la passerelle le droit d'écrire ce sujet ; le message est mis de côté.",
                "Grant the gateway the right to write this topic; the message is set apart.",
            ),
        )

    def _tell(self, kind: str, detail: str | None, text: Text, remedy: Text, *, severity: str = "warning") -> None:
        """Up with this detail; without one it is over."""
        key = f"uplink.{kind}:{self._uplink}"
        if detail is None:
            self._board.clear(key)
        else:
            self._board.raise_(key, severity, text, remedy, detail=detail)


def _listed(refused: Mapping[str, str]) -> str | None:
    if not refused:
        return None
    shown = [f"{topic} ({reason})" for topic, reason in list(refused.items())[:_SHOWN]]
    return ", ".join(shown) + (f", and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else "")
