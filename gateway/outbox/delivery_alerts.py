"""What a technician is told about rows that a peer does not take, or takes for nobody."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.domain.entry import Entry
from gateway.domain.events import Text
from gateway.seams import AlertBoard, Receipt

_REMEDY = Text("Vérifier les droits de la passerelle.", "Check the gateway's rights.")


class DeliveryAlerts:
    """The alerts of one uplink's deliveries."""

    def __init__(self, uplink: str, board: AlertBoard) -> None:
        self._uplink = uplink
        self._board = board
        self._unrouted: set[tuple[str | None, str]] = set()

    def quarantined(self, entry: Entry, reason: str) -> None:
        """The peer refused this row, until a new connection at least. (Rows parked for good are counted, and told from that.)"""
        place = entry.work_unit or "_gateway"
        self._board.raise_(
            self._refusal_key(entry.work_unit),
            "warning",
            Text(f"{self._uplink} refuse des messages de {place}.", f"{self._uplink} refuses messages of {place}."),
            _REMEDY,
            detail=f"{entry.id} {entry.type}: {reason}",
        )

    def taken_after_all(self, work_unit: str | None) -> None:
        """A quarantined row of that unit went through."""
        self._board.clear(self._refusal_key(work_unit))

    def routed(self, batch: Iterable[Entry], receipt: Receipt) -> None:
        """Whether the peer had anybody to hand the rows to (MQTT reason 0x10). Cleared once every kind of row is listened to again."""
        before = bool(self._unrouted)
        for entry in batch:
            if entry.position in receipt.accepted:
                topic = entry.work_unit, entry.type
                (self._unrouted.add if entry.position in receipt.unrouted else self._unrouted.discard)(topic)
        key = f"uplink.unrouted:{self._uplink}"
        if self._unrouted and not before:
            self._board.raise_(
                key,
                "warning",
                Text(f"Personne n'écoute {self._uplink}.", f"Nobody listens to {self._uplink}."),
                Text("Vérifier que le système destinataire est connecté.", "Check that the receiving system is connected."),
                detail="the broker has no matching subscriber (reason 0x10)",
            )
        elif before and not self._unrouted:
            self._board.clear(key)

    def _refusal_key(self, work_unit: str | None) -> str:
        return f"uplink.refused:{self._uplink}:{work_unit or '_gateway'}"
