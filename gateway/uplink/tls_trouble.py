"""Why TLS with a peer failed, as one sentence on what to do: OpenSSL's own words name neither the file nor the setting to change."""

from __future__ import annotations

import ssl

from gateway.domain.events import Text

_EXPIRED = Text(
    "Le certificat du serveur a expiré (ou l'horloge de cette passerelle est fausse) : le faire renouveler.",
    "The server's certificate has expired (or this gateway's clock is wrong): have it renewed.",
)
_OTHER_NAME = Text(
    "Le certificat du serveur porte un autre nom : écrire dans l'adresse le nom du certificat, ou faire corriger le certificat.",
    "The server's certificate is for another name: write the certificate's name in the address, or have the certificate corrected.",
)
_UNKNOWN_ISSUER = Text(
    "L'autorité qui a signé le certificat du serveur n'est pas connue ici : mettre son certificat dans `tls: {ca: ...}`.",
    "The authority behind the server's certificate is not known here: put its certificate into `tls: {ca: ...}`.",
)
_UNUSABLE = Text(
    "Le certificat du serveur n'est pas acceptable : le montrer à l'administrateur du serveur.",
    "The server's certificate is not acceptable: show it to the server's administrator.",
)
_WANTS_OURS = Text(
    "Le serveur exige un certificat client : donner `tls: {certificate: ..., key: ...}`.",
    "The server demands a client certificate: give `tls: {certificate: ..., key: ...}`.",
)
_REFUSES_OURS = Text(
    "Le serveur refuse notre certificat client : le renouveler, ou faire connaître son autorité au serveur.",
    "The server refuses our client certificate: renew it, or make its authority known to the server.",
)
_TOO_OLD = Text(
    "Le serveur ne parle pas TLS 1.2 ni plus récent : le mettre à jour.", "The server speaks neither TLS 1.2 nor newer: update it."
)
_NO_TLS = Text(
    "Ce qui répond à cette adresse ne parle pas TLS : vérifier le port et l'adresse.",
    "What answers at this address does not speak TLS: check the port and the address.",
)

# OpenSSL, X509_V_ERR_*.
_BY_VERIFY_CODE = {9: _EXPIRED, 10: _EXPIRED, 18: _UNKNOWN_ISSUER, 19: _UNKNOWN_ISSUER, 20: _UNKNOWN_ISSUER, 21: _UNKNOWN_ISSUER}
_BY_VERIFY_CODE |= {62: _OTHER_NAME, 64: _OTHER_NAME}
# OpenSSL's reason for an alert of the peer (RFC 8446, 6.2), or for what came in place of one.
_BY_REASON = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _WANTS_OURS,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _WANTS_OURS,
    "SSLV3_ALERT_BAD_CERTIFICATE": _REFUSES_OURS,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _REFUSES_OURS,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _REFUSES_OURS,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _REFUSES_OURS,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _REFUSES_OURS,
    "TLSV1_ALERT_UNKNOWN_CA": _REFUSES_OURS,
    "TLSV1_ALERT_ACCESS_DENIED": _REFUSES_OURS,
    "TLSV1_ALERT_PROTOCOL_VERSION": _TOO_OLD,
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "WRONG_SSL_VERSION": _TOO_OLD,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
}


def tls_remedy(error: BaseException) -> Text | None:
    """What to do about it where TLS is to blame, else None. `error` may have the one of `ssl` behind it (`__cause__`, `__context__`)."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        # aiohttp's own subclass has no code; OpenSSL's error stands behind it.
        if isinstance(at, ssl.SSLCertVerificationError) and (code := getattr(at, "verify_code", None)) is not None:
            return _BY_VERIFY_CODE.get(code, _UNUSABLE)
        if isinstance(at, ssl.SSLError) and (remedy := _BY_REASON.get(getattr(at, "reason", None) or "")):
            return remedy
        at = at.__cause__ or at.__context__
    return None
