"""What the gateway says in words: one table of sentences, each with what to do and a line for the expert.

A placeholder takes text, a `Text` (one word per language), a number, a `timedelta` (written as a duration) or a time.
`{age}` is left standing where it is not given: it is filled in when somebody reads the alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.domain.events import Text
from gateway.status.formats import LANGUAGES, Formats


@dataclass(frozen=True)
class Sentence:
    """`text` what and since when, `remedy` what to do, `expert` untranslated; no jargon, no blame."""

    text: Text
    remedy: Text
    expert: str


SENTENCES: Mapping[str, Sentence] = {
    "machine_stopped": Sentence(
        Text("{unit} arrêtée depuis {age} : {reason}.", "{unit} stopped for {age}: {reason}."),
        Text("{instruction}", "{instruction}"),
        "state={state} fault={fault} since={since}",
    ),
    "link_lost": Sentence(
        Text("{unit} non vue depuis {age}.", "{unit} not seen for {age}."),
        Text("Vérifier automate et câble.", "Check PLC and cable."),
        "{error} {peer} try {attempt}",
    ),
    "link_silent": Sentence(
        Text(
            "{unit} répond mais n’envoie rien depuis {age} ; reconnexion en cours.",
            "{unit} answers but has sent nothing for {age}; reconnecting.",
        ),
        Text("Rien à faire, sauf si cela dure : vérifier automate et câble.", "Nothing to do unless it lasts: check PLC and cable."),
        "{error} {peer} try {attempt}",
    ),
    "state_unknown": Sentence(
        Text("{unit} : état inconnu depuis {age}.", "{unit}: state unknown for {age}."),
        Text("Vérifier le signal d’état de la machine.", "Check the machine's state signal."),
        "state=unknown since={since}",
    ),
    "tag_unknown": Sentence(
        Text("{unit} : {tag} inconnue.", "{unit}: {tag} unknown."),
        Text("Vérifier le capteur.", "Check the sensor."),
        "{detail}",
    ),
    "certificate_own": Sentence(
        Text("Le certificat de la passerelle finit le {end}.", "The gateway's certificate ends on {end}."),
        Text("lineside pki renew, puis l’accepter dans les automates.", "lineside pki renew, then trust it in the PLCs."),
        "own certificate, {days} days left",
    ),
    "certificate_server": Sentence(
        Text("Le certificat de l’automate de {unit} finit le {end}.", "The certificate of {unit}'s PLC ends on {end}."),
        Text("Le renouveler dans l’automate, puis lineside pki trust.", "Renew it in the PLC, then lineside pki trust."),
        "server certificate, {days} days left",
    ),
    "certificate_user": Sentence(
        Text("Le certificat d’utilisateur pour {unit} finit le {end}.", "The user certificate for {unit} ends on {end}."),
        Text("Prévenir l’informatique : remplacer user.certificate.", "Tell IT: replace user.certificate."),
        "user certificate, {days} days left",
    ),
    "link_back": Sentence(
        Text("Lien revenu, {count} pièces rattrapées.", "Link back, {count} pieces recovered."),
        Text("Rien à faire.", "Nothing to do."),
        "counter.gap {gap_s} s",
    ),
    "counter_reset": Sentence(
        Text("{unit} : compteur {tag} remis à zéro.", "{unit}: counter {tag} reset."),
        Text("Le signaler si imprévu.", "Report it if unplanned."),
        "{previous}→{value}",
    ),
    "counter_glitch": Sentence(
        Text("{unit} : +{count} pièces en {gap}, non comptées.", "{unit}: +{count} pieces in {gap}, not counted."),
        Text("Contrôler le compteur.", "Check the counter."),
        "glitch {tag} {previous}→{value}",
    ),
    "without_order": Sentence(
        Text("{unit} : {count} pièces sans OF.", "{unit}: {count} pieces without an order."),
        Text("Démarrer l’OF au MES.", "Start it in the MES."),
        "job=null",
    ),
    "order_waits": Sentence(
        Text("{job} attend la fin d’{running}.", "{job} waits for {running} to end."),
        Text("Rien à faire.", "Nothing to do."),
        "AllowedToStart",
    ),
    "order_at_risk": Sentence(
        Text("{job} : risque de {delay} de retard.", "{job} may be {delay} late."),
        Text("Prévenir le chef d’équipe.", "Tell the team leader."),
        "at_risk safe={safe} {basis}",
    ),
    "order_late": Sentence(
        Text("{job} : {delay} de retard prévu.", "{job} will be {delay} late."),
        Text("Prévenir le chef d’équipe.", "Tell the team leader."),
        "late likely={likely} safe={safe} {basis}",
    ),
    "uplink_silent": Sentence(
        Text("{uplink} muet depuis {age}, rien n’est perdu.", "{uplink} silent for {age}, nothing lost."),
        Text("Rien à faire sur la ligne.", "Nothing to do here."),
        "{error} {peer} try {attempt}",
    ),
    "uplink_silent_unsaved": Sentence(
        Text("{uplink} muet depuis {age}.", "{uplink} silent for {age}."),
        Text("Prévenir l’informatique.", "Tell IT."),
        "{error} {peer} try {attempt}",
    ),
    "rows_parked": Sentence(
        Text("{uplink} refuse {count} compte(s) rendu(s).", "{uplink} refuses {count} report(s)."),
        Text("Appeler le support de {uplink}.", "Call {uplink} support."),
        "each event row.parked names its row and the reason; lineside outbox list, requeue, drop",
    ),
    "consumer_mute": Sentence(
        Text("{uplink} ne confirme plus depuis {age} ; tout est gardé.", "{uplink} has confirmed nothing for {age}; all kept."),
        Text("Prévenir l’informatique.", "Tell IT."),
        "{detail}",
    ),
    "journal_filling": Sentence(
        Text("Journal plein à {share} %, reste {left}.", "Journal {share}% full, {left} left."),
        Text("Rétablir l’envoi.", "Restore sending."),
        "watermark {mark}",
    ),
    "disk_low": Sentence(
        Text("Le disque est presque plein, tout est encore enregistré.", "The disk is nearly full, everything is still recorded."),
        Text("Prévenir l’informatique.", "Tell IT."),
        "disk=low",
    ),
    "disk_blocked": Sentence(
        Text("Disque bloqué depuis {age}, plus rien n’est enregistré.", "Disk locked for {age}, nothing is recorded."),
        Text("Appeler l’informatique.", "Call IT."),
        "disk={disk} {error}",
    ),
    "telemetry_dropped": Sentence(
        Text(
            "{uplink} : des mesures brutes abandonnées faute de place, comptes et OF sont entiers.",
            "{uplink}: raw values dropped for lack of room, counts and orders are complete.",
        ),
        Text("Rien à faire sur la ligne.", "Nothing to do here."),
        "telemetry dropped {count}",
    ),
    "task_stalled": Sentence(
        Text("La passerelle n’avance plus depuis {age} ({task}).", "The gateway has not moved for {age} ({task})."),
        Text("Appeler l’informatique : redémarrer le service lineside.", "Call IT: restart the service lineside."),
        "task {task}",
    ),
    "clock_unset": Sentence(
        Text(
            "L’horloge de ce PC n’est pas à l’heure : les heures des événements sont estimées jusqu’à sa mise à l’heure.",
            "The clock of this PC is not set: the times of events are estimated until it is.",
        ),
        Text(
            "Informatique : donner à ce PC un serveur de temps (NTP) ou une pile d’horloge ; si son heure est juste, l’avancer de 2 s.",
            "IT: give this PC a time server (NTP) or a clock battery; if its time is right, set it 2 s ahead.",
        ),
        "wall clock before the journal's last time",
    ),
    "page_stale": Sentence(
        Text("Page sans nouvelles depuis {age}.", "No news for {age}."),
        Text("Vérifier le PC de ligne.", "Check the line PC."),
        "last beat {at}",
    ),
}  # fmt: skip
"""The words of the page; `{age}` keeps moving while an alert stands."""

FAULT_SHEET = Text("Voir la fiche du défaut.", "See the fault's sheet.")
"""What to do about a machine's own fault is the site's text; without one we only point to it."""


class _Standing(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def _written(value: Any, formats: Formats) -> str:
    if isinstance(value, Text):
        return value.fr if formats.french else value.en
    if isinstance(value, timedelta):
        return formats.lasted(value.total_seconds())
    if isinstance(value, datetime):
        return formats.clock(value)
    if isinstance(value, int | float | Decimal):
        return formats.quantity(value)
    return "–" if value is None else str(value)


def fill(template: Text, zone: str, values: Mapping[str, Any]) -> Text:
    """The template in both languages; what `values` does not give stays `{name}`."""
    fr, en = (
        _template(template, language).format_map(
            _Standing({key: _written(value, Formats(language, zone)) for key, value in values.items()})
        )
        for language in LANGUAGES
    )
    return Text(fr, en)


def _template(text: Text, language: str) -> str:
    return text.fr if language == "fr" else text.en


@dataclass(frozen=True)
class Said:
    """A filled sentence."""

    text: Text
    remedy: Text
    detail: str


def say(name: str, zone: str, values: Mapping[str, Any]) -> Said:
    """The sentence `name` of the table with `values`; times in `zone`. Raises KeyError for an unknown name."""
    sentence = SENTENCES[name]
    english = Formats("en", zone)
    plain = _Standing(
        {key: str(value) if isinstance(value, int | float | Decimal) else _expert(value, english) for key, value in values.items()}
    )
    return Said(fill(sentence.text, zone, values), fill(sentence.remedy, zone, values), sentence.expert.format_map(plain).strip())


def _expert(value: Any, formats: Formats) -> str:
    return formats.iso(value) if isinstance(value, datetime) else _written(value, formats) if value is not None else "null"


def aged(text: Text, since: datetime, now: datetime, zone: str) -> Text:
    """`text` with its `{age}` filled in; braces of other origin are left alone."""
    lasted = max((now - since).total_seconds(), 0.0)
    return Text(
        text.fr.replace("{age}", Formats("fr", zone).lasted(lasted)),
        text.en.replace("{age}", Formats("en", zone).lasted(lasted)),
    )
