"""What a broker's answer to a connection means, and what to do about it."""

from __future__ import annotations

from paho.mqtt.reasoncodes import ReasonCode

from gateway.domain.events import Text
from gateway.seams import UplinkError

_UNSUPPORTED_VERSION = 132
_USER_REASONS = (0x86, 0x87)
_USER_PAUSE_S = 10.0
"""A wrong password stays wrong; asking twice a second may get the gateway's address banned."""

_USER = Text("Vérifier le nom et le mot de passe de la liaison.", "Check the user name and password of the uplink.")
_VERSION = Text("Choisir `protocol: 3.1.1` pour ce courtier.", "Choose `protocol: 3.1.1` for this broker.")

CLOSED_WITHOUT_ANSWER = Text(
    "Le courtier ferme la connexion TLS sans répondre : vérifier le certificat client (`tls`), qu'il exige peut-être.",
    "The broker closes the TLS connection without an answer: check the client certificate (`tls`), it may demand one.",
)
"""With TLS 1.3 a client certificate is judged after the handshake, and the broker's word on it may be lost with the connection."""


class VersionRefused(UplinkError):
    """The broker answered reason 132: it does not speak MQTT 5."""


def not_accepted(name: str, reason: ReasonCode) -> UplinkError:
    """The error for a CONNACK that says no."""
    text = f"{name}: the broker refused the connection: {reason} (reason {reason.value})"
    if reason.value == _UNSUPPORTED_VERSION:
        return VersionRefused(text, remedy=_VERSION)
    if reason.value in _USER_REASONS:
        return UplinkError(text, remedy=_USER, retry_after_s=_USER_PAUSE_S)
    return UplinkError(text)
