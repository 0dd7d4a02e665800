"""The ways a device's link fails, each with what a technician should check, in both languages."""

from __future__ import annotations

from drivers.base import LinkError, ReplyError, SilentLinkError


def unreachable(peer: str, detail: str) -> LinkError:
    """Nobody at that address: switched off, unplugged, wrong address or port."""
    return LinkError(
        f"no connection to {peer}: {detail}",
        remedy_fr=f"Vérifier que l'automate est sous tension, le câble réseau, l'adresse et le port ({peer}).",
        remedy_en=f"Check that the PLC is powered, the network cable, the address and the port ({peer}).",
    )


def unanswered(peer: str, detail: str) -> LinkError:
    """Connected, but a request stayed without an answer."""
    return SilentLinkError(
        f"{peer} does not answer: {detail}",
        remedy_fr="L'automate ne répond plus ; reconnexion en cours. Si cela dure, vérifier automate et câble.",
        remedy_en="The PLC no longer answers; reconnecting. If it lasts, check PLC and cable.",
    )


def mute_unit(peer: str, detail: str) -> LinkError:
    """Connected to a Modbus line, but the unit stayed without an answer."""
    return SilentLinkError(
        f"{peer} does not answer: {detail}",
        remedy_fr="L'appareil ne répond pas ; reconnexion en cours. Si cela dure, vérifier `unit_id`, `timeout`, l'appareil et son câble.",
        remedy_en="The device does not answer; reconnecting. If it lasts, check `unit_id`, `timeout`, the device and its cable.",
    )


def silent(peer: str, age_s: float) -> LinkError:
    """Connected, but the device has sent nothing for too long."""
    return SilentLinkError(
        f"{peer} is connected but sent nothing for {age_s:.1f} s",
        remedy_fr="L'automate répond mais n'envoie rien ; reconnexion en cours. Si cela dure, le redémarrer.",
        remedy_en="The PLC answers but sends nothing; reconnecting. If it lasts, restart it.",
    )


def dropped(peer: str, detail: str) -> LinkError:
    """The other side, or the network, ended an open connection."""
    return LinkError(
        f"{peer} closed the connection: {detail}",
        remedy_fr="L'automate a coupé la liaison ; reconnexion en cours. Si cela dure, vérifier automate et câble.",
        remedy_en="The PLC closed the connection; reconnecting. If it lasts, check PLC and cable.",
    )


def untrustworthy(peer: str, detail: str) -> LinkError:
    """A reply that does not fit its request: nothing of it is used."""
    return ReplyError(
        f"{peer} sent a reply that cannot be trusted: {detail}",
        remedy_fr="L'automate envoie des réponses incohérentes : vérifier qu'il n'y a qu'un maître, et la passerelle série.",
        remedy_en="The PLC sends inconsistent replies: check that there is only one master, and the serial gateway.",
    )


def no_agent(peer: str, detail: str) -> LinkError:
    """Something answers at an MTConnect agent's address, and not as an agent."""
    return ReplyError(
        f"{peer} sent a reply that cannot be trusted: {detail}",
        remedy_fr="Ce qui répond n'est pas un agent MTConnect, ou envoie trop : vérifier `url`, et nommer la machine avec `device`.",
        remedy_en="What answers is no MTConnect agent, or sends too much: check `url`, and name the machine with `device`.",
    )


def garbled(peer: str, detail: str) -> LinkError:
    """A serial line on which something comes, but no frame."""
    return ReplyError(
        f"{peer} sends nothing readable: {detail}",
        remedy_fr="La ligne série est brouillée : vérifier vitesse, parité, câblage (A/B, terminaison) et qu'il n'y a qu'un maître.",
        remedy_en="The serial line is garbled: check baud rate, parity, wiring (A/B, termination) and that there is only one master.",
    )


def not_admitted(peer: str, detail: str) -> LinkError:
    """The server refuses user, certificate or security policy."""
    return LinkError(
        f"{peer} refuses the session: {detail}",
        remedy_fr="L'automate refuse la connexion : vérifier utilisateur, mot de passe et certificats (accepter celui de la passerelle).",
        remedy_en="The PLC refuses the connection: check user, password and certificates (trust the gateway's own).",
    )


def user_refused(peer: str, detail: str) -> LinkError:
    """The channel stands, both certificates are believed: it is the user that the server does not let in."""
    return LinkError(
        f"{peer} refuses the session: {detail}",
        remedy_fr="L'automate refuse l'utilisateur : vérifier `user` (nom, mot de passe ou certificat) et ses droits dans l'automate.",
        remedy_en="The PLC refuses the user: check `user` (name, password or certificate) and its rights in the PLC.",
    )


def too_many_sessions(peer: str, detail: str) -> LinkError:
    """The server has no session left."""
    return LinkError(
        f"{peer} has no free session: {detail}",
        remedy_fr="L'automate n'a plus de session libre : fermer les autres clients OPC UA, ou attendre une minute.",
        remedy_en="The PLC has no free session: close other OPC UA clients, or wait a minute.",
    )


def misconfigured(peer: str, detail: str, *, fr: str, en: str) -> LinkError:
    """This side lacks something to open the link; it is tried again, since a technician may put it in place meanwhile."""
    return LinkError(f"{peer}: {detail}", remedy_fr=fr, remedy_en=en)


_REFUSALS: tuple[tuple[str, str, str], ...] = (
    (
        "BadNodeIdUnknown: the server has no namespace",
        "Vérifier l'URI de l'espace de noms dans la configuration ; le programme de l'automate est-il chargé ?",
        "Check the namespace URI in the configuration; is the PLC's program loaded?",
    ),
    (
        "BadNodeId",
        "Vérifier le nœud dans la configuration (`lineside browse`) et que le programme de l'automate est chargé.",
        "Check the node in the configuration (`lineside browse`) and that the PLC's program is loaded.",
    ),
    (
        "BadUserAccessDenied",
        "Donner à l'utilisateur de la passerelle le droit de lire cette variable dans l'automate.",
        "Give the gateway's user the right to read this variable in the PLC.",
    ),
    (
        "BadNotReadable",
        "Rendre la variable lisible par OPC UA dans le programme de l'automate.",
        "Make the variable readable over OPC UA in the PLC's program.",
    ),
    (
        "BadIndexRange",
        "Corriger `index` du tag : il commence à 0 et reste sous la taille du tableau.",
        "Correct the tag's `index`: it starts at 0 and stays below the array's size.",
    ),
    (
        "BadNoMatch",
        "Corriger `member` du tag ; le détail nomme les champs que la structure possède.",
        "Correct the tag's `member`; the detail names the fields that the structure has.",
    ),
    (
        "BadTypeMismatch",
        "Corriger `type`, `index` ou `member` du tag d'après ce que l'automate envoie (voir le détail).",
        "Correct the tag's `type`, `index` or `member` to what the PLC sends (see the detail).",
    ),
    (
        "IllegalFunction",
        "Lire le tag dans une autre table (holding, input, coil, discrete) : l'appareil ne connaît pas celle-ci.",
        "Read the tag from another table (holding, input, coil, discrete): the device does not know this one.",
    ),
    (
        "Gateway",
        "Vérifier `unit_id`, et l'alimentation et le câblage de l'appareil derrière la passerelle.",
        "Check `unit_id`, and power and wiring of the device behind the gateway.",
    ),
    (
        "ServerDeviceBusy",
        "L'appareil est occupé : allonger `interval`, ou mettre une `pause` entre les requêtes.",
        "The device is busy: lengthen `interval`, or set a `pause` between requests.",
    ),
)
_ANY_REFUSAL = ("Vérifier l'adresse du tag dans la configuration.", "Check the tag's address in the configuration.")


def refusal(detail: str) -> tuple[str, str]:
    """What to do about a tag that a device refuses with `detail`: (French, English)."""
    return next(((fr, en) for start, fr, en in _REFUSALS if detail.startswith(start)), _ANY_REFUSAL)
