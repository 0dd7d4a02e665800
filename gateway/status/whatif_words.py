"""Words of the what-if page, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.status.formats import unbroken

_WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("Et si…", "What if…"),
    "present": ("La file telle qu’elle est", "The queue as it stands"),
    "first": ("Et si {job} passait en premier ?", "What if {job} went first?"),
    "priority": ("Et si {job} avait la priorité {n} ?", "What if {job} had priority {n}?"),
    "calendar": ("Avec un autre calendrier", "With another calendar"),
    "only_asked": (
        "Rien n’est changé : c’est une question. Pour changer l’ordre, donner une autre priorité dans l’ERP ou le MES.",
        "Nothing is changed: this is a question. To change the order, give another priority in the ERP or the MES.",
    ),
    "back": ("Retour aux OF", "Back to the orders"),
    "job": ("OF", "Order"),
    "due": ("Dû", "Due"),
    "now": ("Actuellement", "As it stands"),
    "then": ("Alors", "Then"),
    "running": ("en cours, reste sur la machine", "running, stays on the machine"),
    "ask_first": ("Et s’il passait en premier ?", "What if it went first?"),
    "ask_queue": ("Quel ordre perd le moins ?", "Which order loses least?"),
    "late_by": ("en retard de {time}", "late by {time}"),
    "becomes_late": ("Deviendrait en retard :", "Would become late:"),
    "none_becomes_late": ("Aucun autre OF ne deviendrait en retard.", "No other order would become late."),
    "plans": ("Quel ordre de la file perd le moins", "Which order of the queue loses least"),
    "plan": ("Règle", "Rule"),
    "sequence": ("Ordre", "Order of work"),
    "late_orders": ("OF en retard", "Late orders"),
    "lateness": ("Retard total", "Total lateness"),
    "gain": ("Gain", "Gain"),
    "best": ("le meilleur", "the best"),
    "rule.present": ("Tel quel", "As it stands"),
    "rule.earliest_due_date": ("Date due la plus proche d’abord", "Earliest due date first"),
    "rule.critical_ratio": ("Ratio critique (temps restant / travail restant)", "Critical ratio (time left / work left)"),
    "rule.least_late": ("Recherche exacte", "Exact search"),
    "no_exact": (
        "Pas de recherche exacte : plus de {n} OF en attente, ou un OF sans fin connue.",
        "No exact search: more than {n} orders wait, or one has no known end.",
    ),
}
_BY_LANGUAGE = {
    "fr": MappingProxyType({name: unbroken(french) for name, (french, _) in _WORDS.items()}),
    "en": MappingProxyType({name: english for name, (_, english) in _WORDS.items()}),
}


def whatif_words(language: str) -> Mapping[str, str]:
    """Of `fr` or `en`."""
    return _BY_LANGUAGE["fr" if language == "fr" else "en"]
