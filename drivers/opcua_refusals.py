"""Why this gateway refuses an OPC UA server, each with what a technician should do, in both languages.

Names are the status codes of OPC 10000-4 where one fits: they are what other OPC UA tools say about the same certificate.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.base import LinkError, PeerRefusedError

RETRY_S = 5.0
"""Only a person can change the answer: soon enough for one who waits for it, seldom enough for a small PLC."""


@dataclass(frozen=True)
class Refusal:
    """`says` for the expert; placeholders are filled from what the check knows."""

    reason: str
    says: str
    remedy_fr: str
    remedy_en: str


REFUSALS: dict[str, Refusal] = {
    "expired": Refusal(
        "BadCertificateTimeInvalid",
        "the server's certificate {thumbprint} expired on {until}",
        "Le certificat de l'automate a expiré le {until} : le renouveler sur l'automate, puis lineside pki trust.",
        "The PLC's certificate expired on {until}: renew it in the PLC, then lineside pki trust.",
    ),
    "not_yet_valid": Refusal(
        "BadCertificateTimeInvalid",
        "the server's certificate {thumbprint} is valid from {since} only",
        "Le certificat de l'automate n'est valable qu'à partir du {since} : vérifier l'horloge de la passerelle et de l'automate.",
        "The PLC's certificate is valid from {since} only: check the clocks of the gateway and of the PLC.",
    ),
    "host": Refusal(
        "BadCertificateHostNameInvalid",
        "the server's certificate {thumbprint} is for {hosts}, not for {host}",
        "Le certificat est celui de {hosts}, pas de {host} : vérifier l'adresse, ou écrire server_name avec le bon nom sous security.",
        "The certificate is that of {hosts}, not of {host}: check the address, or write server_name with the right name under security.",
    ),
    "uri": Refusal(
        "BadCertificateUriInvalid",
        "the server calls itself {application}, its certificate {thumbprint} is for {uris}",
        "Le certificat n'est pas celui de ce serveur ({application}) : refaire le certificat sur l'automate.",
        "The certificate is not this server's ({application}): make the PLC's certificate anew.",
    ),
    "untrusted": Refusal(
        "BadCertificateUntrusted",
        "nobody trusts the server's certificate {thumbprint} ({subject}, issued by {issuer}) yet",
        "Certificat inconnu : comparer l'empreinte {thumbprint} avec celle de l'automate, puis lineside pki trust {thumbprint}.",
        "Unknown certificate: compare the thumbprint {thumbprint} with the PLC's, then lineside pki trust {thumbprint}.",
    ),
    "other": Refusal(
        "BadCertificateUntrusted",
        "the server shows the certificate {thumbprint}, server_certificate names {wanted}",
        "L'automate montre un autre certificat que server_certificate : s'il a été renouvelé, remplacer le fichier, "
        "sinon prévenir l'informatique.",
        "The PLC shows another certificate than server_certificate: if it was renewed replace the file, else tell IT.",
    ),
    "swapped": Refusal(
        "BadCertificateUntrusted",
        "the server showed the certificate {wanted} first and {thumbprint} when the channel was opened",
        "L'automate a montré deux certificats différents : vérifier qu'un seul appareil a cette adresse, sinon prévenir l'informatique.",
        "The PLC showed two different certificates: check that only one device has this address, else tell IT.",
    ),
    "revoked": Refusal(
        "BadCertificateRevoked",
        "the certificate {thumbprint} is revoked by the list of {issuer}",
        "Le certificat de l'automate est révoqué : en installer un nouveau sur l'automate.",
        "The PLC's certificate is revoked: install a new one in the PLC.",
    ),
    "usage": Refusal(
        "BadCertificateUseNotAllowed",
        "the server's certificate {thumbprint} may not be used for that: {detail}",
        "Le certificat n'est pas prévu pour un serveur OPC UA ({detail}) : refaire le certificat de l'automate.",
        "The certificate is not meant for an OPC UA server ({detail}): make the PLC's certificate anew.",
    ),
    "weak": Refusal(
        "BadCertificatePolicyCheckFailed",
        "the server's certificate {thumbprint} is too weak: {detail}",
        "Le certificat de l'automate est trop faible ({detail}) : le refaire avec RSA 2048 ou plus et SHA-256.",
        "The PLC's certificate is too weak ({detail}): make it anew with RSA 2048 or more and SHA-256.",
    ),
    "broken": Refusal(
        "BadCertificateInvalid",
        "the server's certificate is broken: {detail}",
        "Le certificat de l'automate est endommagé : le refaire sur l'automate ; si cela revient, prévenir l'informatique.",
        "The PLC's certificate is broken: make it anew in the PLC; if it comes back, tell IT.",
    ),
    "none_only": Refusal(
        "BadSecurityPolicyRejected",
        "the server offers no security at all, {wanted} is configured",
        "L'automate n'offre aucune sécurité : y activer {wanted} ; rien n'est envoyé tant que ce n'est pas fait.",
        "The PLC offers no security at all: enable {wanted} in it; nothing is sent before.",
    ),
    "policy": Refusal(
        "BadSecurityPolicyRejected",
        "the server offers {offered}, not {wanted}",
        "L'automate n'offre pas {wanted} mais {offered} : l'activer dans l'automate, ou changer security.policy en connaissance de cause.",
        "The PLC does not offer {wanted} but {offered}: enable it in the PLC, or knowingly change security.policy.",
    ),
    "mode": Refusal(
        "BadSecurityModeRejected",
        "the server offers {offered}, not {wanted}",
        "L'automate n'offre pas {wanted} mais {offered} : l'activer dans l'automate, ou changer security.mode en connaissance de cause.",
        "The PLC does not offer {wanted} but {offered}: enable it in the PLC, or knowingly change security.mode.",
    ),
    "clear_password": Refusal(
        "BadIdentityTokenRejected",
        "the server takes the password of {user} unencrypted only",
        "L'automate ne prend le mot de passe qu'en clair, il n'a pas été envoyé : activer le chiffrement dans l'automate, "
        "ou écrire clear_text: true sous user en connaissance de cause.",
        "The PLC takes the password in clear only, it was not sent: enable encryption in the PLC, "
        "or knowingly write clear_text: true under user.",
    ),
    "no_user": Refusal(
        "BadIdentityTokenRejected",
        "the server takes no user of this kind ({kind})",
        "L'automate n'accepte pas ce genre d'utilisateur ({kind}) : l'activer dans l'automate, ou corriger user.",
        "The PLC takes no user of this kind ({kind}): enable it in the PLC, or correct user.",
    ),
}  # fmt: skip


def refused(name: str, peer: str, **known: str) -> PeerRefusedError:
    """The refusal `name` of the table about `peer`. Raises KeyError where `known` lacks something."""
    refusal = REFUSALS[name]
    error = PeerRefusedError(
        f"{peer} refused, {refusal.reason}: {refusal.says.format_map(known)}",
        reason=refusal.reason,
        remedy_fr=refusal.remedy_fr.format_map(known),
        remedy_en=refusal.remedy_en.format_map(known),
    )
    error.retry_after_s = RETRY_S
    return error


def not_let_in(peer: str, detail: str) -> LinkError:
    """The server does not open a channel: as a rule it does not trust this gateway's certificate yet."""
    return LinkError(
        f"{peer} opens no secure channel: {detail}",
        remedy_fr="L'automate n'accepte pas la passerelle : lineside pki show own donne son certificat, à accepter dans l'automate.",
        remedy_en="The PLC does not accept the gateway: lineside pki show own gives its certificate, trust it in the PLC.",
    )


def unusable_pki(detail: str) -> LinkError:
    """The gateway's own certificate can neither be read nor made, or those of others not be read."""
    return LinkError(
        f"the certificates of this gateway: {detail}",
        remedy_fr="Les certificats de la passerelle ne peuvent être lus ou écrits : donner le dossier pki au compte du service.",
        remedy_en="The gateway's certificates cannot be read or written: give the folder pki to the service's account.",
    )


def unreadable_crl(path: str, detail: str) -> LinkError:
    """A list of revoked certificates that says nothing might hide the one that matters."""
    return LinkError(
        f"the list of revoked certificates {path} cannot be used: {detail}",
        remedy_fr=f"La liste de révocation {path} est inutilisable : la remplacer, ou la retirer.",
        remedy_en=f"The list of revoked certificates {path} cannot be used: replace it, or remove it.",
    )


def unreadable_file(peer: str, what: str, path: str, detail: str) -> LinkError:
    """A certificate or key that the configuration names."""
    return LinkError(
        f"{peer}: {what} {path}: {detail}",
        remedy_fr=f"Le fichier {path} ({what}) est illisible : vérifier son nom, ses droits et son contenu.",
        remedy_en=f"The file {path} ({what}) cannot be used: check its name, its rights and its content.",
    )
